"""Series with missing slices or varying spacing: refused, unless the caller asks for a regular grid in writing.

Resampling interpolates linearly between neighbouring slices along the line on which they lie (also a tilted one), so a
field that is linear in millimetres stays exact. What was made up is counted and named in the notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from volumes.errors import VolumeError
from volumes.geometry import MAX_RESIDUAL_MM, Vector, axes, one_spacing, stack

Gaps = Literal["refuse", "resample"]
MAX_GROWTH = 4  # a regular grid may hold so many times the slices that were scanned
_SAME = 0.02  # a grid place so near (in steps) to a scanned slice is that slice


@dataclass(frozen=True)
class Placed:
    """Slices in order of position and the grid on which they land; `lower` and `weight` are None for a regular one."""

    order: tuple[int, ...]
    affine: Vector
    notes: tuple[str, ...]
    lower: NDArray[np.int64] | None = None
    weight: Vector | None = None

    @property
    def interpolated(self) -> tuple[int, ...]:
        """Indices of the grid's slices that were not scanned."""
        if self.weight is None:
            return ()
        return tuple(int(k) for k in np.flatnonzero((self.weight > 0) & (self.weight < 1)))

    def resample(self, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Slices (N, H, W) in order of position -> the grid (D, H, W); the same array when it is regular already."""
        if self.lower is None or self.weight is None:
            return voxels
        out = np.empty((len(self.lower), *voxels.shape[1:]), dtype=np.float32)
        for place, low, weight in zip(out, self.lower, self.weight.astype(np.float32), strict=True):
            if weight <= 0 or weight >= 1:
                place[:] = voxels[low + (weight >= 1)]
            else:
                place[:] = voxels[low] * (1 - weight) + voxels[low + 1] * weight
        return out


def place(
    positions: Vector, orientations: Vector, spacings: Vector, thickness_mm: float | None, gaps: Gaps = "refuse"
) -> Placed:
    """`geometry.stack`; with gaps="resample" a series with gaps or varying spacing gets the nearest regular grid."""
    if gaps not in ("refuse", "resample"):
        raise VolumeError(f"gaps is {gaps!r}; expected 'refuse' or 'resample'", "bad-option")
    try:
        placed = stack(positions, orientations, spacings, thickness_mm)
        return Placed(placed.order, placed.affine, placed.notes)
    except VolumeError as error:
        if gaps == "refuse" or error.reason not in ("missing-slice", "variable-spacing"):
            raise
    return _grid(positions, orientations, spacings)


def runs(positions: Vector, orientations: Vector) -> list[list[int]]:
    """Indices of slices in order of position, cut wherever the distance changes: each run can be read as it is."""
    distance = positions @ axes(orientations)[2]
    order = [int(n) for n in np.argsort(distance, kind="stable")]
    found = [order[:1]]
    for before, n in pairwise(order):
        run, gap = found[-1], float(distance[n] - distance[before])
        step = float(distance[run[1]] - distance[run[0]]) if len(run) > 1 else gap
        if abs(gap - step) <= min(MAX_RESIDUAL_MM, 0.1 * abs(step)):
            run.append(n)
        else:
            found.append([n])
    return found


def _grid(positions: Vector, orientations: Vector, spacings: Vector) -> Placed:
    along_i, along_j, normal = axes(orientations)
    spacing = one_spacing(spacings)
    distance = positions @ normal
    order = np.argsort(distance, kind="stable")
    found, places = positions[order], distance[order] - distance[order[0]]
    line = (found[-1] - found[0]) / places[-1]
    off = float(np.linalg.norm(found - found[0] - places[:, None] * line, axis=1).max())
    if off > MAX_RESIDUAL_MM:
        raise VolumeError(
            f"slices leave a straight line by {off:.2f} mm, expected at most {MAX_RESIDUAL_MM:.2f} mm: they cannot be"
            " resampled along it",
            "bent-stack",
        )
    gaps = np.diff(places)
    usual = float(np.median(gaps)) if len(gaps) > 2 else float(gaps.min())
    count = int(np.rint(places[-1] / usual)) + 1
    if count > MAX_GROWTH * len(places):
        raise VolumeError(
            f"{len(places)} slices lie in {places[-1]:.1f} mm, of which a grid of {usual:.2f} mm would make {count}:"
            " most of it would be made up. Export the series again",
            "too-sparse",
        )
    step = places[-1] / (count - 1)
    target = np.arange(count) * step
    lower = np.clip(np.searchsorted(places, target, side="right") - 1, 0, len(places) - 2)
    weight = (target - places[lower]) / gaps[lower]
    weight[np.abs(weight) * gaps[lower] < _SAME * step] = 0
    weight[np.abs(1 - weight) * gaps[lower] < _SAME * step] = 1
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 3] = line * step, found[0]
    affine[:3, 1], affine[:3, 2] = along_j * spacing[0], along_i * spacing[1]
    made = Placed(tuple(int(n) for n in order), affine, (), lower, weight)
    widest = float(gaps.max())
    told = f"{len(made.interpolated)} of {count} slices interpolated between neighbours up to {widest:.2f} mm apart"
    listed = ", ".join(str(k) for k in made.interpolated[:24]) + (" ..." if len(made.interpolated) > 24 else "")
    note = f"resampled to {count} slices of {step:.2f} mm, as asked: {told} (indices {listed})"
    return Placed(made.order, affine, (note,), lower, weight)
