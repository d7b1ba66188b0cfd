"""The names of findings and the words for them, compiled from `lexicon.yaml` and a hospital's own file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from reports.lexicon_file import SCHEME_KEYS, check, read_yaml
from reports.word_index import WordIndex


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


class Target(NamedTuple):
    """The label of a scheme that a finding counts for, and the words that it must be named with (None: any)."""

    label: str
    said: re.Pattern[str] | None = None

    def takes(self, words: tuple[str, ...]) -> bool:
        """Whether a finding that the text names with `words` counts; one that nobody put in words does."""
        return self.said is None or not words or any(self.said.search(word) for word in words)


@dataclass(frozen=True)
class Entry:
    """What the lexicon knows about one finding besides its words."""

    name: str
    sided: bool
    targets: dict[str, Target]  # scheme -> label
    not_with: re.Pattern[str] | None
    unless: re.Pattern[str] | None
    also: tuple[str, re.Pattern[str], re.Pattern[str]] | None = None
    parents: tuple[str, ...] = ()
    implied_by: tuple[str, ...] = ()

    def label(self, scheme: str) -> str | None:
        """The label of a scheme that this finding counts for; None where the scheme has none."""
        target = self.targets.get(scheme)
        return None if target is None else target.label

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


@dataclass(frozen=True, eq=False)
class Lexicon:
    """All findings, one compiled expression for their words, the normal statements, and schemes that a file brings."""

    entries: dict[str, Entry]
    words: WordIndex
    groups: dict[str, tuple[tuple[str, ...], bool]]  # group of `words` -> names, hint
    normal: tuple[Normal, ...]
    schemes: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)  # name -> label -> findings
    above: dict[str, tuple[str, ...]] = field(default_factory=dict)  # finding -> its parents and what it implies
    below: dict[str, tuple[str, ...]] = field(default_factory=dict)  # finding -> those that have it as parent

    def mentions(self, sentence: str, starts: Sequence[int] | None = None) -> list[Mention]:
        """Where findings are named in a lower-case sentence, in order, without overlap; `starts`: its `word_starts`."""
        found = []
        for match in self.words.finditer(sentence, starts):
            names, hint = self.groups[match.lastgroup or ""]
            kept = tuple(dict.fromkeys(stated for name in names for stated in self.entries[name].names_in(sentence)))
            if kept:
                found.append(Mention(match.start(), match.end(), kept, hint))
        named = {name for mention in found if not mention.hint for name in mention.names}
        return [m for m in found if not m.hint or not named & set(m.names)]


def lexicon(extra: Path | str | None = None) -> Lexicon:
    """The lexicon of the platform, or the same extended by a hospital's YAML file (docs/lexicon.md).

    The first is compiled once per process; the second at each call, so keep what it gives: `find(text, book)`.
    Raises: LexiconError where the file breaks a rule, with the place, what was found and what was expected; OSError.
    """
    if extra is None:
        return _standard()
    own = read_yaml(Path(extra).read_bytes(), str(extra))
    check(own, str(extra), _standard_book())
    return _compiled(_standard_book(), own)


@cache
def _standard_book() -> dict[str, Any]:
    return read_yaml(resources.files("reports").joinpath("lexicon.yaml").read_bytes(), "lexicon.yaml")


@cache
def _standard() -> Lexicon:
    return _compiled(_standard_book())


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    return None if pattern is None else re.compile(pattern)


def _target(given: str | dict[str, str]) -> Target:
    if isinstance(given, str):
        return Target(given)
    return Target(given["label"], re.compile(rf"\b(?:{given['said']})"))


def _entry(name: str, given: dict[str, Any]) -> Entry:
    also = given.get("also")
    return Entry(
        name,
        bool(given.get("sided", True)),
        {scheme: _target(given[key]) for key, scheme in SCHEME_KEYS.items() if given.get(key)},
        _compile(given.get("not_with")),
        _compile(given.get("unless")),
        None if also is None else (also["name"], re.compile(also["when"]), re.compile(also["keep"])),
        tuple(given.get("parents", ())),
        tuple(given.get("implied_by", ())),
    )


def _compiled(standard: dict[str, Any], own: dict[str, Any] | None = None) -> Lexicon:
    """The words of `own` are tried first; what it says of a known finding replaces what the standard says."""
    books = [standard] if own is None else [own, standard]
    parts = [part for book in books for part in _parts(book)]
    groups = {f"g{i}": (names, hint) for i, (_, names, hint) in enumerate(parts)}
    words = WordIndex([(f"g{i}", say) for i, (say, _, _) in enumerate(parts)])
    normal = {name: given for book in reversed(books) for name, given in book.get("normal", {}).items()}
    findings: dict[str, dict[str, Any]] = {}
    for book in reversed(books):
        for name, given in book.get("findings", {}).items():
            findings[name] = findings.get(name, {}) | given
    schemes = {
        scheme: {label: tuple(names) for label, names in labels.items()}
        for book in books
        for scheme, labels in book.get("schemes", {}).items()
    }
    entries = {name: _entry(name, given) for name, given in findings.items()}
    return Lexicon(entries, words, groups, tuple(map(_normal, normal.values())), schemes, *_kin(entries))


def _kin(entries: dict[str, Entry]) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """(above, below) of every finding."""
    above = {name: list(entry.parents) for name, entry in entries.items()}
    below: dict[str, list[str]] = {name: [] for name in entries}
    for name, entry in entries.items():
        for sign in entry.implied_by:
            above[sign].append(name)
        for parent in entry.parents:
            below[parent].append(name)
    return {k: tuple(v) for k, v in above.items()}, {k: tuple(v) for k, v in below.items()}


def _parts(book: dict[str, Any]) -> list[tuple[str, tuple[str, ...], bool]]:
    """(expression, names, hint) in the order of trial: joint phrases, what is no finding, the findings."""
    parts = [(joint["say"], tuple(joint["names"]), False) for joint in book.get("joint", [])]
    if book.get("not_findings"):
        parts.append(("|".join(book["not_findings"]), (), False))
    for name, given in book.get("findings", {}).items():
        said = [*map(_plain, given.get("words", [])), *given.get("say", [])]
        if said:
            parts.append(("|".join(said), (name,), False))
        if given.get("hint"):
            parts.append(("|".join(given["hint"]), (name,), True))
    return parts


def _plain(words: str) -> str:
    """Plain words as an expression: any blanks or hyphens between them, and a plural at the end."""
    return r"[\s-]+".join(map(re.escape, re.split(r"[\s-]+", words.strip().lower()))) + "(?:s|es)?"


def _normal(given: dict[str, Any]) -> Normal:
    return Normal(
        re.compile(rf"\b{given['subject']}"), re.compile(rf"\b{given['predicate']}\b"), tuple(given["rules_out"])
    )


def names() -> tuple[str, ...]:
    """All canonical finding names of the platform's lexicon, in its order."""
    return tuple(lexicon().entries)
