"""Walking a DICOM header by the lengths of its elements (PS3.5 chapter 7), strictly, without reading a pixel.

It takes what nearly every file is, Part 10 with a preamble in explicit or implicit little endian, and declines the rest
(None): big endian, deflated files, unknown VRs, lengths that do not add up. Whoever calls it then asks pydicom.
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

from pydicom.datadict import DicomDictionary
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from volumes.elements import ASCII_SETS, CHARACTER_SET, UNDEFINED, Elements

PREAMBLE = 132
FIRST_BYTES = 16 * 2**10
MOST_HEADER_BYTES = 16 * 2**20  # longer headers are left to pydicom, which seeks instead of growing a buffer
_MAX_DEPTH = 16
_LONGEST_UID = 64

_IMPLICIT = struct.Struct("<II")
_EXPLICIT = struct.Struct("<I2sH")
_LENGTH = struct.Struct("<I")
_SHORT_VR = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_16)
_LONG_VR = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)

# A tag is read as one little-endian number, so its halves stand swapped: (7FE0,0010) is 0x00107FE0.
_PIXELS = frozenset((0x00107FE0, 0x00087FE0, 0x00097FE0))
_SYNTAX = 0x00100002
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000FFFE, 0xE00DFFFE, 0xE0DDFFFE
_BIG_ENDIAN, _DEFLATED, _IMPLICIT_SYNTAX = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


class TruncatedError(Exception):
    """More bytes of the file are needed before anything can be said."""


class _OddError(Exception):
    """Not what this parser takes."""


def scan(data: bytes, wanted: frozenset[int], size: int) -> Elements | None:
    """The wanted elements of a file of `size` bytes whose first bytes are `data`; None when it is not plain DICOM.

    Raises TruncatedError when the header goes on beyond `data`.
    """
    if len(data) < PREAMBLE + 14 or data[128:PREAMBLE] != b"DICM":
        return None
    try:
        at, syntax = _meta(data, size)
        elements = Elements(data, syntax, syntax == _IMPLICIT_SYNTAX)
        elements.pixels = elements.pixel_start = size
        _check_first(data, at, elements.implicit, size)
        _top_level(elements, at, wanted, size)
    except _OddError:
        return None
    place = elements.found.get(CHARACTER_SET)
    elements.plain = place is None or elements.bytes_at(place).strip(b" \0") in ASCII_SETS
    return elements


def scan_file(stream: BinaryIO, wanted: frozenset[int], size: int) -> Elements | None:
    """`scan` of an open file, reading no more of it than the header, in growing steps."""
    step, data = FIRST_BYTES, b""
    while True:
        data += stream.read(step - len(data))
        try:
            return scan(data, wanted, size)
        except TruncatedError:
            if len(data) < step or step >= MOST_HEADER_BYTES:
                return None
            step *= 8


def _meta(data: bytes, size: int) -> tuple[int, str]:
    """(offset behind the group 0002, transfer syntax); the group is explicit little endian in every file."""
    at, raw = PREAMBLE, b""
    if data[at : at + 8] != b"\x02\x00\x00\x00UL\x04\x00":
        raise _OddError
    while True:
        if at + 12 > len(data):
            raise TruncatedError if len(data) < size else _OddError
        key, vr, length = _EXPLICIT.unpack_from(data, at)
        if key & 0xFFFF != 2:
            break
        at += 8
        if vr in _LONG_VR:
            length = _LENGTH.unpack_from(data, at)[0]
            at += 4
        elif vr not in _SHORT_VR:
            raise _OddError
        if length == UNDEFINED or at + length > size:
            raise _OddError
        if key == _SYNTAX:
            raw = data[at : at + length] if vr == b"UI" else b""
        at += length
    syntax = raw.rstrip(b" \0").decode("latin-1")
    if not _UID.fullmatch(syntax) or len(syntax) > _LONGEST_UID or syntax in (_BIG_ENDIAN, _DEFLATED):
        raise _OddError
    return at, syntax


def _check_first(data: bytes, at: int, implicit: bool, size: int) -> None:
    """Some files are encoded in another way than they say: the first element tells (pydicom looks there too)."""
    if at + 8 > len(data):
        raise TruncatedError if len(data) < size else _OddError
    looks_implicit = not (0x40 < data[at + 4] < 0x5B and 0x40 < data[at + 5] < 0x5B)
    if looks_implicit != implicit:
        raise _OddError


def _top_level(elements: Elements, at: int, wanted: frozenset[int], size: int) -> None:
    data, found, implicit = elements.data, elements.found, elements.implicit
    last = len(data) - 12
    unpack = _EXPLICIT.unpack_from
    vr: bytes | None
    while True:
        start = at
        if at > last:
            if len(data) < size:
                raise TruncatedError
            if at == size:
                return
            if at + 8 > size:
                raise _OddError
        if implicit:
            key, length = _IMPLICIT.unpack_from(data, at)
            vr = None
            at += 8
        else:
            key, vr, length = unpack(data, at)
            at += 8
            if vr in _LONG_VR:
                if at + 4 > size:
                    raise _OddError
                length = _LENGTH.unpack_from(data, at)[0]
                at += 4
            elif vr not in _SHORT_VR:
                raise _OddError
        if key in _PIXELS:
            elements.pixels, elements.pixel_start, elements.pixel_length = start, at, length
            return
        group = key & 0xFFFF
        if group == 0xFFFE or group <= 4:
            raise _OddError
        if key in wanted:
            found[key] = vr, at, length
        if length == UNDEFINED:
            at = _skip_sequence(data, at, implicit, size, _sequence(key, vr, data, at, size))
        else:
            at += length
            if at > size:
                raise _OddError


def _sequence(key: int, vr: bytes | None, data: bytes, at: int, size: int) -> int:
    """The depth at which to go on; raises _OddError for a value of undefined length that is no sequence."""
    if vr == b"SQ":
        return 0
    if vr is not None:
        raise _OddError
    tag = (key & 0xFFFF) << 16 | key >> 16
    known = DicomDictionary.get(tag)
    if known is not None and known[0] == "SQ":
        return 0
    if tag >> 16 & 1 and known is None:
        if at + 4 > len(data):
            raise TruncatedError if len(data) < size else _OddError
        if _LENGTH.unpack_from(data, at)[0] == _ITEM:
            return 0
    raise _OddError


def _skip_sequence(data: bytes, at: int, implicit: bool, size: int, depth: int) -> int:
    """The offset behind a sequence of undefined length, whose items and nested sequences must add up."""
    if depth > _MAX_DEPTH:
        raise _OddError
    while True:
        if at + 8 > len(data):
            raise TruncatedError if len(data) < size else _OddError
        key, length = _IMPLICIT.unpack_from(data, at)
        at += 8
        if key == _SEQUENCE_END and length == 0:
            return at
        if key != _ITEM:
            raise _OddError
        at = _skip_item(data, at, length, implicit, size, depth)


def _skip_item(data: bytes, at: int, length: int, implicit: bool, size: int, depth: int) -> int:
    end = size if length == UNDEFINED else at + length
    if end > size:
        raise _OddError
    while at < end or length == UNDEFINED:
        if at + 12 > len(data):
            if len(data) < size:
                raise TruncatedError
            if at + 8 > size:
                raise _OddError
        key, inner = _IMPLICIT.unpack_from(data, at)
        if key == _ITEM_END:
            if length != UNDEFINED or inner != 0:
                raise _OddError
            return at + 8
        vr: bytes | None = None
        if not implicit:
            key, vr, inner = _EXPLICIT.unpack_from(data, at)
            if vr in _LONG_VR:
                if at + 12 > size:
                    raise _OddError
                inner = _LENGTH.unpack_from(data, at + 8)[0]
                at += 4
            elif vr not in _SHORT_VR:
                raise _OddError
        at += 8
        if key & 0xFFFF == 0xFFFE or key & 0xFFFF <= 4:
            raise _OddError
        if inner == UNDEFINED:
            at = _skip_sequence(data, at, implicit, size, depth + 1 + _sequence(key, vr, data, at, size))
        else:
            at += inner
        if at > end:
            raise _OddError
    return at
