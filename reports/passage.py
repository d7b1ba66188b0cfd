"""A piece of knowledge that can be cited, and what a source of such pieces promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class KnowledgeError(ValueError):
    """A knowledge file cannot be read; the message says where, what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Passage:
    """A piece of text that can be cited. `passage_id` is unique within its source; `version` pins the wording."""

    text: str
    title: str
    section: str
    source: str
    url: str
    version: str
    licence: str
    passage_id: str

    def citation(self) -> str:
        """One line for a footnote."""
        parts = [self.title, self.section, self.source, f"version {self.version}" if self.version else ""]
        return ", ".join(part for part in parts if part)


class KnowledgeSource(Protocol):
    """Anything that lists passages. Two promises: ids stay the same between calls, and the object is hashable."""

    @property
    def name(self) -> str: ...

    def passages(self) -> Sequence[Passage]: ...
