"""Frames of a DICOM SEG -> array, also in the encodings that pydicom's decoders leave out: 1-bit RLE, deflated frames.

PS3.5 8.1.1 and G.3.1 (one bit per pixel, eight to a byte, least significant first; compressed frames begin at a byte),
PS3.5 A.4.13 and 10.18 (Deflated Image Frame Compression).
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from volumes.header import get, integer, text
from volumes.pixels import decode
from volumes.volume import VolumeError

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"  # Deflated Image Frame Compression
_MAX_VOXELS = 2**32


def segment_frames(dataset: FileDataset) -> NDArray[Any]:
    """Stored values (frames, rows, columns). Raises VolumeError when they are damaged."""
    syntax = text(dataset.file_meta, "TransferSyntaxUID") if getattr(dataset, "file_meta", None) else ""
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    count, bits = integer(dataset, "NumberOfFrames") or 1, integer(dataset, "BitsAllocated") or 0
    if syntax != DEFLATED_FRAMES and not (syntax == RLELossless and bits == 1):
        found = decode(dataset)
        if found.size != count * rows * columns:
            raise VolumeError(
                f"the pixels decode to {found.shape}; expected {count} frames of {rows} rows x {columns} columns",
                "bad-description",
            )
        return found.reshape(count, rows, columns)
    if min(rows, columns, count) < 1 or bits not in (1, 8, 16) or count * rows * columns > _MAX_VOXELS:
        raise VolumeError(
            f"the object is described as {count} frames of {rows} rows x {columns} columns and {bits} bits; expected"
            f" positive numbers, 1, 8 or 16 bits and at most {_MAX_VOXELS} voxels",
            "bad-description",
        )
    unpack = _inflate if syntax == DEFLATED_FRAMES else _unpack_bits
    length = (rows * columns * bits + 7) // 8
    try:
        held = get(dataset, "PixelData")  # of a damaged VR: no bytes
        encoded = list(generate_frames(held if isinstance(held, bytes) else b"", number_of_frames=count))
        raw = [unpack(frame, length) for frame in encoded]
    except (ValueError, IndexError, struct.error, zlib.error) as error:
        why = f"the frames cannot be unpacked: {str(error)[:120]}; the file is damaged"
        raise VolumeError(why, "damaged-pixels") from error
    short = [n for n, data in enumerate(raw, 1) if len(data) < length]
    if len(raw) != count or short:
        raise VolumeError(
            f"{len(raw)} of {count} frames are there, {len(short)} of them shorter than {length} bytes; the file is"
            " truncated",
            "damaged-pixels",
        )
    if bits == 1:
        packed = np.frombuffer(b"".join(raw), dtype=np.uint8).reshape(count, length)
        return np.unpackbits(packed, axis=1, bitorder="little")[:, : rows * columns].reshape(count, rows, columns)
    return np.frombuffer(b"".join(raw), dtype=f"<u{bits // 8}").reshape(count, rows, columns)


def _inflate(frame: bytes, length: int) -> bytes:
    return zlib.decompressobj(-15).decompress(frame, length)[:length]


def _unpack_bits(frame: bytes, length: int) -> bytes:
    """One RLE segment (PS3.5 G.3): a signed count, then bytes to copy or one byte to repeat."""
    segments, at = struct.unpack("<2I", frame[:8])
    if segments != 1:
        raise ValueError(f"an RLE frame of one bit per pixel has {segments} segments, expected 1")
    out = bytearray()
    while len(out) < length and at < len(frame):
        control = frame[at]
        if control < 128:
            out += frame[at + 1 : at + 2 + control]
            at += control + 2
        else:
            if control > 128:
                out += frame[at + 1 : at + 2] * (257 - control)
            at += 2 if control > 128 else 1
    return bytes(out[:length])
