"""A draft as a FHIR Bundle (R4 or R5): DiagnosticReport, Observations, ImagingStudy, Device and Provenance.

The report is `preliminary` and its presentedForm holds the whole text with every mark and notice. Each finding is an
Observation whose coded value is what the check supports: an unsupported claim is coded "Undetermined", never as the
answer it gives. What is absent is stated as absent. The patient is named only as far as the images name one.
Sources: hl7.org/fhir R4 and R5 (DiagnosticReport, Observation, Device, Provenance), v3-ObservationValue AIAST.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import uuid
from html import escape
from typing import Any, Literal, get_args

from reports import finding_codes as codes
from reports.draft import Draft, DraftSentence
from reports.draft_links import Links
from reports.evidence import Evidence
from reports.finding_codes import Coded
from reports.findings import Finding
from reports.render_text import body_sections, evidence_words, mark, notices, place, plain_text, provenance

FhirVersion = Literal["r4", "r5"]
_TERMS = "http://terminology.hl7.org/CodeSystem/"
_INTERPRETATION = {"present": ("POS", "Positive"), "absent": ("NEG", "Negative"), "uncertain": ("IND", "Indeterminate")}

Resource = dict[str, Any]


def diagnostic_bundle(draft: Draft, links: Links, issued: dt.datetime, version: FhirVersion) -> Resource:
    """The Bundle as JSON-ready data. Give it a draft whose texts are visible (`visible_draft`).

    Ids are UUIDs made from the study, the model and the time, so equal calls write equal bundles.

    Raises: ValueError for another version than r4 and r5.
    """
    if version not in get_args(FhirVersion):
        raise ValueError(f"FHIR version {version!r} is unknown; expected one of {', '.join(get_args(FhirVersion))}")
    return _Bundle(draft, links, issued, version).resource()


class _Bundle:
    """Builds the resources of one draft; they refer to each other by urn:uuid."""

    def __init__(self, draft: Draft, links: Links, issued: dt.datetime, version: FhirVersion) -> None:
        self.draft, self.links, self.version = draft, links, version
        self.r5 = version == "r5"
        self.issued = issued.isoformat(timespec="seconds")
        self.device, self.study, self.report = self._urn("device"), self._urn("study"), self._urn("report")

    def _urn(self, *parts: str) -> str:
        made = "\n".join((self.draft.study_uid, self.draft.made_by.get("model_digest", ""), self.issued, *parts))
        return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, made)}"

    def resource(self) -> Resource:
        observations = [
            (self._urn(f"sentence {at}", f"finding {n}"), self._observation(at, sentence, finding))
            for at, sentence in enumerate(self.draft.sentences)
            for n, finding in enumerate(sentence.findings)
        ]
        results = [url for url, _ in observations]
        entries = [
            (self.report, self._report(results)),
            (self.study, self._imaging_study()),
            *observations,
            (self.device, self._device()),
            (self._urn("provenance"), self._provenance(results)),
        ]
        return {
            "resourceType": "Bundle",
            "meta": self._meta(),
            "type": "collection",
            "timestamp": self.issued,
            "entry": [{"fullUrl": url, "resource": resource} for url, resource in entries],
        }

    def _meta(self) -> Resource:
        labels = [_coding_of(_TERMS + "v3-ObservationValue", "AIAST", "Artificial Intelligence asserted")]
        if self.draft.simulated:
            labels.append(_coding_of(_TERMS + "v3-ActReason", "HTEST", "test health data"))
        return {"security": labels}

    def _report(self, results: list[str]) -> Resource:
        report: Resource = {
            "resourceType": "DiagnosticReport",
            "meta": self._meta(),
            "text": {"status": "generated", "div": self._narrative()},
            "status": "preliminary",
            "category": [_concept_of(_TERMS + "v2-0074", "RAD", "Radiology")],
            "code": _concept(codes.REPORT),
            "issued": self.issued,
            "performer": [self._to(self.device, notices(self.draft)[0])],
            "study" if self.r5 else "imagingStudy": [self._to(self.study)],
            "presentedForm": [self._form()],
        }
        if self.links.accession:
            report["identifier"] = [self._accession()]
        if self._subject() is not None:
            report["subject"] = self._subject()
        if self.links.taken is not None:
            report["effectiveDateTime"] = self.links.taken.date().isoformat()  # the time of day would need a zone
        if results:
            report["result"] = [self._to(url) for url in results]
        conclusion = next((text for name, text in body_sections(self.draft) if name == "impression"), "")
        if conclusion:
            report["conclusion"] = "\n".join((notices(self.draft)[0], conclusion))
        return report

    def _form(self) -> Resource:
        data = base64.b64encode(plain_text(self.draft).encode()).decode("ascii")
        return {"contentType": "text/plain; charset=utf-8", "language": "en", "data": data, "title": "Draft report"}

    def _narrative(self) -> str:
        lines = [f"<p><b>{escape(notice)}</b></p>" for notice in notices(self.draft)]
        for name, text in body_sections(self.draft):
            lines.append(f"<h3>{escape(name.capitalize())}</h3>")
            lines += [f"<p>{escape(line)}</p>" for line in text.split("\n")]
        lines += [f"<p>{escape(what)}: {escape(which)}</p>" for what, which in provenance(self.draft)]
        return f'<div xmlns="http://www.w3.org/1999/xhtml">{"".join(lines)}</div>'

    def _imaging_study(self) -> Resource:
        study: Resource = {
            "resourceType": "ImagingStudy",
            "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{self.draft.study_uid}"}],
            "status": "available",
            # required, but the patient is known only if the images name one
            "subject": self._subject() or {"display": "The patient of this study; the draft does not name them"},
            "series": [self._series(uid) for uid in self.draft.series_uids],
        }
        if self.links.accession:
            study["identifier"].append(self._accession())
        if not study["series"]:
            del study["series"]
        return study

    def _series(self, uid: str) -> Resource:
        coding = {"system": codes.SYSTEMS["DCM"], "code": self.draft.modality or "OT"}
        return {"uid": uid, "modality": {"coding": [coding]} if self.r5 else coding}

    def _subject(self) -> Resource | None:
        if not self.links.patient_id:
            return None
        identifier: Resource = {"type": _concept_of(_TERMS + "v2-0203", "PI", ""), "value": self.links.patient_id}
        if self.links.issuer:
            identifier["assigner"] = {"display": self.links.issuer}
        return {"type": "Patient", "identifier": identifier}

    def _accession(self) -> Resource:
        return {"type": _concept_of(_TERMS + "v2-0203", "ACSN", "Accession ID"), "value": self.links.accession}

    def _observation(self, index: int, sentence: DraftSentence, finding: Finding) -> Resource:
        status = codes.checked_status(sentence, finding)
        code, display = _INTERPRETATION[status]
        observation: Resource = {
            "resourceType": "Observation",
            "meta": self._meta(),
            "status": "preliminary",
            "category": [_concept_of(_TERMS + "observation-category", "imaging", "Imaging")],
            "code": _concept(
                codes.finding_code(finding.name), mark(sentence) + finding.name, codes.own_code(finding.name)
            ),
            "device": self._to(self.device),
            "derivedFrom": [self._to(self.study)],
            "valueCodeableConcept": _concept(codes.STATUSES[status], mark(sentence) + finding.status),
            "interpretation": [_concept_of(_TERMS + "v3-ObservationInterpretation", code, display)],
            "note": [{"text": text} for text in self._remarks(index, sentence)],
            "component": list(_components(sentence, finding)),
        }
        site = codes.site_code(finding)
        words = " ".join(word for word in (finding.side, finding.location) if word)
        if site is not None:
            observation["bodySite"] = _concept(site, f"{words} ({site.meaning})" if words else site.meaning)
        elif words:
            observation["bodySite"] = {"text": words}
        if self._subject() is not None:
            observation["subject"] = self._subject()
        return observation

    def _remarks(self, index: int, sentence: DraftSentence) -> list[str]:
        reason = f" Why: {sentence.reason}" if sentence.reason else ""
        return [
            f"Sentence {index + 1} of the draft: {mark(sentence)}{sentence.text}",
            f"Verdict: {sentence.verdict}.{reason}",
            *(_remark(evidence) for evidence in sentence.evidence),
        ]

    def _device(self) -> Resource:
        made = self.draft.made_by
        name = f"medvlm, model {made.get('model', 'unnamed')}"
        typed = "name" if not self.r5 else "value"
        kind = "type"
        device: Resource = {
            "resourceType": "Device",
            "identifier": [{"system": "urn:medvlm:model-digest", "value": made.get("model_digest") or "unknown"}],
            "manufacturer": "medvlm",
            "name" if self.r5 else "deviceName": [{typed: name, kind: "user-friendly-name"}],
            "version": [
                {"type": {"text": key.replace("_", " ")}, "value": value}
                for key, value in made.items()
                if value.strip()
            ],
            "note": [{"text": f"{what}: {which}"} for what, which in provenance(self.draft)],
        }
        return {key: value for key, value in device.items() if value}

    def _provenance(self, results: list[str]) -> Resource:
        agents = [
            {"type": _concept_of(_TERMS + "provenance-participant-type", "author", ""), "who": self._to(self.device)}
        ]
        return {
            "resourceType": "Provenance",
            "target": [self._to(url) for url in (self.report, *results)],
            "recorded": self.issued,
            "activity": {"text": "Drafted by a model from the images; no radiologist has verified it"},
            "agent": agents,
            "entity": [{"role": "source", "what": self._to(self.study)}],
        }

    @staticmethod
    def _to(url: str, display: str = "") -> Resource:
        return {"reference": url, "display": display} if display else {"reference": url}


def _remark(evidence: Evidence) -> str:
    where = f" [{place(evidence)}]" if evidence.region is not None else ""
    by = f" ({evidence.by})" if evidence.by else ""
    return f"{evidence.kind}: {evidence_words(evidence)}{where}{by}"


def _components(sentence: DraftSentence, finding: Finding) -> list[Resource]:
    found: list[Resource] = [_component(codes.VERDICT, codes.own_code(sentence.verdict))]
    if codes.checked_status(sentence, finding) != finding.status:
        found.append(_component(codes.STATED, codes.STATUSES[finding.status], mark(sentence) + finding.status))
    if finding.side in codes.SIDES:
        found.append(_component(codes.LATERALITY, codes.SIDES[finding.side]))
    if sentence.confidence is not None and math.isfinite(sentence.confidence):
        found.append(_number(codes.CERTAINTY, round(100 * sentence.confidence, 1), codes.PERCENT))
    if sentence.verdict != "supported":
        return found  # a size or a change of something that may not be there must not stand as a measured value
    if finding.severity:
        found.append(_component(codes.SEVERITY, codes.severity_code(finding.severity)))
    if finding.change:
        found.append(_component(codes.CHANGE, codes.own_code(finding.change)))
    if finding.size_mm is not None and math.isfinite(finding.size_mm):
        found.append(_number(codes.DIAMETER, finding.size_mm, codes.MM))
    return found


def _component(name: Coded, value: Coded, said: str = "") -> Resource:
    return {"code": _concept(name), "valueCodeableConcept": _concept(value, said)}


def _number(name: Coded, value: float, unit: Coded) -> Resource:
    quantity = {"value": value, "unit": unit.meaning, "system": unit.system, "code": unit.value}
    return {"code": _concept(name), "valueQuantity": quantity}


def _concept(code: Coded, said: str = "", also: Coded | None = None) -> Resource:
    named = [code] if also is None or also == code else [code, also]
    return {"coding": [_coding_of(c.system, c.value, c.meaning) for c in named], "text": said or code.meaning}


def _concept_of(system: str, code: str, display: str) -> Resource:
    return {"coding": [_coding_of(system, code, display)]}


def _coding_of(system: str, code: str, display: str) -> Resource:
    coding = {"system": system, "code": code}
    return coding | {"display": display} if display else coding
