"""Small reports in every format that is read, about simulated people, as tests and the fuzzer need them."""

from __future__ import annotations

import base64
import gzip
import io
import json
from typing import Any

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

STUDY = "1.2.826.0.1.3680043.8.498.7"
TEXT = "FINDINGS: Small left effusion. Nodule of 6 mm.\n\nIMPRESSION: Small left effusion."
COMPREHENSIVE, BASIC = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.11"
PDF_CLASS, CDA_CLASS = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.104.2"


def hl7(*segments: str, charset: str = "", encoding: str = "utf-8") -> bytes:
    """An ORU^R01 of these segments after the MSH."""
    head = "MSH|^~\\&|RIS|H|||20240102030405||ORU^R01|1|P|2.3" + "|" * 6 + charset
    return "\r".join((head, *segments)).encode(encoding) + b"\r"


def result(*obx: str, accession: str = "ACC1", status: str = "F", patient: str = "P7", **named: Any) -> bytes:
    """A whole result of one order."""
    obr = f"OBR|1|PL1|FILL1|71020^CT Chest|||202401020304{'|' * 11}{accession}||||20240102040000||CT|{status}"
    return hl7(f"PID|1||{patient}^^^H^MR~X9^^^N^NI||Doe^Jane", obr, *obx, **named)


def batch(*messages: bytes, told: int | None = None) -> bytes:
    """Messages as a file with a batch in it (FHS, BHS, BTS, FTS)."""
    count = len(messages) if told is None else told
    head = b"FHS|^~\\&|RIS\rBHS|^~\\&|RIS\r"
    return head + b"".join(messages) + f"BTS|{count}\rFTS|1\r".encode()


def bundle(**report: Any) -> dict[str, Any]:
    """A FHIR Bundle: report, order, imaging study, patient and observations that refer to each other in a circle."""
    acsn = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
    record = {"coding": [{"code": "MR"}]}
    size = {"value": 6.5, "unit": "mm", "system": "http://unitsofmeasure.org", "code": "mm"}
    lung = {"text": "left lung", "coding": [{"code": "7771000"}]}
    resources: list[dict[str, Any]] = [
        {
            "resourceType": "DiagnosticReport", "id": "r", "status": "final", "subject": {"reference": "Patient/p"},
            "basedOn": [{"reference": "ServiceRequest/o"}], "imagingStudy": [{"reference": "ImagingStudy/s"}],
            "result": [{"reference": "Observation/a"}], "issued": "2024-03-01T12:00:00+02:00",
            "conclusion": "Small nodule in the left lung.", **report,
        },
        {"resourceType": "ServiceRequest", "id": "o", "identifier": [{"type": acsn, "value": "ACC1"}]},
        {
            "resourceType": "ImagingStudy", "id": "s", "started": "2024-03-01T09:00:00Z", "modality": [{"code": "CT"}],
            "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"}],
        },
        {"resourceType": "Patient", "id": "p", "name": [{"family": "Doe", "given": ["Jane"]}],
         "identifier": [{"value": "N4"}, {"type": record, "value": "P7"}]},
        {"resourceType": "Observation", "id": "a", "status": "final", "code": {"text": "Nodule diameter"},
         "bodySite": lung, "valueQuantity": size, "hasMember": [{"reference": "Observation/b"}]},
        {"resourceType": "Observation", "id": "b", "status": "final", "code": {"text": "Texture"},
         "valueString": "solid", "hasMember": [{"reference": "Observation/a"}]},
    ]  # fmt: skip
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in resources]}


def attachment(data: bytes, kind: str) -> dict[str, Any]:
    """A FHIR Attachment."""
    return {"contentType": kind, "data": base64.b64encode(data).decode()}


