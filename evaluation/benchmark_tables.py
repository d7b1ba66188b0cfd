"""Tables of public benchmarks, checked column by column while they are read.

A column that is missing, unknown or there twice ends the reading with its name: a table of the same name with other
columns is another release, and guessing what it means is how splits and labels get mixed up.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluation.benchmark_item import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN, BenchmarkError, Reading

MAX_CELL = 64 * 2**20
"""Longest cell in characters: some benchmarks keep whole images in their cells, as base64."""

_SHOWN = 20
_LABELS = {"": NOT_MENTIONED, "1": PRESENT, "0": ABSENT, "-1": UNCERTAIN}

Row = dict[str, str]


def listed(names: Iterable[str], shown: int = _SHOWN) -> str:
    """Names for a message: the first of them, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def find_file(reading: Reading, *candidates: str) -> Path | None:
    """The first of some relative paths that exists in the folder, plain or with `.gz`."""
    for candidate in candidates:
        for path in (reading.folder / candidate, reading.folder / f"{candidate}.gz"):
            if path.is_file():
                return path
    return None


def need_files(reading: Reading, *needed: str | tuple[str, ...]) -> list[Path]:
    """Paths of tables that must be there; each may have several spellings.

    Raises: BenchmarkError that names all that are missing.
    """
    spellings = [(one,) if isinstance(one, str) else one for one in needed]
    found = [find_file(reading, *names) for names in spellings]
    missing = [" or ".join(names) for names, path in zip(spellings, found, strict=True) if path is None]
    if missing:
        raise BenchmarkError(
            f"{reading.folder}: {len(missing)} of {len(needed)} tables are missing: {listed(missing)}. Give the folder"
            " that holds them, as it was downloaded"
        )
    return [path for path in found if path is not None]


def read_table(
    reading: Reading,
    path: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    others: bool = False,
    delimiter: str = ",",
) -> Iterator[tuple[str, Row]]:
    """(place, row) of a CSV or TSV table. `others` keeps columns that are not named here instead of refusing them.

    Names of columns lose the blanks around them; columns without a name, which some tables end with, are left out.
    Raises: BenchmarkError for columns that are missing, unknown or there twice, and for rows of another length.
    """
    _enter(reading, path)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    try:
        with _open_text(path) as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            check_columns(path, [name for name in header if name], required, optional, others)
            for cells in reader:
                if cells:
                    yield f"{path.name}, line {reader.line_num}", _row(path, reader.line_num, header, cells)
    except (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise BenchmarkError(f"{path}: no table in UTF-8 that can be read ({error}); download it again") from None


def _open_text(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) > len(header) and any(cells[len(header) :]):
        raise BenchmarkError(f"{path}: line {line} has {len(cells)} cells, expected {len(header)}; download it again")
    cells = cells + [""] * (len(header) - len(cells))
    return {name: cell for name, cell in zip(header, cells, strict=False) if name}


def check_columns(
    path: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str], others: bool
) -> None:
    """Raises: BenchmarkError for columns that are missing, unknown or there twice."""
    missing = [name for name in required if name not in header]
    unknown = [] if others else [name for name in header if name not in required and name not in optional]
    twice = sorted({name for name in header if header.count(name) > 1})
    faults = [
        f"{word} {listed(map(repr, names))}"
        for word, names in (("lacks", missing), ("has the unknown", unknown), ("has twice", twice))
        if names
    ]
    if faults:
        raise BenchmarkError(
            f"{path}: the table {' and '.join(faults)}; expected the columns {listed(required, 40)}."
            " Is this another benchmark, another release, or a table that somebody changed?"
        )


def read_json(reading: Reading, path: Path) -> Any:
    """A whole JSON file. Raises: BenchmarkError if it is none."""
    _enter(reading, path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BenchmarkError(f"{path}: no JSON ({error}); download it again") from None


def read_objects(
    reading: Reading,
    path: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    lists: Sequence[str] = (),
    others: bool = False,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of a JSON file that is a list of objects, its keys checked like columns."""
    yield from check_objects(path, read_json(reading, path), required, optional, lists=lists, others=others)


def check_objects(
    path: Path,
    rows: Any,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    lists: Sequence[str] = (),
    others: bool = False,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of a list of objects from `path`. Required keys hold a text or a number, `lists` hold lists.

    Raises: BenchmarkError if it is no such list, for strange keys, and for values of another kind.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BenchmarkError(f"{path}: found {type(rows).__name__}, expected a list of objects")
    for number, row in enumerate(rows, 1):
        where = f"{path.name}, entry {number}"
        check_columns(path.with_name(where), list(row), (*required, *lists), optional, others)
        for name in (*required, *lists):
            _check_kind(row[name], list if name in lists else (str, int, float), f"{where}, {name}")
        yield where, row


def check_points(value: Any, length: int, where: str) -> list[list[Any]]:
    """A list of lists of that length. Raises: BenchmarkError for anything else."""
    _check_kind(value, list, where)
    for one in value:
        _check_kind(one, list, where)
        if len(one) != length:
            raise BenchmarkError(f"{where}: {len(one)} numbers, expected {length}")
    return list(value)


def _check_kind(value: Any, kinds: type | tuple[type, ...], where: str) -> None:
    if not isinstance(value, kinds) or isinstance(value, bool):
        expected = "a list" if kinds is list else "a text or a number"
        raise BenchmarkError(f"{where}: found {type(value).__name__}, expected {expected}")


def refuse_strangers(path: Path, named: Iterable[str], known: Collection[str]) -> None:
    """Raises: BenchmarkError if a table names items that the main table does not have."""
    strange = sorted(set(named) - set(known))
    if strange:
        raise BenchmarkError(
            f"{path}: {len(strange)} items that no other table has: {listed(strange)}; the tables are of two releases"
        )


def label(cell: str, where: str) -> float:
    """A cell of a label: 1 present, 0 absent, -1 uncertain, empty not mentioned. Raises: BenchmarkError for others."""
    text = cell.strip().removesuffix(".0")
    if text not in _LABELS:
        raise BenchmarkError(f"{where}: label {cell!r}, expected 1, 0, -1 or nothing")
    return _LABELS[text]


def number(cell: Any, where: str) -> float:
    """A finite number. Raises: BenchmarkError for anything else."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise BenchmarkError(f"{where}: {cell!r} is no finite number")
    return value


def one_of(value: str, known: Iterable[str], what: str, where: str) -> str:
    """The value itself. Raises: BenchmarkError if it is not one of the known ones."""
    known = list(known)
    if value not in known:
        raise BenchmarkError(f"{where}: {what} {value!r}, expected one of {listed(known, 30)}")
    return value


def _enter(reading: Reading, path: Path) -> None:
    if path not in reading.files:
        reading.files.append(path)
