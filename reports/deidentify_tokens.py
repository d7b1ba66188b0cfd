"""The words of a report, each with what decides whether it can be a part of a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reports.deidentify_cues import AFTER_EPONYM, AFTER_LISTED_EPONYM, NAMED_AFTER
from reports.deidentify_spans import HIDDEN
from reports.deidentify_vocabulary import (
    is_abbreviation,
    is_allowed,
    is_eponym,
    is_plain_english,
    is_roman,
    is_word,
    names,
    word_list,
)
from volumes.deidentify_text import is_known_word

PARTICLES = word_list("particles")
NEVER = word_list("never_a_name")
_TOKEN = re.compile(r"[^\W\d_](?:[^\W\d_]|(?:['’](?!s\b)|-)(?=[^\W\d_])|(?<=[A-Z])\.(?=[A-Z]))*")


_OPENS = re.compile(r"(?:^|[.!?:;\n•\"“\]]|(?:^|\s)[-*>]|\d[.)])[\s\"“(]*$")


@dataclass(frozen=True, slots=True)
class Token:
    """One word of the text with what decides about it."""

    text: str
    start: int
    stop: int
    opens: bool  # a sentence, a line or an item of a list begins with it
    title_line: bool  # of a heading or a line in capitals: case says nothing

    @property
    def capital(self) -> bool:
        return self.text[:1].isupper()

    @property
    def shouted(self) -> bool:
        return len(self.text) > 1 and self.text.isupper()

    @property
    def parts(self) -> list[str]:
        return [part for part in re.split(r"[-.]", self.text) if part]

    @property
    def known(self) -> bool:
        """Whether the word names nobody by itself."""
        if is_eponym(self.text) or is_allowed(self.text) or (self.shouted and is_abbreviation(self.text)):
            return True
        return all(
            len(p) < 2 or is_word(p) or is_eponym(p) or is_allowed(p) or (p.isupper() and is_abbreviation(p))
            or is_roman(p)
            for p in self.parts
        )  # fmt: skip

    @property
    def named(self) -> bool:
        """Whether a list of names has it."""
        if names().is_name(self.text):
            return True
        return len(self.parts) > 1 and all(p[:1].isupper() and names().is_name(p) for p in self.parts)


def tokens_of(text: str) -> list[Token]:
    """The words of a text, in order."""
    found: list[Token] = []
    title_lines = _title_lines(text)
    line = 0
    for match in _TOKEN.finditer(text):
        while line + 1 < len(title_lines) and title_lines[line + 1][0] <= match.start():
            line += 1
        start = match.start()
        inside = text[start - 1 : start] == " " and (text[start - 2 : start - 1].isalpha() or text[start - 2] == ",")
        opens = not inside and (start == 0 or _OPENS.search(text[max(0, start - 6) : start]) is not None)
        found.append(Token(match[0], start, match.end(), opens, title_lines[line][1]))
    return found


def still_standing(tokens: Sequence[Token], text: str) -> list[Token]:
    """The tokens that no rule has hidden yet."""
    return [token for token in tokens if HIDDEN not in text[token.start : token.stop]]


def _title_lines(text: str) -> list[tuple[int, bool]]:
    """(start, whether most of its words are capitalized) of every line; short headings count, sentences do not."""
    found, at = [], 0
    for line in text.split("\n"):
        words = re.findall(r"[^\W\d_]{3,}", line[:2000])
        capitals = sum(word[0].isupper() for word in words)
        found.append((at, len(words) >= 2 and capitals >= 0.75 * len(words) and any(is_word(w) for w in words)))
        at += len(line) + 1
    return found


def is_eponymous(text: str, token: Token) -> bool:
    """Whether a word names a part of the body or a disease after somebody: "Baker cyst", "circle of Willis"."""
    if AFTER_EPONYM.match(text, token.stop) is not None:
        return True
    if is_eponym(token.text) and AFTER_LISTED_EPONYM.match(text, token.stop) is not None:
        return True
    return NAMED_AFTER.search(text[max(0, token.start - 24) : token.start]) is not None


def is_ordinary(token: Token) -> bool:
    """Whether a word is plain English with a capital letter, no word of medicine: "per Temple", "read by Drew"."""
    if token.shouted or len(token.text) < 3 or token.text.lower() in NEVER or token.title_line:
        return False
    return all(
        is_plain_english(part) and not (is_known_word(part) or is_allowed(part) or is_eponym(part))
        for part in re.split(r"[-'’]", token.text)
    )


def is_unknown(text: str, token: Token) -> bool:
    return token.capital and not token.known and len(token.text) > 2 and not is_eponymous(text, token)
