"""Find many word patterns at once: each word of a sentence is tried only with the patterns that can begin like it.

A single alternation of hundreds of expressions is tried in full at every word. Here the first letters that each
expression can match are worked out once, and a word such as "heart" meets only expressions that can begin with "hea".
The answers are those of `re.finditer` on the alternation: leftmost, first pattern wins, without overlap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

LETTERS = 3
"""So many letters of a word choose the patterns that are tried on it."""

_KEPT = 1 << 15  # word beginnings to remember: more than any language has, fewer than a hostile text can make
_FEW = 8  # characters of a class that are tried one by one
_WORD = re.compile(r"\b\w")


def word_starts(text: str) -> list[int]:
    """Where the words of a text begin."""
    return [match.start() for match in _WORD.finditer(text)]


class WordIndex:
    """Named patterns whose matches begin with the first letter of a word.

    Raises: re.error when a pattern is no regular expression.
    """

    def __init__(self, patterns: Sequence[tuple[str, str]], after: str = r"\b", before: str = "") -> None:
        """`patterns` are (group name, expression), first wins; `after` and `before` surround every expression."""
        self._patterns = [
            (f"{before}(?P<{name}>(?:{pattern}){after})", beginnings(pattern)) for name, pattern in patterns
        ]
        self._chosen: dict[str, re.Pattern[str] | None] = {}
        self.pattern = "|".join(expression for expression, _ in self._patterns)

    def finditer(self, text: str, starts: Sequence[int] | None = None) -> Iterator[re.Match[str]]:
        """Matches in lower-case `text`, in order, without overlap; `starts` are its `word_starts` where known."""
        chosen, end = self._chosen, 0
        for start in word_starts(text) if starts is None else starts:
            if start < end:
                continue
            key = text[start : start + LETTERS]
            try:
                expression = chosen[key]
            except KeyError:
                expression = self._choose(key)
            if expression is not None and (match := expression.match(text, start)):
                yield match
                end = match.end()

    def _choose(self, key: str) -> re.Pattern[str] | None:
        fit = [
            expression
            for expression, possible in self._patterns
            if any(key.startswith(one) or one.startswith(key) for one in possible)
        ]
        made = re.compile("|".join(fit)) if fit else None
        if len(self._chosen) < _KEPT:
            self._chosen[key] = made
        return made


def beginnings(pattern: str) -> frozenset[str]:
    """The first letters (up to three) with which a match of `pattern` can begin; "" when it can begin with anything."""
    return frozenset(text for text, _ in _grow(parser.parse(pattern), {("", True)}))


def _grow(nodes: Any, made: set[tuple[str, bool]]) -> set[tuple[str, bool]]:
    """Beginnings `made` so far, each with whether it is still open, continued by parsed `nodes`."""
    for node in nodes:
        if not any(is_open for _, is_open in made):
            return made
        ends = _options(node)
        made = {one for one in made if not one[1]} | {
            ((text + more)[:LETTERS], is_open and len(text + more) < LETTERS)
            for text, was_open in made
            if was_open
            for more, is_open in ends
        }
    return made


def _options(node: Any) -> set[tuple[str, bool]]:
    """What one parsed element can add, and whether what follows it can be known."""
    kind, value = node
    if kind is sre.LITERAL:
        return {(chr(value), True)}
    if kind is sre.IN and len(value) <= _FEW and all(item[0] is sre.LITERAL for item in value):
        return {(chr(item[1]), True) for item in value}
    if kind is sre.BRANCH:
        return set().union(*(_grow(branch, {("", True)}) for branch in value[1]))
    if kind is sre.SUBPATTERN:
        return _grow(value[-1], {("", True)})
    if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        least, most, inner = value
        once = _grow(inner, {("", True)})
        once = once if most == 1 else {(text, False) for text, _ in once}
        return once if least else once | {("", True)}
    if kind in (sre.ASSERT, sre.ASSERT_NOT, sre.AT):
        return {("", True)}
    return {("", False)}
