"""Elements of a DICOM header while they are still bytes: plain values are converted here, all others by pydicom.

Both give equal values, so a header does not depend on the way it was read; only the time differs, some tenfold.
`volumes.header_scan` finds the elements. A tag is one little-endian number there and here, so its halves stand
swapped: (0008,0005) is 0x00050008.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import VR
from pydicom.values import convert_string

from volumes.errors import VolumeError

UNDEFINED = 0xFFFFFFFF
_LONGEST_TEXT = 64


CHARACTER_SET = 0x00050008

_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}")
# In these character sets the bytes below 128 are ASCII; text in others is left to pydicom.
ASCII_SETS = frozenset(
    (b"", b"ISO_IR 6", b"ISO_IR 100", b"ISO_IR 101", b"ISO_IR 109", b"ISO_IR 144", b"ISO_IR 148", b"ISO_IR 192")
)
_ENCODED = {str(vr): str(vr).encode() for vr in VR}
_TEXT_VRS = frozenset(("CS", "DA", "DT", "LO", "LT", "SH", "TM", "UI"))
_PATTERNS = {"DS": _DECIMAL, "IS": _WHOLE}
_SHORT_NUMBERS = ("US", "SS", "US or SS")


class _Value(NamedTuple):
    value: str


# The slices of a series repeat most of their values: what a short one means is worked out once.


@lru_cache(maxsize=4096)
def _ascii(raw: bytes) -> str | None:
    """ASCII text without padding; None where it is not ASCII."""
    return raw.decode("ascii").rstrip(" \0") if raw.isascii() else None


@lru_cache(maxsize=4096)
def _shown(found: str) -> str | None:
    """One printable value, stripped and cut; None where pydicom has to say."""
    if found.isalnum():  # most are a word
        return found[:_LONGEST_TEXT]
    return found.strip()[:_LONGEST_TEXT] if found.isprintable() and "\\" not in found else None


@lru_cache(maxsize=4096)
def _items(found: str, vr: str) -> tuple[str, ...] | None:
    """The numbers of a text as they are written; None where one is not of its VR's form."""
    items = [item.strip(" ") for item in found.split("\\")]
    return tuple(items) if all(map(_PATTERNS[vr].fullmatch, items)) else None


