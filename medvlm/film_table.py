"""Tables of films: one CSV row names a PNG, JPEG or DICOM file, its patient, its view and perhaps its report.

A row without text is still a film. Rows are kept in a table beside the catalog's, by the location of the file.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from reports.tables import MAX_CELL, Columns, detect_columns
from volumes.instance import Refusal, derived_uid, patient_key

if TYPE_CHECKING:
    from volumes.volume import View

SUFFIXES = (".csv", ".tsv")
_VIEWS: Mapping[str, View] = {
    "PA": "PA",
    "AP": "AP",
    "AP SUPINE": "AP",
    "AP ERECT": "AP",
    "L": "LATERAL",
    "LL": "LATERAL",
    "RL": "LATERAL",
    "LAT": "LATERAL",
    "LATERAL": "LATERAL",
}
_UID = re.compile(r"\d+(\.\d+){3,}")
_PROBED_ROWS = 20


@dataclass(frozen=True)
class FilmRow:
    """One row. `patient_key` and `study_uid` are empty when the table does not say."""

    location: str = field(repr=False)
    patient_key: str
    study_uid: str
    view: View
    text: str
    source: str = field(repr=False)


def is_film_table(path: Path, columns: Columns | None = None) -> bool:
    """Whether a CSV file has a column of image files, one of which at least is there."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    try:
        names, rows = _open(path, columns)
        return bool(names.image) and any(_place(path, row.get(names.image)) for row in islice(rows, _PROBED_ROWS))
    except (OSError, UnicodeDecodeError, ValueError, csv.Error):
        return False  # the reader of reports will say why


def read_film_table(path: Path, columns: Columns | None = None) -> Iterator[FilmRow | Refusal]:
    """The rows of a table of films, with a refusal for each row that names no file or one that is not there.

    Paths in the table are relative to its folder. Columns without a given name are found by their usual names.
    """
    names, rows = _open(path, columns)
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            yield _row(path, names, row, f"{path}:row {number}")
    except (csv.Error, UnicodeDecodeError) as error:
        message = f"the table is damaged after row {number}: {error}; repair it, the rows before it were read"
        yield Refusal(str(path), "damaged-table", message)


def _row(path: Path, names: Columns, row: Mapping[str, str | None], where: str) -> FilmRow | Refusal:
    named = _cell(row, names.image)
    if not named:
        return Refusal(where, "no-image", f"found no file in the column {names.image!r}; expected an image file")
    location = _place(path, named)
    if location is None:
        return Refusal(where, "missing-file", "the row names an image file that is not there; check its path")
    patient, study = _cell(row, names.patient), _cell(row, names.study_uid)
    text = "\n\n".join(
        f"{name.upper()}: {cell}" if len(names.text) > 1 else cell for name in names.text if (cell := _cell(row, name))
    )
    if study and not _UID.fullmatch(study):
        study = derived_uid("study of a table", patient, study)  # a hospital's own number
    key = patient_key(patient) if patient else ""
    view = _VIEWS.get(_cell(row, names.view).upper(), "unknown")
    return FilmRow(location, key, study, view, text, where)


def _open(path: Path, columns: Columns | None) -> tuple[Columns, Iterator[Mapping[str, str | None]]]:
    csv.field_size_limit(MAX_CELL)
    stream = path.open(encoding="utf-8-sig", newline="")
    first = stream.readline()
    stream.seek(0)
    delimiter = max(",;\t|", key=first.count)
    reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
    header = list(reader.fieldnames or ())
    return _detect(header, columns or Columns()), iter(reader)


def _detect(header: list[str], wanted: Columns) -> Columns:
    """Like `detect_columns`, but a table of films needs no text."""
    try:
        return detect_columns(header, wanted)
    except ValueError:
        if wanted.text:
            raise
        found = detect_columns([*header, "text"], wanted)
        return Columns(**{**found.named(), "text": ()})  # type: ignore[arg-type]


def _cell(row: Mapping[str, str | None], name: str) -> str:
    return (row.get(name) or "").strip() if name else ""


def _place(table: Path, named: str | None) -> str | None:
    """Absolute location of a file that a row names, or None when it is not there."""
    if not named:
        return None
    path = os.path.abspath(os.path.join(table.parent, named))
    return path if os.path.isfile(path) else None
