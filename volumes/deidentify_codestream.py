"""Compressed pixels without their comments: JPEG and JPEG 2000 streams carry texts that no header shows."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

_KEPT_APPS = (0xE0, 0xE8, 0xEE)  # JFIF, the colour transform of JPEG-LS, and of Adobe: decoders look at them
_JFIF_BYTES = 16  # without a thumbnail
_NO_LENGTH = frozenset([0x01, *range(0xD0, 0xD8)])


def strip_comments(dataset: Dataset, frames: int) -> int:
    """Take comments, application segments and what follows the end out of encapsulated pixels; how many frames changed.

    Streams that are of no known kind or damaged stay as they are; the pixels do not change.
    """
    streams = [bytes(frame) for frame in generate_frames(dataset.PixelData, number_of_frames=frames)]
    bare = [_bare(stream) for stream in streams]
    changed = sum(a.rstrip(b"\0") != b.rstrip(b"\0") for a, b in zip(streams, bare, strict=True))
    if changed:
        dataset["PixelData"].value = encapsulate(bare)
        for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if name in dataset:
                del dataset[name]
    return changed


def _bare(stream: bytes) -> bytes:
    if stream[:2] == b"\xff\xd8":
        return jpeg_without_comments(stream)
    if stream[:4] == b"\xff\x4f\xff\x51":
        return _jpeg_2000(stream)
    return stream


def jpeg_without_comments(stream: bytes) -> bytes:
    """A JPEG or JPEG-LS stream without comments, application segments, thumbnail, and what follows its end."""
    kept, place = bytearray(stream[:2]), 2
    while place + 4 <= len(stream):
        if stream[place] != 0xFF:
            return stream
        marker = stream[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker in _NO_LENGTH:
            kept += stream[place : place + 2]
            place += 2
            continue
        end = place + 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
        if marker == 0xDA:  # pixels follow, up to the last end-of-image
            last = stream.rfind(b"\xff\xd9")
            return bytes(kept) + (stream[place : last + 2] if last > place else stream[place:])
        if end > len(stream):
            return stream
        extra = marker == 0xFE or (0xE0 <= marker <= 0xEF and marker not in _KEPT_APPS)
        if not extra and not (marker == 0xE0 and end - place - 2 > _JFIF_BYTES):
            kept += stream[place:end]
        place = end
    return stream


def _jpeg_2000(stream: bytes) -> bytes:
    kept, place = bytearray(stream[:2]), 2
    while place + 4 <= len(stream):
        if stream[place] != 0xFF:
            return stream
        marker = stream[place + 1]
        end = place + 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
        if marker == 0x90:  # the first tile
            last = stream.rfind(b"\xff\xd9")
            return bytes(kept) + (stream[place : last + 2] if last > place else stream[place:])
        if end > len(stream):
            return stream
        if marker != 0x64:
            kept += stream[place:end]
        place = end
    return stream
