"""Terms of an ontology: names, synonyms, definitions, parents, codes, and the look-up among them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from reports.document import MAX_CHARACTERS, clean, cut, plain
from reports.injection import looks_like_instructions
from reports.passage import NO_LICENCE, Passage


@dataclass(frozen=True)
class Term:
    """One concept.

    Attributes:
        code: As its ontology writes it, such as "DOID:1532", "RID5350" or "233604007".
        parents: Codes of what it is a kind of.
        xrefs: Codes in other systems, such as "ICD10CM:J44.9".
        obsolete: Withdrawn; `replaced_by` names the codes to use instead, where stated.
    """

    code: str
    name: str
    synonyms: tuple[str, ...] = ()
    definition: str = ""
    parents: tuple[str, ...] = ()
    xrefs: tuple[str, ...] = ()
    obsolete: bool = False
    replaced_by: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Ontology:
    """Terms by code and by name, and a source of passages: the definitions.

    `notes` say what was left out or is wrong in the files, for people.
    """

    name: str
    terms: tuple[Term, ...]
    version: str = ""
    licence: str = NO_LICENCE
    notes: tuple[str, ...] = ()
    _codes: dict[str, Term] = field(init=False, repr=False, default_factory=dict)
    _names: dict[str, list[Term]] = field(init=False, repr=False, default_factory=dict)
    _children: dict[str, list[str]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        for term in self.terms:
            self._codes.setdefault(term.code.casefold(), term)
            for parent in term.parents:
                self._children.setdefault(parent.casefold(), []).append(term.code)
        # a name goes before a synonym of another term, and a living term before a withdrawn one
        ordered = sorted(self.terms, key=lambda term: term.obsolete)
        for term in ordered:
            self._names.setdefault(key(term.name), []).append(term)
        for term in ordered:
            for synonym in term.synonyms:
                known = self._names.setdefault(key(synonym), [])
                if term not in known:
                    known.append(term)

    def __len__(self) -> int:
        return len(self.terms)

    def problems(self) -> tuple[str, ...]:
        return self.notes

    def find(self, words: str) -> Term | None:
        """The term with this code, name or synonym (case, hyphens and plural s do not matter); the best, or None."""
        found = self.find_all(words)
        return found[0] if found else None

    def find_all(self, words: str) -> list[Term]:
        """All terms with this code, name or synonym: codes first, then names, then synonyms; withdrawn ones last."""
        code = self._codes.get(words.strip().casefold())
        wanted = key(words)
        named = self._names.get(wanted) or self._names.get(_singular(wanted)) or []
        return [*([code] if code else []), *(term for term in named if term is not code)]

    def ancestors(self, code: str) -> tuple[str, ...]:
        """Codes of all that the term is a kind of, nearest first; circles in the files do no harm.

        Raises: KeyError for a code that is not here.
        """
        return tuple(self._walk(code, lambda term: term.parents))

    def descendants(self, code: str) -> tuple[str, ...]:
        """Codes of all kinds of the term, nearest first. Raises: KeyError for a code that is not here."""
        return tuple(self._walk(code, lambda term: self._children.get(term.code.casefold(), ())))

    def is_a(self, code: str, ancestor: str) -> bool:
        """Whether the first is the second or a kind of it."""
        wanted = self._term(ancestor).code
        return self._term(code).code == wanted or wanted in self.ancestors(code)

    def expand(self, words: str, narrower: bool = False) -> tuple[str, ...]:
        """The words themselves and other names of the same thing, for a search; with `narrower` names of its kinds too.

        Words that are not here come back alone.
        """
        names = [words]
        for term in self.find_all(words):
            if not term.obsolete:
                names += [term.name, *term.synonyms]
                if narrower:
                    names += [name for code in self.descendants(term.code) for name in self._names_of(code)]
        kept: dict[str, str] = {}
        for name in names:
            kept.setdefault(name.casefold(), name)
        return tuple(kept.values())

    def passages(self) -> tuple[Passage, ...]:
        """The definitions of living terms, each under the name of its term."""
        return tuple(
            passage for term in self.terms if term.definition and not term.obsolete for passage in self._say(term)
        )

    def _say(self, term: Term) -> Iterator[Passage]:
        text = clean(term.definition)[0]
        for count, (start, stop) in enumerate(cut(text, 0, len(text), MAX_CHARACTERS), 1):
            flags = ("instructions",) if looks_like_instructions(text[start:stop]) else ()
            where = f"{self.name}:{term.code}" + (f"#{count}" if count > 1 else "")
            words = " ".join(text[start:stop].split())
            yield Passage(
                words,
                plain(term.name),
                plain(term.code),
                self.name,
                "",
                self.version,
                self.licence,
                where,
                span=(start, stop),
                flags=flags,
            )

    def _names_of(self, code: str) -> tuple[str, ...]:
        term = self._codes[code.casefold()]
        return () if term.obsolete else (term.name, *term.synonyms)

    def _term(self, code: str) -> Term:
        term = self._codes.get(code.strip().casefold())
        if term is None:
            raise KeyError(f"{code} is no code of {self.name} ({len(self.terms)} terms)")
        return term

    def _walk(self, code: str, following: object) -> Iterator[str]:
        assert callable(following)
        start = self._term(code)
        seen = {start.code.casefold()}
        waiting = deque(following(start))
        while waiting:
            term = self._codes.get(waiting.popleft().casefold())
            if term is None or term.code.casefold() in seen:  # a parent that the file does not hold
                continue
            seen.add(term.code.casefold())
            yield term.code
            waiting.extend(following(term))


def key(name: str) -> str:
    """A name as it is compared: lower case, hyphens, underscores and slashes as blanks."""
    return " ".join(re.sub(r"[-_/,]", " ", name.casefold()).split())


def _singular(name: str) -> str:
    return name[:-1] if name.endswith("s") and not name.endswith(("ss", "us", "is")) and len(name) > 4 else name


def dangling(terms: Iterable[Term]) -> tuple[str, ...]:
    """The note about parents that are named and not there."""
    codes = {term.code for term in terms}
    missing = sorted({parent for term in terms for parent in term.parents} - codes)
    if not missing:
        return ()
    return (f"{len(missing)} parents are named and not in the file, such as {missing[0]}",)
