"""Findings of a draft against findings of a reference, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.clinical import (
    FindingTable,
    finding_f1,
    finding_f1_from_texts,
    hallucination_rate,
    laterality_error,
    omission_rate,
    present,
    sides,
)
from reports.findings import Finding

DRAFTED = [{"edema", "mass"}, {"edema"}, set(), set()]
REFERENCE = [{"edema"}, {"edema", "nodule"}, {"nodule"}, set()]
# TP 2 (edema twice), FP 1 (mass), FN 2 (nodule twice)


def test_three_averages_by_hand() -> None:
    found = finding_f1(DRAFTED, REFERENCE)

    assert found.micro == pytest.approx(4 / 7)
    assert found.per_finding == {"edema": 1.0, "mass": 0.0, "nodule": 0.0}
    assert found.macro == pytest.approx(0.5)  # edema and nodule; no reference has a mass
    assert found.not_in_reference == ("mass",)
    assert found.example == pytest.approx((2 / 3 + 2 / 3 + 0 + 1) / 4)
    assert found.n == 4


def test_names_limit_what_counts() -> None:
    found = finding_f1(DRAFTED, REFERENCE, names=["edema"])

    assert (found.micro, found.macro) == (1.0, 1.0)


def test_nothing_anywhere_has_no_micro_f1_and_is_right_report_by_report() -> None:
    found = finding_f1([set(), set()], [set(), set()])

    assert math.isnan(found.micro)
    assert math.isnan(found.macro)
    assert found.example == 1.0


def test_texts_go_through_the_labeller_that_was_handed_in() -> None:
    def words(text: str) -> set[str]:
        return {word for word in ("edema", "mass") if word in text}

    assert finding_f1_from_texts(["edema here", "clear"], ["edema", "mass"], words).micro == pytest.approx(2 / 3)


def test_hallucinations_and_omissions_have_different_units() -> None:
    wrong, missed = hallucination_rate(DRAFTED, REFERENCE), omission_rate(DRAFTED, REFERENCE)

    assert (wrong.count, wrong.of, wrong.unit) == (1, 3, "findings drafted as present")
    assert (missed.count, missed.of, missed.unit) == (2, 4, "findings present in the reference")
    assert wrong.value == pytest.approx(1 / 3)
    assert missed.value == 0.5
    assert math.isnan(hallucination_rate([set()], [{"mass"}]).value)
    assert omission_rate([set()], [{"mass"}]).value == 1.0


def test_a_resample_of_the_table_repeats_reports() -> None:
    table = FindingTable.of(DRAFTED, REFERENCE)

    assert table.rows(np.array([0, 0])).hallucination_rate() == 0.5
    assert table.rows(np.array([1, 1, 1])).omission_rate() == 0.5


def test_sides_are_compared_only_where_both_say_one() -> None:
    drafted = [
        {"effusion": ["left"], "nodule": ["right"], "edema": []},
        {"effusion": ["bilateral"]},
        {"mass": ["left"]},
    ]
    reference = [{"effusion": ["right"], "nodule": ["right"], "edema": ["left"]}, {"effusion": ["left"]}, {}]

    loose, strict = laterality_error(drafted, reference, "swap"), laterality_error(drafted, reference)

    assert (loose.count, loose.of) == (1, 3)
    assert (strict.count, strict.of) == (2, 3)
    assert loose.unit == "findings with a side in both"
    assert math.isnan(laterality_error([{}], [{}]).value)


def test_findings_become_names_and_sides() -> None:
    findings = (
        Finding("pleural effusion", "present", side="left"),
        Finding("pleural effusion", "present", side="right"),
        Finding("lung nodule", "present", side="bilateral"),
        Finding("cardiomegaly", "present"),
        Finding("pneumothorax", "absent", side="left"),
        Finding("lung mass", "uncertain", side="right"),
    )

    assert present(findings) == {"pleural effusion", "lung nodule", "cardiomegaly"}
    assert sides(findings) == {
        "pleural effusion": {"left", "right"},
        "lung nodule": {"left", "right"},
        "cardiomegaly": set(),
    }


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="1 drafts and 2 references"):
        finding_f1([set()], [set(), set()])
    with pytest.raises(ValueError, match=r"side \['port'\] is not known"):
        laterality_error([{"mass": ["port"]}], [{"mass": ["left"]}])
