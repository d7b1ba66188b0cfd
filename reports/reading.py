"""Read a file of knowledge by its kind, and pin its content; PDF and HTML in a process with bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from reports.document import Document
from reports.document_html import MAX_HTML_BYTES, read_html
from reports.document_pdf import MAX_PDF_BYTES, read_pdf
from reports.document_text import MAX_TEXT_BYTES, read_markdown, read_plain
from reports.passage import KnowledgeError

SECONDS = 60.0
"""Longest time for one PDF or HTML file."""

MEMORY_BYTES = 2**30

Reader = Callable[[bytes, Path], Document]
READERS: dict[str, tuple[Reader, int]] = {
    ".md": (read_markdown, MAX_TEXT_BYTES),
    ".markdown": (read_markdown, MAX_TEXT_BYTES),
    ".txt": (read_plain, MAX_TEXT_BYTES),
    ".html": (read_html, MAX_HTML_BYTES),
    ".htm": (read_html, MAX_HTML_BYTES),
    ".xhtml": (read_html, MAX_HTML_BYTES),
    ".pdf": (read_pdf, MAX_PDF_BYTES),
}
_CONFINED = (".html", ".htm", ".xhtml", ".pdf")


def read_document(path: Path) -> Document:
    """The document in a file, by the ending of its name, read in this process. Raises: KnowledgeError."""
    ending = path.suffix.lower()
    if ending not in READERS:
        raise KnowledgeError(f"{path}: found a file ending in {ending!r}, expected one of {', '.join(READERS)}.")
    reader, most = READERS[ending]
    return reader(read_bytes(path, most), path)


def read_bytes(path: Path, most: int) -> bytes:
    """The bytes of a file of at most `most`. Raises: KnowledgeError for larger, empty and unreadable files."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise KnowledgeError(f"{path}: {error.strerror or error}; expected a readable file. Check the path.") from error
    if len(data) > most:
        raise KnowledgeError(f"{path}: more than {most // 2**20} MiB, expected at most that. Split the file.")
    if not data.strip():
        raise KnowledgeError(f"{path}: the file is empty, expected text. Remove it or fill it.")
    return data


def stamp_of(path: Path) -> tuple[int, int]:
    """(size, time of the last change): what is read is kept while they stay. Raises: KnowledgeError."""
    try:
        found = path.stat()
    except OSError as error:
        raise KnowledgeError(f"{path}: {error.strerror or error}; expected a readable file. Check the path.") from error
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4096)
def digest(path: Path, stamp: tuple[int, int]) -> str:
    """Version of a file that states none: the start of the sha256 of its content."""
    return digest_all(((path, stamp),))


@lru_cache(maxsize=64)
def digest_all(stamps: tuple[tuple[Path, tuple[int, int]], ...]) -> str:
    hashed = hashlib.sha256()
    for path, _ in stamps:
        try:
            with path.open("rb") as file:
                while block := file.read(2**20):
                    hashed.update(block)
        except OSError as error:
            raise KnowledgeError(f"{path}: {error.strerror or error}; expected a readable file.") from error
    return f"sha256:{hashed.hexdigest()[:12]}"


def read_documents(
    paths: Sequence[Path], seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES
) -> Iterator[tuple[Path, Document | KnowledgeError]]:
    """(path, its document or the reason why there is none), in the order of the paths.

    A PDF or HTML file that takes more than `seconds`, more than `memory_bytes`, or kills its reader is such a reason.
    """
    confined = [path for path in paths if path.suffix.lower() in _CONFINED]
    apart = dict(_read_apart(confined, seconds, memory_bytes)) if confined else {}
    for path in paths:
        yield path, apart[path] if path in apart else _attempt(path)


def _attempt(path: Path) -> Document | KnowledgeError:
    try:
        return read_document(path)
    except KnowledgeError as error:
        return error


def _document_or_reason(path: str) -> Document | str:
    """What travels back from the process apart: errors of ours as their words."""
    try:
        return read_document(Path(path))
    except KnowledgeError as error:
        return str(error)


def _read_apart(
    paths: Sequence[Path], seconds: float, memory_bytes: int
) -> Iterator[tuple[Path, Document | KnowledgeError]]:
    from volumes.errors import VolumeError
    from volumes.isolation import Workers

    # imported once, before any worker is bounded
    preload = ("reports.reading", *(name for name in ("bs4", "pypdf") if find_spec(name)))
    pool: Workers[str, Document | str] = Workers(
        _document_or_reason, 1, seconds, memory_bytes, chunk=1, preload=preload
    )
    with pool as workers:
        for path, found in workers.map(map(str, paths)):
            if isinstance(found, VolumeError):
                yield Path(path), KnowledgeError(f"{path}: {found}")
            elif isinstance(found, str):
                yield Path(path), KnowledgeError(found)
            else:
                yield Path(path), found
