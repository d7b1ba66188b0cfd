"""Agreement of masks: overlap, distance between surfaces in mm, volume.

Masks are planes (H, W) or volumes (D, H, W) of one finding; spacing is in mm along the same axes. What a metric does
with empty masks changes its mean more than most models do, so each metric names its rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.item_scores import Floats, ItemScores, same_length

Mask = NDArray[np.bool_]
Empty = Literal["exclude", "one", "zero"]
OneEmpty = Literal["infinite", "exclude", "diagonal"]
Percentile = Literal["larger", "pooled", "monai"]
Average = Literal["pooled", "mean of means"]
_EMPTY = {
    "exclude": "both masks empty: left out",
    "one": "both masks empty: 1",
    "zero": "both masks empty: 0",
}
_ONE_EMPTY = {
    "infinite": "one mask empty: infinite",
    "exclude": "one mask empty: left out",
    "diagonal": "one mask empty: the diagonal of the image",
}


def dice(predicted: Sequence[ArrayLike], true: Sequence[ArrayLike], empty: Empty = "exclude") -> ItemScores:
    """Dice coefficient of each pair of masks, 2 |A and B| / (|A| + |B|), in [0, 1]; 0 if only one of them is empty.

    `empty` decides on pairs that are both empty: "exclude" (MONAI with ignore_empty), "one" (rightly silent, as
    BraTS counts it), "zero" (as a division by a small constant has it).
    Source: Dice 1945, doi:10.2307/1932409.
    Raises: ValueError if lengths or shapes differ.
    """
    return _overlap("dice", predicted, true, empty, lambda common, one, other: 2 * common / (one + other))


def mask_iou(predicted: Sequence[ArrayLike], true: Sequence[ArrayLike], empty: Empty = "exclude") -> ItemScores:
    """Intersection over union of each pair of masks, |A and B| / |A or B|, with the empty rules of `dice`.

    Source: Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x.
    """
    return _overlap("mask_iou", predicted, true, empty, lambda common, one, other: common / (one + other - common))


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm from each surface voxel of one mask to the nearest one of the other, both ways; for one pair.

    Surfaces are the voxels of a mask with a face neighbour outside it, the image's border included. `diagonal_mm` is
    the longest distance that the image has room for.
    """

    from_predicted: Floats
    from_true: Floats
    diagonal_mm: float

    def hausdorff_mm(self, percentile: float = 100.0, form: Percentile = "larger") -> float:
        """Hausdorff distance, or a percentile of it.

        "larger": the larger of the two directions' percentiles (DeepMind's surface-distance). "monai": the same, the
        percentile taken in float32 as MONAI takes it, which rounds places in a long list and differs by some 0.00001
        mm. "pooled": the percentile of both directions together (MedPy's hd95). All the same at 100.
        """
        if form == "pooled":
            return float(np.percentile(np.concatenate([self.from_predicted, self.from_true]), percentile))
        take = _percentile_in_float32 if form == "monai" else np.percentile
        return float(max(take(self.from_predicted, percentile), take(self.from_true, percentile)))

    def average_mm(self, form: Average = "pooled") -> float:
        """Average symmetric surface distance.

        "pooled": the mean over all surface voxels of both masks (Heimann et al. 2009, MONAI). "mean of means": the mean
        of the two directions (MedPy's assd before version 0.5), in which a small surface weighs as much as a large one.
        """
        if form == "pooled":
            return float(np.concatenate([self.from_predicted, self.from_true]).mean())
        return float((self.from_predicted.mean() + self.from_true.mean()) / 2)

    def within(self, tolerance_mm: float) -> float:
        """Share of the surface voxels of both masks that lie within the tolerance of the other mask, in [0, 1]."""
        both = np.concatenate([self.from_predicted, self.from_true])
        return float((both <= tolerance_mm).mean())


