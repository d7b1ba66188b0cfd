"""Reading reports from tables: CSV, TSV and JSON Lines, with named columns or columns found by their usual names."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from reports.sourced import ReportStatus, SourcedReport, joined, refuse, tidy
from volumes.instance import Refusal, patient_key

MAX_CELL = 16 * 2**20
"""Largest cell in characters; the default of the csv module (128 Ki) is less than some exports hold."""

_SECTIONS = ("indication", "history", "technique", "comparison", "findings", "impression", "recommendation")
_WHOLE = (
    "report", "reporttext", "reporttxt", "text", "reports", "fulltext", "fullreport", "radiologyreport", "narrative",
    "befund",
)  # fmt: skip
_USUAL: dict[str, tuple[str, ...]] = {
    "accession": (
        "accession",
        "accessionnumber",
        "accessionno",
        "accessionnum",
        "acc",
        "accno",
        "reportid",
        "volumename",
    ),
    "study_uid": ("studyuid", "studyinstanceuid", "studyid", "study"),
    "patient": ("patientkey", "patientid", "patient", "subjectid", "pid", "mrn"),
    "image": ("file", "path", "imagepath", "filename", "image", "imagefile", "dicompath", "imageids", "imageid"),
    "split": ("split", "subset", "fold"),
    "view": ("view", "viewposition", "projection"),
    "status": ("status", "reportstatus"),
}
_STATUS: dict[str, ReportStatus] = {
    "preliminary": "preliminary", "p": "preliminary", "draft": "preliminary", "final": "final", "f": "final",
    "corrected": "corrected", "c": "corrected", "amended": "corrected", "a": "corrected", "addendum": "corrected",
    "cancelled": "cancelled", "canceled": "cancelled", "x": "cancelled",
}  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """Names of columns. An empty name means: look for a usual name. Several text columns become sections, each under
    the name of its column."""

    text: tuple[str, ...] = ()
    accession: str = ""
    study_uid: str = ""
    patient: str = ""
    image: str = ""
    split: str = ""
    view: str = ""
    status: str = ""

    def named(self) -> dict[str, str]:
        """The single columns that have a name, by their role."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "text" and getattr(self, f.name)}


def detect_columns(header: Sequence[str], wanted: Columns = Columns()) -> Columns:
    """Fill the gaps of `wanted` from a header. Case, blanks, `_` and `-` do not matter.

    Raises: ValueError when a named column is missing or no column of text is found; the message lists what there is.
    """
    by_key = {_key(name): name for name in reversed(header)}
    missing = [name for name in (*wanted.text, *wanted.named().values()) if name not in header]
    if missing:
        raise ValueError(f"no column {', '.join(map(repr, missing))} among {_listing(header)}")
    found = {
        role: next((by_key[key] for key in keys if key in by_key), "")
        for role, keys in _USUAL.items()
        if not getattr(wanted, role)
    }
    text = wanted.text
    if not text:
        whole = next((by_key[key] for key in _WHOLE if key in by_key), "")
        text = (whole,) if whole else tuple(by_key[key] for key in _SECTIONS if key in by_key)
    if not text:
        raise ValueError(f"no column of text among {_listing(header)}")
    return replace(wanted, text=text, **found)


def read_csv(data: bytes, source: str, columns: Columns, encoding: str = "") -> Iterator[SourcedReport | Refusal]:
    """Reports of a CSV or TSV file; the first line names the columns. Quoted cells may hold line ends."""
    try:
        text = data.decode(encoding or "utf-8-sig")
    except (UnicodeDecodeError, LookupError) as error:
        yield refuse(source, "undecodable-text", f"bytes that are not {encoding or 'utf-8'} ({error})", "text in it",
                     "State the encoding, for example encoding='latin-1', or convert the file.")  # fmt: skip
        return
    csv.field_size_limit(MAX_CELL)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)  # max keeps the comma when there is none of them
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = list(reader.fieldnames or ())
        yield from _rows(reader, header, source, columns)
    except csv.Error as error:
        yield refuse(f"{source}:line {reader.line_num}", "damaged-table", str(error), "CSV with quoted cells closed",
                     "Repair the file from this line on; the rows before it were read.")  # fmt: skip


