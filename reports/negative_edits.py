"""Edits of one sentence that change one fact: candidates only, none is trusted before the facts are compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations
from typing import Any, Literal, get_args

from reports.fact_writer import is_counted
from reports.phrasing import phrases
from reports.polarity_edits import SIZED, affirmed, any_of, denied, words
from reports.stated import NUMBERS, Stated, count_words, difference, stated_in

Kind = Literal["laterality", "negation", "severity", "location", "count", "size", "change"]
KINDS: tuple[str, ...] = get_args(Kind)

_SIZED = re.compile(SIZED, re.IGNORECASE)
_ORDINALS: list[str] = phrases()["written"]["ordinals"]
_AT_RIB = r"(?=(?: posterior| anterior| lateral)* rib)"
_RIB = re.compile(rf"\b({'|'.join(_ORDINALS)}){_AT_RIB}|\b(\d{{1,2}})(?:st|nd|rd|th){_AT_RIB}", re.IGNORECASE)
_ATTRIBUTIVE = re.compile(
    r"\b(?:stable|unchanged|persistent)(?= (?!in\b|size|number|since|from|compared|and\b|as\b|on\b)\w)", re.IGNORECASE
)
_NO_CHANGE = re.compile(r"\bno (?:significant |interval |definite )*change in\b", re.IGNORECASE)
_CLAUSE = re.compile(r"[,;:]|\b(?:and|with|without|but|which|or)\b")


def edits(sentence: str, kind: str, fact: Stated) -> Iterator[str]:
    """Candidate sentences in which one fact is another; may yield none, and may yield wrong ones."""
    if kind == "laterality":
        yield from _laterality(sentence, fact)
    elif kind == "negation":
        yield from (denied(sentence) if fact.status == "present" else affirmed(sentence, fact))
    elif kind == "severity":
        yield from _each(sentence, any_of("levels"), lambda word: _other_level(word, fact))
    elif kind == "location":
        yield from _location(sentence, fact)
    elif kind == "count":
        yield from _count(sentence, fact)
    elif kind == "size":
        for factor in (2.0, 0.5, 3.0):
            yield from _each(sentence, _SIZED, partial(_scaled, factor=factor))
    elif kind == "change":
        yield from _trend(sentence, fact)


def impossible(sentence: str, kind: str, fact: Stated) -> str | None:
    """Why a kind of edit must not be tried on this sentence, in words."""
    if kind == "negation" and fact.change == "resolved":
        return "it tells that something is gone"
    asked = {
        "laterality": (any_of("one_sided"), "stands on one side only"),
        "location": (any_of("placed"), "belongs to the place that is named"),
        "severity": (any_of("fixed_degrees"), "is a name and no degree"),
        "change": (any_of("fixed_trends"), "describes and does not compare"),
        "size": (
            any_of("limits", after=r" (?:approximately )?\d"),
            "gives a limit, which another number need not break",
        ),
    }.get(kind)
    found = asked[0].search(sentence) if asked else None
    return f'"{found[0]}" {asked[1]}' if asked and found else None


def _trend(sentence: str, fact: Stated) -> Iterator[str]:
    if fact.change == "unchanged":
        attributive = _ATTRIBUTIVE.sub("new", sentence, count=1)
        yield from ([attributive] if attributive != sentence else [])
    trends = words()["trends"]
    yield from _each(
        sentence, any_of("trends", after=r"\b(?! than (?:l\b|r\b|the )?(?:left|right|other)?)"), trends.get
    )
    if fact.change == "unchanged":
        yield _NO_CHANGE.sub("increase in", sentence)


def _each(sentence: str, pattern: re.Pattern[str], put: Callable[[str], Any]) -> Iterator[str]:
    """The sentence with one match replaced, then with several."""
    matches = list(pattern.finditer(sentence))[:4]
    for many in range(1, len(matches) + 1):
        for chosen in combinations(matches, many):
            yield _replaced(sentence, chosen, put)


def _replaced(sentence: str, chosen: Sequence[re.Match[str]], put: Callable[[str], Any]) -> str:
    for match in reversed(chosen):
        sentence = sentence[: match.start()] + _cased(match[0], put(match[0].lower())) + sentence[match.end() :]
    return sentence


def _together(sentence: str, pattern: re.Pattern[str], put: Callable[[str], Any], fact: Stated) -> Iterator[str]:
    """The sentence with every word replaced that belongs to the fact, also where two words say the same place.

    A word whose replacement alone changes another fact belongs to that fact. One that changes none says the place
    twice, if it stands in the clause of a word of this fact; elsewhere it belongs to something without a name here,
    and nothing is yielded.
    """
    before = stated_in(sentence)
    mine, unknown = [], []
    for match in list(pattern.finditer(sentence))[:6]:
        changed = difference(before, stated_in(_replaced(sentence, [match], put)))
        if any(change.before == fact for change in changed):
            mine.append(match)
        elif not changed:
            unknown.append(match)
    anchor = mine or unknown[:1]
    for match in unknown:
        if all(
            _CLAUSE.search(sentence, *sorted((match.end(), other.start()))) for other in anchor if other is not match
        ):
            if len(anchor) > 1 or anchor[0] is not match:
                return
        elif match not in anchor:
            anchor = sorted([*anchor, match], key=lambda found: found.start())
    if anchor:
        yield _replaced(sentence, anchor, put)


def _cased(old: str, new: str) -> str:
    """`new` in the letter case of `old`."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def _laterality(sentence: str, fact: Stated) -> Iterator[str]:
    if fact.side in ("left", "right"):
        yield from _together(sentence, any_of("sides"), words()["sides"].get, fact)
        return
    for side in ("left", "right"):
        for pattern, put in words()["both"].items():
            if re.search(pattern, sentence, re.IGNORECASE):
                text = re.sub(pattern, put.format(side=side), sentence, flags=re.IGNORECASE)
                text = re.sub(r"\bin in\b", "in", _singular(text) or text)
                if is_counted(fact.name):
                    text = re.sub(r"^there is (?!an? )", "there is a ", text, flags=re.IGNORECASE)
                yield text


