"""A report as minimal sentences: one fact each, every one understood without the others."""

from __future__ import annotations

import numpy as np

from reports.fact_writer import FactError, write_fact
from reports.findings import find
from reports.rewriting import Dropped, Refused, Rewritten, describe, ended
from reports.sections import sentences
from reports.stated import Stated, difference, stated_in


def minimal_sentences(text: str, rng: np.random.Generator | None = None) -> Rewritten | Refused:
    """The facts of a report, one sentence per line, in the order of the text, each fact once.

    A normal statement that rules out several findings at once ("The lungs are clear.") stays as it is where all of that
    is true of the report. What is no finding is not written. `rng` draws the wording, None takes the plainest.
    """
    before = stated_in(text)
    if not before:
        return Refused("empty", "the text states no finding")
    originals = sentences(text)
    lines: dict[str, None] = {}
    dropped: list[Dropped] = []
    left_out: set[Stated] = set()
    for fact, found in zip(before, find(text), strict=True):
        sentence = originals[found.sentence or 0]
        try:
            keeps = found.by == "implied" and _only_rules_out(sentence, before)
            lines[ended(sentence) if keeps else write_fact(fact, rng)] = None
        except FactError as error:
            left_out.add(fact)
            dropped.append(Dropped(sentence, "unwritable", str(error)))
    made = "\n".join(_once(lines, rng is not None))
    after = stated_in(made)
    if set(after) != set(before) - left_out:
        changes = describe(difference(tuple(set(before) - left_out), tuple(set(after))))
        return Refused("facts", f"the facts would change: {changes}", tuple(dropped))
    return Rewritten(made, before, after, difference(before, after), tuple(dropped))


def _only_rules_out(sentence: str, before: tuple[Stated, ...]) -> bool:
    """Whether the sentence alone says nothing but denials that hold for the whole report."""
    return all(fact.by == "implied" for fact in find(sentence)) and set(stated_in(sentence)) <= set(before)


def _once(lines: dict[str, None], varied: bool) -> list[str]:
    """Lines without a second wording of the same fact."""
    if not varied:
        return list(lines)
    return list({stated_in(line): line for line in lines}.values())
