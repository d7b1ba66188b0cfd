"""Reading FHIR R4 and R5 DiagnosticReports: alone, in a Bundle with the resources they refer to, or one per line.

The accession number is an identifier of type ACSN (table v2-0203) of the report, of its ImagingStudy or of the order in
`basedOn`; the study UID is an identifier of system urn:dicom:uid. Nothing is fetched: a text that stands only behind a
URL is refused.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Iterator
from typing import Any

from reports.sourced import ReportStatus, SourcedReport, comparable_time, joined, refuse, tidy, without_name
from volumes.instance import Refusal, patient_key

_STATUS: dict[str, ReportStatus] = {
    "registered": "preliminary", "partial": "preliminary", "preliminary": "preliminary", "modified": "corrected",
    "final": "final", "amended": "corrected", "corrected": "corrected", "appended": "corrected",
    "cancelled": "cancelled", "entered-in-error": "cancelled",
}  # fmt: skip
_BLOCK = re.compile(r"<\s*(br|/p|/div|/li|/tr|/h\d|/td)\b[^>]*>", re.IGNORECASE)


def read_fhir(data: bytes, source: str) -> Iterator[SourcedReport | Refusal]:
    """All DiagnosticReports in `data`: one resource, a Bundle, a list of resources, or NDJSON."""
    try:
        text = data.decode("utf-8-sig")
        documents = _documents(text)
    except (UnicodeDecodeError, ValueError) as error:
        yield refuse(source, "not-json", f"JSON that cannot be read ({error})", "a FHIR resource", "Export it again.")
        return
    resources = [resource for document in documents for resource in _resources(document)]
    reports = [resource for resource in resources if resource.get("resourceType") == "DiagnosticReport"]
    if not reports:
        kinds = sorted({str(r.get("resourceType", "no resourceType")) for r in resources}) or ["no resource"]
        yield refuse(source, "no-report", ", ".join(kinds[:5]), "a DiagnosticReport", "Export the reports as well.")
        return
    known = _Known(resources)
    for number, report in enumerate(reports, 1):
        where = source if len(reports) == 1 else f"{source}:report {number}"
        yield _read_report(report, known, where)


def is_fhir(document: Any) -> bool:
    """Whether a parsed JSON document is a FHIR resource (or a list of them)."""
    first = document[0] if isinstance(document, list) and document else document
    return isinstance(first, dict) and "resourceType" in first


def _documents(text: str) -> list[Any]:
    try:
        return [json.loads(text)]
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]


def _resources(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, list):
        for part in document:
            yield from _resources(part)
    elif isinstance(document, dict):
        yield document
        for entry in _list(document.get("entry")):
            resource = entry.get("resource")
            if isinstance(resource, dict):
                yield from _resources({**resource, "_fullUrl": entry.get("fullUrl", "")})


class _Known:
    """Resources by the references that may point to them."""

    def __init__(self, resources: list[dict[str, Any]]) -> None:
        self.by_reference: dict[str, dict[str, Any]] = {}
        for resource in resources:
            if resource.get("_fullUrl"):
                self.by_reference[str(resource["_fullUrl"])] = resource
            self.by_reference[f"{resource.get('resourceType')}/{resource.get('id')}"] = resource

    def follow(self, reference: Any, report: dict[str, Any]) -> dict[str, Any]:
        """The resource behind a Reference: contained, in the bundle, or {}."""
        target = str(reference.get("reference", "")) if isinstance(reference, dict) else ""
        if target.startswith("#"):
            return next((c for c in _list(report.get("contained")) if f"#{c.get('id')}" == target), {})
        return self.by_reference.get(target) or self.by_reference.get("/".join(target.split("/")[-2:]), {})


def _read_report(report: dict[str, Any], known: _Known, where: str) -> SourcedReport | Refusal:
    word = str(report.get("status", ""))
    status = _STATUS.get(word)
    if status is None:
        return refuse(
            where, "unknown-status", f"status {word!r}", f"one of {', '.join(_STATUS)}", "Correct the status."
        )
    notes: list[str] = []
    patient = known.follow(report.get("subject"), report)
    text = _text(report, notes)
    text, replaced = _without_names(text, patient)
    if replaced:
        notes.append(f"the patient's name was replaced {replaced} time(s)")
    if not text and status != "cancelled":
        found = "; ".join(notes) or "no presentedForm, narrative or conclusion"
        expected = "a text/plain or text/html presentedForm with data, a narrative, or a conclusion"
        return refuse(where, "empty-report", found, expected, "Export the text inside the resource.")
    accession, study_uid = _links(report, known, notes)
    if not accession and not study_uid:
        return refuse(where, "no-link", "neither an accession number nor a study UID",
                      "an identifier of type ACSN, or an ImagingStudy with an identifier of system urn:dicom:uid",
                      "Without one the report cannot be joined to its study.")  # fmt: skip
    issued = comparable_time(str(report.get("issued") or report.get("effectiveDateTime") or ""))
    key = _patient_key(report, patient)
    return SourcedReport(text, accession, study_uid, key, status, where, issued, notes=tuple(notes))


def _text(report: dict[str, Any], notes: list[str]) -> str:
    """The fullest text the resource carries: presentedForm, else narrative, else conclusion; never a mixture of two."""
    for form in _list(report.get("presentedForm")):
        text = _attachment(form, notes)
        if text:
            return text
    conclusion = tidy(str(report.get("conclusion") or ""))
    narrative = _plain(str((report.get("text") or {}).get("div", ""))) if isinstance(report.get("text"), dict) else ""
    if len(narrative) > len(conclusion):
        notes.append("text from the narrative")
        return narrative
    if conclusion:
        notes.append("text from the conclusion only")
        has_heading = re.match(r"\s*(impression|conclusion)\b", conclusion, re.IGNORECASE)
        return conclusion if has_heading else joined([("impression", conclusion)])
    return ""


def _attachment(form: dict[str, Any], notes: list[str]) -> str:
    kind, _, parameters = str(form.get("contentType", "")).lower().partition(";")
    if kind.strip() not in {"text/plain", "text/html", "text/markdown", "application/xhtml+xml"}:
        notes.append(f"a presentedForm of type {kind.strip() or 'unknown'} was left out")
        return ""
    if not form.get("data"):
        notes.append("a presentedForm behind a URL was not fetched" if form.get("url") else "an empty presentedForm")
        return ""
    charset = match[1] if (match := re.search(r"charset=\"?([\w-]+)", parameters)) else "utf-8"
    try:
        text = base64.b64decode(re.sub(r"\s", "", str(form["data"])), validate=True).decode(charset)
    except (binascii.Error, UnicodeDecodeError, LookupError) as error:
        notes.append(f"a presentedForm that is not base64 {charset} ({error})")
        return ""
    return tidy(text) if kind.strip() in {"text/plain", "text/markdown"} else _plain(text)


def _links(report: dict[str, Any], known: _Known, notes: list[str]) -> tuple[str, str]:
    """Accession number and study UID, from the report first, then its imaging studies, then its orders."""
    references = [*_list(report.get("imagingStudy")), *_list(report.get("study")), *_list(report.get("basedOn"))]
    holders = [report, *(known.follow(reference, report) for reference in references)]
    identifiers = [i for holder in holders for i in _list(holder.get("identifier"))]
    identifiers += [
        r["identifier"] for r in references if isinstance(r, dict) and isinstance(r.get("identifier"), dict)
    ]
    accession = next((str(i["value"]).strip() for i in identifiers if i.get("value") and _has_type(i, "ACSN")), "")
    study_uid = next(
        (str(i["value"]).removeprefix("urn:oid:") for i in identifiers
         if i.get("value") and "dicom" in str(i.get("system", "")).lower() and _is_uid(str(i["value"]))), "",
    )  # fmt: skip
    own = [i for i in _list(report.get("identifier")) if i.get("value")]
    if not accession and not study_uid and len(own) == 1 and not own[0].get("type"):
        notes.append("the report's only identifier, of no stated type, was taken as accession number")
        accession = str(own[0]["value"]).strip()
    return accession, study_uid


def _patient_key(report: dict[str, Any], patient: dict[str, Any]) -> str | None:
    subject = report.get("subject") or {}
    identifiers = _list(patient.get("identifier")) or _list(subject.get("identifier"))
    medical = [i for i in identifiers if i.get("value") and _has_type(i, "MR")]
    chosen = next(iter(medical or [i for i in identifiers if i.get("value")]), None)
    if chosen is not None:
        return patient_key(str(chosen["value"]))
    reference = str(subject.get("reference", "")) if isinstance(subject, dict) else ""
    return patient_key(reference.rsplit("/", 1)[-1]) if "/" in reference else None


def _without_names(text: str, patient: dict[str, Any]) -> tuple[str, int]:
    total = 0
    for name in _list(patient.get("name")):
        given = " ".join(str(part) for part in (name.get("given") or [])[:1])
        text, count = without_name(text, str(name.get("family", "")), given)
        total += count
    return text, total


def _has_type(identifier: dict[str, Any], code: str) -> bool:
    kind = identifier.get("type")
    codings = _list(kind.get("coding")) if isinstance(kind, dict) else []
    return any(coding.get("code") == code for coding in codings)


def _is_uid(value: str) -> bool:
    return re.fullmatch(r"(urn:oid:)?[0-2](\.\d+)+", value) is not None


def _plain(markup: str) -> str:
    """XHTML as text: block elements end a line, other tags go away. No markup is ever rendered from it."""
    return tidy(html.unescape(re.sub(r"<[^>]*>", "", _BLOCK.sub("\n", markup))))


def _list(value: Any) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, dict)]
