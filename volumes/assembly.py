"""Voxels, their places and their units -> one Volume; the checks that every way of reading DICOM shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from volumes.instance import InstanceHeader
from volumes.volume import Source, Unit, Volume, VolumeError


def assemble(
    voxels: NDArray[np.float32],
    affine: NDArray[np.float64],
    headers: Sequence[InstanceHeader],
    units: set[Unit],
    notes: Iterable[str],
    finite: bool = False,
) -> Volume:
    """One Volume from voxels (D, H, W) and affine (4, 4); `headers` are the files in the order of their slices.

    `finite` says that the reader has made sure that all values are finite numbers, so they are not looked at again.
    Raises VolumeError when slices carry different units or values that are not finite.
    """
    first = headers[0]
    if len(units) > 1:
        raise VolumeError(f"slices carry different units: {', '.join(sorted(units))}", "mixed-units")
    unit = next(iter(units))
    told = [*dict.fromkeys(note for h in headers for note in h.notes), *notes]
    if first.modality == "CT" and unit != "HU":
        told.append("the CT does not state a rescale to HU: values are as stored and carry no unit")
    if any(h.photometric == "MONOCHROME1" for h in headers):
        told.append("MONOCHROME1 asks for a dark display of high values: measured values are kept, not inverted")
    if not finite and not math.isfinite(float(voxels.sum(dtype=np.float64))):
        raise VolumeError("the slices hold values that are not finite numbers", "not-finite")
    return Volume(
        torch.from_numpy(voxels), torch.from_numpy(affine), unit, source_of(headers), tuple(dict.fromkeys(told))
    )


def source_of(headers: Sequence[InstanceHeader]) -> Source:
    """Where an image came from, its instances in the order given."""
    first = headers[0]
    return Source(
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        sop_uids=tuple(h.sop_uid for h in headers),
        modality=first.modality,
        body_part=first.body_part,
        accession=first.accession,
        path=first.path,
    )


def check_gray(headers: Sequence[InstanceHeader]) -> None:
    """Raise VolumeError when a slice is in colour or names a palette: its numbers then measure nothing."""
    for header in headers:
        if header.photometric and not header.photometric.startswith("MONOCHROME"):
            raise VolumeError(
                f"instance {header.sop_uid} is in colour ({header.photometric}): a picture of a result, not a measured"
                " image; expected MONOCHROME2",
                "colour",
            )


def padding_note(padded: int) -> list[str]:
    """What is said of pixels that lie outside the scanned field."""
    return [f"{padded} voxels hold PixelPaddingValue: they lie outside the scanned field"] if padded else []
