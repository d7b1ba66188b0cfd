"""Findings that draft and reference share: pairing, sizes, changes, severities, denials and mentions of a prior."""

from __future__ import annotations

import math

import pytest

from evaluation.fact_pairs import (
    accuracy,
    change_table,
    contradictions,
    pair_facts,
    reversed_change,
    severity_within_one,
    size_errors,
)
from evaluation.prior_mentions import prior_mention_rate, prior_mentions
from reports.findings import Finding, find


def nodule(side: str | None = None, size: float | None = None, change: str | None = None, **more: str) -> Finding:
    return Finding("lung nodule", "present", side=side, size_mm=size, change=change, by="stated", **more)  # type: ignore[arg-type]


def test_the_pairing_keeps_sides_then_places_then_sizes() -> None:
    drafted = [[nodule("right", 9.0), nodule("left", 6.0), nodule("left", 20.0)]]
    reference = [[nodule("left", 21.0), nodule("right", 4.0), nodule("left", 5.0)]]

    pairs = pair_facts(drafted, reference)

    assert [(p.reference.size_mm, p.drafted.size_mm) for p in pairs] == [(21.0, 20.0), (4.0, 9.0), (5.0, 6.0)]
    assert {p.report for p in pairs} == {0}


def test_only_present_findings_of_one_name_are_paired_and_each_once() -> None:
    drafted = [[nodule("left"), nodule("right")], [Finding("lung mass", "present")]]
    reference = [[nodule("left"), Finding("lung nodule", "absent", side="right")], [nodule("left")]]

    assert [(p.drafted.side, p.reference.side) for p in pair_facts(drafted, reference)] == [("left", "left")]


def test_a_bilateral_finding_is_nearer_than_one_on_the_other_side() -> None:
    pairs = pair_facts([[nodule("right"), nodule("bilateral")]], [[nodule("left")]])

    assert [p.drafted.side for p in pairs] == ["bilateral"]


def test_size_errors_in_mm_by_hand() -> None:
    pairs = pair_facts(
        [[nodule(size=8.0)], [nodule(size=5.0)], [nodule()], [nodule(size=7.0)]],
        [[nodule(size=5.0)], [nodule(size=6.0)], [nodule(size=9.0)], [nodule()]],
    )
    found = size_errors(pairs)

    assert found.errors_mm.tolist() == [3.0, -1.0]
    assert (found.n, found.without_size) == (2, 1)
    assert found.mean_absolute_mm() == 2.0
    assert found.median_absolute_mm() == 2.0
    assert found.bias_mm() == 1.0
    assert found.within(2.0) == 0.5
    assert found.mean_relative() == pytest.approx((3 / 5 + 1 / 6) / 2)
    assert found.reports.tolist() == [0, 1]


def test_without_sizes_nothing_is_measured() -> None:
    found = size_errors(pair_facts([[nodule()]], [[nodule()]]))

    assert found.n == 0
    assert math.isnan(found.mean_absolute_mm())
    assert math.isnan(found.within())
    with pytest.raises(ValueError, match="lung nodule has the size nan mm, expected a positive number"):
        size_errors(pair_facts([[nodule(size=math.nan)]], [[nodule(size=3.0)]]))


def test_change_is_judged_where_both_speak_or_where_the_reference_does() -> None:
    pairs = pair_facts(
        [[nodule(change="increased")], [nodule(change="decreased")], [nodule()], [nodule(change="new")], [nodule()]],
        [[nodule(change="increased")], [nodule(change="increased")], [nodule(change="new")], [nodule()], [nodule()]],
    )
    both = accuracy(pairs, "change")
    asked = accuracy(pairs, "change", "stated in the reference")

    assert (both.count, both.of, both.unit) == (1, 2, "pairs with a change stated in both")
    assert (asked.count, asked.of) == (1, 3)
    assert reversed_change(pairs).value == 0.5
    assert change_table(pairs)["increased", "decreased"] == 1
    assert change_table(pairs)["not stated", "new"] == 1
    assert math.isnan(accuracy([], "change").value)
    with pytest.raises(ValueError, match='what is "colour", expected change, severity or location'):
        accuracy(pairs, "colour")


def test_severity_is_exact_or_within_one_level() -> None:
    pairs = pair_facts(
        [[nodule(severity="mild")], [nodule(severity="mild")], [nodule(severity="tiny")]],
        [[nodule(severity="mild")], [nodule(severity="moderate")], [nodule(severity="severe")]],
    )

    assert accuracy(pairs, "severity").value == pytest.approx(1 / 3)
    assert severity_within_one(pairs).value == pytest.approx(2 / 3)


def test_a_contradiction_is_a_denial_in_words() -> None:
    drafted = [find("Large pneumothorax. Edema."), find("Pneumothorax.")]
    reference = [find("No pneumothorax."), find("No left pneumothorax. Possible right pneumothorax.")]

    found = contradictions(drafted, reference)

    # edema is invented and not denied; in the second report another side may have one
    assert (found.count, found.of) == (1, 3)
    lungs = [find("The lungs are clear.")]
    assert any(fact.by == "implied" for fact in lungs[0])
    assert contradictions([find("Consolidation.")], lungs).count == 0


def test_mentions_of_an_earlier_study_are_counted_outside_of_the_comparison_section() -> None:
    texts = [
        "COMPARISON: Unchanged since the prior exam.\nFINDINGS: No pneumothorax.",
        "FINDINGS: Unchanged nodule. The effusion has increased since the prior exam. Normal heart.",
        "",
    ]

    assert prior_mentions(texts) == [0, 2, 0]
    assert prior_mention_rate(texts).value == pytest.approx(1 / 3)
    invented = prior_mention_rate(texts, has_prior=[True, False, False])
    assert (invented.count, invented.of, invented.unit) == (1, 2, "reports of studies without an earlier one")
    assert math.isnan(prior_mention_rate(texts, has_prior=[True, True, True]).value)
    assert prior_mention_rate(["again"], mentions=lambda sentence: False).count == 0
    with pytest.raises(ValueError, match="there are 1 texts and 2 entries of has_prior"):
        prior_mention_rate(["x"], [True, False])


def test_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="1 drafts and 2 references"):
        pair_facts([[]], [[], []])
    with pytest.raises(ValueError, match="1 drafts and 2 references"):
        contradictions([[]], [[], []])
