"""The tables of a catalog as Parquet files, for whoever wants to look at an archive with DuckDB, Polars or pandas.

Rows are streamed, so that a million instances need some MiB. File paths may hold a patient's name; they are left out
unless asked for.
"""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medvlm.ingest_summary import without_path
from volumes.catalog import Catalog
from volumes.volume import VolumeError

TABLES = (
    "patients",
    "studies",
    "series",
    "instances",
    "reports",
    "findings",
    "refusals",
    "remarks",
    "runs",
)
_PATHS = {"instances": "path", "refusals": "where_", "reports": "source"}  # columns that may hold a name
_ROWS = 50_000  # per batch and row group
_MESSAGE = "message"


def export(catalog: Path | str, out: Path | str, paths: bool = False) -> dict[str, int]:
    """Write each table to OUT/TABLE.parquet; returns the number of rows of each. Splits are a column of studies.

    Raises VolumeError when pyarrow is missing, the catalog is none, or files of that name are there already.
    """
    if importlib.util.find_spec("pyarrow") is None:
        message = 'writing Parquet needs a package that is not here: pip install "medvlm-platform[parquet]"'
        raise VolumeError(message, "missing-package")
    folder = Path(out)
    with Catalog.open(catalog) as opened:
        there = {row[0] for row in opened.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        names = [name for name in TABLES if name in there]
        taken = [name for name in names if (folder / f"{name}.parquet").exists()]
        if taken:
            message = f"{folder.name} holds {', '.join(taken)} already; name a new folder"
            raise VolumeError(message, "export-exists")
        folder.mkdir(parents=True, exist_ok=True)
        opened.connection.execute("BEGIN")  # one moment of the catalog, while others may write
        return {name: _write(opened.connection, name, folder / f"{name}.parquet", paths) for name in names}


def _write(db: sqlite3.Connection, table: str, path: Path, paths: bool) -> int:
    """Stream one table into one file, which gets its name when it is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    described = db.execute(f"PRAGMA table_info({table})").fetchall()
    hidden = None if paths else _PATHS.get(table)
    names = [row[1] for row in described]
    schema = pa.schema([(row[1], _type(row[2])) for row in described if row[1] != hidden])
    rows = 0
    part = path.with_suffix(".part")
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        cursor = db.execute(f"SELECT * FROM {table} ORDER BY rowid")
        while batch := cursor.fetchmany(_ROWS):
            writer.write_batch(_batch(batch, names, schema, hidden))
            rows += len(batch)
    os.replace(part, path)
    return rows


def _batch(rows: Sequence[tuple[object, ...]], names: list[str], schema: Any, hidden: str | None) -> Any:
    import pyarrow as pa

    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    if hidden is not None and _MESSAGE in columns:
        pairs = zip(columns[_MESSAGE], columns[hidden], strict=True)
        columns[_MESSAGE] = tuple(without_path(str(message), str(where)) for message, where in pairs)
    arrays = [pa.array(columns[field.name], type=field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _type(declared: str) -> Any:
    import pyarrow as pa

    return {"INTEGER": pa.int64(), "REAL": pa.float64()}.get(declared, pa.string())
