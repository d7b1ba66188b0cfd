"""Reading FHIR R4 and R5 DiagnosticReports: alone, in a Bundle with the resources they refer to, or one per line.

The accession number is an identifier of type ACSN (table v2-0203) of the report, of its ImagingStudy or of the order in
`basedOn`; the study UID is an identifier of system urn:dicom:uid. Nothing is fetched: a text that stands only behind a
URL is refused. References are followed one step, results (`hasMember`) to a fixed depth and each once, so that a
resource that refers to itself costs nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from reports.attachment import attached_text, markup_text, unpacked
from reports.fhir_links import Known, links, listed, people, word
from reports.fhir_results import results
from reports.sourced import (
    ReportError,
    ReportStatus,
    SourcedReport,
    comparable_time,
    joined,
    quoted,
    refuse,
    tidy,
    without_name,
)
from volumes.instance import Refusal

_STATUS: dict[str, ReportStatus] = {
    "registered": "preliminary", "partial": "preliminary", "preliminary": "preliminary", "modified": "preliminary",
    "final": "final", "amended": "corrected", "corrected": "corrected", "appended": "addendum",
    "cancelled": "cancelled", "entered-in-error": "cancelled",
}  # fmt: skip
_MOST_DEPTH = 16  # Bundles in Bundles


def read_fhir(data: bytes, source: str, elsewhere: Known | None = None) -> Iterator[SourcedReport | Refusal]:
    """All DiagnosticReports in `data`: one resource, a Bundle, a list of resources, or NDJSON.

    `elsewhere` holds resources of other files, which a bulk export keeps apart by type.
    """
    documents: list[Any] = []
    for document in _documents(data, source):
        if isinstance(document, Refusal):
            yield document
        else:
            documents.append(document)
    if not documents:
        return
    resources = [resource for document in documents for resource in flattened(document)]
    reports = [resource for resource in resources if resource.get("resourceType") == "DiagnosticReport"]
    if not reports:
        kinds = sorted({word(r.get("resourceType"))[:40] or "no resourceType" for r in resources}) or ["no resource"]
        yield refuse(source, "no-report", ", ".join(kinds[:5]), "a DiagnosticReport", "Export the reports as well.")
        return
    known = Known(resources, elsewhere)
    for number, report in enumerate(reports, 1):
        where = source if len(reports) == 1 else f"{source}:report {number}"
        try:
            yield _read_report(report, known, where)
        except ReportError as error:
            yield error.refusal(where)


def is_fhir(document: Any) -> bool:
    """Whether a parsed JSON document is a FHIR resource (or a list of them)."""
    first = document[0] if isinstance(document, list) and document else document
    return isinstance(first, dict) and "resourceType" in first


def parsed(text: str) -> Any:
    """JSON, where NaN and Infinity are refused as RFC 8259 has it. Raises ReportError ("not-json")."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ReportError("not-json", "JSON nested too deeply to be read", "a document of a few levels",
                          "Export it again.") from error  # fmt: skip
    except ValueError as error:
        raise ReportError("not-json", f"JSON that cannot be read ({error})", "a JSON document",
                          "Export it again.") from error  # fmt: skip


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def resources_of(data: bytes, source: str) -> Iterator[dict[str, Any]]:
    """Every resource of a file that can be read, for those of other files to refer to."""
    for document in _documents(data, source):
        if not isinstance(document, Refusal):
            yield from flattened(document)


