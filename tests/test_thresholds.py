"""Thresholds are chosen on validation rows, say so, and keep what they promise there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics

from evaluation.thresholds import (
    Decision,
    choose_threshold,
    decide,
    sensitivity_on_own_curve,
    specificity_on_own_curve,
)

SCORES, LABELS = [0.9, 0.8, 0.7, 0.3, 0.2, 0.1], [1, 1, 0, 1, 0, 0]


def test_a_threshold_carries_its_split_and_target() -> None:
    found = choose_threshold(SCORES, LABELS, "specificity", split="validation", target=2 / 3)

    assert (found.split, found.n, found.positives) == ("validation", 6, 3)
    assert found.reached == pytest.approx(2 / 3)
    assert found.variant() == "threshold by specificity >= 0.666667 on validation (n=6, 3 positive)"
    assert choose_threshold(SCORES, LABELS, "f1").variant() == "threshold by f1 on validation (n=6, 3 positive)"


@pytest.mark.parametrize("split", ["test", "Test", " TEST "])
def test_the_test_split_is_refused(split: str) -> None:
    with pytest.raises(ValueError, match="a threshold chosen on test studies flatters the test"):
        choose_threshold(SCORES, LABELS, split=split)


@pytest.mark.parametrize("seed", range(6))
def test_a_target_is_kept_with_the_best_of_the_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(60) < 0.4).astype(float)
    scores = np.round(rng.normal(size=60) + labels, seed % 3)
    candidates = [decide(scores, labels, cut) for cut in [*np.unique(scores), np.inf]]
    for target in (0.0, 0.5, 0.9, 1.0):
        specific = decide(scores, labels, choose_threshold(scores, labels, "specificity", target=target))
        sensitive = decide(scores, labels, choose_threshold(scores, labels, "sensitivity", target=target))
        best = max(one.sensitivity for one in candidates if one.specificity >= target)
        assert specific.specificity >= target
        assert specific.sensitivity == best == sensitivity_on_own_curve(scores, labels, target)
        best = max(one.specificity for one in candidates if one.sensitivity >= target)
        assert sensitive.sensitivity >= target
        assert sensitive.specificity == best == specificity_on_own_curve(scores, labels, target)


def test_full_specificity_may_mean_calling_nothing() -> None:
    found = choose_threshold([0.9, 0.5], [0, 1], "specificity", target=1.0)

    assert found.value > 0.9
    assert decide([0.9, 0.5], [0, 1], found).specificity == 1.0
    assert decide([0.9, 0.5], [0, 1], found).sensitivity == 0.0


def test_neighbours_without_a_number_between_them_are_still_parted() -> None:
    low = 0.5
    high = float(np.nextafter(low, 1))
    found = choose_threshold([low, high], [0, 1], "f1")

    assert decide([low, high], [0, 1], found) == Decision(1, 0, 0, 1)


def test_ratios_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(200) < 0.3).astype(int)
    scores = rng.normal(size=200) + labels
    made, called = decide(scores, labels, 0.8), scores >= 0.8

    assert made.n == 200
    assert made.precision == pytest.approx(metrics.precision_score(labels, called))
    assert made.negative_predictive_value == pytest.approx(metrics.precision_score(1 - labels, ~called))
    assert made.accuracy == pytest.approx(metrics.accuracy_score(labels, called))
    assert made.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, called))
    assert made.matthews == pytest.approx(metrics.matthews_corrcoef(labels, called))


def test_empty_and_one_class_have_defined_ratios() -> None:
    nothing = decide([], [], 0.5)
    one = decide([0.9], [1], 0.5)

    assert all(math.isnan(value) for value in (nothing.f1, nothing.accuracy, nothing.matthews, nothing.sensitivity))
    assert (one.f1, one.sensitivity, one.accuracy) == (1.0, 1.0, 1.0)
    assert math.isnan(one.specificity)
    assert math.isnan(one.matthews)
    assert decide([0.9, 0.8], [1, 0], 0.1).matthews == 0.0
    assert math.isnan(sensitivity_on_own_curve([0.3], [1], 0.9))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose_threshold(SCORES, LABELS, "specificity"), "target specificity is nan, expected a share"),
        (lambda: choose_threshold(SCORES, LABELS, "best"), "rule is 'best', expected f1, youden"),
        (lambda: choose_threshold([0.4], [1]), "validation has 1 positive and 0 negative rows"),
        (lambda: choose_threshold([], []), "0 positive and 0 negative rows"),
        (lambda: decide(SCORES, LABELS, math.nan), "threshold is nan, expected a number"),
        (lambda: sensitivity_on_own_curve(SCORES, LABELS, 1.2), "target specificity is 1.2"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
