"""Stored DICOM pixels -> numbers in the unit of the modality. Decoders are named here, never left to chance.

pydicom tries whichever plugin happens to be installed, gdcm first, and gdcm aborts the process on damaged files; so
each transfer syntax names its own decoder and gdcm is never used.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import apply_modality_lut, get_decoder, pixel_array
from pydicom.uid import UID

from volumes.header import get, integer, text
from volumes.volume import VolumeError

Stored = NDArray[Any]

_NATIVE = {  # not compressed, or deflated as a whole: pydicom reads them itself
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
}
_DECODERS = {
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pylibjpeg",
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.51": "pylibjpeg",
    "1.2.840.10008.1.2.4.57": "pylibjpeg",
    "1.2.840.10008.1.2.4.70": "pylibjpeg",
}
_LIBJPEG = "pylibjpeg-libjpeg (GPL-3.0)"
_BROUGHT_BY = {
    "1.2.840.10008.1.2.5": "pylibjpeg-rle",
    "1.2.840.10008.1.2.4.51": _LIBJPEG,
    "1.2.840.10008.1.2.4.57": _LIBJPEG,
    "1.2.840.10008.1.2.4.70": _LIBJPEG,
}
_MAX_PIXEL_BYTES = 8 * 2**30


def decode(dataset: FileDataset) -> Stored:
    """Stored values of all frames: (rows, columns), (frames, rows, columns), colour with a last axis of 3.

    Overlay bits above BitsStored are removed. Raises VolumeError naming the transfer syntax and what decodes it.
    """
    syntax = _syntax(dataset)
    _check_description(dataset)
    plugin = "" if syntax in _NATIVE else _plugin(UID(syntax))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pixel_array(dataset, decoding_plugin=plugin)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the Rust decoder panics with a BaseException; others raise anything
        lines = str(error).splitlines()
        why = f"{type(error).__name__}: {lines[-1].strip()[:160] if lines else ''}"
        raise VolumeError(
            f"the pixel data ({UID(syntax).name}) cannot be decoded: {why}. The file is truncated or damaged:"
            " export it again",
            "damaged-pixels",
        ) from error
    return _stored_bits(dataset, found)


def _syntax(dataset: FileDataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    syntax = text(meta, "TransferSyntaxUID") if meta else ""
    if syntax:
        return syntax
    # PS3.10 files without meta group: pydicom has parsed them by looking at the bytes
    implicit, little = dataset.original_encoding
    found = "1.2.840.10008.1.2" if implicit else ("1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2")
    if not hasattr(dataset, "file_meta") or dataset.file_meta is None:
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(found)
    return found


def _plugin(syntax: UID) -> str:
    name = _DECODERS.get(str(syntax))
    if name is None:
        raise VolumeError(
            f"the transfer syntax is {syntax.name} ({syntax}), which nothing here decodes. Convert the file to"
            " Explicit VR Little Endian, for example with dcmdjpeg or dcmconv of dcmtk",
            "transfer-syntax",
        )
    if name not in get_decoder(syntax).available_plugins:
        package = _BROUGHT_BY.get(str(syntax), "pylibjpeg-openjpeg" if name == "pylibjpeg" else name)
        raise VolumeError(
            f"the transfer syntax is {syntax.name} ({syntax}); its decoder is not installed. It comes with"
            f" `pip install pylibjpeg` and {package}; or convert the file to Explicit VR Little Endian",
            "transfer-syntax",
        )
    return name


def _check_description(dataset: Dataset) -> None:
    """Refuse impossible sizes before a decoder allocates them."""
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    bits, samples = integer(dataset, "BitsAllocated"), integer(dataset, "SamplesPerPixel") or 1
    frames = integer(dataset, "NumberOfFrames") or 1
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise VolumeError("the file holds no pixel data", "no-pixels")
    if not rows or not columns or not bits or min(rows, columns, bits, samples, frames) < 1:
        raise VolumeError(
            f"the image is described as {rows} rows x {columns} columns of {bits} bits; expected positive numbers",
            "bad-description",
        )
    if rows * columns * samples * frames * max(1, bits // 8) > _MAX_PIXEL_BYTES:
        raise VolumeError(f"the image unpacks to more than {_MAX_PIXEL_BYTES} bytes; it is not read", "too-large")


def _stored_bits(dataset: Dataset, values: Stored) -> Stored:
    """Drop what lies above BitsStored (old overlays do) and restore the sign bit of signed values."""
    if values.dtype.kind not in "ui":
        return values
    allocated = values.dtype.itemsize * 8
    stored = integer(dataset, "BitsStored") or allocated
    high = integer(dataset, "HighBit")
    if stored >= allocated:
        return values
    if high is not None and high != stored - 1:
        raise VolumeError(
            f"HighBit is {high} with {stored} bits stored; expected {stored - 1} (PS3.5 8.1.1)", "bad-description"
        )
    if values.dtype.kind == "u":
        return values & values.dtype.type((1 << stored) - 1)
    shift = allocated - stored
    return (values << shift) >> shift


def modality_values(dataset: Dataset, stored: Stored) -> NDArray[np.float32]:
    """Modality LUT, or rescale slope and intercept; the stored values where the file has neither. PS3.3 C.11.1."""
    if get(dataset, "ModalityLUTSequence"):
        try:
            return np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
        except Exception as error:
            why = f"the Modality LUT cannot be applied: {type(error).__name__}"
            raise VolumeError(why, "bad-modality-lut") from error
    slope, intercept = rescale(dataset)
    values = stored.astype(np.float32)
    if slope != 1.0:
        values *= np.float32(slope)
    if intercept != 0.0:
        values += np.float32(intercept)
    return values


def rescale(dataset: Dataset) -> tuple[float, float]:
    """(slope, intercept); (1, 0) when both are absent. Raises VolumeError when one is missing, zero or no number."""
    slope, intercept = get(dataset, "RescaleSlope"), get(dataset, "RescaleIntercept")
    if slope in (None, "") and intercept in (None, ""):
        return 1.0, 0.0
    try:
        found = float(slope), float(intercept)
    except (TypeError, ValueError):
        found = math.nan, math.nan
    if not all(map(math.isfinite, found)) or found[0] == 0:
        raise VolumeError(
            f"RescaleSlope is {slope!r} and RescaleIntercept {intercept!r}; expected two finite numbers, slope not 0",
            "bad-rescale",
        )
    return found


def has_rescale(dataset: Dataset) -> bool:
    """Whether the file states its own rescale."""
    return get(dataset, "RescaleSlope") not in (None, "") and get(dataset, "RescaleIntercept") not in (None, "")
