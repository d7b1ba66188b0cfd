"""Frames that pydicom has no decoder for: JPEG of 12 and 16 bits and lossless, JPEG XL, JPEG 2000 part 2, deflated
and uncompressed frames (PS3.5 A.4), and video. Each gives stored values, never scaled or windowed.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from volumes.errors import VolumeError
from volumes.header import get, integer, text
from volumes.transfer_syntaxes import JPEG_LS, RLE, VIDEO

_PREFIX = "1.2.840.10008.1.2."
_DEFLATED, _UNCOMPRESSED = f"{_PREFIX}8.1", f"{_PREFIX}1.98"
_PART_2 = (f"{_PREFIX}4.92", f"{_PREFIX}4.93")
_JPEG_XL = (f"{_PREFIX}4.110", f"{_PREFIX}4.111", f"{_PREFIX}4.112")


def frames(dataset: Dataset) -> Iterator[bytes]:
    """The encoded frames of encapsulated pixel data, as many as NumberOfFrames says."""
    count = integer(dataset, "NumberOfFrames") or 1
    found = generate_frames(dataset.PixelData, number_of_frames=count)
    for number in range(count):
        try:
            yield next(found)
        except StopIteration:
            raise ValueError(f"{number} frames are there, {count} are announced") from None


def decode_frames(dataset: Dataset, syntax: str) -> NDArray[Any]:
    """(rows, columns), (frames, rows, columns), colour with a last axis of 3. Raises whatever a decoder raises."""
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    if syntax in VIDEO:
        return _video(dataset, rows, columns)
    found = [_one(dataset, syntax, frame, rows, columns) for frame in frames(dataset)]
    for frame in found:
        if frame.shape[:2] != (rows, columns):
            raise ValueError(f"a frame decodes to {frame.shape}, the header says {rows} x {columns}")
    return found[0] if len(found) == 1 else np.stack(found)


def _one(dataset: Dataset, syntax: str, frame: bytes, rows: int, columns: int) -> NDArray[Any]:
    if syntax in (_DEFLATED, _UNCOMPRESSED):
        return _plain(dataset, frame, rows, columns, inflate=syntax == _DEFLATED)
    if syntax == RLE:
        return _packed_bits(frame, rows, columns)
    if syntax in _PART_2:
        from openjpeg.utils import decode

        return _typed(dataset, decode(io.BytesIO(frame)))
    import imagecodecs

    if syntax in _JPEG_XL:
        return _typed(dataset, imagecodecs.jpegxl_decode(frame))
    if syntax in JPEG_LS:
        return _typed(dataset, imagecodecs.jpegls_decode(frame))
    as_stored = text(dataset, "PhotometricInterpretation") == "RGB" and b"Adobe" not in frame[:256]
    options = {"colorspace": "RGB", "outcolorspace": "RGB"} if as_stored else {}
    return _typed(dataset, imagecodecs.jpeg8_decode(frame, **options))


def _typed(dataset: Dataset, values: NDArray[Any]) -> NDArray[Any]:
    """In as many bits as the header allocates; a codestream does not know the sign of JPEG, the header does."""
    bits, signed = integer(dataset, "BitsAllocated") or 16, integer(dataset, "PixelRepresentation") == 1
    if values.dtype.kind == "i":
        return values.astype(f"i{max(1, bits // 8)}")
    return values.astype(f"u{max(1, bits // 8)}").view(f"{'i' if signed else 'u'}{max(1, bits // 8)}")


def _plain(dataset: Dataset, frame: bytes, rows: int, columns: int, inflate: bool) -> NDArray[Any]:
    """A frame of native values, deflated (RFC 1951) or not; 1-bit frames are padded to a whole byte each."""
    bits, samples = integer(dataset, "BitsAllocated") or 0, integer(dataset, "SamplesPerPixel") or 1
    needed = math.ceil(rows * columns * samples * bits / 8)
    if inflate:
        frame = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, needed + 2)
    if not needed <= len(frame) <= needed + 1:
        raise ValueError(f"a frame holds {len(frame)} bytes, {needed} are needed")
    if bits == 1:
        flat = np.unpackbits(np.frombuffer(frame, np.uint8, needed), bitorder="little")[: rows * columns * samples]
        return flat.reshape(rows, columns)
    kind = "i" if integer(dataset, "PixelRepresentation") == 1 else "u"
    flat = np.frombuffer(frame, f"<{kind}{bits // 8}", rows * columns * samples)
    if samples == 1:
        return flat.reshape(rows, columns)
    if integer(dataset, "PlanarConfiguration") == 1:
        return flat.reshape(samples, rows, columns).transpose(1, 2, 0)
    return flat.reshape(rows, columns, samples)


def _packed_bits(frame: bytes, rows: int, columns: int) -> NDArray[np.uint8]:
    """RLE of 1-bit segmentations: one segment of packed bits, each frame padded to a whole byte (PS3.5 annex G)."""
    from rle.rle import decode_segment

    segments, offset = struct.unpack_from("<II", frame)
    needed = math.ceil(rows * columns / 8)
    if segments != 1 or offset != 64:
        raise ValueError(f"{segments} segments from byte {offset}; expected one from byte 64")
    raw = np.frombuffer(bytes(decode_segment(frame[64:])), np.uint8)
    if not needed <= len(raw) <= needed + 1:
        raise ValueError(f"a frame holds {len(raw)} bytes, {needed} are needed")
    return np.unpackbits(raw, bitorder="little")[: rows * columns].reshape(rows, columns)


def _video(dataset: Dataset, rows: int, columns: int) -> NDArray[Any]:
    """All frames of MPEG-2, MPEG-4 or HEVC: the fragments are one stream, whatever their number (PS3.5 8.2.5)."""
    import av

    count = integer(dataset, "NumberOfFrames") or 1
    gray = integer(dataset, "SamplesPerPixel") == 1
    stream = b"".join(generate_frames(dataset.PixelData, number_of_frames=1))
    found: list[NDArray[np.uint8]] = []
    with av.open(io.BytesIO(stream)) as container:
        if not container.streams.video:
            raise ValueError("there is no video in the stream")
        told = container.streams.video[0].codec_context
        if (told.height, told.width) != (rows, columns):
            raise ValueError(f"the video is {told.height} x {told.width}, the header says {rows} x {columns}")
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            if len(found) == count:
                raise ValueError(f"the video has more than the {count} frames that are announced")
            found.append(frame.to_ndarray(format="gray" if gray else "rgb24"))
    if len(found) != count:
        raise ValueError(f"{len(found)} frames are there, {count} are announced")
    return found[0] if count == 1 else np.stack(found)


def check_room(dataset: Dataset, bytes_needed: int) -> None:
    """Refuse pixel data that claim to unpack beyond what any honest image does, before memory is taken for them."""
    pixels = get(dataset, "PixelData")
    held = len(pixels) if isinstance(pixels, bytes) else 0
    if bytes_needed > 64 * 2**20 and bytes_needed > 1000 * held:
        raise VolumeError(
            f"{held} bytes of pixel data claim to unpack to {bytes_needed} bytes; at most 1000-fold is taken for an"
            " image",
            "pixel-bomb",
        )
