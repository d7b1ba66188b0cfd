"""DICOM files of one image -> one Volume: CT in HU, PET in SUV, MR as stored, each voxel placed in patient mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from volumes.assembly import assemble, check_gray, padding_note
from volumes.gaps import Gaps, Placed, place
from volumes.geometry import same_place
from volumes.grouping import ENHANCED, is_mosaic
from volumes.header import numbers
from volumes.instance import InstanceHeader
from volumes.mosaic import read_mosaic
from volumes.multiframe import read_multiframe
from volumes.pixels import modality_values
from volumes.planes import check_claim, open_image, plane, read_planes
from volumes.suv import body_weight_suv
from volumes.volume import SeriesError, Unit, Volume, VolumeError


def read_volume(
    instances: Sequence[InstanceHeader],
    frames: Sequence[int] = (),
    gaps: Gaps = "refuse",
    require: Unit | None = None,
) -> Volume:
    """One Volume from the instances of one image, in any order.

    `frames` choose an image of a multi-frame file that holds several. `gaps="resample"` puts slices with gaps or
    varying spacing on a regular grid, with a note. `require` refuses any other unit.
    Raises SeriesError when a slice is missing, damaged, doubled with other pixels, or has no place in the patient.
    """
    first = instances[0]
    try:
        volume = _in_suv(*_read(instances, frames, gaps), instances)
        if require is not None and volume.unit != require:
            raise VolumeError(_not_in(require, volume), "no-suv" if require == "SUV" else "wrong-unit")
        return volume
    except VolumeError as error:
        named = f"series {first.series_uid} ({first.modality}, {len(instances)} files)"
        raise SeriesError(f"{named}: {error}", error.reason) from error


def _read(instances: Sequence[InstanceHeader], frames: Sequence[int], gaps: Gaps) -> tuple[Volume, Dataset | None]:
    first = instances[0]
    if first.frames > 1 or first.concatenation or (not first.orientation and first.sop_class in ENHANCED):
        return read_multiframe(instances, frames, gaps)
    if is_mosaic(first):
        if len(instances) > 1:
            raise VolumeError(f"{len(instances)} mosaics, each a volume of its own; read one at a time", "mosaic")
        return read_mosaic(first)
    return _read_slices(list(instances), gaps), None


def _read_slices(instances: list[InstanceHeader], gaps: Gaps) -> Volume:
    for header in instances:
        if not (header.position and header.orientation and header.pixel_spacing):
            absent = [name for name, value in _geometry(header).items() if not value]
            raise VolumeError(
                f"instance {header.sop_uid} has no {', '.join(absent)}: its place in the patient is unknown",
                "no-position",
            )
    check_gray(instances)
    check_claim(instances)
    instances, notes = _drop_doubles(instances)
    thickness = None
    if len(instances) == 1:
        thickness = next(iter(numbers(open_image(instances[0]), "SliceThickness", 1)), None)
    placed = _place(instances, thickness, gaps)
    ordered = [instances[n] for n in placed.order]
    voxels = np.empty((len(ordered), ordered[0].rows, ordered[0].columns), dtype=np.float32)
    planes = read_planes(ordered, voxels)
    padded = sum(one.padded for one in planes)
    notes += [*padding_note(padded), *placed.notes]
    finite = all(one.finite for one in planes)
    return assemble(placed.resample(voxels), placed.affine, ordered, {one.unit for one in planes}, notes, finite)


def _place(instances: Sequence[InstanceHeader], thickness: float | None, gaps: Gaps) -> Placed:
    return place(
        np.array([h.position for h in instances]),
        np.array([h.orientation for h in instances]),
        np.array([h.pixel_spacing for h in instances]),
        thickness,
        gaps,
    )


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


def _in_suv(volume: Volume, dataset: Dataset | None, instances: Sequence[InstanceHeader]) -> Volume:
    """PET in SUV where the file says all that it takes, else as it was with the reason; others as they are."""
    if volume.source.modality != "PT" or volume.unit == "SUV":
        return volume
    try:
        suv = body_weight_suv(dataset or open_image(instances[0]), [h.acquired for h in instances])
    except VolumeError as error:
        told = f"PET values are kept as rescaled: they are not converted to SUV, because {error}"
        return replace(volume, notes=(*volume.notes, told))
    if suv.factor != 1.0:
        volume.voxels.mul_(suv.factor)
    told = f"PET in SUV by body weight: values times {suv.factor:.6g} ({suv.told})"
    return replace(volume, unit="SUV", notes=(*volume.notes, told))


def _not_in(unit: Unit, volume: Volume) -> str:
    why = next((note for note in volume.notes if "not converted to SUV" in note), "") if unit == "SUV" else ""
    return f"the values carry the unit {volume.unit!r}, expected {unit!r}. {why}".strip()