def surface_distances(predicted: ArrayLike, true: ArrayLike, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Surface distances of one pair of masks, both with at least one voxel.

    The surfaces and distances are MONAI's, in float32.
    Raises: ValueError if shapes differ, a mask is empty, or the spacing does not have a positive number for each axis.
    """
    from monai.metrics.utils import get_mask_edges, get_surface_distance  # loads torch

    one, other = _pair(predicted, true, 0)
    spacing = _spacing(spacing_mm, one.ndim)
    if not one.any() or not other.any():
        raise ValueError("a mask is empty, expected a voxel in both: an empty mask has no surface")
    edges, true_edges = get_mask_edges(one, other)
    forth = np.asarray(get_surface_distance(edges, true_edges, "euclidean", spacing), dtype=np.float64)
    back = np.asarray(get_surface_distance(true_edges, edges, "euclidean", spacing), dtype=np.float64)
    diagonal = math.sqrt(sum((size * step) ** 2 for size, step in zip(one.shape, spacing, strict=True)))
    return SurfaceDistances(forth, back, diagonal)


def hausdorff(
    predicted: Sequence[ArrayLike],
    true: Sequence[ArrayLike],
    spacing_mm: Sequence[Sequence[float]],
    percentile: float = 95.0,
    form: Percentile = "larger",
    one_empty: OneEmpty = "exclude",
) -> ItemScores:
    """Hausdorff distance in mm of each pair of masks, 95th percentile unless said, in the form of `SurfaceDistances`.

    Pairs that are both empty are left out; `one_empty` decides on those with one empty mask. Leaving them out rewards
    a model that draws nothing where it is unsure, so report the number left out, or use "diagonal".
    Source: Huttenlocher et al. 1993, doi:10.1109/34.232073.
    Raises: ValueError if lengths or shapes differ or a spacing is wrong.
    """
    way = {
        "larger": "larger direction", "pooled": "both directions pooled", "monai": "larger direction, float32 as MONAI"
    }[form]  # fmt: skip
    return _distance(
        "hausdorff_mm", f"{percentile:g}th percentile, {way}", predicted, true, spacing_mm, one_empty,
        lambda found: found.hausdorff_mm(percentile, form),
    )  # fmt: skip


def average_surface_distance(
    predicted: Sequence[ArrayLike],
    true: Sequence[ArrayLike],
    spacing_mm: Sequence[Sequence[float]],
    form: Average = "pooled",
    one_empty: OneEmpty = "exclude",
) -> ItemScores:
    """Average symmetric surface distance in mm of each pair of masks, in the form of `SurfaceDistances`.

    Source: Heimann et al. 2009, doi:10.1109/TMI.2009.2013851.
    Raises: as `hausdorff`.
    """
    return _distance(
        "average_surface_distance_mm", f"symmetric, {form}", predicted, true, spacing_mm, one_empty,
        lambda found: found.average_mm(form),
    )  # fmt: skip


def surface_dice(
    predicted: Sequence[ArrayLike],
    true: Sequence[ArrayLike],
    spacing_mm: Sequence[Sequence[float]],
    tolerance_mm: float,
    surface: Literal["voxels", "area"] = "voxels",
) -> ItemScores:
    """Normalised surface distance (surface Dice): share of both surfaces within a tolerance of each other, in [0, 1].

    "voxels" counts surface voxels, "area" weighs surface elements by their area in mm2 (DeepMind's form); on coarse
    slices they differ. Pairs that are both empty are left out; with one empty mask the share is 0.
    Source: Nikolov et al. 2021, doi:10.2196/26151.
    Raises: ValueError if lengths or shapes differ, a spacing is wrong, or the tolerance is below 0.
    """
    if not tolerance_mm >= 0:
        raise ValueError(f"tolerance_mm is {tolerance_mm}, expected 0 or more")

    def share(one: Mask, other: Mask, spacing: tuple[float, ...]) -> float:
        if surface == "voxels":
            return surface_distances(one, other, spacing).within(tolerance_mm)
        return _area_within(one, other, spacing, tolerance_mm)

    found: list[float | str] = []
    for one, other, spacing in _rows(predicted, true, spacing_mm):
        if not one.any() and not other.any():
            found.append("both masks empty")
        else:
            found.append(share(one, other, spacing) if one.any() and other.any() else 0.0)
    what = "surface voxels" if surface == "voxels" else "surface area"
    return ItemScores.of("surface_dice", f"{what} within {tolerance_mm:g} mm; one mask empty: 0", found)


def volume_error(
    predicted: Sequence[ArrayLike],
    true: Sequence[ArrayLike],
    spacing_mm: Sequence[Sequence[float]],
    form: Literal["ml", "absolute ml", "relative", "absolute relative"] = "ml",
) -> ItemScores:
    """Predicted minus true volume of each pair, in ml or as a share of the true volume (of planes: of the area).

    The signed forms show a bias, in which errors cancel; the absolute ones show the size of errors. Relative: rows
    whose true mask is empty are left out.
    Raises: ValueError if lengths or shapes differ, a spacing is wrong, or the volume of a plane is asked for in ml.
    """
    found: list[float | str] = []
    for one, other, spacing in _rows(predicted, true, spacing_mm):
        voxels, truth = int(one.sum()) - int(other.sum()), int(other.sum())
        if form.endswith("relative"):
            found.append(voxels / truth if truth else "true mask empty")
        elif one.ndim == 3:
            found.append(voxels * math.prod(spacing) / 1000)
        else:
            raise ValueError(f"masks have shape {one.shape}: a plane has no volume in ml, use a relative form")
    signed = [abs(item) if form.startswith("absolute") and not isinstance(item, str) else item for item in found]
    return ItemScores.of("volume_error", f"predicted - true, {form}", signed)


def _overlap(
    name: str,
    predicted: Sequence[ArrayLike],
    true: Sequence[ArrayLike],
    empty: Empty,
    share: Callable[[int, int, int], float],
) -> ItemScores:
    same_length(len(predicted), len(true), "predicted and true masks")
    both_empty: dict[Empty, float | str] = {"exclude": "both masks empty", "one": 1.0, "zero": 0.0}
    found: list[float | str] = []
    for row, (mask, target) in enumerate(zip(predicted, true, strict=True)):
        one, other = _pair(mask, target, row)
        sizes = int(one.sum()), int(other.sum())
        found.append(share(int((one & other).sum()), *sizes) if any(sizes) else both_empty[empty])
    return ItemScores.of(name, _EMPTY[empty], found)


def _distance(
    name: str,
    variant: str,
    predicted: Sequence[ArrayLike],
    true: Sequence[ArrayLike],
    spacing_mm: Sequence[Sequence[float]],
    one_empty: OneEmpty,
    measure: Callable[[SurfaceDistances], float],
) -> ItemScores:
    found: list[float | str] = []
    for one, other, spacing in _rows(predicted, true, spacing_mm):
        if one.any() and other.any():
            found.append(measure(surface_distances(one, other, spacing)))
        elif not one.any() and not other.any():
            found.append("both masks empty")
        elif one_empty == "exclude":
            found.append("one mask empty")
        else:
            sides = [size * step for size, step in zip(one.shape, spacing, strict=True)]
            found.append(math.inf if one_empty == "infinite" else math.hypot(*sides))
    return ItemScores.of(name, f"{variant}; {_ONE_EMPTY[one_empty]}; both empty: left out", found)


def _percentile_in_float32(distances: Floats, percentile: float) -> float:
    import torch

    return float(torch.quantile(torch.from_numpy(distances.astype(np.float32)), percentile / 100))


def _area_within(one: Mask, other: Mask, spacing: tuple[float, ...], tolerance_mm: float) -> float:
    import torch
    from monai.metrics import compute_surface_dice

    channels = [torch.from_numpy(mask.astype(np.float32))[None, None] for mask in (one, other)]
    found = compute_surface_dice(
        channels[0], channels[1], [tolerance_mm], include_background=True, spacing=spacing, use_subvoxels=True
    )
    return float(found[0, 0])


def _rows(
    predicted: Sequence[ArrayLike], true: Sequence[ArrayLike], spacing_mm: Sequence[Sequence[float]]
) -> list[tuple[Mask, Mask, tuple[float, ...]]]:
    same_length(len(predicted), len(true), "predicted and true masks")
    same_length(len(predicted), len(spacing_mm), "masks and spacings")
    rows = []
    for row, (mask, target, steps) in enumerate(zip(predicted, true, spacing_mm, strict=True)):
        one, other = _pair(mask, target, row)
        rows.append((one, other, _spacing(steps, one.ndim)))
    return rows


def _pair(mask: ArrayLike, target: ArrayLike, row: int) -> tuple[Mask, Mask]:
    one, other = np.asarray(mask), np.asarray(target)
    if one.shape != other.shape or one.ndim not in (2, 3):
        raise ValueError(
            f"row {row}: masks have shapes {one.shape} and {other.shape}, expected one shape, (H, W) or (D, H, W)"
        )
    for given in (one, other):
        if given.dtype != np.bool_ and not np.isin(given, (0, 1)).all():
            raise ValueError(f"row {row}: a mask holds values other than 0 and 1, expected one finding's mask")
    return one.astype(bool), other.astype(bool)


def _spacing(steps: Sequence[float], axes: int) -> tuple[float, ...]:
    spacing = tuple(float(step) for step in steps)
    if len(spacing) != axes or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing is {spacing}, expected {axes} positive numbers in mm, in the order of the axes")
    return spacing
