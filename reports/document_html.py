"""Web pages as documents, read by Beautiful Soup: headings, paragraphs, lists and tables as text, no scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.document import Document, clean, invisible_note, plain
from reports.document_text import Outline
from reports.manifest import Terms
from reports.passage import KnowledgeError

MAX_HTML_BYTES = 2**24  # 16 MiB

# no words for a reader; <form> stays, since some sites wrap the whole page in one
_DROPPED = frozenset(
    {"script", "style", "noscript", "template", "svg", "math", "canvas", "object", "embed", "iframe", "audio", "video"}
    | {"button", "select", "input", "textarea", "head"}
)
_FURNITURE = frozenset({"nav", "footer"})
_BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd", "details", "div", "dl", "dt"}
    | {"fieldset", "figcaption", "figure", "form", "header", "hr", "html", "li", "main", "ol", "p", "pre", "section"}
    | {"summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"}
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d]*[1-9])|opacity\s*:\s*0(?![.\d])", re.I
)
_LICENCES = ("dcterms.license", "dc.rights", "dcterms.rights", "licence", "license", "copyright")
_DATES = ("dcterms.modified", "article:modified_time", "dc.date", "dcterms.date", "last-modified", "date")


@dataclass
class _Sheet:
    """Text under construction and its headings; how many words were left out as hidden or as `furniture`."""

    pieces: list[str] = field(default_factory=list)
    length: int = 0
    hidden: int = 0
    furniture: int = 0
    headings: list[tuple[int, str, int, int]] = field(default_factory=list)

    def add(self, text: str) -> None:
        if text:
            self.pieces.append(text)
            self.length += len(text)

    def newline(self, blank: bool = False) -> None:
        last = self.pieces[-1] if self.pieces else "\n\n"
        if blank and not last.endswith("\n\n"):
            self.add("\n" if last.endswith("\n") else "\n\n")
        elif not last.endswith("\n"):
            self.add("\n")


def read_html(data: bytes, path: Path) -> Document:
    """A page as a document. Navigation, footers, forms and what a person does not see are left out; notes say so.

    The charset is that of the byte order mark, else what the page states, else UTF-8, else Windows-1252 with a note.
    Raises: KnowledgeError when nothing of it is text. Slow on some malformed pages: `reports.reading` bounds the time.
    """
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise KnowledgeError(
            f'{path}: HTML needs Beautiful Soup, which is not installed; pip install "medvlm-platform[knowledge]"'
        ) from error
    markup, notes = _decode(data)
    markup, removed = clean(markup)
    soup = BeautifulSoup(markup, "html.parser")
    sheet = _Sheet()
    _walk(soup, sheet)
    text = "".join(sheet.pieces)
    if not text.strip():
        raise KnowledgeError(
            f"{path}: found no text, expected an HTML page with some. Its text may be made by scripts."
        )
    outline = Outline()
    for level, words, start, stop in sheet.headings:
        outline.heading(level, words, start, stop, text)
    if sheet.furniture:
        notes = (*notes, f"left out {sheet.furniture} words of navigation and footers")
    if sheet.hidden:
        notes = (*notes, f"left out {sheet.hidden} words that the page hides from a reader")
    title = plain(soup.title.get_text()) if soup.title else ""
    terms, dated = _stated(soup)
    return Document(text, outline.close(text), title, terms, (), (*notes, *invisible_note(removed)), dated)


def _decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    from bs4.dammit import EncodingDetector

    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    stated = next((name for mark, name in marks.items() if data.startswith(mark)), None)
    stated = stated or EncodingDetector.find_declared_encoding(data, is_html=True)
    for charset in (stated, "utf-8"):
        try:
            if charset and charset.lower() not in ("utf-7", "idna", "punycode"):
                return data.decode(charset), ()
        except (UnicodeDecodeError, LookupError):
            continue
    wrong = f"the page states the charset {stated[:20]!r} and is not written in it" if stated else "no charset stated"
    return data.decode("cp1252", errors="replace"), (f"{wrong}: read as Windows-1252",)


def _walk(soup: Any, sheet: _Sheet) -> None:
    """Every element once, without recursion: markup may be nested as deep as it likes."""
    stack: list[tuple[Any, bool]] = [(soup, False)]
    while stack:
        node, leaving = stack.pop()
        if isinstance(node, str):
            if type(node).__name__ == "NavigableString":  # not a comment, declaration or script
                _say(node, sheet)
            continue
        name = node.name
        if leaving:
            _leave(name, sheet)
            continue
        if name in _DROPPED:
            continue
        if name in _FURNITURE:
            sheet.furniture += len(node.get_text(" ").split())
            continue
        if _is_hidden(node):
            sheet.hidden += len(node.get_text(" ").split())
            continue
        if name == "table" and node.find("table") is None:
            _table(node, sheet)
            continue
        if name in _HEADINGS:
            _heading(node, sheet)
            continue
        if name == "li":
            sheet.newline()
            sheet.add("- ")
        elif name in _BLOCKS:
            sheet.newline(blank=name not in ("br", "tr", "td", "th", "dd"))
        stack.append((node, True))
        stack.extend((child, False) for child in reversed(node.contents))


def _leave(name: str, sheet: _Sheet) -> None:
    if name == "li":
        sheet.newline()
    elif name in _BLOCKS:
        sheet.newline(blank=name not in ("br", "tr", "td", "th", "dd"))


def _say(text: str, sheet: _Sheet) -> None:
    words = " ".join(text.split())
    last = sheet.pieces[-1] if sheet.pieces else "\n"
    if text[:1].isspace() and not last.endswith(("\n", " ")):
        words = " " + words
    if words.strip() and text[-1:].isspace():
        words += " "
    if words.strip() or not last.endswith(("\n", " ")):
        sheet.add(words)


def _heading(node: Any, sheet: _Sheet) -> None:
    words = plain(node.get_text(" "))
    if words:
        sheet.newline(blank=True)
        start = sheet.length
        sheet.add(words)
        sheet.headings.append((_HEADINGS[node.name], words, start, sheet.length))
        sheet.newline(blank=True)


def _is_hidden(node: Any) -> bool:
    style = node.get("style") or ""
    return node.has_attr("hidden") or (isinstance(style, str) and _HIDDEN.search(style) is not None)


def _table(node: Any, sheet: _Sheet) -> None:
    """A table as lines, one for each row. With a plain row of headers each cell says its header, so that a row can be
    read alone; where cells span several rows or columns the headers would be guesses, and cells stand side by side.
    """
    sheet.newline(blank=True)
    caption = node.find("caption")
    if caption is not None:
        sheet.add(plain(caption.get_text(" ")))
        sheet.newline()
    rows = [row.find_all(["td", "th"]) for row in node.find_all("tr")]
    rows = [row for row in rows if row]
    spans = any(cell.has_attr("rowspan") or cell.has_attr("colspan") for row in rows for cell in row)
    headed = bool(rows) and all(cell.name == "th" for cell in rows[0]) and len(rows[0]) > 1 and not spans
    headers = [_cell(cell) for cell in rows[0]] if headed else []
    for row in rows[1:] if headed and len(rows) > 1 else rows:
        cells = [_cell(cell) for cell in row]
        if headed and len(cells) == len(headers):
            said = [f"{h}: {c}" if h else c for h, c in zip(headers, cells, strict=True) if c]
            sheet.add("; ".join(said) + ("." if said else ""))
        else:
            sheet.add(" | ".join(cells))
        sheet.newline()
    sheet.newline(blank=True)


def _cell(cell: Any) -> str:
    return " ".join(clean(" ".join(_visible(cell)))[0].split())


def _visible(cell: Any) -> Iterator[str]:
    for text in cell.find_all(string=True):
        if not any(parent.name in _DROPPED or _is_hidden(parent) for parent in text.parents if parent.name):
            yield str(text)


def _stated(soup: Any) -> tuple[Terms, str]:
    """(what the page states about itself in its head, when it was last changed)."""
    stated: dict[str, str] = {}
    for meta in soup.find_all("meta"):
        name, content = meta.get("name") or meta.get("property"), meta.get("content")
        if isinstance(name, str) and isinstance(content, str):
            stated.setdefault(name.lower(), plain(content))
    links: dict[str, str] = {}
    for link in soup.find_all(["link", "a"], rel=True, href=True):
        for rel in link["rel"]:
            links.setdefault(rel.lower(), plain(link["href"]))
    terms = Terms(
        licence=next((stated[key] for key in _LICENCES if stated.get(key)), links.get("license", "")),
        publisher=stated.get("dcterms.publisher") or stated.get("dc.publisher") or stated.get("citation_publisher", ""),
        url=links.get("canonical", ""),
    )
    changed = next((stated[key] for key in _DATES if stated.get(key)), "")
    return terms, f"page of {changed}" if changed else ""