class Elements:
    """Some elements of a header, still as bytes, and where its pixel data begin.

    `found` maps a tag (halves swapped) to its VR (None in implicit files), the place of its value and its length.
    `pixels` is the offset of the pixel data element itself (of the end of the file when there is none).
    """

    __slots__ = ("_dataset", "data", "found", "implicit", "pixel_length", "pixel_start", "pixels", "plain", "syntax")

    def __init__(self, data: bytes, syntax: str, implicit: bool) -> None:
        self.data = data
        self.syntax = syntax
        self.implicit = implicit
        self.found: dict[int, tuple[bytes | None, int, int]] = {}
        self.pixels = self.pixel_start = len(data)
        self.pixel_length = -1  # none
        self.plain = True  # text is ASCII when its bytes are
        self._dataset: Dataset | None = None

    def __contains__(self, name: str) -> bool:
        return field(name)[0] in self.found

    def get(self, tag: int) -> Any:
        """The element of a tag as pydicom gives it, or None."""
        place = self.found.get(_swapped(tag))
        if place is None:
            return None
        if tag >> 16 & 1 and tag & 0xFFFF < 0x100 and place[0] in (b"LO", None) and place[2]:
            raw = self.bytes_at(place)  # the creator of a private block
            if raw.isascii() and raw.replace(b" ", b"").isalnum():
                return _Value(raw.decode("ascii").rstrip(" \0"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are judged where they are used
            return self.dataset().get(tag)

    def _string(self, key: int, vr: str) -> str | None:
        """The ASCII text of an element without padding, empty when absent; None where pydicom has to say."""
        place = self.found.get(key)
        if place is None:
            return ""
        stated, start, length = place
        if (stated is not None and stated != _ENCODED[vr]) or length == UNDEFINED:
            return None
        raw = self.data[start : start + length]
        return _ascii(raw) if length <= _LONGEST_TEXT else _ascii.__wrapped__(raw)

    def text(self, name: str) -> str | None:
        """A text value, stripped and cut to 64 characters; None where pydicom has to say."""
        key, vr = field(name)
        if vr in _TEXT_VRS:
            found = self._string(key, vr)
            if not found or not self.plain:
                return found if self.plain else None
            return _shown(found) if len(found) <= _LONGEST_TEXT else _shown.__wrapped__(found)
        if key not in self.found:
            return ""
        numbers = self._numbers(key, vr)
        if not numbers:
            return None if numbers is None else ""
        return numbers[0][:_LONGEST_TEXT] if len(numbers) == 1 else ""

    def texts(self, name: str) -> tuple[str, ...] | None:
        """All values of a code string; None where pydicom has to say."""
        key, vr = field(name)
        if key not in self.found:
            return ()
        found = self._string(key, vr) if vr == "CS" else None
        return None if found is None else tuple([item.strip()[:_LONGEST_TEXT] for item in found.split("\\")][:16])

    def uid(self, name: str) -> str | None:
        """A UID as written; None where pydicom has to say."""
        found = self._string(*field(name))
        return found if found is not None and found.isprintable() and "\\" not in found else None

    def _numbers(self, key: int, vr: str) -> list[str] | None:
        found = self._string(key, vr) if vr in _PATTERNS else None
        if not found:
            return None if found is None else []
        items = _items(found, vr) if len(found) <= _LONGEST_TEXT else _items.__wrapped__(found, vr)
        return None if items is None else list(items)

    def numbers(self, name: str, count: int) -> tuple[float, ...] | None:
        """`count` numbers, () when there are others or none; None where pydicom has to say."""
        key, vr = field(name)
        place = self.found.get(key)
        if place is None:
            return ()
        if vr in _SHORT_NUMBERS:
            stated, start, length = place
            told = stated.decode() if stated else vr
            if told not in ("US", "SS") or told not in vr or length != 2:
                return None
            value = int.from_bytes(self.data[start : start + 2], "little", signed=told == "SS")
            return (float(value),) if count == 1 else ()
        found = self._numbers(key, vr)
        if not found or len(found) != count:
            return None if found is None else ()
        values = tuple(map(float, found))
        return values if max(map(abs, values)) < math.inf else ()  # 1e999 is written as a number

    def dataset(self) -> Dataset:
        """The same elements for pydicom, which knows every charset, sequence and damage."""
        if self._dataset is None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._dataset = self._for_pydicom()
            except (VolumeError, MemoryError):
                raise
            except Exception as error:  # pydicom raises anything on damaged items
                raise VolumeError(f"the DICOM header is damaged: {type(error).__name__}", "damaged-dicom") from error
        return self._dataset

    def _for_pydicom(self) -> Dataset:
        encoding: str | list[str] = default_encoding
        place = self.found.get(CHARACTER_SET)
        if place is not None:
            try:
                encoding = convert_encodings(convert_string(self.bytes_at(place), True))
            except Exception as error:  # a name with a zero byte in it, for example
                raise VolumeError(
                    f"the SpecificCharacterSet is damaged: {type(error).__name__}", "damaged-dicom"
                ) from error
        elements: dict[BaseTag, RawDataElement | DataElement] = {}
        for key, (vr, start, length) in self.found.items():
            tag = BaseTag((key & 0xFFFF) << 16 | key >> 16)
            if length == UNDEFINED:
                stream = io.BytesIO(self.data)
                stream.seek(start)
                items = read_sequence(stream, self.implicit, True, length, encoding)
                elements[tag] = DataElement(tag, "SQ", items, start, is_undefined_length=True)
            else:
                told = vr.decode() if vr else None
                value = self.bytes_at((vr, start, length)) if length else empty_value_for_VR(told, raw=True)
                elements[tag] = RawDataElement(tag, told, length, value, start, self.implicit, True)
        dataset = Dataset(elements, parent_encoding=default_encoding)
        dataset.set_original_encoding(self.implicit, True, encoding)
        return dataset

    def bytes_at(self, place: tuple[bytes | None, int, int]) -> bytes:
        """The value of an element of `found`."""
        return self.data[place[1] : place[1] + place[2]]


@lru_cache(maxsize=1024)
def field(name: str) -> tuple[int, str]:
    """(tag with its halves swapped, VR of the dictionary) of an element's keyword."""
    tag = tag_for_keyword(name)
    if tag is None:
        raise KeyError(f"{name} is no keyword of the DICOM dictionary")
    return _swapped(tag), dictionary_VR(tag)


def _swapped(tag: int) -> int:
    return (tag & 0xFFFF) << 16 | tag >> 16


def tags(names: Iterable[str | int]) -> frozenset[int]:
    """The set that `scan` takes, from keywords and tags. SpecificCharacterSet is always in it."""
    return frozenset([CHARACTER_SET, *(_swapped(name) if isinstance(name, int) else field(name)[0] for name in names)])
