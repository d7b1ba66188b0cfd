"""Second stage of ingest: group the headers into studies, refuse what cannot be read, and write the catalog.

A study is written in one transaction, and only when one of its files or table rows has changed since the last call.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from medvlm.film_table import FilmRow
from medvlm.ingest_files import load_header
from volumes.catalog import Catalog
from volumes.geometry import same_place, stack
from volumes.instance import InstanceHeader, Refusal
from volumes.study import Series, Study, group_studies
from volumes.volume import Unit, View, VolumeError

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS ingest_studies(study_uid TEXT PRIMARY KEY, digest TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS ingest_rows(
        location TEXT PRIMARY KEY, patient_key TEXT NOT NULL, study_uid TEXT NOT NULL, view TEXT NOT NULL,
        source TEXT NOT NULL, table_ TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS ingest_rows_by_study ON ingest_rows(study_uid)",
)
# a row of a table of films may put a file into a study of the hospital's choice
_STUDY = "COALESCE(NULLIF(r.study_uid, ''), f.study_uid)"
_FILES_OF_STUDY = """
    SELECT f.header, r.patient_key, r.view, f.location
    FROM ingest_files f LEFT JOIN ingest_rows r ON r.location = f.location
    WHERE f.study_uid = ? AND f.header IS NOT NULL AND COALESCE(r.study_uid, '') = ''
    UNION ALL
    SELECT f.header, r.patient_key, r.view, f.location FROM ingest_rows r JOIN ingest_files f ON f.location = r.location
    WHERE r.study_uid = ? AND f.header IS NOT NULL
    ORDER BY 4"""
_FILES = "ingest_files f LEFT JOIN ingest_rows r ON r.location = f.location WHERE f.header IS NOT NULL"


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
    digests = dict(_digests(db, stated))
    known = dict(db.execute("SELECT study_uid, digest FROM ingest_studies").fetchall())
    changed = [uid for uid, digest in digests.items() if known.get(uid) != digest]
    gone = [uid for uid in known if uid not in digests]
    for uid in tqdm(changed, desc="write studies", unit="study", disable=None):
        study, patient = _study(db, uid, stated)
        with catalog.transaction():
            _clear(db, uid)
            if study.series or study.objects:
                catalog.add_study(study, patient or None)
            for refusal in study.refusals:
                catalog.add_refusal(refusal, uid)
            db.execute("INSERT OR REPLACE INTO ingest_studies VALUES (?, ?)", (uid, digests[uid]))
    with catalog.transaction():
        for uid in gone:
            _clear(db, uid)
            db.execute("DELETE FROM ingest_studies WHERE study_uid = ?", (uid,))
        db.execute("DELETE FROM patients WHERE patient_key NOT IN (SELECT patient_key FROM studies)")
    return StudyCounts(len(changed), len(digests) - len(changed), len(gone))


def _digests(db: sqlite3.Connection, stated: Stated) -> Iterator[tuple[str, str]]:
    """Study UID and a digest of all that its catalog entry is made from."""
    query = (
        f"SELECT {_STUDY} AS study, f.location, f.size, f.mtime, r.patient_key, r.view FROM {_FILES}"
        " ORDER BY study, f.location"
    )
    current, digest = "", hashlib.sha256()
    for study, *rest in db.execute(query):
        if study != current:
            if current:
                yield current, digest.hexdigest()
            current, digest = study, hashlib.sha256(repr(stated).encode())
        digest.update(repr(rest).encode())
    if current:
        yield current, digest.hexdigest()


def _clear(db: sqlite3.Connection, uid: str) -> None:
    for table in ("instances", "series", "refusals", "studies"):
        db.execute(f"DELETE FROM {table} WHERE study_uid = ?", (uid,))


def _study(db: sqlite3.Connection, uid: str, stated: Stated) -> tuple[Study, str]:
    """The study as it will stand in the catalog, and the patient that a table names (or empty)."""
    headers: list[InstanceHeader] = []
    views: dict[str, View] = {}
    patients: set[str] = set()
    for text, patient, view, _ in db.execute(_FILES_OF_STUDY, (uid, uid)).fetchall():
        header = replace(load_header(text), study_uid=uid)
        if header.format != "dicom" and patient:
            header = replace(header, patient_key=patient, notes=())
            patients.add(patient)
        views[header.path] = view or "unknown"
        headers.append(header)
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
    view = views[series.instances[0].path]
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
    if series.kind != "volume" or series.format != "dicom" or len(slices) < 2 or slices[0].frames > 1:
        return
    if series.is_localizer:
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
