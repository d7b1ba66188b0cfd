"""The headings of report sections in many house styles, and where they stand in a text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_EXAM = r"(?:exam(?:ination)?|study|test|visit|scan|imaging|referral|request|consult(?:ation)?|procedure|ct|x-?ray)"
_KINDS = (
    r"(?:chest|lungs?|radiographic|radiologic(?:al)?|imaging|ct|mri?|x-?ray|us|ultrasound|pet(?:/ct)?|key"
    r"|detailed|main|other"
    r"|additional|incidental|pertinent|positive|thorax|description of)"
)
SECTIONS: dict[str, str] = {
    "indication": rf"(?:clinical |study )?indications?(?: for (?:the )?{_EXAM})?"
    r"|(?:(?:clinical|medical|patient|brief|relevant|past medical|surgical|present|social|family) )?(?:history|hx)"
    r"(?: of (?:the )?present illness)?(?: and indications?)?"
    r"|clinical (?:information|data|statement|details|questions?|context|background|diagnos[ie]s|notes?|problem"
    r"|concern"
    r"|presentation|summary|impression)"
    rf"|reasons? for (?:the |this )?{_EXAM}|(?:referral |clinical )?question|(?:presenting |chief )complaints?"
    rf"|symptoms?"
    r"|(?:provisional|admitting|referring) diagnosis|request(?:ed)? information|history and reason for exam",
    "technique": r"(?:imaging |scan(?:ning)? |mr |ct )?techniques?|technical (?:factors|details|notes?|data"
    r"|quality|information)"
    r"|(?:current )?procedures?(?: performed| descriptions?)?|(?:scan )?protocol|current procedure descriptions?"
    r"|exam(?:ination)?s?(?: type| performed| description)?|study(?: type| description)?|views?|modality|acquisition"
    r"|contrast(?: (?:agent|material|media))?|sequences|(?:estimated )?radiation dose(?: \w+)?|dose(?: report)?",
    "comparison": r"comparisons?(?: studies| study| exams?| films?)?|compared (?:to|with)|priors?"
    r"|(?:prior|previous|relevant|available)(?: relevant| imaging)? (?:studies|study|exams?|examinations?"
    r"|imaging|films?|reports?"
    r"|findings)",
    "findings": rf"(?:{_KINDS} )*findings?(?: and impressions?|/ ?impressions?)?|report(?: text| body)?|observations?"
    r"|descriptions?|results?|narrative|discussion|body of report",
    "impression": r"(?:(?:final|overall|radiologic(?:al)?|provisional|preliminary) )?impressions?"
    r"(?: (?:and|&) (?:plan|recommendations?))?|conclusions?|opinions?|summary(?: of findings)?|interpretations?"
    r"|assessment(?: and plan)?|(?:(?:final|imaging|radiologic(?:al)?) )?diagnos[ie]s|in summary|comments?|remarks?",
    "recommendation": r"recommend(?:ation|ed)?s?(?: and follow[- ]?up)?|advice|suggestions?"
    r"|follow[- ]?up(?: recommendations?)?"
    r"|plan|management|next steps",
    "addendum": r"addend(?:um|a)(?: (?:no\.? ?|#)?\d+)?|amendments?|corrections?|corrected report"
    r"|supplement(?:al|ary) report",
    "communication": r"(?:critical|urgent|significant|unexpected|actionable) (?:results?|findings?|values?)"
    r"(?: (?:communication|notification))?|communications?(?: of (?:critical )?(?:results?|findings?))?"
    r"|notifications?"
    r"|results? (?:communicated|called|communication)|verbal report",
    "signature": r"(?:(?:electronically|digitally) )?signed(?: by)?|(?:dictated|transcribed|reported|reviewed"
    r"|approved|verified"
    r"|interpreted|read) by|(?:attending|resident|reporting|staff)(?: radiologist| physician)|radiologist",
    "provenance": r"how this draft was made",  # the last part of our own drafts: names of models and experts
}
"""Section name -> its headings, as regular expressions without regard to case."""

_NAMES = re.compile("|".join(f"(?P<{key}>{pattern})" for key, pattern in SECTIONS.items()), re.IGNORECASE)
_MARKS = r"[ \t*_\])=]{0,20}"
_WORDS = r"[A-Za-z][\w /&#-]{2,60}?"
# A heading stands at the start of a line with a colon or dash, or alone on its line; within a line it needs a
# sentence end before it and a colon after it. In capitals it needs no sentence end ("cough FINDINGS: clear").
_CANDIDATE = re.compile(
    rf"(?:^|\n)[ \t>*#_\[(=]{{0,40}}(?P<line>{_WORDS}){_MARKS}(?::{_MARKS}| [-–—] |(?=\n|\Z))"
    rf"|(?<=[.!?\"]) +(?P<within>{_WORDS}) ?:[ \t]*"
    r"|(?<=[^\s.!?\":]) +(?P<capitals>[A-Z]{4,20}(?:[ /&-]{1,3}[A-Z]{2,20}){0,5}) ?:[ \t]*"
)


class Heading(NamedTuple):
    """A heading: the section that it opens, and its place in the text with its colon."""

    section: str
    start: int
    stop: int


def headings(text: str) -> list[Heading]:
    """The headings of a report, in order."""
    found = []
    at = 0
    while (match := _CANDIDATE.search(text, at)) is not None:
        section = _section_of(match[match.lastgroup or 0])
        if section is not None:
            found.append(Heading(section, match.start(), match.end()))
        # Words that are no heading can hide one behind them: go on right after their first letter.
        at = match.end() if section is not None else max(match.start(match.lastgroup or 0), match.start() + 1)
    return found


@lru_cache(maxsize=4096)
def _section_of(words: str) -> str | None:
    match = _NAMES.fullmatch(" ".join(words.split()))
    return None if match is None else match.lastgroup
