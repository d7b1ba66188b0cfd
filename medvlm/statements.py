"""What a report settles about a statement: true, false, or unknown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.findings import Finding

TRUE, FALSE, UNKNOWN = 1.0, 0.0, math.nan
LEAST = 8
"""Reports that must state a finding before a model is asked for it, unless the recipe says another number."""

PRESENT_FORMS = (
    "{phrase}.",
    "There is {article}{phrase}.",
    "{phrase} is present.",
    "{phrase} is seen.",
    "Findings of {phrase}.",
)
ABSENT_FORMS = (
    "No {phrase}.",
    "There is no {phrase}.",
    "No evidence of {phrase}.",
    "{phrase} is absent.",
    "No {phrase} is seen.",
)


@dataclass(frozen=True)
class Statement:
    """A text and the facts in it."""

    text: str
    facts: tuple[Finding, ...]


class ReportFacts:
    """The findings of one report, by name, for fast look-up.

    Uncertain findings settle nothing. A finding that the report never mentions counts as absent: radiologists name what
    they see (the closed-world reading; `open_world` turns it off).
    """

    def __init__(self, facts: Iterable[Finding], open_world: bool = False) -> None:
        self.by_name: dict[str, list[Finding]] = {}
        for fact in facts:
            self.by_name.setdefault(fact.name, []).append(fact)
        self.open_world = open_world

    def settles(self, statement: Sequence[Finding]) -> float:
        """1.0 if every fact of the statement holds, 0.0 if one does not, NaN if one is unknown and none is false."""
        answers = [self._settles_one(fact) for fact in statement]
        if FALSE in answers:
            return FALSE
        return UNKNOWN if not answers or any(math.isnan(answer) for answer in answers) else TRUE

    def _settles_one(self, fact: Finding) -> float:
        mentions = self.by_name.get(fact.name, [])
        if not mentions and self.open_world:
            return UNKNOWN
        if mentions and fact.status == "uncertain":
            return UNKNOWN
        if fact.side == "bilateral":
            return self.settles((replace(fact, side="left"), replace(fact, side="right")))
        there = _is_there(fact, mentions)
        return 1 - there if fact.status == "absent" else there  # NaN stays NaN


def _is_there(asked: Finding, mentions: Sequence[Finding]) -> float:
    """Whether the mentions of a finding state it at the place asked for; what is never mentioned is absent."""
    present = [_same_place(asked, mention) for mention in mentions if mention.status == "present"]
    unsure = [_same_place(asked, mention) for mention in mentions if mention.status == "uncertain"]
    if TRUE in present:
        return TRUE
    if TRUE in unsure or (unsure and not present):
        return UNKNOWN
    # Beside a mention of another side, one without a side is taken to repeat it, so FALSE goes before UNKNOWN.
    return FALSE if FALSE in present or not present else UNKNOWN


def _same_place(asked: Finding, found: Finding) -> float:
    """Whether a finding lies on the side and at the location asked for; one side of a bilateral finding does."""
    answers = [_agree(asked.side, found.side), _agree(asked.location, found.location)]
    return FALSE if FALSE in answers else UNKNOWN if any(math.isnan(answer) for answer in answers) else TRUE


def _agree(wanted: str | None, given: str | None) -> float:
    if wanted is None or given in (wanted, "bilateral"):
        return TRUE
    return UNKNOWN if given is None else FALSE


def concepts(reports: Iterable[Sequence[Finding]], least: int = LEAST) -> dict[str, tuple[str | None, ...]]:
    """Names stated as present in at least `least` reports, each with the sides it was seen on.

    The list comes from the catalog's own reports, so a hospital with other findings learns those.
    """
    names: Counter[str] = Counter()
    sides: dict[str, set[str]] = {}
    for facts in reports:
        for name in {fact.name for fact in facts if fact.status == "present"}:
            names[name] += 1
        for fact in facts:
            if fact.status == "present" and fact.side in ("left", "right"):
                sides.setdefault(fact.name, set()).add(str(fact.side))
    return {name: (None, *sorted(sides.get(name, ()))) for name, count in sorted(names.items()) if count >= least}


def concept_statements(bank: dict[str, tuple[str | None, ...]], rng: np.random.Generator) -> list[Statement]:
    """For each finding a minimal sentence that states it, one with a side where it has one, one that denies it."""
    statements = []
    for name, sides in bank.items():
        chosen = [None] if len(sides) == 1 else [None, sides[1 + int(rng.integers(len(sides) - 1))]]
        for side in chosen:
            form = PRESENT_FORMS[int(rng.integers(len(PRESENT_FORMS)))]
            statements.append(Statement(_fill(form, name, side), (Finding(name, "present", side=side),)))
        form = ABSENT_FORMS[int(rng.integers(len(ABSENT_FORMS)))]
        statements.append(Statement(_fill(form, name, None), (Finding(name, "absent"),)))
    return statements


def _fill(form: str, name: str, side: str | None) -> str:
    phrase = f"{side} {name}" if side else name
    article = "" if name in _MASS_NOUNS else "an " if phrase[0] in "aeiou" else "a "
    text = form.format(phrase=phrase, article=article)
    return text[0].upper() + text[1:]


_MASS_NOUNS = frozenset({"atelectasis", "cardiomegaly", "consolidation", "emphysema", "pulmonary edema"})
