"""A piece of knowledge that can be cited, and what a source of such pieces promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

NO_LICENCE = "licence not stated"


class KnowledgeError(ValueError):
    """A knowledge file cannot be read; the message says where, what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Passage:
    """A piece of text that can be cited, and all that a reader needs to find it again.

    Attributes:
        text: The words, white space collapsed; at most `reports.document.MAX_CHARACTERS` long.
        section: Headings above it, outermost first, joined by " > ".
        version: What pins the wording: a stated version or date, else the start of the sha256 of the file.
        passage_id: Unique within its source and equal at every reading of the same files.
        file: Path within its source.
        pages: Pages of the file that it lies on, counted from 1; empty where the format has none.
        span: First character and one past the last in the text of its document (`reports.reading.read_document`), for
            JSON Lines in the text of its row.
        valid_until: ISO date, or empty where none is stated.
        flags: "expired" (valid_until is past), "instructions" (reads like orders to a language model: it is quoted like
            any other text and never obeyed).
    """

    text: str
    title: str
    section: str
    source: str
    url: str
    version: str
    licence: str
    passage_id: str
    file: str = ""
    pages: tuple[int, ...] = ()
    span: tuple[int, int] | None = None
    publisher: str = ""
    valid_until: str = ""
    flags: tuple[str, ...] = ()

    def citation(self) -> str:
        """One line for a footnote."""
        pages = ""
        if self.pages:
            first, last = self.pages[0], self.pages[-1]
            pages = f"p. {first}" if first == last else f"pp. {first}-{last}"
        version = f"version {self.version}" if self.version else ""
        expired = f"expired on {self.valid_until}" if "expired" in self.flags else ""
        parts = (self.title, self.section, self.source, pages, version, expired)
        return ", ".join(part for part in parts if part)


class KnowledgeSource(Protocol):
    """Anything that lists passages. Two promises: ids stay the same between calls, and the object is hashable.

    A source may also have `version`, `licence` (str) and `problems()` (what was not read and why); `medvlm knowledge`
    shows them.
    """

    @property
    def name(self) -> str: ...

    def passages(self) -> Sequence[Passage]: ...
