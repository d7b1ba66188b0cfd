"""Items, what is left out of them, and the number that goes onto a score card."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.item_scores import ItemScores


def test_words_in_the_place_of_numbers_are_reasons() -> None:
    found = ItemScores.of("dice", "some rule", [0.5, "no target", 1, "no target", "empty"])

    assert found.excluded == {"no target": 2, "empty": 1}
    assert (found.value, found.median, found.n) == (0.75, 0.75, 2)


def test_a_metric_has_its_interval_and_says_what_was_left_out() -> None:
    found = ItemScores.of("dice", "some rule", [0.2, 0.4, "no target", 0.9])

    metric = found.metric("lesions.dice", ["a", "a", "b", "c"], "simulated")

    assert (metric.name, metric.n, metric.data) == ("lesions.dice", 3, "simulated")
    assert metric.value == pytest.approx(0.5)
    assert metric.low < 0.5 < metric.high
    assert metric.variant.startswith("some rule; left out: 1 no target; 95% bootstrap over 2 patients")


def test_one_patient_has_no_interval() -> None:
    metric = ItemScores.of("dice", "rule", [0.2, 0.4]).metric("dice", ["a", "a"], "simulated")

    assert metric.value == pytest.approx(0.3)
    assert math.isnan(metric.low)


def test_infinite_items_are_no_mean() -> None:
    with pytest.raises(ValueError, match="dice: 1 of 2 items are infinite"):
        ItemScores("dice", "rule", np.array([1.0, math.inf])).metric("dice", ["a", "b"], "simulated")
