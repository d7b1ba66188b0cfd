"""`medvlm knowledge`: what sources of knowledge hold, what is wrong with them, and a search in them."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reports.descriptors import DescriptorBank
from reports.knowledge import Glossary, KnowledgeError, KnowledgeSource, Passage, look_up, open_knowledge
from reports.ontology import Ontology

_SHOWN = 300  # characters of a passage on the screen; --json has all of it


@dataclass(frozen=True)
class DocumentLine:
    """What is told of one document of a source."""

    file: str
    title: str
    version: str
    licence: str
    publisher: str
    valid_until: str
    expired: bool
    pages: int
    passages: int
    flagged: int


@dataclass(frozen=True)
class SourceLine:
    """What is told of one source; `terms` are those of an ontology."""

    name: str
    version: str
    licence: str
    terms: int
    passages: int
    documents: tuple[DocumentLine, ...]
    problems: tuple[str, ...]


def command(paths: Sequence[Path], words: str = "", k: int = 3, json: bool = False) -> None:
    """List sources, or search them and the built-in ones. Raises, after the list, where one is unreadable."""
    sources, refused = open_all(paths)
    if words:
        built_in: list[KnowledgeSource] = [Glossary(), DescriptorBank()]
        show_passages(look_up([*built_in, *sources], words, k), words, json)
    else:
        show_sources([describe(source) for source in sources], refused, json)
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise KnowledgeError(f"{refused[0]}{more}")


def open_all(paths: Sequence[Path]) -> tuple[list[KnowledgeSource], list[str]]:
    """(sources that hold passages, why others do not)."""
    sources: list[KnowledgeSource] = []
    refused: list[str] = []
    for path in paths:
        try:
            source = open_knowledge(path)
            source.passages()
            sources.append(source)
        except KnowledgeError as error:
            refused.append(str(error))
    return sources, refused


def describe(source: KnowledgeSource) -> SourceLine:
    """A source, its documents and its problems in numbers."""
    passages = source.passages()
    files: dict[str, list[Passage]] = {}
    for passage in passages:
        files.setdefault(passage.file, []).append(passage)
    licences = sorted({passage.licence for passage in passages})
    shown = licences if len(licences) <= 3 else [f"{len(licences)} licences"]
    problems = getattr(source, "problems", tuple)
    return SourceLine(
        source.name or Path(str(getattr(source, "path", ""))).name,
        str(getattr(source, "version", "")),
        "; ".join(shown) or str(getattr(source, "licence", "")),
        len(source) if isinstance(source, Ontology) else 0,
        len(passages),
        tuple(_document(file, held) for file, held in files.items() if file),
        tuple(problems()),
    )


def _document(file: str, passages: Sequence[Passage]) -> DocumentLine:
    first = passages[0]
    return DocumentLine(
        file,
        first.title,
        first.version,
        first.licence,
        first.publisher,
        first.valid_until,
        "expired" in first.flags,
        max((passage.pages[-1] for passage in passages if passage.pages), default=0),
        len(passages),
        sum("instructions" in passage.flags for passage in passages),
    )


def show_sources(sources: Sequence[SourceLine], refused: Sequence[str], json: bool) -> None:
    """Print the list, as text or as one JSON object."""
    if json:
        print(json_format.dumps({"sources": [asdict(one) for one in sources], "refused": list(refused)}, indent=2))
        return
    for source in sources:
        size = f"{source.terms} terms, {source.passages} passages" if source.terms else f"{source.passages} passages"
        print(f"{source.name}: version {source.version or 'not stated'}, {source.licence}, {size}")
        for line in source.documents:
            print(f"  {_one_line(line)}")
        for problem in source.problems:
            print(f"  !! {problem}")


def _one_line(line: DocumentLine) -> str:
    parts = [
        f"{line.file}: {line.title}",
        f"version {line.version}",
        line.licence,
        line.publisher,
        f"{'EXPIRED on' if line.expired else 'valid until'} {line.valid_until}" if line.valid_until else "",
        f"text up to page {line.pages}" if line.pages else "",
        f"{line.passages} passages",
    ]
    return ", ".join(part for part in parts if part)


def show_passages(passages: Sequence[Passage], words: str, json: bool) -> None:
    """Print what a search found, each with its citation."""
    if json:
        found: list[dict[str, Any]] = [{"citation": p.citation(), **asdict(p)} for p in passages]
        print(json_format.dumps({"query": words, "passages": found}, indent=2))
        return
    if not passages:
        print(f"no passage is about {words!r}")
    for number, passage in enumerate(passages, 1):
        text = passage.text if len(passage.text) <= _SHOWN else passage.text[:_SHOWN].rsplit(" ", 1)[0] + " …"
        flags = f" [{', '.join(passage.flags)}]" if passage.flags else ""
        print(f"{number}. {passage.citation()} [{passage.licence}]{flags}\n   {text}")
        if passage.url:
            print(f"   {passage.url}")
