"""FHIR R4 and R5 reports as servers give them: references, results, bulk exports, circles and odd values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_files import RTF, STUDY, attachment, bundle, cda, pdf

from reports.fhir import read_fhir
from reports.sourced import CodedMeasurement, SourcedReport
from reports.sources import read_reports
from volumes.instance import Refusal, patient_key


def read(document: Any) -> list[SourcedReport | Refusal]:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(read_fhir(data, "a.json"))


def one(document: Any) -> SourcedReport:
    (found,) = read(document)
    assert isinstance(found, SourcedReport), found
    return found


def parts(**report: Any) -> dict[str, dict[str, Any]]:
    """The resources of a bundle by their types; of the two observations the first."""
    found: dict[str, dict[str, Any]] = {}
    for entry in bundle(**report)["entry"]:
        found.setdefault(entry["resource"]["resourceType"], entry["resource"])
    return found


def test_a_bundle_gives_text_links_modality_time_and_all_pseudonyms() -> None:
    report = one(bundle(conclusion="Jane Doe has a nodule."))
    assert (
        report.text
        == "FINDINGS: Nodule diameter: 6.5 mm (left lung)\nTexture: solid\n\nIMPRESSION: [name] has a nodule."
    )
    assert (report.accession, report.study_uid, report.modality) == ("ACC1", STUDY, "CT")
    assert (report.performed, report.issued) == ("2024-03-01T09:00:00", "2024-03-01T10:00:00")
    assert (report.patient_key, report.other_keys) == (patient_key("P7"), (patient_key("N4"),))
    assert report.measurements == (CodedMeasurement("Nodule diameter", 6.5, "mm", site="left lung", side="left"),)


def test_r5_names_and_contained_resources_are_read() -> None:
    resources = parts()
    study = resources["ImagingStudy"] | {"modality": [{"coding": [{"code": "MR"}]}]}
    report = resources["DiagnosticReport"] | {
        "contained": [study], "study": [{"reference": "#s"}], "meta": {"versionId": "4"},
    }  # fmt: skip
    del report["imagingStudy"], report["basedOn"], report["result"]
    found = one(report)
    assert (found.study_uid, found.modality, found.version) == (STUDY, "MR", 4)


def test_a_study_made_for_the_same_order_is_the_reports() -> None:
    resources = parts()
    resources["ImagingStudy"]["basedOn"] = [{"reference": "http://server/fhir/ServiceRequest/o"}]
    del resources["DiagnosticReport"]["imagingStudy"]
    assert one(list(resources.values())).study_uid == STUDY


def test_a_servers_own_id_of_a_patient_is_no_pseudonym() -> None:
    resources = parts()
    del resources["Patient"]
    assert one(list(resources.values())).patient_key is None


@pytest.mark.parametrize(
    ("stated", "status"),
    [
        ("registered", "preliminary"), ("partial", "preliminary"), ("modified", "preliminary"), ("final", "final"),
        ("amended", "corrected"), ("corrected", "corrected"), ("appended", "addendum"), ("cancelled", "cancelled"),
        ("entered-in-error", "cancelled"),
    ],
)  # fmt: skip
def test_every_status_has_a_meaning(stated: str, status: str) -> None:
    assert one(bundle(status=stated)).status == status


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (attachment(b"No effusion.", "text/plain"), "No effusion."),
        (attachment("Größe".encode("latin-1"), "text/plain; charset=iso-8859-1"), "Größe"),
        (attachment(b"<style>p{}</style><p>A<!-- x -->B</p><script>x</script>", "text/html"), "AB"),
        (attachment(RTF, "application/rtf"), "Kleiner Herd links,\n6 mm groß."),
        (attachment(pdf("No effusion."), "application/pdf"), "No effusion."),
    ],
)
def test_a_presented_form_is_read_by_its_type(form: dict[str, Any], text: str) -> None:
    assert one(bundle(presentedForm=[form])).text == text


def test_a_presented_cda_is_read_and_one_that_cannot_be_is_noted() -> None:
    assert one(bundle(presentedForm=[attachment(cda(), "application/xml")])).text.startswith("FINDINGS: A nodule")
    report = one(bundle(presentedForm=[attachment(pdf(), "application/pdf")]))
    assert "a presentedForm of type application/pdf was left out" in report.notes[0]
    assert "1 page(s) are pictures without text" in report.notes[0]
    assert report.text.endswith("IMPRESSION: Small nodule in the left lung.")


def test_resources_that_refer_to_themselves_end() -> None:
    resources = parts()
    resources["Observation"]["hasMember"] = [{"reference": "Observation/a"}] * 100
    resources["DiagnosticReport"]["result"] = [{"reference": "Observation/a"}] * 100
    resources["DiagnosticReport"]["contained"] = [{"resourceType": "DiagnosticReport", "id": "r", "contained": []}]
    resources["DiagnosticReport"]["imagingStudy"] = [{"reference": "#r"}, {"reference": "DiagnosticReport/r"}]
    report = one(list(resources.values()))
    assert report.text.count("Nodule diameter") == 1


def test_entered_in_error_results_are_left_out_and_numbers_that_are_none_too() -> None:
    resources = parts()
    resources["Observation"] |= {"status": "entered-in-error", "hasMember": []}
    assert one(list(resources.values())).text == "IMPRESSION: Small nodule in the left lung."
    text = json.dumps(bundle()).replace("6.5", "1e999")
    assert one(text.encode()).measurements == ()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_know_are_refused(number: str) -> None:
    (refusal,) = read(json.dumps(bundle()).replace("6.5", number).encode())
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "not-json"
    assert f"{number} is no JSON number" in refusal.message


def test_nesting_of_a_hundred_thousand_levels_is_refused() -> None:
    for text in ("[" * 100_000 + "]" * 100_000, '{"a":' * 100_000):
        (refusal,) = read(text.encode())
        assert isinstance(refusal, Refusal)
        assert "nested too deeply" in refusal.message
    nested = bundle()
    for _ in range(200):
        nested = {"resourceType": "Bundle", "entry": [{"resource": nested}]}
    (refusal,) = read(nested)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "no-report"


def test_a_damaged_line_of_ndjson_costs_itself() -> None:
    report = parts()["DiagnosticReport"] | {"identifier": [{"value": "A1"}]}
    lines = [json.dumps(report), "{broken", json.dumps(report | {"id": "r2"})]
    found = read("\n".join(lines).encode())
    assert [one.reason for one in found if isinstance(one, Refusal)] == ["not-json"]
    assert [one.accession for one in found if isinstance(one, SourcedReport)] == ["A1", "A1"]


def test_a_bulk_export_is_joined_across_its_files(tmp_path: Path) -> None:
    for number, resource in enumerate(entry["resource"] for entry in bundle()["entry"][:4]):
        name = f"{number}.{resource['resourceType']}.ndjson"
        (tmp_path / name).write_text(json.dumps(resource) + "\n" + json.dumps(resource | {"id": "other"}) + "\n")
    found = list(read_reports([tmp_path]))
    reports = [one for one in found if isinstance(one, SourcedReport)]
    assert [(r.accession, r.study_uid, r.patient_key) for r in reports] == [("ACC1", STUDY, patient_key("P7"))] * 2


@pytest.mark.parametrize(
    "change",
    [
        {"subject": {"identifier": {"value": "\ud800"}}}, {"subject": [1, "x"]},
        {"subject": {"reference": 5}}, {"identifier": {"value": {"x": 1}}}, {"result": "x"},
        {"presentedForm": [{"data": 7, "contentType": ["x"]}]}, {"text": {"div": 5}}, {"meta": []},
        {"imagingStudy": [{"reference": "#"}]}, {"basedOn": {"reference": None}}, {"issued": "2024-13-45"},
        {"contained": [[], None, {"id": {}}]}, {"issued": "0001-01-01T00:00:00+14:00"},
    ],
)  # fmt: skip
def test_values_of_another_kind_than_expected_do_no_harm(change: dict[str, Any]) -> None:
    (found,) = read(bundle(**change))
    assert isinstance(found, SourcedReport)
    assert "Small nodule in the left lung." in found.text
