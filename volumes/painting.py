"""A grid of relative densities (water 1, air 0) and the brushes that paint bodies, tubes and points into it.

Every brush touches only the bounding box of its structure, and voxels at a border get the covered fraction
(anti-aliasing). Arrays are indexed (z, y, x) with z towards the head, y towards the back, x to the patient's left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Voxel centers: `start_mm` is the (z, y, x) of voxel (0, 0, 0), `step_mm` the edge of the cubic voxels."""

    start_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    step_mm: float

    def axis(self, number: int) -> Array:
        """Coordinates in mm of the voxel centers along axis 0 (z), 1 (y) or 2 (x)."""
        ticks = np.arange(self.shape[number], dtype=np.float32)
        return np.asarray(self.start_mm[number] + self.step_mm * ticks, np.float32)

    def box(self, low: NDArray[np.floating], high: NDArray[np.floating], pad_mm: float = 0.0) -> Box:
        """Slices that hold all voxels between the corners `low` and `high`, (z, y, x) in mm, clipped to the grid."""
        parts = []
        for a in range(3):
            first = int(np.floor((float(low[a]) - pad_mm - self.start_mm[a]) / self.step_mm))
            last = int(np.ceil((float(high[a]) + pad_mm - self.start_mm[a]) / self.step_mm)) + 1
            first, last = min(max(first, 0), self.shape[a]), min(max(last, 0), self.shape[a])
            parts.append(slice(first, max(first, last)))
        return parts[0], parts[1], parts[2]

    def part(self, box: Box) -> Grid:
        """The grid of a box alone."""
        z, y, x = (self.start_mm[a] + self.step_mm * box[a].start for a in range(3))
        shape = tuple(s.stop - s.start for s in box)
        return Grid((z, y, x), (shape[0], shape[1], shape[2]), self.step_mm)

    def open(self, box: Box) -> tuple[Array, Array, Array]:
        """Coordinates of a box, shaped (n, 1, 1), (1, n, 1), (1, 1, n) to broadcast against each other."""
        z, y, x = (self.axis(a)[box[a]] for a in range(3))
        return z[:, None, None], y[None, :, None], x[None, None, :]

    def nearest(self, points: NDArray[np.floating]) -> NDArray[np.int64]:
        """Indices (N, 3) of the voxels nearest to points (N, 3) in mm (z, y, x), clipped to the grid."""
        index = np.rint((points - np.asarray(self.start_mm)) / self.step_mm).astype(np.int64)
        return np.clip(index, 0, np.asarray(self.shape) - 1)


def coverage(depth_mm: Array, step_mm: float) -> Array:
    """Covered fraction of a voxel whose center lies `depth_mm` inside a border. Overwrites and returns its argument."""
    depth_mm *= np.float32(1.0 / step_mm)
    depth_mm += np.float32(0.5)
    return np.clip(depth_mm, 0.0, 1.0, out=depth_mm)


def blend(field: Array, box: Box, cover: Array, value: float | Array) -> None:
    """Replaces the covered fraction of the voxels in `box` by `value`."""
    part = field[box]
    part += cover * (value - part)


def smoothstep(x: Array) -> Array:
    """0 below 0, 1 above 1, with flat ends, so that a soft border has an exact end."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3.0 - 2.0 * x), np.float32)


def ellipsoid(
    grid: Grid, center: NDArray[np.floating], axes: NDArray[np.floating], semi_mm: NDArray[np.floating]
) -> tuple[Box, Array]:
    """Box and approximate depth in mm (positive inside) of an ellipsoid.

    `axes` (3, 3) holds its unit axes as rows in (z, y, x), `semi_mm` (3,) their half lengths.
    """
    shape = (axes.T / semi_mm**2) @ axes
    reach = np.sqrt((axes.T * semi_mm**2 @ axes).diagonal())
    box = grid.box(center - reach, center + reach, grid.step_mm)
    z, y, x = grid.open(box)
    z, y, x = z - np.float32(center[0]), y - np.float32(center[1]), x - np.float32(center[2])
    q = shape.astype(np.float32)
    plane = q[0, 0] * z * z + q[1, 1] * y * y + 2 * q[0, 1] * z * y
    field = (2 * q[0, 2] * z + 2 * q[1, 2] * y) * x
    field += plane
    field += q[2, 2] * x * x
    np.sqrt(np.maximum(field, 0, out=field), out=field)
    field -= 1.0
    field *= np.float32(-np.cbrt(np.prod(semi_mm)))
    return box, field


def ball(grid: Grid, center: NDArray[np.floating], radius_mm: float) -> tuple[Box, Array]:
    """Box and exact depth in mm of a ball."""
    box = grid.box(center - radius_mm, center + radius_mm, grid.step_mm)
    z, y, x = grid.open(box)
    away = (z - np.float32(center[0])) ** 2 + (y - np.float32(center[1])) ** 2 + (x - np.float32(center[2])) ** 2
    return box, np.asarray(np.float32(radius_mm) - np.sqrt(away), np.float32)


def capsule(
    grid: Grid, a: NDArray[np.floating], b: NDArray[np.floating], ra_mm: float, rb_mm: float
) -> tuple[Box, Array]:
    """Box and depth in mm of a rod from `a` to `b` whose radius goes from `ra_mm` to `rb_mm`."""
    r = max(ra_mm, rb_mm)
    box = grid.box(np.minimum(a, b) - r, np.maximum(a, b) + r, grid.step_mm)
    z, y, x = grid.open(box)
    d = (b - a).astype(np.float32)
    z, y, x = z - np.float32(a[0]), y - np.float32(a[1]), x - np.float32(a[2])
    t = (z * d[0] + y * d[1] + x * d[2]) / np.float32(max(float(d @ d), 1e-6))
    t = np.clip(t, 0.0, 1.0)
    away = np.sqrt((z - t * d[0]) ** 2 + (y - t * d[1]) ** 2 + (x - t * d[2]) ** 2)
    return box, np.asarray(np.float32(ra_mm) + np.float32(rb_mm - ra_mm) * t - away, np.float32)


def resample(points: NDArray[np.floating], step_mm: float) -> NDArray[np.float64]:
    """Points about `step_mm` apart along a polyline (N, 3)."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0.0, length[-1], max(int(length[-1] / step_mm) + 1, 2))
    return np.stack([np.interp(at, length, points[:, a]) for a in range(3)], axis=1)


