"""A document as its reader gives it: text, headings, pages; and its cutting into passages of bounded length."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from reports.injection import looks_like_instructions
from reports.manifest import Terms
from reports.passage import NO_LICENCE, Passage

MAX_CHARACTERS = 1500
"""Longest passage, in characters of the document: about a quarter of a page."""

# A blank line, or white space after the end of a sentence and before the start of another. No alternative begins with
# a repeat, so that a line of 50 MB of blanks costs one scan.
_BORDER = re.compile(r"\n[ \t]*\n\s*|(?<=[.!?])[\"'”’)\]]*\s+(?=[A-Z0-9\"“'\u2018(\[•*|-])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:dr|prof|vs|approx|figs?|tab|e\.g|i\.e|cf|al|eds?|vol|pp?|st|incl|resp|max|min|dept)\.|\b[A-Z]\.)$", re.I
)
# They change how a line looks to a person and not what a program reads: control characters, soft hyphens, zero-width
# signs, orders of direction, tags; and halves of surrogate pairs, which cannot be written out at all.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ud800-\udfff\ufeff\U000e0000-\U000e007f]"
)


@dataclass(frozen=True)
class Part:
    """A run of text under the same headings: characters `start` to `stop` (exclusive), headings outermost first."""

    start: int
    stop: int
    headings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """What a reader found in one file.

    Attributes:
        text: All of its text. Headings that stand over a part need not be part of any part.
        parts: In the order of the text, without overlap.
        title: The title that the document states, or empty.
        terms: What it states about itself.
        dated: When it was last changed, by its own word: its version where nobody states one.
        page_starts: Offset in `text` at which each page begins; empty where the format has no pages.
        notes: What was left out or guessed, for people.
    """

    text: str
    parts: tuple[Part, ...]
    title: str = ""
    terms: Terms = field(default_factory=Terms)
    page_starts: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    dated: str = ""

    def pages(self, start: int, stop: int) -> tuple[int, ...]:
        """Pages, counted from 1, that the characters from `start` to `stop` lie on."""
        if not self.page_starts:
            return ()
        return tuple(range(max(1, bisect_right(self.page_starts, start)), bisect_left(self.page_starts, stop) + 1))


def clean(text: str) -> tuple[str, int]:
    """(text with plain line ends and without invisible characters, how many of these were removed)."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n")
    return _INVISIBLE.subn("", text)


def invisible_note(removed: int) -> tuple[str, ...]:
    """The note about what `clean` removed."""
    return (f"left out {removed} invisible characters (control, zero-width or direction signs)",) if removed else ()


def cut(text: str, start: int, stop: int, limit: int = MAX_CHARACTERS) -> Iterator[tuple[int, int]]:
    """Spans of at most `limit` characters that together hold all of text[start:stop] but white space at their borders.

    They end at the end of a sentence, past half of the limit at the end of a paragraph; only a sentence that is longer
    than the limit is cut between words, and only a word that is longer is cut itself.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}, expected at least 1 character")
    begin = last = start
    for end, paragraph in _borders(text, start, stop):
        if end - begin > limit and last > begin:
            yield from _trimmed(text, begin, last)
            begin = last
        while end - begin > limit:
            middle = _word_border(text, begin, begin + limit)
            yield from _trimmed(text, begin, middle)
            begin = middle
        last = end
        if paragraph and end - begin >= limit / 2:
            yield from _trimmed(text, begin, end)
            begin = end
    yield from _trimmed(text, begin, stop)


def _borders(text: str, start: int, stop: int) -> Iterator[tuple[int, bool]]:
    """(offset at which a sentence has ended, whether its paragraph has too), the last being `stop`."""
    for match in _BORDER.finditer(text, start, stop):
        paragraph = match[0][0] == "\n" and match[0].count("\n") > 1
        if paragraph or not _ABBREVIATION.search(text, max(start, match.start() - 12), match.start()):
            yield match.end(), paragraph
    yield stop, True


def _word_border(text: str, begin: int, end: int) -> int:
    """The last place between words in text[begin:end], or `end`."""
    kept = text[begin:end].rsplit(None, 1)
    if len(kept) < 2 or text[end : end + 1].isspace():
        return end
    return end - len(kept[1])


def _trimmed(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    piece = text[begin:end]
    words = piece.strip()
    if words:
        begin += len(piece) - len(piece.lstrip())
        yield begin, begin + len(words)


@dataclass(frozen=True)
class Place:
    """Where a document stands in its source: name of the source, path within it, digest of the file."""

    source: str
    file: str
    digest: str


def passages_of(document: Document, place: Place, general: Terms, special: Terms, today: date) -> Iterator[Passage]:
    """The passages of a document.

    Args:
        general: What holds for the whole source; what the document states goes before it.
        special: What is stated for this document from outside; it goes before what the document states.
        today: Day on which a passage is expired when its `valid_until` lies before.
    """
    terms = special.before(document.terms).before(general)
    shared = {
        "source": terms.source or place.source,
        "url": terms.url,
        "version": terms.version or document.dated or place.digest,
        "licence": terms.licence or NO_LICENCE,
        "file": place.file,
        "publisher": terms.publisher,
        "valid_until": terms.valid_until.isoformat() if terms.valid_until else "",
    }
    expired = ("expired",) if terms.expired(today) else ()
    count = 0
    for part in document.parts:
        title, section = _named(special.title or document.title or general.title, part.headings, place.file)
        for start, stop in cut(document.text, part.start, part.stop):
            count += 1
            text = document.text[start:stop]
            flags = (*expired, *(("instructions",) if looks_like_instructions(text) else ()))
            yield Passage(
                text=" ".join(text.split()),
                title=title,
                section=section,
                passage_id=f"{place.source}:{place.file}#{count}",
                pages=document.pages(start, stop),
                span=(start, stop),
                flags=flags,
                **shared,
            )


def _named(title: str, headings: tuple[str, ...], file: str) -> tuple[str, str]:
    """(title, section): without a stated title, the outermost heading is the title, else the name of the file."""
    if not title and headings:
        title, headings = headings[0], headings[1:]
    elif headings and headings[0].casefold() == title.casefold():
        headings = headings[1:]
    stem = file.rsplit("/", 1)[-1].rsplit(".", 1)[0].replace("_", " ")
    return title or stem, " > ".join(headings)


def plain(text: str, limit: int = 200) -> str:
    """A heading or title on one line, at most `limit` characters, compatibility forms such as ligatures resolved."""
    return " ".join(unicodedata.normalize("NFKC", clean(text[: 4 * limit])[0]).split())[:limit]
