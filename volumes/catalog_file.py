"""The file of a catalog: its tables, its version, and what its errors mean.

SQLite with a write-ahead log: one writer, many readers, whole after a crash at any moment.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from volumes.errors import VolumeError

SCHEMA_VERSION = 2
_OLDER = (1,)  # versions that `create` can bring up to date; the next ingest fills what they lack

_SCHEMA = """
CREATE TABLE IF NOT EXISTS patients(patient_key TEXT PRIMARY KEY, split TEXT);
CREATE TABLE IF NOT EXISTS studies(
    study_uid TEXT PRIMARY KEY, patient_key TEXT NOT NULL REFERENCES patients(patient_key), accession TEXT NOT NULL,
    modality TEXT NOT NULL, date TEXT NOT NULL, simulated INTEGER NOT NULL, split TEXT);
CREATE INDEX IF NOT EXISTS studies_by_patient ON studies(patient_key);
CREATE INDEX IF NOT EXISTS studies_by_accession ON studies(accession);
CREATE TABLE IF NOT EXISTS series(
    study_uid TEXT NOT NULL REFERENCES studies(study_uid), series_uid TEXT NOT NULL, part TEXT NOT NULL,
    modality TEXT NOT NULL, kind TEXT NOT NULL, view TEXT NOT NULL, body_part TEXT NOT NULL, unit TEXT NOT NULL,
    n_instances INTEGER NOT NULL, PRIMARY KEY(study_uid, series_uid, part));
CREATE INDEX IF NOT EXISTS series_by_uid ON series(series_uid);
CREATE TABLE IF NOT EXISTS instances(
    path TEXT NOT NULL, study_uid TEXT NOT NULL REFERENCES studies(study_uid), series_uid TEXT NOT NULL,
    part TEXT NOT NULL, sop_uid TEXT NOT NULL, size INTEGER NOT NULL, mtime REAL NOT NULL, sha256 TEXT NOT NULL,
    pixel_sha256 TEXT NOT NULL, is_image INTEGER NOT NULL, place INTEGER NOT NULL,
    PRIMARY KEY(path, part));
CREATE INDEX IF NOT EXISTS instances_by_series ON instances(study_uid, series_uid, part);
CREATE INDEX IF NOT EXISTS instances_by_sop ON instances(sop_uid);
CREATE INDEX IF NOT EXISTS instances_by_pixels ON instances(pixel_sha256);
CREATE TABLE IF NOT EXISTS refusals(
    where_ TEXT NOT NULL, kind TEXT NOT NULL CHECK(kind IN ('repair', 'refusal')), reason TEXT NOT NULL,
    message TEXT NOT NULL, study_uid TEXT NOT NULL DEFAULT '', UNIQUE(where_, kind, reason, message));
CREATE TABLE IF NOT EXISTS runs(
    run_id INTEGER PRIMARY KEY, started TEXT NOT NULL, finished TEXT, command TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS refusals_by_study ON refusals(study_uid);
CREATE TABLE IF NOT EXISTS remarks(study_uid TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS remarks_by_study ON remarks(study_uid);
CREATE TABLE IF NOT EXISTS facts(
    study_uid TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(study_uid, name, value)
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS likenesses(
    study_uid TEXT NOT NULL, series_uid TEXT NOT NULL, part TEXT NOT NULL, digest TEXT NOT NULL, thumbnail BLOB,
    PRIMARY KEY(study_uid, series_uid, part));
CREATE TABLE IF NOT EXISTS verified(
    study_uid TEXT NOT NULL, path TEXT PRIMARY KEY, sha256 TEXT NOT NULL, shape TEXT NOT NULL, dtype TEXT NOT NULL,
    reason TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS verified_by_study ON verified(study_uid);
CREATE TABLE IF NOT EXISTS conclusion(request TEXT NOT NULL, summary TEXT NOT NULL);
"""


def create_file(path: Path) -> sqlite3.Connection:
    """Make a catalog with empty tables, or open the one that is there and bring it up to date."""
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(path)
        _check_version(path, connection, (0, *_OLDER, SCHEMA_VERSION))
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return connection


def open_file(path: Path) -> sqlite3.Connection:
    """Open a catalog of today's version, also on a disk that cannot be written."""
    with _explained(path):
        connection = _connect(path)
        _check_version(path, connection, (SCHEMA_VERSION,))
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30.0, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        connection.close()
        if "readonly" not in str(error) or path.with_name(path.name + "-wal").exists():
            raise
        # a finished catalog on a disk that nobody can write to needs neither a log nor locks
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", isolation_level=None, uri=True)
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last studies, never the file
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _check_version(path: Path, connection: sqlite3.Connection, good: Sequence[int]) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version not in good:
        connection.close()
        raise VolumeError(
            f"{path}: catalog version {version}, not {SCHEMA_VERSION}; ingest the archive again", "bad-catalog"
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the database says into our words."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(path, error) from error


def explained(path: Path, error: sqlite3.Error) -> VolumeError:
    """A VolumeError that says what to do about an error of the database."""
    words = str(error)
    if "is full" in words:
        message = "the disk is full; make room and call again: what was committed is whole, the rest is read again"
        return VolumeError(f"{path}: {message}", "disk-full")
    if "readonly" in words or "unable to open" in words:
        message = f"the catalog cannot be written there ({words}); name a file in a folder that you may write to"
        return VolumeError(f"{path}: {message}", "not-writable")
    if "locked" in words:
        message = "another process has been writing for more than 30 s; wait for it and call again"
        return VolumeError(f"{path}: {message}", "catalog-busy")
    if "disk I/O error" in words:
        message = "the disk failed to write or read; check that it is there and has room, then call again"
        return VolumeError(f"{path}: {message}", "disk-error")
    return VolumeError(f"{path}: not a catalog: {words}", "bad-catalog")
