"""Enhanced multi-frame CT, MR and PET: one file, many planes -> one Volume, placed by the functional groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from volumes.assembly import assemble, check_gray, padding_note
from volumes.errors import VolumeError
from volumes.frames import FrameGroups, frame_groups
from volumes.gaps import Gaps, place
from volumes.geometry import same_place
from volumes.instance import InstanceHeader
from volumes.pixels import decode, modality_values
from volumes.planes import open_image, padded_pixels, unit_of
from volumes.volume import Unit, Volume


@dataclass(frozen=True)
class _File:
    header: InstanceHeader
    dataset: FileDataset
    groups: list[FrameGroups]


def read_multiframe(
    instances: Sequence[InstanceHeader], frames: Sequence[int] = (), gaps: Gaps = "refuse"
) -> tuple[Volume, Dataset]:
    """One Volume from one file, or from the files of one whole concatenation, and the dataset of the first file.

    `frames` (from 0) choose an image of a file that holds several. Raises VolumeError with the reason.
    """
    check_gray(instances)
    _check_concatenation(instances)
    files = [_File(h, data, frame_groups(data)) for h in instances for data in [open_image(h)]]
    if frames and max(frames) >= len(files[0].groups):
        raise VolumeError(
            f"frame {max(frames)} of the image is not in the file, which holds {len(files[0].groups)}: it has changed"
            " since its header was read",
            "archive-changed",
        )
    chosen = [(one, n) for one in files for n in (frames or range(len(one.groups)))]
    groups = [one.groups[n] for one, n in chosen]
    positions = np.array([g.numbers("PlanePositionSequence", "ImagePositionPatient", 3) for g in groups])
    if any(len(group) > 1 for group in same_place(positions)):
        raise VolumeError(
            "several frames lie at one place (time points, echoes or b-values in one file) and no tag tells them"
            " apart; export each as a series",
            "duplicate-position",
        )
    placed = place(
        positions,
        np.array([g.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6) for g in groups]),
        np.array([g.numbers("PixelMeasuresSequence", "PixelSpacing", 2) for g in groups]),
        next(iter(groups[0].numbers("PixelMeasuresSequence", "SliceThickness", 1, required=False)), None),
        gaps,
    )
    rank = {n: k for k, n in enumerate(placed.order)}
    voxels = np.empty((len(chosen), files[0].header.rows, files[0].header.columns), dtype=np.float32)
    units: set[Unit] = set()
    padded, start = 0, 0
    for one in files:
        own = list(frames) or list(range(len(one.groups)))
        targets = [rank[start + k] for k in range(len(own))]
        padded += _fill(one, own, voxels, targets, units)
        start += len(own)
    voxels = placed.resample(voxels)
    note = f"{len(chosen)} frames of {_files(files)} placed by their functional groups"
    volume = assemble(
        voxels, placed.affine, [f.header for f in files], units, [note, *padding_note(padded), *placed.notes]
    )
    return volume, files[0].dataset


def _files(files: Sequence[_File]) -> str:
    if len(files) == 1:
        return "one multi-frame file"
    return f"{len(files)} {'concatenated multi-frame' if files[0].header.concatenation else 'Enhanced'} files"


def _fill(
    file: _File, frames: Sequence[int], voxels: NDArray[np.float32], targets: Sequence[int], units: set[Unit]
) -> int:
    """Decode one file and put its frames into their places; returns how many pixels are padding."""
    header = file.header
    stored = decode(file.dataset)
    if stored.size != len(file.groups) * voxels[0].size:
        raise VolumeError(
            f"instance {header.sop_uid} has pixels of shape {stored.shape}; expected {len(file.groups)} gray frames of"
            f" {voxels.shape[1]} x {voxels.shape[2]}",
            "mixed-sizes",
        )
    stored = stored.reshape(len(file.groups), *voxels.shape[1:])
    padded = 0
    for n, k in zip(frames, targets, strict=True):
        told = file.groups[n].find("PixelValueTransformationSequence") or file.dataset
        voxels[k] = modality_values(told, stored[n])
        units.add(unit_of(told, header.modality))
        padded += padded_pixels(file.dataset, stored[n])
    return padded


def _check_concatenation(instances: Sequence[InstanceHeader]) -> None:
    """Several files are read as one only when they say so, and when none is missing."""
    if len(instances) == 1 and (instances[0].concatenation_total or 1) < 2:
        return
    if not any(h.concatenation or h.frames > 1 for h in instances):
        return  # a stack of Enhanced files of one frame each
    if len({h.concatenation for h in instances}) > 1 or not instances[0].concatenation:
        raise VolumeError(
            f"{len(instances)} multi-frame files share the series; expected one file, so read them one at a time",
            "several-multiframes",
        )
    held = [h.concatenation_number for h in instances]
    total = max(h.concatenation_total or len(instances) for h in instances)
    if held != list(range(1, total + 1)):
        numbered = ", ".join(str(n) for n in held)
        raise VolumeError(
            f"a concatenation of {total} multi-frame files, of which the files {numbered} are here; expected each once."
            " Export the series again",
            "incomplete-concatenation",
        )
