"""A draft as an HL7 message is valid for two other libraries, and our own reader reads the same text and findings."""

from __future__ import annotations

from dataclasses import replace

import hl7
import pytest
from drafts import ISSUED, MARKED, SENTENCES, draft, header, sentence
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft
from reports.findings import Finding, find
from reports.hl7 import read_hl7
from reports.render import render
from reports.render_text import plain_text, visible_draft
from reports.sourced import SourcedReport


def message(of: Draft, with_header: bool = True) -> str:
    return render(of, "hl7", {}, [header()] if with_header else [], issued=ISSUED)


def read(text: str) -> SourcedReport:
    (report,) = read_hl7(text.encode(), "draft.hl7")
    assert isinstance(report, SourcedReport), report
    return report


def groups(text: str) -> dict[str, dict[str, list[str]]]:
    """Sub-ID -> code of OBX-3 -> its OBX fields, from OBX-1 on."""
    found: dict[str, dict[str, list[str]]] = {}
    for segment in text.split("\r"):
        fields = segment.split("|")
        if fields[0] == "OBX" and fields[4]:
            found.setdefault(fields[4], {})[fields[3].split("^")[0]] = fields
    return found


def test_hl7apy_finds_the_message_valid() -> None:
    for with_header in (True, False):
        parsed = parse_message(message(draft(), with_header), VALIDATION_LEVEL.STRICT, find_groups=True)
        assert parsed.validate()
        assert parsed.msh.msh_11.value == "T"  # simulated: training
        observation = parsed.oru_r01_patient_result.oru_r01_order_observation
        assert observation.obr.obr_25.value == "P"
        assert all(one.obx.obx_11.value == "P" for one in observation.oru_r01_observation)


def test_another_library_reads_notices_marks_and_sizes() -> None:
    parsed = hl7.parse(message(draft()))
    texts = [str(obx[5]) for obx in parsed.segments("OBX") if str(obx[2]) == "TX"]
    whole = hl7.parse(message(draft())).unescape("\n".join(texts))
    for needed in (DRAFT_NOTICE, SIMULATED_NOTICE, *MARKED, "model digest: sha256:ab", "series read: 1.2.5"):
        assert needed in whole
    assert "[SUPPORTED]" not in whole
    notes = " ".join(str(nte[3]) for nte in parsed.segments("NTE"))
    assert DRAFT_NOTICE in notes
    assert "knowledge: glossary 3" in notes
    sizes = [(str(obx[5]), str(obx[6])) for obx in parsed.segments("OBX") if str(obx[2]) == "NM"]
    assert sizes == [("12", "mm^mm^UCUM")]  # the 30 mm of the unsupported mass is no measurement


def test_patient_and_order_come_from_the_images_or_stay_empty() -> None:
    named = message(draft())
    assert "PID|1||P1^^^^PI||" in named
    assert "SIMULATED^P1" not in named
    assert read(named).accession == "A1"
    bare = message(draft(), with_header=False)
    assert "PID|" not in bare
    report = read(bare)
    assert (report.accession, report.study_uid, report.patient_key) == ("", "1.2.3", None)
    assert "|P|2.5.1|" in message(draft(simulated=False))


def test_our_reader_reads_the_same_text_and_findings() -> None:
    report = read(message(draft()))
    assert report.text == plain_text(draft())
    assert report.status == "preliminary"
    stated = [replace(f, sentence=None) for f in find(report.text)]
    assert stated == [replace(f, sentence=None) for s in SENTENCES for f in s.findings]


def test_coded_findings_claim_no_more_than_the_check_supports() -> None:
    found = groups(message(draft()))
    said = {
        fields["121071"][5].split("^")[8]: fields["121052"][5].split("^")[1] for fields in found.values()
    }  # fmt: skip
    assert said["pleural effusion"] == "Present"
    assert said["pneumothorax"] == "Absent"
    assert said["[CONTRADICTED] cardiomegaly"] == "Undetermined"
    assert said["[UNSUPPORTED] lung mass"] == "Undetermined"
    (heart,) = [fields for fields in found.values() if "[CONTRADICTED]" in fields["121071"][5]]
    assert heart["stated-status"][5].split("^")[1] == "Present"
    assert heart["draft-verdict"][5].split("^")[1] == "contradicted"


def test_delimiters_in_a_sentence_cannot_make_fields_or_segments() -> None:
    hostile = "a|b^c~d\\e&f\rOBX|9|TX|||planted\n\x0b\x1cMSH|^~\\&|x"
    text = message(draft(sentence(hostile)))
    assert {segment[:3] for segment in text.split("\r") if segment} == {"MSH", "PID", "OBR", "NTE", "OBX"}
    assert "a|b^c~d\\e&f OBX|9|TX|||planted \ufffd\ufffdMSH|^~\\&|x" in read(text).text
    assert parse_message(text, VALIDATION_LEVEL.STRICT, find_groups=True).validate()


def test_every_line_has_a_segment_and_a_long_reason_is_cut_in_the_codes_only() -> None:
    long = replace(sentence("The heart is enlarged.", "contradicted"), reason="why & how " * 60)
    text = message(draft(long, *SENTENCES))
    lines = plain_text(visible_draft(draft(long, *SENTENCES))).split("\n")
    assert text.count("|TX|") == len(lines)
    assert parse_message(text, VALIDATION_LEVEL.STRICT, find_groups=True).validate()
    (reason,) = [fields["draft-verdict"][5] for fields in groups(text).values() if "why" in fields["draft-verdict"][5]]
    assert reason.endswith("…")
    assert len(reason.split("^")[8]) <= 199


@settings(max_examples=25, deadline=None)
@given(st.text(min_size=1, max_size=80), st.sampled_from(["findings", "impression", "other"]))
def test_any_text_comes_back_as_the_plain_text_says_it(text: str, section: str) -> None:
    made = draft(sentence(text, section=section), sentence("No pneumothorax."))
    assert read(message(made)).text == plain_text(visible_draft(made))


def test_a_size_that_is_no_number_is_left_out() -> None:
    odd = Finding("lung nodule", "present", "left", size_mm=float("nan"))
    text = message(draft(replace(SENTENCES[3], findings=(odd,), confidence=float("nan"))))
    assert "|NM|" not in text
    assert "nan" not in text


def test_headers_of_another_study_are_refused() -> None:
    with pytest.raises(ValueError, match=r"headers of study 9\.9; expected the study of the draft, 1\.2\.3"):
        render(draft(), "hl7", {}, [header("9.9")])
