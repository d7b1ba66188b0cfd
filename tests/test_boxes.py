"""Overlap of boxes, boxes in answers, and the box for a phrase."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.boxes import box_ious, boxes_of_answer, checked_boxes, phrase_grounding, phrase_overlap


def test_overlap_by_hand() -> None:
    found = box_ious([(0, 0, 2, 4), (0, 0, 2, 2)], [(0, 2, 2, 6), (5, 5, 6, 6)])

    assert found.tolist() == [[pytest.approx(4 / 12), 0], [0, 0]]  # boxes that touch share nothing


def test_overlap_of_volumes_and_of_boxes_without_area() -> None:
    assert box_ious([(0, 0, 0, 2, 2, 2)], [(1, 1, 1, 3, 3, 3)])[0, 0] == pytest.approx(1 / 15)
    assert box_ious([(1, 1, 1, 1)], [(1, 1, 1, 1)])[0, 0] == 0
    assert box_ious([], [(0, 0, 1, 1)]).shape == (0, 1)


def test_boxes_in_an_answer() -> None:
    text = "The nodule [0.1, 0.25,0.5, 1] and [.2,.3,.4,.5], not [1, 2, 3] nor [1.2.3, 0, 1, 1]."

    assert boxes_of_answer(text) == [(0.1, 0.25, 0.5, 1.0), (0.2, 0.3, 0.4, 0.5)]
    assert boxes_of_answer("") == []


def test_a_phrase_is_right_at_half_overlap() -> None:
    true = [[(0, 0, 4, 4)]] * 4 + [[]]
    predicted = [(0, 0, 4, 4), (0, 0, 4, 2), (0, 0, 1, 4), None, (0, 0, 4, 4)]  # IoU 1, 0.5, 0.25, none

    found = phrase_grounding(predicted, true)
    strict = phrase_grounding(predicted, true, boundary="fails")

    assert found.items[:4].tolist() == [1, 1, 0, 0]
    assert strict.items[:4].tolist() == [1, 0, 0, 0]
    assert found.excluded == {"no true box": 1}
    assert "IoU >= 0.5" in found.variant
    assert "IoU > 0.5" in strict.variant
    assert phrase_overlap(predicted, true).items[:4].tolist() == [1, 0.5, 0.25, 0]


def test_a_phrase_with_two_boxes() -> None:
    lungs = [[(0, 0, 4, 2), (0, 6, 4, 8)]]

    assert phrase_grounding([(0, 0, 4, 2)], lungs).value == 1
    assert phrase_grounding([(0, 0, 4, 2)], lungs, several="hull").value == 0
    assert phrase_grounding([(0, 0, 4, 8)], lungs, several="hull").value == 1


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([(0, 0, 1)], r"shape \(1, 3\), expected \(boxes, 4\) or \(boxes, 6\)"),
        ([(5, 5, 2, 9)], "box 0 .* stops before it starts"),
        ([(0, 0, math.nan, 1)], "1 of 1 boxes hold nan"),
    ],
)
def test_what_is_no_box_is_refused(boxes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_boxes(boxes)


def test_mixed_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="boxes have 4 and 6 numbers"):
        box_ious(np.zeros((1, 4)), np.zeros((1, 6)))
