"""The audit of a catalog: what would make a score wrong, and what the archive does not hold though it says so.

Every question is one query that walks an index, so that a million instances take seconds; of each kind at most a
hundred examples are told, and how many there are in all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from volumes.splits import SPLITS
from volumes.study_audit import Remark

MOST = 100  # examples of one kind
_SHOWN = 8  # studies named in one example


def audit(db: sqlite3.Connection, most: int = MOST) -> list[Remark]:
    """Everything that was found, the worst kind first; at most `most` of each kind and one line for the rest."""
    found: list[Remark] = []
    for question in QUESTIONS:
        left_out: dict[str, int] = {}
        told: dict[str, int] = {}
        for remark in question(db):
            told[remark.kind] = told.get(remark.kind, 0) + 1
            if told[remark.kind] <= most:
                found.append(remark)
            else:
                left_out[remark.kind] = left_out.get(remark.kind, 0) + 1
        found += [Remark(kind, f"{kind}: {count} more of the same kind") for kind, count in left_out.items()]
    return found


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """How many of each kind there are, the worst kind first."""
    found: dict[str, int] = {}
    for question in QUESTIONS:
        for remark in question(db):
            found[remark.kind] = found.get(remark.kind, 0) + 1
    return found


def _shared_patients(db: sqlite3.Connection) -> Iterator[Remark]:
    query = (
        "SELECT patient_key, GROUP_CONCAT(DISTINCT split) FROM studies GROUP BY patient_key"
        " HAVING COUNT(DISTINCT split) > 1"
    )
    for key, splits in db.execute(query):
        yield Remark("shared-patient", f"patient {key} has studies in several splits: {splits}")


def _doubles(db: sqlite3.Connection, column: str) -> Iterator[tuple[str, int, int, int, str, int]]:
    """Value, files, patients, splits, studies and contents of what more than one image carries."""
    twice = f"SELECT {column} FROM instances WHERE {column} != '' GROUP BY {column} HAVING COUNT(*) > 1"
    yield from db.execute(  # a file that holds several images stands in several rows
        f"SELECT i.{column}, COUNT(DISTINCT i.path), COUNT(DISTINCT s.patient_key), MAX(1, COUNT(DISTINCT s.split)),"
        " GROUP_CONCAT(DISTINCT s.study_uid), COUNT(DISTINCT i.sha256)"
        f" FROM ({twice}) t CROSS JOIN instances i ON i.{column} = t.{column} JOIN studies s USING(study_uid)"
        f" WHERE i.is_image GROUP BY i.{column} HAVING COUNT(DISTINCT i.path) > 1 ORDER BY i.{column}"
    )


def _double_instances(db: sqlite3.Connection) -> Iterator[Remark]:
    for uid, files, patients, splits, studies, contents in _doubles(db, "sop_uid"):
        where = f"{files} files, {patients} patient(s), {splits} split(s), studies {studies}"
        if contents > 1:
            yield Remark("conflicting-instance", f"SOP instance {uid} has {contents} different contents: {where}")
        else:
            yield Remark("duplicate-instance", f"SOP instance {uid}: {where}")


def _double_pixels(db: sqlite3.Connection) -> Iterator[Remark]:
    for digest, files, patients, splits, studies, _ in _doubles(db, "pixel_sha256"):
        text = f"identical pixels {digest[:16]}: {files} files, {patients} patient(s), {splits} split(s), studies"
        yield Remark("duplicate-pixels", f"{text} {studies}")


def _conflicting_persons(db: sqlite3.Connection) -> Iterator[Remark]:
    query = (
        "SELECT s.patient_key, f.name, COUNT(DISTINCT f.value), GROUP_CONCAT(DISTINCT s.study_uid)"
        " FROM facts f JOIN studies s USING(study_uid) WHERE f.name IN ('birth', 'sex')"
        " GROUP BY s.patient_key, f.name HAVING COUNT(DISTINCT f.value) > 1 ORDER BY f.name, s.patient_key"
    )
    words = {"birth": "birth dates", "sex": "sexes"}
    for key, name, values, studies in db.execute(query):
        text = f"patient {key} has {values} different {words[name]}: one ID may stand for two people; studies {studies}"
        yield Remark("conflicting-person", text)


def _shared_accessions(db: sqlite3.Connection) -> Iterator[Remark]:
    query = (
        "SELECT COUNT(*), COUNT(DISTINCT patient_key), GROUP_CONCAT(study_uid) FROM studies WHERE accession != ''"
        " GROUP BY accession HAVING COUNT(*) > 1 ORDER BY MIN(study_uid)"
    )
    for studies, patients, uids in db.execute(query):  # the number itself may identify a patient
        shown = ", ".join(sorted(uids.split(","))[:_SHOWN]) + (", ..." if studies > _SHOWN else "")
        text = f"one accession number in {studies} studies of {patients} patient(s): {shown}"
        yield Remark("shared-accession", text)


def _missing_series(db: sqlite3.Connection) -> Iterator[Remark]:
    query = (
        "SELECT study_uid, value FROM facts f WHERE name = 'reference' AND NOT EXISTS"
        " (SELECT 1 FROM series s WHERE s.series_uid = f.value) ORDER BY study_uid, value"
    )
    for study, series in db.execute(query):
        text = f"study {study}: a report, mask or contour speaks of series {series}, which is not in the catalog"
        yield Remark("missing-series", text)


def _remarks(db: sqlite3.Connection) -> Iterator[Remark]:
    for kind, message in db.execute("SELECT kind, message FROM remarks ORDER BY kind DESC, study_uid, message"):
        yield Remark(kind, message)


def _splits(db: sqlite3.Connection) -> Iterator[Remark]:
    total, unassigned = db.execute("SELECT COUNT(*), COUNT(*) - COUNT(split) FROM studies").fetchone()
    if unassigned:
        text = f"{unassigned} of {total} studies have no split: assign splits before training"
        yield Remark("no-split", text)
    elif total:
        held = {row[0] for row in db.execute("SELECT DISTINCT split FROM studies")}
        for name in SPLITS:
            if name not in held:
                text = f"split {name} is empty ({total} studies in all): nothing can be measured on it"
                yield Remark("empty-split", text)


def _undecodable(db: sqlite3.Connection) -> Iterator[Remark]:
    query = (
        "SELECT DISTINCT v.study_uid, i.series_uid, i.sop_uid, v.reason FROM verified v JOIN instances i USING(path)"
        " WHERE v.reason != '' ORDER BY v.study_uid, i.series_uid, i.sop_uid"
    )
    for study, series, uid, reason in db.execute(query):
        text = f"study {study}, series {series}: the pixels of instance {uid} cannot be decoded ({reason})"
        yield Remark("damaged-pixels", text)


def _near_duplicates(db: sqlite3.Connection) -> Iterator[Remark]:
    from volumes.likeness import near_duplicates  # numpy is not needed for the other questions

    for text in near_duplicates(db):
        yield Remark("near-duplicate", text)


QUESTIONS: tuple[Callable[[sqlite3.Connection], Iterator[Remark]], ...] = (
    _shared_patients,
    _double_instances,
    _double_pixels,
    _near_duplicates,
    _undecodable,
    _conflicting_persons,
    _shared_accessions,
    _missing_series,
    _remarks,
    _splits,
)
"""The questions of the audit, the worst kind first."""
