"""How a heat map stands out of its background inside a finding: contrast to noise, and the share of its energy.

Maps are planes (H, W) or volumes (D, H, W); a target is a mask of that shape or boxes, as in evaluation.grounding. A
map of None is an abstention and counts 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.grounding import Target, target_mask
from evaluation.item_scores import Floats, ItemScores, same_length

Form = Literal["absolute", "signed"]
_FORMS = {
    "absolute": "size of (mean inside - mean outside) / root of the sum of variances with divisor N (BioViL's form)",
    "signed": "(mean inside - mean outside) / root of the sum of unbiased variances (generate_to_ground's form)",
}


def contrast_to_noise(
    maps: Sequence[ArrayLike | None], targets: Sequence[Target | None], form: Form = "signed"
) -> ItemScores:
    """Contrast-to-noise ratio of each map: how far its mean inside the target lies from its mean outside.

    "absolute": variances with divisor N; a map that is dark at the finding scores as high as one that is bright there.
    "signed": variances with divisor N - 1; dark at the finding is below 0. Neither changes when a map is scaled to
    [0, 1]. A map of None and a constant map have no contrast: 0. Left out, and counted by reason: rows without a
    target, a target that covers the map, one pixel inside or outside (signed: it has no variance), and two flat levels
    without any noise, whose ratio is infinite.
    Source: Boecking et al. 2022, arXiv:2204.09817 (absolute); the evaluation code of generate_to_ground (signed).
    Raises: ValueError if lengths or shapes differ, or a map holds nan or infinity.
    """
    degree = 0 if form == "absolute" else 1

    def ratio(inside: Floats, outside: Floats) -> float | str:
        if min(inside.size, outside.size) <= degree:
            return "a single pixel inside or outside, which has no variance"
        contrast = float(inside.mean() - outside.mean())
        noise = math.sqrt(float(inside.var(ddof=degree) + outside.var(ddof=degree)))
        if noise == 0:
            return 0.0 if contrast == 0 else "two flat levels without noise"
        return abs(contrast) / noise if form == "absolute" else contrast / noise

    return ItemScores.of("contrast_to_noise", _FORMS[form], _inside_and_outside(maps, targets, ratio))


def energy_pointing(maps: Sequence[ArrayLike | None], targets: Sequence[Target | None]) -> ItemScores:
    """Energy-based pointing game: share of a map's sum that lies inside the target, in [0, 1].

    Values below 0 count as 0. A map of None and one without anything above 0 point nowhere: 0. Chance is the share of
    the map that the target covers. Rows without a target are left out.
    Source: Wang et al. 2020 (Score-CAM), arXiv:1910.01279.
    Raises: ValueError if lengths or shapes differ, or a map holds nan or infinity.
    """

    def share(inside: Floats, outside: Floats) -> float | str:
        within, around = np.maximum(inside, 0).sum(), np.maximum(outside, 0).sum()
        return float(within / (within + around)) if within + around > 0 else 0.0

    return ItemScores.of(
        "energy_pointing", "values below 0 count as 0", _inside_and_outside(maps, targets, share, covered=True)
    )


def _inside_and_outside(
    maps: Sequence[ArrayLike | None],
    targets: Sequence[Target | None],
    compare: Callable[[Floats, Floats], float | str],
    covered: bool = False,
) -> list[float | str]:
    """A number or a reason for each row; `covered` rows, whose target leaves no outside, are compared too."""
    same_length(len(maps), len(targets), "maps and targets")
    found: list[float | str] = []
    for row, (heat, target) in enumerate(zip(maps, targets, strict=True)):
        if target is None or not np.any(target):
            found.append("no target")
        elif heat is None:
            found.append(0.0)
        else:
            values = finite_map(heat, row)
            inside = target_mask(target, values.shape)
            if not inside.any():
                found.append("target outside the map")
            elif inside.all() and not covered:
                found.append("target covers the map")
            else:
                found.append(compare(values[inside], values[~inside]))
    return found


def finite_map(heat: ArrayLike, row: int) -> NDArray[np.float64]:
    """The map as float64. Raises: ValueError naming the row if a value is nan or infinite."""
    values = np.asarray(heat, dtype=np.float64)
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise ValueError(f"row {row}: {wrong} of {values.size} map values are nan or infinite, expected numbers")
    return values
