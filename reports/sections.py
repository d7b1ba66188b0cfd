"""Split a report into sections and sentences."""

from __future__ import annotations

import re
from itertools import pairwise

_HEADINGS = {
    "indication": r"(?:clinical )?indications?|(?:clinical |medical |patient )?history|clinical (?:information"
    r"|data|statement|details)"
    r"|reason for (?:the )?(?:exam(?:ination)?|study|test)",
    "technique": r"technique|procedure|protocol|exam(?:ination)?(?: type)?|study|views?",
    "comparison": r"comparisons?|(?:prior|previous) (?:studies|study|exams?|examinations?)|compared (?:to|with)",
    "findings": r"(?:chest |lung |radiographic |ct )?findings?(?: and impression|/ ?impression)?|report"
    r"|observations?|description",
    "impression": r"(?:final )?impressions?|conclusions?|opinion|summary|interpretation|assessment",
    "recommendation": r"recommendations?|advice|follow-?up recommendations?",
}
_NAMES = "|".join(f"(?P<{key}>{pattern})" for key, pattern in _HEADINGS.items())
# A heading stands at the start of a line with a colon, or alone on its line; within a line it needs a sentence end
# before it and a colon after it.
_HEADING = re.compile(
    rf"(?:^|\n)[ \t>*#_]*(?:{_NAMES})[ \t*_]*(?::[ \t*_]*|(?=\n))"
    rf"|(?<=[.!?\"]) +(?:{_NAMES.replace('(?P<', '(?P<in_')}) ?:[ \t]*",
    re.IGNORECASE,
)
_BULLET = re.compile(r"(^|[.!?;:]\s+|\n[ \t]*)(?:\(?\d{1,2}[.)]\s+|[-•*]\s+)(?=\S)")
_QUOTE = re.compile(r'(?<=[.\s])"|"(?=\s|$)|^"')  # some exports put each item of a list in quotation marks
_STOP = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n\s*\n")
_GLUED = re.compile(r"(?<=[a-z)])\.(?=[A-Z][a-z])")  # "in the apex.There are": a space was lost
_ABBREVIATION = re.compile(
    r"(?:\b(?:dr|vs|approx|st|fig|i\.e|e\.g|cf|incl|resp|max|min|dia)\.|\b[a-z]\.)$", re.IGNORECASE
)
_LONG_LINE = 55  # characters; a longer line that ends without a full stop was wrapped by a machine


def split_sections(text: str) -> dict[str, str]:
    """Section name -> text, in the order of the report.

    Names: indication, technique, comparison, findings, impression, recommendation; synonyms ("CONCLUSION",
    "Reason for exam") are understood. Text without headings is findings. Text before the first heading is findings when
    no findings heading follows, otherwise it names the examination and goes to technique. A repeated heading appends.
    """
    matches = list(_HEADING.finditer(text))
    if not matches:
        return {"findings": text.strip()} if text.strip() else {}
    sections: dict[str, str] = {}
    names = [_name(match) for match in matches]
    opening = text[: matches[0].start()].strip()
    if opening:
        sections["technique" if "findings" in names else "findings"] = opening
    ends = [match.start() for match in matches[1:]] + [len(text)]
    for name, match, end in zip(names, matches, ends, strict=True):
        body = text[match.end() : end].strip()
        if body:
            sections[name] = f"{sections[name]}\n{body}" if name in sections else body
    return sections


def _name(match: re.Match[str]) -> str:
    found = match.lastgroup or "findings"
    return found.removeprefix("in_")


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
        if made and _ABBREVIATION.search(made[-1]):
            made[-1] += " " + sentence
        else:
            made.append(sentence)
    return made


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
