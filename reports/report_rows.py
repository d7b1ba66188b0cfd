"""Rows of a table of reports (CSV, TSV, JSON Lines, Parquet), streamed, however large."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

MAX_CELL = 16 * 2**20  # characters; the default of the csv module (128 Ki) is less than some exports hold
_BATCH = 2000  # rows
_TABLES = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}

Row = dict[str, str]


@contextmanager
def open_rows(path: Path) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """(names of columns, rows) of a table, streamed; `.gz` is unpacked. Raises: ValueError, ImportError."""
    kind = table_kind(path, _TABLES, "read")
    if kind == "parquet":
        yield _parquet_rows(path)
        return
    with _open_text(path) as file:
        yield _csv_rows(path, file) if kind == "csv" else _json_rows(path, file)


def _open_text(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def table_kind(path: Path, known: dict[str, str], what: str) -> str:
    """The kind of a table by the end of its name. Raises: ValueError with the kinds that are known."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = (
        suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 and what == "read" else "".join(suffixes[-1:])
    )
    if suffix not in known:
        kinds = ", ".join(known)
        raise ValueError(f'{path}: cannot {what} a table of kind "{suffix}"; expected the name to end in {kinds}')
    return known[suffix]


def _csv_rows(path: Path, file: TextIO) -> tuple[list[str], Iterator[Row]]:
    csv.field_size_limit(MAX_CELL)
    try:
        first = file.readline(MAX_CELL)
        file.seek(0)
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise ValueError(_undecodable(path, 1, error)) from None
    delimiter = max(",;\t|", key=first.count)  # max keeps the comma when there is none of them
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    rows = _csv_lines(path, reader)
    header = next(rows, [])
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice or not header:
        raise ValueError(f"{path}: line 1: {f'column {twice[0]!r} stands twice' if twice else 'no names of columns'}")
    return header, _csv_dicts(path, header, rows, reader)


def _csv_lines(path: Path, reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}; close the quotes of its cells") from None
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise ValueError(_undecodable(path, reader.line_num + 1, error)) from None


def _csv_dicts(path: Path, header: list[str], rows: Iterator[list[str]], reader: Any) -> Iterator[Row]:
    for cells in rows:
        if len(cells) > len(header):
            raise ValueError(
                f"{path}: line {reader.line_num}: {len(cells)} cells, expected {len(header)};"
                " quote cells that hold commas"
            )
        if cells:
            yield dict(zip(header, cells, strict=False))


def _undecodable(path: Path, line: int, error: Exception) -> str:
    return f"{path}: near line {line}: no text in UTF-8 ({error}); convert the file, for example with iconv"


def _json_rows(path: Path, file: TextIO) -> tuple[list[str], Iterator[Row]]:
    rows = _json_lines(path, file)
    first = next(rows, None)
    if first is None:
        return [], iter(())

    def chained() -> Iterator[Row]:
        yield first
        yield from rows

    return list(first), chained()


def _json_lines(path: Path, file: TextIO) -> Iterator[Row]:
    number = 0
    try:
        while line := file.readline(MAX_CELL):
            number += 1
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"{path}: line {number}: found {type(row).__name__}, expected one object per line")
                yield {str(key): _text(value) for key, value in row.items()}
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: line {number}: no JSON ({error}); expected one object per line") from None
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise ValueError(_undecodable(path, number + 1, error)) from None


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _parquet_rows(path: Path) -> tuple[list[str], Iterator[Row]]:
    parquet = pyarrow_parquet("reading")
    import pyarrow as pa

    try:
        file = parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: no Parquet file ({str(error).splitlines()[0]})") from None

    def rows() -> Iterator[Row]:
        for batch in file.iter_batches(_BATCH):
            for row in batch.to_pylist():
                yield {key: _text(value) for key, value in row.items()}

    return list(file.schema_arrow.names), rows()


def pyarrow_parquet(doing: str) -> Any:
    """The module pyarrow.parquet. Raises: ImportError that says what to install."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        message = f'{doing} Parquet needs a package that is not here: pip install "medvlm-platform[parquet]"'
        raise ImportError(message) from None
    return parquet
