"""Fluid behind or beside the lung: between its border and the ribs, about as dense as water, in a patient on the back.

Not a diagnosis: blood, pus and thick pleura may look alike, and consolidated lung is only a little denser.
Source: the range is a wide form of Abramowitz et al. 2009, AJR 192:618 (means of about 0 to 30).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay, QhullError

from experts.ct_grid import Grid
from experts.ct_lungs import Chest
from experts.measure import Mask

FLUID_HU = (-15.0, 40.0)
_BONE_HU = 200.0
_WALL_MM = 4.0  # the hull of the ribs runs along their outer rims; the pleura lies about this far inside
_CLEAR_FLUID_HU = 30.0  # where no lung bounds the search, liver and spleen (40 HU and more) must stay out
_SPINE_MM = 40.0  # vertebra, aorta and gullet lie within this distance of the middle
_THIN_MM, _SOME_MM, _THICK_MM = 6.0, 10.0, 15.0
_LITTLE_ML, _SOME_ML, _MUCH_ML = 25.0, 60.0, 100.0
_LEAST_SHARE = 0.7  # of the other lung's volume; the left lung has about 0.85 of the right
_HIGHEST_END_MM = 25.0


@dataclass(frozen=True, eq=False)
class Rim:
    """Fluid on one side: mask (D, H, W), volume in ml, depth of the layer in mm, mean attenuation in HU."""

    mask: Mask
    ml: float
    depth_mm: float
    mean_hu: float
    lung_fills_chest: bool

    @property
    def status(self) -> Literal["present", "absent", "uncertain"] | None:
        """Present when deep and large, absent when thin or small around a lung that fills its side of the chest.

        None: nothing is said. There is a little, or the lung is much smaller than the other and something not aerated
        lies in its place.
        """
        if self.depth_mm >= _THICK_MM and self.ml >= _MUCH_ML:
            return "present"
        if self.depth_mm >= _SOME_MM and self.ml >= _SOME_ML:
            return "uncertain"
        little = self.depth_mm < _THIN_MM or self.ml < _LITTLE_ML
        return "absent" if little and self.lung_fills_chest else None


def _fills(grid: Grid, lung: Mask, other: Mask) -> bool:
    """Whether a lung is not much smaller than the other, and ends not much higher."""
    if not other.any():
        return False
    lowest = [int(np.flatnonzero(side.any(axis=(1, 2)))[0]) * grid.spacing_mm[0] for side in (lung, other)]
    return bool(lung.sum() > _LEAST_SHARE * other.sum() and lowest[0] - lowest[1] < _HIGHEST_END_MM)


def rims(grid: Grid, chest: Chest) -> dict[Literal["left", "right"], Rim]:
    """Fluid-like voxels behind and beside each lung that was found."""
    soft = ndimage.uniform_filter(grid.hu, size=[1, grid.steps(5, 1), grid.steps(5, 2)])  # noise hides 40 HU steps
    inside = _inside_ribs(grid, chest)
    sides: dict[Literal["left", "right"], Mask] = {"left": chest.left, "right": chest.right}
    fills = {"left": _fills(grid, chest.left, chest.right), "right": _fills(grid, chest.right, chest.left)}
    return {side: _rim(grid, soft, inside, lung, chest, fills[side]) for side, lung in sides.items() if lung.any()}


def _rim(grid: Grid, soft: NDArray[np.float32], inside: Mask, lung: Mask, chest: Chest, fills: bool) -> Rim:
    columns = np.arange(lung.shape[2])
    middle = float(np.flatnonzero(chest.lungs.any(axis=(0, 1))).mean())
    outward = 1 if np.nonzero(lung)[2].mean() > middle else -1
    lateral = (columns - middle) * outward * grid.spacing_mm[2] > _SPINE_MM
    if fills:
        enough = np.reshape(lung.sum(axis=(1, 2)) * grid.pixel_mm2 > 500, (-1, 1, 1))
        place = (_beyond(lung, axis=1, direction=1) | _beyond(lung, axis=2, direction=outward)) & enough
    else:
        # A large effusion pushes the lung up and away, so all of this side that the other lung spans is searched.
        place = np.broadcast_to(np.asarray(chest.lungs.any(axis=(1, 2))).reshape(-1, 1, 1), lung.shape)
    highest = FLUID_HU[1] if fills else _CLEAR_FLUID_HU
    fluid = place & inside & lateral & (soft > FLUID_HU[0]) & (soft < highest)
    reach = max(1, int(3 / grid.spacing_mm[1])), max(1, int(3 / grid.spacing_mm[2]))
    fluid = ndimage.binary_opening(fluid, np.ones((1, 2 * reach[0] + 1, 2 * reach[1] + 1), bool))
    labels, count = ndimage.label(fluid)
    if count == 0:
        return Rim(fluid, 0.0, 0.0, float("nan"), fills)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = labels == int(sizes.argmax())
    # The thinner of both directions is the depth of a layer that lies along the wall.
    depth = min(_thickness(largest, axis) * grid.spacing_mm[axis] for axis in (1, 2))
    return Rim(largest, float(largest.sum()) * grid.voxel_ml, depth, float(grid.hu[largest].mean()), fills)


def _beyond(lung: Mask, axis: int, direction: int) -> Mask:
    """Voxels past the last lung voxel of their line along an axis; lines without lung have none."""
    line = lung if direction > 0 else np.flip(lung, axis)
    passed = np.maximum.accumulate(np.flip(line, axis), axis)
    after = ~np.flip(passed, axis) & line.any(axis=axis, keepdims=True)
    return np.asarray(after if direction > 0 else np.flip(after, axis))


def _thickness(mask: Mask, axis: int) -> float:
    """95th percentile of the number of voxels in a line along an axis, over the lines that cross the mask."""
    return float(np.percentile(mask.sum(axis=axis)[mask.any(axis=axis)], 95))


def _inside_ribs(grid: Grid, chest: Chest) -> Mask:
    bone = (grid.hu > _BONE_HU) & chest.body
    inside = np.zeros_like(bone)
    shrink = np.ones([2 * grid.steps(_WALL_MM, axis) + 1 for axis in (1, 2)], bool)
    reach = grid.steps(10, axis=0)  # ribs slant, so a slice alone has gaps: neighbours fill them
    for k in range(bone.shape[0]):
        if not chest.lungs[k].any():
            continue
        near = bone[max(0, k - reach) : k + reach + 1].any(axis=0)
        near |= chest.lungs[k]
        points = np.argwhere(near & ~ndimage.binary_erosion(near))
        try:
            corners = points[ConvexHull(points).vertices]
        except QhullError:
            continue
        every = np.indices(near.shape).reshape(2, -1).T
        hull = (Delaunay(corners).find_simplex(every) >= 0).reshape(near.shape)
        inside[k] = ndimage.binary_erosion(hull, shrink) & ~near
    return inside
