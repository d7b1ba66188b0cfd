"""Markdown and plain text as documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reports.document import Document, Part, clean, invisible_note, plain
from reports.manifest import Terms, read_terms
from reports.passage import KnowledgeError

MAX_TEXT_BYTES = 2**25  # 32 MiB; a larger file of text is no guideline

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,4})\.?[ \t]+[^\W\d_]")
_CHARSETS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_LONGEST_HEADING = 100  # characters


class Outline:
    """Parts under construction: each heading closes the part before it, whose text ends where the heading begins."""

    def __init__(self, begin: int = 0) -> None:
        self.parts: list[Part] = []
        self._path: list[tuple[int, str]] = []  # (level, heading)
        self._start = begin
        self._own = (0, 0)  # where the last heading stands

    def heading(self, level: int, words: str, start: int, stop: int, text: str) -> None:
        """A heading of `level` (1 is outermost) that stands at text[start:stop]."""
        deeper = bool(self._path) and level > self._path[-1][0]
        self._close(start, text, deeper)
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, words))
        self._start, self._own = stop, (start, stop)

    def close(self, text: str) -> tuple[Part, ...]:
        """All parts; a heading with nothing under it is a part itself, so that its words are not lost."""
        self._close(len(text), text, False)
        return tuple(self.parts)

    def _close(self, stop: int, text: str, deeper: bool) -> None:
        headings = tuple(words for _, words in self._path)
        if text[self._start : stop].strip():
            self.parts.append(Part(self._start, stop, headings))
        elif headings and not deeper:
            self.parts.append(Part(*self._own, headings))


def decode(data: bytes, path: Path) -> tuple[str, tuple[str, ...]]:
    """(text, notes) of a file in UTF-8, or UTF-16 with its mark; invisible characters are removed.

    Raises: KnowledgeError for other encodings, which cannot be told apart safely, and for binary files.
    """
    encoding = next((name for mark, name in _CHARSETS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise KnowledgeError(
            f"{path}: byte {error.start} is not {encoding.removesuffix('-sig').upper()}; expected UTF-8 text."
            " Convert the file, for example with iconv."
        ) from error
    if text.count("\0") > 8 + len(text) // 100:
        raise KnowledgeError(
            f"{path}: full of NUL bytes; expected text. It is a binary file or UTF-16 without its mark."
        )
    text, removed = clean(text)
    return text, invisible_note(removed)


def read_markdown(data: bytes, path: Path) -> Document:
    """Markdown (CommonMark): headings with # or underlined, fenced code kept as text, front matter between ---.

    Raises: KnowledgeError as `decode` does.
    """
    text, notes = decode(data, path)
    terms, begin = _front_matter(text, path)
    outline = Outline(begin)
    fence, before, at_before = "", "", begin
    for start, stop in _lines(text, begin):
        line = text[start:stop]
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1][:3]
        elif not fence and (atx := _ATX.match(line)):
            outline.heading(len(atx[1]), plain(atx[2] or ""), start, stop, text)
        elif not fence and (under := _SETEXT.match(line)) and _may_be_setext(before):
            outline.heading(1 if under[1][0] == "=" else 2, plain(before), at_before, stop, text)
            line = ""
        before, at_before = line, start
    parts = tuple(Part(p.start, p.stop, tuple(h for h in p.headings if h)) for p in outline.close(text))
    return Document(text, parts, terms.title, terms, (), notes)


def read_plain(data: bytes, path: Path) -> Document:
    """Plain text: a short line alone between blank lines is a heading where it is numbered or in capitals."""
    text, notes = decode(data, path)
    outline = Outline()
    lines = list(_lines(text, 0))
    for i, (start, stop) in enumerate(lines):
        if stop - start > _LONGEST_HEADING:
            continue
        line = text[start:stop].strip()
        alone = all(not text[slice(*lines[j])].strip() for j in (i - 1, i + 1) if 0 <= j < len(lines))
        level = _plain_level(line) if line and alone and len(lines) > 1 else 0
        if level:
            outline.heading(level, plain(line), start, stop, text)
    return Document(text, outline.close(text), notes=notes)


def _plain_level(line: str) -> int:
    """1 for a line in capitals, the depth of its number for a numbered one, 0 for no heading."""
    if line[-1] in ".!?;,:":
        return 0
    numbered = _NUMBERED.match(line)
    if numbered:
        return numbered[1].count(".") + 1
    letters = [c for c in line if c.isalpha()]
    return 1 if len(letters) > 2 and line.upper() == line else 0


def _may_be_setext(before: str) -> bool:
    return (
        bool(before.strip()) and len(before) <= _LONGEST_HEADING and not re.match(r"\s*(?:[-*+>|#]|\d+[.)]\s)", before)
    )


def _lines(text: str, begin: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of every line from `begin`, without its line end."""
    while begin <= len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        yield begin, end
        begin = end + 1


def _front_matter(text: str, path: Path) -> tuple[Terms, int]:
    """(terms, offset of the body): `key: value` lines between two --- lines at the very top."""
    if not text.startswith("---\n"):
        return Terms(), 0
    end = text.find("\n---\n", 3, 2**16)
    if end < 0:
        return Terms(), 0
    pairs = (line.split(":", 1) for line in text[4 : end + 1].splitlines() if ":" in line)
    given = {key.strip().lower(): value.strip().strip("\"'") for key, value in pairs}
    known = {"license", *Terms.__dataclass_fields__}
    terms = read_terms({key: value for key, value in given.items() if key in known and value}, path, "the front matter")
    return terms, end + 5
