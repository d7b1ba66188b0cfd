"""The descriptor bank (`descriptors.json`): what a reader looks for, per finding of the lexicon, with its sources."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Literal, get_args

from reports.passage import KnowledgeError, Passage

Relation = Literal["<", "<=", "=", ">=", ">"]
UNITS = ("mm", "ml", "HU", "%", "1", "rib")
CODE_SYSTEMS = ("radlex", "snomed", "icd10")
MIN_DESCRIPTORS = 4


@dataclass(frozen=True)
class Reference:
    """A work that can be looked up, and what it supports."""

    key: str
    citation: str
    supports: str
    url: str = ""


@dataclass(frozen=True)
class Mimic:
    """What a finding may be mistaken for, and how the two are told apart."""

    of: str
    tell: str


@dataclass(frozen=True)
class Threshold:
    """A number that decides: `what` `relation` `value` `unit`; unit "1" is a ratio, "rib" counts ribs from the top."""

    what: str
    relation: Relation
    value: float
    unit: str
    source: str

    def __str__(self) -> str:
        return f"{self.what} {self.relation} {self.value:g}{'' if self.unit == '1' else ' ' + self.unit}"


@dataclass(frozen=True)
class FindingSigns:
    """All that the bank knows about one finding.

    Attributes:
        descriptors: Short phrases, each of which an image may show; they make the prompts of `medvlm diagnose`.
        film, ct: Signs on radiographs and on CT.
        false_positives: What makes a reader see it where it is not.
        follow_up: General advice in words, no order for a patient.
        codes: System ("radlex", "snomed", "icd10") -> code, where sure.
        sources: Keys of the bibliography.
    """

    finding: str
    descriptors: tuple[str, ...]
    film: tuple[str, ...]
    ct: tuple[str, ...]
    mimics: tuple[Mimic, ...]
    locations: tuple[str, ...]
    thresholds: tuple[Threshold, ...]
    false_positives: tuple[str, ...]
    follow_up: str
    codes: Mapping[str, str]
    sources: tuple[str, ...]

    def text(self) -> str:
        """All of it in sentences."""
        parts = (
            ("On a film", self.film),
            ("On CT", self.ct),
            ("Where", self.locations),
            ("Limits", tuple(map(str, self.thresholds))),
            ("Mistaken for it", tuple(f"{m.of} ({m.tell})" for m in self.mimics)),
            ("False alarms", self.false_positives),
            ("Advice", (self.follow_up.rstrip("."),)),
        )
        return " ".join(f"{name}: {'; '.join(said)}." for name, said in parts if said)


@dataclass(frozen=True)
class DescriptorBank:
    """The bank as a source of passages, one for each finding."""

    name: str = "descriptor bank"

    @property
    def version(self) -> str:
        return str(_given()["version"])

    @property
    def licence(self) -> str:
        return str(_given()["licence"])

    def problems(self) -> tuple[str, ...]:
        return ()

    def passages(self) -> tuple[Passage, ...]:
        works = bibliography()
        return tuple(
            Passage(
                text=entry.text(),
                title=entry.finding,
                section="what a reader looks for",
                source="medvlm descriptor bank, after " + "; ".join(works[key].citation for key in entry.sources),
                url=works[entry.sources[0]].url,
                version=self.version,
                licence=self.licence,
                passage_id=f"descriptors:{entry.finding.replace(' ', '-')}",
            )
            for entry in bank().values()
        )


@lru_cache(maxsize=1)
def bank() -> dict[str, FindingSigns]:
    """Finding -> what is known about it."""
    return read_bank(_given())[0]


@lru_cache(maxsize=1)
def bibliography() -> dict[str, Reference]:
    """Key -> work."""
    return read_bank(_given())[1]


def code_of(finding: str, system: str) -> str | None:
    """The code of a finding in "radlex", "snomed" or "icd10" (WHO categories); None where the bank states none."""
    if system not in CODE_SYSTEMS:
        raise ValueError(f"system is {system!r}, expected one of {', '.join(CODE_SYSTEMS)}")
    entry = bank().get(finding)
    return None if entry is None else entry.codes.get(system)


@lru_cache(maxsize=1)
def _given() -> dict[str, Any]:
    return dict(json.loads((resources.files("reports") / "descriptors.json").read_text(encoding="utf-8")))


def read_bank(given: Mapping[str, Any]) -> tuple[dict[str, FindingSigns], dict[str, Reference]]:
    """(entries by finding, bibliography by key) of a bank in JSON, every field checked.

    Raises: KnowledgeError naming the finding and the field.
    """
    works = {
        key: Reference(key, _text(work, "citation", key), _text(work, "supports", key), str(work.get("url", "")))
        for key, work in _field(given, "bibliography", dict, "the bank").items()
    }
    entries: dict[str, FindingSigns] = {}
    for row in _field(given, "findings", list, "the bank"):
        entry = _entry(row, works)
        if entry.finding in entries:
            raise KnowledgeError(f"descriptor bank: {entry.finding} stands twice, expected once. Join the entries.")
        entries[entry.finding] = entry
    return entries, works


def _entry(row: Mapping[str, Any], works: Mapping[str, Reference]) -> FindingSigns:
    name = _text(row, "finding", "an entry")
    descriptors = _texts(row, "descriptors", name)
    if len(descriptors) < MIN_DESCRIPTORS:
        raise KnowledgeError(
            f"descriptor bank: {name} has {len(descriptors)} descriptors, expected at least {MIN_DESCRIPTORS}."
        )
    entry = FindingSigns(
        finding=name,
        descriptors=descriptors,
        film=_texts(row, "film", name),
        ct=_texts(row, "ct", name),
        mimics=tuple(Mimic(_text(m, "of", name), _text(m, "tell", name)) for m in _field(row, "mimics", list, name)),
        locations=_texts(row, "locations", name),
        thresholds=tuple(_threshold(t, name) for t in _field(row, "thresholds", list, name)),
        false_positives=_texts(row, "false_positives", name),
        follow_up=_text(row, "follow_up", name),
        codes={str(system): str(code) for system, code in _field(row, "codes", dict, name).items()},
        sources=_texts(row, "sources", name),
    )
    for key in (*entry.sources, *(t.source for t in entry.thresholds)):
        if key not in works:
            raise KnowledgeError(
                f"descriptor bank: {name} names the source {key!r}, which is not in the bibliography. Add it there."
            )
    unknown = [system for system in entry.codes if system not in CODE_SYSTEMS]
    if unknown:
        raise KnowledgeError(
            f"descriptor bank: {name} has a code of {unknown[0]!r}, expected {', '.join(CODE_SYSTEMS)}. Correct it."
        )
    return entry


def _threshold(row: Mapping[str, Any], name: str) -> Threshold:
    relation: Any = row.get("relation")
    unit, value = row.get("unit"), row.get("value")
    if relation not in get_args(Relation) or unit not in UNITS or not isinstance(value, int | float):
        raise KnowledgeError(
            f"descriptor bank: {name} has a threshold of {relation!r} {value!r} {unit!r}; expected one of"
            f" {' '.join(get_args(Relation))}, a number, and one of {' '.join(UNITS)}. Correct it."
        )
    return Threshold(_text(row, "what", name), relation, float(value), str(unit), _text(row, "source", name))


def _field(row: Mapping[str, Any], key: str, kind: type, name: str) -> Any:
    value = row.get(key) if isinstance(row, Mapping) else None
    if not isinstance(value, kind):
        raise KnowledgeError(
            f"descriptor bank: {name}: {key} holds a {type(value).__name__}, expected a {kind.__name__}. Correct it."
        )
    return value


def _text(row: Mapping[str, Any], key: str, name: str) -> str:
    value: str = _field(row, key, str, name)
    if not value.strip():
        raise KnowledgeError(f"descriptor bank: {name}: {key} is empty, expected words. Fill it.")
    return value


def _texts(row: Mapping[str, Any], key: str, name: str) -> tuple[str, ...]:
    values: Sequence[Any] = _field(row, key, list, name)
    if not values or not all(isinstance(value, str) and value.strip() for value in values):
        raise KnowledgeError(f"descriptor bank: {name}: {key} holds {values!r:.60}, expected a list of words. Fill it.")
    return tuple(values)
