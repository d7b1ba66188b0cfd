"""Reports come in from every kind of file, and what cannot be taken says why."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from reports.messages import diagnostic_report, oru_message
from reports.sources import Columns, Refusal, SourcedReport, read_reports
from reports.tables import detect_columns
from reports.versions import current_reports
from volumes.instance import patient_key

TEXT = "FINDINGS: Small left effusion.\n\nIMPRESSION: Small left effusion."


def taken(found: list[SourcedReport | Refusal]) -> list[SourcedReport]:
    return [one for one in found if isinstance(one, SourcedReport)]


def refused(found: list[SourcedReport | Refusal]) -> list[Refusal]:
    return [one for one in found if isinstance(one, Refusal) and one.kind == "refusal"]


def read(path: Path, **options: object) -> list[SourcedReport | Refusal]:
    return list(read_reports([path], **options))  # type: ignore[arg-type]


def hl7(*segments: str, charset: str = "") -> bytes:
    head = "MSH|^~\\&|RIS|H|||20240102030405||ORU^R01|1|P|2.3" + "|" * 6 + charset
    return "\r".join((head, *segments)).encode() + b"\r"


def test_repeated_obx_and_every_escape_become_one_text(tmp_path: Path) -> None:
    (tmp_path / "a.hl7").write_bytes(
        hl7(
            "PID|1||P7^^^H||Doe^Jane",
            "OBR|1|PL1|FILL1|71020^Chest" + "|" * 14 + "ACC1" + "|" * 7 + "C",
            r"OBX|1|TX|71020&GDT^Chest||5 \F\ 6 \S\ 7 \T\ 8 \R\ 9 \E\ 10\.br\second \X41\line",
            "OBX|2|FT|71020&GDT^Chest||third~fourth",
            "OBX|3|TX|71020&IMP^Chest||No change.",
            "OBX|4|ST|113014^Study Instance UID^DCM||1.2.3.4",
        )
    )
    (report,) = taken(read(tmp_path))
    assert report.text == ("FINDINGS: 5 | 6 ^ 7 & 8 ~ 9 \\ 10\nsecond Aline\nthird\nfourth\n\nIMPRESSION: No change.")
    assert (report.accession, report.study_uid, report.status) == ("ACC1", "1.2.3.4", "corrected")
    assert report.patient_key == patient_key("P7")
    assert report.issued == "2024-01-02T03:04:05"
    assert "Doe" not in repr(report)
    assert str(tmp_path) not in repr(report)


def test_accession_comes_from_obx_then_obr_18_then_obr_3(tmp_path: Path) -> None:
    (tmp_path / "a.hl7").write_bytes(hl7("OBR|1||F3|X", "OBX|1|TX|X||text"))
    (tmp_path / "b.hl7").write_bytes(hl7("OBR|1||F3|X", "OBX|1|TX|X||text", "OBX|2|ST|121022^Acc^DCM||OBX9"))
    assert [r.accession for r in taken(read(tmp_path))] == ["F3", "OBX9"]


def test_the_patients_name_is_removed_from_the_text_but_words_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.hl7").write_bytes(
        hl7("PID|1||P7||Small^Anna", "OBR|1||F|X", "OBX|1|TX|X||Mrs. Small, known as Anna Small: small left effusion.")
    )
    (report,) = taken(read(tmp_path))
    assert report.text == "[name], known as [name]: small left effusion."
    assert report.notes == ("the patient's name was replaced 2 time(s)",)


def test_encapsulated_text_is_read_and_a_picture_is_refused_by_name(tmp_path: Path) -> None:
    data = base64.b64encode("Größe 5 mm".encode()).decode()
    (tmp_path / "a.hl7").write_bytes(hl7("OBR|1||A|X", f"OBX|1|ED|X||^text^plain^Base64^{data}"))
    (tmp_path / "b.hl7").write_bytes(hl7("OBR|1||B|X", "OBX|1|ED|X||^image^jpeg^Base64^JVBFRi0="))
    found = read(tmp_path)
    assert [r.text for r in taken(found)] == ["Größe 5 mm"]
    (refusal,) = refused(found)
    assert refusal.reason == "empty-report"
    assert "an OBX with image/jpeg was left out: found a document of type 'jpeg'" in refusal.message


def test_line_ends_inside_a_field_and_a_batch_of_messages(tmp_path: Path) -> None:
    one = b"\x0b" + hl7("OBR|1||A|X", "OBX|1|TX|X||first\nsecond line") + b"\x1c\r"
    (tmp_path / "batch.hl7").write_bytes(one + hl7("OBR|1||B|X", "OBX|1|TX|X||other"))
    assert [(r.accession, r.text) for r in taken(read(tmp_path))] == [("A", "first\nsecond line"), ("B", "other")]


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"hello", "not-hl7", r"found no MSH segment; expected an HL7 v2 message"),
        (b"MSH|^~\\&|||||1||ADT^A01|1|P|2.3\rPID|1||P\r", "not-a-result", r"type ADT\^A01; expected ORU\^R01"),
        (hl7("OBR|1||A|X"), "empty-report", r"no text in the OBX segments"),
        (hl7("OBR|1|||X", "OBX|1|TX|X||text"), "no-link", r"neither an accession number nor a study UID"),
        (hl7("OBR|1||A|X" + "|" * 21 + "Q", "OBX|1|TX|X||t"), "unknown-status", r"OBR-25 'Q'; expected one of F, C"),
        (hl7("OBR|1||A|X", charset="KLINGON"), "unknown-charset", r"MSH-18 'KLINGON'"),
        (hl7("OBR|1||A|X") + "OBX|1|TX|X||Größe\r".encode("latin-1"), "undecodable-text", r"empty MSH-18, so utf-8"),
    ],
)
def test_an_unreadable_message_says_why(tmp_path: Path, data: bytes, reason: str, message: str) -> None:
    (tmp_path / "a.hl7").write_bytes(data)
    (refusal,) = read(tmp_path)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert re.search(message, refusal.message), refusal.message


def test_a_stated_encoding_is_used_where_the_message_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.hl7").write_bytes(hl7("OBR|1||A|X") + "OBX|1|TX|X||Größe\r".encode("latin-1"))
    assert [r.text for r in taken(read(tmp_path, encoding="latin-1"))] == ["Größe"]


def version(folder: Path, name: str, status: str, day: int, text: str = TEXT) -> None:
    issued = dt.datetime(2024, 1, day, tzinfo=dt.UTC)
    message = oru_message(text, accession="A", study_uid="1.2", patient_id="P", status=status, issued=issued)  # type: ignore[arg-type]
    (folder / name).write_text(message, newline="")


def settled(path: Path) -> list[SourcedReport | Refusal]:
    return list(current_reports(read_reports([path])))


def told(found: list[SourcedReport | Refusal]) -> list[tuple[str, str]]:
    return [(one.kind, one.reason) for one in found if isinstance(one, Refusal)]


def test_the_latest_corrected_report_wins_and_the_others_are_named(tmp_path: Path) -> None:
    version(tmp_path, "1.hl7", "preliminary", 1, "old")
    version(tmp_path, "2.hl7", "corrected", 3, "newest")
    version(tmp_path, "3.hl7", "corrected", 2, "older correction")
    version(tmp_path, "4.hl7", "final", 9, "final, late")
    found = settled(tmp_path)
    assert [r.text for r in taken(found)] == ["newest"]
    assert told(found) == [("repair", "superseded")] * 3
    expected = "report A, preliminary, of 2024-01-01T00:00:00: replaced by the corrected version of 2024-01-03T00:00:00"
    assert expected in [one.message for one in found if isinstance(one, Refusal)]


def test_a_withdrawn_report_leaves_none(tmp_path: Path) -> None:
    version(tmp_path, "1.hl7", "final", 1)
    version(tmp_path, "2.hl7", "cancelled", 2)
    found = settled(tmp_path)
    assert taken(found) == []
    assert told(found) == [("refusal", "withdrawn")] * 2


def test_a_report_issued_after_a_withdrawal_counts(tmp_path: Path) -> None:
    version(tmp_path, "1.hl7", "cancelled", 1)
    version(tmp_path, "2.hl7", "final", 2)
    assert [r.text for r in taken(settled(tmp_path))] == [TEXT]


def test_duplicates_and_conflicts_are_told_apart(tmp_path: Path) -> None:
    version(tmp_path, "1.hl7", "final", 1)
    version(tmp_path, "2.hl7", "final", 1)
    assert [r.text for r in taken(settled(tmp_path))] == [TEXT]
    assert told(settled(tmp_path)) == [("repair", "duplicate-report")]
    version(tmp_path, "3.hl7", "final", 1, "something else")
    found = settled(tmp_path)
    assert taken(found) == []  # whichever came first
    assert sorted(told(found)) == [("refusal", "several-reports")] * 2 + [("repair", "duplicate-report")]


def fhir(folder: Path, resource: object, name: str = "a.json") -> list[SourcedReport | Refusal]:
    (folder / name).write_text(json.dumps(resource), encoding="utf-8")
    return read(folder)


def test_a_bundle_links_report_order_and_imaging_study(tmp_path: Path) -> None:
    acsn = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
    order = {"resourceType": "ServiceRequest", "id": "o", "identifier": [{"type": acsn, "value": "ACC7"}]}
    study_id = {"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.7"}
    study = {"resourceType": "ImagingStudy", "id": "s", "identifier": [study_id]}
    patient = {"resourceType": "Patient", "id": "p", "name": [{"family": "Doe", "given": ["Jane"]}],
               "identifier": [{"value": "P7"}]}  # fmt: skip
    report = {
        "resourceType": "DiagnosticReport", "status": "amended", "subject": {"reference": "Patient/p"},
        "basedOn": [{"reference": "ServiceRequest/o"}], "study": [{"reference": "urn:uuid:77"}],  # study: R5's name
        "issued": "2024-03-01T12:00:00+02:00", "conclusion": "Jane Doe: no effusion.",
    }  # fmt: skip
    entries = [{"resource": r} for r in (order, patient, report)] + [{"fullUrl": "urn:uuid:77", "resource": study}]
    (found,) = fhir(tmp_path, {"resourceType": "Bundle", "entry": entries})
    assert isinstance(found, SourcedReport)
    assert (found.accession, found.study_uid, found.status) == ("ACC7", "1.2.840.7", "corrected")
    assert found.text == "IMPRESSION: [name]: no effusion."
    assert found.issued == "2024-03-01T10:00:00"
    assert found.patient_key == patient_key("P7")


def test_html_is_read_as_text(tmp_path: Path) -> None:
    report = diagnostic_report(TEXT, accession="A", study_uid="1.2", patient_id="P")
    markup = "<p>Findings:<br/>5 &lt; 6 <b>mm</b></p><p>End</p>"
    report["presentedForm"] = [{"contentType": "text/html", "data": base64.b64encode(markup.encode()).decode()}]
    (found,) = fhir(tmp_path, report)
    assert isinstance(found, SourcedReport)
    assert found.text == "Findings:\n5 < 6 mm\nEnd"


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"status": "unknown"}, "unknown-status", "found status 'unknown'"),
        (
            {"presentedForm": [{"contentType": "application/pdf", "data": "JVBERi0="}]},
            "empty-report",
            "application/pdf",
        ),
        ({"presentedForm": [{"contentType": "text/plain", "url": "https://x"}]}, "empty-report", "URL was not fetched"),
        ({"presentedForm": [{"contentType": "text/plain", "data": "%%%"}]}, "empty-report", "not base64"),
        ({"identifier": [], "contained": []}, "no-link", "neither an accession number nor a study UID"),
        ({"resourceType": "Patient"}, "no-report", "found Patient; expected a DiagnosticReport"),
    ],
)
def test_an_unreadable_resource_says_why(tmp_path: Path, change: dict[str, object], reason: str, message: str) -> None:
    report = diagnostic_report(TEXT, accession="A", study_uid="1.2", patient_id="P")
    (refusal,) = fhir(tmp_path, report | change)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert message in refusal.message


def test_broken_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"resourceType": "DiagnosticReport", ')
    (refusal,) = refused(read(tmp_path))
    assert refusal.reason == "not-json"


def test_a_table_is_read_by_its_usual_column_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        'Accession_Number;Findings;IMPRESSION;Patient ID;Split;View\nA1;"Two\nlines; quoted";Normal.;P7;val;AP\n'
    )
    detected, report = read(tmp_path)
    assert isinstance(detected, Refusal)
    assert detected.kind == "repair"
    assert "text from 'Findings + IMPRESSION', accession from 'Accession_Number'" in detected.message
    assert isinstance(report, SourcedReport)
    assert report.text == "FINDINGS: Two\nlines; quoted\n\nIMPRESSION: Normal."
    assert (report.accession, report.split, report.view) == ("A1", "val", "AP")
    assert report.patient_key == patient_key("P7")


def test_named_columns_win_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,note,report\nx.png,taken,other\n")
    named = Columns(text=("note",), image="file")
    assert [(r.text, r.image) for r in taken(read(tmp_path, columns=named))] == [("taken", "x.png")]
    (refusal,) = refused(read(tmp_path, columns=Columns(text=("nope",))))
    assert "no column 'nope' among 3 column(s): 'file', 'note', 'report'" in refusal.message


def test_rows_without_text_or_link_are_refused_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("accession,report\nA,\n,text\nB,fine\nC,a,b\n")
    found = read(tmp_path)
    assert [r.accession for r in taken(found)] == ["B"]
    assert [(r.reason, r.where.rsplit(":", 1)[1]) for r in refused(found)] == [
        ("empty-report", "row 1"), ("no-link", "row 2"), ("damaged-row", "row 4"),
    ]  # fmt: skip


def test_a_table_without_text_says_which_columns_it_has() -> None:
    with pytest.raises(ValueError, match=r"no column of text among 2 column\(s\): 'a', 'b'"):
        detect_columns(["a", "b"])


def test_json_lines_and_a_json_list_are_tables(tmp_path: Path) -> None:
    rows = [{"study_uid": "1.2.3", "text": "one"}, {"study_uid": "S4", "text": "two"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.json").write_text(json.dumps(rows))
    assert [(r.study_uid, r.accession) for r in taken(read(tmp_path))] == [("1.2.3", ""), ("", "S4")] * 2


def test_a_plain_text_is_named_after_its_accession_number(tmp_path: Path) -> None:
    (tmp_path / "ACC5.txt").write_text("Findings:  \r\n\r\n\r\n\r\nClear.\n")
    (tmp_path / "ACC6.txt").write_text(" \n")
    found = read(tmp_path)
    assert [(r.accession, r.text) for r in taken(found)] == [("ACC5", "Findings:\n\nClear.")]
    assert [r.reason for r in refused(found)] == ["empty-report"]


def test_missing_paths_and_strange_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<x/>")
    (tmp_path / "b.xml").write_text("<x/>")
    found = list(read_reports([tmp_path, tmp_path / "absent"]))
    assert [r.reason for r in refused(found)] == ["unknown-format", "missing"]
    assert "found 2 file(s) ending in '.xml'" in refused(found)[0].message


def write_sr(path: Path, **changes: str) -> None:
    def code(meaning: str) -> list[Dataset]:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99T", meaning
        return [item]

    text, observer = Dataset(), Dataset()
    text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", "No effusion in John Doe."
    text.ConceptNameCodeSequence = code("Impression")
    observer.RelationshipType, observer.ValueType, observer.TextValue = "HAS OBS CONTEXT", "TEXT", "Dr. Secret"
    observer.ConceptNameCodeSequence = code("Observer")
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.9"
    sr = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    sr.SOPClassUID, sr.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    sr.Modality, sr.StudyInstanceUID, sr.AccessionNumber = "SR", "1.2.3", "A3"
    sr.PatientName, sr.PatientID, sr.CompletionFlag = "Doe^John", "P7", "PARTIAL"
    sr.ContentDate, sr.ContentTime = "20240102", "030405"
    sr.ContentSequence = [observer, text]
    for keyword, value in changes.items():
        setattr(sr, keyword, value)
    sr.save_as(path, enforce_file_format=True)


def test_a_dicom_sr_gives_its_text_without_observers_and_names(tmp_path: Path) -> None:
    write_sr(tmp_path / "a.dcm")
    (report,) = taken(read(tmp_path))
    assert report.text == "IMPRESSION: No effusion in [name]."
    assert (report.accession, report.study_uid, report.status) == ("A3", "1.2.3", "preliminary")
    assert report.issued == "2024-01-02T03:04:05"
    assert report.patient_key == patient_key("P7")


def test_a_dicom_image_is_no_report(tmp_path: Path) -> None:
    write_sr(tmp_path / "a.dcm", Modality="CT")
    (refusal,) = refused(read(tmp_path))
    assert refusal.reason == "not-a-report"
    assert "DICOM of modality CT" in refusal.message


@pytest.mark.parametrize(
    ("table", "reports", "refusals"),
    [
        ("reports/openi_cxr_reports.csv", 2348, 0),
        ("reports/ctrate_chest_ct_reports_18labels.csv", 800, 0),
        ("cxr/cxr.csv", 178, 120),
    ],
)
def test_real_tables_are_read_whole(real_data: Path, table: str, reports: int, refusals: int) -> None:
    found = read(real_data / table)
    assert len(taken(found)) == reports
    assert len(refused(found)) == refusals
    assert all(report.text and (report.accession or report.image) for report in taken(found))


def test_a_real_fhir_report_is_read_from_its_narrative(real_data: Path) -> None:
    (report,) = taken(read(real_data / "interop" / "siim_fhir_DiagnosticReport_z058.ct5570.json"))
    assert "Impression:\n1. No evidence of pulmonary embolism." in report.text
    assert "text from the narrative" in report.notes
