"""Codes for what a draft states: findings, sites, sides, severities and answers, for FHIR, HL7 v2 and DICOM SR.

Codes of SNOMED CT stand here only where DICOM itself uses them (PS3.16, context groups 240, 244, 3716, 4031, 6102 and
their like), because those are free to use in DICOM and well known to receivers. Everything else is a code of our own
scheme, 99MEDVLM ("99" marks a private scheme in DICOM, PS3.16 chapter 8), whose value is the name of the finding.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from reports.draft import DraftSentence
    from reports.findings import Finding, Status

OWN_SCHEME = "99MEDVLM"
SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    OWN_SCHEME: "urn:medvlm:codes",
}
"""URI of each coding scheme, as FHIR names it."""
MAX_MEANING = 64  # characters of a Code Meaning, value representation LO


class Coded(NamedTuple):
    """A code, the scheme that defines it (a DICOM designator), and what it means in words."""

    value: str
    scheme: str
    meaning: str

    @property
    def system(self) -> str:
        """The scheme as a URI, for FHIR."""
        return SYSTEMS[self.scheme]


REPORT = Coded("18748-4", "LN", "Diagnostic imaging study")
FINDING = Coded("121071", "DCM", "Finding")
PRESENCE = Coded("121052", "DCM", "Presence of property")
SITE = Coded("363698007", "SCT", "Finding Site")
LATERALITY = Coded("272741003", "SCT", "Laterality")
DIAMETER = Coded("81827009", "SCT", "Diameter")
SEVERITY = Coded("246112005", "SCT", "Severity")
CERTAINTY = Coded("111012", "DCM", "Certainty of Finding")
MM = Coded("mm", "UCUM", "mm")
PERCENT = Coded("%", "UCUM", "%")
STATED = Coded("stated-status", OWN_SCHEME, "Status as the draft states it")
VERDICT = Coded("draft-verdict", OWN_SCHEME, "Verdict on the drafted sentence")
CHANGE = Coded("change", OWN_SCHEME, "Change against the prior study")
LOCATION = Coded("location", OWN_SCHEME, "Location")
SENTENCE = Coded("sentence", OWN_SCHEME, "Sentence of the draft")
NOTE = Coded("draft-note", OWN_SCHEME, "Note on the draft")

STATUSES: dict[Status, Coded] = {
    "present": Coded("52101004", "SCT", "Present"),
    "absent": Coded("272519000", "SCT", "Absent"),
    "uncertain": Coded("373068000", "SCT", "Undetermined"),
}
SIDES = {
    "left": Coded("7771000", "SCT", "Left"),
    "right": Coded("24028007", "SCT", "Right"),
    "bilateral": Coded("51440002", "SCT", "Bilateral"),
}
SEVERITIES = {
    "mild": Coded("255604002", "SCT", "Mild"),
    "moderate": Coded("6736007", "SCT", "Moderate"),
    "severe": Coded("24484000", "SCT", "Severe"),
}
_FINDINGS = {
    "cardiomegaly": Coded("287272002", "SCT", "Cardiomegaly"),
    "pericardial effusion": Coded("373945007", "SCT", "Pericardial effusion"),
    "pleural effusion": Coded("60046008", "SCT", "Pleural effusion"),
    "pneumothorax": Coded("36118008", "SCT", "Pneumothorax"),
    "pulmonary edema": Coded("19242006", "SCT", "Pulmonary edema"),
    "lymphadenopathy": Coded("30746006", "SCT", "Lymphadenopathy"),
    "metastasis": Coded("128462008", "SCT", "Metastasis"),
    "lung nodule": Coded("27925004", "SCT", "Nodule"),
    "lung mass": Coded("4147007", "SCT", "Mass"),
    "lung opacity": Coded("112001", "DCM", "Opacity"),
    "ground-glass opacity": Coded("112120", "DCM", "Ground glass opacity"),
    "infiltrate": Coded("112121", "DCM", "Infiltrate"),
    "endotracheal tube": Coded("26412008", "SCT", "Endotracheal tube"),
    "feeding tube": Coded("25062003", "SCT", "Feeding tube"),
    "chest tube": Coded("112173", "DCM", "Chest tube"),
    "central venous catheter": Coded("52124006", "SCT", "Central venous catheter"),
    "pacemaker": Coded("14106009", "SCT", "Cardiac pacemaker"),
}
_LUNG = Coded("39607008", "SCT", "Lung")
_PLEURA = Coded("3120008", "SCT", "Pleura")
_HEART = Coded("80891009", "SCT", "Heart")
_MEDIASTINUM = Coded("72410000", "SCT", "Mediastinum")
_PLACES = {
    "upper lobe": Coded("45653009", "SCT", "Upper lobe of lung"),
    "lower lobe": Coded("90572001", "SCT", "Lower lobe of lung"),
    "middle lobe": Coded("72481006", "SCT", "Middle lobe of right lung"),
    "apex": Coded("86598002", "SCT", "Apex of Lung"),
    "hilum": Coded("46750007", "SCT", "Hilum of lung"),
}
_ORGANS = {
    "cardiomegaly": _HEART,
    "pericardial effusion": Coded("76848001", "SCT", "Pericardium"),
    "coronary artery wall calcification": Coded("41801008", "SCT", "Coronary artery"),
    "arterial wall calcification": Coded("51114001", "SCT", "Artery"),
    "enlarged cardiomediastinum": _MEDIASTINUM,
    "lymphadenopathy": Coded("59441001", "SCT", "Lymph Node"),
    "lymph nodes": Coded("59441001", "SCT", "Lymph Node"),
    "pleural effusion": _PLEURA,
    "pneumothorax": _PLEURA,
    "pleural thickening": _PLEURA,
    "rib fracture": Coded("113197003", "SCT", "Rib"),
    "hiatal hernia": Coded("69695003", "SCT", "Stomach"),
    "endotracheal tube": Coded("44567001", "SCT", "Trachea"),
    "pacemaker": _HEART,
}
_IN_THE_LUNG = (
    "consolidation, pneumonia, atelectasis, lung nodule, lung mass, cavitary lesion, lung opacity, infiltrate, bulla,"
    " ground-glass opacity, pulmonary edema, pulmonary vascular congestion, emphysema, hyperinflation, scarring,"
    " chronic obstructive pulmonary disease, fibrotic sequela, pulmonary fibrosis, mosaic attenuation, granuloma,"
    " interlobular septal thickening, peribronchial thickening, bronchial wall thickening, bronchiectasis"
)
_ORGANS |= dict.fromkeys(_IN_THE_LUNG.split(", "), _LUNG)


def own_code(name: str) -> Coded:
    """A code of our own scheme for any name; the value keeps letters, digits and hyphens."""
    words = " ".join(name.split()) or "unnamed"
    value = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "unnamed"
    return Coded(value[:MAX_MEANING], OWN_SCHEME, words[:MAX_MEANING])


def finding_code(name: str) -> Coded:
    """The code of a finding: one that DICOM knows where there is one, else our own."""
    return _FINDINGS.get(name) or own_code(name)


def site_code(finding: Finding) -> Coded | None:
    """Where a finding lies, as far as its name and its stated location tell; None where neither does."""
    organ = _ORGANS.get(finding.name)
    return _PLACES.get(finding.location or "", organ) if organ is _LUNG else organ


def severity_code(severity: str) -> Coded:
    """Mild, moderate and severe have codes; other words get one of ours."""
    return SEVERITIES.get(severity) or own_code(severity)


def checked_status(sentence: DraftSentence, finding: Finding) -> Status:
    """The status that coded output may claim: what the sentence states if it is supported, else "uncertain".

    A receiver may read the coded answer and nothing else, so an unsupported claim must not stand there as an answer.
    What the sentence stated stands beside it (STATED), with the verdict.
    """
    return finding.status if sentence.verdict == "supported" else "uncertain"
