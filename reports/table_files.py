"""Opening tables of reports: CSV, TSV, JSON Lines and Parquet, of any size that one file may have."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reports.fhir import parsed
from reports.hl7_text import stated_encoding
from reports.sourced import ReportError, SourcedReport, quoted, refuse
from reports.tables import MAX_CELL, Columns, detect_columns, table_reports
from volumes.instance import Refusal

MAX_PARQUET_BYTES = 8 * 2**30  # unpacked; a thousand rows are in memory at a time
_MOST_DELIMITERS = 2**20  # in one line: a quoted text has commas of its own, but not a million


def read_csv(data: bytes, source: str, columns: Columns, encoding: str = "") -> Iterator[SourcedReport | Refusal]:
    """Reports of a CSV or TSV file; the first line names the columns. Quoted cells may hold line ends.

    The encoding is the stated one, else that of a byte order mark, else UTF-8.
    """
    encoding = stated_encoding(data) or encoding or "utf-8"
    csv.field_size_limit(MAX_CELL)
    lines = _Lines(data, encoding)
    try:
        reader = csv.reader(lines, delimiter=lines.delimiter, strict=True)
        header = next(reader, [])
        yield from table_reports(_cells(reader, header), header, source, columns)
    except (UnicodeError, LookupError) as error:
        yield refuse(source, "undecodable-text", f"bytes that are not {quoted(encoding)} ({_brief(error)})", "text",
                     "State the encoding, for example encoding='latin-1', or convert the file.")  # fmt: skip
    except ReportError as error:
        yield error.refusal(f"{source}:line {lines.number}")
    except csv.Error as error:
        yield refuse(f"{source}:line {lines.number}", "damaged-table", str(error), "CSV with quoted cells closed",
                     "Repair the file from this line on; the rows before it were read.")  # fmt: skip


class _Lines:
    """Lines of a table, one in memory at a time, with the delimiter that is the commonest in the first."""

    def __init__(self, data: bytes, encoding: str) -> None:
        self.number = 0
        self.delimiter = ","
        self._failed: Exception | None = None
        try:
            self._stream = io.TextIOWrapper(io.BytesIO(data), encoding, newline="")
            first = self._stream.readline(_MOST_DELIMITERS)
            self._stream.seek(0)
            self.delimiter = max(",;\t|", key=first.count)  # max keeps the comma when there is none of them
        except (UnicodeError, LookupError) as error:
            self._failed = error

    def __iter__(self) -> Iterator[str]:
        if self._failed is not None:
            raise self._failed
        for line in self._stream:
            self.number += 1
            if len(line) > _MOST_DELIMITERS and line.count(self.delimiter) > _MOST_DELIMITERS:
                raise ReportError("damaged-table", f"a line with more than {_MOST_DELIMITERS} delimiters", "a table",
                                  "Repair the file.")  # fmt: skip
            yield line


def _cells(reader: Iterable[list[str]], header: list[str]) -> Iterator[Mapping[str | None, Any]]:
    """Rows by column; cells beyond the last column stand under None. Empty lines are no rows."""
    width = len(header)
    for row in reader:
        if row:
            cells: dict[str | None, Any] = dict(zip(header, row, strict=False))
            if len(row) > width:
                cells[None] = len(row) - width
            yield cells


def read_json_lines(data: bytes, source: str, columns: Columns) -> Iterator[SourcedReport | Refusal]:
    """Reports of a JSON Lines file or a JSON list of objects; keys are columns. A damaged line is its own refusal."""
    try:
        text = data.decode(stated_encoding(data) or "utf-8-sig")
        rows = parsed(text) if text[:100].lstrip().startswith("[") else None
    except UnicodeDecodeError as error:
        yield refuse(source, "not-json", f"byte {error.start} that is not UTF-8", "JSON in UTF-8", "Export it again.")
        return
    except ReportError as error:
        yield error.refusal(source)
        return
    lines = list(enumerate(rows, 1)) if isinstance(rows, list) else []
    if rows is None:
        for number, line in enumerate(text.split("\n"), 1):
            try:
                if line.strip():
                    lines.append((number, parsed(line)))
            except ReportError as error:
                yield error.refusal(f"{source}:line {number}")
    good = [row for _, row in lines if isinstance(row, dict)]
    for number, row in lines:
        if not isinstance(row, dict):
            yield refuse(f"{source}:row {number}", "not-json", "a line that is no object", "one object per line",
                         "Export it again.")  # fmt: skip
    header = list(dict.fromkeys(key for row in good for key in row))
    if good:
        yield from table_reports(good, header, source, columns)
    elif not lines:
        yield refuse(source, "empty-table", "no row", "one object per line", "Export it again.")


def read_parquet(data: bytes, source: str, columns: Columns) -> Iterator[SourcedReport | Refusal]:
    """Reports of a Parquet file, a thousand rows in memory at a time; only the columns that are used are read."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        yield refuse(source, "missing-package", "a Parquet file, and no pyarrow to read it with", "pyarrow",
                     'Run pip install "medvlm-platform[parquet]".')  # fmt: skip
        return
    try:
        file = parquet.ParquetFile(io.BytesIO(data))
        header = [str(name) for name in file.schema_arrow.names]
        unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if unpacked > MAX_PARQUET_BYTES:
            raise ReportError("too-large", f"{unpacked} bytes unpacked", f"at most {MAX_PARQUET_BYTES}", "Split it.")
        used = _used(header, columns)
        batches = file.iter_batches(1000, columns=used) if used else ()
        yield from table_reports((row for batch in batches for row in batch.to_pylist()), header, source, columns)
    except ReportError as error:
        yield error.refusal(source)
    except (pyarrow.ArrowException, OSError, EOFError, OverflowError, ValueError, TypeError, KeyError) as error:
        yield refuse(source, "damaged-table", f"Parquet that cannot be read ({_brief(error)})", "a Parquet file",
                     "Export the table again.")  # fmt: skip


def _used(header: list[str], columns: Columns) -> list[str]:
    """Names of the columns that reports are made of; none where `table_reports` will refuse the table."""
    try:
        found = detect_columns(header, columns)
    except ValueError:
        return []
    return list(dict.fromkeys((*found.text, *found.named().values())))


def _brief(error: Exception) -> str:
    """What an error says, without the data that it may quote."""
    if isinstance(error, UnicodeDecodeError):
        return f"at byte {error.start}"
    return type(error).__name__