def cda(body: str = "", extra: str = "") -> bytes:
    """A C-CDA Diagnostic Imaging Report; `body` replaces its sections, `extra` comes before the patient."""
    sections = (
        body
        or """<component><structuredBody>
      <component><section><code code="59776-5"/><title>Findings</title><text>
        <paragraph><caption>Finding</caption><content>A  nodule in
          the left lung.</content></paragraph>
        <list><item>No effusion.</item><item>Heart <sub>size</sub> normal.</item></list>
        <table><tbody><tr><td>Long axis</td><td>6 mm</td></tr></tbody></table>
        <paragraph><caption>Source</caption><linkHtml href="http://x">picture</linkHtml></paragraph></text>
        <entry><observation classCode="OBS" moodCode="EVN"><code code="1" displayName="Nodule size"/>
          <value xsi:type="PQ" value="6" unit="mm"/><targetSiteCode code="2" displayName="Left lung"/>
        </observation></entry></section></component>
      <component><section><title>Zusammenfassung</title><text>Jane Doe: kleiner Herd.</text></section></component>
      <component><section><code code="121181"/><title>Catalog</title><text>x</text></section></component>
    </structuredBody></component>"""
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xmlns:sdtc="urn:hl7-org:sdtc">
  <code code="18748-4" codeSystem="2.16.840.1.113883.6.1"/><effectiveTime value="20240102030405+0100"/>
  <versionNumber value="3"/>{extra}
  <recordTarget><patientRole><id extension="P7" root="1.2"/><id extension="N4" root="1.3"/>
    <patient><name><given>Jane</given><family>Doe</family></name></patient></patientRole></recordTarget>
  <inFulfillmentOf><order><id extension="ACC1" root="1.4"/></order></inFulfillmentOf>
  <documentationOf><serviceEvent><id root="{STUDY}"/><effectiveTime><low value="20240101"/></effectiveTime>
  </serviceEvent></documentationOf>{sections}
</ClinicalDocument>""".encode()


def pdf(*lines: str, pages: int = 1) -> bytes:
    """A PDF of one font with these lines on every page; without lines, pages of nothing."""
    drawn = "".join(f"({line}) Tj 0 -14 Td " for line in lines)
    stream = f"BT /F1 12 Tf 72 720 Td {drawn}ET" if lines else "0 0 100 100 re f"
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(pages))
    bodies = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n in range(pages):
        bodies.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * n} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        bodies.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out, places = "%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"trailer\n<< /Size {len(bodies) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return (out + f"xref\n0 {len(bodies) + 1}\n0000000000 65535 f \n{table}" + end).encode("latin-1")


def code(value: str, meaning: str, scheme: str = "DCM") -> list[Dataset]:
    """A code sequence of one item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]


def content(kind: str, name: list[Dataset], value: Any = None, relation: str = "CONTAINS") -> Dataset:
    """One content item: TEXT with a str, CODE with a code sequence, NUM with (value, unit), CONTAINER with items."""
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = relation, kind, name
    if kind == "TEXT":
        item.TextValue = value
    elif kind == "CODE":
        item.ConceptCodeSequence = value
    elif kind == "NUM":
        measured = Dataset()
        measured.NumericValue, measured.MeasurementUnitsCodeSequence = value[0], code(value[1], value[1], "UCUM")
        item.MeasuredValueSequence = [measured]
    elif value:
        item.ContentSequence = value
    return item


def dicom(sop_class: str = BASIC, items: list[Dataset] | None = None, **values: Any) -> bytes:
    """A DICOM object with a content tree, or with whatever `values` set."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, "1.2.9"
    sr = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    sr.SOPClassUID, sr.SOPInstanceUID = sop_class, "1.2.9"
    sr.Modality, sr.StudyInstanceUID, sr.AccessionNumber = "SR", STUDY, "ACC1"
    sr.PatientName, sr.PatientID, sr.CompletionFlag = "Doe^Jane", "P7", "COMPLETE"
    sr.ContentDate, sr.ContentTime, sr.StudyDate = "20240102", "030405", "20240101"
    if items is not None:
        sr.ConceptNameCodeSequence = code("126000", "Imaging Measurement Report")
        sr.ContentSequence = items
    for keyword, value in values.items():
        setattr(sr, keyword, value)
    stream = io.BytesIO()
    sr.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def text_sr(text: str = "No effusion in Jane Doe.", **values: Any) -> bytes:
    """A Basic Text SR: one text, and an observer who is nobody's business."""
    observer = content("TEXT", code("121008", "Person Observer Name"), "Dr. Secret", "HAS OBS CONTEXT")
    return dicom(BASIC, [observer, content("TEXT", code("121073", "Impression"), text)], **values)