def _documents(data: bytes, source: str) -> Iterator[Any]:
    """The one document, or one per line; a line that cannot be read is a refusal of its own."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield refuse(source, "not-json", f"byte {error.start} that is not UTF-8", "JSON in UTF-8", "Export it again.")
        return
    first = text[: text.find("\n") + 1] if "\n" in text else text
    lines = _lines(text) if first.rstrip().endswith("}") and text.count("\n") else []
    if len(lines) < 2:
        try:
            yield parsed(text)
        except ReportError as error:
            yield error.refusal(source)
        return
    for number, line in lines:
        try:
            yield parsed(line)
        except ReportError as error:
            yield error.refusal(f"{source}:line {number}")


def _lines(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def flattened(document: Any) -> Iterator[dict[str, Any]]:
    """The resources of a document in their order, those in Bundles as well."""
    waiting: list[tuple[Any, int]] = [(document, 0)]
    while waiting:
        one, depth = waiting.pop()
        if depth > _MOST_DEPTH:
            continue
        if isinstance(one, list):
            waiting += [(part, depth + 1) for part in reversed(one)]
        elif isinstance(one, dict):
            yield one
            inner = [
                {**entry["resource"], "_fullUrl": word(entry.get("fullUrl"))}
                for entry in listed(one.get("entry"))
                if isinstance(entry.get("resource"), dict)
            ]
            waiting += [(resource, depth + 1) for resource in reversed(inner)]


def _read_report(report: dict[str, Any], known: Known, where: str) -> SourcedReport:
    stated = word(report.get("status"))
    status = _STATUS.get(stated)
    if status is None:
        raise ReportError("unknown-status", f"status {quoted(stated)}", f"one of {', '.join(_STATUS)}",
                          "Correct the status.")  # fmt: skip
    notes: list[str] = []
    keys, names = people(report, known)
    measured = results(report, known)
    text, replaced = _without_names(_text(report, measured.sections, notes), names)
    if replaced:
        notes.append(f"the patient's name was replaced {replaced} time(s)")
    if not text and status != "cancelled":
        found = "; ".join(notes) or "no presentedForm, narrative, result or conclusion"
        expected = "a presentedForm with data, a narrative, results with values, or a conclusion"
        raise ReportError("empty-report", found, expected, "Export the text inside the resource.")
    link = links(report, known)
    if link.guessed:
        notes.append("the report's only identifier, of no stated type, was taken as accession number")
    read = SourcedReport(
        text,
        link.accession,
        link.study_uid,
        keys[0] if keys else None,
        status,
        where,
        _time(report.get("issued")) or _time(_get(report, "meta", "lastUpdated")) or _performed(report),
        notes=tuple(notes),
        other_keys=keys[1:],
        modality=link.modality,
        performed=link.started or _performed(report),
        version=_version(report),
        measurements=measured.measurements,
    )
    if not read.can_be_placed:
        raise ReportError("no-link", "neither an accession number nor a study UID",
                          "an identifier of type ACSN, or an ImagingStudy with an identifier of system urn:dicom:uid",
                          "Without one the report cannot be joined to its study.")  # fmt: skip
    return read


def _text(report: dict[str, Any], found: list[tuple[str, str]], notes: list[str]) -> str:
    """The fullest text the resource carries: presentedForm, else narrative, else results and conclusion."""
    for form in listed(report.get("presentedForm")):
        text = _attachment(form, notes)
        if text:
            return text
    conclusion = tidy(word(report.get("conclusion")))
    narrative = tidy(markup_text(word(_get(report, "text", "div"))))
    own = joined([*found, ("" if _headed(conclusion) else "impression", conclusion)] if conclusion else found)
    if len(narrative) > len(own):
        notes.append("text from the narrative")
        return narrative
    if own:
        notes.append("text from the results and the conclusion" if found else "text from the conclusion only")
    return own


def _headed(text: str) -> bool:
    return re.match(r"\s*(impression|conclusion)\b", text, re.IGNORECASE) is not None


def _attachment(form: dict[str, Any], notes: list[str]) -> str:
    kind, _, parameters = word(form.get("contentType")).lower().partition(";")
    kind = kind.strip()
    if not form.get("data"):
        notes.append("a presentedForm behind a URL was not fetched" if form.get("url") else "an empty presentedForm")
        return ""
    charset = match[1] if (match := re.search(r"charset=\"?([\w-]+)", parameters)) else "utf-8"
    try:
        return attached_text(unpacked(word(form["data"])), kind, charset)
    except ReportError as error:
        notes.append(f"a presentedForm of type {kind[:40] or 'unknown'} was left out: {error}")
        return ""


def _without_names(text: str, names: Iterable[tuple[str, str]]) -> tuple[str, int]:
    total = 0
    for family, given in names:
        text, count = without_name(text, family, given)
        total += count
    return text, total


def _performed(report: dict[str, Any]) -> str:
    return _time(report.get("effectiveDateTime")) or _time(_get(report, "effectivePeriod", "start"))


def _time(value: Any) -> str:
    return comparable_time(word(value))


def _version(report: dict[str, Any]) -> int:
    """`meta.versionId` where the server counts; most do."""
    stated = word(_get(report, "meta", "versionId"))
    return int(stated) if re.fullmatch(r"[0-9]{1,9}", stated) else 0


def _get(resource: dict[str, Any], outer: str, inner: str) -> Any:
    held = resource.get(outer)
    return held.get(inner) if isinstance(held, dict) else None
