"""McNemar's tests: by hand, against statsmodels, and over patients where the plain one raises false alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.mcnemar import clustered_mcnemar, mcnemar

FIRST, SECOND = [1, 1, 1, 1, 1, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 1, 0, 1, 0, 1]  # 5 against 1 discordant


def test_forms_by_hand() -> None:
    exact, mid = mcnemar(FIRST, SECOND, "exact"), mcnemar(FIRST, SECOND, "mid-p")

    assert exact.p == pytest.approx(2 * 7 / 64)
    assert mid.p == pytest.approx(2 * 7 / 64 - 6 / 64)
    assert mcnemar(FIRST, SECOND, "chi2").statistic == pytest.approx(16 / 6)
    assert mcnemar(FIRST, SECOND, "chi2 corrected").statistic == pytest.approx(9 / 6)
    assert (exact.first_only, exact.second_only, exact.n) == (5, 1, 10)
    assert exact.difference == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(4))
def test_p_values_agree_with_statsmodels(seed: int) -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables", reason="statsmodels is not installed")
    rng = np.random.default_rng(seed)
    first, second = (rng.random(60) < 0.7).astype(int), (rng.random(60) < 0.6).astype(int)
    table = [[np.sum((first == a) & (second == b)) for b in (1, 0)] for a in (1, 0)]

    assert mcnemar(first, second, "exact").p == pytest.approx(tables.mcnemar(table, exact=True).pvalue)
    for form, correction in (("chi2", False), ("chi2 corrected", True)):
        theirs = tables.mcnemar(table, exact=False, correction=correction)
        assert mcnemar(first, second, form).p == pytest.approx(theirs.pvalue)


def test_one_row_a_patient_is_the_plain_test() -> None:
    groups = list(range(10))

    assert clustered_mcnemar(FIRST, SECOND, groups, "durkalski").statistic == pytest.approx(16 / 6)
    assert clustered_mcnemar(FIRST, SECOND, groups).statistic == pytest.approx(16 / 6 * 9 / 10)


def test_clusters_by_hand() -> None:
    # Patient a: excess 2 of 2 rows; b: -1 of 1; c: 1 of 2.
    first, second, groups = [1, 1, 0, 1, 1], [0, 0, 1, 0, 1], list("aabcc")

    assert clustered_mcnemar(first, second, groups).statistic == pytest.approx(2**2 / (3 / 2 * (4 + 1 + 1)))
    durkalski = clustered_mcnemar(first, second, groups, "durkalski")
    assert durkalski.statistic == pytest.approx((1 - 1 + 0.5) ** 2 / (1 + 1 + 0.25))
    assert (durkalski.n, durkalski.groups) == (5, 3)


def test_clusters_keep_the_level_where_rows_do_not() -> None:
    rng = np.random.default_rng(0)
    plain, obuchowski, durkalski = [], [], []
    for _ in range(500):
        who = np.repeat(np.arange(60), rng.integers(1, 9, 60))
        easy = rng.normal(size=(2, 60))[:, who]
        first, second = (easy + 0.5 * rng.normal(size=easy.shape) < 0.8).astype(float)
        plain.append(mcnemar(first, second).p < 0.05)
        obuchowski.append(clustered_mcnemar(first, second, who.tolist()).p < 0.05)
        durkalski.append(clustered_mcnemar(first, second, who.tolist(), "durkalski").p < 0.05)

    assert np.mean(plain) > 0.15
    assert 0.025 <= np.mean(obuchowski) <= 0.08
    assert 0.025 <= np.mean(durkalski) <= 0.08


def test_too_little_is_defined() -> None:
    same, nothing = mcnemar([1, 0], [1, 0]), mcnemar([], [])

    assert (same.p, same.difference) == (1.0, 0.0)
    assert math.isnan(nothing.p)
    assert math.isnan(nothing.difference)
    assert mcnemar([1, math.nan], [0, 1]).n == 1
    assert clustered_mcnemar([1, 0], [1, 0], ["a", "b"]).p == 1.0
    assert math.isnan(clustered_mcnemar([], [], []).p)
    assert math.isnan(clustered_mcnemar([1, 1], [0, 0], ["a", "a"]).p)  # one patient says nothing about the next


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rows hold 0\.7, expected 1 \(right\), 0 \(wrong\)"):
        mcnemar([0.7], [1])
    with pytest.raises(ValueError, match=r"first \(1,\) and second \(2,\) must share one shape"):
        mcnemar([1], [1, 0])
    with pytest.raises(ValueError, match="form is 'best', expected exact"):
        mcnemar([1], [0], "best")
    with pytest.raises(ValueError, match="form is 'exact', expected obuchowski or durkalski"):
        clustered_mcnemar([1], [0], ["a"], "exact")