def measurement_sr(**values: Any) -> bytes:
    """A measurement report after TID 1500 with one group of a lesion, and a number outside of it."""
    left = content("CODE", code("272741003", "Laterality", "SCT"), code("7771000", "Left", "SCT"), "HAS CONCEPT MOD")
    site = content("CODE", code("363698007", "Finding Site", "SCT"), code("39607008", "Lung", "SCT"), "HAS CONCEPT MOD")
    site.ContentSequence = [left]
    mean = content("CODE", code("121401", "Derivation"), code("373098007", "Mean", "SCT"), "HAS CONCEPT MOD")
    density = content("NUM", code("112031", "Attenuation"), ("-12.25", "[hnsf'U]"))
    density.ContentSequence = [mean]
    group = content("CONTAINER", code("125007", "Measurement Group"), [
        content("TEXT", code("112039", "Tracking Identifier"), "Lesion 1", "HAS OBS CONTEXT"),
        content("CODE", code("121071", "Finding"), code("27925004", "Nodule", "SCT")),
        site,
        content("NUM", code("103339001", "Long Axis", "SCT"), ("12.5", "mm")),
        density,
    ])  # fmt: skip
    volume = content("NUM", code("118565006", "Volume", "SCT"), ("5200", "ml"))
    whole = content("CONTAINER", code("126010", "Imaging Measurements"), [group, volume])
    return dicom(COMPREHENSIVE, [whole], **values)


def encapsulated(document: bytes, kind: str = "application/pdf", **values: Any) -> bytes:
    """A DICOM object that carries a document."""
    sop_class = PDF_CLASS if kind == "application/pdf" else CDA_CLASS
    padded = document + b"\0" * (len(document) % 2)
    return dicom(
        sop_class, None, Modality="DOC", MIMETypeOfEncapsulatedDocument=kind, EncapsulatedDocument=padded, **values
    )


TABLE = 'accession;report;patient_id;modality;study_date;status\nACC1;"Small; left effusion";P7;CT;20240101;final\n'
RTF = rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0 Kleiner Herd links,\par 6 mm gro\'df.}"


def seeds() -> dict[str, bytes]:
    """One small file of every kind, by a name with the right suffix."""
    line = json.dumps({"accession": "ACC1", "text": TEXT, "score": 1.5})
    resources = [entry["resource"] for entry in bundle()["entry"]]
    packed = base64.b64encode(RTF).decode()
    alone = resources[0] | {
        "identifier": [{"value": "ACC1"}],
        "presentedForm": [attachment(b"<p>A &lt; B", "text/html")],
    }
    return {
        "result.hl7": result("OBX|1|TX|X&GDT^CT||5 \\T\\ 6~7 \\X41\\ \\.br\\end||||||F", "OBX|2|FT|X&IMP||No change."),
        "batch.hl7": batch(result("OBX|1|TX|X||one"), result("OBX|1|TX|X||two", accession="ACC2", status="A")),
        "latin.hl7": result("OBX|1|TX|X||Gr\xf6\xdfe", charset="8859/1", encoding="latin-1"),
        "attached.hl7": result(f"OBX|1|ED|X||^text^rtf^Base64^{packed}", "OBX|2|ST|113014^Study^DCM||" + STUDY),
        "bundle.json": json.dumps(bundle()).encode(),
        "alone.json": json.dumps(alone).encode(),
        "bulk.ndjson": "\n".join(map(json.dumps, resources)).encode(),
        "text.dcm": text_sr(),
        "measurements.dcm": measurement_sr(),
        "document.dcm": encapsulated(cda(), "text/xml"),
        "document.xml": cda(),
        "table.csv": TABLE.encode(),
        "lines.jsonl": f"{line}\n{line}".encode(),
        "list.json": f"[{line}]".encode(),
        "ACC1.txt": TEXT.encode(),
        "wide.txt": TEXT.encode("utf-16"),
        "packed.csv.gz": gzip.compress(TABLE.encode(), mtime=0),
    }
