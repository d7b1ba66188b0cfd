"""DICOM Structured Reports and encapsulated documents: text, measurements, character sets, what is no report."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from report_files import STUDY, cda, code, content, dicom, encapsulated, measurement_sr, pdf, text_sr

from reports.sourced import CodedMeasurement, SourcedReport
from reports.sources import read_reports
from reports.structured import MAX_DEPTH, read_structured
from volumes.instance import Refusal


def read(data: bytes) -> SourcedReport | Refusal:
    (found,) = read_structured(data, "a.dcm")
    return found


def one(data: bytes) -> SourcedReport:
    found = read(data)
    assert isinstance(found, SourcedReport), found
    return found


def reason(data: bytes) -> str:
    found = read(data)
    assert isinstance(found, Refusal), found
    return found.reason


def test_a_measurement_report_gives_sentences_and_numbers_with_units() -> None:
    report = one(measurement_sr())
    assert report.text == (
        "IMAGING MEASUREMENTS: Nodule, left Lung: long axis 12.5 mm, mean attenuation -12.25 HU\nVolume: 5200 ml"
    )
    assert report.measurements == (
        CodedMeasurement("Long Axis", 12.5, "mm", "Nodule", "Lung", "left", "", 1),
        CodedMeasurement("Attenuation", -12.25, "[hnsf'U]", "Nodule", "Lung", "left", "Mean", 1),
        CodedMeasurement("Volume", 5200.0, "ml"),
    )


@pytest.mark.parametrize("value", ["nan", "inf", "x", ""])
def test_a_number_that_is_none_is_left_out(value: str) -> None:
    data = measurement_sr().replace(b"12.5", value.encode().ljust(4)[:4] if value else b"    ")
    assert [m.value for m in one(data).measurements] == [-12.25, 5200.0]


def test_an_observer_and_the_patients_name_stay_out_of_the_text() -> None:
    report = one(text_sr())
    assert report.text == "IMPRESSION: No effusion in [name]."
    assert (report.performed, report.issued) == ("2024-01-01T00:00:00", "2024-01-02T03:04:05")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "final"),
        ({"CompletionFlag": "PARTIAL"}, "preliminary"),
        ({"PreliminaryFlag": "PRELIMINARY"}, "preliminary"),
        ({"PredecessorDocumentsSequence": [Dataset()]}, "corrected"),
    ],
)
def test_flags_and_predecessors_make_the_status(change: dict[str, object], status: str) -> None:
    assert one(text_sr(**change)).status == status


def test_the_study_is_that_of_the_evidence_and_the_number_that_of_the_request() -> None:
    evidence, request = Dataset(), Dataset()
    evidence.StudyInstanceUID, request.AccessionNumber = "1.2.3", "REQ"
    report = one(text_sr(
        CurrentRequestedProcedureEvidenceSequence=[evidence], ReferencedRequestSequence=[request], AccessionNumber=""
    ))  # fmt: skip
    assert (report.study_uid, report.accession) == ("1.2.3", "REQ")
    assert one(text_sr()).study_uid == STUDY


@pytest.mark.parametrize(
    ("data", "text", "note"),
    [
        (
            "Größe".encode("latin-1"),
            "Größe",
            "no SpecificCharacterSet, although the text is not ASCII; read as ISO 8859-1",
        ),
        ("Größe".encode(), "Größe", "no SpecificCharacterSet, although the text is not ASCII; read as UTF-8"),
    ],
)
def test_text_without_a_character_set_is_repaired(data: bytes, text: str, note: str) -> None:
    filled = text_sr("x" * len(data)).replace(b"x" * len(data), data)
    report = one(filled)
    assert report.text == f"IMPRESSION: {text}"
    assert report.notes == (note,)


def test_a_character_set_that_does_not_exist_is_no_statement_and_a_real_one_is_used() -> None:
    data = text_sr("Größe", SpecificCharacterSet="ISO_IR 192")
    assert (one(data).text, one(data).notes) == ("IMPRESSION: Größe", ())
    report = one(data.replace(b"ISO_IR 192", b"UTF-8     "))
    assert report.text == "IMPRESSION: Größe"
    assert report.notes == ("the unknown SpecificCharacterSet 'UTF-8', although the text is not ASCII; read as UTF-8",)


def test_dose_reports_cad_and_images_are_no_reports() -> None:
    dose = "1.2.840.10008.5.1.4.1.1.88.67"
    assert reason(dicom(dose, [content("TEXT", code("1", "x"), "y")])) == "not-a-report"
    enhanced = "1.2.840.10008.5.1.4.1.1.88.22"
    titled = dicom(
        enhanced, [content("TEXT", code("1", "x"), "y")], ConceptNameCodeSequence=code("113701", "X-Ray Dose")
    )
    assert reason(titled) == "not-a-report"
    assert reason(dicom("1.2.840.10008.5.1.4.1.1.2", None, Modality="CT")) == "not-a-report"


def test_encapsulated_documents_are_read() -> None:
    assert one(encapsulated(pdf("No effusion in", "Jane Doe."))).text == "No effusion in\n[name]."
    report = one(encapsulated(cda(), "text/xml"))
    assert report.text.startswith("FINDINGS: A nodule in the left lung.")
    assert (report.accession, report.study_uid) == ("ACC1", STUDY)


def test_a_pdf_of_pictures_a_locked_type_and_nothing_are_refused() -> None:
    assert reason(encapsulated(pdf(pages=2))) == "image-only-pdf"
    assert reason(encapsulated(pdf("x")[:200])) == "damaged-pdf"
    assert reason(encapsulated(b"GIF89a", "image/gif")) == "unknown-attachment"
    assert reason(encapsulated(b"")) == "empty-report"
    assert reason(text_sr(" ")) == "empty-report"


def test_content_that_nests_or_repeats_without_end_is_refused() -> None:
    item = content("TEXT", code("1", "x"), "deep")
    for _ in range(MAX_DEPTH + 2):
        item = content("CONTAINER", code("2", "y"), [item])
    found = read(dicom(items=[item]))
    assert isinstance(found, Refusal)
    assert "content nested deeper than 32 levels" in found.message


def test_content_by_reference_is_not_followed_into_a_circle() -> None:
    pointer = Dataset()
    pointer.RelationshipType, pointer.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 1]
    text = content("TEXT", code("1", "Finding"), "Nodule.")
    text.ContentSequence = [pointer]
    assert one(dicom(items=[text])).text == "FINDING: Nodule."


def test_a_deflated_bomb_is_refused() -> None:
    dataset = pydicom.dcmread(io.BytesIO(text_sr("x" * 60_000_000)))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    stream = io.BytesIO()
    dataset["ContentSequence"].value[1].TextValue = "x" * 80_000_000
    dataset.save_as(stream, enforce_file_format=True)
    assert reason(stream.getvalue()) == "deflate-bomb"


@pytest.mark.parametrize(("number", "count"), [("1005", 2), ("1007", 0)])
def test_real_german_reports_without_a_character_set_are_read(real_data: Path, number: str, count: int) -> None:
    found = list(read_reports([next((real_data / "dicom_series").glob(f"ood_fruit_{number}_*.zip"))]))
    reports = [one for one in found if isinstance(one, SourcedReport)]
    assert len(reports) == count
    for report in reports:
        assert report.text.startswith("DIAGNOSIS: Befund:")
        assert any("read as ISO 8859-1" in note for note in report.notes)
        assert report.accession
        assert "\ufffd" not in report.text
    assert {one.reason for one in found if isinstance(one, Refusal)} == {"not-a-report"}  # the images


def test_a_real_measurement_report_is_read(real_data: Path) -> None:
    (report,) = read_reports([real_data / "dicom_odd" / "rt_seg_sr" / "sr_document.dcm"])
    assert isinstance(report, SourcedReport)
    assert report.measurements == (
        CodedMeasurement("Area of defined region", 1.7, "cm2", "Spinal cord", "Cervico-thoracic spine", group=1),
    )
    assert report.status == "preliminary"
