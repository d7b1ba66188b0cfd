"""Messages that we write are valid for somebody else's library, and we read back what we wrote."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

from reports.messages import diagnostic_report, escape, oru_message
from reports.sources import SourcedReport, read_reports

TEXT = "FINDINGS: Heart | size ^ of 5 & 6 ~ 7 \\ normal.\n\nDritte Zeile, größer.\n\nIMPRESSION:\n1. Nothing."
LINKS = {"accession": "A1", "study_uid": "1.2.840.3", "patient_id": "P0001"}


def test_an_oru_message_is_valid_hl7() -> None:
    message = oru_message(TEXT, **LINKS, patient_name="SIMULATED^P1", sex="F", status="corrected")  # type: ignore[arg-type]
    parsed = parse_message(message, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    assert parsed.validate()
    assert parsed.msh.msh_9.value == "ORU^R01^ORU_R01"
    assert parsed.msh.msh_11.value == "T"  # simulated: training, never production
    observation = parsed.oru_r01_patient_result.oru_r01_order_observation
    assert observation.obr.obr_18.value == "A1"
    assert observation.obr.obr_25.value == "C"
    assert observation.oru_r01_observation[0].obx.obx_5.value == "1.2.840.3"


@pytest.mark.parametrize("text", [TEXT, "\n\n".join(f"Paragraph {i}: " + "word " * 90 for i in range(40)).strip()])
def test_both_forms_give_back_the_text_and_its_links(tmp_path: Path, text: str) -> None:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    issued = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    (tmp_path / "a.hl7").write_bytes(oru_message(lines, **LINKS, issued=issued).encode())
    report = diagnostic_report(lines, accession="A2", study_uid="1.2.840.4", patient_id="P0001", issued=issued)
    (tmp_path / "b.json").write_text(json.dumps(report))
    first, second = read_reports([tmp_path])
    assert isinstance(first, SourcedReport)
    assert isinstance(second, SourcedReport)
    assert first.text == second.text == lines
    assert (first.accession, first.study_uid) == ("A1", "1.2.840.3")
    assert (second.accession, second.study_uid) == ("A2", "1.2.840.4")
    assert first.issued == second.issued == "2024-05-06T07:08:09"
    assert first.patient_key == second.patient_key


def test_a_long_text_is_cut_at_line_ends() -> None:
    message = oru_message("\n".join(f"line {i} " + "x" * 200 for i in range(60)), **LINKS)
    lengths = [len(segment) for segment in message.split("\r") if segment.startswith("OBX|") and "|TX|" in segment]
    assert len(lengths) >= 3
    assert max(lengths) < 4700


@pytest.mark.parametrize("status", ["preliminary", "final", "corrected", "cancelled"])
def test_a_diagnostic_report_is_valid_fhir_r4(status: str) -> None:
    from fhir.resources.R4B.diagnosticreport import DiagnosticReport
    from fhir.resources.R4B.imagingstudy import ImagingStudy

    report = diagnostic_report(TEXT, **LINKS, status=status, modality="DX", conclusion="Nothing.")  # type: ignore[arg-type]
    valid = DiagnosticReport.model_validate(report)
    assert valid.status == status
    study = ImagingStudy.model_validate(report["contained"][0])
    assert study.identifier[0].value == "urn:oid:1.2.840.3"
    assert study.modality[0].code == "DX"
    assert report["meta"]["security"][0]["code"] == "HTEST"


def test_equal_calls_write_equal_bytes_and_real_reports_carry_no_test_label() -> None:
    assert oru_message(TEXT, **LINKS) == oru_message(TEXT, **LINKS)
    assert "meta" not in diagnostic_report(TEXT, **LINKS, simulated=False)
    assert "|P|2.5.1|" in oru_message(TEXT, **LINKS, simulated=False)


def test_control_characters_cannot_start_a_segment() -> None:
    assert escape("a\rOBX|9\x0b\x1c") == r"a\.br\OBX\F\9"


@pytest.mark.parametrize("name", ["accession", "patient_id"])
def test_a_message_that_could_not_be_joined_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is empty; a message without it could not be joined"):
        oru_message(TEXT, **(LINKS | {name: " "}))
