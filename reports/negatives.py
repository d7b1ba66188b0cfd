"""Hard negatives: the same report with one fact changed, and nothing else; or a refusal that says why not.

A model that reads words and looks away cannot tell such a text from the true one: Thrush et al. 2022, Winoground,
arXiv:2204.03162; Yuksekgonul et al. 2023, arXiv:2210.01936.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.negative_edits import KINDS, Kind, edits, impossible
from reports.rewriting import Refused, Rewritten, compose, describe, tidy
from reports.sections import section_sentences, split_sections
from reports.stated import Change, Stated, difference, guard_words, stated_in

_ATTRIBUTE = {
    "laterality": "side",
    "severity": "severity",
    "location": "location",
    "count": "number",
    "size": "size_mm",
}
_MAY_CHANGE: dict[str, frozenset[str]] = {
    "negation": frozenset({"status", "severity", "size_mm", "change", "number"}),  # what is absent has no size
    **{kind: frozenset({field}) for kind, field in _ATTRIBUTE.items()},
    "change": frozenset({"change"}),
}
_GUARDED = {
    "laterality": {"left", "right", "both"},
    "negation": {"denial"},
    "location": {"left"},
    "change": {"no change"},
}


def negative(
    text: str, kind: Kind, rng: np.random.Generator | None = None, target: Stated | None = None
) -> Rewritten | Refused:
    """A report or sentence in which one fact is false.

    Every sentence that states the fact is changed, so that the text does not contradict itself.

    Args:
        text: A report or a sentence.
        kind: laterality, negation, severity, location, count, size or change.
        rng: Draws the fact; None takes the first that works.
        target: Change this fact, of `stated_in(text)`, and no other.

    Returns: `Rewritten` whose `changed` holds the one fact, once for each sentence that states it; or `Refused`.
    Raises: ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f'kind is "{kind}"; expected one of {", ".join(KINDS)}')
    facts = stated_in(text)
    targets = [fact for fact in dict.fromkeys(facts) if _applies(kind, fact) and target in (None, fact)]
    if not targets:
        return Refused("nothing", f"no fact of the text has what a change of {kind} needs")
    if rng is not None:
        targets = [targets[i] for i in rng.permutation(len(targets))]
    refusals = []
    for one in targets:
        made = _change(text, kind, one, facts)
        if isinstance(made, Rewritten):
            return made
        refusals.append(made)
    return refusals[0]


def negatives(text: str, rng: np.random.Generator | None = None) -> dict[str, Rewritten | Refused]:
    """One negative of each kind."""
    return {kind: negative(text, kind, rng) for kind in KINDS}  # type: ignore[arg-type]


def _applies(kind: str, fact: Stated) -> bool:
    if kind == "negation":
        return fact.status in ("present", "absent")
    if kind == "change":
        return fact.change in ("new", "increased", "decreased", "unchanged")
    if fact.status == "absent":
        return False  # "no large left effusion" to "no small right effusion" may well stay true
    return getattr(fact, _ATTRIBUTE[kind]) is not None


def _change(text: str, kind: str, target: Stated, facts: Sequence[Stated]) -> Rewritten | Refused:
    """Change `target` in every sentence that states it."""
    clash = _clash(kind, target, facts)
    if clash:
        return Refused("clash", clash)
    lines = section_sentences(text)
    written: list[tuple[str, str]] = []
    for section, sentence in lines:
        said = [fact for fact in stated_in(sentence) if fact in facts and _same(kind, fact, target)]
        if not said:
            written.append((section, sentence))
            continue
        made = _edit(sentence, kind, said)
        if isinstance(made, Refused):
            return made
        written.append((section, made))
    sections = split_sections(text)
    headed = set(sections) != {"findings"} or sections["findings"] != text.strip()
    after_text = compose(written, headed)
    after = stated_in(after_text)
    changed = difference(facts, after)
    wrong = [change for change in changed if not _intended(kind, change, target)]
    if wrong or not changed:
        return Refused("facts", f"other facts would change too: {describe(wrong or changed)}")
    return Rewritten(after_text, tuple(facts), after, changed)


def _same(kind: str, fact: Stated, target: Stated) -> bool:
    """Whether a statement says the thing that is to become false."""
    if fact.name != target.name or fact.status != target.status:
        return False
    if kind == "negation":
        return True
    field = _ATTRIBUTE.get(kind, "change")
    return getattr(fact, field) == getattr(target, field)


def _clash(kind: str, target: Stated, facts: Sequence[Stated]) -> str | None:
    """Why a false `target` would contradict, or hide behind, another statement of the text."""
    others = [fact for fact in facts if fact.name == target.name and fact != target]
    if kind == "negation" and any(fact.status != target.status for fact in others):
        return f"the text states {target.name} both as {target.status} and otherwise"
    if kind == "laterality" and {fact.side for fact in others} - {target.side, None}:
        return f"the text states {target.name} on another side as well"
    if kind == "location" and {fact.location for fact in others if fact.side in (target.side, None)} - {
        target.location,
        None,
    }:
        return f"the text states {target.name} in another place as well"
    return None


def _edit(sentence: str, kind: str, said: Sequence[Stated]) -> str | Refused:
    """The first candidate in which exactly the facts `said` change as intended."""
    before = stated_in(sentence)
    guard = guard_words(sentence)
    reason = impossible(sentence, kind, said[0])
    if reason:
        return Refused("anatomy", f"the fact ({said[0]}) is kept: {reason}")
    tried = False
    for candidate in edits(sentence, kind, said[0]):
        text = tidy(candidate)
        if text == tidy(sentence):
            continue
        tried = True
        changed = difference(before, stated_in(text))
        moved = (guard - guard_words(text)) + (guard_words(text) - guard)
        strange = {word for word in moved if not (word.endswith(" mm") and kind in ("size", "negation"))}
        if len(changed) != len(said) or strange - _GUARDED.get(kind, set()):
            continue
        if all(_intended(kind, change, one) for change, one in zip(changed, said, strict=True)):
            return text
    if tried:
        return Refused("facts", f"every edit that changes ({said[0]}) changes another fact of its sentence too")
    return Refused("no-rule", f"no rule changes the {kind} of ({said[0]}) in its sentence")


def _intended(kind: str, change: Change, target: Stated) -> bool:
    """Whether a change is the wanted one: another value of the wanted field, the rest as it was."""
    before, after = change
    if before is None or after is None or before.name != after.name or before.name != target.name:
        return False
    fields = {field for field in Stated._fields if getattr(before, field) != getattr(after, field)}
    if kind == "negation":
        flipped = {before.status, after.status} == {"present", "absent"}
        return flipped and fields <= _MAY_CHANGE[kind]
    field = _ATTRIBUTE.get(kind, "change")
    return fields == {field} and getattr(after, field) is not None
