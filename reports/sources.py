"""The door through which reports come in: HL7 v2, FHIR, DICOM SR, CSV, JSON Lines and plain text.

Every report that cannot be taken becomes a refusal with a reason. Of several versions of one report the latest
corrected one is taken, and the others become refusals that say so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reports.fhir import is_fhir, read_fhir
from reports.hl7 import read_hl7
from reports.sourced import ReportStatus, SourcedReport, refuse, tidy
from reports.structured import is_dicom, read_structured
from reports.tables import Columns, read_csv, read_json_lines
from volumes.archive import read_bytes
from volumes.errors import VolumeError
from volumes.instance import Refusal

__all__ = ["Columns", "Refusal", "ReportStatus", "SourcedReport", "read_reports"]

_HL7_SUFFIXES = frozenset({".hl7", ".er7", ".oru", ".msg"})
_TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
_KNOWN = _HL7_SUFFIXES | _TABLE_SUFFIXES | {".json", ".jsonl", ".ndjson", ".txt", ".dcm"}
_RANK: dict[ReportStatus, int] = {"preliminary": 0, "final": 1, "corrected": 2, "cancelled": -1}


def read_reports(
    paths: Iterable[Path | str], columns: Columns | None = None, encoding: str = ""
) -> Iterator[SourcedReport | Refusal]:
    """Read every report under `paths` (files or folders, walked in the order of their names).

    Args:
        columns: Names of columns in tables; gaps are filled by the usual names.
        encoding: For texts that do not state theirs; UTF-8 when empty.

    Messages (HL7, FHIR, SR) are read twice, so that only the keys of their reports are held in memory, not the texts.
    """
    columns = columns or Columns()
    files: list[Path] = []
    for path in map(Path, paths):
        found, refusals = _files(path)
        files += found
        yield from refusals
    yield from _messages([file for file in files if _is_message(file)], columns, encoding)
    for file in files:
        if not _is_message(file):
            yield from _read_file(file, columns, encoding)


def _files(path: Path) -> tuple[list[Path], list[Refusal]]:
    """Files to read, and refusals: one per missing path, one per folder and suffix that no reader knows."""
    if path.is_file():
        return [path], []
    if not path.is_dir():
        return [], [refuse(str(path), "missing", "nothing at this path", "a file or a folder", "Check the path.")]
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    known = [file for file in files if file.suffix.lower() in _KNOWN or (not file.suffix and _starts_known(file))]
    taken = set(known)
    strange = Counter((file.parent, file.suffix.lower()) for file in files if file not in taken)
    refusals = [
        refuse(str(folder), "unknown-format", f"{count} file(s) ending in {suffix or 'nothing'!r}",
               f"one of {', '.join(sorted(_KNOWN))}", "Convert them, or ignore this if they are no reports.")
        for (folder, suffix), count in strange.items()
    ]  # fmt: skip
    if not files:
        refusals.append(refuse(str(path), "empty-folder", "no file", "reports", "Check the path."))
    return known, refusals


def _starts_known(file: Path) -> bool:
    head = _head(file)
    return is_dicom(head) or head.lstrip(b"\x0b").startswith(b"MSH")


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(4096)
    except OSError:
        return b""  # the reader will say why


def _is_message(file: Path) -> bool:
    suffix = file.suffix.lower()
    if suffix in _HL7_SUFFIXES or suffix == ".dcm" or (not suffix and _starts_known(file)):
        return True
    if suffix in {".json", ".ndjson"}:
        return b'"resourceType"' in _head(file) or suffix == ".ndjson"
    return suffix == ".txt" and _head(file).lstrip(b"\x0b").startswith(b"MSH|")


def _read_file(file: Path, columns: Columns, encoding: str) -> Iterator[SourcedReport | Refusal]:
    source, suffix = str(file), file.suffix.lower()
    try:
        data = read_bytes(file)
    except VolumeError as error:
        yield Refusal(source, error.reason, str(error))
        return
    if is_dicom(data):
        yield from read_structured(data, source)
    elif suffix in _HL7_SUFFIXES or data.lstrip(b"\x0b\r\n").startswith(b"MSH|"):
        yield from read_hl7(data, source, encoding)
    elif suffix in _TABLE_SUFFIXES:
        yield from read_csv(data, source, columns, encoding)
    elif suffix == ".jsonl":
        yield from read_json_lines(data, source, columns)
    elif suffix in {".json", ".ndjson"}:
        yield from _read_json(data, source, columns)
    elif suffix == ".txt":
        yield _read_text(data, file, encoding)
    else:
        yield refuse(source, "unknown-format", f"a file ending in {suffix or 'nothing'!r} that no reader knows",
                     f"one of {', '.join(sorted(_KNOWN))}", "Convert the file.")  # fmt: skip


def _read_json(data: bytes, source: str, columns: Columns) -> Iterator[SourcedReport | Refusal]:
    try:
        document = json.loads(data)
    except ValueError:
        document = None  # NDJSON, or damaged: the FHIR reader says which
    if isinstance(document, list) and not is_fhir(document):
        yield from read_json_lines(data, source, columns)
    else:
        yield from read_fhir(data, source)


def _read_text(data: bytes, file: Path, encoding: str) -> SourcedReport | Refusal:
    """A plain text is named after its accession number, which is all that joins it to a study."""
    try:
        text = tidy(data.decode(encoding or "utf-8-sig"))
    except (UnicodeDecodeError, LookupError) as error:
        found = f"bytes that are not {encoding or 'utf-8'} ({error})"
        advice = "State the encoding, for example encoding='latin-1'."
        return refuse(str(file), "undecodable-text", found, "text in it", advice)
    if not text:
        return refuse(str(file), "empty-report", "an empty file", "a report", "Export it again.")
    return SourcedReport(text, accession=file.stem, source=str(file))


@dataclass(frozen=True)
class _Version:
    """One version of a report among those that share its key: where it stands, and what decides between them."""

    place: tuple[int, int]
    status: ReportStatus
    issued: str
    digest: int


def _messages(files: list[Path], columns: Columns, encoding: str) -> Iterator[SourcedReport | Refusal]:
    versions: dict[str, list[_Version]] = {}
    for place, report in _numbered(files, columns, encoding):
        if isinstance(report, SourcedReport) and report.key:
            version = _Version(place, report.status, report.issued, hash(report.text))
            versions.setdefault(report.key, []).append(version)
    chosen = {key: _choose(group) for key, group in versions.items()}
    for place, report in _numbered(files, columns, encoding):
        if isinstance(report, Refusal):
            yield report
            continue
        best = chosen.get(report.key)
        if best is None or place != best.place:
            yield _superseded(report, best)
        else:
            yield report


def _numbered(
    files: list[Path], columns: Columns, encoding: str
) -> Iterator[tuple[tuple[int, int], SourcedReport | Refusal]]:
    for i, file in enumerate(files):
        for j, report in enumerate(_read_file(file, columns, encoding)):
            yield (i, j), report


def _choose(versions: list[_Version]) -> _Version | None:
    """The version that counts: corrected before final before preliminary, then the latest; None if withdrawn."""
    live = [version for version in versions if version.status != "cancelled"]
    if not live:
        return None
    best = max(live, key=lambda version: (_RANK[version.status], version.issued))  # the first of equals
    withdrawn = [version for version in versions if version.status == "cancelled"]
    if any(not best.issued or not w.issued or w.issued >= best.issued for w in withdrawn):
        return None
    return best


def _superseded(report: SourcedReport, best: _Version | None) -> Refusal:
    what = f"report {report.key}, {report.status}" + (f", of {report.issued}" if report.issued else "")
    if best is None:
        return Refusal(report.source, "withdrawn", f"{what}: the report was cancelled; no version of it is used")
    by = f"{best.status} version" + (f" of {best.issued}" if best.issued else "")
    if (best.status, best.issued) != (report.status, report.issued):
        return Refusal(report.source, "superseded", f"{what}: replaced by the {by}")
    if best.digest == hash(report.text):
        return Refusal(report.source, "duplicate-report", f"{what}: the same text was read before")
    return Refusal(
        report.source,
        "conflicting-report",
        f"{what}: another text with the same status and time was read before and is used. Decide which one is right,"
        " and remove the other or mark it as corrected.",
    )
