"""DICOM slices -> one Volume: CT in HU, MR and PET as stored, each voxel placed in patient millimetres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from volumes.geometry import Stack, same_place, stack
from volumes.header import get, numbers
from volumes.instance import InstanceHeader
from volumes.pixels import decode, modality_values
from volumes.planes import open_image, padded_pixels, plane, read_planes, unit_of
from volumes.volume import SeriesError, Source, Unit, Volume, VolumeError

PET_NOTE = "PET values are kept as rescaled (Bq/ml or counts): they are not converted to SUV"


def read_volume(instances: Sequence[InstanceHeader]) -> Volume:
    """One Volume from the instances of one series, in any order.

    Raises SeriesError when a slice is missing, damaged, doubled with other pixels, or has no place in the patient.
    """
    first = instances[0]
    try:
        if first.frames > 1 or (not first.orientation and "Enhanced" in _class_name(first)):
            return _read_multiframe(instances)
        return _read_slices(list(instances))
    except VolumeError as error:
        _refuse(first, len(instances), error)


def _refuse(first: InstanceHeader, count: int, error: VolumeError) -> NoReturn:
    raise SeriesError(f"series {first.series_uid} ({first.modality}, {count} files): {error}", error.reason) from error


def _class_name(header: InstanceHeader) -> str:
    from pydicom.uid import UID

    return UID(header.sop_class).name


def _read_slices(instances: list[InstanceHeader]) -> Volume:
    if "MOSAIC" in instances[0].image_type:
        raise VolumeError(
            "a Siemens mosaic: many slices tiled into one image. It is not taken apart here: convert it with dcm2niix",
            "mosaic",
        )
    for header in instances:
        if not (header.position and header.orientation and header.pixel_spacing):
            absent = [name for name, value in _geometry(header).items() if not value]
            raise VolumeError(
                f"instance {header.sop_uid} has no {', '.join(absent)}: its place in the patient is unknown",
                "no-position",
            )
    instances, notes = _drop_doubles(instances)
    thickness = None
    if len(instances) == 1:
        thickness = next(iter(numbers(open_image(instances[0]), "SliceThickness", 1)), None)
    placed = stack(
        np.array([h.position for h in instances]),
        np.array([h.orientation for h in instances]),
        np.array([h.pixel_spacing for h in instances]),
        thickness,
    )
    ordered = [instances[n] for n in placed.order]
    voxels = np.empty((len(ordered), ordered[0].rows, ordered[0].columns), dtype=np.float32)
    planes = read_planes(ordered, voxels)
    units = {one.unit for one in planes}
    padded = sum(one.padded for one in planes)
    return _assemble(voxels, placed, ordered, units, [*notes, *_padding_note(padded)])


def _geometry(header: InstanceHeader) -> dict[str, tuple[float, ...]]:
    return {
        "ImagePositionPatient": header.position,
        "ImageOrientationPatient": header.orientation,
        "PixelSpacing": header.pixel_spacing,
    }


def _drop_doubles(instances: list[InstanceHeader]) -> tuple[list[InstanceHeader], list[str]]:
    """Keep one of several slices at one place when their pixels are equal; refuse when they differ."""
    kept, dropped = [], 0
    for group in same_place(np.array([h.position for h in instances])):
        members = [instances[n] for n in group]
        kept.append(members[0])
        if len(members) == 1:
            continue
        first = _rescaled(members[0])
        for other in members[1:]:
            if not np.array_equal(first, _rescaled(other)):
                raise VolumeError(
                    f"{len(members)} images with different pixels lie at {_mm(members[0].position)}; expected one (time"
                    " points, echoes or two scans in one series: export them as series of their own)",
                    "duplicate-position",
                )
        dropped += len(members) - 1
    if not dropped:
        return kept, []
    return kept, [f"{dropped} duplicate slice(s) with identical pixels dropped"]


def _rescaled(header: InstanceHeader) -> NDArray[np.float32]:
    dataset = open_image(header)
    return modality_values(dataset, plane(dataset, header, (header.rows, header.columns)))


def _mm(position: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:.2f}" for v in position) + ") mm"


def _padding_note(padded: int) -> list[str]:
    return [f"{padded} voxels hold PixelPaddingValue: they lie outside the scanned field"] if padded else []


def _assemble(
    voxels: NDArray[np.float32],
    placed: Stack,
    ordered: Sequence[InstanceHeader],
    units: set[Unit],
    notes: Sequence[str],
) -> Volume:
    first = ordered[0]
    if len(units) > 1:
        raise VolumeError(f"slices carry different units: {', '.join(sorted(units))}", "mixed-units")
    unit = units.pop()
    told = [*dict.fromkeys(note for h in ordered for note in h.notes), *notes, *placed.notes]
    if first.modality == "CT" and unit != "HU":
        told.append("the CT does not state a rescale to HU: values are as stored and carry no unit")
    if first.modality == "PT":
        told.append(PET_NOTE)
    if not math.isfinite(float(voxels.sum(dtype=np.float64))):
        raise VolumeError("the slices hold values that are not finite numbers", "not-finite")
    source = Source(
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        sop_uids=tuple(h.sop_uid for h in ordered),
        modality=first.modality,
        body_part=first.body_part,
        accession=first.accession,
        path=first.path,
    )
    return Volume(torch.from_numpy(voxels), torch.from_numpy(placed.affine), unit, source, tuple(told))


def _read_multiframe(instances: Sequence[InstanceHeader]) -> Volume:
    """Enhanced multi-frame CT, MR, PET: geometry and rescale from the functional groups (PS3.3 C.7.6.16)."""
    header = instances[0]
    if len(instances) > 1:
        raise VolumeError(
            f"{len(instances)} multi-frame files share the series; expected one file, so read them one at a time",
            "several-multiframes",
        )
    dataset = open_image(header)
    frames = get(dataset, "PerFrameFunctionalGroupsSequence")
    if not frames or len(frames) != header.frames:
        raise VolumeError(
            f"the file has {header.frames} frames and {len(frames or ())} per-frame functional groups; without one per"
            " frame (a cine or an old multi-frame) the frames have no place in the patient",
            "no-position",
        )
    shared = (get(dataset, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = [_Frame(frame, shared) for frame in frames]
    positions = np.array([g.numbers("PlanePositionSequence", "ImagePositionPatient", 3) for g in groups])
    if any(len(group) > 1 for group in same_place(positions)):
        raise VolumeError(
            "several frames lie at one place (time points, echoes or b-values in one file); export each as a series",
            "duplicate-position",
        )
    placed = stack(
        positions,
        np.array([g.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6) for g in groups]),
        np.array([g.numbers("PixelMeasuresSequence", "PixelSpacing", 2) for g in groups]),
        next(iter(groups[0].numbers("PixelMeasuresSequence", "SliceThickness", 1, required=False)), None),
    )
    stored = decode(dataset).reshape(len(groups), header.rows, header.columns)
    voxels = np.empty(stored.shape, dtype=np.float32)
    units: set[Unit] = set()
    for k, n in enumerate(placed.order):
        told = groups[n].find("PixelValueTransformationSequence") or dataset
        voxels[k] = modality_values(told, stored[n])
        units.add(unit_of(told, header.modality))
    note = f"{len(groups)} frames of one multi-frame file placed by their functional groups"
    return _assemble(voxels, placed, [header], units, [note, *_padding_note(padded_pixels(dataset, stored))])


class _Frame:
    """Functional groups of one frame: its own, else the shared ones."""

    def __init__(self, own: Dataset, shared: Dataset) -> None:
        self.own, self.shared = own, shared

    def find(self, group: str) -> Dataset | None:
        for holder in (self.own, self.shared):
            items = get(holder, group)
            if items:
                return items[0]
        return None

    def numbers(self, group: str, name: str, count: int, required: bool = True) -> tuple[float, ...]:
        item = self.find(group)
        found = numbers(item, name, count) if item is not None else ()
        if required and not found:
            raise VolumeError(f"a frame has no {name} in its functional groups", "no-position")
        return found
