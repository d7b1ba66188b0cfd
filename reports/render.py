"""Writing a draft: Markdown and JSON here, every other form in its own file.

Every form says that it is a draft for review by a radiologist, marks sentences without support, and names the model,
the preprocessing, the experts, the knowledge and the series it was made from.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft, DraftSentence, Evidence
from reports.draft_links import links_of
from reports.findings import Finding
from reports.render_text import evidence_words, in_order, place, visible_draft

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from reports.render_fhir import FhirVersion

TextForm = Literal["md", "json", "html", "fhir", "hl7"]
BinaryForm = Literal["dcm", "pdf"]
Form = Literal["md", "json", "html", "fhir", "hl7", "dcm", "pdf"]

ENDINGS: dict[str, Form] = {
    ".fhir.json": "fhir",
    ".md": "md",
    ".json": "json",
    ".html": "html",
    ".dcm": "dcm",
    ".hl7": "hl7",
    ".pdf": "pdf",
}
"""Form by the ending of a file name; the longer ending comes first."""

SCHEMA_VERSION = 1
"""Raised when a field of the JSON changes its meaning or goes away; new fields do not raise it."""

MOST_SENTENCES: dict[Form, int] = {"dcm": 1_000, "pdf": 1_000, "fhir": 10_000, "hl7": 10_000}
"""The most sentences of the forms that are slow or large; a report by a person has fewer than two hundred."""


def form_of(name: str) -> Form:
    """The form that the ending of a file name asks for, before any work is done for it.

    Raises: ValueError that lists the endings; ImportError that says what to install where the form needs an extra.
    """
    for ending, form in ENDINGS.items():
        if name.lower().endswith(ending) and len(name) > len(ending):
            if form == "pdf":
                from reports.render_pdf import require

                require()
            return form
    found = re.search(r"\.\w+$", name)
    raise ValueError(
        f"{name}: ends in {found[0] if found else 'nothing'!r}; expected one of {', '.join(sorted(ENDINGS))}"
    )


@overload
def render(
    draft: Draft,
    form: TextForm,
    pictures: Mapping[str, bytes] | None = ...,
    headers: Sequence[Dataset] = ...,
    *,
    fhir_version: FhirVersion = ...,
    issued: dt.datetime | None = ...,
) -> str: ...
@overload
def render(
    draft: Draft,
    form: BinaryForm,
    pictures: Mapping[str, bytes] | None = ...,
    headers: Sequence[Dataset] = ...,
    *,
    fhir_version: FhirVersion = ...,
    issued: dt.datetime | None = ...,
) -> bytes: ...
def render(
    draft: Draft,
    form: Form,
    pictures: Mapping[str, bytes] | None = None,
    headers: Sequence[Dataset] = (),
    *,
    fhir_version: FhirVersion = "r4",
    issued: dt.datetime | None = None,
) -> str | bytes:
    """The draft as text (md, json, html, fhir, hl7) or as the bytes of a file (dcm, pdf).

    Args:
        pictures: PNG files by SOP or series UID, for html and pdf; a picture may be smaller than the image it shows.
        headers: DICOM headers of the images, for dcm, hl7 and fhir, which take patient and order over from them.
            Without them these forms carry the study UID alone.
        fhir_version: r4 or r5, for fhir.
        issued: When the draft was made, with a zone, for fhir, hl7 and pdf; now when left out.

    Raises: ValueError for another form, for a picture that is no PNG, for headers of another study, or for more than
        MOST_SENTENCES; ImportError with what to install where a form needs an extra.
    """
    _refuse(draft, form, issued)
    if form == "json":
        return _json(draft_dict(draft))
    draft = visible_draft(draft)
    when = issued or dt.datetime.now(dt.UTC)
    if form == "md":
        return _markdown(draft)
    if form == "html":
        from reports.render_html import page

        return page(draft, pictures or {})
    if form == "dcm":
        from reports.render_sr import structured_report

        return structured_report(draft, headers)
    if form == "pdf":
        from reports.render_pdf import document

        return document(draft, pictures or {}, when)
    links = links_of(draft, headers)
    if form == "hl7":
        from reports.render_hl7 import oru_draft

        return oru_draft(draft, links, when)
    from reports.render_fhir import diagnostic_bundle

    return _json(diagnostic_bundle(draft, links, when, fhir_version))


def _refuse(draft: Draft, form: Form, issued: dt.datetime | None) -> None:
    if form not in get_args(Form):
        raise ValueError(f"form {form!r} is unknown; expected one of {', '.join(get_args(Form))}")
    most = MOST_SENTENCES.get(form)
    if most is not None and len(draft.sentences) > most:
        raise ValueError(
            f"draft of study {draft.study_uid}: {len(draft.sentences)} sentences; expected at most {most} for {form}:"
            " write it as .json or .md, and look why the writer did not stop"
        )
    if issued is not None and issued.tzinfo is None:
        raise ValueError(f"issued {issued.isoformat()} has no zone; expected one, such as UTC")


def _json(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)  # half a character cannot be encoded


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
    known = _finite(sentence.confidence)
    sure = "no probability" if known is None else f"confidence {known:.2f}"
    lines = [f"{number + 1}. {_plain(sentence.text)}{mark} ({sentence.verdict}, {sure})"]
    if sentence.reason:
        lines.append(f"   - why: {_plain(sentence.reason)}")
    for evidence in sentence.evidence:
        where = f" [{place(evidence)}]" if evidence.region is not None else ""
        source = f" ({_plain(evidence.by)})" if evidence.by and evidence.passage is None else ""
        lines.append(f"   - {evidence.kind}: {_plain(evidence_words(evidence))}{where}{source}")
        if evidence.passage is not None:
            lines.append(f"     “{_plain(evidence.passage.text)}” [{_plain(evidence.passage.licence)}]")
    return lines


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: one line, with its special characters and any HTML escaped."""
    text = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>#|&])", r"\\\1", text)


def _code(text: str) -> str:
    return re.sub(r"[`\r\n]", "", text)
