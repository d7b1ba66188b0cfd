"""A sentence in other words: order of clauses, synonyms, noun for verb; each kept only if the facts are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import yaml

from reports.polarity_edits import any_of
from reports.rewriting import Dropped, Refused, Rewritten, ended, keep_facts, rewrite_sentences, tidy

_SEEN = r"(?:present|seen|noted|identified|observed|detected|found|visuali[sz]ed)"
_BE = r"(?:is|are|was|were)"
_LIST = re.compile(
    rf"^(?P<head>(?:there is |there are )?(?:no(?: evidence of| sign of)?|without|negative for) )"
    rf"(?P<items>[^.;:]+?)(?P<tail>(?: {_BE} {_SEEN})?)\.?$",
    re.IGNORECASE,
)
_VERBAL = re.compile(r"\b(?:is|are|was|were|has|have|may|there|which|that|but|with|without|no)\b", re.IGNORECASE)
_THERE = re.compile(
    r"^there (?P<be>is|are) (?P<x>(?!no\b)[^.;:,]+?)(?P<at> (?:in|at|within|on) (?:the|both) [^.;:,]+)?\.?$",
    re.IGNORECASE,
)
_IS_SEEN = re.compile(
    rf"^(?P<x>(?!no\b)[^.;:,]+?) (?P<be>{_BE}) {_SEEN}(?P<at> (?:in|at|within|on) (?:the|both) [^.;:,]+)?\.?$",
    re.IGNORECASE,
)
_DENIED = re.compile(rf"^(?:there {_BE} )?no (?:evidence of )?(?P<x>[^.;:,]+?)(?: {_BE} {_SEEN})?\.?$", re.IGNORECASE)
_NOT_SEEN = re.compile(rf"^(?P<x>[^.;:,]+?) {_BE} not {_SEEN}\.?$", re.IGNORECASE)
_NORMAL_PAIR = re.compile(
    r"^(?P<the>the )?(?P<a>[^.;:,]+?) and (?P<b>[^.;:,]+?)"
    r" (?P<be>are (?:normal|clear|unremarkable|intact|within normal limits))\.?$",
    re.IGNORECASE,
)
_IN_SIZE = re.compile(
    r"^(?P<the>the )?(?P<x>heart|cardiac silhouette) is (?P<how>normal|within normal limits)(?: in size)?\.?$",
    re.IGNORECASE,
)
_SIZE_IS = re.compile(
    r"^(?:the )?(?P<x>heart|cardiac silhouette) size is (?P<how>normal|within normal limits)\.?$", re.IGNORECASE
)
_HAS = re.compile(
    r"^(?P<x>the [^.;:,]+?) (?P<has>has|have) (?P<how>increased|decreased|improved|worsened|resolved)\.?$",
    re.IGNORECASE,
)
_NOUN_OF = {
    "increased": "an increase in",
    "decreased": "a decrease in",
    "improved": "improvement of",
    "worsened": "worsening of",
    "resolved": "resolution of",
}


@cache
def _book() -> dict[str, Any]:
    text = resources.files("reports").joinpath("paraphrases.yaml").read_text(encoding="utf-8")
    book: dict[str, Any] = yaml.safe_load(text)
    return book


@cache
def _synonyms() -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    """For each word, the others of its group."""
    return tuple(
        (
            re.compile(rf"(?<![\w-]){re.escape(word)}{border}", re.IGNORECASE),
            tuple(other for other in group if other != word),
        )
        for part, border in (("synonyms", r"(?![\w-])"), ("at_end", r"(?=\s*[.;]|$)"))
        for group in _book()[part]
        for word in group
    )


def paraphrases(sentence: str) -> tuple[Rewritten, ...]:
    """Every other way that the rules find to say one sentence, each with exactly its facts; () if there is none."""
    made = dict.fromkeys(ended(tidy(candidate)) for candidate in _candidates(sentence))
    checked = (keep_facts(sentence, candidate) for candidate in made if candidate.lower() != ended(sentence).lower())
    return tuple(one for one in checked if isinstance(one, Rewritten))


def paraphrase(text: str, rng: np.random.Generator, share: float = 1.0) -> Rewritten | Refused:
    """A report or sentence in other words.

    Args:
        text: What to say otherwise. Sentences that no rule fits stay as they are.
        rng: Draws the sentences and their wording.
        share: Of the sentences that can be said otherwise, about how many are.
    """

    def rule(section: str, sentence: str) -> str | Dropped:
        options = paraphrases(sentence) if rng.random() < share else ()
        return options[int(rng.integers(len(options)))].text if options else sentence

    made = rewrite_sentences(text, rule)
    if isinstance(made, Rewritten) and " ".join(made.text.split()) == " ".join(text.split()):
        return Refused("no-rule", "no rule finds another way to say it")
    return made


def _candidates(sentence: str) -> Iterator[str]:
    yield from _orders(sentence)
    yield from _existential(sentence)
    yield from _denials(sentence)
    yield from _nominal(sentence)
    for pattern, others in _synonyms():
        if pattern.search(sentence):
            yield from (pattern.sub(other, sentence, count=1) for other in others)


def _orders(sentence: str) -> Iterator[str]:
    """Items of a denial turned round, two normal organs, two clauses."""
    listed = _LIST.match(sentence)
    if listed and not _VERBAL.search(listed["items"]):
        items = re.split(r",? or |, ", listed["items"])
        if 1 < len(items) < 6 and " or " in listed["items"] and not any(map(_is_unfit, items)):
            comma = "," if ", or " in listed["items"] else ""
            turned = [item.strip() for item in (*items[1:], items[0])]
            yield f"{listed['head']}{', '.join(turned[:-1])}{comma} or {turned[-1]}{listed['tail']}."
    pair = _NORMAL_PAIR.match(sentence)
    if pair and " and " not in pair["b"] and not _is_unfit(pair["a"]) and not _lends_its_owner(pair):
        yield f"{pair['the'] or ''}{_inner(pair['b']).removeprefix('the ')} and {_inner(pair['a'])} {pair['be']}."
    halves = sentence.rstrip(".").split("; ")
    if (
        len(halves) == 2
        and all(len(half.split()) > 1 for half in halves)
        and not re.match(r"(?:when|in|at|on)\b", sentence, re.I)
    ):
        yield f"{halves[1]}; {_inner(halves[0])}."


def _existential(sentence: str) -> Iterator[str]:
    """ "There is a nodule in the left lung", "A nodule is present in the left lung", and the place first."""
    there, seen = _THERE.match(sentence), _IS_SEEN.match(sentence)
    found = there or seen
    if found is None or _VERBAL.search(found["x"]):
        return
    x, at, be = _inner(found["x"]), found["at"] or "", found["be"].lower()
    if x.startswith(("it ", "this", "these", "which")) or x.split()[0] in ("it", "they"):
        return
    if there:
        yield f"{x} {be} present{at}."
        yield f"{x} {be} seen{at}."
    elif not x.startswith("the "):
        yield f"there {be} {x}{at}."
    if at and not x.startswith("the "):
        yield f"{at.strip()} there {be} {x}."


def _denials(sentence: str) -> Iterator[str]:
    denied, absent = _DENIED.match(sentence), _NOT_SEEN.match(sentence)
    if denied and not _VERBAL.search(denied["x"]) and not re.search(rf"{_SEEN}$", denied["x"]):
        x, be = denied["x"], "are" if _is_plural(denied["x"]) else "is"
        yield f"no {x}."
        yield f"there {be} no {x}."
        if not x.startswith(("sign", "evidence")):
            yield f"no evidence of {x}."
            yield f"there is no evidence of {x}."
        if " or " not in x:
            yield f"{x} {be} not seen."
    if absent and not absent["x"].lower().startswith(("the ", "it", "this")):
        x = _inner(absent["x"]).removeprefix("a ").removeprefix("an ")
        yield f"there is no {x.replace(' and ', ' or ')}."
        yield f"no {x.replace(' and ', ' or ')} is seen."


def _nominal(sentence: str) -> Iterator[str]:
    """Verb to noun and back."""
    for state, name in _book()["nominal"].items():
        verbal = re.match(
            rf"^(?P<x>the (?:left |right )?[\w ]+?|[\w ]+?) (?:is|are|appears?) (?:(?P<how>\w+?)ly )?{state}\.?$",
            sentence,
            re.IGNORECASE,
        )
        if verbal and not re.search(r"\b(?:not|no|size|and)\b", verbal["x"]):
            x = _inner(verbal["x"])
            how = f"{verbal['how']} " if verbal["how"] else ""
            yield f"there is {how}{name} of {x if x.startswith('the ') else 'the ' + x}."
        nominal = re.match(
            rf"^(?:there is )?(?P<how>mild |moderate |severe |marked )?{name} of (?P<x>the [\w ]+?)"
            r"(?: is (?:seen|noted|present))?\.?$",
            sentence,
            re.IGNORECASE,
        )
        if nominal:
            how = f"{nominal['how'].strip()}ly " if nominal["how"] else ""
            plural = re.search(
                r"(?:angles|lungs|diaphragms|hemidiaphragms|hila|arteries|vessels|markings)$", nominal["x"]
            )
            yield f"{nominal['x']} {'are' if plural else 'is'} {how.lower()}{state}."
    sized, size = _IN_SIZE.match(sentence), _SIZE_IS.match(sentence)
    if sized:
        yield f"{sized['the'] or ''}{_inner(sized['x'])} size is {sized['how']}."
    if size:
        yield f"the {_inner(size['x'])} is {size['how']}{' in size' if size['how'] == 'normal' else ' for size'}."
    has = _HAS.match(sentence)
    if has:
        yield f"there has been {_NOUN_OF[has['how'].lower()]} {_inner(has['x'])}."


def _is_unfit(item: str) -> bool:
    """Whether an item of a list cannot change its place: it holds a verb, or has lent its noun to its neighbour."""
    return _VERBAL.search(item) is not None or any_of("adjectives", after="$").search(item) is not None


def _lends_its_owner(pair: re.Match[str]) -> bool:
    """ "Heart contour and size": the size is the heart's as well."""
    return " " not in pair["b"] and " " in pair["a"]


def _is_plural(phrase: str) -> bool:
    head = re.split(r" (?:in|of|at|on|within) |,| or ", phrase.strip())[-1 if " or " in phrase else 0].lower()
    return head.endswith(("s", "thoraces", "ae")) and not head.endswith(("ss", "sis", "us", "itis"))


def _inner(text: str) -> str:
    """As it stands inside a sentence: first letter lower case, unless the word is an abbreviation."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
