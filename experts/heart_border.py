"""The heart's border in a lung field, as the path of fastest fall in brightness going outward from the middle.

A heart in front of aerated lung is only a little brighter than it, so a threshold that follows the lung's outer wall
may swallow the heart. Its border is still one long smooth edge: found row by row with dynamic programming. Each row's
strength is capped, so that the strong edge of the spine does not win over the weaker one of the heart; of two edges
that are good enough, the outer one is taken.
Source: shortest-path borders as in Amini, Weymouth and Jain 1990, doi:10.1109/34.57681.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Plane = NDArray[np.float64]

_ALONG = 4.0  # rows of smoothing: ribs cross the border and fade, the border stays
_CAP = 0.45  # of a typical row's strongest edge
_OUTWARD = 0.2  # what an edge gains from the inner to the outer end of the searched columns
_BEND = 0.08  # cost of one column of sideways step
_STEP = 3  # columns from one row to the next, at most
_REACH = 0.6  # of the field's width is searched
_LEAST_STRENGTH = 0.6  # mean capped strength of a path that counts as a border


def smoothed(plane: Plane) -> Plane:
    """The plane (h, w) as `border` wants it: smoothed along columns, so that ribs fade."""
    return np.asarray(ndimage.gaussian_filter(plane, (_ALONG, 1.2)))


def border(plane: Plane, field: NDArray[np.bool_], rows: NDArray[np.int_], outward: int) -> float | None:
    """Outermost column of the heart's border on these rows, or None where no path is clear.

    Shapes: plane (from `smoothed`), field (h, w); rows (R,), each with some field. `outward` is +1 if the field lies to
    the right of the film's middle, -1 if to the left. The column is the border between two pixels, from the left.
    """
    if outward < 0:
        found = border(plane[:, ::-1], field[:, ::-1], rows, 1)
        return None if found is None else plane.shape[1] - found
    if len(rows) < 8:
        return None
    inner = float(np.percentile(field[rows].argmax(axis=1), 10))
    outer = float(np.median(field.shape[1] - 1 - field[rows][:, ::-1].argmax(axis=1)))
    first, last = max(int(inner) - 4, 1), int(inner + _REACH * (outer - inner))
    if last - first < 8:
        return None
    fall = -np.gradient(plane[rows], axis=1)[:, first:last]
    typical = float(np.median(fall.max(axis=1)))
    if typical <= 0:
        return None
    strength = np.clip(fall / (_CAP * typical), -0.5, 1)
    path = _best_path(strength + _OUTWARD * np.linspace(0, 1, last - first))
    if strength[np.arange(len(rows)), path].mean() < _LEAST_STRENGTH:
        return None
    return float(np.percentile(path, 97)) + first + 1


def _best_path(gain: Plane) -> NDArray[np.int_]:
    """Column in each row (R,) of the path from first to last row with the largest sum of gains (R, C)."""
    columns = np.arange(gain.shape[1])
    cost = _BEND * np.abs(np.arange(-_STEP, _STEP + 1))
    padded = np.full(len(columns) + 2 * _STEP, -np.inf)
    nearby = np.lib.stride_tricks.sliding_window_view(padded, 2 * _STEP + 1)  # a view: follows `padded`
    total = gain[0]
    came = np.zeros(gain.shape, dtype=np.int_)
    for row in range(1, len(gain)):
        padded[_STEP:-_STEP] = total
        before = nearby - cost
        best = before.argmax(axis=1)
        came[row] = columns + best - _STEP
        total = gain[row] + before[columns, best]
    path = [int(total.argmax())]
    for row in range(len(gain) - 1, 0, -1):
        path.append(int(came[row][path[-1]]))
    return np.array(path[::-1])
