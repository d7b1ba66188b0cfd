"""Radiographs by integrating attenuation along the rays of a diverging beam through the voxels.

The detector is parallel to the planes of the volume, so the beam magnifies each plane about one point: sampling a plane
at the detector pixels is separable and becomes two small matrix products (linear interpolation), and the sum over all
planes is one large product. A beam that comes from the side is the same as a patient who is turned or leans back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from volumes.painting import Array, Box, Grid

WATER_PER_MM = 0.0203  # linear attenuation of water at the effective energy of a 120 kV chest film
SOURCE_DETECTOR_MM = 1800.0
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class View:
    """Geometry of one film. Planes lie across `depth_axis` of the volume (1 for PA, 2 for lateral).

    `detector_mm` is the position of the detector along that axis, the source lies `SOURCE_DETECTOR_MM` from it in the
    direction `towards` (+1 or -1). `focus_mm` is where the source stands over the other two axes (rows: z; columns: x
    or y); `center_mm` is the middle of the detector over the same axes.
    """

    name: Literal["PA", "LATERAL"]
    depth_axis: int
    detector_mm: float
    towards: float
    focus_mm: tuple[float, float]
    center_mm: tuple[float, float]
    matrix: tuple[int, int]
    spacing_mm: tuple[float, float]

    def rows_mm(self, matrix: int | None = None) -> Floats:
        """z of the detector rows, from the top down."""
        n, step = self._resize(0, matrix)
        return self.center_mm[0] + ((n - 1) / 2 - np.arange(n)) * step

    def columns_mm(self, matrix: int | None = None) -> Floats:
        """x (PA, patient's right first) or y (lateral, front first) of the detector columns."""
        n, step = self._resize(1, matrix)
        return self.center_mm[1] + (np.arange(n) - (n - 1) / 2) * step

    def _resize(self, axis: int, matrix: int | None) -> tuple[int, float]:
        n = matrix or self.matrix[axis]
        return n, self.matrix[axis] * self.spacing_mm[axis] / n

    def on_plane(self, detector_mm: Floats, axis: int, plane_mm: NDArray[np.floating]) -> Floats:
        """Where rays to detector coordinates (N,) cross planes (S,): coordinates (S, N) in the patient."""
        share = (plane_mm[:, None] - self.detector_mm) * self.towards / SOURCE_DETECTOR_MM
        return detector_mm[None, :] + share * (self.focus_mm[axis] - detector_mm[None, :])

    def place(self, point_zyx: Floats) -> tuple[float, float]:
        """Pixel (row, column) where a point of the patient is seen."""
        column_axis = 3 - self.depth_axis
        share = (point_zyx[self.depth_axis] - self.detector_mm) * self.towards / SOURCE_DETECTOR_MM
        z, c = ((point_zyx[a] - share * f) / (1 - share) for a, f in zip((0, column_axis), self.focus_mm, strict=True))
        row = (self.matrix[0] - 1) / 2 - (z - self.center_mm[0]) / self.spacing_mm[0]
        return float(row), float((self.matrix[1] - 1) / 2 + (c - self.center_mm[1]) / self.spacing_mm[1])


def _taps(position: Floats, start: float, step: float, count: int, extend: bool = False) -> Array:
    """Linear interpolation as matrices (S, N, count): each row has at most two weights.

    Outside the grid there is nothing, or with `extend` what stands at its border (the body goes on below the film).
    """
    f = (position - start) / step
    if extend:
        f = np.clip(f, 0, count - 1)
    base = np.floor(f).astype(np.int64)
    part = f - base
    planes, size = position.shape
    out = np.zeros((planes, size, count + 2), np.float32)
    inside = (base >= -1) & (base < count)
    s, n = np.nonzero(inside)
    b, p = base[inside] + 1, part[inside]
    out[s, n, b] = 1 - p
    out[s, n, b + 1] = p
    return out[:, :, 1:-1]


def _slabs(volume: Array, depth_axis: int, merge: int) -> Array:
    """Sums of `merge` neighboring planes, (S, nz, other); merging moves a point by less than 0.2 mm."""
    nz, ny, nx = volume.shape
    if depth_axis == 1:
        n = -(-ny // merge)
        out = np.zeros((n, nz, nx), np.float32)
        view = out.transpose(1, 0, 2)
        for m in range(merge):
            part = volume[:, m::merge]
            view[:, : part.shape[1]] += part
        return out
    sums = volume[:, :, ::merge].copy()
    for m in range(1, merge):
        part = volume[:, :, m::merge]
        sums[:, :, : part.shape[2]] += part
    return np.ascontiguousarray(sums.transpose(2, 0, 1))


def integrate(
    volume: Array,
    grid: Grid,
    view: View,
    merge: int = 2,
    matrix: tuple[int, int] | None = None,
    part: tuple[slice, slice] = (slice(None), slice(None)),
    extend: bool = True,
) -> Array:
    """Line integrals (H, W) of `volume` (its unit times mm) over the rays of `view`.

    `matrix` samples the same detector area with other pixels; `part` computes only those rows and columns;
    `extend` continues the volume above and below its ends.
    """
    axis, column_axis = view.depth_axis, 3 - view.depth_axis
    slabs = _slabs(volume, axis, merge)
    planes = grid.start_mm[axis] + grid.step_mm * (np.arange(len(slabs)) * merge + (merge - 1) / 2)
    rows_mm, columns_mm = view.rows_mm(matrix and matrix[0])[part[0]], view.columns_mm(matrix and matrix[1])[part[1]]
    rows = _taps(view.on_plane(rows_mm, 0, planes), grid.start_mm[0], grid.step_mm, grid.shape[0], extend)
    columns = _taps(
        view.on_plane(columns_mm, 1, planes), grid.start_mm[column_axis], grid.step_mm, grid.shape[column_axis]
    )
    wide = np.matmul(slabs, columns.transpose(0, 2, 1))
    total = rows.transpose(1, 0, 2).reshape(len(rows_mm), -1) @ wide.reshape(-1, len(columns_mm))
    u = (rows_mm[:, None] - view.focus_mm[0]) / SOURCE_DETECTOR_MM
    v = (columns_mm[None, :] - view.focus_mm[1]) / SOURCE_DETECTOR_MM
    return np.asarray(total * (np.sqrt(1 + u * u + v * v) * grid.step_mm).astype(np.float32), np.float32)


def integrate_box(
    cover: Array, box: Box, grid: Grid, view: View, merge: int = 2, matrix: tuple[int, int] | None = None
) -> Array:
    """Line integrals (H, W) of an array that fills only `box` of the grid; rays that miss the box get exactly 0."""
    size = matrix or view.matrix
    film = np.zeros(size, np.float32)
    if 0 in cover.shape:
        return film
    low = [grid.start_mm[a] + grid.step_mm * (box[a].start - 1) for a in range(3)]
    high = [grid.start_mm[a] + grid.step_mm * box[a].stop for a in range(3)]
    corners = np.array(list(product(*zip(low, high, strict=True))))
    seen = (np.array([view.place(corner) for corner in corners]) + 0.5) * np.array(size) / np.array(view.matrix) - 0.5
    first = np.clip(np.floor(seen.min(0)).astype(int) - 1, 0, size)
    last = np.clip(np.ceil(seen.max(0)).astype(int) + 2, 0, size)
    if np.any(last <= first):
        return film
    part = slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))
    film[part] = integrate(
        np.asarray(cover, np.float32),
        grid.part(box),
        view,
        min(merge, cover.shape[view.depth_axis]),
        matrix,
        part,
        False,
    )
    return film


@lru_cache(maxsize=64)
def upsample_matrix(size: int, native: int) -> Array:
    """Cubic (Catmull-Rom) interpolation from `native` to `size` samples over the same length, (size, native)."""
    at = (np.arange(size) + 0.5) * native / size - 0.5
    base = np.floor(at).astype(int)
    t = at - base
    weights = np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], 1) / 2
    out = np.zeros((size, native), np.float32)
    for k in range(4):
        np.add.at(out, (np.arange(size), np.clip(base + k - 1, 0, native - 1)), weights[:, k])
    return out
