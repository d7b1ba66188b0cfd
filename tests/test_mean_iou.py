"""The four numbers that are published as mIoU, each by hand, and how far apart they lie on the same map."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.mean_iou import (
    MapThreshold,
    miou_all_pairs,
    miou_over_thresholds,
    miou_tuned,
    miou_two_classes,
    tune_map_threshold,
)

HEAT = np.array([[0.9, 0.45, 0.15], [0.3, 0.05, 0.0]])
TARGET = np.array([[True, True, False], [False, False, False]])


def test_mean_over_thresholds() -> None:
    # Lit above 0.1: 4 pixels, above 0.2: 3, above 0.3 (0.3 itself is not): 2, above 0.4: 2, above 0.5: 1.
    found = miou_over_thresholds([HEAT], [TARGET])

    assert found.value == pytest.approx((2 / 4 + 2 / 3 + 2 / 2 + 2 / 2 + 1 / 2) / 5)
    assert "0.1, 0.2, 0.3, 0.4, 0.5" in found.variant


def test_a_silent_map_is_zero_and_a_missing_target_is_left_out() -> None:
    found = miou_over_thresholds([None, np.zeros((2, 3)), HEAT], [TARGET, TARGET, None])

    assert found.items[:2].tolist() == [0, 0]
    assert found.excluded == {"no target": 1}


def test_a_tuned_threshold_on_true_positives_only() -> None:
    chosen = MapThreshold(0.4, 1.0, 1)
    maps, targets = [HEAT, None, np.ones((2, 3)), HEAT], [TARGET, TARGET, TARGET, np.zeros((2, 3), bool)]

    published = miou_tuned(maps, targets, chosen)
    all_rows = miou_tuned(maps, targets, chosen, true_positives_only=False)

    assert published.items[0] == 1  # 0.9 and 0.45, scaled to 1 and 0.5, lie above 0.4
    assert published.n == 1
    assert published.excluded == {"nothing predicted": 2, "no target": 1}
    assert all_rows.value == pytest.approx(1 / 3)  # the same maps, misses counted
    assert "chosen on validation (n=1)" in published.variant


def test_the_threshold_is_chosen_on_validation_and_the_lowest_of_equals() -> None:
    chosen = tune_map_threshold([HEAT], [TARGET])

    assert (chosen.value, chosen.reached, chosen.n, chosen.split) == (0.4, 1.0, 1, "validation")


def test_a_threshold_is_not_chosen_on_the_test() -> None:
    with pytest.raises(ValueError, match='split is "test", expected "validation": a map threshold'):
        tune_map_threshold([HEAT], [TARGET], "test")
    with pytest.raises(ValueError, match="validation has no row with a target and a lit map"):
        tune_map_threshold([None], [TARGET])


def test_mean_of_finding_and_background() -> None:
    predicted = np.array([[True, False, False], [True, False, False]])

    found = miou_two_classes(
        [predicted, None, np.zeros((2, 3)), np.ones((2, 3))], [TARGET, TARGET, TARGET, np.ones((2, 3))]
    )

    assert found.items[0] == pytest.approx((1 / 3 + 3 / 5) / 2)
    assert found.items[1:3].tolist() == [0, 0]
    assert found.items[3] == 0.5  # no background in either mask: scikit-learn's Jaccard is 0 there


def test_a_miss_of_a_small_finding_earns_nearly_half() -> None:
    target, elsewhere = np.zeros((40, 50), bool), np.zeros((40, 50), bool)
    target[0, 0] = elsewhere[39, 49] = True

    assert miou_two_classes([elsewhere], [target]).value == pytest.approx(0.5, abs=0.001)


def test_mean_over_all_pairs_of_boxes() -> None:
    boxes = [(0, 0, 1, 1), (2, 2, 3, 3), (4, 4, 5, 5)]

    found = miou_all_pairs([boxes, [], boxes], [boxes, boxes, []])

    assert found.value == pytest.approx(1 / 3)  # perfect boxes
    assert found.n == 9
    assert found.excluded == {"image without a predicted or a true box": 2}
    assert math.isnan(miou_all_pairs([[]], [[]]).value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: miou_over_thresholds([HEAT], [TARGET], ()), "0 thresholds, expected at least one"),
        (lambda: miou_over_thresholds([HEAT], []), "1 and 0 maps and targets"),
        (lambda: miou_two_classes([HEAT], [HEAT.T]), "expected one shape"),
        (lambda: miou_all_pairs([[(0, 0, 1)]], [[(0, 0, 1, 1)]]), r"shape \(1, 3\), expected \(boxes, 4\)"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
