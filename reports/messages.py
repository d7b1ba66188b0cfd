"""Writing reports as messages: HL7 v2.5.1 ORU^R01 and a FHIR R4 DiagnosticReport with its ImagingStudy.

Sources: HL7 v2.5.1 chapters 2 and 7; IHE Radiology (accession number in OBR-18, study UID in an OBX of DICOM code
113014); FHIR R4 DiagnosticReport and ImagingStudy. The readers are `reports.hl7` and `reports.fhir`.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from typing import Any, Literal

from reports.sourced import ReportStatus

FIXED_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""The time of messages whose caller gives none, so that equal calls write equal bytes."""

STATUS_LETTERS: dict[ReportStatus, str] = {
    "preliminary": "P", "final": "F", "corrected": "C", "addendum": "A", "cancelled": "X",
}  # fmt: skip
_FHIR_STATUS: dict[ReportStatus, str] = {"addendum": "appended"}
_LINE_LIMIT = 4000  # characters of text per OBX; receivers often allow more, few allow less
_ACSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}

Sex = Literal["M", "F", "O", "U", ""]


def escape(text: str) -> str:
    r"""Escape HL7 delimiters as \F\ \S\ \T\ \R\ \E\ and line ends as \.br\; other control characters go away."""
    table = {"\\": r"\E", "|": r"\F", "^": r"\S", "&": r"\T", "~": r"\R", "\n": r"\.br"}
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(char for char in text if char in "\n\t" or ord(char) >= 32)
    return re.sub(r"[\\|^&~\n]", lambda found: table[found[0]] + "\\", text)


def oru_message(
    text: str,
    *,
    accession: str,
    study_uid: str,
    patient_id: str,
    patient_name: str = "",
    sex: Sex = "",
    status: ReportStatus = "final",
    issued: dt.datetime = FIXED_TIME,
    procedure: str = "Diagnostic imaging study",
    control_id: str = "",
    simulated: bool = True,
) -> str:
    r"""One ORU^R01 message, segments ended by \r, in UTF-8 when encoded.

    The text goes into OBX segments of type TX, the study UID into the first OBX, the accession number into OBR-3 and
    OBR-18. `patient_name` is "FAMILY^GIVEN". A simulated message has the processing ID T (training), never P.

    Raises: ValueError for an empty text, accession or patient ID.
    """
    _check(text, accession, patient_id)
    family, _, given = patient_name.partition("^")
    letter = STATUS_LETTERS[status]
    when = hl7_time(issued)
    control = control_id or f"{accession}-{letter}"
    training = "T" if simulated else "P"
    service = f"18748-4^{escape(procedure)}^LN"
    accession_field = escape(accession)
    segments = [
        f"MSH|^~\\&|MEDVLM|RADIOLOGY|||{when}||ORU^R01^ORU_R01|{escape(control)}|{training}|2.5.1||||||UNICODE UTF-8",
        f"PID|1||{escape(patient_id)}^^^MEDVLM^PI||{escape(family)}^{escape(given)}|||{sex}",
        f"OBR|1||{accession_field}|{service}|||{when}" + "|" * 11 + f"{accession_field}||||{when}||RAD|{letter}",
        f"OBX|1|ST|113014^Study Instance UID^DCM||{escape(study_uid)}||||||{letter}",
    ]
    for number, part in enumerate(text_parts(text), 2):
        segments.append(f"OBX|{number}|TX|18748-4^Diagnostic imaging study^LN||{escape(part)}||||||{letter}")
    return "".join(segment + "\r" for segment in segments)


def diagnostic_report(
    text: str,
    *,
    accession: str,
    study_uid: str,
    patient_id: str,
    status: ReportStatus = "final",
    issued: dt.datetime = FIXED_TIME,
    procedure: str = "Diagnostic imaging study",
    modality: str = "",
    conclusion: str = "",
    simulated: bool = True,
) -> dict[str, Any]:
    """One FHIR R4 DiagnosticReport as a JSON-ready dict, with the ImagingStudy contained in it.

    The whole text is the presentedForm (text/plain, base64); `conclusion` should be the impression. A simulated report
    carries the security label HTEST (test health data).

    Raises: ValueError for an empty text, accession or patient ID.
    """
    _check(text, accession, patient_id)
    subject = {"identifier": {"system": "urn:medvlm:patient", "value": patient_id}}
    accession_id = {"type": _ACSN, "system": "urn:medvlm:accession", "value": accession}
    study: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "id": "study",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study_uid}"}, accession_id],
        "status": "available",
        "subject": subject,
    }
    if modality:
        study["modality"] = [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": modality}]
    report: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "id": re.sub(r"[^A-Za-z0-9\-.]", "-", f"report-{accession}")[:64],
        "contained": [study],
        "identifier": [accession_id],
        "status": _FHIR_STATUS.get(status, status),
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "18748-4"}], "text": procedure},
        "subject": subject,
        "effectiveDateTime": issued.isoformat(),
        "issued": issued.isoformat(),
        "imagingStudy": [{"reference": "#study"}],
        "presentedForm": [
            {"contentType": "text/plain; charset=utf-8", "data": base64.b64encode(text.encode()).decode("ascii")}
        ],
    }
    if conclusion:
        report["conclusion"] = conclusion
    if simulated:
        label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
        report["meta"] = {"security": [label]}
    return report


def _check(text: str, accession: str, patient_id: str) -> None:
    for name, value in (("text", text), ("accession", accession), ("patient_id", patient_id)):
        if not value.strip():
            raise ValueError(f"{name} is empty; a message without it could not be joined to its study")


def text_parts(text: str) -> list[str]:
    """The text in pieces of at most about _LINE_LIMIT characters, cut at line ends; joined by a newline they are it."""
    pieces: list[list[str]] = []
    length = 0
    for line in text.splitlines() or [""]:
        if pieces and length + len(line) < _LINE_LIMIT and pieces[-1] != [""]:
            pieces[-1].append(line)
            length += 1 + len(line)
        else:
            pieces.append([line])
            length = len(line)
    return ["\n".join(lines) for lines in pieces]


def hl7_time(when: dt.datetime) -> str:
    return when.strftime("%Y%m%d%H%M%S") + (when.strftime("%z") or "")
