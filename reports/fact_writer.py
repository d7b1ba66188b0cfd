"""Write free facts as plain sentences, one fact each, which read back as exactly those facts.

`grammar.write_report` writes about lesions of the phantom, as a house would; this writes what any labeller, expert or
model found. Every sentence is read back by `find` before it is given away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from reports.lexicon import lexicon
from reports.phrasing import phrases
from reports.rewriting import tidy
from reports.stated import NUMBERS, Stated, stated_in

SIDES = ("left", "right", "bilateral")
STATUSES = ("present", "absent", "uncertain")
LEVELS = ("tiny", "mild", "moderate", "severe")
CHANGES = ("new", "increased", "decreased", "unchanged")
PLACES = ("upper lobe", "middle lobe", "lower lobe", "lingula", "apex", "base", "hilum")
ZONES = ("upper zone", "mid zone", "lower zone")
RIBS = tuple(f"{ordinal} rib" for ordinal in phrases()["written"]["ordinals"])
_ONE_SIDED = {"middle lobe": "right", "lingula": "left"}
_LOCATIVE = {
    "lingula": "in the lingula",
    "apex": "at the {side} apex",
    "base": "at the {side} base",
    "hilum": "at the {side} hilum",
}
_LOCATIVE_BOTH = {"apex": "at both apices", "base": "at both bases", "hilum": "at both hila"}


class FactError(ValueError):
    """A fact that no sentence can state."""


class FactLike(Protocol):
    """What is read of a fact, as of `findings.Finding` and `stated.Stated`. `size_mm` in millimeters."""

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def side(self) -> str | None: ...
    @property
    def location(self) -> str | None: ...
    @property
    def severity(self) -> str | None: ...
    @property
    def size_mm(self) -> float | None: ...
    @property
    def change(self) -> str | None: ...


def write_facts(facts: Iterable[FactLike], rng: np.random.Generator | None = None, joined: bool = False) -> str:
    """Sentences that state the facts, and nothing else, in their order.

    Args:
        facts: What to state; a `count` ("2", "several") is written where a fact has one.
        rng: Draws the wording; None takes the first form of each.
        joined: Deny what has no place and no degree in one sentence ("No pleural effusion or pneumothorax.").

    Raises: FactError for a fact that cannot be stated (a size of something absent, a left middle lobe), naming it.
    """
    listed = list(facts)
    plain = [fact for fact in listed if joined and _is_plain_denial(fact)]
    said = [write_fact(fact, rng) for fact in listed if fact not in plain]
    return " ".join([*said, *_denials(plain)])


def write_fact(fact: FactLike, rng: np.random.Generator | None = None) -> str:
    """One sentence that states one fact. Raises: FactError if the fact cannot be stated."""
    wanted = Stated._make(getattr(fact, field, None) for field in Stated._fields)
    reason = problem(wanted)
    if reason:
        raise FactError(f"the fact ({wanted}) cannot be written: {reason}")
    forms = _forms(wanted)
    start = 0 if rng is None else int(rng.integers(len(forms)))
    slots = _slots(wanted)
    for form in (*forms[start:], *forms[:start]):
        text = tidy(form.format_map(slots))
        if stated_in(text) == (wanted,):
            return text
    raise FactError(f'the fact ({wanted}) cannot be written: "{text}" is read as {stated_in(text)}')


def problem(fact: Stated) -> str | None:
    """Why a fact cannot be stated at all, in words; None if it can."""
    entry = lexicon().entries.get(fact.name)
    one_sided = _ONE_SIDED.get(fact.location or "")
    rib = (fact.location or "").endswith(" rib")
    if entry is None:
        return "the lexicon has no such finding"
    if fact.status not in STATUSES or fact.severity not in (None, *LEVELS):
        return f"status is one of {', '.join(STATUSES)}, severity one of {', '.join(LEVELS)} or None"
    if fact.side not in (None, *SIDES) or fact.location not in (None, *PLACES, *ZONES, *RIBS):
        return f"side is one of {', '.join(SIDES)} or None, location a lobe, zone, apex, base, hilum or rib, or None"
    if (fact.side or fact.location) and not entry.sided:
        return "it lies in the midline or everywhere, and has no side or place"
    if fact.location and not entry.belongs(fact.location):
        return "at that place the words would speak of another organ"
    if one_sided and fact.side != one_sided:
        return f"the {fact.location} is on the {one_sided} only"
    if fact.location and rib != (fact.name == "rib fracture") and "fracture" in fact.name:
        return "a fracture of a rib is a rib fracture, which has no other place"
    if fact.status == "absent" and (fact.size_mm or fact.number):
        return "what is absent has no size and no number"
    if fact.change not in (None, *CHANGES, "resolved") or (fact.change == "resolved") != (
        fact.change is not None and fact.status == "absent"
    ):
        return f"change is one of {', '.join(CHANGES)} of what is there, or resolved of what is absent, or None"
    if fact.size_mm is not None and not 0.1 <= fact.size_mm < 1000:
        return "a size lies between 0.1 and 1000 mm"
    if fact.number is not None and (fact.number not in _COUNT_WORDS or not is_counted(fact.name)):
        return f"a count is one of {', '.join(_COUNT_WORDS)}, and of things that can be counted"
    return None


_COUNT_WORDS = {str(i): word for i, word in enumerate(NUMBERS, 1)} | {"1": "single", "several": "several", "few": "few"}


def is_counted(name: str) -> bool:
    """Whether there can be two of it ("two nodules"), as against "atelectasis"."""
    return name in phrases()["written"]["plurals"]


def _is_plain_denial(fact: FactLike) -> bool:
    return fact.status == "absent" and not any((fact.side, fact.location, fact.severity, fact.change))


def _denials(facts: Sequence[FactLike]) -> list[str]:
    """Lists of up to four, each checked; single sentences where a list would be misread."""
    said = []
    for start in range(0, len(facts), 4):
        part = facts[start : start + 4]
        names = [_noun(fact.name) for fact in part]
        text = f"No {', '.join(names[:-1])} or {names[-1]}." if len(part) > 1 else f"No {names[0]}."
        wanted = [Stated(fact.name, "absent") for fact in part]
        said += [text] if Counter(stated_in(text)) == Counter(wanted) else [write_fact(fact) for fact in wanted]
    return said


def _noun(name: str) -> str:
    return str(phrases()["written"]["nouns"].get(name, name))


def _forms(fact: Stated) -> Sequence[str]:
    book: dict[str, Any] = phrases()["written"]
    if fact.change == "resolved":
        return list(book["resolved"])
    if fact.status == "uncertain":
        return list(book["uncertain"])
    return list(book["absent"] if fact.status == "absent" else book["present"])


def _slots(fact: Stated) -> dict[str, str]:
    book: dict[str, Any] = phrases()["written"]
    plural = fact.number not in (None, "1") or (
        fact.side == "bilateral" and is_counted(fact.name) and fact.number is None
    )
    noun = book["plurals"].get(fact.name, "") if plural else _noun(fact.name)
    sized = fact.name in book["graded_by_size"]
    severity = book["severity"]["size" if sized else "grade"].get(fact.severity or "", "")
    size = f"{fact.size_mm:g} mm" if fact.size_mm else ""
    count = _COUNT_WORDS.get(fact.number or "", "")
    counted = is_counted(fact.name) and not plural
    words = [count, severity, "" if fact.location else fact.side or "", noun]
    phrase = " ".join(word for word in words if word)
    return {
        "x": phrase,
        "a": "a" if counted or fact.number == "few" else "",
        "at": _at(fact.side, fact.location, "of" if fact.name == "rib fracture" else "at"),
        "size": f", {size} in size" if size else "",
        "trend": f", {book['trend'][fact.change]}" if fact.change in book["trend"] else "",
        "is": "are" if plural else "is",
        "has": "have" if plural else "has",
    }


def _at(side: str | None, location: str | None, at_rib: str) -> str:
    """ "in the left upper lobe", "at both apices", "of the left sixth rib"; "" without a place."""
    if location is None:
        return ""
    if location.endswith(" rib"):
        return f"{at_rib} both {location}s" if side == "bilateral" else f"{at_rib} the {side or ''} {location}"
    if side == "bilateral":
        return _LOCATIVE_BOTH.get(location, f"in both {location}s")
    return _LOCATIVE.get(location, "in the {side} " + location).format(side=side or "")
