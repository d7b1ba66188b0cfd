"""Second stage of ingest: group the headers into studies, refuse what cannot be read, and write the catalog.

A study is written in one transaction, and only when one of its files or table rows has changed since the last call.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from tqdm import tqdm

from medvlm.film_table import FilmRow
from medvlm.ingest_ledger import files_at, headers_of
from volumes.catalog import Catalog
from volumes.errors import VolumeError
from volumes.geometry import same_place, stack
from volumes.instance import InstanceHeader, Refusal
from volumes.study import Series, Study, group_studies

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS ingest_studies(study_uid TEXT PRIMARY KEY, digest TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS ingest_rows(
        location TEXT PRIMARY KEY, patient_key TEXT NOT NULL, study_uid TEXT NOT NULL, view TEXT NOT NULL,
        source TEXT NOT NULL, table_ TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS ingest_rows_by_study ON ingest_rows(study_uid)",
    # the study that the file of a row names itself, and a digest of what the file says
    """CREATE TABLE IF NOT EXISTS ingest_row_files(
        location TEXT PRIMARY KEY, own_study TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS ingest_row_files_by_study ON ingest_row_files(own_study)",
)

if TYPE_CHECKING:
    from volumes.volume import Unit, View
# a row of a table of films may put a file into a study of the hospital's choice
_STUDY = "COALESCE(NULLIF(r.study_uid, ''), f.own_study)"
_ROW = "hex(f.digest) || '|' || r.patient_key || '|' || r.view || '|' || r.study_uid || '|' || r.location"
_MARKS = f"""
    SELECT study_uid, hex(digest) AS mark FROM ingest_parts WHERE study_uid != ''
    UNION ALL SELECT {_STUDY}, {_ROW} FROM ingest_rows r JOIN ingest_row_files f USING(location)
    UNION ALL SELECT f.own_study, {_ROW} FROM ingest_rows r JOIN ingest_row_files f USING(location)
    ORDER BY 1, 2"""
_ROWS = 10_000  # rows of tables looked up at a time
FORM = "2"  # raise it when studies are grouped or refused in another way: then all are written anew
_BATCH = 2000  # images per transaction, about


@dataclass(frozen=True)
class Stated:
    """What the caller says of NIfTI and NRRD files, which state neither."""

    unit: Unit = "raw"
    modality: str = ""


@dataclass
class StudyCounts:
    """How many studies were written in this call, were known, and are gone."""

    written: int = 0
    unchanged: int = 0
    gone: int = 0


def create_tables(catalog: Catalog) -> None:
    """Make the two tables of this stage."""
    for statement in _SCHEMA:
        catalog.connection.execute(statement)


def set_table_rows(catalog: Catalog, table: str, rows: Iterable[FilmRow]) -> list[Refusal]:
    """Replace what one table of films says; returns a refusal for each file that two rows claim differently."""
    clashes: list[Refusal] = []
    with catalog.transaction() as db:
        db.execute("DELETE FROM ingest_rows WHERE table_ = ?", (table,))
        for row in rows:
            mine = (row.patient_key, row.study_uid, row.view)
            query = "SELECT patient_key, study_uid, view FROM ingest_rows WHERE location = ?"
            known = db.execute(query, (row.location,)).fetchone()
            if known is not None and known != mine:
                message = "another row differs in patient, study or view of the same file: the first row counts"
                clashes.append(Refusal(row.source, "conflicting-row", message))
            elif known is None:
                values = (row.location, *mine, row.source, table)
                db.execute("INSERT INTO ingest_rows VALUES (?, ?, ?, ?, ?, ?)", values)
    return clashes


def write_studies(catalog: Catalog, stated: Stated) -> StudyCounts:
    """Bring the catalog's studies up to date with the ledger of files."""
    db = catalog.connection
    _look_up_rows(catalog)
    db.execute("CREATE TEMP TABLE IF NOT EXISTS now(study_uid TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID")
    with catalog.transaction():
        db.execute("DELETE FROM now")
        db.executemany("INSERT INTO now VALUES (?, ?)", _digests(db, stated))
    counts = StudyCounts()
    changed = "FROM now n LEFT JOIN ingest_studies s USING(study_uid) WHERE s.digest IS NOT n.digest"
    total = db.execute(f"SELECT COUNT(*) {changed}").fetchone()[0]
    counts.unchanged = db.execute("SELECT COUNT(*) FROM now").fetchone()[0] - total
    with tqdm(desc="write studies", total=total, unit="study", disable=None) as bar:
        after = ""
        while batch := db.execute(
            f"SELECT n.study_uid, n.digest {changed} AND n.study_uid > ? ORDER BY n.study_uid LIMIT 500", (after,)
        ).fetchall():
            _write_batch(catalog, batch, stated)
            after = batch[-1][0]
            counts.written += len(batch)
            bar.update(len(batch))
    counts.gone = _drop_gone(catalog)
    return counts


