"""Slices of a series -> values in the unit of the modality, each into its place of one array that is there already.

Uncompressed slices are read straight from the file and rescaled in place, in threads, since reading, hashing and numpy
let go of the interpreter. Compressed ones go to processes (`volumes.decoding`), since no decoder does.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from volumes.archive import MAX_FILE_BYTES, ZIP_MARK, read_bytes
from volumes.codestreams import fragments
from volumes.elements import UNDEFINED, Elements, tags
from volumes.errors import VolumeError
from volumes.header import integer, open_dataset, pixels_at, text
from volumes.header_scan import FIRST_BYTES, TruncatedError, scan
from volumes.instance import InstanceHeader
from volumes.pixels import PIXELS, decode, decode_frame, has_rescale, modality_values, stored_bits
from volumes.transfer_syntaxes import JPEG_LS, NATIVE_LITTLE, RLE

if TYPE_CHECKING:
    from volumes.volume import Unit

_WANTED = tags(
    (
        "SOPClassUID",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "RescaleIntercept",
        "RescaleSlope",
        "RescaleType",
        "ModalityLUTSequence",
    )
)
_STRAIGHT = (*NATIVE_LITTLE, RLE, *JPEG_LS)
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_DTYPES = {(8, 0): "u1", (8, 1): "i1", (16, 0): "<u2", (16, 1): "<i2", (32, 0): "<u4", (32, 1): "<i4"}
MOST_UNPACKED = 1000  # pixels for each byte of a file
_CLAIM_ASKED = 64 * 2**20  # pixels; below it the claim costs little
_FEW = 4  # fewer slices are read one after the other


@dataclass(frozen=True)
class Plane:
    """What reading one slice found out beside its values."""

    unit: Unit
    padded: int  # pixels that hold PixelPaddingValue
    sha256: str = ""  # of the encoded pixel data that these values came from
    finite: bool = False  # whether every value is known to be a finite number


def read_planes(instances: Sequence[InstanceHeader], out: NDArray[np.float32]) -> list[Plane]:
    """Fill `out` (N, rows, columns) with the modality values of N slices, in the order given.

    Raises VolumeError naming the instance that is damaged, gone, in colour, of another size, or whose pixels are not
    those that were read when it was ingested.
    """
    from volumes.decoding import decode_planes, worth_processes

    if len(instances) != len(out):
        raise ValueError(f"{len(instances)} instances and {len(out)} places")
    if worth_processes(instances):
        return decode_planes(instances, out)
    zipped = any(ZIP_MARK in header.path for header in instances)  # one open zip, one reader
    workers = min(os.cpu_count() or 1, 8) if len(instances) >= _FEW and not zipped else 1
    found: list[Plane | None]
    if workers == 1:
        found = [_straight(header, place) for header, place in zip(instances, out, strict=True)]
    else:
        with ThreadPoolExecutor(workers) as pool:
            found = list(pool.map(_straight, instances, out))
    whole = zip(found, instances, out, strict=True)
    return [plane if plane is not None else _decoded(header, place) for plane, header, place in whole]


def check_claim(instances: Sequence[InstanceHeader]) -> None:
    """Refuse slices that claim to be far larger than their files before memory is taken for a volume of them."""
    for header in instances:
        claimed = header.rows * header.columns * header.frames
        if claimed > _CLAIM_ASKED and claimed > MOST_UNPACKED * header.size:
            raise VolumeError(
                f"instance {header.sop_uid}: {header.size} bytes claim to hold {header.frames} x {header.rows} x"
                f" {header.columns} pixels; at most {MOST_UNPACKED}-fold is taken for an image",
                "pixel-bomb",
            )


def read_plane(header: InstanceHeader, out: NDArray[np.float32]) -> Plane:
    """Fill `out` (rows, columns) with one slice. Raises VolumeError as `read_planes` does."""
    return _straight(header, out) or _decoded(header, out)


def _decoded(header: InstanceHeader, out: NDArray[np.float32]) -> Plane:
    """A slice of any kind, decoded by the library that its transfer syntax names."""
    dataset, sha256 = _opened(header, digest=True)
    stored = plane(dataset, header, out.shape)
    out[:] = modality_values(dataset, stored)
    finite = math.isfinite(float(out.sum(dtype=np.float64)))
    return Plane(unit_of(dataset, header.modality), padded_pixels(dataset, stored), sha256, finite)


def _opened(header: InstanceHeader, digest: bool) -> tuple[FileDataset, str]:
    data = read_bytes(header.path)
    start = pixels_at(data)
    sha256 = _checked(header, hashlib.sha256(memoryview(data)[start:]).hexdigest()) if digest else ""
    dataset = open_dataset(io.BytesIO(data))
    if 0 < start < len(data) and not any(name in dataset for name in PIXELS):  # pydicom drops what has no end
        raise VolumeError(
            f"instance {header.sop_uid}: the pixel data begin and do not end. The file is truncated or damaged: export"
            " it again",
            "damaged-pixels",
        )
    return dataset, sha256


def _straight(header: InstanceHeader, out: NDArray[np.float32]) -> Plane | None:
    """One plain slice from the file into place, without pydicom; None when it is anything else, or damaged at all."""
    if header.transfer_syntax not in _STRAIGHT:
        return None
    if ZIP_MARK in header.path:
        found = _held(read_bytes(header.path), out.shape)
    else:
        try:
            descriptor = os.open(header.path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not stop it
            try:
                native = header.transfer_syntax in NATIVE_LITTLE
                found = _native(descriptor, out.shape) if native else _held(_all(descriptor), out.shape)
            finally:
                os.close(descriptor)
        except OSError:
            return None
    if found is None or found[0].syntax != header.transfer_syntax:
        return None
    elements, stored, sha256 = found
    return _rescaled(header, elements, stored, out, _checked(header, sha256))


def _native(descriptor: int, shape: tuple[int, ...]) -> tuple[Elements, NDArray[Any], str] | None:
    """Header, stored values and digest of an uncompressed slice, which must end with the file."""
    size = os.fstat(descriptor).st_size
    elements = _header_of(descriptor, size)
    dtype = None if elements is None else _dtype(elements, shape)
    if elements is None or dtype is None or elements.syntax not in NATIVE_LITTLE:
        return None
    needed = shape[0] * shape[1] * np.dtype(dtype).itemsize
    if elements.pixel_length != needed or elements.pixel_start + needed != size:  # an odd length would be padded
        return None
    stored = np.empty(shape, dtype)
    if _fill(descriptor, stored, elements.pixel_start) != needed:
        return None
    digest = hashlib.sha256(memoryview(elements.data)[elements.pixels : elements.pixel_start])
    digest.update(stored.data)
    return elements, stored, digest.hexdigest()


def _held(data: bytes, shape: tuple[int, ...]) -> tuple[Elements, NDArray[Any], str] | None:
    """The same of a file in memory: uncompressed, or one frame of RLE or JPEG-LS decoded without detours."""
    try:
        elements = scan(data, _WANTED, len(data))
    except TruncatedError:
        return None
    dtype = None if elements is None else _dtype(elements, shape)
    if elements is None or dtype is None:
        return None
    stored: NDArray[Any] | None
    if elements.syntax in NATIVE_LITTLE:
        needed = shape[0] * shape[1] * np.dtype(dtype).itemsize
        if elements.pixel_length != needed or elements.pixel_start + needed != len(data):
            return None
        stored = np.frombuffer(data, dtype, offset=elements.pixel_start).reshape(shape)
    else:
        stored = _unpacked(data, elements, shape, np.dtype(dtype))
    if stored is None:
        return None
    return elements, stored, hashlib.sha256(memoryview(data)[elements.pixels :]).hexdigest()


def _unpacked(data: bytes, elements: Elements, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    parts = fragments(data, elements.pixel_start) if elements.pixel_length == UNDEFINED else None
    if not parts or elements.syntax not in (RLE, *JPEG_LS) or (len(parts) > 1 and elements.syntax == RLE):
        return None
    stream = b"".join(data[at : at + length] for at, length in parts)
    return decode_frame(stream, elements.syntax, shape, dtype, elements.numbers("BitsStored", 1))


def _all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    data = bytearray(size if size <= MAX_FILE_BYTES else 0)
    return bytes(data) if _fill(descriptor, data, 0) == len(data) else b""


def _header_of(descriptor: int, size: int) -> Elements | None:
    step = FIRST_BYTES
    while step <= 64 * FIRST_BYTES:
        try:
            return scan(os.pread(descriptor, step, 0), _WANTED, size)
        except TruncatedError:
            step *= 8
    return None


def _dtype(elements: Elements, shape: tuple[int, ...]) -> str | None:
    """The type of the stored values of one plain gray image of this shape; None for any other."""
    if "ModalityLUTSequence" in elements or elements.text("PhotometricInterpretation") not in _GRAY:
        return None
    if elements.data[elements.pixels + 2 : elements.pixels + 4] != b"\x10\x00":  # float or double pixel data
        return None
    numbers = {name: elements.numbers(name, 1) for name in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")}
    if (numbers["Rows"], numbers["Columns"]) != ((shape[0],), (shape[1],)) or numbers["SamplesPerPixel"] != (1.0,):
        return None
    if numbers["NumberOfFrames"] not in ((), (1.0,)):
        return None
    bits, sign = elements.numbers("BitsAllocated", 1), elements.numbers("PixelRepresentation", 1)
    stored = elements.numbers("BitsStored", 1)
    if not bits or not sign or not stored or not 1 <= stored[0] <= bits[0]:
        return None
    return _DTYPES.get((int(bits[0]), int(sign[0])))


def _fill(descriptor: int, into: NDArray[Any] | bytearray, offset: int) -> int:
    """Read until the array is full or the file ends; the number of bytes read."""
    view, done = memoryview(into if isinstance(into, bytearray) else into.data).cast("B"), 0
    while done < len(view):
        got = os.preadv(descriptor, [view[done:]], offset + done)
        if not got:
            break
        done += got
    return done


def _rescaled(
    header: InstanceHeader, elements: Elements, stored: NDArray[Any], out: NDArray[np.float32], sha256: str
) -> Plane | None:
    """The same arithmetic as `modality_values`, in place."""
    slope, intercept = elements.numbers("RescaleSlope", 1), elements.numbers("RescaleIntercept", 1)
    padding = elements.numbers("PixelPaddingValue", 1)
    kind = elements.text("RescaleType")
    if slope is None or intercept is None or padding is None or kind is None or len(slope) != len(intercept):
        return None
    if (not slope and ("RescaleSlope" in elements or "RescaleIntercept" in elements)) or slope == (0.0,):
        return None
    if ("PixelPaddingValue" in elements and not padding) or "PixelPaddingRangeLimit" in elements:
        return None
    try:
        values = stored_bits(elements, stored)
    except VolumeError:
        return None
    out[:] = values
    if slope and slope[0] != 1.0:
        out *= np.float32(slope[0])
    if intercept and intercept[0] != 0.0:
        out += np.float32(intercept[0])
    padded = int(np.count_nonzero(values == int(padding[0]))) if padding else 0
    unit: Unit = "HU" if header.modality == "CT" and slope and kind in ("HU", "HU_MOD", "") else "raw"
    largest = float(np.iinfo(values.dtype).max) + 1
    finite = not slope or abs(slope[0]) * largest + abs(intercept[0]) < float(np.finfo(np.float32).max)
    return Plane(unit, padded, sha256, finite)


def _checked(header: InstanceHeader, sha256: str) -> str:
    if header.pixel_sha256 and header.pixel_sha256 != sha256:
        raise VolumeError(
            f"instance {header.sop_uid}: the pixel data have the SHA-256 {sha256[:12]}..., at ingest they had"
            f" {header.pixel_sha256[:12]}...; the file was changed or damaged since. Ingest the archive again",
            "changed-since-ingest",
        )
    return sha256


def open_image(header: InstanceHeader) -> FileDataset:
    """The whole dataset of one instance. Raises VolumeError when the file is gone, damaged, or changed since ingest."""
    return _opened(header, digest=bool(header.pixel_sha256))[0]


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
    """How many pixels hold PixelPaddingValue, or lie from it to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    value, limit = integer(dataset, "PixelPaddingValue"), integer(dataset, "PixelPaddingRangeLimit")
    if value is None:
        return 0
    if limit is None:
        return int(np.count_nonzero(stored == value))
    return int(np.count_nonzero((stored >= min(value, limit)) & (stored <= max(value, limit))))
