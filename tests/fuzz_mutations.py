"""Ways to damage a file, from a flipped bit to lengths, VRs and values that an attacker would choose."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UT", b"UC", b"UR", b"SV", b"UV")
_SHORT = "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US"
_VRS = (*_LONG, *(vr.encode() for vr in _SHORT.split()))
_LENGTHS = (0, 1, 2, 3, 7, 0xFF, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_TAGS = (
    0x7FE00010, 0x7FE00008, 0x00280010, 0x00280011, 0x00280008, 0x00280100, 0x00280101, 0x00280102, 0x00280103,
    0x00280002, 0x00280004, 0x00281052, 0x00281053, 0x00283000, 0x00200032, 0x00200037, 0x00280030, 0x52009230,
    0x00080005, 0x00080016, 0x00080018, 0x00080060, 0x00020010, 0x00020000, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD,
    0x00080000, 0x00000000, 0xFFFFFFFF, 0x00291010, 0x00091001, 0x60003000,
)  # fmt: skip
_TEXTS = (
    b"", b"-1", b"0", b"nan", b"-inf", b"1e999", b"1e-999", b"2147483648", b"-2147483649", b"99999999999999999999",
    b"1.5", b"1\\2", b"1\\2\\3\\4\\5\\6\\7", b"\\\\\\\\", b"0x10", b"1_000", b"\xb2", b"\0\0\0\0", b"A" * 70,
    b"9" * 400,
    b"\x1b$B" * 9, b"\x1b$)C\x1b(J", b"ISO 2022 IR 149", b"\\ISO 2022 IR 13\\ISO 2022 IR 87", b"ISO_IR 192", b"GB18030",
    b"\xff\xfe\xfd", b"\xed\xa0\x80", b"..\\..\\etc", b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.1.99", b"CT",
    b"PT",
    b"SEG", b"US", b"RGB", b"PALETTE COLOR", b"YBR_FULL_422", b"MONOCHROME1", b"LOCALIZER\\MOSAIC", b"BQML", b"%s%n",
)  # fmt: skip
_NUMBERS = (b"\0\0", b"\1\0", b"\2\0", b"\3\0", b"\x08\0", b"\x10\0", b"\x20\0", b"\xff\xff", b"\0\x80", b"\xff\x7f")


@dataclass(frozen=True)
class Element:
    """Where an element of a file lies; explicit VR when `vr` is not empty."""

    start: int
    vr: bytes
    length_at: int
    length_bytes: int
    value: int
    end: int


def elements(data: bytes) -> list[Element]:
    """Elements of little endian DICOM at every depth, as far as they can be followed; none for other files."""
    found: list[Element] = []
    at = 132 if data[128:132] == b"DICM" else 0
    while at + 8 <= len(data):
        if data[at : at + 2] == b"\xfe\xff":
            found.append(Element(at, b"", at + 4, 4, at + 8, at + 8))
            at += 8
            continue
        vr = data[at + 4 : at + 6]
        if vr in _LONG:
            place = Element(at, vr, at + 8, 4, at + 12, 0)
        elif vr in _VRS:
            place = Element(at, vr, at + 6, 2, at + 8, 0)
        else:
            place = Element(at, b"", at + 4, 4, at + 8, 0)
        length = int.from_bytes(data[place.length_at : place.length_at + place.length_bytes], "little")
        inside = length == 0xFFFFFFFF or vr == b"SQ"
        if not inside and place.value + length > len(data):
            break
        at = place.value if inside else place.value + length
        found.append(Element(place.start, place.vr, place.length_at, place.length_bytes, place.value, at))
    return found if len(found) > 5 else []


def mutated(data: bytes, others: Sequence[bytes], chance: random.Random) -> tuple[bytes, str]:
    """Damage a file once to three times; what was done."""
    told = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = elements(data)
        way = chance.choice(_PLAIN_WAYS + _ELEMENT_WAYS if places else _PLAIN_WAYS)
        data = way(data, chance, places, others)
        told.append(way.__name__.strip("_"))
    return data, ", ".join(told)


Way = Callable[[bytes, random.Random, list[Element], Sequence[bytes]], bytes]


def _flip(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    found = bytearray(data)
    for _ in range(chance.randint(1, 8) if found else 0):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def _noise(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    at, count = _span(data, chance)
    return data[:at] + chance.randbytes(count) + data[at + count :]


def _fill(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    at, count = _span(data, chance)
    return data[:at] + bytes([chance.choice((0, 255, 32, 27))]) * count + data[at + count :]


def _truncate(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _delete(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    at, count = _span(data, chance)
    return data[:at] + data[at + count :]


def _insert(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    at, count = _span(data, chance)
    return data[:at] + chance.randbytes(count) + data[at:]


def _repeat(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    at, count = _span(data, chance)
    return data[: at + count] + data[at : at + count] * chance.choice((1, 1, 50)) + data[at + count :]


def _splice(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    other = chance.choice(others)
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def _numbers_in_text(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    """Another number in place of one that stands as text: sizes of NRRD and MHA files, decimal strings."""
    digits = [n for n, byte in enumerate(data[:4000]) if 48 <= byte <= 57]
    if not digits:
        return _flip(data, chance, places, others)
    at = chance.choice(digits)
    return data[:at] + chance.choice(_TEXTS) + data[at + 1 :]


def _binary_number(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    """A hostile number of 2, 4 or 8 bytes in the first kilobyte, where headers keep sizes."""
    if len(data) < 9:
        return _flip(data, chance, places, others)
    kind = chance.choice(("<h", "<i", ">i", "<q", "<f", "<d"))
    if kind[1] in "fd":
        raw = struct.pack(kind, chance.choice((float("nan"), float("inf"), -1.0, 0.0, 1e30)))
    else:
        largest = 2 ** (8 * struct.calcsize(kind) - 1) - 1
        raw = struct.pack(kind, chance.choice((0, -1, 1, largest, -largest - 1, largest // 2)))
    at = chance.randrange(min(len(data) - 8, 1024))
    return data[:at] + raw + data[at + len(raw) :]


def _length(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    one = chance.choice(places)
    real = int.from_bytes(data[one.length_at : one.length_at + one.length_bytes], "little")
    rest = len(data) - one.value
    wanted = chance.choice((*_LENGTHS, real + 1, real - 1, real + 2, real * 2, rest, rest + 1, rest - 1))
    raw = (wanted % (1 << 8 * one.length_bytes)).to_bytes(one.length_bytes, "little")
    return data[: one.length_at] + raw + data[one.length_at + one.length_bytes :]


def _vr(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    explicit = [one for one in places if one.vr]
    if not explicit:
        return _tag(data, chance, places, others)
    at = chance.choice(explicit).start + 4
    return data[:at] + chance.choice((*_VRS, b"??", b"\0\0")) + data[at + 2 :]


def _tag(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    at, tag = chance.choice(places).start, chance.choice(_TAGS)
    return data[:at] + struct.pack("<HH", tag >> 16, tag & 0xFFFF) + data[at + 4 :]


def _value(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    """A hostile value with a length that fits."""
    one = chance.choice(places)
    if data[one.start : one.start + 2] == b"\xfe\xff" or one.vr == b"SQ":
        return _length(data, chance, places, others)
    raw = chance.choice(_NUMBERS) if one.vr in (b"US", b"SS") else chance.choice(_TEXTS)
    if one.vr in (b"UL", b"SL", b"FL"):
        raw = (chance.choice(_NUMBERS) * 2)[:4]
    elif one.vr in (b"FD", b"UV", b"SV"):
        raw = struct.pack("<d", chance.choice((float("nan"), float("inf"), -1.0, 0.0, 1e300)))
    raw += b" " * (len(raw) % 2)
    return data[: one.length_at] + len(raw).to_bytes(one.length_bytes, "little") + raw + data[one.end :]


def _drop(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    one = chance.choice(places)
    return data[: one.start] + data[one.end :]


def _double(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    one, target = chance.choice(places), chance.choice(places).start
    return data[:target] + data[one.start : one.end] + data[target:]


def _swap(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    one, two = sorted((chance.choice(places), chance.choice(places)), key=lambda e: e.start)
    if one.end > two.start:
        return _double(data, chance, places, others)
    first, second = data[one.start : one.end], data[two.start : two.end]
    return data[: one.start] + second + data[one.end : two.start] + first + data[two.end :]


def _deeper(data: bytes, chance: random.Random, places: list[Element], others: Sequence[bytes]) -> bytes:
    """Sequences in sequences, of undefined length, that end or do not."""
    depth = chance.choice((3, 30, 300, 3000))
    explicit = any(one.vr for one in places)
    head = b"\x08\0\x40\x11" + (b"SQ\0\0" if explicit else b"") + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    tail = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    at = chance.choice(places).start
    return data[:at] + head * depth + tail * chance.choice((depth, depth - 1, 0)) + data[at:]


def _span(data: bytes, chance: random.Random) -> tuple[int, int]:
    at = chance.randrange(len(data) + 1)
    return at, min(len(data) - at, chance.choice((1, 2, 4, 16, 64, 256)))


_PLAIN_WAYS: tuple[Way, ...] = (
    _flip, _flip, _noise, _fill, _truncate, _delete, _insert, _repeat, _splice, _numbers_in_text, _binary_number,
)  # fmt: skip
_ELEMENT_WAYS: tuple[Way, ...] = (
    _length, _length, _length, _vr, _vr, _tag, _value, _value, _value, _value, _drop, _drop, _double, _swap, _deeper,
)  # fmt: skip
