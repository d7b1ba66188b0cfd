"""Two models on the same patients: tests that keep their level with clusters and find what is there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evaluation.classification import auroc
from evaluation.comparison import bootstrap_test, crossing_p, paired_mean_test, permutation_test, sign_flip_test
from evaluation.weighted import weighted_auroc, weighted_mean


def pair(rng: np.random.Generator, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Values of two models on 60 patients with 1 to 7 studies; patients differ in which model they suit."""
    who = np.repeat(np.arange(60), rng.integers(1, 8, 60))
    shared = rng.normal(0, 3, 60)[who]
    own = rng.normal(size=(2, 60))[:, who] + 0.5 * rng.normal(size=(2, who.size))
    return shared + own[0] + gain, shared + own[1], who.tolist()


def test_levels_with_clusters() -> None:
    rng = np.random.default_rng(0)
    naive, bootstrap, flips = [], [], []
    for number in range(200):
        first, second, who = pair(rng)
        naive.append(stats.ttest_rel(first, second).pvalue < 0.05)
        bootstrap.append(paired_mean_test(first, second, who, n=400, seed=number).p < 0.05)
        flips.append(sign_flip_test(first, second, who, n=400, seed=number).p < 0.05)

    assert np.mean(naive) > 0.2
    assert 0.02 <= np.mean(bootstrap) <= 0.1
    assert 0.02 <= np.mean(flips) <= 0.09


def test_a_real_gain_is_found_by_all() -> None:
    first, second, who = pair(np.random.default_rng(1), gain=1.0)

    for found in (paired_mean_test(first, second, who), sign_flip_test(first, second, who)):
        assert found.p < 0.01
        assert 0 < found.difference.low < found.difference.value < found.difference.high
        assert found.difference.groups == 60
    assert permutation_test(first, second, lambda v: float(v.mean()), who, n=400).p < 0.01


def test_p_agrees_with_whether_the_interval_holds_zero() -> None:
    rng = np.random.default_rng(2)
    for number in range(30):
        first, second, who = pair(rng, gain=0.35)
        found = paired_mean_test(first, second, who, n=999, seed=number)
        if abs(found.p - 0.05) > 0.01:
            assert (found.p < 0.05) == (not found.difference.low <= 0 <= found.difference.high)


def test_exact_flips_equal_those_of_scipy() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.4, 1, 9), rng.normal(size=9)
    theirs = stats.permutation_test((first, second), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples")
    found = sign_flip_test(first, second, list(range(9)))

    assert found.p == pytest.approx(theirs.pvalue)
    assert found.variant == "all 512 sign flips over patients (exact)"


def test_flips_count_whole_patients() -> None:
    # Two patients: of the four ways to flip them, two are as far from 0.
    found = sign_flip_test([1.0] * 50, [0.0] * 50, ["a"] * 25 + ["b"] * 25)

    assert found.p == 0.5


def test_a_permutation_of_ranks_tests_two_aurocs() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat([0.0, 1.0], 60)
    good, poor = (stats.rankdata(rng.normal(size=120) + shift * labels) for shift in (2, 0.3))
    groups = list(range(120))

    found = permutation_test(good, poor, lambda scores: auroc(scores, labels), groups, n=300)
    assert found.p < 0.02
    assert math.isnan(found.difference.low)
    assert permutation_test(good, good, lambda scores: auroc(scores, labels), groups, n=50).p == 1.0


@pytest.mark.parametrize("method", ["percentile", "bca", "expanded"])
def test_the_bootstrap_takes_any_weighted_statistic(method) -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat([0.0, 1.0], 80)
    good, poor = rng.normal(size=160) + 2 * labels, rng.normal(size=160) + 0.3 * labels
    found = bootstrap_test(
        weighted_auroc(good, labels), weighted_auroc(poor, labels), list(range(160)), n=500, method=method
    )

    assert found.p == pytest.approx(2 / 501)
    assert found.difference.low > 0
    assert found.variant == f"paired bootstrap over patients, 500 resamples, {method}"


def test_crossing_p_counts_both_sides() -> None:
    assert crossing_p(np.arange(1, 100), 0.0) == pytest.approx(2 / 100)
    assert crossing_p(np.arange(-49, 51), 0.0) == 1.0
    assert crossing_p(np.array([-1.0] + [1.0] * 18 + [math.nan]), 0.0) == pytest.approx(2 * 2 / 20)
    assert math.isnan(crossing_p(np.array([math.nan]), 0.0))


def test_too_little_is_defined() -> None:
    one = bootstrap_test(weighted_mean([1.0]), weighted_mean([0.0]), ["a"])
    none = sign_flip_test([math.nan], [1.0], ["a"])

    assert one.difference.value == 1.0
    assert math.isnan(one.p)
    assert math.isnan(none.p)
    assert sign_flip_test([1.0], [0.0], ["a"]).p == 1.0
    assert paired_mean_test([1.0, 2.0, math.nan], [1.0, math.nan, 3.0], list("abc")).difference.value == 0.0


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"first \(1,\) and second \(2,\) must share one shape"):
        paired_mean_test([1.0], [1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="there are 0 rows"):
        bootstrap_test(weighted_mean([]), weighted_mean([]), [])
    with pytest.raises(ValueError, match="must share one shape with a row"):
        permutation_test([], [], lambda v: 0.0, [])
    with pytest.raises(ValueError, match="row 0 has no patient"):
        sign_flip_test([1.0], [0.0], [None])
