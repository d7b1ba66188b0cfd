"""Does the model point at the finding? And does it stay quiet where there is none?

Maps may be planes (H, W) or volumes (D, H, W). A target is a mask of the same shape, or boxes: tuples of first the
starts and then the stops, half-open, in the map's own axis order, such as (row0, col0, row1, col1).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Target = NDArray[np.bool_] | Sequence[Sequence[float]]
Ties = Literal["first", "share", "all", "any"]


@dataclass(frozen=True)
class Pointing:
    """Result of the pointing game.

    `hits` (R,): 1, 0 (or a share of tied peaks), or nan for an excluded row, in the caller's order, ready for
    patient_bootstrap. `chance` is the
    mean share of the map that the target covers: what a random point would reach. `excluded` counts rows by reason,
    `abstained` counts rows with a target and no map, whichever way they were counted.
    """

    value: float
    n: int
    hits: NDArray[np.float64]
    chance: float
    excluded: dict[str, int]
    abstained: int


def pointing_game(
    maps: Sequence[ArrayLike | None],
    targets: Sequence[Target | None],
    abstained: Literal["miss", "exclude"] = "miss",
    ties: Ties = "first",
) -> Pointing:
    """Hit rate: share of maps whose highest value lies inside the target (the mask, or any of the boxes).

    Rows without a target, or with an empty one, are excluded and counted. A map of None is an abstention: a miss unless
    the caller excludes it. A constant map has no highest value and is a miss. Several equal maxima, as a map that was
    clipped has: the "first" in memory order decides, as argmax has it in published code, which favours the upper left;
    "share" is the share of them inside, what a random choice among them would reach; "all" or "any" of them must be
    inside. No tolerance margin. Upsample the map to the target's grid before, and say how in the variant.
    Source: Zhang et al. 2016, arXiv:1608.00507; as hit rate in Saporta et al. 2022, doi:10.1038/s42256-022-00536-x.
    Raises: ValueError if lengths or shapes differ, or a map holds nan.
    """
    if len(maps) != len(targets):
        raise ValueError(f"there are {len(maps)} maps and {len(targets)} targets, expected as many")
    hits = np.full(len(maps), math.nan)
    shares: list[float] = []
    excluded: Counter[str] = Counter()
    without_map = 0
    for row, (heat, target) in enumerate(zip(maps, targets, strict=True)):
        if target is None or not np.any(target):
            excluded["no target"] += 1
        elif heat is None:
            without_map += 1
            if abstained == "miss":
                hits[row] = 0
            else:
                excluded["abstained"] += 1
        else:
            found = np.asarray(heat, dtype=np.float64)
            inside = target_mask(target, found.shape)
            shares.append(float(inside.mean()))
            hits[row] = _points_inside(found, inside, row, ties)
    n = int(np.isfinite(hits).sum())
    value = float(np.nanmean(hits)) if n else math.nan
    return Pointing(value, n, hits, float(np.mean(shares)) if shares else math.nan, dict(excluded), without_map)


@dataclass(frozen=True)
class FalseArea:
    """Share of the image lit for findings that are absent.

    `areas` (R,) in [0, 1], one for each map, ready for patient_bootstrap; `value` is their mean, `lit` the share of
    maps with any area at all.
    """

    value: float
    n: int
    areas: NDArray[np.float64]
    lit: float


def false_area(
    maps: Sequence[ArrayLike | None], threshold: float, valid: Sequence[ArrayLike | None] | None = None
) -> FalseArea:
    """Mean share of the image area at or above the threshold, over maps of findings that are absent.

    A map of None (the model abstained, rightly) lights nothing: 0. `valid` masks limit the area to image pixels, so
    that padding does not make the share look smaller. Choose the threshold on validation rows.
    Shapes: maps and masks (H, W) or (D, H, W). nan without maps. Source: this project (no peer reports it).
    Raises: ValueError if lengths or shapes differ, a map holds nan, or a mask is empty.
    """
    masks = [None] * len(maps) if valid is None else list(valid)
    if len(masks) != len(maps):
        raise ValueError(f"there are {len(maps)} maps and {len(masks)} masks of valid pixels, expected as many")
    areas = np.zeros(len(maps))
    for row, (heat, mask) in enumerate(zip(maps, masks, strict=True)):
        if heat is None:
            continue
        found = np.asarray(heat, dtype=np.float64)
        _refuse_nan(found, row)
        inside = np.ones(found.shape, bool) if mask is None else target_mask(np.asarray(mask, bool), found.shape)
        if not inside.any():
            raise ValueError(f"row {row}: the mask of valid pixels is empty, expected at least one pixel")
        areas[row] = (found[inside] >= threshold).mean()
    if len(areas) == 0:
        return FalseArea(math.nan, 0, areas, math.nan)
    return FalseArea(float(areas.mean()), len(areas), areas, float((areas > 0).mean()))


def target_mask(target: Target, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The target as a mask of the map's shape. Boxes are half-open and cut at the border.

    Raises: ValueError if a mask has another shape, or a box does not have two numbers for each axis.
    """
    if isinstance(target, np.ndarray) and target.dtype == np.bool_:
        if target.shape != shape:
            raise ValueError(f"mask has shape {target.shape} and the map {shape}: resize one to the other first")
        return target
    mask = np.zeros(shape, bool)
    for box in target:
        if len(box) != 2 * len(shape):
            raise ValueError(f"box {tuple(box)} has {len(box)} numbers, expected {2 * len(shape)}: starts, then stops")
        starts, stops = box[: len(shape)], box[len(shape) :]
        # A pixel belongs to the box if its center does: pixel 3 spans 3 to 4, its center is 3.5.
        mask[
            tuple(
                slice(max(math.ceil(low - 0.5), 0), max(math.ceil(high - 0.5), 0))
                for low, high in zip(starts, stops, strict=True)
            )
        ] = True
    return mask


def iou(first: ArrayLike, second: ArrayLike) -> float:
    """Intersection over union of two masks of one shape, in [0, 1]; nan if both are empty."""
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    if one.shape != other.shape:
        raise ValueError(f"masks have shapes {one.shape} and {other.shape}, expected one shape")
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else math.nan


def _points_inside(heat: NDArray[np.float64], inside: NDArray[np.bool_], row: int, ties: Ties) -> float:
    _refuse_nan(heat, row)
    if heat.min() == heat.max():
        return 0.0
    peaks = inside[heat == heat.max()]
    return float({"first": peaks[0], "share": peaks.mean(), "all": peaks.all(), "any": peaks.any()}[ties])


def _refuse_nan(heat: NDArray[np.float64], row: int) -> None:
    if np.isnan(heat).any():
        raise ValueError(f"row {row}: {np.isnan(heat).sum()} of {heat.size} map values are nan, expected numbers")
