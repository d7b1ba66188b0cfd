"""A chest CT on a working grid: axes along the body, a few millimetres per step, ready for morphology."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experts.card import ExpertError
from experts.measure import Floats, Mask, index_box
from volumes.volume import Region, Volume, volume_region

WORKING_MM = 2.0
"""Voxels finer than this are averaged until a step is at least about this long."""

_LONGEST_STEP_MM = 10.0
_TOWARDS = "SPL"  # k grows to the head, j to the back, i to the patient's left


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels (D, H, W) in HU; k grows to the head, j to the back, i to the patient's left, each to the nearest axis.

    `affine` maps (k, j, i, 1) of this grid to LPS mm; `spacing_mm` is the length of one step along k, j, i.
    """

    hu: NDArray[np.float32]
    affine: Floats
    spacing_mm: tuple[float, float, float]
    volume: Volume

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel of this grid, ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def pixel_mm2(self) -> float:
        """Area of one voxel in an axial slice, mm²."""
        return self.spacing_mm[1] * self.spacing_mm[2]

    def steps(self, mm: float, axis: int = 2) -> int:
        """How many whole steps along an axis come closest to this length, at least 1."""
        return max(1, round(mm / self.spacing_mm[axis]))

    def region(self, mask: Mask) -> Region | None:
        """Box around a mask of this grid, in the index of the volume that was read; None for an empty mask."""
        box = index_box(mask)
        if box is None:
            return None
        corners = np.array(np.meshgrid(*zip(*box, strict=True), indexing="ij")).reshape(3, -1).T - 0.5
        mm = corners @ self.affine[:3, :3].T + self.affine[:3, 3]
        index = self.volume.mm_to_index(mm.tolist()).numpy() + 0.5
        start = np.clip(np.round(index.min(axis=0), 3), 0, self.volume.shape)
        stop = np.clip(np.round(index.max(axis=0), 3), 0, self.volume.shape)
        return volume_region(self.volume, start.tolist(), stop.tolist())


def working_grid(volume: Volume) -> Grid:
    """Turn the axes along the body and average fine voxels. Raises: ExpertError for too few or too thick slices."""
    letters = volume.orientation
    order, flips = [], []
    for wanted in _TOWARDS:
        opposite = {"S": "I", "P": "A", "L": "R"}[wanted]
        axis = next(place for place, letter in enumerate(letters) if letter in (wanted, opposite))
        order.append(axis)
        flips.append(letters[axis] == opposite)
    hu = volume.voxels.numpy().transpose(order)
    columns = volume.affine.numpy()[:3, :3][:, order].copy()
    origin = volume.affine.numpy()[:3, 3].copy()
    for axis, flip in enumerate(flips):
        if flip:
            origin += columns[:, axis] * (hu.shape[axis] - 1)
            columns[:, axis] *= -1
            hu = np.flip(hu, axis)
    spacing = np.linalg.norm(columns, axis=0)
    if spacing[0] > _LONGEST_STEP_MM or hu.shape[0] * spacing[0] < 60:
        raise ExpertError(
            f"{hu.shape[0]} slices every {spacing[0]:.1f} mm cover {hu.shape[0] * spacing[0]:.0f} mm of the body,"
            f" expected at least 60 mm in steps of at most {_LONGEST_STEP_MM:.0f} mm",
            "too-few-slices",
        )
    blocks = np.maximum(1, np.floor(WORKING_MM / spacing * 1.05)).astype(int)
    hu = _block_mean(hu, blocks)
    origin = origin + columns @ ((blocks - 1) / 2)
    affine = np.eye(4)
    affine[:3, :3] = columns * blocks
    affine[:3, 3] = origin
    dk, dj, di = (spacing * blocks).tolist()
    return Grid(hu, affine, (dk, dj, di), volume)


def _block_mean(hu: NDArray[np.float32], blocks: NDArray[np.int_]) -> NDArray[np.float32]:
    for axis, block in enumerate(blocks.tolist()):
        if block > 1:
            kept = hu.shape[axis] // block
            hu = np.stack([np.take(hu, np.arange(kept) * block + step, axis) for step in range(block)]).mean(axis=0)
    return np.ascontiguousarray(hu, dtype=np.float32)
