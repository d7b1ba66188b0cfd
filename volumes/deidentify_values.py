"""One DICOM element without its patient: texts, codes, dates and UIDs, each by the rule of its kind."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from volumes.deidentify_icc import icc_without_texts
from volumes.deidentify_keys import Pseudonyms, is_date, is_time, shift_date, shift_datetime
from volumes.deidentify_profile import Profile, kept_lists
from volumes.deidentify_text import REMOVED, TextCleaner, is_known_code

NUMERIC = frozenset(["US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT", "OF", "OD", "OL", "OV"])
_TEXTS = frozenset(["LO", "SH", "ST", "LT", "UT", "UC"])
_KEPT = kept_lists()
BYTES = _KEPT["bytes"]  # binary attributes that hold the image, a curve of it, or a lookup table
FREE = _KEPT["free"]  # texts outside the table that are cleaned like descriptions
TECHNICAL = _KEPT["technical"]  # names of products and methods: only identifiers leave them
_CODE_SCHEMES = _KEPT["coding_schemes"]
_CODE_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-/{}%\[\]*^'_]{0,63}")
_OUR_CODE = re.compile(r"C[0-9A-F]{14}|")
_OUR_SCHEME = re.compile(r"99[0-9A-F]{8}")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_AGE = re.compile(r"(\d{3})([DWMY])")
_CLASS_UIDS = re.compile(r"(SOPClassUID|TransferSyntaxUID|SOPClassUIDs|CodingSchemeUID|ContextUID|MappingResourceUID)")
_PRIVATE_CLASSES = ("1.3.46.670589.", "1.3.12.2.1107.", "1.2.840.113619.", "1.2.392.200036.", "1.2.276.0.7230010.")
DUMMIES: dict[str, Any] = {
    "PN": "Removed", "LO": "REMOVED", "SH": "REMOVED", "ST": "REMOVED", "LT": "REMOVED", "UT": "REMOVED",
    "UC": "REMOVED", "AE": "REMOVED", "CS": "OTHER", "DA": "19000101", "TM": "000000", "DT": "19000101000000",
    "AS": "000D", "DS": "0", "IS": "0", "UR": "about:blank", "OB": b"\0\0", "OW": b"\0\0", "UN": b"",
    "US": 0, "SS": 0, "UL": 0, "SL": 0, "FL": 0.0, "FD": 0.0, "UV": 0, "SV": 0,
}  # fmt: skip


@dataclass
class Cleaning:
    """What was done to one file: how often each action was taken, and what odd values were met. No values."""

    actions: Counter[str] = field(default_factory=Counter)
    odd: Counter[str] = field(default_factory=Counter)


@dataclass
class Values:
    """Cleans the values of one file's elements and counts what it did."""

    profile: Profile
    pseudonyms: Pseudonyms
    text: TextCleaner
    shift: timedelta
    cleaning: Cleaning = field(default_factory=Cleaning)

    def cleaned(self, element: DataElement, keyword: str, *, keep: bool) -> DataElement | None:
        """The element with a value that may stay, or None. With `keep` an option retains the value as it is."""
        vr = element.VR
        if vr in NUMERIC:
            return element
        if keyword == "ICCProfile":
            profile = icc_without_texts(bytes(element.value or b""))
            return None if profile is None else DataElement(element.tag, vr, profile)
        if vr in ("OB", "OW", "UN"):
            return element if keyword in BYTES else None
        if vr in ("DS", "IS"):
            return element if all(self._number_stays(str(v)) for v in originals_of(element)) else None
        if vr in ("DA", "DT", "TM"):
            return self._dates(element)
        if vr == "AS":
            return _age(element)
        if vr == "CS":
            values = [str(v) for v in values_of(element)]
            kept = [v if is_known_code(v, self.text.identifiers) else "" for v in values]
            if kept == values:
                return element
            self.cleaning.actions["cleaned"] += 1
            return DataElement(element.tag, "CS", kept if len(kept) > 1 else kept[0]) if any(kept) else None
        if keyword == "TimezoneOffsetFromUTC":
            return element if re.fullmatch(r"[+-]\d{4}", str(element.value).strip()) else None
        if vr not in _TEXTS:
            return element if keep and vr in ("AE", "UI") else None
        return self._texts(element, keyword, keep=keep)

    def _number_stays(self, value: str) -> bool:
        """Whether it is a number at all, and not one by which the file names somebody."""
        if value == "":
            return True
        return _NUMBER.fullmatch(value) is not None and value.strip().lstrip("0") not in self.text.identifiers.numbers

    def _texts(self, element: DataElement, keyword: str, *, keep: bool) -> DataElement | None:
        values = [str(v) for v in values_of(element)]
        if keep or keyword in TECHNICAL:
            kept = [self.text.technical(v) for v in values]
        else:
            kept = [self.text.free(v) for v in values]
        if keep:  # an option retains the value whole, unless it holds somebody's name
            kept = [v if _same(v, k) else k for v, k in zip(values, kept, strict=True)]
        if all(_same(v, k) for v, k in zip(values, kept, strict=True)) and all(v.isascii() for v in values):
            return element
        self.cleaning.actions["cleaned"] += 1
        if not any(kept):
            return DataElement(element.tag, element.VR, REMOVED) if keyword in FREE else None
        limit = 16 if element.VR == "SH" else 64 if element.VR == "LO" else 1 << 30
        kept = [k[:limit].strip() for k in kept]
        return DataElement(element.tag, element.VR, kept if len(kept) > 1 else kept[0])

    def code(self, scheme: str, value: str) -> tuple[str, str]:
        """(scheme, value) of a code: those of published schemes stay, local ones become pseudonyms.

        A hospital's own codes can name its wards and people; that two codes are the same stays visible.
        """
        if scheme in _CODE_SCHEMES:
            words = re.findall(r"[A-Za-z]+", value)
            if not value or (_CODE_VALUE.fullmatch(value) and all(len(w) <= 4 or is_known_code(w) for w in words)):
                return scheme, value
        if _OUR_SCHEME.fullmatch(scheme) and _OUR_CODE.fullmatch(value):
            return scheme, value
        self.cleaning.actions["local code replaced"] += 1
        if scheme not in _CODE_SCHEMES and not _OUR_SCHEME.fullmatch(scheme):
            scheme = f"99{self.pseudonyms.digest('scheme', scheme).hex()[:8].upper()}"
        return scheme, f"C{self.pseudonyms.digest('code', value).hex()[:14].upper()}" if value else ""

    def _dates(self, element: DataElement) -> DataElement | None:
        if self.profile.dates == "remove":
            return None
        values = [str(v).strip() for v in originals_of(element)]
        if all(v == "" for v in values):
            return element
        fits = is_time if element.VR == "TM" else is_date
        moved: list[str | None] = list(values)
        if self.profile.dates == "shift" and element.VR != "TM":
            shift = shift_date if element.VR == "DA" else shift_datetime
            moved = [shift(v, self.shift) if v else "" for v in values]
        if any(m is None or (v and not fits(v)) for v, m in zip(values, moved, strict=True)):
            self.cleaning.odd["no date or time"] += 1
            return None
        self.cleaning.actions["date kept" if moved == values else "date shifted"] += 1
        return DataElement(element.tag, element.VR, moved if len(moved) > 1 else moved[0])

    def uids(self, element: DataElement, keyword: str) -> DataElement:
        if self.profile.uids or element.VR != "UI":
            return element
        values = [str(value) for value in values_of(element)]
        if _CLASS_UIDS.search(keyword):
            kept = [v if v.startswith(_PRIVATE_CLASSES) else self.pseudonyms.uid(v) for v in values]
        else:
            kept = [self.pseudonyms.uid(value) for value in values]
        self.cleaning.actions["UID mapped"] += sum(a != b for a, b in zip(values, kept, strict=True))
        return DataElement(element.tag, "UI", kept if len(kept) != 1 else kept[0])


