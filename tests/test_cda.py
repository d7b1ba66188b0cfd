"""C-CDA documents: narrative, links, versions, quantities, and XML that nobody should open carelessly."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_files import STUDY, cda

from reports.cda import MAX_DEPTH, read_cda
from reports.sourced import CodedMeasurement, SourcedReport
from reports.sources import read_reports
from volumes.instance import Refusal, patient_key


def read(data: bytes) -> SourcedReport | Refusal:
    (found,) = read_cda(data, "a.xml")
    return found


def one(data: bytes) -> SourcedReport:
    found = read(data)
    assert isinstance(found, SourcedReport), found
    return found


def test_the_narrative_becomes_text_under_its_headings() -> None:
    report = one(cda())
    assert report.text == (
        "FINDINGS: A nodule in the left lung.\nNo effusion.\nHeart size normal.\nLong axis 6 mm\n\n"
        "ZUSAMMENFASSUNG: [name]: kleiner Herd."
    )
    assert (report.accession, report.study_uid, report.version) == ("ACC1", STUDY, 3)
    assert (report.issued, report.performed) == ("2024-01-02T02:04:05", "2024-01-01T00:00:00")
    assert (report.patient_key, report.other_keys) == (patient_key("P7"), (patient_key("N4"),))
    assert report.measurements == (CodedMeasurement("Nodule size", 6.0, "mm", site="Left lung"),)


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ("", "final"),
        ('<relatedDocument typeCode="RPLC"/>', "corrected"),
        ('<relatedDocument typeCode="APND"/>', "addendum"),
        ('<relatedDocument typeCode="XFRM"/>', "final"),
        ('<sdtc:statusCode code="nullified"/>', "cancelled"),
        ('<sdtc:statusCode code="active"/>', "preliminary"),
    ],
)
def test_what_a_document_does_to_another_is_its_status(extra: str, status: str) -> None:
    assert one(cda(extra=extra)).status == status


def test_an_unstructured_body_is_read_by_its_type() -> None:
    def body(attributes: str, text: str) -> bytes:
        return cda(f"<component><nonXMLBody><text {attributes}>{text}</text></nonXMLBody></component>")

    assert one(body('mediaType="text/plain"', "No effusion.")).text == "No effusion."
    assert one(body('mediaType="text/plain" representation="B64"', "Tm8gZWZmdXNpb24u")).text == "No effusion."
    found = read(body('mediaType="image/jpeg" representation="B64"', "AAAA"))
    assert isinstance(found, Refusal)
    assert found.reason == "unknown-attachment"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<ClinicalDocument", "damaged-xml"),
        (b"<x/>", "not-a-report"),
        (
            b'<!DOCTYPE a [<!ENTITY b "c">]><ClinicalDocument xmlns="urn:hl7-org:v3">&b;</ClinicalDocument>',
            "hostile-xml",
        ),
        (b'<!DOCTYPE a SYSTEM "http://localhost/x.dtd"><ClinicalDocument xmlns="urn:hl7-org:v3"/>', "hostile-xml"),
        (cda().replace(b"18748-4", b"18842-5"), "not-a-report"),
        (cda("<component/>"), "empty-report"),
        (cda().replace(b"ACC1", b"").replace(STUDY.encode(), b"none"), "no-link"),
    ],
)
def test_what_is_no_report_says_why(data: bytes, reason: str) -> None:
    found = read(data)
    assert isinstance(found, Refusal)
    assert found.reason == reason


def test_a_narrative_nested_without_end_is_refused() -> None:
    deep = "<content>" * (MAX_DEPTH + 1) + "x" + "</content>" * (MAX_DEPTH + 1)
    section = f"<component><section><text>{deep}</text></section></component>"
    found = read(cda(f"<component><structuredBody>{section}</structuredBody></component>"))
    assert isinstance(found, Refusal)
    assert "deeper than 100 levels" in found.message


def test_several_order_ids_are_said() -> None:
    report = one(cda().replace(b'<id extension="ACC1"', b'<id extension="ACC1" root="1"/><id extension="OTHER"'))
    assert report.accession == "ACC1"
    assert "the order has 2 ids; the first was taken as accession number" in report.notes


def test_the_real_sample_reads_whole(real_data: Path) -> None:
    (report,) = read_reports([real_data / "interop" / "ccda_diagnostic_imaging_report.xml"])
    assert isinstance(report, SourcedReport)
    headings = [line.partition(":")[0] for line in report.text.split("\n\n")]
    assert headings == ["INDICATION", "HISTORY", "FINDINGS", "IMPRESSION"]
    assert "\nDiameter: 45mm" in report.text
    assert "Source of Measurement" not in report.text
    assert report.study_uid == "1.2.840.113619.2.62.994044785528.114289542805"
    assert report.modality == "CR"
    assert report.measurements == (CodedMeasurement("Nodule size", 45.0, "mm"),)