def _other_level(word: str, fact: Stated) -> str:
    other: str = words()["levels"][word]
    if other:
        return other
    return "tiny" if fact.name in phrases()["written"]["graded_by_size"] else "minimal"


def _location(sentence: str, fact: Stated) -> Iterator[str]:
    yield from _together(sentence, any_of("places"), words()["places"].get, fact)

    def shifted(word: str) -> str:
        if word[0].isdigit():
            number = int(re.sub(r"\D", "", word))
            moved = number + 3 if number <= 9 else number - 3
            return f"{moved}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(moved, 'th') }"
        at = _ORDINALS.index(word)
        return _ORDINALS[at + 3 if at < 9 else at - 3]

    yield from _together(sentence, _RIB, shifted, fact)


def _count(sentence: str, fact: Stated) -> Iterator[str]:
    for names, count, start, stop in count_words(sentence):
        if fact.name not in names or count != fact.number:
            continue
        if count.isdigit() and int(count) > 1:
            for other in (int(count) + 1, int(count) + 2, int(count) - 1):
                if 1 < other <= len(NUMBERS):
                    yield sentence[:start] + _cased(sentence[start:stop], NUMBERS[other - 1]) + sentence[stop:]
        elif count == "1":
            plural = phrases()["written"]["plurals"].get(fact.name)
            last = plural.split()[-1] if plural else ""
            single = fact.name.split()[-1]
            text, found = re.subn(rf"\b{single}\b", last, sentence[:start] + "multiple" + sentence[stop:], flags=re.I)
            if last and found:
                yield re.sub(r"\bis\b", "are", re.sub(r"\b[Aa]n? multiple", "multiple", text))
        elif not any_of("several_of").search(sentence):
            head = re.sub(r"\ba $", "", sentence[:start], flags=re.IGNORECASE)
            one = _singular(f"{head}a single{sentence[stop:]}")
            yield from ([one] if one else [])


def _singular(sentence: str) -> str | None:
    """The sentence about one of what it names in the plural; None where no plural is known."""
    changed = 0
    for plural, singular in words()["singular"].items():
        sentence, many = re.subn(plural, singular, sentence, flags=re.IGNORECASE)
        changed += many
    for plural, singular in words()["verbs"].items():
        sentence = re.sub(plural, singular, sentence, flags=re.IGNORECASE)
    return sentence if changed else None


def _scaled(said: str, factor: float) -> str:
    def one(match: re.Match[str]) -> str:
        decimals = len(match[0].partition(".")[2])
        return f"{float(match[0]) * factor:.{decimals}f}"

    return re.sub(r"\d+(?:\.\d+)?", one, said)
