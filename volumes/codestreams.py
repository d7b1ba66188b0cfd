"""What compressed pixel data say about themselves, before any decoder sees them: fragments, size, precision.

Damaged or hostile streams claim other sizes than the file (a terapixel in 100 bytes); decoders believe the stream.
Encapsulation: PS3.5 A.4. Markers: ITU-T T.81 B.2.2 (JPEG), T.87 C.2.2 (JPEG-LS), T.800 A.5.1 (JPEG 2000, also HTJ2K).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_ITEM, _END = 0xE000FFFE, 0xE0DDFFFE
_HEAD = struct.Struct("<II")
# Start of frame of every JPEG process and of JPEG-LS; DHT (C4), JPG (C8) and DAC (CC) share the range.
_FRAME_MARKERS = frozenset(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7})
_SIGNATURE_BOX = b"\x00\x00\x00\x0cjP  "
_SIZ = b"\xff\x4f\xff\x51"
_PADDING = 64  # zeros that may follow a codestream; one is allowed, some writers pad more
_FAR = 2**20  # no header of a codestream is longer


class StreamSize(NamedTuple):
    """Size that a codestream declares. `bits` is the precision of one sample."""

    rows: int
    columns: int
    components: int
    bits: int


def fragments(data: bytes | memoryview, start: int) -> list[tuple[int, int]] | None:
    """(offset, length) of each fragment of encapsulated pixel data whose value begins at `start`, without the offset
    table. The delimiter must end the data; None when anything does not add up.
    """
    found: list[tuple[int, int]] = []
    at, table = start, True
    while at + 8 <= len(data):
        key, length = _HEAD.unpack_from(data, at)
        at += 8
        if key == _END:
            return found if length == 0 and at == len(data) and not table else None
        if key != _ITEM or at + length > len(data):
            return None
        if not table:
            found.append((at, length))
        table = False
        at += length
    return None


def stream_size(stream: bytes | memoryview) -> StreamSize | None:
    """What a JPEG, JPEG-LS or JPEG 2000 codestream declares; None when it has no such header near its beginning."""
    head = bytes(stream[:12])
    if head[:2] == b"\xff\xd8":
        return _jpeg_size(stream)
    if head[:4] == _SIZ:
        return _jpeg2000_size(stream, 0)
    if head[:8] == _SIGNATURE_BOX:  # a JP2 file, which the standard forbids and some write
        at = bytes(stream[:_FAR]).find(_SIZ)
        return _jpeg2000_size(stream, at) if at > 0 else None
    return None


def is_cut_jpegls(stream: bytes | memoryview) -> bool:
    """Whether a JPEG-LS codestream lacks its end marker, zeros and 0xFF that pad it apart (T.87 C.1.1).

    CharLS 2.4 reads on for ever in one of ten such streams; with the marker in place it always comes back.
    """
    if bytes(stream[:2]) != b"\xff\xd8":
        return False
    return not bytes(stream[-_PADDING:]).rstrip(b"\0\xff").endswith(b"\xff\xd9")


def _jpeg_size(stream: bytes | memoryview) -> StreamSize | None:
    at, end = 2, min(len(stream), _FAR)
    while at + 10 <= end:
        if stream[at] != 0xFF:
            return None
        marker = stream[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _FRAME_MARKERS:
            bits, rows, columns, components = struct.unpack_from(">BHHB", stream, at + 4)
            return StreamSize(rows, columns, components, bits)
        if marker == 0xDA:  # the scan begins without a frame
            return None
        at += 2 if marker == 0x01 or 0xD0 <= marker <= 0xD8 else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None


def _jpeg2000_size(stream: bytes | memoryview, at: int) -> StreamSize | None:
    if at + 43 > len(stream):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", stream, at + 8)
    components, precision = struct.unpack_from(">HB", stream, at + 40)
    return StreamSize(bottom - top, right - left, components, (precision & 0x7F) + 1)
