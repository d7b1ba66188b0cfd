"""The judge between readers: what the headers of the files say, read with pydicom alone, plane by plane.

A reader is right where it puts each plane at the ImagePositionPatient of its header, with the orientation and spacing
of that header, and gives it the stored values times RescaleSlope plus RescaleIntercept (PS3.3 C.7.6.2, C.11.1).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeaderPlane:
    """One plane as its header places it: first pixel, steps to the next row and column (mm), its size and its values.

    The values are None where pydicom has no decoder for them: then its place alone is judged.
    """

    position: Array
    down: Array
    right: Array
    shape: tuple[int, int]
    values: Array | None


@dataclass(frozen=True)
class Verdict:
    """How far a reader is from the headers: planes in mm, values in their unit, planes that it does not hold."""

    off_mm: float
    off_value: float
    absent: int
    count: int

    @property
    def right(self) -> bool:
        """Whether the reader follows the headers within 0.002 mm and the rounding of a 32-bit float."""
        return not self.absent and self.off_mm < 2e-3 and self.off_value < 1e-6


def header_planes(paths: Sequence[Path]) -> list[HeaderPlane]:
    """Every plane of the files that has a place; none where pydicom cannot decode or the header has no position."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [plane for path in paths for plane in _planes(pydicom.dcmread(path, force=True))]


def facts(paths: Sequence[Path]) -> dict[str, str]:
    """What else the first header says, for the reasons in the table."""
    dataset = pydicom.dcmread(paths[0], stop_before_pixels=True, force=True)
    names = ("PhotometricInterpretation", "SliceThickness", "SpacingBetweenSlices", "SamplesPerPixel", "Modality")
    found = {name: str(dataset.get(name, "")) for name in names}
    syntax = dataset.file_meta.get("TransferSyntaxUID") if getattr(dataset, "file_meta", None) else None
    return found | {"syntax": str(syntax or ""), "places": str(_places(paths)), "files": str(len(paths))}


def _places(paths: Sequence[Path]) -> int:
    places = {
        str(pydicom.dcmread(p, stop_before_pixels=True, force=True).get("ImagePositionPatient", "")) for p in paths
    }
    return len(places - {""})


def slice_centres(path: Path) -> Array:
    """Centres (N, 3) in LPS mm of the slices in a Siemens protocol, (0029,1020); empty where there is none."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    element = dataset.get((0x0029, 0x1020))
    text = element.value.decode("latin-1") if element is not None and isinstance(element.value, bytes) else ""
    found: dict[int, dict[str, float]] = {}
    for number, axis, value in re.findall(
        r"sSliceArray\.asSlice\[(\d+)\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*(\S+)", text
    ):
        found.setdefault(int(number), {})[axis] = float(value)
    return np.array([[one.get(axis, 0.0) for axis in ("Sag", "Cor", "Tra")] for one in found.values()]).reshape(-1, 3)


def judge_slices(centres: Array, shape: tuple[int, ...], affine: Array) -> float:
    """How far a reader's slices lie from those of the protocol along their normal, in mm, at most, both ways.

    Along the normal only: Siemens counts the centre of a slice from a corner, half a pixel off the middle of it.
    """
    normal = np.cross(affine[:3, 1], affine[:3, 2])
    normal /= np.linalg.norm(normal)
    middle = np.array([[k, (shape[1] - 1) / 2, (shape[2] - 1) / 2] for k in range(shape[0])])
    placed = (middle @ affine[:3, :3].T + affine[:3, 3]) @ normal
    apart = np.abs(placed[:, None] - (centres @ normal)[None])
    return float(max(apart.min(axis=0).max(), apart.min(axis=1).max()))


def _planes(dataset: Dataset) -> Iterator[HeaderPlane]:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [None])
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or int(dataset.get("NumberOfFrames") or 1) != len(frames):
        return
    try:
        stored = dataset.pixel_array.reshape(len(frames), dataset.Rows, dataset.Columns)
    except Exception:  # a decoder that pydicom has not, or a damaged file: the places alone are judged
        stored = [None] * len(frames)
    for frame, pixels in zip(frames, stored, strict=True):
        position = _values(dataset, frame, shared, "PlanePositionSequence", "ImagePositionPatient")
        cosines = _values(dataset, frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = _values(dataset, frame, shared, "PixelMeasuresSequence", "PixelSpacing")
        if position is None or cosines is None or spacing is None:
            return
        slope = _values(dataset, frame, shared, "PixelValueTransformationSequence", "RescaleSlope")
        offset = _values(dataset, frame, shared, "PixelValueTransformationSequence", "RescaleIntercept")
        scaling = (1.0 if slope is None else slope[0], 0.0 if offset is None else offset[0])
        values = None if pixels is None else pixels * scaling[0] + scaling[1]
        shape = (int(dataset.Rows), int(dataset.Columns))
        yield HeaderPlane(position, cosines[3:] * spacing[0], cosines[:3] * spacing[1], shape, values)


def _values(dataset: Dataset, frame: Dataset | None, shared: Dataset, group: str, name: str) -> Array | None:
    holder: Any = dataset
    if frame is not None:
        items = frame.get(group) or shared.get(group)
        holder = items[0] if items else Dataset()
    value = holder.get(name)
    if value in (None, ""):
        return None
    return np.atleast_1d(np.array(value, dtype=np.float64))


def judge(planes: Sequence[HeaderPlane], voxels: NDArray[Any], affine: Array) -> Verdict:
    """A reader's volume (D, H, W) with its affine to LPS mm, against every plane."""
    to_index = np.linalg.inv(affine)
    off_mm, off_value, absent = 0.0, 0.0, 0
    for plane in planes:
        rows, columns = plane.shape
        corners = [(0, 0), (rows - 1, 0), (0, columns - 1), (rows - 1, columns - 1)]
        points = np.array([plane.position + r * plane.down + c * plane.right for r, c in corners])
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        near = np.rint(index)
        if (near < 0).any() or (near >= voxels.shape).any():
            absent += 1
            continue
        off_mm = max(off_mm, float(np.linalg.norm((index - near) @ affine[:3, :3].T, axis=1).max()))
        off_value = max(off_value, _value_error(plane, voxels, near.astype(int)))
    return Verdict(off_mm, off_value, absent, len(planes))


def _value_error(plane: HeaderPlane, voxels: NDArray[Any], corners: NDArray[Any]) -> float:
    """Largest difference on the plane, as a share of its largest value; infinite where the plane is not one slice."""
    rows, columns = plane.shape
    first, last_row, last_column = corners[0], corners[1], corners[2]
    down = (last_row - first) / max(1, rows - 1)
    right = (last_column - first) / max(1, columns - 1)
    if np.abs(down).sum() not in (0.0, 1.0) or np.abs(right).sum() not in (0.0, 1.0):
        return math.inf
    if plane.values is None:
        return 0.0
    index = first + np.arange(rows)[:, None, None] * down + np.arange(columns)[None, :, None] * right
    found = voxels[tuple(np.moveaxis(index.astype(int), -1, 0))].astype(np.float64)
    scale = max(1.0, float(np.abs(plane.values).max()))
    return float(np.abs(found - plane.values).max()) / scale
