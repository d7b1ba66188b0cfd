"""DICOM Segmentation (SEG) -> masks on the grid of an image. PS3.3 A.51, C.8.20; LABELMAP: PS3.3 A.51.5 (Sup 243).

Every frame is placed by its own plane position and orientation. Where all pixel centres fall on voxel centres of the
image (any order, flip or crop), voxels are copied exactly; else the segment is resampled to the nearest voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from volumes.geometry import axes
from volumes.header import get, integer, numbers, text
from volumes.masks import Mask, Wanted, check_room
from volumes.segment_pixels import segment_frames
from volumes.volume import Volume, VolumeError

ON_GRID = 0.05  # in voxels: a frame whose corners lie this near to voxel centres lies on the grid (headers are rounded)
_BACKGROUND = ("125040", "DCM")
ALL = Wanted()
Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Frames:
    """Where N frames lie in the patient: first pixel (N, 3), step to the next row and column (N, 3) each, in mm."""

    positions: Array
    down: Array
    right: Array
    spacing_mm: float | None  # distance of frames as the object states it


def read_segments(dataset: FileDataset, image: Volume, wanted: Wanted = ALL) -> list[Mask]:
    """One mask per segment that is wanted, also for a segment without frames (all zeros). Raises VolumeError."""
    kind = text(dataset, "SegmentationType")
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise VolumeError(
            f"SegmentationType is {kind or 'absent'!r}; expected BINARY, FRACTIONAL or LABELMAP", "bad-segmentation"
        )
    groups = _functional_groups(dataset)
    frames = _place(groups)
    stored = segment_frames(dataset)
    numbers_of = None if kind == "LABELMAP" else [_segment_number(group) for group in groups]
    masks: list[Mask] = []
    segments = _segments(dataset, kind)
    chosen_segments = [(number, segment) for number, segment in segments if wanted.takes(_label(segment, number))]
    check_room(len(chosen_segments), image)
    for number, segment in chosen_segments:
        if numbers_of is None:
            chosen, pixels = list(range(len(stored))), stored == number
        else:
            chosen = [n for n, own in enumerate(numbers_of) if own == number]
            pixels = _values(dataset, stored[chosen], kind)
        placed, notes = _on_grid(pixels, frames, chosen, image)
        masks.append(_mask(dataset, segment, number, placed, notes))
    if not segments:
        raise VolumeError("the object describes no segment (SegmentSequence)", "bad-segmentation")
    return masks


def _segments(dataset: Dataset, kind: str) -> list[tuple[int, Dataset]]:
    """Segments by number, without the background that a LABELMAP may describe."""
    found = []
    for segment in get(dataset, "SegmentSequence") or ():
        number = integer(segment, "SegmentNumber")
        if number is not None and not (kind == "LABELMAP" and _is_background(dataset, segment, number)):
            found.append((number, segment))
    return found


def _label(segment: Dataset, number: int) -> str:
    return text(segment, "SegmentLabel") or f"segment {number}"


def _values(dataset: Dataset, stored: NDArray[Any], kind: str) -> NDArray[Any]:
    if kind == "BINARY":
        return stored != 0
    most = integer(dataset, "MaximumFractionalValue")
    if not most or most < 1:
        raise VolumeError(f"MaximumFractionalValue is {most}; expected 1 to 255", "bad-segmentation")
    return stored.astype(np.float32) / np.float32(most)


def _mask(dataset: Dataset, segment: Dataset, number: int, placed: NDArray[Any], notes: Sequence[str]) -> Mask:
    fraction = torch.from_numpy(placed) if placed.dtype == np.float32 else None
    kind = (get(segment, "SegmentedPropertyTypeCodeSequence") or [Dataset()])[0]
    category = (get(segment, "SegmentedPropertyCategoryCodeSequence") or [Dataset()])[0]
    if fraction is not None:
        notes = [*notes, "a fractional segment: voxels of 0.5 and more count as inside"]
    return Mask(
        name=_label(segment, number),
        voxels=torch.from_numpy(placed) if fraction is None else fraction >= 0.5,
        number=number,
        meaning=text(kind, "CodeMeaning"),
        category=text(category, "CodeMeaning"),
        algorithm=text(segment, "SegmentAlgorithmType"),
        object_uid=text(dataset, "SOPInstanceUID"),
        fraction=fraction,
        notes=tuple(notes),
    )


def _is_background(dataset: Dataset, segment: Dataset, number: int) -> bool:
    code = (get(segment, "SegmentedPropertyTypeCodeSequence") or [Dataset()])[0]
    told = (text(code, "CodeValue"), text(code, "CodingSchemeDesignator")) == _BACKGROUND
    return told or number == (integer(dataset, "PixelPaddingValue") or 0)


class _Group:
    """Functional groups of one frame: its own, else those that all frames share."""

    def __init__(self, own: Dataset, shared: Dataset) -> None:
        self.own, self.shared = own, shared

    def find(self, name: str) -> Dataset:
        for holder in (self.own, self.shared):
            items = get(holder, name)
            if items:
                return items[0]
        return Dataset()


def _functional_groups(dataset: FileDataset) -> list[_Group]:
    frames: Sequence[Dataset] = get(dataset, "PerFrameFunctionalGroupsSequence") or ()
    count = integer(dataset, "NumberOfFrames") or 1
    if len(frames) != count:
        raise VolumeError(
            f"the object has {count} frames and {len(frames)} per-frame functional groups; expected one per frame",
            "no-position",
        )
    shared = (get(dataset, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = [_Group(own, shared) for own in frames]
    if "TILED" in text(dataset, "DimensionOrganizationType") or get(frames[0], "PlanePositionSlideSequence"):
        raise VolumeError(
            "the object is a tiled segmentation of a microscopy slide; only those in patient coordinates are read",
            "tiled",
        )
    return groups


def _place(groups: list[_Group]) -> _Frames:
    positions, orientations, spacings = [], [], []
    for number, group in enumerate(groups, 1):
        position = numbers(group.find("PlanePositionSequence"), "ImagePositionPatient", 3)
        orientation = numbers(group.find("PlaneOrientationSequence"), "ImageOrientationPatient", 6)
        spacing = numbers(group.find("PixelMeasuresSequence"), "PixelSpacing", 2)
        if not (position and orientation and spacing) or min(spacing) <= 0:
            raise VolumeError(
                f"frame {number} lacks its position, orientation or pixel spacing in the functional groups",
                "no-position",
            )
        positions.append(position)
        orientations.append(orientation)
        spacings.append(spacing)
    steps = [axes(np.array([one])) for one in orientations]
    measures = groups[0].find("PixelMeasuresSequence")
    stated = numbers(measures, "SpacingBetweenSlices", 1) or numbers(measures, "SliceThickness", 1)
    return _Frames(
        np.array(positions),
        np.array([along_j * spacing[0] for (_, along_j, _), spacing in zip(steps, spacings, strict=True)]),
        np.array([along_i * spacing[1] for (along_i, _, _), spacing in zip(steps, spacings, strict=True)]),
        abs(stated[0]) or None if stated else None,
    )


def _segment_number(group: _Group) -> int | None:
    return integer(group.find("SegmentIdentificationSequence"), "ReferencedSegmentNumber")


def _on_grid(
    pixels: NDArray[Any], frames: _Frames, chosen: Sequence[int], image: Volume
) -> tuple[NDArray[Any], list[str]]:
    """Pixels (N, rows, columns) of the chosen frames as voxels (D, H, W) of the image, and notes."""
    out = np.zeros(image.shape, dtype=pixels.dtype)
    if not len(chosen):
        return out, ["no frame of the object belongs to this segment: it is empty"]
    inverse = np.linalg.inv(image.affine[:3, :3].numpy())
    starts = (frames.positions[chosen] - image.affine[:3, 3].numpy()) @ inverse.T
    down, right = frames.down[chosen] @ inverse.T, frames.right[chosen] @ inverse.T
    rows, columns = pixels.shape[1:]
    corners = np.concatenate([starts, starts + down * (rows - 1), starts + right * (columns - 1)])
    unit = all(np.abs(np.rint(step)).sum(axis=1).tolist() == [1.0] * len(step) for step in (down, right))
    if unit and float(np.abs(corners - np.rint(corners)).max()) < ON_GRID:
        outside = _copy(pixels, starts, down, right, out)
        return out, [f"{outside} voxels of the segment lie outside the image"] if outside else []
    return _resample(pixels, frames, chosen, image)


def _copy(pixels: NDArray[Any], starts: Array, down: Array, right: Array, out: NDArray[Any]) -> int:
    """Write each frame to its voxels; returns how many set pixels fall outside the image."""
    outside = 0
    for frame, start, row_step, column_step in zip(pixels, starts, down, right, strict=True):
        row_axis, column_axis = int(np.abs(row_step).argmax()), int(np.abs(column_step).argmax())
        fixed = 3 - row_axis - column_axis
        place = np.rint(start).astype(int)
        rows = place[row_axis] + int(np.rint(row_step[row_axis])) * np.arange(frame.shape[0])
        columns = place[column_axis] + int(np.rint(column_step[column_axis])) * np.arange(frame.shape[1])
        in_rows, in_columns = _inside(rows, out.shape[row_axis]), _inside(columns, out.shape[column_axis])
        kept = frame[np.ix_(in_rows, in_columns)]
        if not 0 <= place[fixed] < out.shape[fixed]:
            outside += int(np.count_nonzero(frame))
            continue
        outside += int(np.count_nonzero(frame)) - int(np.count_nonzero(kept))
        plane = np.moveaxis(out, fixed, 0)[place[fixed]]
        if row_axis > column_axis:
            plane = plane.T
        where = np.ix_(rows[in_rows], columns[in_columns])
        plane[where] = np.maximum(plane[where], kept)
    return outside


def _inside(index: NDArray[Any], size: int) -> NDArray[np.bool_]:
    return np.asarray((index >= 0) & (index < size))


def _resample(
    pixels: NDArray[Any], frames: _Frames, chosen: Sequence[int], image: Volume
) -> tuple[NDArray[Any], list[str]]:
    """Nearest neighbour from the segmentation's own grid, frames that are left out counting as zeros."""
    slab, affine = _slab(pixels, frames, chosen)
    out = sample_nearest(slab, affine, image)
    own = " x ".join(f"{v:.2f}" for v in np.linalg.norm(affine[:3, :3], axis=0))
    ours = " x ".join(f"{v:.2f}" for v in image.spacing_mm)
    return out, [f"resampled to the nearest voxel: the object's grid of {own} mm is not the image's of {ours} mm"]


