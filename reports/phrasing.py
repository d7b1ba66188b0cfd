"""Fill the templates of `phrases.yaml`: articles, plurals, places, sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Protocol

import yaml

MASS_NOUNS = frozenset({"cardiomegaly", "consolidation", "atelectasis", "pulmonary edema", "emphysema"})
DEVICES = frozenset({"endotracheal tube", "central venous catheter"})
DIFFUSE = MASS_NOUNS

_ADJECTIVE = {"apex": "apical", "base": "basal", "hilum": "hilar", "lingula": "lingular"}
_SINGLE = {
    "apex": "at the {side} apex",
    "base": "at the {side} lung base",
    "hilum": "at the {side} hilum",
    "lingula": "in the lingula",
}
_BOTH = {"apex": "at both apices", "base": "at both lung bases", "hilum": "at both hila"}
_COUNTABLE = re.compile(r"(effusion|nodule|mass|fracture|tube|catheter|hernia|lesion|pacemaker|opacity|pneumothorax)$")
_OPTIONAL_PLACE = frozenset({"emphysema", "pulmonary edema", "cardiomegaly"})


class LesionLike(Protocol):
    """What the grammar reads of a lesion; `volumes.phantom.Lesion` has it. `size_mm` in millimeters, 0 if unknown."""

    @property
    def name(self) -> str: ...
    @property
    def side(self) -> str | None: ...
    @property
    def location(self) -> str | None: ...
    @property
    def severity(self) -> str: ...
    @property
    def size_mm(self) -> float: ...


@cache
def phrases() -> dict[str, Any]:
    """The phrase book `phrases.yaml`, read once."""
    text = resources.files("reports").joinpath("phrases.yaml").read_text(encoding="utf-8")
    book: dict[str, Any] = yaml.safe_load(text)
    return book


@cache
def more_phrases() -> dict[str, Any]:
    """The phrase book with its part `more` added to each list."""
    merged: dict[str, Any] = _merged(phrases(), phrases()["more"])
    return merged


def _merged(base: Any, more: Any) -> Any:
    if isinstance(base, dict):
        return base | {key: _merged(base[key], more[key]) if key in base else more[key] for key in more}
    return [*base, *more]


def reported_mm(size_mm: float) -> float:
    """The size as a report states it: whole millimeters, at least 1."""
    return float(max(1, round(size_mm)))


def size_words(size_mm: float, centimeters: bool) -> str:
    """ "14 mm", or "1.4 cm" from 10 mm on for sites that write centimeters; both read back as 14.0 mm."""
    whole = int(reported_mm(size_mm))
    return f"{whole / 10:.1f} cm" if centimeters and whole >= 10 else f"{whole} mm"


def noun(name: str, plural: bool = False) -> str:
    """The noun that follows a place: "left lower lobe consolidation", "left sixth rib fracture"."""
    short = {"rib fracture": "fracture"}.get(name, name).removeprefix("lung ")
    if not plural or name in MASS_NOUNS:
        return short
    if short.endswith("thorax"):
        return short[:-1] + "ces"
    if short.endswith("y"):
        return short[:-1] + "ies"
    return short + ("es" if short.endswith("s") else "s")


def place_slots(name: str, side: str | None, location: str | None) -> dict[str, str]:
    """Slots side, adj, at, of, on for a place; a slot is "" when the place does not determine it."""
    both = side == "bilateral"
    adjective = _ADJECTIVE.get(location or "", location or "")
    if name == "rib fracture" and not adjective:
        adjective = "rib"
    slots = {"side": side or "", "adj": f"{side or ''} {adjective}".strip(), "at": "", "of": "", "on": ""}
    if side:
        slots["on"] = "on both sides" if both else f"on the {side}"
    slots["at"] = _locative(side, location, slots["on"])
    if name == "rib fracture" and side:
        rib = location or "rib"
        slots["of"] = f"of both {rib}s" if both else (f"of the {side} {rib}" if location else f"of a {side} rib")
    elif name == "rib fracture":
        slots["of"] = f"of the {location}" if location else "of a rib"
    return slots


def _locative(side: str | None, location: str | None, on: str) -> str:
    if location is None:
        return {"bilateral": "in both lungs", None: ""}.get(side, f"in the {side} lung")
    if side == "bilateral" or side is None:
        plural = _BOTH.get(location, f"in both {location}s")
        return plural if side else plural.replace("both", "the")
    return _SINGLE.get(location, "in the {side} " + location).format(side=side)


def lesion_slots(lesion: LesionLike, centimeters: bool) -> dict[str, str]:
    """All slots of one lesion. Numbers are the lesion's own: nothing is stated that the lesion does not carry."""
    book = phrases()["findings"].get(lesion.name, {})
    plural = lesion.side == "bilateral" and lesion.name not in MASS_NOUNS
    severity = book.get("severity", {}).get(lesion.severity, "")
    ratio = getattr(lesion, "ratio", None)
    size = size_words(lesion.size_mm, centimeters) if lesion.size_mm else ""
    device = lesion.name in DEVICES  # of a tube or a line, the size is the distance of its tip from the carina
    slots = {
        **place_slots(lesion.name, lesion.side, lesion.location),
        "sev": severity,
        "sevly": f"{severity}ly" if severity else "",
        "noun": noun(lesion.name, plural),
        "name": noun(lesion.name, plural),
        "size": "" if device else size,
        "ratio": f"{ratio:.2f}" if ratio else "",
        "tip": size if device else "",
    }
    return slots | number_slots(plural)


def number_slots(plural: bool) -> dict[str, str]:
    """Slots that follow the number: article, verbs, endings."""
    if plural:
        return {"a": "", "A": "", "s": "s", "is": "are", "has": "have", "z": ""}
    return {"a": "a", "A": "A", "s": "", "is": "is", "has": "has", "z": "s"}


def usable(template: str, name: str, slots: Mapping[str, str]) -> bool:
    """Whether every slot that cannot simply vanish has content."""
    needed = {"size", "ratio", "tip", "of", "on"} | (set() if name in _OPTIONAL_PLACE else {"at"})
    return all(slots.get(slot) for slot in needed if "{" + slot + "}" in template)


def fill(template: str, slots: Mapping[str, str]) -> str:
    """The finished sentence: slots filled, spaces closed, a/an chosen, first letter upper case."""
    text = re.sub(r"\s+", " ", template.format_map(slots)).strip()
    text = re.sub(r" (?=[.,])", "", text).replace(",,", ",")
    text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU]|8[\d.]* |1[18] )", r"\1n ", text)
    return text[:1].upper() + text[1:]


def is_countable(name: str) -> bool:
    """Whether a finding takes an article ("a nodule"), as against "atelectasis"."""
    return name not in MASS_NOUNS and _COUNTABLE.search(name) is not None
