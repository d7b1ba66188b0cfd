"""Width of the heart and of the thorax on axial slices of a CT.

Heart: soft tissue between the lungs after an opening that removes vessels, on the slices above the dome of the right
diaphragm. Both are greatest horizontal widths, as on a film. Source: Gollub et al. 2012, J Comput Assist Tomogr 36:67.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay, QhullError

from experts.ct_grid import Grid
from experts.ct_lungs import Chest
from experts.measure import Mask

_VESSEL_RADIUS_MM = 13.0
_LOWEST_LUNG_MM2 = 3000.0  # each lung's area in a slice through the heart
_LARGEST_BULGE = 0.15  # share of the outer half of the right chest that vessels or a small lesion take
_HEART_REACH_MM = 45.0  # the heart is widest within this height above the domes; higher up, hilar masses would count


@dataclass(frozen=True, eq=False)
class HeartLevel:
    """The widest heart and the widest thorax, mm, each with its mask (D, H, W) on the slice where it was found.

    `spread_mm` is how much the heart's width changes from one slice to its neighbours.
    """

    heart_mm: float
    thorax_mm: float
    spread_mm: float
    heart: Mask
    thorax: Mask


def widths(grid: Grid, chest: Chest) -> HeartLevel | None:
    """Greatest widths of heart and inner thorax, or None if no slice shows a heart between two lungs."""
    dome = _dome(grid, chest)
    if dome is None:
        return None
    dome += grid.steps(5, axis=0)  # the left dome may reach a little higher
    last = min(grid.hu.shape[0], dome + grid.steps(_HEART_REACH_MM, axis=0))
    shapes = {k: shape for k in range(dome, last) if (shape := _heart(grid, chest, k)) is not None}
    if len(shapes) < 2:
        return None
    steps = {k: _width(shape) for k, shape in shapes.items()}
    widest = max(steps, key=lambda k: steps[k])
    near = [steps[k] for k in (widest - 1, widest + 1) if k in steps]
    spread = float(np.mean([steps[widest] - other for other in near])) if near else 0.0
    across = [_width(slice_) if slice_.any() else 0 for slice_ in chest.lungs]
    level = int(np.argmax(across))
    heart, thorax = np.zeros_like(chest.body), np.zeros_like(chest.body)
    heart[widest] = shapes[widest]
    columns = np.flatnonzero(chest.lungs[level].any(axis=0))
    thorax[level, :, columns[0] : columns[-1] + 1] = chest.lungs[level].any(axis=1)[:, None]
    step = grid.spacing_mm[2]
    return HeartLevel(steps[widest] * step, across[level] * step, spread * step, heart, thorax)


def _dome(grid: Grid, chest: Chest) -> int | None:
    """First slice above the dome of the right diaphragm, or None if it does not lie in the lower part of the lungs.

    Below the dome, the liver fills the outer half of the right chest; the heart does not reach there.
    """
    disk = _disk(grid, 8.0)
    levels = np.flatnonzero(chest.lungs.any(axis=(1, 2)))
    for k in range(int(levels[0]), int(levels[0] + 0.6 * (levels[-1] - levels[0]))):
        right, left = chest.right[k], chest.left[k]
        if min(right.sum(), left.sum()) * grid.pixel_mm2 < _LOWEST_LUNG_MM2:
            continue
        columns = np.flatnonzero(right.any(axis=0))
        last = int(np.flatnonzero(left.any(axis=0))[-1])
        outer = np.s_[:, columns[0] : columns[0] + max(1, (last - columns[0]) // 4)]
        hull = _hull(right | left)[outer]
        solid = ndimage.binary_opening(hull & ~right[outer], disk)
        if solid.sum() < _LARGEST_BULGE * hull.sum():
            return k
    return None


def _heart(grid: Grid, chest: Chest, k: int) -> NDArray[np.bool_] | None:
    lungs = chest.lungs[k]
    if min(chest.right[k].sum(), chest.left[k].sum()) * grid.pixel_mm2 < _LOWEST_LUNG_MM2:
        return None
    between = _hull(lungs) & ~lungs & (grid.hu[k] > -150)
    opened = ndimage.binary_opening(between, _disk(grid, _VESSEL_RADIUS_MM))
    labels, count = ndimage.label(opened)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == int(sizes.argmax()))


def _width(slice_: NDArray[np.bool_]) -> int:
    columns = np.flatnonzero(slice_.any(axis=0))
    return int(columns[-1] - columns[0] + 1)


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:
        return mask
    every = np.indices(mask.shape).reshape(2, -1).T
    return (Delaunay(corners).find_simplex(every) >= 0).reshape(mask.shape)


def _disk(grid: Grid, radius_mm: float) -> NDArray[np.bool_]:
    reach = [int(radius_mm / step) for step in grid.spacing_mm[1:]]
    j, i = np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    return np.asarray((j * grid.spacing_mm[1]) ** 2 + (i * grid.spacing_mm[2]) ** 2 <= radius_mm**2)
