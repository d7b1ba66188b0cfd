"""Split a report into sections and sentences."""

from __future__ import annotations

import re
from itertools import pairwise

from reports.headings import headings

# "1. ", "2) ", "(3) ", "- ", also "1.Left effusion" without a blank.
_BULLET = re.compile(
    r"(^|[.!?;:]\s+|\n[ \t]*)(?:\(?\d{1,2}[.)](?:\s+|(?=[A-Z][a-z]))|#\d{1,2}[.:)]?\s+"
    r"|[-–•*·‣►▪]\s+|[a-h]\)\s+"
    r"|(?-i:[ivx]{1,4})\)\s+)(?=\S)"
)
_QUOTE = re.compile(r'(?<=[.\s])"|"(?=\s|$)|^"')  # some exports put each item of a list in quotation marks
_STOP = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n\s*\n")
_GLUED = re.compile(r"(?<=[a-z)])\.(?=[A-Z][a-z])")  # "in the apex.There are": a space was lost
_ABBREVIATION = re.compile(
    r"(?:\b(?:drs?|mr|mrs|ms|prof|vs|approx|ca|fig|i\.e|e\.g|cf|incl|resp|max|min|dia|et al|sup|inf|lat|ant|post"
    r"|bilat|ser|img"
    r"|pt|hosp|dept|resp|a\.m|p\.m)\.|\b[a-z]\.)$",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"\b(?:no|nos|st|im|se|ser|vol|sec|seg)\.$", re.IGNORECASE
)  # "no. 4", "seg. 6"; but "Effusion: no."
_LONGEST_ABBREVIATION = 10  # characters that are looked at before a full stop
_MEASURED = re.compile(r"\d ?(?:mm|cm|ml|cc|in)\.$", re.IGNORECASE)  # "a 5 mm. nodule"
_LONG_SENTENCE = 800  # characters; no sentence of the public reports that the labels are measured on is longer
_LONG_LINE = 55  # characters; a longer line that ends without a full stop was wrapped by a machine


def split_sections(text: str) -> dict[str, str]:
    """Section name -> text, in the order of the report.

    Names: indication, technique, comparison, findings, impression, recommendation, addendum, communication (whom the
    result was told), signature; synonyms ("CONCLUSION", "Reason for exam", "Technical factors") are understood
    (`headings.py`). Text without headings is findings. Text before the first heading is findings when no findings
    heading follows, otherwise it names the examination and goes to technique. A repeated heading appends.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    found = headings(text)
    if not found:
        return {"findings": text.strip()} if text.strip() else {}
    sections: dict[str, str] = {}
    opening = text[: found[0].start].strip()
    if opening:
        sections["technique" if any(one.section == "findings" for one in found) else "findings"] = opening
    ends = [one.start for one in found[1:]] + [len(text)]
    for one, end in zip(found, ends, strict=True):
        body = text[one.stop : end].strip()
        if body:
            sections[one.section] = f"{sections[one.section]}\n{body}" if one.section in sections else body
    return sections


def section_sentences(text: str) -> list[tuple[str, str]]:
    """(section, sentence) of the whole report, in the order of the text; numbering and headings are removed."""
    return [(name, sentence) for name, body in split_sections(text).items() for sentence in _split(body)]


def sentences(text: str) -> list[str]:
    """The sentences of a report or a section, without headings and numbering, with their full stops."""
    return [sentence for _, sentence in section_sentences(text)]


def _split(body: str) -> list[str]:
    body = _GLUED.sub(". ", _QUOTE.sub("\n\n", body))
    body = _join_lines(_BULLET.sub(r"\1\n\n", body))
    made: list[str] = []
    for piece in _STOP.split(body):
        sentence = " ".join(piece.split())
        if not any(character.isalpha() for character in sentence):
            continue
        if made and _runs_on(made[-1], sentence):
            made[-1] += " " + sentence
        else:
            made.append(sentence)
    if all(len(sentence) <= _LONG_SENTENCE for sentence in made):
        return made
    return [part for sentence in made for part in _cut(sentence)]


def _cut(sentence: str) -> list[str]:
    """A sentence without end (lists of a machine, lost full stops) in parts, so that the time to read it is bounded."""
    parts = []
    while len(sentence) > _LONG_SENTENCE:
        at = sentence.rfind(" ", _LONG_SENTENCE // 2, _LONG_SENTENCE)
        at = _LONG_SENTENCE if at < 0 else at
        parts.append(sentence[:at].strip())
        sentence = sentence[at:].strip()
    return [*parts, sentence] if sentence else parts


def _runs_on(before: str, sentence: str) -> bool:
    """Whether the full stop between two pieces belongs to an abbreviation, a number or a unit."""
    if not before.endswith("."):
        return False
    end = before[-_LONGEST_ABBREVIATION:]
    if _ABBREVIATION.search(end):
        return True
    if sentence[0].isdigit():
        return _NUMBERED.search(end) is not None
    return sentence[0].islower() and _MEASURED.search(end) is not None


def _join_lines(body: str) -> str:
    """Join lines that a machine wrapped; keep the breaks that end a sentence, as blank lines."""
    lines = body.split("\n")
    joined = lines[0]
    for before, line in pairwise(lines):
        start = line.strip()[:1]
        wrapped = before.strip() and start and (start.islower() or len(before) > _LONG_LINE)
        ended = before.rstrip()[-1:] in ".!?:;"
        joined += (" " if wrapped and not ended else "\n\n") + line
    return joined