def read_json_lines(data: bytes, source: str, columns: Columns) -> Iterator[SourcedReport | Refusal]:
    """Reports of a JSON Lines file or a JSON list of objects; keys are columns."""
    try:
        text = data.decode("utf-8-sig")
        rows = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(x) for x in text.splitlines() if x.strip()]
        )
    except (UnicodeDecodeError, ValueError) as error:
        yield refuse(
            source, "not-json", f"JSON that cannot be read ({error})", "one object per line", "Export it again."
        )
        return
    if not all(isinstance(row, dict) for row in rows):
        yield refuse(source, "not-json", "a line that is no object", "one object per line", "Export it again.")
        return
    header = list(dict.fromkeys(key for row in rows for key in row))
    yield from _rows(rows, header, source, columns)


def _rows(
    rows: Iterable[Mapping[str, Any]], header: list[str], source: str, wanted: Columns
) -> Iterator[SourcedReport | Refusal]:
    try:
        columns = detect_columns(header, wanted)
    except ValueError as error:
        usual = ", ".join(("report", "text", *_SECTIONS[-3:]))
        yield refuse(source, "no-text-column", str(error), f"a column of text such as {usual}",
                     "Name the columns of the table.")  # fmt: skip
        return
    if not (columns.accession or columns.study_uid or columns.image):
        yield refuse(source, "no-link", f"no column that joins a row to a study among {_listing(header)}",
                     "an accession number, a study UID or an image file", "Name the column.")  # fmt: skip
        return
    if wanted != columns:
        used = {"text": " + ".join(columns.text), **columns.named()}
        said = ", ".join(f"{role} from {name!r}" for role, name in used.items())
        yield Refusal(source, "columns-detected", f"columns were found by their usual names: {said}", "repair")
    for number, row in enumerate(rows, 1):
        yield _read_row(row, columns, f"{source}:row {number}")


def _read_row(row: Mapping[str, Any], columns: Columns, where: str) -> SourcedReport | Refusal:
    def cell(name: str) -> str:
        value = row.get(name) if name else None
        return "" if value is None else str(value).strip()

    if None in row:
        return refuse(
            where, "damaged-row", "more cells than columns", "one cell per column", "Quote cells with commas."
        )
    sections = [(name.replace("_", " ") if len(columns.text) > 1 else "", cell(name)) for name in columns.text]
    text = tidy(joined([section for section in sections if section[1]]))
    if not text:
        names = ", ".join(repr(name) for name in columns.text)
        return refuse(where, "empty-report", f"no text in {names}", "a report", "The row is left out.")
    accession, study_uid, image = cell(columns.accession), cell(columns.study_uid), cell(columns.image)
    if study_uid and not accession and re.fullmatch(r"[0-2](\.\d+)+", study_uid) is None:
        accession, study_uid = study_uid, ""  # a study's name that is no UID can only be a number of the archive
    if not accession and not study_uid and not image:
        return refuse(
            where, "no-link", "neither accession number, study UID nor image", "one of them", "Fill the cell."
        )
    status = _STATUS.get(cell(columns.status).lower() or "final")
    if status is None:
        return refuse(where, "unknown-status", f"status {cell(columns.status)!r}", "preliminary, final or corrected",
                      "Correct the cell, or name another status column.")  # fmt: skip
    identity = cell(columns.patient)
    key = (identity if re.fullmatch(r"[0-9a-f]{12}", identity) else patient_key(identity)) if identity else None
    return SourcedReport(
        text, accession, study_uid, key, status, where, image=image, split=cell(columns.split), view=cell(columns.view)
    )


def _key(name: str) -> str:
    return re.sub(r"[\s_\-./]", "", name.lower())


def _listing(header: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in header[:20])
    return f"{len(header)} column(s): {shown}" + (", …" if len(header) > 20 else "")
