"""The door through which reports come in: HL7 v2, FHIR, DICOM SR and encapsulated documents, C-CDA, tables and text.

Every report that cannot be taken becomes a refusal with a reason. All versions of a report come in; which of them
counts is settled in `reports.versions`, for it takes all of them to know.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from reports.admission import admitted, admitted_refusal, stored_name
from reports.attachment import attached_text
from reports.cda import is_cda, read_cda
from reports.fhir import is_fhir, parsed, read_fhir, resources_of
from reports.fhir_links import Known
from reports.hl7 import read_hl7
from reports.hl7_text import stated_encoding
from reports.sourced import ReportError, ReportStatus, SourcedReport, refuse
from reports.structured import is_dicom, read_structured
from reports.table_files import read_csv, read_json_lines, read_parquet
from reports.tables import Columns
from volumes.archive import read_bytes, zip_locations
from volumes.errors import VolumeError
from volumes.instance import Refusal
from volumes.zips import MAX_ZIP_RATIO, ZIP_MARK

__all__ = ["Columns", "Refusal", "ReportStatus", "SourcedReport", "read_reports"]

MAX_FILE_BYTES = 2**30
"""Largest file of reports, unpacked. A larger one is split by the export."""

_HL7_SUFFIXES = frozenset({".hl7", ".er7", ".oru", ".msg"})
_TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
_JSON_SUFFIXES = frozenset({".json", ".ndjson"})
_CDA_SUFFIXES = frozenset({".xml", ".cda", ".ccda"})
_DOCUMENTS = {
    ".txt": "text/plain",
    ".html": "text/html",
    ".htm": "text/html",
    ".rtf": "text/rtf",
    ".pdf": "application/pdf",
}
_KNOWN = _HL7_SUFFIXES | _TABLE_SUFFIXES | _JSON_SUFFIXES | _DOCUMENTS.keys() | {
    ".jsonl", ".parquet", ".dcm", ".cda", ".ccda"
}  # fmt: skip
_PACKED_RATIO_BYTES = 64 * 2**20  # below it a text of blanks may pack as well as a bomb
_HEAD_BYTES = 4096


def read_reports(
    paths: Iterable[Path | str], columns: Columns | None = None, encoding: str = ""
) -> Iterator[SourcedReport | Refusal]:
    """Read every version of every report under `paths`: files, folders and zips, walked in the order of their names.

    Args:
        columns: Names of columns in tables; gaps are filled by the usual names.
        encoding: For texts that do not state theirs; UTF-8 when empty.

    One file is in memory at a time, and of FHIR bulk exports, which keep resources of several types in several files,
    the identifiers of studies, orders and patients.
    """
    columns = columns or Columns()
    places: list[str] = []
    for path in map(str, paths):
        found, refusals = _places(path)
        places += found
        yield from map(admitted_refusal, refusals)
    elsewhere = _bulk(places)
    for place in places:
        for one in _read_place(place, columns, encoding, elsewhere):
            yield admitted(one) if isinstance(one, SourcedReport) else admitted_refusal(one)


def _places(path: str) -> tuple[list[str], list[Refusal]]:
    """Locations to read, and refusals: one per missing path, one per folder and suffix that no reader knows."""
    if path.lower().endswith(".zip") and Path(path).is_file():
        return _sifted(path, *_in_zip(path))
    if Path(path).is_file():
        return [path], []
    if not Path(path).is_dir():
        return [], [refuse(path, "missing", "nothing at this path", "a file or a folder", "Check the path.")]
    refusals: list[Refusal] = []
    files: list[str] = []
    for file in sorted(Path(path).rglob("*")):
        if file.name.startswith(".") or not file.is_file():
            continue
        if file.suffix.lower() == ".zip":
            inner, refused = _in_zip(str(file))
            files += inner
            refusals += refused
        else:
            files.append(str(file))
    return _sifted(path, files, refusals)


def _in_zip(path: str) -> tuple[list[str], list[Refusal]]:
    found = list(zip_locations(Path(path)))
    members = [one for one in found if isinstance(one, str) and not PurePath(one).name.startswith(".")]
    return members, [one for one in found if isinstance(one, Refusal)]


def _sifted(path: str, files: list[str], refusals: list[Refusal]) -> tuple[list[str], list[Refusal]]:
    known = [file for file in files if _is_known(file)]
    taken = set(known)
    strange = Counter((str(PurePath(file).parent), _suffix(file)) for file in files if file not in taken)
    refusals += [
        refuse(folder, "unknown-format", f"{count} file(s) ending in {suffix or 'nothing'!r}",
               f"one of {', '.join(sorted(_KNOWN))}", "Convert them, or ignore this if they are no reports.")
        for (folder, suffix), count in strange.items()
    ]  # fmt: skip
    if not files and not refusals:
        refusals.append(refuse(path, "empty-folder", "no file", "reports", "Check the path."))
    return known, refusals


def _suffix(place: str) -> str:
    """The suffix of a file, that of its content where it is packed (`.csv` of `a.csv.gz`)."""
    name = PurePath(place).name.lower()
    return PurePath(name.removesuffix(".gz")).suffix


def _is_known(place: str) -> bool:
    suffix = _suffix(place)
    if suffix in _KNOWN:
        return True
    head = _head(place)
    if suffix == ".xml":
        return is_cda(head)
    return not suffix and (is_dicom(head) or head.lstrip(b"\x0b").startswith(b"MSH"))


def _head(place: str) -> bytes:
    """The beginning of a file; nothing where it cannot be read, for the reader will say why."""
    try:
        if ZIP_MARK in place:
            return read_bytes(place, MAX_FILE_BYTES)[:_HEAD_BYTES]
        with open(place, "rb") as stream:
            return stream.read(_HEAD_BYTES)
    except (OSError, VolumeError):
        return b""


def _bulk(places: Iterable[str]) -> Known:
    """Studies, orders and patients of the NDJSON files of a bulk export, which the reports of another file refer to."""
    known = Known()
    files = [place for place in places if _suffix(place) == ".ndjson"]
    for place in files if len(files) > 1 else ():
        try:
            for resource in resources_of(_content(place), place):
                known.add_link(resource)
        except (VolumeError, ReportError):
            continue  # said when the file is read for its reports
    return known


def _content(place: str) -> bytes:
    """All bytes of a location, unpacked where it ends in .gz. Raises VolumeError or ReportError."""
    data = read_bytes(place, MAX_FILE_BYTES)
    return _gunzipped(data) if place.lower().endswith(".gz") else data


def _gunzipped(data: bytes) -> bytes:
    """RFC 1952, several members as well; what unpacks to more than the limits is a bomb."""
    most = min(MAX_FILE_BYTES, max(_PACKED_RATIO_BYTES, MAX_ZIP_RATIO * len(data)))
    parts: list[bytes] = []
    held, rest = 0, data
    try:
        while rest:
            inflater = zlib.decompressobj(31)
            part = inflater.decompress(rest, most + 1 - held)
            parts.append(part)
            held += len(part)
            if held > most:
                raise ReportError("gzip-bomb", f"{len(data)} bytes that unpack to more than {most}", f"at most {most}",
                                  "Unpack it yourself if you trust it.")  # fmt: skip
            if not inflater.eof:
                raise ReportError("damaged-gzip", "a stream that ends too early", "a whole gzip file", "Copy it again.")
            rest = inflater.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise ReportError("damaged-gzip", "a damaged stream", "a whole gzip file", "Copy it again.") from error
    return b"".join(parts)


def _read_place(place: str, columns: Columns, encoding: str, elsewhere: Known) -> Iterator[SourcedReport | Refusal]:
    """One file. Whatever goes wrong in it costs a refusal and not the other files."""
    try:
        yield from _read_content(_content(place), place, columns, encoding, elsewhere)
    except VolumeError as error:
        yield Refusal(place, error.reason, str(error))
    except ReportError as error:
        yield error.refusal(place)
    except RecursionError:
        yield refuse(place, "too-deep", "parts nested too deeply to be read", "a report", "Export it again.")
    except Exception as error:  # one file of a million must not end an ingest that has run for a day
        yield refuse(place, "reader-error", f"what its reader did not expect ({type(error).__name__})", "a report",
                     "Report this with the file, if it may be shown.")  # fmt: skip


def _read_content(
    data: bytes, place: str, columns: Columns, encoding: str, elsewhere: Known
) -> Iterator[SourcedReport | Refusal]:
    suffix = _suffix(place)
    if is_dicom(data):
        yield from read_structured(data, place)
    elif suffix in _HL7_SUFFIXES or _is_message(data):
        yield from read_hl7(data, place, encoding)
    elif suffix in _TABLE_SUFFIXES:
        yield from read_csv(data, place, columns, encoding)
    elif suffix == ".parquet":
        yield from read_parquet(data, place, columns)
    elif suffix == ".jsonl":
        yield from read_json_lines(data, place, columns)
    elif suffix in _JSON_SUFFIXES:
        yield from _read_json(data, place, columns, elsewhere)
    elif suffix in _CDA_SUFFIXES:
        yield from read_cda(data, place)
    elif suffix in _DOCUMENTS:
        yield _read_document(data, place, encoding, _DOCUMENTS[suffix])
    elif suffix == ".dcm":
        yield from read_structured(data, place)  # says what is wrong with it
    else:
        yield refuse(place, "unknown-format", f"a file ending in {suffix or 'nothing'!r} that no reader knows",
                     f"one of {', '.join(sorted(_KNOWN))}", "Convert the file.")  # fmt: skip


def _is_message(data: bytes) -> bool:
    head = data[:_HEAD_BYTES].lstrip(b"\x0b\r\n")
    return re.match(rb"(MSH|[FB]HS)[^A-Za-z0-9\s]", head) is not None


def _read_json(data: bytes, place: str, columns: Columns, elsewhere: Known) -> Iterator[SourcedReport | Refusal]:
    """A JSON list of objects that are no FHIR resources is a table."""
    if data[:_HEAD_BYTES].lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
        try:
            document = parsed(data.decode("utf-8-sig"))
        except (UnicodeDecodeError, ReportError):
            document = None  # the FHIR reader says what is wrong
        if isinstance(document, list) and not is_fhir(document):
            yield from read_json_lines(data, place, columns)
            return
    yield from read_fhir(data, place, elsewhere)


def _read_document(data: bytes, place: str, encoding: str, kind: str) -> SourcedReport | Refusal:
    """A document is named after its accession number or its study UID, which is all that joins it to a study."""
    name = PurePath(place).name
    name = name[: -len(".gz")] if name.lower().endswith(".gz") else name
    stem = stored_name(PurePath(name).stem)
    try:
        text = attached_text(data, kind, stated_encoding(data) or encoding or "utf-8-sig")
    except ReportError as error:
        return error.refusal(place)
    if not text:
        return refuse(place, "empty-report", "an empty file", "a report", "Export it again.")
    if re.fullmatch(r"[0-2](\.\d+){3,}", stem):
        return SourcedReport(text, study_uid=stem, source=place)
    return SourcedReport(text, accession=stem, source=place)
