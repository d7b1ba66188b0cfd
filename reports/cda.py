"""Reading CDA R2 documents: C-CDA Diagnostic Imaging Reports and their like (also PS3.20 Imaging Reports).

The narrative of each section is what a clinician signed and what is read; of the coded entries quantities are kept.
XML is parsed without entities, external or own, and without any document type: nothing in it is looked up or expanded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

from reports.sourced import (
    CodedMeasurement,
    ReportError,
    ReportStatus,
    SourcedReport,
    compact_time,
    joined,
    pseudonyms,
    quoted,
    tidy,
    without_name,
)
from volumes.instance import Refusal

MAX_BYTES = 32 * 2**20
MAX_DEPTH = 100
_V3 = "{urn:hl7-org:v3}"
_HEADINGS = {
    "121060": "history", "11329-0": "history", "121109": "indication", "18785-6": "indication", "59768-2": "indication",
    "121070": "findings", "59776-5": "findings", "121072": "impression", "121073": "impression",
    "19005-8": "impression", "55111-9": "technique", "121064": "technique", "18834-2": "comparison", "121062":
    "comparison", "18783-1": "recommendation", "121074": "recommendation", "55107-7": "addendum", "121181": "",
}  # fmt: skip
_CATALOG = "121181"  # DICOM Object Catalog: UIDs, nothing to read
_NO_IMAGING = {
    "34133-9": "a summary of episodes", "18842-5": "a discharge summary", "34117-2": "a history and physical",
    "11506-3": "a progress note", "11488-4": "a consultation note", "11504-8": "an operation note",
    "57133-1": "a referral", "28570-0": "a procedure note", "52521-2": "a care plan",
}  # fmt: skip
_RELATION: dict[str, ReportStatus] = {"RPLC": "corrected", "APND": "addendum"}
_STATUS: dict[str, ReportStatus] = {"active": "preliminary", "nullified": "cancelled", "aborted": "cancelled"}
_BREAK, _CAPTION = "\x00", "\x01"  # marks that no XML can hold: a line end, the end of a caption
_UID = re.compile(r"[0-2](\.\d+)+")


def is_cda(head: bytes) -> bool:
    """Whether a file that begins so is a clinical document."""
    return b"ClinicalDocument" in head and b"urn:hl7-org:v3" in head


def read_cda(data: bytes, source: str) -> Iterator[SourcedReport | Refusal]:
    """The report in one document."""
    try:
        yield _read(_parsed(data), source)
    except ReportError as error:
        yield error.refusal(source)


def cda_text(data: bytes) -> str:
    """The text of a document that another object carries. Raises ReportError."""
    return _read(_parsed(data), "", carried=True).text


def _parsed(data: bytes) -> Element:
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    if len(data) > MAX_BYTES:
        raise ReportError("too-large", f"XML of {len(data)} bytes", f"at most {MAX_BYTES}", "Export it without images.")
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise ReportError("hostile-xml", f"XML with {type(error).__name__}", "no document type and no entities",
                          "A report needs neither; ask who made the file.") from error  # fmt: skip
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise ReportError("damaged-xml", f"XML that cannot be read ({type(error).__name__}: {str(error)[:80]})",
                          "a CDA document", "Export the report again.") from error  # fmt: skip
    if root.tag != f"{_V3}ClinicalDocument":
        raise ReportError("not-a-report", f"XML of {quoted(root.tag)}", "a ClinicalDocument (CDA R2)",
                          "Convert it, or ignore this if it is no report.")  # fmt: skip
    return root


def _read(root: Element, source: str, carried: bool = False) -> SourcedReport:
    code = root.find(f"{_V3}code")
    stated = code.get("code", "") if code is not None else ""
    if stated in _NO_IMAGING:
        raise ReportError("not-a-report", f"{_NO_IMAGING[stated]} (LOINC {stated})", "a report of imaging",
                          "It says nothing of what the images show.")  # fmt: skip
    notes: list[str] = []
    text, replaced = _without_names(root, joined(list(_sections(root))) or _unstructured(root))
    if replaced:
        notes.append(f"the patient's name was replaced {replaced} time(s)")
    status = _status(root)
    if not text and (status != "cancelled" or carried):
        raise ReportError("empty-report", "no section with text", "a structured or a plain body", "Export it again.")
    identities = [i.get("extension", "") for i in root.findall(f"{_V3}recordTarget/{_V3}patientRole/{_V3}id")]
    keys = pseudonyms(identities[:20])
    read = SourcedReport(
        text,
        _accession(root, notes),
        _study_uid(root),
        keys[0] if keys else None,
        status,
        source,
        _time(root.find(f"{_V3}effectiveTime")),
        notes=tuple(notes),
        other_keys=keys[1:],
        modality=_modality(root),
        performed=_time(root.find(f"{_V3}documentationOf/{_V3}serviceEvent/{_V3}effectiveTime")),
        version=_version(root),
        measurements=tuple(_measurements(root)),
    )
    if not carried and not read.can_be_placed:
        raise ReportError("no-link", "neither an accession number nor a study UID",
                          "an order id (inFulfillmentOf) or a study UID (documentationOf or the object catalog)",
                          "Without one the report cannot be joined to its study.")  # fmt: skip
    return read


def _status(root: Element) -> ReportStatus:
    """From sdtc:statusCode, else from what the document does to another: replace it (RPLC) or append to it (APND)."""
    stated = root.find("{urn:hl7-org:sdtc}statusCode")
    if stated is not None and stated.get("code", "") in _STATUS:
        return _STATUS[stated.get("code", "")]
    for related in root.findall(f"{_V3}relatedDocument"):
        if related.get("typeCode", "") in _RELATION:
            return _RELATION[related.get("typeCode", "")]
    return "final"


def _version(root: Element) -> int:
    found = root.find(f"{_V3}versionNumber")
    value = found.get("value", "") if found is not None else ""
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else 0


def _accession(root: Element, notes: list[str]) -> str:
    """PS3.20 marks it; else it is the id of the order. Of several ids the first is taken, and that is said."""
    for order in root.findall(f"{_V3}inFulfillmentOf/{_V3}order"):
        for child in order:
            if child.tag.rpartition("}")[2] == "accessionNumber":
                return (child.get("extension") or child.get("value") or child.text or "").strip()
        ids = [i.get("extension", "").strip() for i in order.findall(f"{_V3}id") if i.get("extension", "").strip()]
        if len(set(ids)) > 1:
            notes.append(f"the order has {len(set(ids))} ids; the first was taken as accession number")
        if ids:
            return ids[0]
    return ""


def _study_uid(root: Element) -> str:
    """Of the object catalog (DCM 113014), else of the service event: an id that is an OID without an extension."""
    named = {
        uid.get("root", "") for act in root.iter(f"{_V3}act") for uid in act.findall(f"{_V3}id")
        if _code(act) == "113014" and not uid.get("extension")
    }  # fmt: skip
    event = root.findall(f"{_V3}documentationOf/{_V3}serviceEvent/{_V3}id")
    own = [i.get("root", "") for i in event if not i.get("extension")]
    found = [uid for uid in own if uid in named] or ([*named] if len(named) == 1 else []) or (own if not named else [])
    return next((uid for uid in found if _UID.fullmatch(uid)), "")


def _modality(root: Element) -> str:
    """Of the series in the object catalog, where all agree."""
    from reports.modality import modality_code

    found = {
        modality_code(value.get("code", "")) for qualifier in root.iter(f"{_V3}qualifier")
        for value in qualifier.findall(f"{_V3}value")
        if (name := qualifier.find(f"{_V3}name")) is not None and name.get("code") == "121139"
    } - {""}  # fmt: skip
    return found.pop() if len(found) == 1 else ""


def _time(element: Element | None) -> str:
    if element is None:
        return ""
    low = element.find(f"{_V3}low")
    return compact_time(element.get("value", "") or (low.get("value", "") if low is not None else ""))


def _sections(root: Element) -> Iterator[tuple[str, str]]:
    """(heading, narrative) of every section, outer before inner, in the order of the document."""
    for section in root.iter(f"{_V3}section"):
        code, title = _code(section), section.find(f"{_V3}title")
        if code == _CATALOG:
            continue
        shown = " ".join("".join(title.itertext()).split()) if title is not None else ""
        narrative = section.find(f"{_V3}text")
        body = tidy(_narrative(narrative, shown)) if narrative is not None else ""
        if body:
            yield _HEADINGS.get(code) or shown.rstrip(":"), body


def _code(element: Element) -> str:
    found = element.find(f"{_V3}code")
    return found.get("code", "") if found is not None else ""


def _narrative(text: Element, title: str) -> str:
    """The words of a narrative block: paragraphs, items and rows end a line, a caption names what follows it."""
    pieces: list[str] = []
    _words(text, title, pieces, 0)
    lines = (" ".join(line.split()) for line in "".join(pieces).split(_BREAK))
    return "\n".join(line.replace(_CAPTION, "") for line in lines if line and not line.endswith(_CAPTION))


def _words(element: Element, title: str, pieces: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ReportError("damaged-xml", f"a narrative nested deeper than {MAX_DEPTH} levels", "a report",
                          "Export the report again.")  # fmt: skip
    name = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    if name in ("linkHtml", "renderMultiMedia", "footnote", ""):
        return  # pictures and addresses
    if name == "caption":
        caption = " ".join("".join(element.itertext()).split()).rstrip(":")
        if caption and _stem(caption) != _stem(title):
            pieces.append(f"{caption}:{_CAPTION} ")
        return
    pieces.append(element.text or "")
    for child in element:
        _words(child, title, pieces, depth + 1)
        pieces.append(child.tail or "")
    if name in ("paragraph", "item", "tr", "br", "list", "table", "thead", "tbody"):
        pieces.append(_BREAK)
    elif name in ("td", "th"):
        pieces.append(" ")


def _stem(word: str) -> str:
    return word.lower().rstrip("s")


def _unstructured(root: Element) -> str:
    """The text of a document without sections (nonXMLBody)."""
    from reports.attachment import attached_text, unpacked

    found = root.find(f"{_V3}component/{_V3}nonXMLBody/{_V3}text")
    if found is None:
        return ""
    kind, body = found.get("mediaType", "text/plain"), found.text or ""
    if "xml" in kind:  # a document in a document in a document
        raise ReportError(
            "unknown-attachment", f"a body of type {quoted(kind)}", "text, HTML, RTF or PDF", "Export it again."
        )
    raw = unpacked(body) if found.get("representation") == "B64" else body.encode()
    return attached_text(raw, kind)


def _without_names(root: Element, text: str) -> tuple[str, int]:
    total = 0
    for name in root.findall(f"{_V3}recordTarget/{_V3}patientRole/{_V3}patient/{_V3}name")[:10]:
        family, given = name.findtext(f"{_V3}family", ""), name.findtext(f"{_V3}given", "")
        text, count = without_name(text, family, given)
        total += count
    return text, total


def _measurements(root: Element) -> Iterator[CodedMeasurement]:
    """Observations with a physical quantity: name, value and UCUM unit."""
    kind = "{http://www.w3.org/2001/XMLSchema-instance}type"
    for observation in root.iter(f"{_V3}observation"):
        value, code = observation.find(f"{_V3}value"), observation.find(f"{_V3}code")
        if value is None or code is None or value.get(kind, "").rpartition(":")[2] != "PQ":
            continue
        try:
            number = float(value.get("value", ""))
        except ValueError:
            continue
        site = observation.find(f"{_V3}targetSiteCode")
        if math.isfinite(number) and code.get("displayName"):
            unit = value.get("unit", "")
            where = site.get("displayName", "") if site is not None else ""
            yield CodedMeasurement(code.get("displayName", ""), number, "" if unit == "1" else unit, site=where)
