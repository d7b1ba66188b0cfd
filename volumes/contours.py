"""RTSTRUCT contours -> masks on the grid of an image. PS3.3 A.19, C.8.8.6.

The rule: a voxel is inside where its centre lies inside the polygon, even-odd over all closed contours of one plane.
So a keyhole contour, an inner contour and CLOSEDPLANAR_XOR all cut holes. A centre exactly on an edge belongs to the
structure on its upper left side only (half-open), so that two structures that share an edge share no voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from volumes.header import get, integer, text
from volumes.instance import Refusal
from volumes.masks import Mask, Wanted, check_room
from volumes.volume import Volume, VolumeError

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
FLAT = 0.25  # in slices: a contour that rises more than this over its length lies in no plane of the image
SAME_PLANE = 0.02  # in slices: contours nearer than this were drawn on one plane
NOTED = 0.05  # in slices: a contour so far from the centre of its slice is noted
ALL = Wanted()
Points = NDArray[np.float64]
_CROSSINGS = 2**22  # of edges with rows, computed at a time


def read_structures(
    dataset: FileDataset, image: Volume, where: str, wanted: Wanted = ALL
) -> tuple[list[Mask], list[Refusal]]:
    """One mask per wanted structure with closed contours, and a refusal for each other one."""
    to_index = np.linalg.inv(image.affine.numpy())
    contours = {integer(item, "ReferencedROINumber"): item for item in get(dataset, "ROIContourSequence") or ()}
    masks: list[Mask] = []
    refusals: list[Refusal] = []
    named = [(_name(roi), roi) for roi in get(dataset, "StructureSetROISequence") or ()]
    chosen = [(name, roi) for name, roi in named if wanted.takes(name)]
    check_room(len(chosen), image)
    for name, roi in chosen:
        number = integer(roi, "ROINumber")
        try:
            _check_frame(roi, wanted.frame)
            drawn, notes = _drawn(contours.get(number))
            voxels, told = rasterise([p @ to_index[:3, :3].T + to_index[:3, 3] for p in drawn], image.shape)
        except VolumeError as error:
            refusals.append(Refusal(where, error.reason, f"structure {name!r}: {error}"))
            continue
        masks.append(
            Mask(
                name=name,
                voxels=torch.from_numpy(voxels),
                number=number or 0,
                meaning=_meaning(dataset, number),
                algorithm=text(roi, "ROIGenerationAlgorithm"),
                object_uid=text(dataset, "SOPInstanceUID"),
                notes=(*notes, *told),
            )
        )
    return masks, refusals


def _name(roi: Dataset) -> str:
    return text(roi, "ROIName") or f"structure {integer(roi, 'ROINumber')}"


def _check_frame(roi: Dataset, frame: str) -> None:
    own = text(roi, "ReferencedFrameOfReferenceUID")
    if frame and own and own != frame:
        raise VolumeError(f"it lies in the frame of reference {own}, the image in {frame}", "frame-of-reference")


def _meaning(dataset: Dataset, number: int | None) -> str:
    """What the structure was interpreted as: the code where there is one, else GTV, ORGAN and the like."""
    for item in get(dataset, "RTROIObservationsSequence") or ():
        if integer(item, "ReferencedROINumber") == number:
            code = (get(item, "RTROIIdentificationCodeSequence") or [Dataset()])[0]
            return text(code, "CodeMeaning") or text(item, "RTROIInterpretedType")
    return ""


def _drawn(item: Dataset | None) -> tuple[list[Points], list[str]]:
    """Closed contours as points (N, 3) in LPS mm."""
    found: list[Points] = []
    other: list[str] = []
    for contour in (get(item, "ContourSequence") if item is not None else None) or ():
        kind = text(contour, "ContourGeometricType")
        points = _points(contour)
        if kind not in CLOSED or len(points) < 3:
            other.append(kind if kind not in CLOSED else f"{kind} of {len(points)} points")
            continue
        found.append(points)
    if not found:
        told = f"{len(other)} of {', '.join(sorted(set(other)))}" if other else "none"
        raise VolumeError(f"it has no closed contour (contours: {told}); nothing can be filled", "no-contour")
    return found, [f"{len(other)} contours left out ({', '.join(sorted(set(other)))})"] if other else []


def _points(contour: Dataset) -> Points:
    try:
        values = np.array(_decimals(contour), dtype=np.float64)
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if len(values) % 3 or not np.isfinite(values).all():
        raise VolumeError(
            f"ContourData holds {len(values)} values; expected triples of finite numbers (x, y, z in mm)", "bad-contour"
        )
    return values.reshape(-1, 3)


def _decimals(contour: Dataset) -> Sequence[Any]:
    """ContourData as its bytes between backslashes where pydicom has not parsed them yet: ten times as fast."""
    raw = contour.get_item("ContourData") if "ContourData" in contour else None
    value = getattr(raw, "value", None)
    if isinstance(value, bytes):
        return value.rstrip(b" \0").split(b"\\") if value.strip(b" \0") else []
    return get(contour, "ContourData") or []


def rasterise(contours: Sequence[Points], shape: tuple[int, int, int]) -> tuple[NDArray[np.bool_], list[str]]:
    """Fill closed contours given as index points (N, 3) in the order k, j, i; (D, H, W) bool and notes.

    The contours may lie in planes of constant k, j or i. One between two slices goes to the nearest, at most half a
    slice away; of several planes that meet in one slice the nearest to its centre is kept. Raises VolumeError for a
    contour oblique to the grid.
    """
    out = np.zeros(shape, dtype=np.bool_)
    axis = _axis(contours)
    notes: list[str] = []
    planes = _planes(contours, axis)
    by_slice: dict[int, float] = {}
    for at in planes:
        n = int(np.floor(at + 0.5))
        if n not in by_slice or abs(at - n) < abs(by_slice[n] - n):
            by_slice[n] = at
    inside = {n: at for n, at in by_slice.items() if 0 <= n < shape[axis]}
    keep = [a for a in range(3) if a != axis]
    layers = np.moveaxis(out, axis, 0)
    for n, at in inside.items():
        layers[n] = _fill([points[:, keep] for points in planes[at]], layers[n].shape)
    off = max((abs(at - n) for n, at in inside.items()), default=0.0)
    if off > NOTED:
        notes.append(f"contours lie up to {off:.2f} slices off the centre of their slice: the nearest slice was taken")
    if len(planes) > len(by_slice):
        notes.append(f"{len(planes) - len(by_slice)} contour planes share a slice with a nearer one and were dropped")
    if len(inside) < len(by_slice):
        notes.append(f"{len(by_slice) - len(inside)} contour planes lie outside the image")
    return out, [*notes, *_empty_between(sorted(inside))]


def _axis(contours: Sequence[Points]) -> int:
    """The index axis along which every contour is flat."""
    rise = np.max([np.ptp(points, axis=0) for points in contours], axis=0)
    axis = int(rise.argmin()) if rise[0] > FLAT else 0
    if rise[axis] > FLAT:
        raise VolumeError(
            f"a contour rises by {rise[0]:.2f} slices, {rise[1]:.2f} rows and {rise[2]:.2f} columns of the image;"
            f" expected a plane of the image (at most {FLAT}). It was drawn on another orientation",
            "oblique-contour",
        )
    return axis


def _planes(contours: Sequence[Points], axis: int) -> dict[float, list[Points]]:
    """Contours by the plane that they were drawn on, in order of position."""
    planes: dict[float, list[Points]] = {}
    last = -np.inf
    for at, points in sorted(((float(p[:, axis].mean()), p) for p in contours), key=lambda pair: pair[0]):
        if at - last > SAME_PLANE:
            last = at
        planes.setdefault(last, []).append(points)
    return planes


def _empty_between(slices: list[int]) -> list[str]:
    gaps = np.diff(slices)
    empty = int((gaps - 1).sum()) if len(gaps) else 0
    if not empty:
        return []
    return [f"{empty} slices between the first and the last contour carry none: they are left empty"]


def _fill(polygons: Sequence[Points], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Even-odd scan conversion of polygons (row, column) on pixel centres at whole numbers.

    Each edge crosses the rows it spans (half-open, so a shared vertex counts once); every pixel right of a crossing
    changes side. Indices are rounded to a millionth so that noise of the affine does not decide about an edge.
    """
    rows, columns = shape
    toggles = np.zeros((rows, columns + 1), dtype=np.int64)
    block = max(1, _CROSSINGS // rows)
    for polygon in polygons:
        start = np.round(polygon, 6)
        end = np.roll(start, -1, axis=0)
        for first in range(0, len(start), block):
            row, column = _crossings(start[first : first + block], end[first : first + block], rows)
            np.add.at(toggles, (row, np.clip(np.ceil(column), 0, columns).astype(int)), 1)
    filled: NDArray[Any] = toggles.cumsum(axis=1)[:, :columns] % 2
    return filled == 1


def _crossings(start: Points, end: Points, rows: int) -> tuple[NDArray[Any], Points]:
    """Where edges cross the rows of the image: the row of each crossing, and its column (not rounded)."""
    upper, lower = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first = np.clip(np.ceil(upper), 0, rows).astype(int)
    count = np.maximum(np.clip(np.ceil(lower), 0, rows).astype(int) - first, 0)
    edge = np.repeat(np.arange(len(start)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (row - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
    return row, np.round(start[edge, 1] + slope * (end[edge, 1] - start[edge, 1]), 6)
