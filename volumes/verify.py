"""Decoding every pixel of a file once, to know before training that it decodes, and to which values.

Most damage in compressed pixels decodes without an error, to other pixels. The digest of the decoded values, kept
beside the digest of the file, tells later whether a file, a decoder or a conversion changed them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate

from volumes.errors import VolumeError
from volumes.frame_decoders import frames
from volumes.header import get, integer, read_header, text
from volumes.instance import InstanceHeader
from volumes.isolation import Workers
from volumes.pixels import Stored, decode
from volumes.planes import open_image
from volumes.transfer_syntaxes import NATIVE, VIDEO


@dataclass(frozen=True)
class Verified:
    """What a file decodes to: `shape` (frames, rows, columns), with a last axis of 3 for colour, or (D, H, W)."""

    shape: tuple[int, ...]
    dtype: str  # of the stored values, in numpy's words
    sha256: str  # of the stored values, little endian, frame after frame
    file_sha256: str


def verify_pixels(location: str) -> Verified:
    """Decode all pixels of a location, one frame in memory. Raises VolumeError with the reason when they do not.

    Meant for `Workers`: decoders hang and abort on damaged files. Objects without pixels are refused ("no-pixels").
    """
    header = read_header(location)
    if header.format != "dicom":
        return _verified(iter([_voxels(header)]), header)
    return _verified(_frames(open_image(header)), header)


def isolated(workers: int = 2, seconds: float = 60.0, memory_bytes: int = 2**30) -> Workers[str, Verified]:
    """Workers that verify; a file of many frames may take longer than the header of one."""
    return Workers(verify_pixels, workers, seconds, memory_bytes, chunk=4)


def _verified(found: Iterator[Stored], header: InstanceHeader) -> Verified:
    digest, count, kind = hashlib.sha256(), 0, ""
    shape: tuple[int, ...] = ()
    for frame in found:
        if count and (frame.shape != shape or frame.dtype.str != kind):
            raise VolumeError(
                f"frame {count} decodes to {frame.shape} of {frame.dtype}; expected {shape} of {kind} like frame 0",
                "mixed-sizes",
            )
        shape, kind, count = frame.shape, frame.dtype.str, count + 1
        digest.update(np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("<")).tobytes())
    whole = (count, *shape) if header.format == "dicom" else shape
    return Verified(whole, np.dtype(kind).newbyteorder("<").str, digest.hexdigest(), header.sha256)


def _frames(dataset: FileDataset) -> Iterator[Stored]:
    """Frame by frame, where frames can be told apart before they are decoded."""
    syntax = text(getattr(dataset, "file_meta", None) or FileDataset("", {}), "TransferSyntaxUID")
    count, bits = integer(dataset, "NumberOfFrames") or 1, integer(dataset, "BitsAllocated") or 0
    held = isinstance(get(dataset, "PixelData"), bytes)
    if count < 2 or not held or not syntax or syntax in VIDEO or (syntax in NATIVE and bits % 8):
        yield from _split(decode(dataset), count)
        return
    encoded = _native_frames(dataset, count) if syntax in NATIVE else frames(dataset)
    try:
        for frame in encoded:
            dataset.NumberOfFrames = 1
            dataset.PixelData = frame if syntax in NATIVE else encapsulate([frame])
            yield decode(dataset)
    except VolumeError:
        raise
    except ValueError as error:
        raise VolumeError(
            f"the frames cannot be told apart: {error}; export the file again", "damaged-pixels"
        ) from error


def _split(values: Stored, count: int) -> Iterator[Stored]:
    yield from values if count > 1 else [values]


def _native_frames(dataset: FileDataset, count: int) -> Iterator[bytes]:
    data, samples = dataset.PixelData, integer(dataset, "SamplesPerPixel") or 1
    size = (integer(dataset, "Rows") or 0) * (integer(dataset, "Columns") or 0) * samples
    size *= (integer(dataset, "BitsAllocated") or 0) // 8
    if not size or len(data) < size * count:
        raise VolumeError(
            f"the pixel data hold {len(data)} bytes; {count} frames need {size * count}", "damaged-pixels"
        )
    for number in range(count):
        frame = data[number * size : (number + 1) * size]
        yield frame + b"\0" * (len(frame) % 2)


def _voxels(header: InstanceHeader) -> Stored:
    from volumes.study import group_studies
    from volumes.volume import Film

    image = group_studies([header])[0].series[0].read()
    return (image.pixels if isinstance(image, Film) else image.voxels).numpy()
