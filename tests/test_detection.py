"""Average precision of boxes: COCO and PASCAL VOC by hand, the RSNA score, RadVLM's mAP."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.detection import (
    box_average_precision,
    coco_average_precision,
    match_boxes,
    radvlm_map,
    rsna_score,
)

BOX, OTHER, FAR = (0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60)
# Two images, three true boxes. By falling score: right, false, right; the third true box is never found.
PREDICTED, SCORES, TRUE = [[BOX, FAR], [BOX]], [[0.9, 0.8], [0.7]], [[BOX, OTHER], [BOX]]


def test_average_precision_in_three_forms() -> None:
    matched = match_boxes(PREDICTED, SCORES, TRUE)
    found = box_average_precision(matched)

    assert found.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert found.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert (found.true, found.predicted, found.images) == (3, 3, 2)
    # Precision 1 up to recall 1/3, 2/3 up to recall 2/3, 0 beyond.
    assert found.value == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert box_average_precision(matched, "voc2007").value == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)
    assert box_average_precision(matched, "voc2010").value == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert "COCO at IoU >= 0.5" in found.variant


def test_coco_takes_the_free_box_where_voc_wants_the_best_one() -> None:
    near, nearer = (0, 0, 10, 11), (0, 0, 10, 10)
    predicted = [[(0, 0, 10, 10), (0, 0, 10, 10)]]

    coco = match_boxes(predicted, [[0.9, 0.8]], [[near, nearer]])
    voc = match_boxes(predicted, [[0.9, 0.8]], [[near, nearer]], rule="voc")

    assert coco.hits[0].tolist() == [True, True]
    assert voc.hits[0].tolist() == [True, False]


def test_overlap_at_the_threshold_counts_and_a_second_mark_does_not() -> None:
    matched = match_boxes([[(0, 0, 10, 5), (0, 0, 10, 10)]], [[0.9, 0.8]], [[BOX]])

    assert matched.hits[0].tolist() == [True, False]
    assert match_boxes([[BOX]], [[1]], [[BOX]], threshold=1.0).hits[0].tolist() == [True]


def test_no_more_boxes_than_allowed() -> None:
    matched = match_boxes([[FAR, BOX]], [[0.9, 0.8]], [[BOX]], most=1)

    assert matched.hits[0].tolist() == [False]
    assert matched.scores[0].tolist() == [0.9]


def test_mean_over_thresholds_falls_with_looser_boxes() -> None:
    shifted = [[(0, 0, 10, 8)]]  # IoU 0.8

    found = coco_average_precision(shifted, [[0.9]], [[BOX]])

    assert [value.value for value in found.values()] == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert list(found)[6] == 0.8


def test_without_true_boxes_and_without_predictions() -> None:
    assert math.isnan(box_average_precision(match_boxes([[BOX]], [[0.5]], [[]])).value)
    assert box_average_precision(match_boxes([[]], [[]], [[BOX]])).value == 0


def test_images_can_be_drawn_again_for_an_interval() -> None:
    matched = match_boxes(PREDICTED, SCORES, TRUE)

    once = box_average_precision(matched.over(np.array([1])))
    twice = box_average_precision(matched.over(np.array([1, 1])))

    assert (once.value, once.true, twice.true) == (1, 1, 2)
    assert box_average_precision(matched.over(np.arange(2))).value == box_average_precision(matched).value


def test_rsna_score_by_hand() -> None:
    # Image 1: IoU 0.6 passes 0.40 to 0.55, not 0.60. Image 2: healthy and silent. Image 3: healthy, one false alarm.
    predicted = [[(0, 0, 10, 6)], [], [BOX]]

    found = rsna_score(predicted, [[0.9], [], [0.9]], [[BOX], [], []])

    assert found.items[[0, 2]].tolist() == [0.5, 0]
    assert found.excluded == {"nothing there, nothing predicted": 1}


def test_radvlm_map_by_hand() -> None:
    found = radvlm_map([[FAR, BOX], [], [BOX]], [[BOX], [], [BOX, OTHER]])

    assert found.items.tolist() == [0.5, 0, 0.5]  # a healthy image on which the model is silent scores 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: match_boxes([], [], []), "0 images, expected at least one"),
        (lambda: match_boxes([[BOX]], [[0.5, 0.4]], [[BOX]]), "image 0: 1 boxes and 2 scores"),
        (lambda: match_boxes([[BOX]], [[math.nan]], [[BOX]]), "image 0: a score is nan"),
        (lambda: match_boxes([[BOX]], [[0.5]], []), "1 and 0 images"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
