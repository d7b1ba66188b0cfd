"""`medvlm deidentify --reports`: tables and messages of reports as files without the people in them.

A CSV or TSV table stays a table: its columns of text are cleaned, its identifiers become pseudonyms, columns of short
numbers (labels) stay, all others are left out and named. Everything else that holds reports (HL7, FHIR, SR, CDA, JSON
Lines, text) becomes lines of OUT/reports.jsonl, which `medvlm ingest --reports` reads. OUT/reports_audit.json sums up.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medvlm.report_cleaning import ReportCleaner, Subjects, known_words
from reports.deidentify import TextDeidentifier
from reports.deidentify_surrogates import Style
from reports.sourced import SourcedReport
from reports.sources import read_reports
from reports.tables import MAX_CELL, Columns, detect_columns
from volumes.archive import read_bytes
from volumes.deidentify_keys import Pseudonyms, read_key, shift_date
from volumes.errors import VolumeError
from volumes.instance import Refusal

AUDIT, LINES = "reports_audit.json", "reports.jsonl"
_TABLES = (".csv", ".tsv")
_SHORT = re.compile(r"\s*[+-]?\d{0,3}(?:\.\d{1,4})?\s*|true|false|yes|no|nan|none", re.IGNORECASE)
_FORMULA = ("=", "+", "@", "\t", "\r")  # a cell that starts so is run by spreadsheets; reports do start with "-"


@dataclass(frozen=True)
class ReportAudit:
    """What was done, without a value of any original."""

    written: dict[str, int]
    refused: dict[str, int]
    replaced: dict[str, int]
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "written": self.written,
            "refused": self.refused,
            "replaced": self.replaced,
            "columns left out": list(self.left_out),
        }

    def text(self) -> str:
        """For people."""
        lines = [f"{count:8d} reports in {name}" for name, count in self.written.items()]
        lines += [f"{count:8d} refused: {reason}" for reason, count in self.refused.items()]
        lines += [f"{count:8d} replaced: {kind}" for kind, count in self.replaced.items()]
        if self.left_out:
            lines.append(f"columns left out: {', '.join(self.left_out)}")
        return "\n".join(lines) or "no reports"


def deidentify_reports(
    reports: Sequence[Path],
    out: Path,
    *,
    key: Path,
    archives: Sequence[Path] = (),
    column: Sequence[str] = (),
    dates: Literal["shift", "keep", "remove"] = "shift",
    style: Style = "surrogates",
) -> ReportAudit:
    """Write cleaned copies of reports into `out`.

    Args:
        reports: Folders or files of HL7 v2, FHIR, DICOM SR, C-CDA, CSV, JSON Lines or text.
        out: Folder to write.
        key: File with the secret that also cleans the images; made when absent.
        archives: The images of the reports: their headers say who each report is about. Without them a message is
            cleaned by its own identifiers, and its dates move by another shift than those of its images.
        column: Columns of text in CSV tables; usual names are found by themselves.
        dates: Move dates with the images, keep them, or remove them.
        style: Made-up values, or tags such as [NAME].

    Raises: VolumeError ("bad-key", "undecodable-text", "damaged-table", "no-text-column") when nothing can be done.
    """
    cleaner = ReportCleaner(
        TextDeidentifier(Pseudonyms(read_key(key)), dates, style), Subjects.of(archives), need_study=bool(archives)
    )
    out.mkdir(parents=True, exist_ok=True)
    tables = [path for path in reports if path.suffix.lower() in _TABLES and path.is_file()]
    written: dict[str, int] = {}
    refused: dict[str, int] = {}
    left_out: list[str] = []
    for table in tables:
        name = f"{cleaner.place(table)}{table.suffix.lower()}"
        written[name], dropped = _clean_table(table, out / name, cleaner, column, refused)
        left_out += dropped
    others = [path for path in reports if path not in tables]
    if others:
        lines = _lines(cleaner.all(read_reports(others)), refused, written)
        _write(out / LINES, "".join(lines))
    kinds = {k: n for k, n in cleaner.counts.most_common() if k not in ("reports", "refused")}
    audit = ReportAudit(written, refused, kinds, tuple(dict.fromkeys(left_out)))
    _write(out / AUDIT, json.dumps(audit.to_dict(), indent=2) + "\n")
    return audit


def check_key(key: Path | None) -> None:
    """Raises: VolumeError ("no-key") without a key: images and reports would get pseudonyms that do not agree."""
    if key is None:
        raise VolumeError(
            "--reports needs --key FILE, the secret that pseudonyms come from (made when absent): without it reports"
            " and images would get different ones",
            "no-key",
        )


def _lines(found: Iterator[SourcedReport | Refusal], refused: dict[str, int], written: dict[str, int]) -> Iterator[str]:
    for one in found:
        if isinstance(one, Refusal):
            refused[one.reason] = refused.get(one.reason, 0) + (one.kind == "refusal")
            continue
        written[LINES] = written.get(LINES, 0) + 1
        line = {
            "report": one.text, "accession": one.accession, "study_uid": one.study_uid,
            "patient": one.patient_key or "", "status": one.status, "modality": one.modality,
            "performed": one.performed, "issued": one.issued,
        }  # fmt: skip
        yield json.dumps(line, ensure_ascii=False) + "\n"


def _clean_table(
    path: Path, out: Path, cleaner: ReportCleaner, text: Sequence[str], refused: dict[str, int]
) -> tuple[int, list[str]]:
    """Write one table; returns how many rows it has, and which columns were left out."""
    rows = list(_rows(path))
    header = list(rows[0]) if rows else []
    try:
        columns = detect_columns(header, Columns(text=tuple(text)))
    except ValueError as error:
        raise VolumeError(f"{path.name}: {error}. Name the columns of text with --column", "no-text-column") from error
    named = columns.named()
    short = [c for c in header if c not in (*columns.text, *named.values()) and all(_is_short(row[c]) for row in rows)]
    roles = {name: role for role, name in named.items() if role != "image"}
    kept = [c for c in header if c in columns.text or c in roles or c in short]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, kept, delimiter=_delimiter(path))
    writer.writeheader()
    count = 0
    for number, row in enumerate(rows, 1):
        try:
            writer.writerow(_clean_row(row, number, columns, roles, kept, cleaner))
        except VolumeError as error:
            refused[error.reason] = refused.get(error.reason, 0) + 1
            continue
        count += 1
    _write(out, stream.getvalue())
    return count, [c for c in header if c not in kept]


def _clean_row(
    row: dict[str, str],
    number: int,
    columns: Columns,
    roles: dict[str, str],
    kept: Sequence[str],
    cleaner: ReportCleaner,
) -> dict[str, str]:
    cells = {role: row[name].strip() for role, name in columns.named().items()}
    link = SourcedReport("", cells.get("accession", ""), cells.get("study_uid", ""))
    subject = cleaner.subjects.find(link)
    fallback = link.study_uid or link.accession or f"row {number}"
    patient = subject.patient if subject else cells.get("patient", "") or fallback
    naming = [row[c] for c in row if c not in kept or c in roles]
    known = known_words([*(subject.words if subject else ()), *(value for value in naming if len(value) <= 200)])
    cleaned: dict[str, str] = {}
    for name in kept:
        if name in columns.text:
            found = cleaner.text.clean(row[name], patient, known, subject.day if subject else None)
            cleaner.counts.update(found.counts())
            cleaned[name] = f"'{found.text}" if found.text.startswith(_FORMULA) else found.text
        else:
            cleaned[name] = _cell(row[name].strip(), roles.get(name, ""), patient, cleaner)
    return cleaned


def _cell(value: str, role: str, patient: str, cleaner: ReportCleaner) -> str:
    """A cell beside the text: identifiers as in the images, dates moved, short values as they are."""
    pseudonyms = cleaner.text.pseudonyms
    if not role:
        return value
    if role == "accession":
        return pseudonyms.identifier("accession", value)
    if role == "study_uid":
        is_uid = re.fullmatch(r"[0-2](\.\d+)+", value) is not None
        return pseudonyms.uid(value) if is_uid else pseudonyms.identifier("accession", value)
    if role == "patient":
        return pseudonyms.identifier("patient", patient) if value else ""
    if role in ("performed", "issued"):
        if cleaner.text.dates == "keep":
            return value
        moved = shift_date(value[:10].replace("-", ""), cleaner.text.shift(patient))
        return moved if moved and cleaner.text.dates == "shift" else ""
    return value if len(value) <= 16 and value.replace(" ", "").isalpha() else ""


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VolumeError(
            f"{path.name}: byte {error.start} is not UTF-8; convert the table to UTF-8 first", "undecodable-text"
        ) from error
    csv.field_size_limit(MAX_CELL)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), strict=True, restval="")
    try:
        for row in reader:
            if None in row:
                raise VolumeError(
                    f"{path.name}: line {reader.line_num} has more cells than columns; quote cells that hold commas",
                    "damaged-table",
                )
            yield row
    except csv.Error as error:
        raise VolumeError(f"{path.name}: line {reader.line_num}: {error}; repair the table", "damaged-table") from error


def _delimiter(path: Path, text: str = "") -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = (text or read_bytes(path)[:65536].decode("utf-8-sig", "replace")).split("\n", 1)[0]
    return max(",;\t|", key=first.count)


def _is_short(value: str) -> bool:
    return _SHORT.fullmatch(value.strip()) is not None


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f".part-{path.name}")
    part.write_text(text, encoding="utf-8", newline="")
    os.replace(part, path)
