"""First stage of ingest: read the header of every file once, and remember it by path, size and time.

The ledger is a table beside the catalog's. A file whose path, size and time are unchanged is not opened again, so a
call that was killed continues where it stopped, and tomorrow's call reads tomorrow's files only.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from volumes.archive import ZIP_MARK, locations, read_location
from volumes.catalog import Catalog
from volumes.instance import InstanceHeader, Refusal

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS ingest_state(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS ingest_files(
        location TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime REAL NOT NULL, run INTEGER NOT NULL,
        study_uid TEXT, header TEXT, reason TEXT, message TEXT)""",
    "CREATE INDEX IF NOT EXISTS ingest_files_by_study ON ingest_files(study_uid)",
)
_BATCH = 128  # outcomes per transaction
_POOL_FROM = 2000  # fewer new files are read in this process: starting others takes seconds
_CHUNK = 32  # files per job
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")  # uncompressed transfer syntaxes
_BELOW_A_BYTE = ("SEG",)  # modalities whose pixels may take one bit each
# headers of another form than today's are not trusted: then every file is read again
FORMAT = "2 " + " ".join(f.name for f in fields(InstanceHeader))
_TUPLES = tuple(f.name for f in fields(InstanceHeader) if str(f.type).startswith("tuple"))


@dataclass
class FileCounts:
    """How many files were opened in this call, were known from an earlier one, and are gone since then."""

    read: int = 0
    unchanged: int = 0
    gone: int = 0


def create_ledger(catalog: Catalog) -> None:
    """Make the ledger; empty it when it was written by another version."""
    for statement in _SCHEMA:
        catalog.connection.execute(statement)
    with catalog.transaction() as db:
        row = db.execute("SELECT value FROM ingest_state WHERE key = 'format'").fetchone()
        if row is None or row[0] != FORMAT:
            db.execute("DELETE FROM ingest_files")
            db.execute("INSERT OR REPLACE INTO ingest_state VALUES ('format', ?)", (FORMAT,))


def read_files(catalog: Catalog, roots: Sequence[Path], named: Sequence[str], run: int, workers: int) -> FileCounts:
    """Bring the ledger up to date with everything below `roots` and with the locations in `named`.

    What lay below the roots in an earlier call and is gone now leaves the ledger.
    """
    counts = FileCounts()
    first = set(named)  # a table of films and a folder may speak of the same files
    below = (place for place in locations(roots) if not isinstance(place, str) or place not in first)
    outcomes = _read(_wanted(catalog, chain(dict.fromkeys(named), below), run, counts), workers)
    with tqdm(desc="read headers", unit="file", disable=None) as bar:
        while batch := list(islice(outcomes, _BATCH)):
            with catalog.transaction() as db:
                rows = [_row(outcome, run) for outcome in batch]
                db.executemany("INSERT OR REPLACE INTO ingest_files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            counts.read += len(batch)
            bar.update(len(batch))
    with catalog.transaction() as db:
        counts.gone = _forget(db, roots, named, run)
    return counts


def load_header(text: str) -> InstanceHeader:
    """A header as the ledger keeps it."""
    stored: dict[str, Any] = json.loads(text)
    stored.update((name, tuple(stored[name])) for name in _TUPLES)
    return InstanceHeader(**stored)


@dataclass(frozen=True)
class _File:
    location: str
    size: int
    mtime: float


@dataclass(frozen=True)
class _Outcome:
    file: _File
    found: InstanceHeader | Refusal


def _wanted(
    catalog: Catalog, found: Iterable[str | Refusal], run: int, counts: FileCounts
) -> Iterator[_File | _Outcome]:
    """New and changed files, and what walking refused; unchanged files are marked as seen in this run."""
    db = catalog.connection
    for place in found:
        if isinstance(place, Refusal):
            yield _Outcome(_File(place.where, 0, 0.0), place)
            continue
        file = _stat(place)
        known = db.execute("SELECT size, mtime FROM ingest_files WHERE location = ?", (place,)).fetchone()
        if known is None or known != (file.size, file.mtime):
            yield file
        else:
            db.execute("UPDATE ingest_files SET run = ? WHERE location = ?", (run, place))
            counts.unchanged += 1


def _stat(location: str) -> _File:
    """Size and time of a file; of a member of a zip, those of the zip."""
    try:
        found = os.stat(location.partition(ZIP_MARK)[0])
    except OSError:
        return _File(location, -1, 0.0)  # reading it will say why
    return _File(location, found.st_size, found.st_mtime)


def _read(wanted: Iterator[_File | _Outcome], workers: int) -> Iterator[_Outcome]:
    """Read the headers, in this process when there are few, else in `workers` processes with a bounded queue."""
    first = list(islice(wanted, _POOL_FROM))
    if workers <= 1 or len(first) < _POOL_FROM:
        for file in chain(first, wanted):
            yield file if isinstance(file, _Outcome) else _look(file)
        return
    every = chain(first, wanted)
    # spawned, not forked: the caller may hold threads of torch
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[list[_Outcome]]] = deque()
        try:
            while chunk := list(islice(every, _CHUNK)):
                waiting.append(pool.submit(_look_all, chunk))
                if len(waiting) >= 4 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _look_all(files: Sequence[_File | _Outcome]) -> list[_Outcome]:
    return [file if isinstance(file, _Outcome) else _look(file) for file in files]


def _look(file: _File) -> _Outcome:
    found = read_location(file.location)
    if isinstance(found, InstanceHeader):
        short = _truncated(found)
        found = short or found
    return _Outcome(file, found)


def _truncated(header: InstanceHeader) -> Refusal | None:
    """A file that is smaller than its own pixels. A lower bound: one byte per pixel, uncompressed only."""
    least = header.rows * header.columns * header.frames
    if header.transfer_syntax not in _PLAIN or header.modality in _BELOW_A_BYTE or header.size >= least:
        return None
    message = (
        f"instance {header.sop_uid}: the file holds {header.size} bytes, its {header.frames} x {header.rows} x"
        f" {header.columns} pixels need at least {least}; fetch it again from the archive"
    )
    return Refusal(header.path, "truncated-file", message)


def _row(outcome: _Outcome, run: int) -> tuple[object, ...]:
    file, found = outcome.file, outcome.found
    if isinstance(found, Refusal):
        return (file.location, file.size, file.mtime, run, None, None, found.reason, found.message)
    header = json.dumps(asdict(found), ensure_ascii=False)
    return (file.location, file.size, file.mtime, run, found.study_uid, header, None, None)


def _forget(db: sqlite3.Connection, roots: Sequence[Path], named: Sequence[str], run: int) -> int:
    """Drop what this call should have met and did not: it is no longer there."""
    gone = 0
    for root in map(str, roots):
        for mark in (os.sep, ZIP_MARK):
            prefix = root.rstrip(os.sep) + mark
            query = "DELETE FROM ingest_files WHERE run != ? AND substr(location, 1, ?) = ?"
            gone += db.execute(query, (run, len(prefix), prefix)).rowcount
        gone += db.execute("DELETE FROM ingest_files WHERE run != ? AND location = ?", (run, root)).rowcount
    return gone
