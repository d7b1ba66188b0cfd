"""A chest while it is being painted: its fields, its landmarks, and what findings change in the anatomy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from volumes.anatomy import Anatomy, Cage
from volumes.painting import Array, Box, Grid, blend, coverage

Floats = NDArray[np.float64]
FAT, MUSCLE, BLOOD = 0.91, 1.05, 1.05  # densities relative to water


@dataclass(frozen=True)
class Changes:
    """What findings change in the anatomy itself, before anything is painted over it."""

    heart_ratio: float | None = None
    inflation: float = 0.0
    vessel_gain: float = 1.0
    fractures: tuple[
        tuple[bool, int, float, float, int], ...
    ] = ()  # right, rib, angle in degrees, displacement mm, seed


@dataclass
class Thorax:
    """A painted chest. `density` is relative to water; `lung` the covered fraction of lung, both (nz, ny, nx)."""

    anatomy: Anatomy
    cage: Cage
    grid: Grid
    density: Array
    lung: Array
    carina: Floats = field(default_factory=lambda: np.zeros(3))
    trachea: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    hila: dict[bool, Floats] = field(default_factory=dict)  # True: right
    heart_box: Box | None = None
    heart: Array | None = None
    ribs: dict[tuple[bool, int], Floats] = field(default_factory=dict)
    fracture_sites: dict[tuple[bool, int], Floats] = field(default_factory=dict)
    trees: dict[bool, tuple[Floats, Floats]] = field(default_factory=dict)

    def cage_mask(self, box: Box, right: bool) -> Array:
        """Covered fraction of one half of the chest's cavity, heart and vessels included, over `box`."""
        z, y, x = self.grid.open(box)
        points = np.stack(np.broadcast_arrays(z, y, x), axis=-1).reshape(-1, 3)
        depth = self.cage.depth(points).reshape(np.broadcast_shapes(z.shape, y.shape, x.shape))
        cover = coverage(depth.astype(np.float32), self.grid.step_mm)
        return np.asarray(cover * ((x < 0) == right), np.float32)

    def lung_box(self, right: bool) -> Box:
        """Box that holds one lung."""
        a, c = self.anatomy, self.cage
        wide = a.half_width * 1.04
        _, _, _, middle = c.profile(np.linspace(0, a.height, 20))
        low = np.array([-a.sulcus * 1.9 - 30, middle.min() - c.half_depth - 3, -wide if right else 0.0])
        high = np.array([a.height + 3, middle.max() + c.half_depth + 3, 0.0 if right else wide])
        box = self.grid.box(low, high)
        half = self.grid.shape[2] // 2
        x = slice(box[2].start, half) if right else slice(half, box[2].stop)
        return box[0], box[1], x

    def aerated(self, box: Box) -> Array:
        """1 where a voxel holds an eighth of lung or more: there a solid neighbor may fill it without a dark seam."""
        return np.minimum(self.lung[box] * np.float32(8.0), np.float32(1.0))

    def solid(self, box: Box, depth_mm: Array, value: float, lung_only: bool = False) -> Array:
        """Paints a solid organ of density `value` and takes its place out of the lung; returns the covered fraction."""
        cover = coverage(depth_mm, self.grid.step_mm)
        if lung_only:
            cover *= self.aerated(box)
        blend(self.density, box, cover, value)
        self.lung[box] *= 1 - cover
        return cover
