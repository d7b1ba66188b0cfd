"""Splits by patient, and the audit that they are clean."""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from collections.abc import Sequence

SPLITS = ("train", "validation", "test")


def split_of(patient_key: str, fractions: Sequence[float], seed: int) -> str:
    """Split of one patient: HMAC-SHA256 keyed by the seed, as a number in [0, 1), against the running fractions."""
    digest = hmac.new(f"medvlm split {seed}".encode(), patient_key.encode(), hashlib.sha256).digest()
    number = int.from_bytes(digest[:8], "big") / 2**64
    if number < fractions[0]:
        return SPLITS[0]
    return SPLITS[1] if number < fractions[0] + fractions[1] else SPLITS[2]


def audit(db: sqlite3.Connection) -> list[str]:
    """What would make a score wrong in a catalog: shared patients, one image twice, empty splits."""
    found = [
        f"patient {key} has studies in several splits: {splits}"
        for key, splits in db.execute(
            "SELECT patient_key, GROUP_CONCAT(DISTINCT split) FROM studies GROUP BY patient_key"
            " HAVING COUNT(DISTINCT split) > 1"
        )
    ]
    for column, told in (("sop_uid", "SOP instance"), ("pixel_sha256", "identical pixels")):
        rows = db.execute(
            f"SELECT i.{column}, COUNT(*), COUNT(DISTINCT s.patient_key), COUNT(DISTINCT s.split),"
            " GROUP_CONCAT(DISTINCT s.study_uid) FROM instances i JOIN studies s USING(study_uid)"
            f" WHERE i.is_image AND i.{column} != '' GROUP BY i.{column} HAVING COUNT(*) > 1 ORDER BY MIN(i.rowid)"
        )
        found += [
            f"{told} {value[:16] if column != 'sop_uid' else value}: {count} files, {patients} patient(s),"
            f" {max(1, splits)} split(s), studies {uids}"
            for value, count, patients, splits, uids in rows
        ]
    unassigned = db.execute("SELECT COUNT(*) FROM studies WHERE split IS NULL").fetchone()[0]
    total = db.execute("SELECT COUNT(*) FROM studies").fetchone()[0]
    if unassigned:
        found.append(f"{unassigned} of {total} studies have no split: assign splits before training")
    elif total:
        held = {row[0] for row in db.execute("SELECT DISTINCT split FROM studies")}
        empty = [name for name in SPLITS if name not in held]
        found += [f"split {name} is empty ({total} studies in all): nothing can be measured on it" for name in empty]
    return found
