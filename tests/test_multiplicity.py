"""Adjusted p-values: by hand, against statsmodels, and what they promise under many true nulls."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.multiplicity import (
    benjamini_hochberg,
    benjamini_yekutieli,
    bonferroni,
    hochberg,
    holm,
)

ALL = {
    "bonferroni": bonferroni,
    "holm": holm,
    "simes-hochberg": hochberg,
    "fdr_bh": benjamini_hochberg,
    "fdr_by": benjamini_yekutieli,
}


def test_by_hand() -> None:
    p = [0.01, 0.04, 0.03, 0.005]

    np.testing.assert_allclose(bonferroni(p), [0.04, 0.16, 0.12, 0.02])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(hochberg(p), [0.03, 0.04, 0.04, 0.02])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, 0.04, 0.04, 0.02])


@pytest.mark.parametrize("method", ALL)
def test_statsmodels_adjusts_alike(method: str) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    p = np.round(np.random.default_rng(1).beta(0.4, 3, 30), 3)

    np.testing.assert_allclose(ALL[method](p), multitest.multipletests(p, method=method)[1], atol=1e-12)


def test_promises_under_true_and_false_nulls() -> None:
    rng = np.random.default_rng(2)
    family, share = {"holm": 0, "none": 0}, []
    for _ in range(1000):
        p = np.append(rng.random(15), rng.beta(0.05, 5, 5))
        family["none"] += (p[:15] < 0.05).any()
        family["holm"] += (holm(p)[:15] < 0.05).any()
        alarms = benjamini_hochberg(p) < 0.1
        share.append(alarms[:15].sum() / max(alarms.sum(), 1))

    assert family["none"] > 450
    assert family["holm"] <= 70
    assert np.mean(share) <= 0.1


@pytest.mark.parametrize("adjust", ALL.values())
def test_missing_tests_are_not_counted(adjust) -> None:
    found = adjust([0.02, math.nan, 0.9])

    assert math.isnan(found[1])
    np.testing.assert_allclose(found[[0, 2]], adjust([0.02, 0.9]))
    assert adjust([]).size == 0
    assert adjust([0.3]) == [0.3]
    with pytest.raises(ValueError, match="p-values of shape"):
        adjust([1.2])
