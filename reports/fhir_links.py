"""What joins a FHIR DiagnosticReport to its study and its patient: identifiers, its own and those behind references."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from reports.modality import modality_code
from reports.sourced import comparable_time, pseudonyms

_LINKING = ("ImagingStudy", "ServiceRequest", "Patient", "ProcedureRequest")
_KEPT = ("resourceType", "id", "identifier", "modality", "started", "basedOn", "name", "series")


def listed(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, or the one object: servers of several versions write either."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, dict)]


def word(value: Any) -> str:
    """A primitive as text; nothing for what is no primitive."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


class Known:
    """Resources by the references that may point to them: of one file, and of those read before (`elsewhere`)."""

    def __init__(self, resources: Iterable[dict[str, Any]] = (), elsewhere: Known | None = None) -> None:
        self.by_reference: dict[str, dict[str, Any]] = {}
        self.studies_by_order: dict[str, dict[str, Any]] = {}
        self.elsewhere = elsewhere
        for resource in resources:
            self.add(resource)

    def add(self, resource: dict[str, Any]) -> None:
        """Take one resource; of two with one name the first counts."""
        name = f"{word(resource.get('resourceType'))}/{word(resource.get('id'))}"
        for reference in (word(resource.get("_fullUrl")), name):
            if reference and not reference.endswith("/"):
                self.by_reference.setdefault(reference, resource)
        if resource.get("resourceType") == "ImagingStudy":
            for order in listed(resource.get("basedOn")):
                self.studies_by_order.setdefault(_short(word(order.get("reference"))), resource)

    def add_link(self, resource: dict[str, Any]) -> None:
        """Take what joins reports to studies and patients from a resource of another file, and nothing else of it."""
        if resource.get("resourceType") in _LINKING:
            self.add({key: resource[key] for key in _KEPT if key in resource})

    def follow(self, reference: Any, report: dict[str, Any]) -> dict[str, Any]:
        """The resource behind a Reference: contained, in the file, in another file, or {}."""
        target = word(reference.get("reference")) if isinstance(reference, dict) else ""
        if target.startswith("#"):
            return next((c for c in listed(report.get("contained")) if f"#{word(c.get('id'))}" == target), {})
        found = self.by_reference.get(target) or self.by_reference.get(_short(target))
        return found or (self.elsewhere.follow(reference, report) if self.elsewhere else {})

    def study_of(self, order: str) -> dict[str, Any]:
        """The ImagingStudy made for an order, or {}."""
        found = self.studies_by_order.get(order)
        return found or (self.elsewhere.study_of(order) if self.elsewhere else {})


def _short(reference: str) -> str:
    """Type and id of a reference, without server and version."""
    return "/".join(reference.split("/_history/")[0].split("/")[-2:])


@dataclass(frozen=True)
class Links:
    """What names the study. `guessed`: the accession number is an identifier of no stated type."""

    accession: str = ""
    study_uid: str = ""
    modality: str = ""
    started: str = ""
    guessed: bool = False


def links(report: dict[str, Any], known: Known) -> Links:
    """From the report first, then its imaging studies (R4 `imagingStudy`, R5 `study`), then its orders."""
    orders = listed(report.get("basedOn"))
    references = [*listed(report.get("imagingStudy")), *listed(report.get("study")), *orders]
    holders = [report, *(known.follow(reference, report) for reference in references)]
    holders += [known.study_of(_short(word(order.get("reference")))) for order in orders]
    if not any(one.get("resourceType") == "ImagingStudy" for one in holders):
        holders += [c for c in listed(report.get("contained")) if c.get("resourceType") == "ImagingStudy"]
    identifiers = [i for holder in holders for i in listed(holder.get("identifier"))]
    identifiers += [r["identifier"] for r in references if isinstance(r.get("identifier"), dict)]
    accession = next((v for i in identifiers if (v := word(i.get("value")).strip()) and _is_accession(i)), "")
    study_uid = next((v for i in identifiers if (v := _study_uid(i))), "")
    guessed = False
    own = [i for i in listed(report.get("identifier")) if word(i.get("value")).strip()]
    if not accession and not study_uid and len(own) == 1 and not own[0].get("type"):
        accession, guessed = word(own[0]["value"]).strip(), True
    studies = [holder for holder in holders if holder.get("resourceType") == "ImagingStudy"]
    modality = next((m for study in studies if (m := _modality(study))), "")
    started = next((t for study in studies if (t := comparable_time(word(study.get("started"))))), "")
    return Links(accession, study_uid, modality, started, guessed)


def _modality(study: dict[str, Any]) -> str:
    """Of the study, else of its first series; a Coding in R4, a CodeableConcept in R5. Nothing when they differ."""
    stated = listed(study.get("modality")) or [
        m for s in listed(study.get("series")) for m in listed(s.get("modality"))
    ]
    codes = {modality_code(word(c.get("code"))) for m in stated for c in (listed(m.get("coding")) or [m])} - {"", "SR"}
    return codes.pop() if len(codes) == 1 else ""


def _study_uid(identifier: dict[str, Any]) -> str:
    value = word(identifier.get("value")).strip()[:200]
    is_uid = re.fullmatch(r"(urn:oid:)?[0-2](\.\d+)+", value) is not None
    return value.removeprefix("urn:oid:") if is_uid and "dicom" in word(identifier.get("system")).lower() else ""


def _is_accession(identifier: dict[str, Any]) -> bool:
    return _has_type(identifier, "ACSN") or "accession" in word(identifier.get("system")).lower()


def people(report: dict[str, Any], known: Known) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Pseudonyms of the patient, the medical record number first, and (family, given) names.

    A server's own id of the Patient resource is no identifier of the hospital and is not used.
    """
    subject = listed(report.get("subject"))[:1]
    patient = known.follow(subject[0], report) if subject else {}
    identifiers = [*listed(patient.get("identifier")), *(i for s in subject for i in listed(s.get("identifier")))]
    identifiers.sort(key=lambda i: not _has_type(i, "MR"))
    keys = pseudonyms(word(i.get("value")) for i in identifiers[:20])
    names = []
    for name in listed(patient.get("name"))[:10]:
        given = name.get("given")
        first = word(given[0]) if isinstance(given, list) and given else word(given)
        names.append((word(name.get("family")), first))
    return keys, names


def _has_type(identifier: dict[str, Any], code: str) -> bool:
    kinds = listed(identifier.get("type"))
    return any(word(coding.get("code")) == code for kind in kinds for coding in listed(kind.get("coding")))
