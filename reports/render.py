"""Writing a draft: Markdown and JSON here, the HTML page and the DICOM SR in their own files.

Every form says that it is a draft for review by a radiologist, marks sentences without support, and names the model,
the preprocessing, the experts, the knowledge and the series it was made from.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft, DraftSentence, Evidence
from reports.findings import Finding

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Form = Literal["md", "json", "html", "dcm"]

SCHEMA_VERSION = 1
"""Raised when a field of the JSON changes its meaning or goes away; new fields do not raise it."""

SECTION_ORDER = ("indication", "technique", "comparison", "findings", "impression", "recommendation")


@overload
def render(draft: Draft, form: Literal["md", "json", "html"], pictures: Mapping[str, bytes] = ...) -> str: ...
@overload
def render(
    draft: Draft, form: Literal["dcm"], pictures: Mapping[str, bytes] = ..., headers: Sequence[Dataset] = ...
) -> bytes: ...
def render(
    draft: Draft, form: Form, pictures: Mapping[str, bytes] | None = None, headers: Sequence[Dataset] = ()
) -> str | bytes:
    """The draft as text (md, json, html) or as the bytes of a DICOM file (dcm).

    Args:
        pictures: PNG files by SOP or series UID, for html; a picture may be smaller than the image it shows.
        headers: DICOM headers of the images, for dcm: the SR is filed under their patient and study. Without them it
            carries the study UID alone.

    Raises: ValueError for another form, or for a picture that is no PNG.
    """
    if form == "md":
        return _markdown(draft)
    if form == "json":
        return json.dumps(draft_dict(draft), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if form == "html":
        from reports.render_html import page

        return page(draft, pictures or {})
    if form == "dcm":
        from reports.render_sr import structured_report

        return structured_report(draft, headers)
    raise ValueError(f"form {form!r} is unknown; expected one of {', '.join(get_args(Form))}")


def draft_dict(draft: Draft) -> dict[str, Any]:
    """The draft as JSON-ready data. Stable: see SCHEMA_VERSION. Numbers that are not finite become null."""
    return {
        "schema": "medvlm.draft",
        "schema_version": SCHEMA_VERSION,
        "notice": DRAFT_NOTICE,
        "simulated": draft.simulated,
        "study_uid": draft.study_uid,
        "series_uids": list(draft.series_uids),
        "modality": draft.modality,
        "made_by": dict(draft.made_by),
        "notes": list(draft.notes),
        "verdicts": draft.verdicts,
        "images": {uid: {"shape": list(e.shape), "view": e.view} for uid, e in draft.extents.items()},
        "sentences": [_sentence_dict(i, sentence) for i, sentence in enumerate(draft.sentences)],
    }


def _sentence_dict(index: int, sentence: DraftSentence) -> dict[str, Any]:
    return {
        "index": index,
        "section": sentence.section,
        "text": sentence.text,
        "verdict": sentence.verdict,
        "reason": sentence.reason,
        "confidence": _finite(sentence.confidence),
        "findings": [_finding_dict(finding) for finding in sentence.findings],
        "evidence": [_evidence_dict(evidence) for evidence in sentence.evidence],
        "dropped": list(sentence.dropped),
    }


def _finding_dict(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "status": finding.status,
        "side": finding.side,
        "location": finding.location,
        "severity": finding.severity,
        "size_mm": _finite(finding.size_mm),
        "change": finding.change,
    }


def _evidence_dict(evidence: Evidence) -> dict[str, Any]:
    passage = evidence.passage
    return {
        "kind": evidence.kind,
        "text": evidence.text,
        "by": evidence.by,
        "value": _finite(evidence.value),
        "unit": evidence.unit,
        "region": None if evidence.region is None else evidence.region.to_dict(),
        "passage": None if passage is None else asdict(passage),
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def in_order(draft: Draft) -> list[tuple[str, list[tuple[int, DraftSentence]]]]:
    """Sections in reading order, each with its sentences and their numbers in the draft; unknown sections come last."""
    names = list(dict.fromkeys(sentence.section for sentence in draft.sentences))
    ranked = sorted(names, key=lambda n: SECTION_ORDER.index(n) if n in SECTION_ORDER else len(SECTION_ORDER))
    return [(name, [(i, s) for i, s in enumerate(draft.sentences) if s.section == name]) for name in ranked]


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


def _markdown(draft: Draft) -> str:
    lines = ["# Draft report", "", f"> **{DRAFT_NOTICE}**"]
    if draft.simulated:
        lines += [">", f"> **{SIMULATED_NOTICE}**"]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in draft.verdicts.items())
    lines += ["", f"{_plain(draft.modality)} study `{_code(draft.study_uid)}`: {counts}.", ""]
    for section, sentences in in_order(draft):
        lines += [f"## {_plain(section.capitalize())}", ""]
        for number, sentence in sentences:
            lines += _markdown_sentence(number, sentence)
        lines.append("")
    lines += ["## How this draft was made", ""]
    lines += [f"- {_plain(key.replace('_', ' '))}: {_plain(value)}" for key, value in draft.made_by.items()]
    lines += [f"- series read: `{_code(uid)}`" for uid in draft.series_uids]
    lines += [f"- note: {_plain(note)}" for note in draft.notes]
    return "\n".join(lines) + "\n"


def _markdown_sentence(number: int, sentence: DraftSentence) -> list[str]:
    mark = "" if sentence.verdict == "supported" else f" **[{sentence.verdict.upper()}]**"
    sure = "no probability" if sentence.confidence is None else f"confidence {sentence.confidence:.2f}"
    lines = [f"{number + 1}. {_plain(sentence.text)}{mark} ({sentence.verdict}, {sure})"]
    if sentence.reason:
        lines.append(f"   - why: {_plain(sentence.reason)}")
    for evidence in sentence.evidence:
        where = f" [{place(evidence)}]" if evidence.region is not None else ""
        source = f" ({_plain(evidence.by)})" if evidence.by and evidence.passage is None else ""
        lines.append(f"   - {evidence.kind}: {_plain(evidence.text)}{where}{source}")
        if evidence.passage is not None:
            lines.append(f"     “{_plain(evidence.passage.text)}” [{_plain(evidence.passage.licence)}]")
    return lines


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: one line, with its special characters and any HTML escaped."""
    text = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>#|&])", r"\\\1", text)


def _code(text: str) -> str:
    return re.sub(r"[`\r\n]", "", text)
