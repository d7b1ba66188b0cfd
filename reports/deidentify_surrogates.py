"""What stands where an identifier stood: a made-up value of the same form, or a tag such as [NAME].

A made-up value hides what a rule has overlooked among the rest ("hiding in plain sight", Carrell et al. 2013,
doi:10.1136/amiajnl-2012-001034). It is derived from the key, the patient and the value, so one name of one patient
always gets the same substitute, in every report, and without the key nobody can go back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reports.deidentify_spans import Kind, Span
from reports.deidentify_vocabulary import is_word, names, word_list
from volumes.deidentify_keys import Pseudonyms
from volumes.deidentify_text import folded

Style = Literal["surrogates", "tags"]
TAGS: dict[Kind, str] = {
    "name": "[NAME]", "place": "[PLACE]", "institution": "[INSTITUTION]", "address": "[ADDRESS]", "date": "[DATE]",
    "age": "[AGE]", "number": "[NUMBER]", "room": "[ROOM]", "phone": "[PHONE]", "mail": "[MAIL]", "url": "[URL]",
    "uid": "[UID]",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’](?=[^\W\d_]))*")
_STAYS = word_list("stays_in_places")


@dataclass(frozen=True)
class Surrogates:
    """Substitutes for the identifiers of one patient."""

    pseudonyms: Pseudonyms
    patient: str
    style: Style = "surrogates"

    def write(self, text: str, span: Span) -> str:
        """What stands in the place of `text[span.start:span.stop]`."""
        if span.instead is not None:
            return span.instead
        old = text[span.start : span.stop]
        if span.kind == "uid":
            return self.pseudonyms.uid(old)
        if self.style == "tags":
            return TAGS[span.kind]
        if span.kind == "name":
            return re.sub(r"[^\W\d_]+(?:['’][^\W\d_]+)*", lambda word: self._name(word[0]), old)
        if span.kind == "mail":
            return f"{self._letters(old, 8)}@example.org" if not old.startswith("@") else f"@{self._letters(old, 8)}"
        if span.kind == "url":
            return f"https://{self._letters(old, 8)}.example.org"
        if span.kind in ("place", "institution", "address"):
            return _WORD.sub(lambda word: self._place(word[0], span.kind), self._digits(old))
        return self._digits(old, letters=span.kind in ("number", "room"))

    def _number(self, kind: str, value: str) -> int:
        digest = self.pseudonyms.digest(f"text {kind}", f"{self.patient}\x1f{folded(value)}")
        return int.from_bytes(digest[:8], "big")

    def _pick(self, kind: str, value: str, among: Sequence[str]) -> str:
        start = self._number(kind, value)
        found = (among[(start + step) % len(among)] for step in range(len(among)))
        return next(one for one in found if folded(one) != folded(value))  # a name is never its own substitute

    def _name(self, word: str) -> str:
        lists = names()
        low = folded(word)
        if len(word) == 1:
            return chr(ord("A" if word.isupper() else "a") + self._number("initial", word) % 26)
        if low in lists.female and low not in lists.family:
            made = self._pick("female", word, lists.surrogate_female)
        elif low in lists.male and low not in lists.family:
            made = self._pick("male", word, lists.surrogate_male)
        else:
            made = self._pick("family", word, lists.surrogate_family)
        return _cased(made, word)

    def _place(self, word: str, kind: Kind) -> str:
        lists = names()
        if word.lower() in _STAYS or word in lists.states or (kind == "address" and word in lists.state_codes):
            return word
        if len(word) == 1:
            return self._name(word)
        if kind == "institution" and not word[0].isupper() and is_word(word):
            return word
        return _cased(self._pick("place", word, lists.surrogate_places), word)

    def _digits(self, old: str, *, letters: bool = False) -> str:
        """The same form with other digits (and letters); a number of a record is itself without its separators."""
        value = re.sub(r"[\W_]", "", old)
        stream = b"".join(
            self.pseudonyms.digest("text number", f"{self.patient}\x1f{value}\x1f{n}")
            for n in range(1 + len(old) // 32)
        )
        made = []
        for at, c in enumerate(old):
            if c.isdigit():
                made.append(str(stream[at % len(stream)] % 10))
            elif letters and c.isalpha() and len(old) > 4:
                made.append(chr(ord("A" if c.isupper() else "a") + stream[at % len(stream)] % 26))
            else:
                made.append(c)
        text = "".join(made)
        return text if text != old else f"{text[:-1]}{(int(text[-1]) + 1) % 10 if text[-1:].isdigit() else text[-1:]}"

    def _letters(self, old: str, count: int) -> str:
        number = self._number("letters", old)
        return "".join(chr(ord("a") + (number >> 5 * n) % 26) for n in range(count))


def _cased(made: str, like: str) -> str:
    if like.isupper():
        return made.upper()
    return made.lower() if like[:1].islower() else made
