"""Free-response ROC by hand: what finds a lesion, what is false, what is neither."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.froc import froc

BOX, OTHER = (0, 0, 10, 10), (20, 20, 30, 30)
FALSE = (50, 50, 60, 60)
# Two images. Image 1: a lesion found twice, one missed, one false mark. Image 2: healthy, one false mark.
PREDICTED = [[BOX, BOX, FALSE], [FALSE]]
SCORES = [[0.9, 0.6, 0.7], [0.8]]
TRUE = [[BOX, OTHER], []]


def test_curve_by_hand() -> None:
    found = froc(PREDICTED, SCORES, TRUE)
    rates, sensitivity = found.points()

    assert found.lesions[0].tolist() == [0.9, -math.inf]
    assert [values.tolist() for values in found.false] == [[0.7], [0.8]]  # the second mark on a lesion is neither
    assert rates.tolist() == [0, 0, 0.5, 1]
    assert sensitivity.tolist() == [0, 0.5, 0.5, 0.5]
    assert (found.n, found.images) == (2, 2)


def test_reading_the_curve_by_steps_and_by_lines() -> None:
    found = froc([[BOX, FALSE, OTHER]], [[0.9, 0.8, 0.7]], [[BOX, OTHER]])

    assert found.sensitivity(0.5) == 0.5
    assert found.sensitivity(1) == 1
    assert found.sensitivity(0.5, "linear") == 0.5
    assert found.sensitivity(8, "linear") == 1
    assert found.mean_sensitivity() == pytest.approx((0.5 * 3 + 1 * 4) / 7)


def test_equal_scores_share_one_point() -> None:
    found = froc([[BOX, FALSE]], [[0.5, 0.5]], [[BOX]])

    assert found.points()[0].tolist() == [0, 1]
    assert found.sensitivity(0.5) == 0  # no threshold takes the one without the other


def test_a_point_in_the_lesion_finds_it() -> None:
    points = [[(5, 5, 5, 5), (10, 10, 10, 10)]]  # the second lies on the open border

    found = froc(points, [[0.9, 0.8]], [[BOX]], "center")

    assert found.lesions[0].tolist() == [0.9]
    assert found.false[0].tolist() == [0.8]


def test_one_mark_can_find_two_lesions() -> None:
    assert froc([[(0, 0, 30, 30)]], [[0.5]], [[BOX, OTHER]], threshold=0.1).lesions[0].tolist() == [0.5, 0.5]


def test_without_lesions_and_without_marks() -> None:
    assert math.isnan(froc([[FALSE]], [[0.5]], [[]]).sensitivity(1))
    assert froc([[]], [[]], [[BOX]]).mean_sensitivity() == 0


def test_images_can_be_drawn_again_for_an_interval() -> None:
    drawn = froc(PREDICTED, SCORES, TRUE).over(np.array([0, 0, 1]))

    assert (drawn.n, drawn.images) == (4, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: froc([], [], []), "0 images"),
        (lambda: froc(PREDICTED, SCORES, TRUE).sensitivity(-1), "the rate is -1"),
        (lambda: froc([[BOX]], [[math.inf]], [[BOX]]), "a score is nan or infinite"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
