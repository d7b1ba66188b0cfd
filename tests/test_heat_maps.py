"""Contrast to noise and energy inside the target, worked by hand; maps are never square."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.heat_maps import contrast_to_noise, energy_pointing

# Inside the first column: 4, 6 (mean 5). Outside: 0, 1, 1, 2 (mean 1).
HEAT = np.array([[4.0, 0, 1], [6, 1, 2]])
LEFT = [(0, 0, 2, 1)]


def test_contrast_to_noise_in_both_published_forms() -> None:
    absolute = contrast_to_noise([HEAT], [LEFT], "absolute")
    signed = contrast_to_noise([HEAT], [LEFT], "signed")

    assert absolute.value == pytest.approx(4 / math.sqrt(1 + 0.5))  # variances with divisor N: 1 and 0.5
    assert signed.value == pytest.approx(4 / math.sqrt(2 + 2 / 3))  # with N - 1: 2 and 2/3
    assert "BioViL" in absolute.variant
    assert "unbiased" in signed.variant


def test_a_dark_finding_is_good_in_one_form_and_bad_in_the_other() -> None:
    assert contrast_to_noise([-HEAT], [LEFT], "absolute").value > 0
    assert contrast_to_noise([-HEAT], [LEFT], "signed").value == -contrast_to_noise([HEAT], [LEFT], "signed").value


def test_contrast_does_not_change_when_the_map_is_scaled() -> None:
    scaled = (HEAT - HEAT.min()) / (HEAT.max() - HEAT.min())

    assert contrast_to_noise([scaled], [LEFT]).value == pytest.approx(contrast_to_noise([HEAT], [LEFT]).value)


def test_rows_without_a_contrast_are_zero_and_rows_without_a_meaning_are_left_out() -> None:
    flat, steps = np.ones((2, 3)), np.array([[5.0, 0, 0], [5, 0, 0]])
    maps = [None, flat, steps, HEAT, HEAT, HEAT, HEAT]
    targets = [LEFT, LEFT, LEFT, None, [(0, 0, 2, 3)], [(0, 0, 1, 1)], [(5, 5, 6, 6)]]

    found = contrast_to_noise(maps, targets)

    assert found.items[:2].tolist() == [0, 0]
    assert np.isnan(found.items[2:]).all()
    assert found.n == 2
    assert found.excluded == {
        "two flat levels without noise": 1,
        "no target": 1,
        "target covers the map": 1,
        "a single pixel inside or outside, which has no variance": 1,
        "target outside the map": 1,
    }


def test_energy_inside_the_target() -> None:
    found = energy_pointing([HEAT, -HEAT, None, np.ones((2, 3)), HEAT], [LEFT, LEFT, LEFT, LEFT, [(0, 0, 2, 3)]])

    assert found.items.tolist() == pytest.approx([10 / 14, 0, 0, 1 / 3, 1])


def test_no_rows_are_nan_not_an_error() -> None:
    found = contrast_to_noise([], [])

    assert math.isnan(found.value)
    assert math.isnan(found.median)
    assert found.n == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: contrast_to_noise([HEAT], []), "1 and 0 maps and targets"),
        (lambda: contrast_to_noise([np.full((2, 3), math.nan)], [LEFT]), "row 0: 6 of 6 map values are nan"),
        (lambda: energy_pointing([np.full((2, 3), math.inf)], [LEFT]), "6 of 6 map values are nan or infinite"),
        (lambda: contrast_to_noise([HEAT], [np.ones((3, 2), bool)]), r"mask has shape \(3, 2\)"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
