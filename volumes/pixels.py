"""Stored DICOM pixels -> numbers in the unit of the modality. What decodes them stands in `transfer_syntaxes`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import apply_modality_lut, pixel_array
from pydicom.uid import UID

from volumes.codestreams import is_cut_jpegls, stream_size
from volumes.elements import Elements
from volumes.errors import VolumeError
from volumes.frame_decoders import check_room, decode_frames, frames
from volumes.header import get, integer, text
from volumes.transfer_syntaxes import JPEG_LS, NATIVE, RLE, VIDEO, Codec, codecs, name_of

Stored = NDArray[Any]

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_CODESTREAMS = "1.2.840.10008.1.2.4."
_MAX_PIXEL_BYTES = 8 * 2**30


def decode(dataset: FileDataset) -> Stored:
    """Stored values of all frames: (rows, columns), (frames, rows, columns), colour with a last axis of 3.

    Overlay bits above BitsStored are removed. Raises VolumeError naming the transfer syntax and what decodes it.
    """
    syntax = _syntax(dataset)
    _check_description(dataset)
    if syntax in NATIVE:
        return stored_bits(dataset, _caught(syntax, lambda: pixel_array(dataset, decoding_plugin="")))
    usable = codecs(syntax)
    _check_streams(dataset, syntax)
    for number, one in enumerate(usable, 1):
        try:
            return stored_bits(dataset, _caught(syntax, partial(_with, one, dataset, syntax)))
        except VolumeError as error:
            if number == len(usable) or error.reason != "damaged-pixels":
                raise
    raise AssertionError("codecs() gives at least one decoder")


def _with(one: Codec, dataset: FileDataset, syntax: str) -> Stored:
    bit_by_bit = syntax == RLE and integer(dataset, "BitsAllocated") == 1
    if not one.plugin or bit_by_bit:
        return decode_frames(dataset, syntax)
    found: Stored = pixel_array(dataset, decoding_plugin=one.plugin)
    return found


def _caught(syntax: str, read: Callable[[], Stored]) -> Stored:
    """What a decoder returns; whatever it raises as a VolumeError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # the Rust decoder panics with a BaseException; others raise anything
        lines = str(error).splitlines()
        why = f"{type(error).__name__}: {lines[-1].strip()[:160] if lines else ''}"
        raise VolumeError(
            f"the pixel data ({name_of(syntax)}) cannot be decoded: {why}. The file is truncated or damaged:"
            " export it again",
            "damaged-pixels",
        ) from error


def decode_frame(
    stream: bytes, syntax: str, shape: tuple[int, ...], dtype: np.dtype[Any], bits_stored: tuple[float, ...] | None
) -> Stored | None:
    """Stored values of one gray frame of RLE or JPEG-LS that is all that its header says; None for any other.

    The same decoders as in `decode`, called directly: in a series, pydicom's preparations cost as much as RLE itself.
    """
    count = shape[0] * shape[1]
    try:
        if syntax == RLE:
            from rle.rle import decode_frame as unpack

            raw = unpack(stream, count, dtype.itemsize * 8, "<")
        else:
            from jpeg_ls import decode_pixel_data

            told = stream_size(stream)
            if told is None or (told.rows, told.columns, told.components) != (*shape, 1) or is_cut_jpegls(stream):
                return None
            if (float(told.bits),) != bits_stored:  # the sign then stands elsewhere: left to `decode`
                return None
            raw = decode_pixel_data(stream)[0]
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # a missing package, damage, a panic of Rust: `decode` says which
        return None
    return np.frombuffer(raw, dtype).reshape(shape) if len(raw) == count * dtype.itemsize else None


def _syntax(dataset: FileDataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    syntax = text(meta, "TransferSyntaxUID") if meta else ""
    if syntax:
        return syntax
    # PS3.10 files without meta group: pydicom has parsed them by looking at the bytes
    implicit, little = dataset.original_encoding
    found = "1.2.840.10008.1.2" if implicit else ("1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2")
    dataset.file_meta = pydicom.dataset.FileMetaDataset()  # anew: a damaged element takes no value
    dataset.file_meta.TransferSyntaxUID = UID(found)
    return found


def _check_streams(dataset: FileDataset, syntax: str) -> None:
    """Each codestream says its own size, and its decoder believes that, not the header: they must agree."""
    if not syntax.startswith(_CODESTREAMS) or syntax in VIDEO:
        return
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    try:
        for frame in frames(dataset):
            if syntax in JPEG_LS and is_cut_jpegls(frame):
                raise VolumeError(
                    "a JPEG-LS codestream has no end marker: it is truncated or damaged. Export it again",
                    "damaged-pixels",
                )
            told = stream_size(frame)
            if told is not None and (told.rows, told.columns) != (rows, columns):
                raise VolumeError(
                    f"a codestream declares {told.rows} rows x {told.columns} columns, the header {rows} x {columns}."
                    " The file is damaged: export it again",
                    "bad-description",
                )
    except VolumeError:
        raise
    except Exception:  # fragments that do not add up: the decoder says how
        return


def _check_description(dataset: Dataset) -> None:
    """Refuse impossible sizes before a decoder allocates them."""
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    bits, samples = integer(dataset, "BitsAllocated"), integer(dataset, "SamplesPerPixel") or 1
    count = integer(dataset, "NumberOfFrames") or 1
    if not any(name in dataset for name in PIXELS):
        raise VolumeError("the file holds no pixel data", "no-pixels")
    if not rows or not columns or not bits or min(rows, columns, bits, samples, count) < 1:
        raise VolumeError(
            f"the image is described as {rows} rows x {columns} columns of {bits} bits; expected positive numbers",
            "bad-description",
        )
    needed = rows * columns * samples * count * bits // 8
    if needed > _MAX_PIXEL_BYTES:
        raise VolumeError(f"the image unpacks to more than {_MAX_PIXEL_BYTES} bytes; it is not read", "too-large")
    if "PixelData" in dataset:
        check_room(dataset, needed)


def stored_bits(dataset: Dataset | Elements, values: Stored) -> Stored:
    """Drop what lies above BitsStored (old overlays do) and restore the sign bit of signed values."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)  # big-endian files
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
