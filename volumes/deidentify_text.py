"""Free text without people: known words stay, everything else goes. PS3.15 E.3.5, Clean Descriptors.

A description keeps words from a list of radiology (see deidentify_words.json), short numbers and protocol codes such
as "B30f". Gone are all other words, whatever resembles an identifier that the same file states elsewhere (in any
case and order, one letter off), what follows a title ("Dr."), e-mail addresses, telephone numbers and long numbers.
Dates move with the patient's shift, UIDs become their pseudonyms.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path

from volumes.deidentify_keys import moved_date

REMOVED = "removed"
_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_UID = re.compile(r"(?<![\d.])(?:2\.25\.\d{6,39}|[0-2](?:\.\d+){4,})(?![\d.]*\d)")
_MAIL = re.compile(r"\S{1,99}@\S+|\bhttps?://\S+|\bwww\.\S+", re.IGNORECASE)
_PHONE = re.compile(r"(?<![\w.])\+?\(?\d{2,5}(?:[ ./()-]{1,3}\d{2,})+(?![\w.])")
_DATES = (
    re.compile(r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<s>[-./]?)(?P<m>0[1-9]|1[0-2])(?P=s)(?P<d>0[1-9]|[12]\d|3[01])(?!\d)"),
    re.compile(r"(?<!\d)(?P<d>0?[1-9]|[12]\d|3[01])(?P<s>[.])(?P<m>0?[1-9]|1[0-2])(?P=s)(?P<y>(?:19|20)\d\d)(?!\d)"),
)
_OTHER_DATES = re.compile(r"(?<!\d)\d{1,2}([-./])\d{1,2}\1(?:\d{4}|\d{2})(?!\d)")  # day or month first: nobody knows
_TITLE = re.compile(
    r"\b(?:Drs?|Prof|Mrs?|Ms|Miss|Herrn?|Frau|Mme|Sra?|PD|Rad|Tech|MTRA|MTA|RT)\.?(?:\s+(?:Dr|Prof|med)\.?)*"
    r"\s+(?:[A-Z][\w'’-]*\.?\s*){1,3}"
)
_AFTER_NAME = re.compile(r"\b[A-Z][\w'’-]{1,40}(?:\s{1,3}[A-Z]\.?)?\s{0,3},\s{0,3}(?:M\.?D|R\.?T|D\.?O|PhD)\b\.?")
_NUMBER = re.compile(r"\d{1,4}")
# B30f, L5, 3D, 5mm, IR, 512x512: too short for a name that the file does not state elsewhere
_CODE = re.compile(r"[A-Za-z]{1,3}\d{1,3}[A-Za-z]{0,2}|\d{1,3}[A-Za-z]{1,3}|[A-Za-z]{1,2}|\d{1,4}(?:x\d{1,4}){1,3}")
_SHORT_CODE = re.compile(r"[A-Za-z]{1,3}|[A-Za-z]{1,3}\d{1,3}[A-Za-z]{0,2}|\d{1,3}[A-Za-z]{1,3}|\d{1,4}")
_LONGEST = 200_000  # characters; the longest reports have a tenth of this
_LONGEST_WORD = 64
_MOST_KEPT = 6000  # dates and UIDs of one text; more than a report holds, fewer than there are private characters
_FOUR_DIGITS_ARE_A_YEAR = re.compile(r"(?:19|20)\d\d")


@cache
def _lists() -> tuple[frozenset[str], frozenset[str]]:
    listed = json.loads(Path(__file__).with_name("deidentify_words.json").read_text(encoding="utf-8"))
    words = frozenset(word for line in listed["words"] for word in line.split())
    terms = frozenset(term.replace("+", " ") for line in listed["terms"] for term in line.split())
    return words, terms


def is_known_word(word: str) -> bool:
    """Whether a word is in the list of radiology, in any case; a plural too."""
    words, lower = _lists()[0], word.lower()
    return lower in words or (lower.endswith("s") and lower[:-1] in words)


def is_known_code(value: str, identifiers: Identifiers | None = None) -> bool:
    """Whether a code string (CS) is a defined term, or made of known words and of short codes that name nobody."""
    value = value.strip()
    terms = _lists()[1]
    if value in terms:
        return True
    parts = [part for part in re.split(r"[ _\\/.+-]+", value) if part]
    if len(value) > 64 or len(parts) > 8:
        return False
    return all(
        part in terms
        or is_known_word(part)
        or (_SHORT_CODE.fullmatch(part) is not None and not (identifiers and identifiers.knows(part)))
        for part in parts
    )


def folded(text: str) -> str:
    """Lower case, without accents: how words are compared."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


