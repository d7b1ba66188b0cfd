"""Intervals resample patients: studies of one patient never count as independent."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import stats

from evaluation.classification import macro_auroc
from evaluation.intervals import (
    clustered_mean,
    effective_degrees,
    interval,
    paired_difference,
    patient_bootstrap,
    patient_bootstrap_many,
)


def test_the_mean_of_independent_patients_has_the_textbook_interval() -> None:
    values = np.random.default_rng(1).normal(10, 2, 400)

    found = patient_bootstrap(values, [str(row) for row in range(400)], seed=3)

    standard_error = values.std(ddof=1) / math.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    assert (found.n, found.groups, found.undefined) == (400, 400, 0)


def test_ten_copies_of_each_patient_do_not_shrink_the_interval() -> None:
    values = np.random.default_rng(2).normal(size=60)
    once = patient_bootstrap(values, list(range(60)), seed=5)
    copied = patient_bootstrap(np.repeat(values, 10), np.repeat(np.arange(60), 10).tolist(), seed=5)

    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=1e-9)
    assert (copied.n, copied.groups) == (600, 60)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another_one() -> None:
    values, groups = np.arange(30.0), list(range(30))

    assert patient_bootstrap(values, groups, seed=1) == patient_bootstrap(values, groups, seed=1)
    assert patient_bootstrap(values, groups, seed=1) != patient_bootstrap(values, groups, seed=2)


def test_rows_without_a_value_do_not_count() -> None:
    found = patient_bootstrap([1.0, math.nan, 3.0, 2.0], ["a", "b", "c", "c"])

    assert found.value == pytest.approx(2.0)
    assert (found.n, found.groups) == (3, 2)


def test_one_patient_has_a_value_and_no_interval() -> None:
    found = patient_bootstrap([1.0, 2.0], ["a", "a"])

    assert found.value == 1.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_undefined_resamples_are_counted_and_left_out() -> None:
    labels = np.array([1.0] + [0.0] * 9)

    def positives_or_nan(rows: np.ndarray) -> float:
        return float(labels[rows].sum()) if labels[rows].any() else math.nan

    found = patient_bootstrap(positives_or_nan, list(range(10)), n=500)

    assert found.undefined == pytest.approx(500 * 0.9**10, rel=0.2)  # the one positive is not drawn
    assert found.low >= 1


def test_pairing_removes_what_both_models_share() -> None:
    rng = np.random.default_rng(4)
    hard = rng.normal(0, 5, 100)
    first, second = hard + 1.0 + rng.normal(0, 0.1, 100), hard

    found = paired_difference(lambda rows: first[rows].mean(), lambda rows: second[rows].mean(), list(range(100)))

    assert 0.95 < found.low < found.value < found.high < 1.05


@pytest.mark.parametrize(
    ("values", "groups", "n", "message"),
    [
        ([1.0, 2.0], ["a"], 10, r"values have shape \(2,\), expected \(1,\)"),
        (lambda rows: 0.0, [], 10, "there are 0 rows, expected at least one study"),
        ([1.0], ["a"], 0, "n is 0 and level is 0.95"),
    ],
)
def test_a_wrong_call_is_refused(values, groups, n, message) -> None:
    with pytest.raises(ValueError, match=message):
        patient_bootstrap(values, groups, n=n)


def test_twelve_findings_on_300_studies_take_less_than_five_seconds() -> None:
    rng = np.random.default_rng(0)
    names = [f"finding {k}" for k in range(12)]
    labels = (rng.random((300, 12)) < 0.2).astype(float)
    scores = rng.normal(size=(300, 12)) + labels

    def statistic(rows: np.ndarray) -> dict[str, float]:
        macro = macro_auroc(scores[rows], labels[rows], names)
        return {"macro": macro.value, **macro.per_label}

    start = time.perf_counter()
    found = patient_bootstrap_many(statistic, [row // 2 for row in range(300)], n=1000)

    assert time.perf_counter() - start < 5
    assert len(found) == 13
    assert found["macro"].low < found["macro"].value < found["macro"].high
    assert found["macro"].high - found["macro"].low < found["finding 0"].high - found["finding 0"].low


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
def test_with_one_row_a_patient_the_bootstrap_is_that_of_scipy(method, theirs: str) -> None:
    values = np.random.default_rng(3).gamma(2, 1, 80)
    ours = patient_bootstrap(values, list(range(80)), n=999, seed=4, method=method)
    drawn = stats.bootstrap((values,), np.mean, n_resamples=999, method=theirs, rng=np.random.default_rng(4))

    assert ours.low == pytest.approx(drawn.confidence_interval.low, abs=1e-12)
    assert ours.high == pytest.approx(drawn.confidence_interval.high, abs=1e-12)


@pytest.mark.parametrize("method", ["percentile", "bca", "expanded"])
def test_the_mean_by_sums_is_the_mean_by_rows(method) -> None:
    rng = np.random.default_rng(5)
    values, groups = rng.normal(size=90), rng.integers(0, 25, 90).tolist()
    by_sums = patient_bootstrap(values, groups, n=200, method=method)
    by_rows = patient_bootstrap(lambda rows: float(values[rows].mean()), groups, n=200, method=method)

    assert (by_sums.low, by_sums.high) == (pytest.approx(by_rows.low), pytest.approx(by_rows.high))
    assert by_sums.method == by_rows.method == method


def test_bca_of_whole_patients_leaves_out_whole_patients() -> None:
    rng = np.random.default_rng(6)
    values = rng.gamma(1, 1, 40)
    once = patient_bootstrap(values, list(range(40)), method="bca")
    copied = patient_bootstrap(np.repeat(values, 5), np.repeat(np.arange(40), 5).tolist(), method="bca")

    assert (copied.low, copied.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert once.high > patient_bootstrap(values, list(range(40))).high  # a long upper tail


def test_expanded_is_wider_where_patients_are_few() -> None:
    values = np.random.default_rng(7).normal(size=12)
    plain, wide = (patient_bootstrap(values, list(range(12)), n=4000, method=m) for m in ("percentile", "expanded"))
    exact = clustered_mean(values, list(range(12)), degrees="patients")

    assert 1.05 < (wide.high - wide.low) / (plain.high - plain.low) < 1.4
    assert wide.high - wide.low == pytest.approx(exact.high - exact.low, rel=0.15)


def test_degrees_fall_when_one_patient_carries_the_number() -> None:
    alike = np.random.default_rng(8).normal(size=400)

    assert effective_degrees(alike) == pytest.approx(399, rel=0.2)
    assert effective_degrees(np.append(alike, 300.0)) < 4
    assert effective_degrees(np.zeros(5)) == 4
    assert effective_degrees(np.empty(0)) == 1


def test_clustered_mean_is_the_t_interval_of_independent_patients() -> None:
    values = np.random.default_rng(9).normal(3, 2, 25)
    found = clustered_mean(values, list(range(25)), degrees="patients")
    theirs = stats.ttest_1samp(values, 0).confidence_interval()

    assert (found.low, found.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))
    assert (found.n, found.groups) == (25, 25)
    copied = clustered_mean(np.repeat(values, 3), np.repeat(np.arange(25), 3).tolist(), degrees="patients")
    assert (copied.low, copied.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))


@pytest.mark.parametrize("method", ["percentile", "bca", "expanded"])
def test_a_statistic_that_never_varies_has_an_interval_of_no_width(method) -> None:
    found = patient_bootstrap([1.0, 1.0, 1.0], ["a", "b", "c"], method=method)

    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_bca_refuses_a_value_outside_all_resamples() -> None:
    found = interval(0.0, np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0]), 0.95, 4, 2, "bca")

    assert found.value == 0.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_nothing_is_nan_and_says_so() -> None:
    for found in (
        patient_bootstrap([math.nan, math.nan], ["a", "b"], method="bca"),
        clustered_mean([], []),
        clustered_mean([math.nan], ["a"]),
    ):
        assert math.isnan(found.value)
        assert (found.n, found.groups) == (0, 0)
    assert math.isnan(clustered_mean([1.0, 2.0], ["a", "a"]).low)


def test_a_row_without_a_patient_is_refused() -> None:
    for missing in (None, math.nan):
        with pytest.raises(ValueError, match=r"row 1 has no patient \((None|nan)\), expected a key"):
            patient_bootstrap([1.0, 2.0], ["a", missing])
    with pytest.raises(ValueError, match="method is 'basic', expected percentile, bca or expanded"):
        patient_bootstrap([1.0], ["a"], method="basic")
    with pytest.raises(ValueError, match="degrees is 'all'"):
        clustered_mean([1.0], ["a"], degrees="all")