def smooth_curve(points: NDArray[np.floating], step_mm: float) -> NDArray[np.float64]:
    """Catmull-Rom curve through `points` (N, 3), resampled at about `step_mm`."""
    p = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    pieces = []
    for i in range(len(points) - 1):
        a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
        pieces.append(b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))
    pieces.append(points[-1:])
    return resample(np.concatenate(pieces), step_mm)


def splat(field: Array, grid: Grid, points: NDArray[np.floating], mass_mm3: NDArray[np.floating]) -> None:
    """Adds small masses (density times mm3) at points (N, 3), shared by the eight nearest voxels (trilinear).

    Masses outside the grid are lost. Additions happen in the order of the points, so a voxel that no changed point
    reaches keeps its exact bits.
    """
    position = (points - np.asarray(grid.start_mm)) / grid.step_mm
    base = np.floor(position).astype(np.int64)
    inside = np.all((base >= 0) & (base < np.asarray(grid.shape) - 1), axis=1)
    base, part = base[inside], (position[inside] - base[inside]).astype(np.float32)
    weight = (mass_mm3[inside] / grid.step_mm**3).astype(np.float32)
    _, ny, nx = grid.shape
    first = (base[:, 0] * ny + base[:, 1]) * nx + base[:, 2]
    flat = field.reshape(-1)
    for dz in (0, 1):
        wz = weight * (part[:, 0] if dz else 1 - part[:, 0])
        for dy in (0, 1):
            wy = wz * (part[:, 1] if dy else 1 - part[:, 1])
            for dx in (0, 1):
                w = wy * (part[:, 2] if dx else 1 - part[:, 2])
                np.add.at(flat, first + ((dz * ny + dy) * nx + dx), w)


CLOUD = 64  # period of the texture in voxels
_REPEATS = 4  # the tile is stored repeated along y and x, so that a box is cut out by plain slices


@lru_cache(maxsize=1)
def cloud_tile() -> Array:
    """A fixed periodic random field with mean 0, deviation 1 and a 1/f-like spectrum, (64, 256, 256)."""
    rng = np.random.Generator(np.random.Philox(key=20240607))
    white = rng.standard_normal((CLOUD, CLOUD, CLOUD)).astype(np.float32)
    f = np.fft.fftfreq(CLOUD) * CLOUD
    radius = np.sqrt(f[:, None, None] ** 2 + f[None, :, None] ** 2 + f[None, None, :] ** 2)
    gain = np.where(radius > 0, 1.0 / np.maximum(radius, 1.5) ** 1.3, 0.0)
    tile = np.fft.ifftn(np.fft.fftn(white) * gain).real.astype(np.float32)
    return np.asarray(np.tile(tile / tile.std(), (1, _REPEATS, _REPEATS)), np.float32)


def clouds(box: Box, seed: int) -> Array:
    """Texture for a box: the fixed tile, shifted by `seed`. A voxel has the same texture in every box. A new array."""
    shifts = (seed % CLOUD, seed // CLOUD % CLOUD, seed // CLOUD**2 % CLOUD)
    z, y, x = ((np.arange(s.start, s.stop) + o) % CLOUD for s, o in zip(box, shifts, strict=True))
    if max(len(y), len(x)) > CLOUD * (_REPEATS - 1):
        return np.asarray(cloud_tile()[np.ix_(z, y, x)], np.float32)
    rows, columns = (slice(int(v[0]), int(v[0]) + len(v)) if len(v) else slice(0, 0) for v in (y, x))
    return np.asarray(cloud_tile()[z, rows, columns], np.float32)