@dataclass
class Identifiers:
    """The words by which one file names people, places and numbers."""

    names: set[str] = field(default_factory=set, repr=False)
    _near: set[str] = field(default_factory=set, repr=False)

    def add(self, text: str, *, known_words_too: bool = True) -> None:
        """Take the words of a name; of a place or a number ("CT-2024-118") only those that no list knows."""
        for word in _WORD.findall(folded(text)):
            if len(word) < 2 or (not known_words_too and (is_known_word(word) or len(word) < 3)):
                continue
            if word.isdigit() and len(word) < 4:
                continue
            self.names.add(word)
            if 5 <= len(word) <= _LONGEST_WORD:
                self._near.update(_one_off(word))

    @property
    def numbers(self) -> set[str]:
        """Identifiers of five digits and more, without leading zeros."""
        return {name.lstrip("0") for name in self.names if name.isdigit() and len(name.lstrip("0")) >= 5}

    def knows(self, word: str) -> bool:
        """Whether a word is an identifier of this file, equal or (from five letters on) one edit away."""
        word = folded(word)
        if word in self.names:
            return True
        return 4 <= len(word) <= _LONGEST_WORD and (word in self._near or not self._near.isdisjoint(_one_off(word)))


def _one_off(word: str) -> set[str]:
    """The word and every form of it that lacks one letter: two words one edit apart share one of them."""
    return {word} | {word[:i] + word[i + 1 :] for i in range(len(word))}


@dataclass
class TextCleaner:
    """Cleans the texts of one file. `shift` is None where dates do not stay; `uid` maps a UID."""

    identifiers: Identifiers
    uid: Callable[[str], str]
    shift: timedelta | None
    keep_dates: bool = False

    def free(self, text: str) -> str:
        """A description: what no list knows is dropped."""
        return self._clean(text, strict=True)

    def technical(self, text: str) -> str:
        """A name of a product or method: dropped is only what is an identifier or looks like one."""
        return self._clean(text, strict=False)

    def _clean(self, text: str, *, strict: bool) -> str:
        if len(text) > _LONGEST:
            return ""
        safe: list[str] = []

        def keep(value: str) -> str:  # what is final already waits behind a mark that no text can hold
            if len(safe) >= _MOST_KEPT:
                return " "
            safe.append(value)
            return f"\ue000{chr(0xE100 + len(safe) - 1)}\ue001"

        text = re.sub(r"[\ue000-\uf8ff]", " ", text.replace("\0", " "))
        text = _UID.sub(lambda found: keep(self.uid(found[0])), text)
        text = _MAIL.sub(" ", text)
        for pattern in _DATES:
            text = pattern.sub(lambda found: keep(self._date(found)), text)
        text = _OTHER_DATES.sub(" ", text)
        text = _PHONE.sub(" ", text)
        text = _AFTER_NAME.sub(" ", _TITLE.sub(" ", text))
        text = _WORD.sub(lambda found: found[0] if self._stays(found[0], strict) else "\ue002", text)
        text = re.sub(r"\b\w['’`]\ue002|\ue002['’`]\w\b|\ue002", " ", text)  # the O of O'Brien goes with him
        text = "".join(c for c in text if c.isascii() or "\ue000" <= c <= "\uf8ff")
        text = re.sub(r"\ue000(.)\ue001", lambda found: safe[ord(found[1]) - 0xE100], text)
        return _tidy(text)

    def _date(self, found: re.Match[str]) -> str:
        if self.keep_dates:
            return found[0]
        if self.shift is None:
            return ""
        moved = moved_date(found["y"], found["m"], found["d"], self.shift)
        if moved is None:
            return ""
        order = "%Y{0}%m{0}%d" if found.start("y") < found.start("d") else "%d{0}%m{0}%Y"
        return moved.strftime(order.format(found["s"]))

    def _stays(self, word: str, strict: bool) -> bool:
        if len(word) > _LONGEST_WORD or not word.isascii() or self.identifiers.knows(word):
            return False
        if word.isdigit():
            return len(word) <= 4 and not (strict and _FOUR_DIGITS_ARE_A_YEAR.fullmatch(word))
        if not strict:
            return sum(c.isdigit() for c in word) < 5
        return is_known_word(word) or _CODE.fullmatch(word) is not None


def _tidy(text: str) -> str:
    """Without the separators that dropped words leave behind; tidy text stays as it is."""
    lines = text.splitlines()
    kept = [line for line in map(_tidy_line, lines) if _WORD.search(line)]
    return "\n".join(kept) if len(lines) > 1 else "".join(kept)


def _tidy_line(line: str) -> str:
    while True:
        tidy = re.sub(r"[(\[{<]\s*[)\]}>]", "", re.sub(r"_[\s_]*_", "_", re.sub(r"\s+", " ", line)))
        tidy = re.sub(r"(?:(?<=^)|(?<= ))[^\w\s(\[{<+\-]+(?= |$)", "", tidy).strip(" ,;:^=\\/&|_?!").rstrip("- ")
        if tidy == line:
            return tidy
        line = tidy


def identifiers_of(names: Iterable[str], places: Iterable[str] = ()) -> Identifiers:
    """Identifiers from values that name people and numbers, and from values that name places."""
    found = Identifiers()
    for name in names:
        found.add(name)
    for place in places:
        found.add(place, known_words_too=False)
    return found
