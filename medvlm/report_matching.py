"""Which study a report is about: by study UID, else accession number, else table row, else patient, modality and time.

Every match carries its rule and its certainty: 1 divided by the number of studies that the first identifier of the rule
leaves open by itself. 1 means that it named one study; 0.5 for "accession and patient" means that two studies have the
accession number and the patient told them apart. It is a share of candidates, no probability. Where a rule leaves
several studies, the report is refused with their number and with what would settle it.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reports.modality import same_modality
from reports.sourced import SourcedReport
from volumes.instance import Refusal

DAYS_OF_EXAMINATION = 1
"""A stated time of the examination may lie in the next day of another time zone."""
DAYS_TO_REPORT = 7
"""A report that states only when it was issued is about an examination of the week before."""
_SHOWN = 5  # studies named in a refusal


@dataclass(frozen=True)
class Match:
    """A report's study, the rule that found it, its certainty in (0, 1], and what else was noticed."""

    study_uid: str
    by: str
    certainty: float = 1.0
    notes: tuple[str, ...] = ()


class _Study(NamedTuple):
    uid: str
    patient: str
    accession: str
    modality: str
    date: str


def match(db: sqlite3.Connection, report: SourcedReport) -> Match | Refusal:
    """The study of a report in the tables of a catalog, or why there is none."""
    found, by, opened = _named(db, report)
    if not found:
        found, by, opened = _by_patient(db, report)
    what = f"report with accession {report.accession or 'none'} and study UID {report.study_uid or 'none'}"
    if not found:
        return _unmatched(db, report, what)
    if len(found) > 1:
        return _ambiguous(report, found, by, what)
    study, keys = found[0], _keys(report)
    if keys and study.patient not in keys:
        message = (
            f"{what}: the report is about the patient {keys[0]}, study {study.uid} is of {study.patient}"
            " (pseudonyms). Check both for a mix-up"
        )
        return Refusal(report.source, "other-patient", message)
    return Match(study.uid, by, 1 / opened, tuple(_notes(report, study)))


def _named(db: sqlite3.Connection, report: SourcedReport) -> tuple[list[_Study], str, int]:
    """(studies, rule, studies that its first identifier leaves open), by what names a study outright."""
    if report.study_uid and (found := _studies(db, "study_uid = ?", report.study_uid)):
        return found, "study_uid", 1
    if report.accession and (found := _studies(db, "accession = ?", report.accession)):
        keys = _keys(report)
        of_patient = [study for study in found if study.patient in keys]
        if len(found) > 1 and len(of_patient) == 1:
            return of_patient, "accession and patient", len(found)
        return found, "accession", len(found)
    if report.image:
        found = _studies(db, "study_uid = (SELECT study_uid FROM instances WHERE path = ?)", report.image)
        return found, "table row", 1
    return [], "", 1


def _by_patient(db: sqlite3.Connection, report: SourcedReport) -> tuple[list[_Study], str, int]:
    """Studies of the report's patient and modality in its window of time.

    A report that names a study UID is about that study and no other; a study with another accession number is not the
    report's.
    """
    keys = _keys(report)
    if report.study_uid or report.image or not keys or not report.modality or not (report.performed or report.issued):
        return [], "", 1
    marks = ", ".join("?" * len(keys))
    near = [study for study in _studies(db, f"patient_key IN ({marks})", *keys) if _in_window(report, study)]
    found = [
        study for study in near
        if same_modality(report.modality, study.modality)
        and not (report.accession and study.accession and report.accession != study.accession)
    ]  # fmt: skip
    return found, "patient, modality and time", max(1, len(near))


def _in_window(report: SourcedReport, study: _Study) -> bool:
    try:
        day = dt.datetime.strptime(study.date, "%Y%m%d").date()
        told = dt.date.fromisoformat((report.performed or report.issued)[:10])
    except ValueError:
        return False
    after = (told - day).days
    return -DAYS_OF_EXAMINATION <= after <= (DAYS_OF_EXAMINATION if report.performed else DAYS_TO_REPORT)


def _keys(report: SourcedReport) -> tuple[str, ...]:
    return (report.patient_key, *report.other_keys) if report.patient_key else ()


def _notes(report: SourcedReport, study: _Study) -> list[str]:
    """What agrees less than it could, for people who check matches."""
    notes = []
    if not report.patient_key:
        notes.append("the report names no patient")
    if report.study_uid and report.study_uid != study.uid:
        notes.append("the report names a study UID that the catalog does not hold")
    if report.accession and study.accession and report.accession != study.accession:
        notes.append("the study has another accession number")
    if report.modality and not same_modality(report.modality, study.modality):
        notes.append(f"the report says {report.modality}, the study is filed under {study.modality}")
    return notes


def _studies(db: sqlite3.Connection, where: str, *values: str) -> list[_Study]:
    query = f"SELECT study_uid, patient_key, accession, modality, date FROM studies WHERE {where} ORDER BY study_uid"
    return [_Study(*row) for row in db.execute(query, values)]


def _ambiguous(report: SourcedReport, found: Sequence[_Study], by: str, what: str) -> Refusal:
    uids = ", ".join(study.uid for study in found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
    if by == "patient, modality and time":
        message = (
            f"{what}: {len(found)} studies of this patient and modality ({report.modality}) lie in its window of time:"
            f" {uids}. An accession number or a study UID in the report would settle it"
        )
        return Refusal(report.source, "ambiguous-time", message)
    message = f"{what}: {len(found)} studies have this accession number: {uids}. Give the report a study UID"
    return Refusal(report.source, "ambiguous-accession", message)


def _unmatched(db: sqlite3.Connection, report: SourcedReport, what: str) -> Refusal:
    if report.image and not report.study_uid and not report.accession:
        message = "the film of this table row is not in the catalog: it was refused or not ingested"
        return Refusal(report.source, "study-refused", message)
    query = "SELECT reason FROM refusals WHERE study_uid = ? AND study_uid != '' AND kind = 'refusal'"
    refused = db.execute(query, (report.study_uid,)).fetchone()
    if refused is not None:
        return Refusal(report.source, "study-refused", f"{what}: its study was refused ({refused[0]})")
    message = f"{what}: no study of the catalog has either; ingest the archive that holds it, or drop the report"
    if not report.study_uid and not report.accession:
        message = (
            f"{what}: no study of its patient and modality ({report.modality}) lies in its window of time; an accession"
            " number or a study UID in the report would say which one is meant"
        )
    return Refusal(report.source, "no-study", message)
