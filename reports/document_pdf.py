"""PDF files as documents, read by pypdf: pages, headings, running heads left out, words at line ends put together."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import Any

from reports.document import Document, clean, invisible_note, plain
from reports.document_text import MAX_TEXT_BYTES, Outline
from reports.manifest import Terms
from reports.passage import KnowledgeError
from reports.pdf_layout import Line, compound_words, headings, join_lines, running_lines

MAX_PDF_BYTES = 2**28  # 256 MiB
MAX_PAGES = 5000
MIN_LETTERS = 20
"""Pages with fewer characters on average have no text layer worth the name."""

_OFFICE = re.compile(r"^(?:microsoft \w+ - |untitled|.*\.(?:docx?|pdf|indd|qxd|tex|dvi|pptx?)$)", re.I)
_LIGATURES = str.maketrans(
    {
        "ﬀ": "ff",
        "ﬁ": "fi",
        "ﬂ": "fl",
        "ﬃ": "ffi",
        "ﬄ": "ffl",
        "ﬅ": "st",
        "ﬆ": "st",
        "\u00a0": " ",
        "\u2010": "-",
        "\u2011": "-",
    }
)


def read_pdf(data: bytes, path: Path) -> Document:
    """A PDF as a document; `page_starts` are its pages, headings come from its outline, else from the size of the type.

    Raises: KnowledgeError with the reason for what is no PDF, is damaged, encrypted, has no text layer or one in
    fonts that say not what their signs mean. `reports.reading` bounds the time and the memory of hostile files.
    """
    try:
        import pypdf
    except ImportError as error:
        raise KnowledgeError(
            f'{path}: PDF needs pypdf, which is not installed; pip install "medvlm-platform[knowledge]"'
        ) from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its warnings quote the file
    try:
        reader = pypdf.PdfReader(io.BytesIO(data), strict=False)
        _open_lock(reader, path)
        count = len(reader.pages)
        if count > MAX_PAGES:
            raise KnowledgeError(f"{path}: {count} pages, expected at most {MAX_PAGES}. Split the file.")
        pages, removed = _pages(reader, path)
        outline, stated = _outline(reader), _information(reader)
        pictures = _pictures(reader) if not any(pages) or sum(map(_letters, pages)) < MIN_LETTERS * count else 0
    except KnowledgeError:
        raise
    except RecursionError as error:
        raise KnowledgeError(f"{path}: its objects refer to each other in a circle; expected a sound PDF.") from error
    except Exception as error:  # pypdf raises every kind on damaged files
        words = plain(str(error))[:120]
        raise KnowledgeError(
            f"{path}: damaged PDF ({type(error).__name__}{': ' + words if words else ''}); expected a readable one."
            " Open it in a viewer and save or print it anew."
        ) from error
    _check_text(pages, pictures, path)
    return _document(pages, outline, stated, removed)


def _open_lock(reader: Any, path: Path) -> None:
    """Many files are locked against changes only, with an empty password; anybody may read these."""
    if reader.is_encrypted and not reader.decrypt(""):
        raise KnowledgeError(
            f"{path}: encrypted with a password; expected a PDF that opens without one. Save it without."
        )


def _pages(reader: Any, path: Path) -> tuple[list[list[Line]], int]:
    """(lines of every page, number of invisible characters removed)."""
    pages: list[list[Line]] = []
    total = removed = 0
    for page in reader.pages:
        fragments: list[tuple[str, float, float]] = []
        page.extract_text(visitor_text=lambda *seen, out=fragments: out.append(_fragment(*seen)))
        lines: list[Line] = []
        for line in _lines(fragments):
            words, gone = clean(line.text)
            removed += gone
            if words.strip():
                lines.append(Line(words.strip(), line.size, line.y))
        total += sum(len(line.text) for line in lines)
        if total > MAX_TEXT_BYTES:
            raise KnowledgeError(f"{path}: more than {MAX_TEXT_BYTES // 2**20} MiB of text; it is no guideline.")
        pages.append(lines)
    return pages, removed


def _fragment(text: str, user: list[float], matrix: list[float], font: Any, size: float) -> tuple[str, float, float]:
    """(text, height of its type, height on the page) in points."""
    scale = (matrix[2] ** 2 + matrix[3] ** 2) ** 0.5 * (user[2] ** 2 + user[3] ** 2) ** 0.5
    return text, round((size or 0) * scale, 1), round(user[1] * matrix[4] + user[3] * matrix[5] + user[5], 1)


def _lines(fragments: list[tuple[str, float, float]]) -> list[Line]:
    """Fragments as lines; a line has the size of most of its characters and the height of its first."""
    lines: list[Line] = []
    held: list[tuple[str, float, float]] = []
    for text, size, y in [*fragments, ("\n", 0.0, 0.0)]:
        first, *others = text.split("\n")
        held.append((first, size, y))
        for other in others:
            said = [f for f in held if f[0].strip()]
            if said:
                sizes: dict[float, int] = {}
                for piece, high, _ in said:
                    sizes[high] = sizes.get(high, 0) + len(piece.strip())
                words = "".join(piece for piece, _, _ in held).translate(_LIGATURES)
                lines.append(Line(words, max(sizes, key=lambda s: sizes[s]), said[0][2]))
            held = [(other, size, y)]
    return lines


def _letters(page: list[Line]) -> int:
    return sum(len(line.text) for line in page)


def _pictures(reader: Any) -> int:
    """Pages that hold an image."""
    found = 0
    for page in reader.pages:
        resources: Any = page.get("/Resources")
        objects: Any = resources.get_object().get("/XObject") if resources else None
        drawn = objects.get_object().values() if objects else ()
        found += any(one.get_object().get("/Subtype") == "/Image" for one in drawn)
    return found


def _check_text(pages: list[list[Line]], pictures: int, path: Path) -> None:
    letters = sum(map(_letters, pages))
    if letters < MIN_LETTERS * max(1, len(pages)) and (pictures or not letters):
        raise KnowledgeError(
            f"{path}: no text layer: {letters} characters on {len(pages)} pages, {pictures} with pictures; expected"
            " text. It is a scan: run OCR on it first, for example with ocrmypdf."
        )
    strange = sum(1 for page in pages for line in page for c in line.text if c == "\ufffd" or "\ue000" <= c <= "\uf8ff")
    named = sum(
        len(match) for page in pages for line in page for match in re.findall(r"\(cid:\d+\)|/[A-Z]\d{2,3}\b", line.text)
    )
    if strange + named > 0.2 * letters:
        raise KnowledgeError(
            f"{path}: {(strange + named) / letters:.0%} of its text is in fonts that do not say which letters their"
            " signs are; expected readable text. Print it to a new PDF, or run OCR on it."
        )


def _outline(reader: Any) -> list[tuple[int, str, int]]:
    """(level, title, page from 0) of the outline, in order; what points nowhere is left out."""
    found: list[tuple[int, str, int]] = []
    try:
        stack: list[tuple[Any, int]] = [(item, 1) for item in reversed(reader.outline)]
        while stack and len(found) < 10_000:
            item, level = stack.pop()
            if isinstance(item, list):
                stack.extend((inner, level + 1) for inner in reversed(item))
                continue
            page = reader.get_destination_page_number(item)
            if page is not None and page >= 0 and item.title:
                found.append((level, plain(str(item.title)), page))
    except Exception:  # a broken outline costs the outline only: headings are then told by size
        return []
    return found


def _information(reader: Any) -> tuple[str, str]:
    """(title, date of the last change) of the file, empty where not stated or only the name of a file."""
    try:
        information = reader.metadata
        title = plain(str(information.title or "")) if information else ""
        changed = (information.modification_date or information.creation_date) if information else None
    except Exception:  # dates and titles in odd forms are not worth a refusal
        return "", ""
    return ("" if _OFFICE.match(title) else title), (f"file of {changed.date().isoformat()}" if changed else "")


def _document(
    pages: list[list[Line]], outline: list[tuple[int, str, int]], stated: tuple[str, str], removed: int
) -> Document:
    empty = [str(number) for number, page in enumerate(pages, 1) if not page]
    repeated = running_lines(pages)
    kept = [[line for i, line in enumerate(page) if (p, i) not in repeated] for p, page in enumerate(pages)]
    marks = headings(kept, outline)
    text, page_starts, places = join_lines(kept, set(marks), compound_words(kept))
    sections = Outline()
    for key, (level, words) in marks.items():
        sections.heading(level, words, *places[key], text)
    notes = []
    if repeated:
        said = dict.fromkeys(re.sub(r"\d+", "#", pages[p][i].text)[:60] for p, i in sorted(repeated))
        notes.append(f"left out {len(repeated)} running heads and feet: {'; '.join(list(said)[:6])}")
    if empty:
        notes.append(
            f"no text on {len(empty)} of {len(pages)} pages ({', '.join(empty[:10])}{', …' if len(empty) > 10 else ''})"
        )
    title, changed = stated
    notes += invisible_note(removed)
    return Document(text, sections.close(text), title, Terms(), page_starts, tuple(notes), changed)
