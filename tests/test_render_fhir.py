"""A draft as a FHIR Bundle is valid R4 and R5, and our own reader reads the same text and findings."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from drafts import ISSUED, MARKED, SENTENCES, draft, header, sentence
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft
from reports.fhir import read_fhir
from reports.findings import Finding, find
from reports.render import render
from reports.render_text import plain_text, visible_draft
from reports.sourced import SourcedReport

VERSIONS = ("r4", "r5")


def bundle(of: Draft, version: str = "r4", with_header: bool = True) -> dict[str, Any]:
    made = render(of, "fhir", {}, [header()] if with_header else [], fhir_version=version, issued=ISSUED)  # type: ignore[arg-type]
    return json.loads(made)


def of_type(made: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in made["entry"] if entry["resource"]["resourceType"] == kind]


def validate(made: dict[str, Any], version: str) -> None:
    """R4 is checked with the models of R4B, which state these resources as R4 does."""
    if version == "r4":
        from fhir.resources.R4B.bundle import Bundle
    else:
        from fhir.resources.bundle import Bundle
    checked = Bundle.model_validate(made)
    assert json.loads(checked.model_dump_json())["entry"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("with_header", [True, False])
def test_the_bundle_is_valid(version: str, with_header: bool) -> None:
    made = bundle(draft(), version, with_header)
    validate(made, version)
    (report,) = of_type(made, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert ("study" if version == "r5" else "imagingStudy") in report
    assert {label["code"] for label in report["meta"]["security"]} == {"AIAST", "HTEST"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_reference_leads_to_a_resource_of_the_bundle(version: str) -> None:
    made = bundle(draft(), version)
    known = {entry["fullUrl"] for entry in made["entry"]}
    found: list[str] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            found.extend([part["reference"]] if "reference" in part else [])
            for value in part.values():
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(made)
    assert len(known) == len(made["entry"])
    assert set(found) <= known
    results = {one["reference"] for one in of_type(made, "DiagnosticReport")[0]["result"]}
    assert len(results) == len(of_type(made, "Observation")) == sum(len(s.findings) for s in SENTENCES)


def test_the_text_says_draft_and_keeps_every_mark() -> None:
    (report,) = of_type(bundle(draft()), "DiagnosticReport")
    text = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    assert text == plain_text(draft())
    for needed in (DRAFT_NOTICE, SIMULATED_NOTICE, *MARKED):
        assert needed in text
        assert needed in report["text"]["div"]
    assert report["conclusion"].startswith(DRAFT_NOTICE)
    (device,) = of_type(bundle(draft()), "Device")
    assert {"text": "model digest"} in [version["type"] for version in device["version"]]
    assert device["identifier"][0]["value"] == "sha256:ab"


def by_text(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["code"]["text"]: one for one in of_type(made, "Observation")}


def test_absent_is_stated_and_an_unsupported_claim_is_no_answer() -> None:
    found = by_text(bundle(draft()))
    answers = {name: one["valueCodeableConcept"]["coding"][0]["display"] for name, one in found.items()}
    assert answers["pneumothorax"] == "Absent"
    assert found["pneumothorax"]["interpretation"][0]["coding"][0]["code"] == "NEG"
    assert answers["[CONTRADICTED] cardiomegaly"] == answers["[UNSUPPORTED] lung mass"] == "Undetermined"
    heart = found["[CONTRADICTED] cardiomegaly"]
    assert heart["valueCodeableConcept"]["text"] == "[CONTRADICTED] present"
    assert heart["interpretation"][0]["coding"][0]["code"] == "IND"
    assert heart["note"][0]["text"] == "Sentence 6 of the draft: [CONTRADICTED] The heart is enlarged."
    assert heart["note"][2]["text"].startswith(
        "region: most likely place of pleural effusion [row 100–180; column 40–90;"
    )
    parts = {part["code"]["text"]: part for part in heart["component"]}
    assert parts["Status as the draft states it"]["valueCodeableConcept"]["coding"][0]["display"] == "Present"


def test_side_site_and_size_are_coded() -> None:
    found = by_text(bundle(draft()))
    nodule = found["lung nodule"]
    assert nodule["bodySite"]["text"] == "left upper lobe (Upper lobe of lung)"
    parts = {part["code"]["coding"][0]["code"]: part for part in nodule["component"]}
    assert parts["81827009"]["valueQuantity"] == {
        "value": 12.0, "unit": "mm", "system": "http://unitsofmeasure.org", "code": "mm"
    }  # fmt: skip
    assert parts["272741003"]["valueCodeableConcept"]["text"] == "Left"
    codes = [part["code"]["coding"][0]["code"] for part in found["[UNSUPPORTED] lung mass"]["component"]]
    assert "81827009" not in codes  # its 30 mm were measured by nobody


def test_patient_and_order_come_from_the_images_or_stay_out() -> None:
    named = bundle(draft())
    (study,) = of_type(named, "ImagingStudy")
    assert study["identifier"][0] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}
    assert study["subject"]["identifier"]["value"] == "P1"
    assert "SIMULATED^P1" not in json.dumps(named)
    (report,) = of_type(named, "DiagnosticReport")
    assert report["effectiveDateTime"] == "2024-01-02"
    bare = bundle(draft(), with_header=False)
    assert "identifier" not in of_type(bare, "ImagingStudy")[0]["subject"]
    assert "subject" not in of_type(bare, "DiagnosticReport")[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_our_reader_reads_the_same_text_and_findings(version: str) -> None:
    (report,) = read_fhir(json.dumps(bundle(draft(), version)).encode(), "draft.fhir.json")
    assert isinstance(report, SourcedReport)
    assert report.text == plain_text(draft())
    assert (report.status, report.accession, report.study_uid) == ("preliminary", "A1", "1.2.3")
    stated = [replace(f, sentence=None) for f in find(report.text)]
    assert stated == [replace(f, sentence=None) for s in SENTENCES for f in s.findings]


@pytest.mark.parametrize("version", VERSIONS)
def test_hostile_text_stays_text_and_odd_numbers_stay_out(version: str) -> None:
    odd = Finding("<b>odd</b> \x00name " + "x" * 200, "present", "left", size_mm=float("inf"))
    hostile = replace(sentence("<script>alert(1)</script> \x07 \u202eabc"), findings=(odd,), confidence=float("nan"))
    made = bundle(draft(hostile), version)
    validate(made, version)
    (report,) = of_type(made, "DiagnosticReport")
    assert "<script>" not in report["text"]["div"]
    assert "\u202e" not in json.dumps(made, ensure_ascii=False)
    (one,) = of_type(made, "Observation")
    assert not [part for part in one["component"] if "valueQuantity" in part]


@settings(max_examples=15, deadline=None)
@given(
    st.text(min_size=1, max_size=80), st.sampled_from(["findings", "impression", "other"]), st.sampled_from(VERSIONS)
)
def test_any_text_is_valid_and_comes_back(text: str, section: str, version: str) -> None:
    made = draft(sentence(text, section=section), sentence("No pneumothorax."))
    written = bundle(made, version)
    validate(written, version)
    (report,) = read_fhir(json.dumps(written).encode(), "draft.fhir.json")
    assert isinstance(report, SourcedReport), report
    assert report.text == plain_text(visible_draft(made))


def test_a_draft_without_findings_is_valid_and_equal_calls_write_equal_bundles() -> None:
    empty = replace(draft(), sentences=(), series_uids=(), made_by={}, notes=(), simulated=False)
    for version in VERSIONS:
        validate(bundle(empty, version), version)
    assert {label["code"] for label in bundle(empty)["meta"]["security"]} == {"AIAST"}
    assert bundle(draft()) == bundle(draft())


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="FHIR version 'r3' is unknown; expected one of r4, r5"):
        bundle(draft(), "r3")
