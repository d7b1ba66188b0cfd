"""Pointing at a finding, and staying quiet without one; maps are never square, so that swapped axes are noticed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.grounding import false_area, iou, pointing_game, target_mask


def map_with_peak(shape: tuple[int, ...], place: tuple[int, ...]) -> np.ndarray:
    heat = np.zeros(shape)
    heat[place] = 1.0
    return heat


def test_hits_and_misses_with_boxes_and_masks() -> None:
    shape = (6, 9)
    mask = np.zeros(shape, bool)
    mask[4:6, 7:9] = True
    maps = [map_with_peak(shape, (4, 7)), map_with_peak(shape, (3, 7)), map_with_peak(shape, (1, 2))]

    found = pointing_game(maps, [mask, mask, [(0, 0, 1, 1), (1, 2, 2, 3)]])

    assert found.hits.tolist() == [1, 0, 1]  # the third one lies in the second box
    assert found.value == pytest.approx(2 / 3)
    assert found.n == 3
    assert found.chance == pytest.approx((4 / 54 + 4 / 54 + 2 / 54) / 3)
    assert found.excluded == {}


def test_boxes_are_half_open() -> None:
    shape = (6, 9)
    box = [(1, 2, 3, 5)]

    assert pointing_game([map_with_peak(shape, (2, 4))], [box]).value == 1
    assert pointing_game([map_with_peak(shape, (3, 4))], [box]).value == 0
    assert pointing_game([map_with_peak(shape, (2, 5))], [box]).value == 0


def test_a_box_in_a_volume() -> None:
    assert pointing_game([map_with_peak((4, 5, 6), (3, 1, 5))], [[(3, 1, 5, 4, 2, 6)]]).value == 1
    assert target_mask([(3, 1, 5, 4, 2, 6)], (4, 5, 6)).sum() == 1


def test_a_constant_map_points_nowhere() -> None:
    assert pointing_game([np.ones((4, 5))], [[(0, 0, 4, 5)]]).hits.tolist() == [0]


def test_several_peaks_are_decided_by_name() -> None:
    heat = np.zeros((4, 5))
    heat[0, 0] = heat[3, 3] = heat[3, 4] = 1.0  # two of three peaks lie in the target
    target = [[(3, 3, 4, 5)]]

    hits = {rule: pointing_game([heat], target, ties=rule).value for rule in ("first", "share", "all", "any")}

    assert hits == {"first": 0, "share": pytest.approx(2 / 3), "all": 0, "any": 1}


def test_what_is_left_out_is_counted_by_reason() -> None:
    shape = (4, 5)
    maps = [map_with_peak(shape, (0, 0)), map_with_peak(shape, (0, 0)), None, map_with_peak(shape, (0, 0))]
    targets = [None, np.zeros(shape, bool), [(0, 0, 1, 1)], [(0, 0, 1, 1)]]

    strict = pointing_game(maps, targets)
    lenient = pointing_game(maps, targets, abstained="exclude")

    assert (strict.value, strict.n, strict.excluded, strict.abstained) == (0.5, 2, {"no target": 2}, 1)
    assert (lenient.value, lenient.n, lenient.excluded) == (1.0, 1, {"no target": 2, "abstained": 1})
    assert math.isnan(strict.hits[0])


def test_false_area_is_the_lit_share_of_the_image() -> None:
    half = np.zeros((4, 5))
    half[:2] = 0.7

    found = false_area([half, np.zeros((4, 5)), None], threshold=0.5)

    assert found.areas.tolist() == [0.5, 0, 0]
    assert found.value == pytest.approx(1 / 6)
    assert found.lit == pytest.approx(1 / 3)


def test_padding_does_not_dilute_a_false_alarm() -> None:
    heat = np.zeros((4, 10))
    heat[:, :5] = 1
    image = np.zeros((4, 10), bool)
    image[:, :5] = True

    assert false_area([heat], 0.5).value == 0.5
    assert false_area([heat], 0.5, valid=[image]).value == 1.0


def test_overlap_of_masks() -> None:
    assert iou([1, 1, 0, 0], [0, 1, 1, 0]) == pytest.approx(1 / 3)
    assert math.isnan(iou([0, 0], [0, 0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pointing_game([np.ones((2, 3))], []), "1 maps and 0 targets"),
        (
            lambda: pointing_game([np.ones((2, 3))], [np.ones((3, 2), bool)]),
            r"mask has shape \(3, 2\) and the map \(2, 3\)",
        ),
        (lambda: pointing_game([np.ones((2, 3))], [[(0, 0, 1)]]), "has 3 numbers, expected 4"),
        (lambda: pointing_game([np.full((2, 3), math.nan)], [[(0, 0, 1, 1)]]), "6 of 6 map values are nan"),
        (
            lambda: false_area([np.ones((2, 3))], 0.5, valid=[np.zeros((2, 3))]),
            "row 0: the mask of valid pixels is empty",
        ),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
