"""Slices of a series -> values in the unit of the modality, each into its place of one array that is there already."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from volumes.archive import ZIP_MARK, read_bytes
from volumes.header import integer, open_dataset, text
from volumes.instance import InstanceHeader
from volumes.pixels import decode, has_rescale, modality_values
from volumes.volume import Unit, VolumeError


@dataclass(frozen=True)
class Plane:
    """What reading one slice found out beside its values."""

    unit: Unit
    padded: int  # pixels that hold PixelPaddingValue


def read_planes(instances: Sequence[InstanceHeader], out: NDArray[np.float32]) -> list[Plane]:
    """Fill `out` (N, rows, columns) with the modality values of N slices, in the order given.

    Raises VolumeError naming the instance that is damaged, gone, in colour, or of another size.
    """
    planes = []
    for header, place in zip(instances, out, strict=True):
        dataset = open_image(header)
        stored = plane(dataset, header, place.shape)
        place[:] = modality_values(dataset, stored)
        planes.append(Plane(unit_of(dataset, header.modality), padded_pixels(dataset, stored)))
    return planes


def open_image(header: InstanceHeader) -> FileDataset:
    """The whole dataset of one instance. Raises VolumeError when the file is gone or damaged."""
    if ZIP_MARK in header.path:
        return open_dataset(io.BytesIO(read_bytes(header.path)))
    try:
        with Path(header.path).open("rb") as stream:
            return open_dataset(stream)
    except OSError as error:
        raise VolumeError(f"the file cannot be read: {error.strerror or error}", "unreadable-file") from error


def plane(dataset: FileDataset, header: InstanceHeader, shape: tuple[int, ...]) -> NDArray[Any]:
    """Stored values (rows, columns) of one slice; raises VolumeError when it is damaged or of another shape."""
    try:
        stored = decode(dataset)
    except VolumeError as error:
        raise VolumeError(f"instance {header.sop_uid}: {error}", error.reason) from error
    if stored.shape != shape:
        raise VolumeError(
            f"instance {header.sop_uid} has pixels of shape {stored.shape}; expected {tuple(shape)}, gray only",
            "mixed-sizes",
        )
    return stored


def unit_of(dataset: Dataset, modality: str) -> Unit:
    """HU only where the standard says so: a CT that states its rescale, of type HU or none (PS3.3 C.8.2.1.1.2)."""
    if modality == "CT" and has_rescale(dataset) and text(dataset, "RescaleType") in ("HU", "HU_MOD", ""):
        return "HU"
    return "raw"


def padded_pixels(dataset: Dataset, stored: NDArray[Any]) -> int:
    """How many pixels hold PixelPaddingValue."""
    value = integer(dataset, "PixelPaddingValue")
    return 0 if value is None else int(np.count_nonzero(stored == value))