def _write_batch(catalog: Catalog, batch: Sequence[tuple[str, str]], stated: Stated) -> None:
    """Write studies, some thousand images per transaction."""
    waiting = iter(batch)
    for uid, digest in waiting:
        with catalog.transaction():
            catalog.forget_conclusion()
            images = _write_study(catalog, uid, digest, stated)
            while images < _BATCH and (more := next(waiting, None)):
                images += _write_study(catalog, *more, stated)


def _write_study(catalog: Catalog, uid: str, digest: str, stated: Stated) -> int:
    """Write one study anew; returns how many files it has."""
    db = catalog.connection
    study, patient = _study(db, uid, stated)
    _clear(db, uid)
    if study is None:  # a table put all its files into other studies
        db.execute("INSERT OR REPLACE INTO ingest_studies VALUES (?, ?)", (uid, digest))
        return 0
    if study.series or study.objects:
        catalog.add_study(study, patient or None)
    for refusal in study.refusals:
        catalog.add_refusal(refusal, uid)
    db.execute("INSERT OR REPLACE INTO ingest_studies VALUES (?, ?)", (uid, digest))
    return sum(one.n_instances for one in study.series) + len(study.objects)


def _drop_gone(catalog: Catalog) -> int:
    """Remove studies without a file, then patients without a study."""
    with catalog.transaction() as db:
        gone = "SELECT study_uid FROM ingest_studies WHERE study_uid NOT IN (SELECT study_uid FROM now)"
        uids = [uid for (uid,) in db.execute(gone)]
        for uid in uids:
            catalog.forget_conclusion()
            _clear(db, uid)
            db.execute("DELETE FROM ingest_studies WHERE study_uid = ?", (uid,))
        db.execute("DELETE FROM patients WHERE patient_key NOT IN (SELECT patient_key FROM studies)")
    return len(uids)


def _look_up_rows(catalog: Catalog) -> None:
    """Find out which study the file of each row of a table names itself."""
    with catalog.transaction() as db:
        db.execute("DELETE FROM ingest_row_files")
        after = ""
        while rows := db.execute(
            "SELECT location FROM ingest_rows WHERE location > ? ORDER BY location LIMIT ?", (after, _ROWS)
        ).fetchall():
            after = rows[-1][0]
            by_folder: dict[str, list[str]] = {}
            for (location,) in rows:
                folder, name = os.path.split(location)
                by_folder.setdefault(folder, []).append(name)
            for folder, names in by_folder.items():
                found = files_at(db, folder, names)
                values = ((os.path.join(folder, name), *told) for name, told in found.items())
                db.executemany("INSERT INTO ingest_row_files VALUES (?, ?, ?)", values)


def _digests(db: sqlite3.Connection, stated: Stated) -> Iterator[tuple[str, str]]:
    """Study UID and a digest of all that its catalog entry is made from."""
    current, digest = "", hashlib.sha256()
    for study, mark in db.execute(_MARKS):
        if study != current:
            if current:
                yield current, digest.hexdigest()
            current, digest = study, hashlib.sha256(f"{FORM} {stated!r}".encode())
        digest.update(mark.encode() + b"\n")
    if current:
        yield current, digest.hexdigest()


def _clear(db: sqlite3.Connection, uid: str) -> None:
    for table in ("instances", "series", "refusals", "remarks", "facts", "likenesses", "verified", "studies"):
        db.execute(f"DELETE FROM {table} WHERE study_uid = ?", (uid,))


