"""Results of a FHIR DiagnosticReport: its Observations as lines of text, and their quantities as measurements."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from reports.fhir_links import Known, listed, word
from reports.sourced import CodedMeasurement, tidy

_MOST_DEPTH, _MOST_RESULTS = 8, 2000
_DEAD = ("entered-in-error", "cancelled")
_SIDES = {"7771000": "left", "24028007": "right", "51440002": "bilateral"}  # SNOMED CT


@dataclass
class Results:
    """Sections for the text (one, called findings, or none), and the numbers."""

    sections: list[tuple[str, str]] = field(default_factory=list)
    measurements: tuple[CodedMeasurement, ...] = ()


def results(report: dict[str, Any], known: Known) -> Results:
    """Observations of `result` and their members and components, each once, in their order."""
    lines: list[str] = []
    numbers: list[CodedMeasurement] = []
    for observation in _observations(report, known):
        site = _concept(observation.get("bodySite"))
        for one in (observation, *listed(observation.get("component"))[:200]):
            name, value = _concept(one.get("code")), _value(one)
            if value:
                lines.append(f"{name}: {value}" if name else value)
            number = _measurement(one, name, site)
            if number is not None:
                numbers.append(number)
        if site and lines and site.lower() not in lines[-1].lower():
            lines[-1] += f" ({site})"
    text = tidy("\n".join(lines))
    return Results([("findings", text)] if text else [], tuple(numbers))


def _observations(report: dict[str, Any], known: Known) -> Iterator[dict[str, Any]]:
    seen: set[int] = set()
    waiting = [(reference, 0) for reference in reversed(listed(report.get("result")))]
    while waiting and len(seen) < _MOST_RESULTS:
        reference, depth = waiting.pop()
        found = known.follow(reference, report)
        if not found or id(found) in seen or found.get("resourceType") != "Observation":
            continue
        seen.add(id(found))
        if word(found.get("status")) not in _DEAD:
            yield found
        if depth < _MOST_DEPTH:
            waiting += [(member, depth + 1) for member in reversed(listed(found.get("hasMember")))]


def _value(one: dict[str, Any]) -> str:
    quantity = one.get("valueQuantity")
    if isinstance(quantity, dict):
        number = _number(quantity.get("value"))
        unit = word(quantity.get("unit")) or word(quantity.get("code"))
        return f"{word(quantity.get('comparator'))}{number:g} {unit}".strip() if number is not None else ""
    return (word(one.get("valueString")) or _concept(one.get("valueCodeableConcept"))
            or word(one.get("valueInteger"))).strip()  # fmt: skip


def _measurement(one: dict[str, Any], name: str, site: str) -> CodedMeasurement | None:
    quantity = one.get("valueQuantity")
    number = _number(quantity.get("value")) if isinstance(quantity, dict) else None
    if number is None or not name or not isinstance(quantity, dict) or quantity.get("comparator"):
        return None
    code = word(quantity.get("code")) or word(quantity.get("unit"))
    sides = [_SIDES.get(word(c.get("code")), "") for b in listed(one.get("bodySite")) for c in listed(b.get("coding"))]
    return CodedMeasurement(name, number, "" if code == "1" else code, site=site, side=next(filter(None, sides), ""))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _concept(value: Any) -> str:
    """What a CodeableConcept says to people."""
    for one in listed(value):
        said = word(one.get("text")) or next(
            (d for c in listed(one.get("coding")) if (d := word(c.get("display")))), ""
        )
        if said:
            return said.strip()
    return ""
