"""Edits of one sentence that deny what it states, or state what it denies; candidates only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

import yaml

from reports.stated import Stated, stated_in

SIZED = r"\d+(?:\.\d+)?(?:(?: ?(?:mm|cm))? ?(?:x|×|by) ?\d+(?:\.\d+)?){0,2}[ -]?(?:mm|cm)\b"
_BE = r"(?:is|are|was|were)"
_SEEN = r"(?:present|seen|noted|identified|observed|detected|visuali[sz]ed|demonstrated)"
_HEART = r"(?:heart|cardiac silhouette)"
_ENLARGED = re.compile(
    rf"^(.*?{_HEART}(?: size)?) (?:is|appears|remains)(?: \w+ly| borderline)? (enlarged|prominent)$", re.IGNORECASE
)
_NORMAL_HEART = re.compile(
    rf"^(.*?{_HEART})(?: size)? (?:is |appears |are )?(?:normal|within normal limits)(?: (?:in|for) size)?$",
    re.IGNORECASE,
)
_UNSURE = re.compile(r"\b(?:is|are|was|were|has|have|may|can|could|should|would|no|not|without)\b")
_LIST = re.compile(
    rf"^(?P<head>(?:there (?P<be>{_BE}) )?"
    r"(?:no(?: (?:definite|convincing|significant|evidence of|evidence for|sign of))?|without) )"
    rf"(?P<items>.+?)(?P<tail> {_BE} {_SEEN})?$",
    re.IGNORECASE,
)
_MEASURED = re.compile(
    r",? (?:measuring|of|about|with a (?:diameter|height|width|rim|size) of|up to) (?:about |approximately )?"
    rf"{SIZED}(?: in (?:size|diameter|height|width|length))?|,? {SIZED}(?: in (?:size|diameter))?$",
    re.IGNORECASE,
)
_TREND = re.compile(
    r",? (?:unchanged|stable|new|increased|decreased|larger|smaller|worse|improved)\b.*$", re.IGNORECASE
)


@cache
def words() -> dict[str, Any]:
    """The word lists `negatives.yaml`, read once."""
    text = resources.files("reports").joinpath("negatives.yaml").read_text(encoding="utf-8")
    book: dict[str, Any] = yaml.safe_load(text)
    return book


@cache
def any_of(key: str, before: str = r"\b", after: str = r"\b") -> re.Pattern[str]:
    """One expression for a list of words, the longest first."""
    options = sorted((str(word) for word in words()[key]), key=len, reverse=True)
    return re.compile(rf"{before}(?:{'|'.join(options)}){after}", re.IGNORECASE)


@cache
def _statements() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """ "There is X", "X is seen", and "X" alone, with the degree in front of X apart."""
    degrees = any_of("degrees", "", "").pattern
    size = rf"{SIZED}(?: in diameter| diameter| sized)?"
    lead = rf"(?:an? |the )?(?:(?:{degrees}|{size})(?:-sized)?,? (?:to |and )?)*"
    return (
        re.compile(rf"^there ({_BE}) {lead}(.+)$", re.IGNORECASE),
        re.compile(rf"^{lead}(.+? {_BE} (?:again )?{_SEEN}(?: .+)?)$", re.IGNORECASE),
        re.compile(rf"^{lead}(.+)$", re.IGNORECASE),
    )


def denied(sentence: str) -> Iterator[str]:
    """Deny the one thing that a sentence states; its degree, number and size go with it."""
    if len(stated_in(sentence)) > 1:
        return
    body = sentence.strip().rstrip(".")
    there, seen, alone = (pattern.match(body) for pattern in _statements())
    heart = _ENLARGED.match(body)
    if there:
        yield f"there {there[1].lower()} no {_bare(there[2])}."
    if heart:
        yield re.sub(r" (?:is|appears|remains)(?: \w+ly| borderline)? (\w+)$", r" is not \1.", body)
    if seen:
        yield f"no {_bare(seen[1])}."
    elif alone and not _UNSURE.search(body):
        yield f"no {_bare(alone[1])}."


def _bare(phrase: str) -> str:
    """Without sizes and trends behind the noun."""
    phrase = _MEASURED.sub("", _TREND.sub("", _MEASURED.sub("", phrase)))
    return phrase[:1].lower() + phrase[1:] if phrase[1:2].islower() else phrase


def affirmed(sentence: str, fact: Stated) -> Iterator[str]:
    """State the one thing that a sentence denies, or take it out of a list of denials and state it behind."""
    body = sentence.strip().rstrip(".")
    normal = _NORMAL_HEART.match(body)
    if normal and fact.name == "cardiomegaly" and " and " not in normal[1]:
        yield f"{normal[1]} is enlarged."
    negated = re.sub(rf"\b({_BE}) not\b", r"\1", body, count=1)
    if negated != body:
        yield f"{negated}."
    listed = _LIST.match(body)
    if listed is None or re.search(r"\b(?:is|are|was|were|but|which|that|has|have)\b", listed["items"]):
        return
    items = [item for item in re.split(r",? (?:or|nor|and) |, ", listed["items"]) if item]
    if any(any_of("adjectives", after="$").search(item) for item in items):
        return
    yield from _listed(items, listed) if len(items) > 1 else [_single(items[0], listed)]


def _single(item: str, listed: re.Match[str]) -> str:
    many = _is_plural(item) or (listed["be"] or "").lower() in ("are", "were")
    thing = item if many or item.lower().startswith(("a ", "an ")) else _with_article(item)
    if listed["tail"]:
        return f"{thing}{listed['tail']}."
    return f"there {(listed['be'] or ('are' if many else 'is')).lower()} {thing}."


def _listed(items: list[str], listed: re.Match[str]) -> Iterator[str]:
    for at, item in enumerate(items):
        rest = items[:at] + items[at + 1 :]
        kept = rest[0] if len(rest) == 1 else f"{', '.join(rest[:-1])} or {rest[-1]}"
        stated = f"There are {item}" if _is_plural(item) else f"There is {_with_article(item)}"
        yield f"{listed['head']}{kept}{listed['tail'] or ''}. {stated}."


def _with_article(item: str) -> str:
    head = re.split(r" (?:in|of|at|on) ", item)[0]
    return f"a {item}" if any_of("things", "", "$").search(head) else item


def _is_plural(item: str) -> bool:
    head = re.split(r" (?:in|of|at|on) ", item)[0].lower()
    return head.endswith(("s", "thoraces")) and not head.endswith(("sis", "us", "ss", "itis"))
