"""What the lines of a PDF are: running heads, headings, and words that were broken at the end of a line."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

MIN_PAGES = 3
"""Pages on which a line must return before it is a running head."""

RUNNING_SHARE = 0.4
"""Share of pages on which a line must return: heads of left and right pages differ."""

_EDGE = 2  # lines at the top and at the bottom of a page among which running heads are sought
_DRIFT = 3.0  # points by which a running head may move between pages
_LARGER = 1.12  # times the size of the body from which type is a heading
_LONGEST = 140  # characters of a heading
_NUMBER = re.compile(r"\d+")
_HYPHEN = re.compile(r"(\w+)-$")
_KEEPS_HYPHEN = frozenset(
    {"non", "ground", "follow", "low", "high", "well", "long", "short", "self", "x", "post", "pre", "anti", "semi"}
)


class Line(NamedTuple):
    """A line of text, the size of its type and its height on the page, in points."""

    text: str
    size: float
    y: float


Key = tuple[int, int]  # page from 0, line on it


def body_size(pages: Sequence[Sequence[Line]]) -> float:
    """The size of type in which most of the text stands; 0 for no text."""
    return max(_letters_by_size(pages).items(), key=lambda item: item[1], default=(0.0, 0))[0]


def _letters_by_size(pages: Sequence[Sequence[Line]]) -> Counter[float]:
    letters: Counter[float] = Counter()
    for page in pages:
        for line in page:
            letters[line.size] += len(line.text)
    return letters


def running_lines(pages: Sequence[Sequence[Line]]) -> set[Key]:
    """Running heads and feet: the same words at the same height near the edge of many pages.

    Their numbers must be the same on every page or count with the pages, so that "Recommendation 3" on top of a page is
    not taken for one; nor is larger type, which is a heading.
    """
    largest = _LARGER * body_size(pages)
    places: dict[tuple[str, int], list[tuple[Key, tuple[int, ...]]]] = defaultdict(list)
    for p, page in enumerate(pages):
        edge = {*range(min(_EDGE, len(page))), *range(max(0, len(page) - _EDGE), len(page))}
        for i in edge:
            line = page[i]
            if line.size >= largest:
                continue
            numbers = tuple(int(n[:9]) for n in _NUMBER.findall(line.text))
            words = " ".join(_NUMBER.sub("#", line.text).casefold().split())
            places[words, round(line.y / _DRIFT)].append(((p, i), numbers))
    needed = max(MIN_PAGES, RUNNING_SHARE * len(pages))
    found: set[Key] = set()
    for (words, at), seen in places.items():
        near = [*seen, *places.get((words, at - 1), ()), *places.get((words, at + 1), ())]
        if len({key[0] for key, _ in near}) >= needed and _counts_with_pages(near):
            found.update(key for key, _ in seen)
    # a line of the second row is one only beside another of the outermost row
    return {(p, i) for p, i in found if i in (0, len(pages[p]) - 1) or (p, i - 1 if i == 1 else i + 1) in found}


def _counts_with_pages(seen: Sequence[tuple[Key, tuple[int, ...]]]) -> bool:
    """Whether each number is constant or the page plus a constant, but for one page in ten."""
    for column in zip(*(numbers for _, numbers in seen), strict=False):
        same = Counter(column).most_common(1)[0][1]
        counting = Counter(n - key[0] for n, (key, _) in zip(column, seen, strict=True)).most_common(1)[0][1]
        if max(same, counting) < 0.9 * len(seen):
            return False
    return True


def headings(pages: Sequence[Sequence[Line]], outline: Sequence[tuple[int, str, int]]) -> dict[Key, tuple[int, str]]:
    """(level, words) of the lines that are headings, in the order of the text.

    The outline says them where its titles are found on their pages; else larger type does, its sizes being the levels.
    """
    marks = _by_outline(pages, outline)
    if not marks:
        marks = _by_size(pages)
    return {key: marks[key] for key in sorted(marks)}


def _by_outline(pages: Sequence[Sequence[Line]], outline: Sequence[tuple[int, str, int]]) -> dict[Key, tuple[int, str]]:
    marks: dict[Key, tuple[int, str]] = {}
    for level, title, p in outline:
        wanted = _letters(title)
        for i, line in enumerate(pages[p] if p < len(pages) else ()):
            said = _letters(line.text)
            if said and (p, i) not in marks and (said == wanted or (len(said) > 8 and wanted.startswith(said))):
                marks[p, i] = (level, title)
                break
    return marks if 2 * len(marks) >= len(outline) else {}


def _by_size(pages: Sequence[Sequence[Line]]) -> dict[Key, tuple[int, str]]:
    letters = _letters_by_size(pages)
    body = body_size(pages)
    sizes = sorted(
        {size for size in letters if size >= _LARGER * body and letters[size] < 0.2 * letters.total()}, reverse=True
    )
    level = {size: min(i, 5) + 1 for i, size in enumerate(sizes)}
    marks: dict[Key, tuple[int, str]] = {}
    for p, page in enumerate(pages):
        for i, line in enumerate(page):
            if line.size not in level or len(line.text) > _LONGEST or not any(c.isalpha() for c in line.text):
                continue
            words = " ".join(line.text.split())
            if i and page[i - 1].size == line.size and (p, i - 1) in marks:  # a heading on two lines
                marks[p, i - 1] = (level[line.size], f"{marks[p, i - 1][1]} {words}")
            else:
                marks[p, i] = (level[line.size], words)
    return marks


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def compound_words(pages: Sequence[Sequence[Line]]) -> frozenset[str]:
    """Words that the document writes with a hyphen within a line, such as "ground-glass"."""
    return frozenset(word.casefold() for page in pages for line in page for word in re.findall(r"\w+-\w+", line.text))


def join_lines(
    pages: Sequence[Sequence[Line]], marks: Collection[Key], compounds: frozenset[str]
) -> tuple[str, tuple[int, ...], dict[Key, tuple[int, int]]]:
    """(text, offset of each page, span of each heading): lines that end in a hyphen are joined to the next.

    The hyphen stays where the document writes the word with one elsewhere ("low-dose"), or after a prefix with one.
    """
    pieces: list[str] = []
    length, starts, spans = 0, [], {}
    broken = ""  # the first half of a word at the end of the last line
    for p, page in enumerate(pages):
        starts.append(length)
        for i, line in enumerate(page):
            text = line.text
            key = (p, i)
            if broken and text[:1].islower():
                second = re.match(r"\w+", text)
                whole = f"{broken}-{second[0] if second else ''}".casefold()
                if whole not in compounds and broken.casefold() not in _KEEPS_HYPHEN and not broken.isdigit():
                    length -= len(pieces[-1])
                    pieces[-1] = pieces[-1].removesuffix("-")
                    length += len(pieces[-1])
            elif pieces:
                gap = "\n\n" if key in marks or (i == 0 and _ended(pieces[-1])) else "\n"
                pieces.append(gap)
                length += len(gap)
            if i == 0:
                starts[-1] = length
            pieces.append(text)
            spans[key] = (length, length + len(text))
            length += len(text)
            if key in marks:
                pieces.append("\n")
                length += 1
            broken = match[1] if key not in marks and (match := _HYPHEN.search(text)) else ""
    return "".join(pieces), tuple(starts), {key: spans[key] for key in marks}


def _ended(text: str) -> bool:
    return text.rstrip()[-1:] in ".!?:"
