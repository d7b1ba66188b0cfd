"""Ultrasound images and frames of cine runs -> Film in display gray, with a spacing only where a region states one.

A region is calibrated when its units are centimetres in both directions (PS3.3 C.8.5.5). Several tissue regions that
differ in scale leave the spacing unknown, because one number would be wrong in one of them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from pydicom.dataset import Dataset

from volumes.assembly import source_of
from volumes.gray import gray, one_frame
from volumes.header import integer, items, numbers
from volumes.instance import InstanceHeader
from volumes.pixels import decode, modality_values
from volumes.planes import open_image
from volumes.volume import Film, SeriesError, VolumeError

_CENTIMETRES = 3  # Physical Units Direction
_TISSUE = 1  # Region Spatial Format: 2D
NOTE = "an ultrasound image in display gray: its values measure no attenuation and compare only within the image"


def read_ultrasound(header: InstanceHeader, frame: int | None = None) -> Film:
    """One Film, unit "raw", from one image or one named frame (from 0). Raises SeriesError with the reason."""
    try:
        return _read(header, frame)
    except VolumeError as error:
        raise SeriesError(f"instance {header.sop_uid} ({header.modality}): {error}", error.reason) from error


def _read(header: InstanceHeader, frame: int | None) -> Film:
    number, told = one_frame(header, frame)
    dataset = open_image(header)
    stored, changed = gray(dataset, decode(dataset), header, number)
    values = modality_values(dataset, stored) if stored.dtype.kind in "ui" else stored.astype(np.float32)
    if header.photometric == "MONOCHROME1":
        values = values.max() + values.min() - values
        changed.append("MONOCHROME1 inverted once: bright now means a strong echo")
    if not math.isfinite(float(values.sum(dtype=np.float64))):
        raise VolumeError("the image holds values that are not finite numbers", "not-finite")
    spacing, why = region_spacing(dataset)
    pixels = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    notes = (*header.notes, NOTE, *told, *changed, *why)
    return Film(pixels, spacing, "unknown", "raw", source_of([header]), notes)


def region_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, list[str]]:
    """(row, column) spacing in mm from the calibrated 2D regions, and what is noted of them."""
    found: list[tuple[float, float]] = []
    for region in items(dataset, "SequenceOfUltrasoundRegions"):
        units = integer(region, "PhysicalUnitsXDirection"), integer(region, "PhysicalUnitsYDirection")
        if integer(region, "RegionSpatialFormat") != _TISSUE or units != (_CENTIMETRES, _CENTIMETRES):
            continue
        delta = numbers(region, "PhysicalDeltaY", 1) + numbers(region, "PhysicalDeltaX", 1)
        if len(delta) == 2 and all(delta):
            found.append((abs(delta[0]) * 10, abs(delta[1]) * 10))
    if found and all(math.isclose(a, b, rel_tol=1e-3) for one in found for a, b in zip(one, found[0], strict=True)):
        return found[0], ["spacing holds inside the calibrated ultrasound region only"]
    if found:
        return None, [f"{len(found)} ultrasound regions of different scale: the image has no one spacing"]
    stated = numbers(dataset, "PixelSpacing", 2)
    if stated and min(stated) > 0:
        return (stated[0], stated[1]), ["PixelSpacing without a calibrated ultrasound region"]
    return None, ["no calibrated ultrasound region: lengths on this image are unknown"]