def sample_nearest(values: NDArray[Any], affine: Array, image: Volume) -> NDArray[Any]:
    """Values (K, rows, columns) with their affine to mm at the voxel centres of the image: the nearest, 0 outside."""
    out = np.zeros(image.shape, dtype=values.dtype)
    to_values = np.linalg.inv(affine) @ image.affine.numpy()
    rows, columns = np.indices(image.shape[1:]).astype(np.float64)
    for k in range(image.shape[0]):
        index = [
            np.floor(to_values[a, 0] * k + to_values[a, 1] * rows + to_values[a, 2] * columns + to_values[a, 3] + 0.5)
            for a in range(3)
        ]
        inside = np.logical_and.reduce([(i >= 0) & (i < n) for i, n in zip(index, values.shape, strict=True)])
        out[k][inside] = values[tuple(i[inside].astype(int) for i in index)]
    return out


def _slab(pixels: NDArray[Any], frames: _Frames, chosen: Sequence[int]) -> tuple[NDArray[Any], Array]:
    """Frames stacked by position, (K, rows, columns), and the affine from (k, row, column) to mm."""
    down, right = frames.down[chosen], frames.right[chosen]
    if max(float(np.ptp(down, axis=0).max()), float(np.ptp(right, axis=0).max())) > 1e-3:
        raise VolumeError(
            "frames of one segment differ in orientation or spacing and do not lie on the image's grid; expected one"
            " grid",
            "mixed-orientations",
        )
    normal = np.cross(right[0], down[0])
    normal /= np.linalg.norm(normal)
    positions = frames.positions[chosen]
    distance = positions @ normal
    first, last = int(distance.argmin()), int(distance.argmax())
    gaps = np.diff(np.unique(np.round(distance, 3)))
    gaps = gaps[gaps > 0.01]
    spacing = float(frames.spacing_mm or (gaps.min() if len(gaps) else 0.0))
    if len(gaps) and not _multiples(gaps, spacing):
        spacing = float(gaps.min())  # the stated distance can be the thickness of overlapping slices
    if not spacing or not _multiples(gaps, spacing):
        raise VolumeError(
            f"frames of the segment lie {float(gaps.min()) if len(gaps) else 0:.2f} mm and more apart, not at multiples"
            " of one distance, so they cannot be resampled to the image",
            "variable-spacing",
        )
    at = np.rint((distance - distance[first]) / spacing).astype(int)
    slab = np.zeros((int(at.max()) + 1, *pixels.shape[1:]), dtype=pixels.dtype)
    for frame, k in zip(pixels, at, strict=True):
        slab[k] = np.maximum(slab[k], frame)
    affine = np.eye(4)
    affine[:3, 0] = (positions[last] - positions[first]) / at.max() if at.max() else normal * spacing
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = down[0], right[0], positions[first]
    return slab, affine


def _multiples(gaps: Array, spacing: float) -> bool:
    if spacing <= 0:
        return False
    return bool((np.abs(gaps / spacing - np.rint(gaps / spacing)) < 0.1).all()) and bool((gaps / spacing > 0.5).all())
