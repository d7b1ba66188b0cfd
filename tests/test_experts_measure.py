"""Measurements on masks in grids that are never cubic, axis-aligned or at the origin."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experts.measure import Measurement, extent_mm, hu_stats, index_box, long_axis_mm, ratio, volume_ml, voxel_ml


def oblique(spacing: tuple[float, float, float] = (3.0, 0.5, 0.8)) -> np.ndarray:
    """Index (k, j, i) to LPS mm, turned by 20 degrees about z, far from the origin."""
    turn = math.radians(20)
    rotation = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    affine[:3, 3] = (-120, 40, 900)
    return affine


def box(shape: tuple[int, int, int], start: tuple[int, int, int], stop: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


def test_volume_of_a_box_in_ml() -> None:
    mask = box((9, 20, 30), (2, 3, 4), (7, 13, 24))

    ml, uncertainty = volume_ml(mask, oblique())

    assert voxel_ml(oblique()) == pytest.approx(3 * 0.5 * 0.8 / 1000)
    assert ml == pytest.approx(5 * 10 * 20 * 1.2 / 1000)
    assert 0 < uncertainty < 0.1 * ml


def test_volume_of_a_ball_lies_within_three_uncertainties() -> None:
    k, j, i = np.mgrid[:30, :80, :80]
    affine = oblique((2.0, 0.7, 0.7))
    ball = ((k - 14.3) * 2.0) ** 2 + ((j - 40.2) * 0.7) ** 2 + ((i - 39.6) * 0.7) ** 2 <= 18**2

    ml, uncertainty = volume_ml(ball, affine)

    assert ml == pytest.approx(4 / 3 * math.pi * 1.8**3, abs=3 * uncertainty)


def test_long_axis_runs_along_the_true_direction() -> None:
    mask = box((9, 20, 60), (4, 10, 5), (5, 11, 55))  # 50 voxels of 0.8 mm in a row

    length, uncertainty = long_axis_mm(mask, oblique())

    assert length == pytest.approx(49 * 0.8, abs=2 * 3.0)
    assert length > 49 * 0.8
    assert 0 < uncertainty < 1


def test_long_axis_of_a_ball_is_its_diameter() -> None:
    k, j, i = np.mgrid[:31, :61, :61]
    ball = ((k - 15) * 1.0) ** 2 + ((j - 30) * 0.5) ** 2 + ((i - 30) * 0.5) ** 2 <= 10**2

    assert long_axis_mm(ball, oblique((1.0, 0.5, 0.5)))[0] == pytest.approx(20, abs=1.0)


def test_attenuation_inside_a_mask() -> None:
    voxels = np.full((4, 5, 6), -800, np.float32)
    voxels[2] = 40

    found = hu_stats(voxels, box((4, 5, 6), (2, 0, 0), (3, 5, 6)))

    assert (found.mean, found.sd, found.n) == (40, 0, 30)
    assert math.isnan(hu_stats(voxels, np.zeros((4, 5, 6), bool)).mean)


def test_extent_is_in_patient_millimetres() -> None:
    mask = box((9, 20, 30), (2, 3, 4), (3, 4, 5))
    low, high = extent_mm(mask, oblique())

    np.testing.assert_allclose(low, oblique()[:3, :3] @ [2, 3, 4] + oblique()[:3, 3])
    np.testing.assert_allclose(low, high)


def test_index_box_is_half_open() -> None:
    assert index_box(box((9, 20, 30), (2, 3, 4), (7, 13, 24))) == ((2, 3, 4), (7, 13, 24))
    assert index_box(np.zeros((3, 4), bool)) is None


def test_uncertainties_of_a_ratio_add_in_squares() -> None:
    value, uncertainty = ratio(50, 3, 100, 4)

    assert value == 0.5
    assert uncertainty == pytest.approx(0.5 * math.hypot(0.06, 0.04))


def test_a_measurement_prints_with_unit_and_uncertainty() -> None:
    assert str(Measurement("heart width", 132.4, "mm", 4.2, None, "ct-body")) == "heart width 132.4 ± 4.2 mm (ct-body)"
    assert str(Measurement("ratio", 0.4931, "1", None, None, "x")) == "ratio 0.4931 (x)"


def test_wrong_masks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mask is float64 of shape \(3, 4\), expected bool \(D, H, W\)"):
        volume_ml(np.zeros((3, 4)), oblique())
    with pytest.raises(ValueError, match="the mask is empty"):
        extent_mm(np.zeros((3, 4, 5), bool), oblique())
