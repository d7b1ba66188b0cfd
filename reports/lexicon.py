"""The names of findings and the words for them, compiled from `lexicon.yaml`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml


class Mention(NamedTuple):
    """A place in a lower-case sentence where findings are named."""

    start: int
    stop: int
    names: tuple[str, ...]
    hint: bool = False


class Normal(NamedTuple):
    """A normal statement and the findings that it rules out."""

    subject: re.Pattern[str]
    predicate: re.Pattern[str]
    rules_out: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """What the lexicon knows about one finding besides its words."""

    name: str
    sided: bool
    chexpert: str | None
    ctrate: str | None
    not_with: re.Pattern[str] | None
    unless: re.Pattern[str] | None
    also: tuple[str, re.Pattern[str], re.Pattern[str]] | None = None

    def names_in(self, sentence: str) -> tuple[str, ...]:
        """The findings that a mention of this one states here ("plaques in the aorta and coronaries": two)."""
        if not self.belongs(sentence):
            return ()
        if self.also is None or not self.also[1].search(sentence):
            return (self.name,)
        return (self.name, self.also[0]) if self.also[2].search(sentence) else (self.also[0],)

    def belongs(self, sentence: str) -> bool:
        """False when the sentence speaks of another organ ("thyroid nodule")."""
        if self.not_with is None or not self.not_with.search(sentence):
            return True
        return self.unless is not None and self.unless.search(sentence) is not None


@dataclass(frozen=True)
class Lexicon:
    """All findings, one compiled expression for their words, and the normal statements."""

    entries: dict[str, Entry]
    words: re.Pattern[str]
    groups: dict[str, tuple[tuple[str, ...], bool]]  # group of `words` -> names, hint
    normal: tuple[Normal, ...]

    def mentions(self, sentence: str) -> list[Mention]:
        """Where findings are named in a lower-case sentence, in order, without overlap."""
        found = []
        for match in self.words.finditer(sentence):
            names, hint = self.groups[match.lastgroup or ""]
            kept = tuple(dict.fromkeys(stated for name in names for stated in self.entries[name].names_in(sentence)))
            if kept:
                found.append(Mention(match.start(), match.end(), kept, hint))
        named = {name for mention in found if not mention.hint for name in mention.names}
        return [m for m in found if not m.hint or not named & set(m.names)]


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    return None if pattern is None else re.compile(pattern)


def _entry(name: str, given: dict[str, Any]) -> Entry:
    also = given.get("also")
    return Entry(
        name,
        bool(given.get("sided", True)),
        given.get("chexpert"),
        given.get("ctrate"),
        _compile(given.get("not_with")),
        _compile(given.get("unless")),
        None if also is None else (also["name"], re.compile(also["when"]), re.compile(also["keep"])),
    )


@cache
def lexicon() -> Lexicon:
    """The lexicon, read and compiled once per process."""
    text = resources.files("reports").joinpath("lexicon.yaml").read_text(encoding="utf-8")
    book: dict[str, Any] = yaml.safe_load(text)
    parts: list[tuple[str, tuple[str, ...], bool]] = [
        (entry["say"], tuple(entry["names"]), False) for entry in book["joint"]
    ]
    parts.append(("|".join(book["not_findings"]), (), False))
    for name, given in book["findings"].items():
        parts.append(("|".join(given["say"]), (name,), False))
        if "hint" in given:
            parts.append(("|".join(given["hint"]), (name,), True))
    groups = {f"g{i}": (names, hint) for i, (_, names, hint) in enumerate(parts)}
    words = re.compile(r"\b(?:" + "|".join(f"(?P<g{i}>(?:{say})\\b)" for i, (say, _, _) in enumerate(parts)) + ")")
    normal = tuple(
        Normal(
            re.compile(rf"\b{given['subject']}"), re.compile(rf"\b{given['predicate']}\b"), tuple(given["rules_out"])
        )
        for given in book["normal"].values()
    )
    entries = {name: _entry(name, given) for name, given in book["findings"].items()}
    return Lexicon(entries, words, groups, normal)


def names() -> tuple[str, ...]:
    """All canonical finding names, in the order of the lexicon."""
    return tuple(lexicon().entries)
