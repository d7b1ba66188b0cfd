"""Non-inferiority and equivalence: conclusions follow the interval, and wrong ones are as rare as alpha says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evaluation.equivalence import (
    equivalence,
    equivalence_of_means,
    margin_test_of_draws,
    noninferiority,
    noninferiority_of_means,
)


@pytest.mark.parametrize(
    ("value", "one_sided", "two_sided"),
    [
        (0.00, "non-inferior", "equivalent"),
        (-0.02, "non-inferior", "equivalent"),
        (-0.04, "inconclusive", "inconclusive"),
        (0.09, "non-inferior", "not equivalent"),
        (-0.09, "inferior", "not equivalent"),
        (0.04, "non-inferior", "inconclusive"),
        (math.nan, "undefined", "undefined"),
    ],
)
def test_conclusions_follow_the_interval(value: float, one_sided: str, two_sided: str) -> None:
    found, both = noninferiority(value, 0.01, 0.05), equivalence(value, 0.01, 0.05)

    assert (found.conclusion, both.conclusion) == (one_sided, two_sided)
    assert (found.p < 0.025) == (one_sided == "non-inferior")
    assert (both.p < 0.025) == (two_sided == "equivalent")
    if not math.isnan(value):
        assert found.high - found.low == pytest.approx(2 * 1.959964 * 0.01)


def test_no_difference_found_is_not_equivalence() -> None:
    rng = np.random.default_rng(0)
    new, old = rng.normal(size=10), rng.normal(size=10)

    assert stats.ttest_rel(new, old).pvalue > 0.05
    assert equivalence_of_means(new, old, list(range(10)), 0.3).conclusion == "inconclusive"


def test_tost_agrees_with_statsmodels() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats", reason="statsmodels is not installed")
    rng = np.random.default_rng(1)
    new, old = rng.normal(0.1, 1, 50), rng.normal(size=50)

    theirs = weightstats.ttost_paired(new, old, -0.4, 0.4)[0]
    assert equivalence_of_means(new, old, list(range(50)), 0.4).p == pytest.approx(theirs)


def test_one_row_a_patient_is_the_t_test() -> None:
    rng = np.random.default_rng(2)
    new, old = rng.normal(size=30), rng.normal(size=30)
    found = noninferiority_of_means(new, old, list(range(30)), 0.2)

    theirs = stats.ttest_1samp(new - old, -0.2, alternative="greater")
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.n, found.groups) == (30, 30)


def test_wrong_claims_are_as_rare_as_alpha_with_clusters() -> None:
    rng = np.random.default_rng(3)
    naive, clustered = [], []
    for _ in range(600):
        who = np.repeat(np.arange(50), 6)
        gain = rng.normal(size=50)[who] + 0.5 * rng.normal(size=300) - 0.3  # truly worse by just the margin
        rows = list(range(300))
        naive.append(noninferiority_of_means(gain, np.zeros(300), rows, 0.3).conclusion == "non-inferior")
        clustered.append(noninferiority_of_means(gain, np.zeros(300), who.tolist(), 0.3).conclusion == "non-inferior")

    assert np.mean(naive) > 0.1
    assert 0.008 <= np.mean(clustered) <= 0.047  # 2.5 % expected


def test_draws_of_any_statistic() -> None:
    drawn = np.random.default_rng(4).normal(0.0, 0.01, 2000)

    assert margin_test_of_draws(0.0, drawn, 0.05).conclusion == "non-inferior"
    assert margin_test_of_draws(0.0, drawn, 0.05, two_sided=True).conclusion == "equivalent"
    assert margin_test_of_draws(0.0, drawn, 0.01).conclusion == "inconclusive"
    assert margin_test_of_draws(0.0, drawn, 0.05).p == pytest.approx(1 / 2001)
    assert margin_test_of_draws(0.0, [math.nan], 0.05).conclusion == "undefined"
    assert "2000 resamples" in margin_test_of_draws(0.0, drawn, 0.05).variant


def test_too_little_is_undefined_and_nonsense_refused() -> None:
    assert noninferiority_of_means([1.0], [0.0], ["a"], 0.1).conclusion == "undefined"
    assert noninferiority_of_means([], [], [], 0.1).conclusion == "undefined"
    assert equivalence_of_means([math.nan], [0.0], ["a"], 0.1).conclusion == "undefined"
    with pytest.raises(ValueError, match=r"margin is 0, alpha 0\.025"):
        noninferiority(0.0, 0.1, 0)
    with pytest.raises(ValueError, match=r"alpha 0\.7"):
        equivalence(0.0, 0.1, 0.1, 0.7)
    with pytest.raises(ValueError, match="must share one shape"):
        noninferiority_of_means([1.0], [0.0, 1.0], ["a"], 0.1)
