"""Slices in space -> one affine, or a refusal that measures what is wrong. Positions only, no pixels.

Follows the image plane module (PS3.3 C.7.6.2.1.1): order and spacing come from ImagePositionPatient projected on the
normal; SliceThickness, SpacingBetweenSlices, InstanceNumber and file names are never used for a stack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volumes.errors import VolumeError

Vector = NDArray[np.float64]

SAME_PLACE_MM = 0.01  # two slices closer than this lie at one place
MAX_RESIDUAL_MM = 0.1  # a slice may lie so far from the regular grid; also at most a tenth of the step
MAX_COSINE_ERROR = 2e-3  # headers are rounded; about 0.1 degree


@dataclass(frozen=True)
class Stack:
    """Slices in order of position, the affine (4, 4) from (k, j, i, 1) to LPS mm, and what had to be noted."""

    order: tuple[int, ...]
    affine: Vector
    notes: tuple[str, ...]


def stack(positions: Vector, orientations: Vector, spacings: Vector, thickness_mm: float | None = None) -> Stack:
    """Place N slices: positions (N, 3), orientations (N, 6) direction cosines, spacings (N, 2) row and column in mm.

    A tilted gantry gives a sheared affine, which is noted. `thickness_mm` serves a single slice only.
    Raises VolumeError for a missing slice, variable spacing, mixed orientations, or two slices at one place.
    """
    along_i, along_j, normal = axes(orientations)
    spacing = one_spacing(spacings)
    distance = positions @ normal
    order = np.argsort(distance, kind="stable")
    step, notes = _step(positions[order], distance[order], normal, thickness_mm)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = along_j * spacing[0]
    affine[:3, 2] = along_i * spacing[1]
    affine[:3, 3] = positions[order[0]]
    return Stack(tuple(int(n) for n in order), affine, notes)


def axes(orientations: Vector) -> tuple[Vector, Vector, Vector]:
    """Unit directions of growing column index (i), growing row index (j), and their normal, from (N, 6) cosines."""
    spread = float(np.abs(orientations - orientations[0]).max())
    if spread > MAX_COSINE_ERROR:
        raise VolumeError(
            f"image orientations differ by up to {spread:.4f} (direction cosines), expected at most {MAX_COSINE_ERROR};"
            " the series mixes planes and must be split",
            "mixed-orientations",
        )
    mean = orientations.mean(axis=0)
    along_i, along_j = mean[:3], mean[3:]
    lengths = float(np.linalg.norm(along_i)), float(np.linalg.norm(along_j))
    skew = abs(float(along_i @ along_j))
    if max(abs(length - 1) for length in lengths) > 10 * MAX_COSINE_ERROR or skew > 10 * MAX_COSINE_ERROR:
        raise VolumeError(
            f"ImageOrientationPatient has vectors of length {lengths[0]:.3f} and {lengths[1]:.3f} whose product is"
            f" {skew:.3f}; expected two unit vectors at a right angle",
            "bad-orientation",
        )
    along_i = along_i / lengths[0]
    along_j = along_j - (along_j @ along_i) * along_i  # rounding of the header is shared out, not kept as shear
    along_j = along_j / np.linalg.norm(along_j)
    return along_i, along_j, np.cross(along_i, along_j)


def same_place(positions: Vector) -> list[list[int]]:
    """Groups of slices (indices) that lie at one place, each group sorted, in order of first index."""
    if _all_apart(positions):
        return [[n] for n in range(len(positions))]
    if len(positions) and _apart(positions):
        return [[index] for index in range(len(positions))]
    groups: list[list[int]] = []
    by_cell: dict[tuple[int, ...], list[list[int]]] = {}
    for index, position in enumerate(positions):
        cell = tuple(np.floor(position).astype(int).tolist())
        near = [
            group
            for shift in np.ndindex(3, 3, 3)
            for group in by_cell.get(tuple(c + s - 1 for c, s in zip(cell, shift, strict=True)), [])
            if np.linalg.norm(positions[group[0]] - position) < SAME_PLACE_MM
        ]
        if near:
            near[0].append(index)
        else:
            groups.append([index])
            by_cell.setdefault(cell, []).append(groups[-1])
    return groups


def _apart(positions: Vector) -> bool:
    """Whether one coordinate alone already tells all slices apart: the usual case, and a hundred times faster."""
    along = int(np.argmax(positions.max(axis=0) - positions.min(axis=0)))
    return bool((np.diff(np.sort(positions[:, along])) > SAME_PLACE_MM).all())


def _all_apart(positions: Vector) -> bool:
    """Whether no two lie at one place, seen along the line of the stack; False may be wrong, True never is."""
    if len(positions) < 2:
        return True
    with np.errstate(all="ignore"):  # damaged headers hold numbers that overflow
        line = positions.max(axis=0) - positions.min(axis=0)
        length = float(np.linalg.norm(line))
        return length > 0 and float(np.diff(np.sort(positions @ (line / length))).min()) >= SAME_PLACE_MM


def one_spacing(spacings: Vector) -> Vector:
    """The (row, column) spacing in mm that N slices share; raises VolumeError when they differ or are not positive."""
    spread = float(np.abs(spacings - spacings[0]).max())
    if spread > 1e-3 or float(spacings.min()) <= 0:
        raise VolumeError(
            f"PixelSpacing runs from {spacings.min():.4f} to {spacings.max():.4f} mm within the series; expected one"
            " positive pair",
            "mixed-spacing",
        )
    return np.asarray(spacings.mean(axis=0))


def _step(
    positions: Vector, distance: Vector, normal: Vector, thickness_mm: float | None
) -> tuple[Vector, tuple[str, ...]]:
    count = len(positions)
    if count == 1:
        if not thickness_mm or thickness_mm <= 0:
            raise VolumeError(
                "the series has one slice and no SliceThickness, so nothing says how deep it is; expected two slices",
                "single-slice",
            )
        return normal * thickness_mm, (f"single slice: its depth is SliceThickness, {thickness_mm:.2f} mm",)
    gaps = np.diff(distance)
    if float(gaps.min()) < SAME_PLACE_MM:
        raise VolumeError(
            f"two slices lie {float(gaps.min()):.3f} mm apart along the normal; expected distinct places (time points,"
            " echoes or side-by-side images belong into series of their own)",
            "duplicate-position",
        )
    step = (positions[-1] - positions[0]) / (count - 1)
    residual = float(np.linalg.norm(positions - positions[0] - np.arange(count)[:, None] * step, axis=1).max())
    tolerance = min(MAX_RESIDUAL_MM, 0.1 * float(np.median(gaps)))
    if residual > tolerance:
        raise _irregular(gaps, residual, tolerance)
    notes = [f"two slices, {float(gaps[0]):.2f} mm apart: nothing shows whether one is missing between them"]
    cosine = abs(float(step @ normal)) / float(np.linalg.norm(step))
    angle = float(np.degrees(np.arccos(min(1.0, cosine))))
    if angle > 0.1:
        notes.append(f"slices are offset along a line {angle:.1f} degrees off their normal: kept as a sheared affine")
    return step, tuple(notes if count == 2 else notes[1:])


def _irregular(gaps: Vector, residual: float, tolerance: float) -> VolumeError:
    usual = float(np.median(gaps)) if len(gaps) > 2 else float(gaps.min())
    low, high = float(gaps.min()), float(gaps.max())
    told = f"slices are {low:.2f} to {high:.2f} mm apart, expected equal gaps (a slice may lie {tolerance:.2f} mm off)"
    multiples = gaps / usual
    missing = int(np.rint(multiples).sum()) - len(gaps)
    if missing > 0 and bool(np.all(np.abs(multiples - np.rint(multiples)) < 0.1)):
        first = int(np.argmax(gaps))
        return VolumeError(
            f"{told}; about {missing} slice(s) of {len(gaps) + 1 + missing} are missing, the first gap of"
            f" {float(gaps[first]):.2f} mm follows slice {first + 1}. Export the series again",
            "missing-slice",
        )
    if high - low < 2 * tolerance:
        return VolumeError(
            f"slices leave a straight, regular line by {residual:.2f} mm, expected at most {tolerance:.2f} mm",
            "bent-stack",
        )
    return VolumeError(
        f"{told}; the spacing varies. Resample the series to equal gaps, or export its parts as series of their own",
        "variable-spacing",
    )
