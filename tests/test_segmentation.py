"""Masks: overlap with each empty rule, distances in mm on uneven voxels, volumes; worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.intervals import patient_bootstrap
from evaluation.segmentation import (
    average_surface_distance,
    dice,
    hausdorff,
    mask_iou,
    surface_dice,
    surface_distances,
    volume_error,
)

SHAPE, SPACING = (6, 8, 10), (5.0, 0.5, 2.0)
EMPTY = np.zeros(SHAPE, bool)


def voxels(*places: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for place in places:
        mask[place] = True
    return mask


ONE = voxels((1, 1, 1))


def test_overlap_by_hand() -> None:
    first, second = voxels((0, 0, 0), (0, 0, 1), (0, 0, 2)), voxels((0, 0, 2), (0, 0, 3))

    assert dice([first], [second]).value == pytest.approx(2 * 1 / 5)
    assert mask_iou([first], [second]).value == pytest.approx(1 / 4)
    assert dice([first.astype(np.uint8)], [second.astype(float)]).value == pytest.approx(2 / 5)


@pytest.mark.parametrize(("empty", "expected", "n"), [("exclude", 0.5, 2), ("one", 2 / 3, 3), ("zero", 1 / 3, 3)])
def test_empty_rules_change_the_mean(empty, expected: float, n: int) -> None:
    found = dice([ONE, ONE, EMPTY], [ONE, EMPTY, EMPTY], empty)

    assert found.value == pytest.approx(expected)
    assert found.n == n
    assert "both masks empty" in found.variant
    assert found.excluded == ({"both masks empty": 1} if empty == "exclude" else {})


def test_distances_are_in_mm_along_uneven_axes() -> None:
    two_slices = surface_distances(ONE, voxels((3, 1, 1)), SPACING)
    diagonal = surface_distances(ONE, voxels((2, 5, 2)), SPACING)

    assert two_slices.hausdorff_mm() == 10
    assert diagonal.hausdorff_mm() == pytest.approx(math.sqrt(5**2 + 2**2 + 2**2))
    assert two_slices.diagonal_mm == pytest.approx(math.sqrt(30**2 + 4**2 + 20**2))


def test_the_forms_of_a_percentile_and_of_an_average() -> None:
    # Predicted: one voxel; true: that voxel and three in line, 2, 4 and 6 mm away.
    true = voxels((1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 1, 4))
    found = surface_distances(ONE, true, SPACING)

    assert found.from_predicted.tolist() == [0]
    assert found.from_true.tolist() == [0, 2, 4, 6]
    assert found.hausdorff_mm() == 6
    assert found.hausdorff_mm(50) == 3  # the larger of 0 and 3
    assert found.hausdorff_mm(50, "pooled") == 2  # of 0 0 2 4 6
    assert found.hausdorff_mm(50, "monai") == 3
    assert found.average_mm() == pytest.approx(12 / 5)
    assert found.average_mm("mean of means") == pytest.approx((0 + 3) / 2)
    assert found.within(2.0) == pytest.approx(3 / 5)


def test_a_solid_cube_has_a_hollow_surface() -> None:
    cube = np.zeros(SHAPE, bool)
    cube[1:4, 1:4, 1:4] = True

    assert len(surface_distances(cube, cube, SPACING).from_true) == 26
    assert surface_dice([cube], [cube], [SPACING], 0).value == 1


@pytest.mark.parametrize(
    ("rule", "expected"), [("exclude", 0.0), ("infinite", math.inf), ("diagonal", math.sqrt(30**2 + 4**2 + 20**2) / 2)]
)
def test_what_an_empty_mask_costs(rule, expected: float) -> None:
    found = hausdorff([ONE, EMPTY, EMPTY], [ONE, ONE, EMPTY], [SPACING] * 3, one_empty=rule)

    assert found.value == pytest.approx(expected)
    assert found.excluded["both masks empty"] == 1
    assert found.excluded.get("one mask empty", 0) == (1 if rule == "exclude" else 0)
    assert average_surface_distance([ONE], [ONE], [SPACING]).value == 0


def test_surface_dice_counts_voxels_or_weighs_areas() -> None:
    low, high = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    low[1:4, 1:6, 1:8], high[2:5, 1:6, 1:8] = True, True

    by_count = surface_dice([low, low], [high, EMPTY], [SPACING] * 2, 2.0)
    by_area = surface_dice([low], [high], [SPACING], 2.0, "area")
    far = surface_dice([low], [high], [SPACING], 5.0)

    assert by_count.items[1] == 0
    assert 0 < by_count.items[0] < 1
    assert by_area.value != pytest.approx(by_count.items[0], abs=0.01)
    assert far.value == 1
    assert surface_dice([EMPTY], [EMPTY], [SPACING], 1.0).excluded == {"both masks empty": 1}


def test_volume_errors() -> None:
    more = voxels((0, 0, 0), (0, 0, 1), (0, 0, 2))
    predicted, true = [more, EMPTY, ONE], [ONE, ONE, EMPTY]

    assert volume_error(predicted, true, [SPACING] * 3).items.tolist() == pytest.approx([0.01, -0.005, 0.005])
    assert volume_error(predicted, true, [SPACING] * 3, "absolute ml").value == pytest.approx(0.02 / 3)
    relative = volume_error(predicted, true, [SPACING] * 3, "relative")
    assert relative.items[:2].tolist() == [2, -1]
    assert relative.excluded == {"true mask empty": 1}
    assert volume_error(predicted, true, [SPACING] * 3, "absolute relative").value == 1.5


def test_planes() -> None:
    plane, other = np.eye(5, 7, dtype=bool), np.eye(5, 7, k=1, dtype=bool)

    assert hausdorff([plane], [other], [(2.0, 1.0)], 100).value == 1
    assert volume_error([plane], [plane], [(1.0, 1.0)], "relative").value == 0
    with pytest.raises(ValueError, match="a plane has no volume in ml"):
        volume_error([plane], [plane], [(1.0, 1.0)])


def test_items_go_into_the_bootstrap() -> None:
    found = dice([ONE, EMPTY, EMPTY], [ONE, ONE, EMPTY])

    interval = patient_bootstrap(found.items, ["a", "b", "c"])

    assert (interval.value, interval.n) == (0.5, 2)
    assert math.isnan(dice([], []).value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dice([ONE], []), "1 and 0 predicted and true masks"),
        (lambda: dice([ONE], [ONE[0]]), r"row 0: masks have shapes \(6, 8, 10\) and \(8, 10\)"),
        (lambda: dice([np.full(SHAPE, 2)], [ONE]), "values other than 0 and 1"),
        (lambda: dice([np.full(SHAPE, math.nan)], [ONE]), "values other than 0 and 1"),
        (lambda: hausdorff([ONE], [ONE], [(1.0, 1.0)]), r"spacing is \(1.0, 1.0\), expected 3 positive"),
        (lambda: hausdorff([ONE], [ONE], [(1.0, 0.0, 1.0)]), "expected 3 positive"),
        (lambda: surface_distances(ONE, EMPTY, SPACING), "a mask is empty"),
        (lambda: surface_dice([ONE], [ONE], [SPACING], -1.0), "tolerance_mm is -1"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