def readable(dataset: Dataset, tag: Any) -> DataElement | None:
    """An element with its value converted, or None when it cannot be read."""
    try:
        found = dataset[tag]
        _ = found.value
        return found
    except Exception:  # a damaged value fails with any error
        return None


def vrs_of(tag: Any) -> list[str]:
    return [vr for vr in dictionary_VR(tag).split() if vr != "or"] + (["UN"] if tag == 0x7FE00010 else [])


def fits(element: DataElement, vr: str) -> bool:
    values = [str(v) for v in originals_of(element)]
    if vr in ("DS", "IS"):
        return element.VR in ("DS", "IS") and all(_NUMBER.fullmatch(v) for v in values)
    if vr in ("CS", "SH"):
        return vr == element.VR and all(v.isascii() and len(v) <= 16 and is_known_code(v) for v in values)
    return vr == element.VR


def values_of(element: DataElement) -> list[Any]:
    value = element.value
    if value is None:
        return []
    return list(value) if isinstance(value, (MultiValue, list, tuple)) else [value]


def originals_of(element: DataElement) -> list[str]:
    """The texts of numbers and dates as they stand in the file."""
    return [str(getattr(v, "original_string", v)) for v in values_of(element)]


def is_blank(element: DataElement) -> bool:
    return all(v in ("", None, b"") for v in values_of(element)) if element.VR != "SQ" else not element.value


def _same(value: str, cleaned: str) -> bool:
    return re.sub(r"[\W_]+", "", value) == re.sub(r"[\W_]+", "", cleaned)


def _age(element: DataElement) -> DataElement | None:
    found = _AGE.fullmatch(str(element.value).strip())
    if found is None:
        return None
    old = found[2] == "Y" and int(found[1]) > 89  # a year of birth that few share: 45 CFR 164.514(b)(2)(i)(C)
    return DataElement(element.tag, "AS", "090Y") if old else element
