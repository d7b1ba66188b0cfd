"""The content tree of a DICOM Structured Report as sections of text and as coded measurements (PS3.16 TID 1500).

A measurement group becomes one line, its finding and place first, so that the line reads like a sentence:
"Nodule, left upper lobe: long axis 12.5 mm, short axis 9 mm". Observers and other context are left out: they hold
names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from reports.finding_codes import OWN_SCHEME
from reports.sourced import CodedMeasurement, ReportError
from volumes.header import get, text

MAX_DEPTH = 32
"""Levels of nested content; a file that nests deeper is broken or hostile."""
MAX_ITEMS = 50_000

_GROUP = frozenset(("125007",))  # Measurement Group, DCM
_FINDING, _TRACKING = frozenset(("121071",)), frozenset(("112039",))
_SITE = frozenset(("363698007", "G-C0E3", "T-D0005"))  # Finding Site: SNOMED CT, SRT
_SIDE = frozenset(("272741003", "G-C171"))  # Laterality
_DERIVATION = frozenset(("121401",))
_SIDES = {"7771000": "left", "G-A101": "left", "24028007": "right", "G-A100": "right", "51440002": "bilateral",
          "G-A102": "bilateral"}  # fmt: skip
_TOLD = (None, "", "CONTAINS", "HAS PROPERTIES", "INFERRED FROM")
_UNITS = {"1": "", "{ratio}": "", "[hnsf'U]": "HU", "{SUVbw}g/ml": "g/ml SUVbw"}


@dataclass
class Content:
    """(heading, body) in reading order, and the numbers."""

    sections: list[tuple[str, str]] = field(default_factory=list)
    measurements: tuple[CodedMeasurement, ...] = ()


def read_content(report: Dataset) -> Content:
    """Text and measurements of a report. Raises ReportError ("damaged-dicom") when it nests too deeply or is too long.

    A container names the section of the items in it; a TEXT item outside of any is a section of its own.
    """
    reader = _Reader()
    reader.items(report, "", 0)
    return Content([(heading, "\n".join(lines)) for heading, lines in reader.sections], tuple(reader.measurements))


class _Reader:
    def __init__(self) -> None:
        self.sections: list[tuple[str, list[str]]] = []
        self.measurements: list[CodedMeasurement] = []
        self.groups = self.seen = 0

    def items(self, parent: Dataset, heading: str, depth: int) -> None:
        """Read the children of one item."""
        for child in self.children(parent, depth):
            if text(child, "RelationshipType") not in _TOLD:
                continue
            if _is_own(child):
                continue
            concept, kind = _meaning(child, "ConceptNameCodeSequence"), text(child, "ValueType")
            if kind == "CONTAINER" and _code(child, "ConceptNameCodeSequence") in _GROUP:
                self.group(child, heading, depth + 1)
            elif kind == "CONTAINER":
                self.items(child, concept or heading, depth + 1)
            else:
                self.one(child, concept, kind, heading)
                self.items(child, heading, depth + 1)

    def children(self, parent: Dataset, depth: int) -> Iterator[Dataset]:
        """The content items below one, counted."""
        if depth > MAX_DEPTH:
            raise _damaged(f"content nested deeper than {MAX_DEPTH} levels")
        for child in get(parent, "ContentSequence") or []:
            self.seen += 1
            if self.seen > MAX_ITEMS:
                raise _damaged(f"more than {MAX_ITEMS} content items")
            yield child

    def one(self, item: Dataset, concept: str, kind: str, heading: str) -> None:
        """Read one item that is no container."""
        line = _value(item, kind)
        if not line:
            return
        title = concept if kind == "TEXT" and not heading else heading
        number = self.measure(item, _Place(), 0) if kind == "NUM" else ""
        self.write(title, number or (f"{concept}: {line}" if kind == "CODE" and concept else line))

    def write(self, heading: str, line: str) -> None:
        """Add a line to the section that is being read."""
        if self.sections and self.sections[-1][0] == heading:
            self.sections[-1][1].append(line)
        else:
            self.sections.append((heading, [line]))

    def group(self, container: Dataset, heading: str, depth: int) -> None:
        """One measurement group (TID 1410, 1411, 1501): one line of text, and its numbers."""
        self.groups += 1
        number = self.groups
        children = list(self.children(container, depth))
        place = _place(children)
        told: list[str] = []
        for child in children:
            kind, concept = text(child, "ValueType"), _meaning(child, "ConceptNameCodeSequence")
            code = _code(child, "ConceptNameCodeSequence")
            if text(child, "RelationshipType") not in _TOLD or code in _FINDING | _SITE | _TRACKING:
                continue
            if kind == "NUM":
                told.append(self.measure(child, place, number))
            elif kind == "CODE" and _value(child, kind):
                told.append(f"{concept.lower()} {_value(child, kind)}" if concept else _value(child, kind))
            elif kind == "TEXT":
                told.append(_value(child, kind))
            elif kind == "CONTAINER":
                self.items(child, concept or heading, depth + 1)
        shown = ", ".join(one for one in told if one)
        if shown and not any(_is_own(child) for child in children):
            self.write(heading, f"{place.text}: {shown}" if place.text else shown)

    def measure(self, item: Dataset, place: _Place, group: int) -> str:
        """Keep the number of a NUM item; the words for it."""
        found = _number(item)
        if found is None:
            return ""
        value, unit, shown = found
        name = _meaning(item, "ConceptNameCodeSequence")
        own = _place(list(get(item, "ContentSequence") or [])[:100])
        self.measurements.append(
            CodedMeasurement(
                name, value, unit, place.finding, own.site or place.site, own.side or place.side, own.derivation, group
            )
        )
        words = [own.derivation.lower() if own.derivation else "", name.lower() if group else name]
        label = " ".join(word for word in words if word)
        return f"{label}{'' if group or not label else ':'} {shown}".strip()


@dataclass(frozen=True)
class _Place:
    """What is measured, and where."""

    finding: str = ""
    site: str = ""
    side: str = ""
    derivation: str = ""

    @property
    def text(self) -> str:
        side = self.side if self.side.lower() not in self.site.lower() else ""
        where = " ".join(part for part in (side, self.site) if part)
        return ", ".join(part for part in (self.finding, where) if part)


def _place(items: list[Dataset]) -> _Place:
    found = {"finding": "", "site": "", "side": "", "derivation": ""}
    for item in items:
        if text(item, "ValueType") != "CODE":
            continue
        code = _code(item, "ConceptNameCodeSequence")
        for name, codes in (("finding", _FINDING), ("site", _SITE), ("side", _SIDE), ("derivation", _DERIVATION)):
            if code in codes and not found[name]:
                said = _meaning(item, "ConceptCodeSequence")
                found[name] = _SIDES.get(_code(item, "ConceptCodeSequence"), said.lower()) if name == "side" else said
        inner = [one for one in list(get(item, "ContentSequence") or [])[:20] if code in _SITE]
        for one in inner:  # TID 1419 and others put the side below the site
            if _code(one, "ConceptNameCodeSequence") in _SIDE and not found["side"]:
                said = _meaning(one, "ConceptCodeSequence").lower()
                found["side"] = _SIDES.get(_code(one, "ConceptCodeSequence"), said)
    return _Place(**found)


def _value(item: Dataset, kind: str) -> str:
    if kind == "TEXT":  # some systems write HTML line ends
        return re.sub(r"<br\s*/?>", "\n", _long(item, "TextValue")).strip()
    if kind == "CODE":
        return _meaning(item, "ConceptCodeSequence")
    if kind == "NUM":
        found = _number(item)
        return found[2] if found else ""
    return ""


def _number(item: Dataset) -> tuple[float, str, str] | None:
    """(value, UCUM unit, both for people) of a NUM item; None where the value is missing or no finite number."""
    measured = get(item, "MeasuredValueSequence") or []
    if not measured:
        return None
    value = get(measured[0], "NumericValue")
    try:
        number = float(value[0] if isinstance(value, list) else value)
    except (TypeError, ValueError, IndexError):
        return None
    if not math.isfinite(number):
        return None
    unit = _code(measured[0], "MeasurementUnitsCodeSequence")
    return number, "" if unit == "1" else unit, f"{number:.6g} {_UNITS.get(unit, unit)}".strip()


def _long(item: Dataset, name: str) -> str:
    value = get(item, name)
    if isinstance(value, bytes | bytearray):
        value = value.decode("latin-1")
    return str(value) if value is not None else ""


def _meaning(item: Dataset, keyword: str) -> str:
    codes = get(item, keyword) or []
    return " ".join(_long(codes[0], "CodeMeaning").split()) if codes else ""


def _code(item: Dataset, keyword: str) -> str:
    """The code value, also of the forms for long codes and URNs (PS3.3 8.1)."""
    codes = get(item, keyword) or []
    names = ("CodeValue", "LongCodeValue", "URNCodeValue")
    return next((value for name in names if (value := text(codes[0], name))), "") if codes else ""


def _is_own(item: Dataset) -> bool:
    """Whether an item is a remark on a draft of ours (a verdict, what made it), which its sentences do not say."""
    codes = get(item, "ConceptNameCodeSequence") or []
    return bool(codes) and text(codes[0], "CodingSchemeDesignator") == OWN_SCHEME


def _damaged(found: str) -> ReportError:
    return ReportError("damaged-dicom", found, "a report that a person could have written", "Export the report again.")
