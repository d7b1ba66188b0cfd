"""Measurements on masks that lie in a patient: millilitres, millimetres and HU, each with its uncertainty.

Masks are bool arrays (D, H, W) in the order k, j, i; an affine (4, 4) maps (k, j, i, 1) to LPS mm, as in Volume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from volumes.volume import Region

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measurement:
    """A measured quantity.

    `uncertainty` is one standard deviation in the same unit, from the sampling and, where said in `how`, from the
    choice of threshold; it does not cover a wrong segmentation. `by` is the expert, `how` the method in one sentence.
    """

    name: str
    value: float
    unit: str
    uncertainty: float | None
    region: Region | None
    by: str
    how: str = ""

    def __str__(self) -> str:
        spread = "" if self.uncertainty is None else f" ± {self.uncertainty:.2g}"
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{self.name} {self.value:.4g}{spread}{unit} ({self.by})"


@dataclass(frozen=True)
class HuStats:
    """Attenuation inside a mask, HU: mean, standard deviation, and the 5th and 95th percentile over n voxels."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


def voxel_ml(affine: Floats) -> float:
    """Volume of one voxel in ml, exact also for a sheared affine."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def volume_ml(mask: Mask, affine: Floats) -> tuple[float, float]:
    """Volume of a mask in ml, and its uncertainty.

    Each border voxel may be in or out by a fraction spread evenly over -1/2 to 1/2; as neighbours err together, patches
    of about 27 voxels are taken as one draw. Raises: ValueError if the mask is not (D, H, W).
    """
    _check(mask)
    border = int(mask.sum() - ndimage.binary_erosion(mask).sum())
    unit = voxel_ml(affine)
    return float(mask.sum()) * unit, math.sqrt(border * 27 / 12) * unit


def hu_stats(voxels: NDArray[np.float32], mask: Mask) -> HuStats:
    """Attenuation statistics inside a mask. Shapes: both (D, H, W), voxels in HU. nan for an empty mask.

    Raises: ValueError if the shapes differ.
    """
    if voxels.shape != mask.shape:
        raise ValueError(f"voxels have shape {voxels.shape} and the mask {mask.shape}, expected one shape")
    inside = voxels[mask]
    if inside.size == 0:
        return HuStats(math.nan, math.nan, math.nan, math.nan, 0)
    low, high = np.percentile(inside, [5, 95])
    return HuStats(float(inside.mean()), float(inside.std()), float(low), float(high), int(inside.size))


def long_axis_mm(mask: Mask, affine: Floats) -> tuple[float, float]:
    """Largest distance between two voxels of the mask (3-D Feret diameter) in mm, and its uncertainty.

    Taken between voxel centers plus one voxel diagonal's share along that direction, as the ends are half a voxel
    outside the centers. nan for an empty mask. Raises: ValueError if the mask is not (D, H, W).
    """
    _check(mask)
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    if len(points) == 0:
        return math.nan, math.nan
    mm = points @ affine[:3, :3].T
    corners = _hull_corners(mm)
    distance = float(pdist(corners).max()) if len(corners) > 1 else 0.0
    step = float(np.linalg.norm(affine[:3, :3], axis=0).mean())
    return distance + step, step * math.sqrt(2 / 12)


def extent_mm(mask: Mask, affine: Floats) -> tuple[Floats, Floats]:
    """Corners (min, max) of the mask in LPS mm, (3,) each, at voxel centers. Raises: ValueError if it is empty."""
    _check(mask)
    points = np.argwhere(mask)
    if len(points) == 0:
        raise ValueError("the mask is empty, expected at least one voxel")
    mm = points @ affine[:3, :3].T + affine[:3, 3]
    return mm.min(axis=0), mm.max(axis=0)


def index_box(mask: NDArray[np.bool_]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Half-open index box (start, stop) around a mask of any dimension, or None if it is empty."""
    if not mask.any():
        return None
    spans = [
        np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        for axis in range(mask.ndim)
    ]
    return tuple(int(span[0]) for span in spans), tuple(int(span[-1]) + 1 for span in spans)


def ratio(part: float, part_u: float, whole: float, whole_u: float) -> tuple[float, float]:
    """part / whole and its uncertainty, for independent errors (GUM, JCGM 100:2008, section 5.1)."""
    value = part / whole
    return value, value * math.hypot(part_u / part, whole_u / whole)


def _hull_corners(points: Floats) -> Floats:
    try:
        return points[ConvexHull(points).vertices]
    except (QhullError, ValueError):  # flat or tiny: no hull in 3-D, so every point stays a candidate
        return points if len(points) <= 2000 else points[np.unique([points.argmin(0), points.argmax(0)])]


def _check(mask: Mask) -> None:
    if mask.ndim != 3 or mask.dtype != np.bool_:
        raise ValueError(f"mask is {mask.dtype} of shape {mask.shape}, expected bool (D, H, W)")
