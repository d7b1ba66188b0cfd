"""Risk against coverage: what is left when the model answers only where it is confident."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.selective import binary_risk_coverage, risk_coverage


def test_the_curve_by_hand() -> None:
    found = risk_coverage([0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1])

    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.risk, [0, 1 / 2, 1 / 3, 1 / 2])
    assert found.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert found.excess == pytest.approx(found.aurc - (0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert found.augrc == pytest.approx((0 + 1 + 1 + 2) / 4 / 4)
    assert found.risk_at(0.5) == 0.5
    assert found.risk_at(0.51) == pytest.approx(1 / 3)
    assert found.coverage_at(0.4) == 0.75
    assert found.coverage_at(-0.1) == 0.0


def test_a_perfect_order_has_no_excess() -> None:
    found = risk_coverage([4, 3, 2, 1], [0, 0, 1, 1])

    assert found.excess == pytest.approx(0, abs=1e-15)


def test_equal_confidence_does_not_depend_on_the_order_of_the_file() -> None:
    rng = np.random.default_rng(0)
    sure, lost = rng.integers(0, 3, 50), rng.integers(0, 2, 50).astype(float)
    order = rng.permutation(50)

    np.testing.assert_allclose(risk_coverage(sure, lost).risk, risk_coverage(sure[order], lost[order]).risk)
    np.testing.assert_allclose(risk_coverage(np.zeros(4), [0, 1, 1, 0]).risk, 0.5)


def test_ties_are_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(1)
    sure, lost = np.array([2, 1, 1, 1, 0]), np.array([0.0, 1, 0, 0, 1])
    drawn = [risk_coverage(sure + rng.random(5) * 0.1, lost).aurc for _ in range(4000)]

    assert risk_coverage(sure, lost).aurc == pytest.approx(np.mean(drawn), abs=0.01)


def test_confidence_is_the_distance_from_the_threshold() -> None:
    found = binary_risk_coverage([0.05, 0.19, 0.99, 0.21], [0, 1, 1, 0], threshold=0.2)

    np.testing.assert_allclose(found.risk, [0, 0, 1 / 3, 1 / 2])


def test_nothing_and_wrong_input() -> None:
    nothing = risk_coverage([], [])

    assert nothing.n == 0
    assert math.isnan(nothing.aurc)
    assert math.isnan(nothing.risk_at(0.5))
    assert risk_coverage([0.3], [1]).aurc == 1.0
    assert risk_coverage([0.3, 0.1], [1, math.nan]).n == 1
    with pytest.raises(ValueError, match="1 of 1 confidences are nan"):
        risk_coverage([math.nan], [1])
    with pytest.raises(ValueError, match=r"confidence \(1,\) and loss \(2,\)"):
        risk_coverage([0.1], [1, 0])
    with pytest.raises(ValueError, match="coverage is 0, expected above 0"):
        risk_coverage([0.1], [1]).risk_at(0)
    with pytest.raises(ValueError, match="threshold is 1, expected between"):
        binary_risk_coverage([0.1], [1], 1)
