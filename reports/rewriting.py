"""Rewrite a report and prove it: facts before and after are compared, and what does not hold is refused with a reason.

A rewrite of a whole report goes sentence by sentence. A sentence that no rule can rewrite without a change of facts is
left out, and named with the reason; then the facts of the whole text are compared once more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reports.sections import section_sentences, split_sections
from reports.stated import Change, Stated, difference, guard_words, stated_in, without_change


class Dropped(NamedTuple):
    """A sentence that was left out; `kind` is a short stable word for counting, `reason` a sentence for people."""

    sentence: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Rewritten:
    """A text whose facts are known to be kept, or changed only as `changed` says."""

    text: str
    facts_before: tuple[Stated, ...]
    facts_after: tuple[Stated, ...]
    changed: tuple[Change, ...] = ()
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True)
class Refused:
    """No rewrite: `kind` for counting, `reason` for people."""

    kind: str
    reason: str
    dropped: tuple[Dropped, ...] = ()


Rule = Callable[[str, str], "str | Dropped"]
"""(section, sentence) -> the sentence to write instead, or why it is left out."""


View = Callable[[Iterable[Stated]], tuple[Stated, ...]]
"""What of the facts must be kept; `tuple` for all of it."""


def keep_facts(before: str, after: str, view: View = tuple) -> Rewritten | Refused:
    """`after` as a rewrite of the sentence `before`, if both state the same facts as far as `view` shows them.

    Sides, denials and hedges outside the lexicon are counted as well, so that "no ascites" cannot become "ascites".
    """
    facts = stated_in(before)
    said = stated_in(after)
    if Counter(view(said)) != Counter(view(facts)):
        return Refused("facts", f"the facts would change: {describe(difference(view(facts), view(said)))}")
    lost, gained = guard_words(before) - guard_words(after), guard_words(after) - guard_words(before)
    if view is without_change:  # with the comparison goes the size that it had then
        lost = Counter({word: n for word, n in lost.items() if word != "no change" and not word.endswith(" mm")})
    if lost or gained:
        words = ", ".join(sorted({*lost, *gained}))
        return Refused("words", f"the words of polarity, side or size would not be the same ({words})")
    return Rewritten(after, facts, said, difference(facts, said))


def describe(changes: Iterable[Change]) -> str:
    """Changes in words: "present left pleural effusion -> present right pleural effusion"."""
    return "; ".join(f"{change.before or 'nothing'} -> {change.after or 'nothing'}" for change in changes)


def rewrite_sentences(text: str, rule: Rule, view: View = tuple) -> Rewritten | Refused:
    """Apply a rule to every sentence of a report, and check the whole.

    Args:
        text: A report, with or without headings, or one sentence.
        rule: Gives the new sentence or the reason to leave it out.
        view: What of the facts of the kept sentences must be the same; everything by default.
    """
    before = stated_in(text)
    kept: list[tuple[str, str, str]] = []
    dropped: list[Dropped] = []
    for section, sentence in section_sentences(text):
        made = rule(section, sentence)
        if isinstance(made, Dropped):
            dropped.append(made)
        else:
            kept.append((section, sentence, made))
    headed = set(split_sections(text)) != {"findings"} or split_sections(text)["findings"] != text.strip()
    kept, unmasked = _without_new_denials(kept, before, headed)
    dropped += unmasked
    if not any(stated_in(written) for _, _, written in kept) and (before or not kept):
        return Refused("empty", "no sentence that states a fact would remain", tuple(dropped))
    after_text = compose(((section, written) for section, _, written in kept), headed)
    wanted = stated_in(compose(((section, old) for section, old, _ in kept), headed)) if dropped else before
    after = stated_in(after_text)
    if Counter(view(after)) != Counter(view(wanted)):
        changes = describe(difference(view(wanted), view(after)))
        return Refused("facts", f"the facts would change: {changes}", tuple(dropped))
    return Rewritten(after_text, before, after, difference(before, after), tuple(dropped))


def _without_new_denials(
    kept: list[tuple[str, str, str]], before: Sequence[Stated], headed: bool
) -> tuple[list[tuple[str, str, str]], list[Dropped]]:
    """Leave out normal statements that a dropped sentence had corrected ("the lungs are clear", but for a nodule)."""
    known = {(fact.name, fact.status) for fact in before}
    after = {(f.name, f.status) for f in stated_in(compose(((section, new) for section, _, new in kept), headed))}
    fresh = {name for name, status in after - known if status == "absent"}
    if not fresh:
        return kept, []
    guilty = [any(f.name in fresh and f.status == "absent" for f in stated_in(new)) for _, _, new in kept]
    out = [
        Dropped(old, "unmasked", "without a sentence that was left out, it would deny a finding of the report")
        for (_, old, _), bad in zip(kept, guilty, strict=True)
        if bad
    ]
    return [line for line, bad in zip(kept, guilty, strict=True) if not bad], out


def compose(lines: Iterable[tuple[str, str]], headed: bool = True) -> str:
    """A report from (section, sentence): one paragraph per section under its heading, or no heading at all."""
    sections: dict[str, list[str]] = {}
    for section, sentence in lines:
        sections.setdefault(section, []).append(ended(sentence))
    if not headed:
        return " ".join(sentence for said in sections.values() for sentence in said)
    return "\n\n".join(f"{section.upper()}:\n{' '.join(said)}" for section, said in sections.items())


def ended(sentence: str) -> str:
    """With a full stop."""
    sentence = sentence.strip()
    return sentence if sentence[-1:] in ".!?" else sentence.rstrip(" ,;:") + "."


def tidy(sentence: str) -> str:
    """Spaces and commas closed, a/an chosen, first letter upper case; after words were cut out."""
    sentence = re.sub(r"\(\s*\)", " ", sentence)
    sentence = re.sub(r"\s+", " ", sentence)
    sentence = re.sub(r"\s+(?=[.,;:)])", "", sentence)
    sentence = re.sub(r"[,;](?:\s*[,;])+", ",", sentence)
    sentence = re.sub(r"[,;:]+(?=[.!?]|$)", "", sentence.strip(" ,;:"))
    sentence = re.sub(r"\.{2,}$", ".", sentence)
    sentence = re.sub(r"\b([Aa])n? (?=([A-Za-z0-9]+))", _article, sentence)
    return sentence[:1].upper() + sentence[1:]


_VOWEL = re.compile(r"(?:[aeiou](?!ni|se|ne\b|nce\b)|un(?!i)|8|11\b|18\b|hour|xr\b|mr\b)", re.IGNORECASE)


def _article(match: re.Match[str]) -> str:
    vowel = _VOWEL.match(match[2]) is not None
    return f"{match[1]}n " if vowel else f"{match[1]} "
