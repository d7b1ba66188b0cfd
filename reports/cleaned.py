"""A report without what no image shows: signatures, telephone calls, notes of dictation, marks of removed names."""

from __future__ import annotations

import re

from reports.rewriting import Dropped, Refused, Rewritten, keep_facts, rewrite_sentences, tidy
from reports.stated import stated_in

MARK = re.compile(
    r"\[\*\*.*?\*\*\]|X{3,}(?:[-/.]?X{2,})*|_{2,}|\[(?:redacted|removed|name|date|hospital|deid\w*|phi|person|id)\w*\]"
    r"|<(?:name|date|hospital|person|id|phi|redacted)\w*>|\*{3,}",
    re.IGNORECASE,
)
"""What a de-identifier left in the place of a word."""

_M = rf"(?:{MARK.pattern})"
_SIGNATURE = re.compile(
    r"\b(?:electronically (?:signed|verified|approved)|(?:dictated|transcribed|signed|verified|approved"
    r"|authenticated|finali[sz]ed|interpreted|reviewed) (?:by|and (?:signed|authenticated|verified|approved))"
    r"|attending (?:radiologist|physician)"
    r"|resident (?:radiologist|physician)|(?:i|we) (?:have )?(?:personally )?(?:reviewed|interpreted|viewed) the"
    r"|(?:report|job|document|transcription) (?:id|status|number)|end of (?:report|dictation|impression))\b",
    re.IGNORECASE,
)
_DICTATION = re.compile(
    r"\b(?:voice|speech)[- ]recognition|\bdictat(?:ion|ed)\b|\btranscription(?:ist)?\b|typographical|\binaudible\b"
    r"|\[sic\]"
    r"|\b(?:job|accession|medical record) (?:no|number)\b|\bsee (?:the )?(?:note|addendum)\b",
    re.IGNORECASE,
)
_TOLD = r"(?:discussed|communicated|relayed|conveyed|telephoned|phoned|paged|called|notified|informed|faxed|reported)"
_CALL = re.compile(
    rf"\b{_TOLD} (?:\w+ ){{0,4}}?(?:with|to|by|at|via|over)\b"
    rf"|\b(?:dr|doctor|nurse|physician|clinician)s?\b.{{0,40}}\b{_TOLD}\b"
    rf"|\b(?:by|via|over the) (?:tele)?phone\b|\b(?:was|were|been) (?:{_TOLD})\b"
    r"|\bat the time of (?:dictation|interpretation|discovery)\b"
    r"|\bread[- ]?back\b|\bcritical (?:result|finding) (?:was|were|has)\b",
    re.IGNORECASE,
)
_CALL_TAIL = re.compile(
    r"(?:,| and| which| that|;|\s-+)+\s*(?:(?:which|this|these|findings?|was|were|is|are|has been|have been) )*"
    rf"{_TOLD}\b.*$",
    re.IGNORECASE,
)
_EXAM = r"(?:exam\w*|stud(?:y|ies)|radiographs?|films?|ct|x-rays?|scans?|mri?|prior|previous|comparison)"
_SAFE = (
    (re.compile(rf"\bx-{_M}", re.IGNORECASE), "x-ray"),
    (re.compile(rf"\s*\((?:\s|,|{_M})+\)", re.IGNORECASE), ""),
    (re.compile(rf"\b{_M}[- ]years?[- ]old\s*", re.IGNORECASE), ""),
    (
        re.compile(
            rf"(?P<exam>\b{_EXAM}),? (?:dated|of|from|on|performed on)(?: the)? {_M}(?:[ ,]+(?:at )?{_M})*",
            re.IGNORECASE,
        ),
        r"\g<exam>",
    ),
    (
        re.compile(
            rf",?\s*\b(?:dated|since|compared (?:to|with)) (?:the )?{_M}(?:[ ,]+(?:at )?{_M})*(?=\s*[.,;)]|$)",
            re.IGNORECASE,
        ),
        "",
    ),
    (re.compile(rf"\b(?:by|per|with) (?:dr\.?|doctor|mr\.?|mrs\.?|ms\.?) {_M}(?: {_M})*", re.IGNORECASE), ""),
)


def cleaned(text: str) -> Rewritten | Refused:
    """The report without signatures, calls, dictation notes and de-identification marks, and with all other facts.

    A mark can stand for a word that matters ("XXXX pneumothorax" may have been "no" or "left"), so a sentence loses a
    mark only where it stood for a date, a person or the rest of "x-ray"; any other sentence with a mark is left out.
    """
    return rewrite_sentences(text, _rule)


def _rule(section: str, sentence: str) -> str | Dropped:
    has_facts = bool(stated_in(sentence))
    made = sentence
    if _CALL.search(made):
        made = _CALL_TAIL.sub(".", made)
        if _CALL.search(made) or not has_facts:
            return Dropped(sentence, "call", "it tells who was called, which no image shows")
    if _SIGNATURE.search(made):
        return Dropped(sentence, "signature", "it is a signature")
    if _DICTATION.search(made):
        return Dropped(sentence, "dictation", "it is a note of the dictation")
    if MARK.search(made):
        made = _without_marks(made)
        if MARK.search(made) or not any(c.isalpha() for c in made):
            return Dropped(sentence, "mark", "a removed word may have carried a polarity, a side or a finding")
    if made == sentence:
        return sentence
    checked = keep_facts(sentence, tidy(made))
    return Dropped(sentence, checked.kind, checked.reason) if isinstance(checked, Refused) else checked.text


def _without_marks(sentence: str) -> str:
    for pattern, put in _SAFE:
        sentence = pattern.sub(put, sentence)
    return sentence
