"""A draft as an HL7 v2.5.1 ORU^R01 message with preliminary results.

The whole text stands in OBX segments of type TX, so that a receiver that reads text alone sees every mark and notice.
After it, each finding is a group of coded OBX segments that share their sub-ID (OBX-4): the finding, whether it is
present as far as the check goes, side, site, diameter in mm, verdict. Every OBX and the OBR have the status P.
Sources: HL7 v2.5.1 chapters 2 and 7; IHE Radiology (study UID in an OBX of DICOM code 113014).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Iterator

from reports import finding_codes as codes
from reports.draft import Draft, DraftSentence
from reports.draft_links import Links
from reports.finding_codes import Coded
from reports.findings import Finding
from reports.messages import escape, hl7_time
from reports.render_text import mark, notices, plain_text, provenance

STATUS = "P"
"""OBR-25 and OBX-11 of tables 0123 and 0085: preliminary."""
_ST_LIMIT = 199


def oru_draft(draft: Draft, links: Links, issued: dt.datetime) -> str:
    r"""One message, its segments ended by \r, for UTF-8. Give it a draft whose texts are visible (`visible_draft`).

    Without a patient ID there is no PID segment, and without an accession number OBR-3 and OBR-18 stay empty: the study
    UID alone joins the message to its study. A simulated draft has the processing ID T (training).
    """
    when = hl7_time(issued)
    segments = [_header(draft, when)]
    if links.patient_id:
        segments.append(f"PID|1||{escape(links.patient_id)}^^^{escape(links.issuer)}^PI||^^^^^^U")
    accession = escape(links.accession)
    taken = "" if links.taken is None else links.taken.strftime("%Y%m%d%H%M%S" if links.has_time else "%Y%m%d")
    service = _coded(codes.REPORT)
    segments.append(f"OBR|1||{accession}|{service}|||{taken}" + "|" * 11 + f"{accession}||||{when}||RAD|{STATUS}")
    notes = (*notices(draft), *(f"{what}: {which}" for what, which in provenance(draft)))
    segments += [f"NTE|{number}|L|{escape(note)}" for number, note in enumerate(notes, 1)]
    segments += [f"OBX|{number}|{rest}" for number, rest in enumerate(_observations(draft), 1)]
    return "".join(segment + "\r" for segment in segments)


def _header(draft: Draft, when: str) -> str:
    control = hashlib.sha256(f"{draft.study_uid} {when}".encode()).hexdigest()[:20]  # MSH-10 has 20 characters
    training = "T" if draft.simulated else "P"
    return f"MSH|^~\\&|MEDVLM|RADIOLOGY|||{when}||ORU^R01^ORU_R01|{control}|{training}|2.5.1||||||UNICODE UTF-8"


def _observations(draft: Draft) -> Iterator[str]:
    """OBX segments from OBX-2 on."""
    yield _obx("ST", "113014^Study Instance UID^DCM", "", escape(draft.study_uid))
    for line in plain_text(draft).split("\n"):  # one segment per line: many receivers show no line ends inside one
        yield _obx("TX", _coded(codes.REPORT), "", escape(line))
    group = 0
    for sentence in draft.sentences:
        for finding in sentence.findings:
            group += 1
            yield from _finding(sentence, finding, str(group))


def _finding(sentence: DraftSentence, finding: Finding, group: str) -> Iterator[str]:
    def coded(name: Coded, value: Coded, said: str = "") -> str:
        return _obx("CWE", _named(name), group, _coded(value) + (f"^^^^^^{_short(said)}" if said else ""))

    status = codes.checked_status(sentence, finding)
    named, own = codes.finding_code(finding.name), codes.own_code(finding.name)
    alternate = f"^{_coded(own)}" if own != named else "^^^"
    yield _obx(
        "CWE", _named(codes.FINDING), group, f"{_coded(named)}{alternate}^^^{_short(mark(sentence) + finding.name)}"
    )
    yield coded(codes.PRESENCE, codes.STATUSES[status], mark(sentence) + finding.status)
    yield coded(codes.VERDICT, codes.own_code(sentence.verdict), sentence.reason)
    if status != finding.status:
        yield coded(codes.STATED, codes.STATUSES[finding.status], mark(sentence) + finding.status)
    if finding.side in codes.SIDES:
        yield coded(codes.LATERALITY, codes.SIDES[finding.side])
    site = codes.site_code(finding)
    if site is not None:
        yield coded(codes.SITE, site, finding.location or "")
    if sentence.verdict != "supported":
        return  # a size or a change of something that may not be there must not stand as a measured value
    if finding.severity:
        yield coded(codes.SEVERITY, codes.severity_code(finding.severity))
    if finding.change:
        yield coded(codes.CHANGE, codes.own_code(finding.change))
    if finding.size_mm is not None and math.isfinite(finding.size_mm):
        yield _obx("NM", _named(codes.DIAMETER), group, f"{finding.size_mm:g}", _coded(codes.MM))


def _obx(kind: str, identifier: str, group: str, value: str, units: str = "") -> str:
    return f"{kind}|{identifier}|{group}|{value}|{units}|||||{STATUS}"


def _short(text: str) -> str:
    """Escaped text of at most 199 characters, the length of ST; the whole of it stands in the text of the message."""
    if len(escape(text)) <= _ST_LIMIT:
        return escape(text)
    while len(escape(text + "…")) > _ST_LIMIT:
        text = text[: _ST_LIMIT - 1] if len(text) >= _ST_LIMIT else text[:-1]
    return escape(text + "…")


def _coded(code: Coded) -> str:
    return f"{escape(code.value)}^{escape(code.meaning)}^{code.scheme}"


def _named(code: Coded) -> str:
    """A code with our scheme beside it, by which our own reader knows that the value is no sentence of the report."""
    own = codes.own_code(code.meaning)
    return _coded(code) if code.scheme == codes.OWN_SCHEME else f"{_coded(code)}^{_coded(own)}"
