"""A draft as plain text, and what every form shares: the mark of a verdict, the record of what made the draft.

Text that comes from outside is made visible here: characters that control a terminal, a printer or the direction of
writing are replaced, so that what a reader sees is what the sentence says.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft, DraftSentence
from reports.evidence import Evidence
from reports.sourced import joined

PROVENANCE_HEADING = "How this draft was made"
SECTION_ORDER = ("indication", "technique", "comparison", "findings", "impression", "recommendation")

# C0 and C1 controls, overrides and isolates of the writing direction, separators of lines and paragraphs, surrogates,
# and the two non-characters: none has a glyph, and the overrides make "no effusion" read as something else.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def visible(text: str) -> str:
    """One line of text whose characters can all be seen: unseen ones become U+FFFD, line ends become blanks."""
    return _UNSEEN.sub("\ufffd", " ".join(str(text).replace("\r", "\n").split("\n")))


def visible_draft(draft: Draft) -> Draft:
    """The draft with every text made visible, for forms that people or other programs read."""
    return replace(
        draft,
        study_uid=visible(draft.study_uid),
        series_uids=tuple(visible(uid) for uid in draft.series_uids),
        modality=visible(draft.modality),
        made_by={visible(key): visible(value) for key, value in draft.made_by.items()},
        notes=tuple(visible(note) for note in draft.notes),
        sentences=tuple(_visible_sentence(sentence) for sentence in draft.sentences),
    )


def _visible_sentence(sentence: DraftSentence) -> DraftSentence:
    return replace(
        sentence,
        section=visible(sentence.section),
        text=visible(sentence.text),
        reason=visible(sentence.reason),
        evidence=tuple(_visible_evidence(evidence) for evidence in sentence.evidence),
    )


def _visible_evidence(evidence: Evidence) -> Evidence:
    passage = evidence.passage
    if passage is not None:
        passage = replace(
            passage,
            text=visible(passage.text),
            title=visible(passage.title),
            section=visible(passage.section),
            source=visible(passage.source),
            url=visible(passage.url),
            version=visible(passage.version),
            licence=visible(passage.licence),
        )
    return replace(evidence, text=visible(evidence.text), by=visible(evidence.by), passage=passage)


def in_order(draft: Draft) -> list[tuple[str, list[tuple[int, DraftSentence]]]]:
    """Sections in reading order, each with its sentences and their numbers in the draft; unknown sections come last."""
    sections: dict[str, list[tuple[int, DraftSentence]]] = {}
    for index, sentence in enumerate(draft.sentences):
        sections.setdefault(sentence.section, []).append((index, sentence))
    rank = {name: place for place, name in enumerate(SECTION_ORDER)}
    return sorted(sections.items(), key=lambda named: rank.get(named[0], len(rank)))


def mark(sentence: DraftSentence) -> str:
    """What stands before the words of a sentence that is not supported: "[UNSUPPORTED] ", "[CONTRADICTED] "."""
    return "" if sentence.verdict == "supported" else f"[{sentence.verdict.upper()}] "


def notices(draft: Draft) -> tuple[str, ...]:
    """What a reader must know first."""
    return (DRAFT_NOTICE, *((SIMULATED_NOTICE,) if draft.simulated else ()))


def provenance(draft: Draft) -> list[tuple[str, str]]:
    """(what, which) of everything that made the draft: model, digests, experts, knowledge, series, notes."""
    made = [(key.replace("_", " "), value) for key, value in draft.made_by.items()]
    return [
        *made,
        *(("series read", uid) for uid in draft.series_uids),
        *(("note", note) for note in draft.notes),
    ]


def body_sections(draft: Draft) -> list[tuple[str, str]]:
    """(heading, text) of the sections in reading order, one sentence per line, each with its mark."""
    return [
        (name or "findings", "\n".join(mark(sentence) + sentence.text for _, sentence in numbered))
        for name, numbered in in_order(draft)
    ]


def plain_text(draft: Draft) -> str:
    """The whole draft as plain text: notices, sections, and at the end what made it.

    `reports.sections` knows the heading of the last part, so a draft that is read back states its findings and no more.
    """
    lines = "\n".join(f"{what}: {which}" for what, which in provenance(draft))
    return joined([("", "\n".join(notices(draft))), *body_sections(draft), (PROVENANCE_HEADING, lines)])


def evidence_words(evidence: Evidence) -> str:
    """What a piece of evidence says, with the value of a measurement where its text leaves it out: "size 12 mm"."""
    if evidence.kind != "measurement" or evidence.value is None or not math.isfinite(evidence.value):
        return evidence.text
    if f"{evidence.value:.3g}" in evidence.text or f"{evidence.value:g}" in evidence.text:
        return evidence.text
    unit = "" if evidence.unit in (None, "1") else f" {evidence.unit}"
    return f"{evidence.text} {evidence.value:.3g}{unit}"


def place(evidence: Evidence) -> str:
    """A region in words: index box, and millimetres where known."""
    region = evidence.region
    if region is None:
        return ""
    names = ("row", "column") if len(region.start) == 2 else ("k", "j", "i")
    parts = [f"{n} {a:.0f}–{b:.0f}" for n, a, b in zip(names, region.start, region.stop, strict=True)]
    if region.start_mm is not None and region.stop_mm is not None:
        axes = ("down", "across") if len(region.start_mm) == 2 else ("x", "y", "z")
        spans = [f"{n} {a:.0f}–{b:.0f}" for n, a, b in zip(axes, region.start_mm, region.stop_mm, strict=True)]
        parts.append(f"{', '.join(spans)} mm")
    return "; ".join(parts)