def _headers(db: sqlite3.Connection, uid: str) -> Iterator[tuple[InstanceHeader, str, str]]:
    """Headers of a study, by location, with the patient and view that a table states."""
    rows = {
        location: (patient, view, study)
        for location, patient, view, study in db.execute(
            "SELECT r.location, r.patient_key, r.view, r.study_uid FROM ingest_rows r JOIN ingest_row_files f"
            " USING(location) WHERE f.own_study = ? OR r.study_uid = ?",
            (uid, uid),
        )
    }
    query = (
        "SELECT DISTINCT f.own_study FROM ingest_rows r JOIN ingest_row_files f USING(location) WHERE r.study_uid = ?"
    )
    sources = {uid, *(own for (own,) in db.execute(query, (uid,)))}
    found = (header for source in sorted(sources) for header in headers_of(db, source))
    for header in sorted(found, key=lambda h: h.path):
        patient, view, study = rows.get(header.path, ("", "", ""))
        if (study or header.study_uid) == uid:
            yield header, patient, view


def _study(db: sqlite3.Connection, uid: str, stated: Stated) -> tuple[Study | None, str]:
    """The study as it will stand in the catalog, and the patient that a table names (or empty)."""
    headers: list[InstanceHeader] = []
    views: dict[str, View] = {}
    patients: set[str] = set()
    for found, patient, view in _headers(db, uid):
        header = replace(found, study_uid=uid) if found.study_uid != uid else found
        if header.format != "dicom" and patient:
            header = replace(header, patient_key=patient, notes=())
            patients.add(patient)
        if view:
            views[header.path] = cast("View", view)
        headers.append(header)
    if not headers:
        return None, ""
    kept, told = _once(headers)
    study = group_studies(kept or headers[:1], unit=stated.unit, modality=stated.modality)[0]
    if not kept:
        study = replace(study, series=(), objects=(), refusals=())
    series, refused = _readable([_viewed(one, views) for one in study.series])
    study = replace(study, series=tuple(series), refusals=(*study.refusals, *told, *refused))
    return study, patients.pop() if len(patients) == 1 else ""


def _once(headers: Sequence[InstanceHeader]) -> tuple[list[InstanceHeader], list[Refusal]]:
    """Each instance once. Equal copies are dropped, which is a repair; unequal ones are all refused."""
    groups: dict[str, list[InstanceHeader]] = {}
    for header in headers:
        groups.setdefault(header.sop_uid, []).append(header)
    kept: list[InstanceHeader] = []
    told: list[Refusal] = []
    for uid, group in groups.items():
        patients = {header.patient_key for header in group}
        if len({header.sha256 for header in group}) > 1 or len(patients) > 1:
            what = "contents" if len(patients) == 1 else f"patients ({len(patients)})"
            message = f"{len(group)} files with different {what} carry the same instance {uid}: none can be trusted"
            told += [Refusal(header.path, "duplicate-uid", message) for header in group]
            continue
        kept.append(group[0])
        message = f"instance {uid} lies in the archive {len(group)} times with equal content: one is read"
        told += [Refusal(header.path, "duplicate-file", message, "repair") for header in group[1:]]
    return kept, told


def _viewed(series: Series, views: dict[str, View]) -> Series:
    """The view that a table states, for files that state none themselves."""
    view = views.get(series.instances[0].path, "unknown")
    return replace(series, view=view) if series.view == "unknown" and view != "unknown" else series


def _readable(series: Sequence[Series]) -> tuple[list[Series], list[Refusal]]:
    """Series whose slices make one regular stack, and a refusal for each other; films and files pass."""
    kept: list[Series] = []
    refused: list[Refusal] = []
    for one in series:
        try:
            _check_stack(one)
        except VolumeError as error:
            message = f"series {one.series_uid} ({one.modality}, {one.n_instances} images): {error}"
            refused.append(Refusal(one.instances[0].path, error.reason, message))
        else:
            kept.append(one)
    return kept, refused


def _check_stack(series: Series) -> None:
    """Raise VolumeError when the headers alone show that reading must fail (a missing slice, for example)."""
    slices = series.instances
    if len(slices) < 2 or not series.is_stack or series.is_localizer:
        return
    bare = [h for h in slices if not (h.position and h.orientation and h.pixel_spacing)]
    if bare:
        raise VolumeError(
            f"{len(bare)} of {len(slices)} images state no position, orientation or pixel spacing: their place in the"
            " patient is unknown",
            "no-position",
        )
    positions = np.array([h.position for h in slices])
    first = [group[0] for group in same_place(positions)]  # doubles are compared pixel by pixel when they are read
    if len(first) > 1:
        stack(
            positions[first],
            np.array([slices[n].orientation for n in first]),
            np.array([slices[n].pixel_spacing for n in first]),
        )
