"""Reports in the rows of a table, with named columns or those of the usual names; `reports.table_files` opens them.

A cell is text and nothing else: formulas are never computed. A spreadsheet keeps leading zeros as `="007"`, which is
undone; any other formula where a number of a study should stand makes the row a refusal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from reports.modality import modality_code
from reports.sourced import (
    ReportError,
    ReportStatus,
    SourcedReport,
    compact_time,
    comparable_time,
    joined,
    pseudonyms,
    quoted,
    refuse,
    tidy,
)
from volumes.instance import Refusal

MAX_CELL = 16 * 2**20
"""Largest cell in characters; the default of the csv module (128 Ki) is less than some exports hold."""
MAX_COLUMNS = 4096

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
    "modality": ("modality", "modalities"),
    "performed": ("studydate", "studydatetime", "examdate", "performed"),
    "issued": ("issued", "reportdate", "reportdatetime", "reporttime", "signed"),
}
_STATUS: dict[str, ReportStatus] = {
    "preliminary": "preliminary", "p": "preliminary", "draft": "preliminary", "final": "final", "f": "final",
    "corrected": "corrected", "c": "corrected", "amended": "corrected", "a": "addendum", "addendum": "addendum",
    "appended": "addendum", "cancelled": "cancelled", "canceled": "cancelled", "x": "cancelled",
    "withdrawn": "cancelled", "entered-in-error": "cancelled",
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
    modality: str = ""
    performed: str = ""
    issued: str = ""

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


def table_reports(
    rows: Iterable[Mapping[Any, Any]], header: list[str], source: str, wanted: Columns
) -> Iterator[SourcedReport | Refusal]:
    """A report or refusal per row. Rows map columns to cells; a row with more cells than columns has the key None."""
    if len(header) > MAX_COLUMNS:
        yield refuse(
            source, "damaged-table", f"{len(header)} columns", f"at most {MAX_COLUMNS}", "Check the delimiter."
        )
        return
    try:
        columns = detect_columns(header, wanted)
    except ValueError as error:
        usual = ", ".join(("report", "text", *_SECTIONS[-3:]))
        yield refuse(source, "no-text-column", str(error), f"a column of text such as {usual}",
                     "Name the columns of the table.")  # fmt: skip
        return
    by_patient = columns.patient and columns.modality and (columns.performed or columns.issued)
    if not (columns.accession or columns.study_uid or columns.image or by_patient):
        yield refuse(source, "no-link", f"no column that joins a row to a study among {_listing(header)}",
                     "an accession number, a study UID or an image file", "Name the column.")  # fmt: skip
        return
    twice = [name for name in (*columns.text, *columns.named().values()) if header.count(name) > 1]
    if twice:
        yield refuse(source, "ambiguous-column", f"{header.count(twice[0])} columns called {quoted(twice[0])}", "one",
                     "Rename all but one.")  # fmt: skip
        return
    if wanted != columns:
        used = {"text": " + ".join(columns.text), **columns.named()}
        said = ", ".join(f"{role} from {name!r}" for role, name in used.items())
        yield Refusal(source, "columns-detected", f"columns were found by their usual names: {said}", "repair")
    for number, row in enumerate(rows, 1):
        yield _read_row(row, columns, f"{source}:row {number}")


def _read_row(row: Mapping[Any, Any], columns: Columns, where: str) -> SourcedReport | Refusal:
    try:
        return _report(row, columns, where)
    except ReportError as error:
        return error.refusal(where)


def _report(row: Mapping[Any, Any], columns: Columns, where: str) -> SourcedReport:
    if None in row:
        raise ReportError("damaged-row", "more cells than columns", "one cell per column", "Quote cells with commas.")
    sections = [(name.replace("_", " ") if len(columns.text) > 1 else "", _cell(row, name)) for name in columns.text]
    text = tidy(joined([section for section in sections if section[1]]))
    status = _STATUS.get(_cell(row, columns.status).lower() or "final")
    if status is None:
        raise ReportError("unknown-status", f"status {quoted(_cell(row, columns.status))}",
                          "preliminary, final, corrected, addendum or cancelled",
                          "Correct the cell, or name another status column.")  # fmt: skip
    if not text and status != "cancelled":
        names = ", ".join(repr(name) for name in columns.text)
        raise ReportError("empty-report", f"no text in {names}", "a report", "The row is left out.")
    accession, study_uid = _number(row, columns.accession), _number(row, columns.study_uid)
    image = _number(row, columns.image)
    if study_uid and not accession and re.fullmatch(r"[0-2](\.\d+)+", study_uid) is None:
        accession, study_uid = study_uid, ""  # a study's name that is no UID can only be a number of the archive
    identity = _number(row, columns.patient)
    keys = (identity,) if re.fullmatch(r"[0-9a-f]{12}", identity) else pseudonyms([identity])
    read = SourcedReport(
        text,
        accession,
        study_uid,
        keys[0] if keys else None,
        status,
        where,
        _time(_cell(row, columns.issued)),
        image,
        _cell(row, columns.split),
        _cell(row, columns.view),
        modality=modality_code(_cell(row, columns.modality)),
        performed=_time(_cell(row, columns.performed)),
    )
    if not read.can_be_placed:
        raise ReportError("no-link", "neither accession number, study UID nor image", "one of them", "Fill the cell.")
    return read


def _cell(row: Mapping[Any, Any], name: str) -> str:
    """A cell as text; a number of a file that knows numbers (1234.0) as people write it."""
    value = row.get(name) if name else None
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, (dict, list, bytes)):
        raise ReportError("damaged-row", f"a cell of {type(value).__name__} in {quoted(name)}", "text or a number",
                          "Export the table with plain cells.")  # fmt: skip
    return str(value).strip()


def _number(row: Mapping[Any, Any], name: str) -> str:
    """A cell that names something. Raises ReportError ("formula-in-cell")."""
    value = _cell(row, name)
    protected = re.fullmatch(r'="([^"]*)"', value)
    if protected:
        return protected[1].strip()
    if value[:1] in ("=", "@") or re.match(r"[+\-].*[(|!]", value[:200]):
        raise ReportError("formula-in-cell", f"a formula in {quoted(name)}", "a number or a name",
                          "Nothing here computes formulas; export values.")  # fmt: skip
    return value


def _time(stamp: str) -> str:
    return comparable_time(stamp) or (compact_time(stamp) if re.match(r"\d{8}", stamp) else "")


def _key(name: str) -> str:
    return re.sub(r"[\s_\-./]", "", name.lower())


def _listing(header: Sequence[str]) -> str:
    shown = ", ".join(quoted(name) for name in header[:20])
    return f"{len(header)} column(s): {shown}" + (", …" if len(header) > 20 else "")
