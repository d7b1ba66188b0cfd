"""Tables of reports to tables of labels (CSV, JSON Lines, Parquet), row by row, however large."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from reports.labels import Label, join_columns, label, scheme_names, with_parents
from reports.lexicon import Lexicon
from reports.report_rows import Row, open_rows, pyarrow_parquet, table_kind
from volumes.instance import patient_key

MAX_TEXT = 2**20
"""Longest text of a row in characters; reports are shorter by far, and a longer one may take minutes to read."""

_BATCH = 2000  # rows
_WRITTEN = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
_KEY_COLUMN = re.compile(
    r"^(?:.*_)?(?:id|uid|no|number|accession\w*|study|studyinstanceuid|image|filename|split|fold)$", re.IGNORECASE
)
_KEY_WORDS = re.compile(
    r"accession|study|report_?id|(?:volume|file|image|series)_?name|uid|patient_?key", re.IGNORECASE
)
_PATIENT = re.compile(r"patient|subject|person|mrn|\bpid\b|social|insurance", re.IGNORECASE)
_PATIENT_ID = re.compile(
    r"^(?:patient_?(?:id|no|number|key)?|subject_?(?:id|no|number)?|mrn|pid|person_?id)$", re.IGNORECASE
)
_IS_KEY = re.compile(r"[0-9a-f]{12}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")

Labeller = Callable[[str], dict[str, Label]]


class LabelSummary(NamedTuple):
    """What `label_reports` did: rows written, rows without any text, positives per label, rows too long to read."""

    rows: int
    empty: int
    present: dict[str, int]
    too_long: int = 0


def label_reports(
    reports: Path | str,
    columns: Sequence[str],
    scheme: str,
    out: Path | str,
    *,
    lexicon: Lexicon | None = None,
    parents: bool = False,
    labeller: Labeller | None = None,
    progress: Callable[[Iterator[Row]], Iterator[Row]] = iter,
) -> LabelSummary:
    """Label every row of a table and write a table: `row` (from 0), its key columns, then one column per label.

    Cells are 1, 0, -1 or empty. Key columns are those whose names say so (accession, study, uid, id); the ID of a
    patient becomes the pseudonym of the catalog, and no name is taken over. In CSV a key that a spreadsheet would run
    as a formula gets an apostrophe before it. A row without text, or with more than `MAX_TEXT` of it, gets empty
    cells. `labeller` takes the place of the rules; `parents` spreads labels along the tree of the scheme. The file
    gets its name when it is whole.
    Raises: ValueError if a column is missing, the scheme unknown, the file damaged or of no known kind; the message
    says where. ImportError when Parquet is read or written without pyarrow.
    """
    wanted = scheme_names(scheme, lexicon)
    read = labeller or (lambda text: label(text, scheme, lexicon))
    present = dict.fromkeys(wanted, 0)
    rows = empty = too_long = 0
    with open_rows(Path(reports)) as (header, found):
        keys = _key_columns(reports, header, columns, wanted)
        with _open_out(Path(out), ["row", *keys], wanted) as write:
            for row in progress(found):
                text = join_columns(row, columns)
                fits = len(text) <= MAX_TEXT
                labels = read(text) if text and fits else dict.fromkeys(wanted)
                if parents:
                    labels = with_parents(labels, scheme)
                write([rows, *(_key(key, row.get(key, "")) for key in keys)], [labels[name] for name in wanted])
                rows, empty, too_long = rows + 1, empty + (not text), too_long + (not fits)
                for name in wanted:
                    present[name] += labels[name] == 1
    return LabelSummary(rows, empty, present, too_long)


@contextmanager
def _open_out(out: Path, keys: list[str], wanted: Sequence[str]) -> Iterator[Callable[[list[Any], list[Label]], None]]:
    """A function that writes a row; the file appears when all are written."""
    kind = table_kind(out, _WRITTEN, "write")
    part = out.with_name(f".{out.name}.part")
    write = {"csv": _write_csv, "jsonl": _write_json, "parquet": _write_parquet}[kind]
    try:
        with write(part, keys, wanted) as put:
            yield put
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _write_csv(
    part: Path, keys: list[str], wanted: Sequence[str]
) -> Iterator[Callable[[list[Any], list[Label]], None]]:
    with part.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow([_harmless(key) for key in keys] + list(wanted))
        yield lambda row, labels: writer.writerow(
            [row[0], *map(_harmless, row[1:]), *("" if value is None else value for value in labels)]
        )


@contextmanager
def _write_json(
    part: Path, keys: list[str], wanted: Sequence[str]
) -> Iterator[Callable[[list[Any], list[Label]], None]]:
    names = [*keys, *wanted]
    with part.open("w", encoding="utf-8") as sink:
        yield lambda row, labels: print(
            json.dumps(dict(zip(names, [*row, *labels], strict=True)), ensure_ascii=False), file=sink
        )


@contextmanager
def _write_parquet(
    part: Path, keys: list[str], wanted: Sequence[str]
) -> Iterator[Callable[[list[Any], list[Label]], None]]:
    parquet = pyarrow_parquet("writing")
    import pyarrow as pa

    fields = [("row", pa.int64()), *((key, pa.string()) for key in keys[1:]), *((name, pa.int8()) for name in wanted)]
    schema = pa.schema(fields)
    waiting: list[list[Any]] = []
    with parquet.ParquetWriter(part, schema) as writer:

        def flush() -> None:
            arrays = [pa.array([row[at] for row in waiting], type=field.type) for at, field in enumerate(schema)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            waiting.clear()

        def put(row: list[Any], labels: list[Label]) -> None:
            waiting.append([*row, *labels])
            if len(waiting) == _BATCH:
                flush()

        yield put
        flush()


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet runs as a formula (OWASP, CSV injection): an apostrophe before it. Numbers stay."""
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell


def _key(column: str, value: str) -> str:
    value = value.strip()
    if not _PATIENT_ID.match(column) or not value or _IS_KEY.fullmatch(value):
        return value
    return patient_key(value)


def _key_columns(reports: Path | str, header: list[str], columns: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The columns that name a row; refuses when a text column is not there."""
    missing = [column for column in columns if column not in header]
    if missing or not columns:
        raise ValueError(
            f"{reports}: text column(s) {', '.join(missing) or '(none given)'} not found;"
            f" the file has: {', '.join(header)}."
            " Name the report column with --column."
        )
    free = [column for column in header if column not in columns and column not in wanted and column != "row"]
    named = [column for column in free if _KEY_COLUMN.match(column) or _KEY_WORDS.search(column)]
    return [c for c in free if _PATIENT_ID.match(c) or (c in named and not _PATIENT.search(c))]
