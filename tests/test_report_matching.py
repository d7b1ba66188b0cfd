"""Reports find their study by the strongest rule that applies, with its certainty, or are refused with numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medvlm.report_matching import DAYS_TO_REPORT, Match, match
from reports.sourced import SourcedReport
from volumes.catalog import Catalog
from volumes.instance import Refusal

STUDIES = [  # study, patient, accession, modality, date
    ("1.1", "p1", "A1", "ct", "20240110"),
    ("1.2", "p1", "A2", "ct", "20240210"),
    ("1.3", "p1", "", "xray", "20240110"),
    ("1.4", "p1", "TWIN", "mr", "20240310"),
    ("1.5", "p2", "TWIN", "mr", "20240310"),
    ("1.6", "p3", "", "ct", "20240110"),
    ("1.7", "p3", "", "ct", "20240111"),
    ("1.8", "p4", "", "ct", ""),
]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "catalog.db") as opened:
        with opened.transaction() as db:
            for uid, patient, accession, modality, date in STUDIES:
                db.execute("INSERT OR IGNORE INTO patients(patient_key) VALUES (?)", (patient,))
                row = (uid, patient, accession, modality, date, 0, None)
                db.execute("INSERT INTO studies VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        yield opened


def found(catalog: Catalog, **named: Any) -> Match | Refusal:
    return match(catalog.connection, SourcedReport("text", source="a.hl7", **named))


def ct(**named: Any) -> dict[str, Any]:
    return {"modality": "CT", "performed": "2024-01-10T12:00:00", **named}


@pytest.mark.parametrize(
    ("named", "study", "rule", "certainty"),
    [
        ({"study_uid": "1.1"}, "1.1", "study_uid", 1.0),
        ({"study_uid": "1.1", "accession": "A2"}, "1.1", "study_uid", 1.0),
        ({"study_uid": "9.9", "accession": "A2"}, "1.2", "accession", 1.0),
        ({"accession": "A1", "patient_key": "p1"}, "1.1", "accession", 1.0),
        ({"accession": "TWIN", "patient_key": "p2"}, "1.5", "accession and patient", 0.5),
        ({"accession": "TWIN", "patient_key": "p9", "other_keys": ("p1",)}, "1.4", "accession and patient", 0.5),
        (ct(patient_key="p1"), "1.1", "patient, modality and time", 0.5),  # two studies of that day
        (ct(patient_key="p9", other_keys=("p1",)), "1.1", "patient, modality and time", 0.5),
        (ct(patient_key="p1", modality="DX"), "1.3", "patient, modality and time", 0.5),
        (ct(patient_key="p1", modality="DX", accession="NEW"), "1.3", "patient, modality and time", 0.5),
        (ct(patient_key="p1", performed="2024-02-11T00:10:00"), "1.2", "patient, modality and time", 1.0),
        (
            {"patient_key": "p1", "modality": "CT", "issued": "2024-02-14T09:00:00"},
            "1.2",
            "patient, modality and time",
            1.0,
        ),
    ],
)
def test_the_strongest_rule_that_applies_finds_the_study(
    catalog: Catalog, named: dict[str, Any], study: str, rule: str, certainty: float
) -> None:
    one = found(catalog, **named)
    assert isinstance(one, Match), one
    assert (one.study_uid, one.by, one.certainty) == (study, rule, certainty)


@pytest.mark.parametrize(
    ("named", "reason", "message"),
    [
        ({"accession": "TWIN"}, "ambiguous-accession", "2 studies have this accession number: 1.4, 1.5. Give"),
        ({"accession": "TWIN", "patient_key": "p7"}, "ambiguous-accession", "2 studies have this accession number"),
        (ct(patient_key="p3"), "ambiguous-time", "2 studies of this patient and modality (CT) lie in its window of"
         " time: 1.6, 1.7. An accession number or a study UID in the report would settle it"),
        ({"accession": "A1", "patient_key": "p2"}, "other-patient", "about the patient p2, study 1.1 is of p1"),
        ({"study_uid": "1.1", "patient_key": "p2"}, "other-patient", "Check both for a mix-up"),
        ({"accession": "NO"}, "no-study", "no study of the catalog has either"),
        (ct(patient_key="p1", study_uid="9.9"), "no-study", "no study of the catalog has either"),  # another study
        (ct(patient_key="p1", accession="OTHER"), "no-study", "no study of the catalog has either"),
        (ct(patient_key="p1", performed="2024-01-13T00:00:00"), "no-study", "no study of its patient and modality"),
        (ct(patient_key="p4"), "no-study", "would say which one is meant"),  # its only study states no day
        (ct(), "no-study", "no study of its patient and modality"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_refused_with_numbers_and_advice(
    catalog: Catalog, named: dict[str, Any], reason: str, message: str
) -> None:
    one = found(catalog, **named)
    assert isinstance(one, Refusal), one
    assert one.reason == reason
    assert message in one.message


@pytest.mark.parametrize(("days", "matched"), [(-2, False), (-1, True), (0, True), (DAYS_TO_REPORT, True), (8, False)])
def test_a_report_that_states_only_its_own_time_is_of_the_week_before(
    catalog: Catalog, days: int, matched: bool
) -> None:
    one = found(catalog, patient_key="p1", modality="CT", issued=f"2024-02-{10 + days:02d}T09:00:00")
    assert isinstance(one, Match) == matched


def test_what_agrees_less_than_it_could_is_noted(catalog: Catalog) -> None:
    one = found(catalog, study_uid="9.9", accession="A1", modality="MR")
    assert isinstance(one, Match)
    assert one.notes == (
        "the report names no patient",
        "the report names a study UID that the catalog does not hold",
        "the report says MR, the study is filed under ct",
    )
    other = found(catalog, study_uid="1.1", accession="A9", patient_key="p1")
    assert isinstance(other, Match)
    assert other.notes == ("the study has another accession number",)


def test_a_report_of_a_refused_study_says_so(catalog: Catalog) -> None:
    catalog.add_refusal(Refusal("x", "several-patients", "message"), "2.2")
    one = found(catalog, study_uid="2.2")
    assert isinstance(one, Refusal)
    assert (one.reason, "its study was refused (several-patients)" in one.message) == ("study-refused", True)
