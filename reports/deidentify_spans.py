"""Where identifiers stand in a text. What one rule has found is hidden from the rules after it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "name", "place", "institution", "address", "date", "age", "number", "room", "phone", "mail", "url", "uid"
]
HIDDEN = "\ue000"  # a private character: no rule matches it, and texts are rid of it first


@dataclass(frozen=True)
class Span:
    """One identifier: `text[start:stop]`, its kind, and, where the rule knows it, what stands there afterwards."""

    start: int
    stop: int
    kind: Kind
    instead: str | None = field(default=None, repr=False)


class Searched:
    """A text while rules look at it. `left` is the text with what was found hidden, character by character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.left = text
        self.spans: list[Span] = []

    def take(self, start: int, stop: int, kind: Kind, instead: str | None = None) -> None:
        """Keep a span; one that reaches into what is hidden already is left out."""
        if start >= stop or HIDDEN in self.left[start:stop]:
            return
        self.spans.append(Span(start, stop, kind, instead))
        self.left = self.left[:start] + HIDDEN * (stop - start) + self.left[stop:]

    def take_all(self, found: Iterable[Span]) -> bool:
        """Keep many spans with one copy of the text; whether there was any."""
        spans = list(found)
        if not spans:
            return False
        letters = list(self.left)
        for span in spans:
            if span.start < span.stop and HIDDEN not in letters[span.start : span.stop]:
                self.spans.append(span)
                letters[span.start : span.stop] = HIDDEN * (span.stop - span.start)
        self.left = "".join(letters)
        return True

    def take_matches(self, pattern: re.Pattern[str], kind: Kind, group: int | str = 0) -> None:
        """Keep every match of a pattern, or of one group in it."""
        self.take_all([Span(*found.span(group), kind) for found in pattern.finditer(self.left)])

    def ordered(self) -> list[Span]:
        """All spans in the order of the text."""
        return sorted(self.spans, key=lambda span: span.start)


def replaced(text: str, spans: Iterable[Span], write: Callable[[Span], str]) -> str:
    """The text with every span written anew; spans are in order and apart."""
    parts: list[str] = []
    at = 0
    for span in spans:
        parts += [text[at : span.start], write(span)]
        at = span.stop
    return "".join([*parts, text[at:]])
