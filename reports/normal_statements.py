"""Statements such as "the lungs are clear": which findings they rule out without naming them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from reports.lexicon import Lexicon, Mention, Normal
from reports.word_index import LETTERS, WordIndex, beginnings

_ABNORMAL = re.compile(
    r"\b(?:enlarged|upper limits?|borderline|abnormal|prominent|not (?:normal|clear)|increased|otherwise"
    r"|than normal)\b"
)
_LONGEST = 90  # characters between the subject and its predicate


class _Subjects(NamedTuple):
    """The normal statements of a lexicon by the first letters of their subjects."""

    indexes: tuple[WordIndex, ...]
    begun: dict[str, tuple[int, ...]]  # first letters of a word -> statements whose subject may begin so
    anything: tuple[int, ...]  # statements whose subject may begin with anything


@lru_cache(maxsize=8)
def _subjects(book: Lexicon) -> _Subjects:
    begun: dict[str, tuple[int, ...]] = {}
    anything: tuple[int, ...] = ()
    for at, normal in enumerate(book.normal):
        for first in beginnings(normal.subject.pattern):
            if len(first) < LETTERS:
                anything = (*anything, at)
            else:
                begun[first] = (*begun.get(first, ()), at)
    return _Subjects(
        tuple(WordIndex([("s", normal.subject.pattern)], after="") for normal in book.normal), begun, anything
    )


def ruled_out(low: str, mentions: Sequence[Mention], book: Lexicon, starts: Sequence[int]) -> Iterator[str]:
    """Findings that normal statements of a lower-case sentence exclude; `starts` are its `word_starts`."""
    subjects = _subjects(book)
    begun = subjects.begun
    possible = {at for start in starts for at in begun.get(low[start : start + LETTERS], ())}
    for at in sorted(possible.union(subjects.anything)):
        normal = book.normal[at]
        for subject in subjects.indexes[at].finditer(low, starts):
            if _is_normal(low, subject.start(), subject.end(), normal, mentions):
                yield from normal.rules_out
                break


def _is_normal(low: str, start: int, stop: int, normal: Normal, mentions: Sequence[Mention]) -> bool:
    """Whether the subject at `start` to `stop` has its normal predicate after it, or right before it."""
    predicate = normal.predicate.search(low, stop)
    if predicate is not None:
        between = low[stop : predicate.start()]
    else:
        predicate = normal.predicate.search(low[:start])
        between = low[predicate.end() : start] if predicate else ""
        if predicate is None or len(between.split()) > 1:
            return False
    window = low[max(0, min(start, predicate.start()) - 20) : max(predicate.end(), stop)]
    if ";" in between or len(between) > _LONGEST or _ABNORMAL.search(window.replace("not enlarged", "")):
        return False
    return not any(start < mention.start < predicate.start() for mention in mentions)
