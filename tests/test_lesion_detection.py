"""Lesions one by one: found, invented, matched; a noisy mask of thousands of components stays cheap."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from evaluation.lesion_detection import match_lesions


def plane(rows: str) -> np.ndarray:
    return np.array([[cell == "x" for cell in row] for row in rows.split()])


TRUE = plane("xx...x. xx..... ......x")  # a square, two single voxels that touch nowhere
PREDICTED = plane("x..x.x. x..x... .......")  # half the square, an invented pair, one of the single ones


def test_counts_by_hand() -> None:
    found = match_lesions([PREDICTED], [TRUE])

    assert [int(values[0]) for values in (found.true, found.predicted, found.found, found.right)] == [3, 3, 2, 2]
    assert sorted(found.overlaps[0]) == [0.5, 1]
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.precision == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.false_lesions_per_case == 1
    assert found.panoptic_quality == pytest.approx(1.5 / (2 + 1))


def test_a_stricter_match() -> None:
    found = match_lesions([PREDICTED], [TRUE], smallest_iou=0.5)

    assert found.found.tolist() == [1]  # an IoU of 0.5 is not above 0.5
    assert found.panoptic_quality == pytest.approx(1 / (1 + 4 / 2))
    assert "IoU > 0.5" in found.variant


def test_one_prediction_over_two_lesions_finds_both() -> None:
    found = match_lesions([plane("xxxxx")], [plane("x...x")])

    assert (found.sensitivity, found.precision) == (1, 1)


def test_neighbours_over_a_corner() -> None:
    corner = plane("x. .x")

    assert match_lesions([corner], [corner]).true.tolist() == [1]
    assert match_lesions([corner], [corner], neighbours=6).true.tolist() == [2]


def test_small_components_are_dropped_from_both_masks() -> None:
    found = match_lesions([PREDICTED], [TRUE], smallest_voxels=2)

    assert (found.true.tolist(), found.predicted.tolist()) == ([1], [2])


def test_cases_without_lesions() -> None:
    nothing, lesion = plane("..."), plane("x..")

    assert math.isnan(match_lesions([nothing], [nothing]).f1)
    assert math.isnan(match_lesions([nothing], [nothing]).panoptic_quality)
    invented = match_lesions([lesion], [nothing])
    assert math.isnan(invented.sensitivity)
    assert (invented.precision, invented.f1) == (0, 0)
    missed = match_lesions([nothing], [lesion])
    assert (missed.sensitivity, missed.f1, missed.panoptic_quality) == (0, 0, 0)
    assert math.isnan(match_lesions([], []).false_lesions_per_case)


def test_cases_can_be_drawn_again_for_an_interval() -> None:
    found = match_lesions([PREDICTED, plane("...")], [TRUE, plane("x..")])

    assert found.sensitivity == pytest.approx(2 / 4)
    assert found.over(np.array([0, 0])).sensitivity == pytest.approx(2 / 3)


def test_noise_of_many_components_needs_no_table_of_all_pairs() -> None:
    noise = np.random.default_rng(0).random((40, 200, 200)) < 0.02
    start = time.perf_counter()

    found = match_lesions([noise], [np.roll(noise, 1, 0)])

    assert found.true[0] > 10_000
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: match_lesions([TRUE], []), "1 and 0 predicted and true masks"),
        (lambda: match_lesions([TRUE], [TRUE.T]), "row 0: masks have shapes"),
        (lambda: match_lesions([TRUE], [TRUE], neighbours=18), "neighbours is 18, expected 6 or 26"),
        (lambda: match_lesions([TRUE], [TRUE], smallest_iou=1), "smallest_iou is 1"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
