"""A draft as a DICOM SR passes dciodvfy, opens with dsrdump, and carries findings, places and marks."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from drafts import BOX, GROUNDS, MARKED, SENTENCES, draft, header, sentence
from highdicom.sr import Comprehensive3DSR, ComprehensiveSR, srread
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft, DraftSentence, Evidence, ImageExtent
from reports.finding_codes import _FINDINGS, _ORGANS, _PLACES, SEVERITIES, SIDES, STATUSES, Coded
from reports.findings import Finding, find
from reports.render import render
from reports.render_text import plain_text, visible
from reports.sections import split_sections
from reports.sourced import SourcedReport
from reports.structured import read_structured
from volumes.volume import Region

PLACE = Region("1.2.5", "", (10.0, 1.0, 2.0), (14.0, 5.0, 9.0), (-50.0, 20.0, 100.0), (-20.0, 60.0, 130.0), 0.8)


def ct_draft() -> Draft:
    place = Evidence("region", "most likely place of lung nodule", PLACE, 0.8, "1", by="model")
    nodule = sentence("There is an 8 mm nodule in the right lower lobe.", evidence=[place])
    extents = {"1.2.5": ImageExtent((20, 30, 40))}
    return replace(draft(nodule, SENTENCES[4], replace(SENTENCES[5], evidence=())), modality="CT", extents=extents)


def ct_headers() -> list[Dataset]:
    slices = []
    for number in range(3):
        image = header()
        image.SOPInstanceUID, image.SOPClassUID = f"1.2.5.{number + 1}", "1.2.840.10008.5.1.4.1.1.2"
        image.Modality, image.FrameOfReferenceUID = "CT", "1.2.9"
        slices.append(image)
    return slices


def written(of: Draft, headers: list[Dataset] | None = None) -> bytes:
    return render(of, "dcm", {}, [header()] if headers is None else headers)


def read_sr(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["film", "volume", "without headers", "without findings", "hostile"])
def test_dciodvfy_finds_no_error_and_dsrdump_opens_it(kind: str, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None or shutil.which("dsrdump") is None:
        pytest.skip("dciodvfy or dsrdump is absent: install dicom3tools and dcmtk to check DICOM against the standard")
    odd = Finding("odd <b>name</b> " + "x" * 200, "present", "left", "nowhere", "huge", float("nan"), "stable")
    hostile = replace(SENTENCES[2], text="a\\b <script> \x00\u202e größer 肺", findings=(odd,), confidence=float("nan"))
    path = tmp_path / "draft.dcm"
    path.write_bytes(
        {
            "film": lambda: written(draft()),
            "volume": lambda: written(ct_draft(), ct_headers()),
            "without headers": lambda: written(draft(), []),
            "without findings": lambda: written(draft(SENTENCES[0])),
            "hostile": lambda: written(draft(hostile)),
        }[kind]()
    )
    checked = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    # Attributes that only the images know stay empty without headers, and dciodvfy wants a patient named.
    assert "Error" not in checked.stderr, checked.stderr
    assert ("Comprehensive3DSR" if kind == "volume" else "ComprehensiveSR") in checked.stderr
    opened = subprocess.run(["dsrdump", "+Pl", str(path)], capture_output=True, text=True, check=False)
    assert opened.returncode == 0, opened.stderr
    assert "Imaging Measurement Report" in opened.stdout
    assert DRAFT_NOTICE in opened.stdout


def test_it_is_preliminary_and_says_who_made_it() -> None:
    sr = read_sr(written(draft()))
    assert (sr.Modality, sr.StudyInstanceUID, sr.PatientID) == ("SR", "1.2.3", "P1")
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == ("PARTIAL", "UNVERIFIED", "PRELIMINARY")
    assert "SIMULATED" in sr.SeriesDescription
    texts = [e.value for e in sr.iterall() if e.keyword == "TextValue"]
    for needed in (DRAFT_NOTICE, SIMULATED_NOTICE, *MARKED, "sha256:ab", "demo", "preprocess digest: sha256:cd"):
        assert needed in texts, needed
    referenced = {str(e.value) for e in sr.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    assert referenced == {"1.2.5.1"}


def test_highdicom_reads_the_groups_back() -> None:
    sr = srread(io.BytesIO(written(draft())))
    assert type(sr) is ComprehensiveSR
    planar = sr.content.get_planar_roi_measurement_groups()
    assert {group.tracking_identifier for group in planar} == {
        "pleural effusion, sentence 3", "[CONTRADICTED] cardiomegaly, sentence 6"
    }  # fmt: skip
    assert planar[0].roi.value.tolist() == [[40, 100], [90, 100], [90, 180], [40, 180], [40, 100]]  # column, row
    assert planar[0].finding_sites[0].laterality.meaning == "Left"
    rest = {group.tracking_identifier: group for group in sr.content.get_image_measurement_groups()}
    assert len(planar) + len(rest) == sum(len(s.findings) for s in SENTENCES)
    nodule = rest["lung nodule, sentence 4"]
    assert [(m.name.meaning, m.value, m.unit.value) for m in nodule.get_measurements()][-1] == ("Diameter", 12.0, "mm")
    assert presence(rest["pneumothorax, sentence 5"]) == "Absent"
    assert presence(nodule) == "Present"
    mass = rest["[UNSUPPORTED] lung mass, sentence 7"]
    assert presence(mass) == "Undetermined"
    assert "Diameter" not in [m.name.meaning for m in mass.get_measurements()]


def test_a_place_belongs_to_the_finding_that_it_shows() -> None:
    both = sentence("Left pleural effusion and a nodule in the right lung.", evidence=GROUNDS)
    none = sentence("No pneumothorax or consolidation.", evidence=GROUNDS)
    sr = srread(io.BytesIO(written(draft(both, none))))
    (group,) = sr.content.get_planar_roi_measurement_groups()
    assert group.tracking_identifier == "pleural effusion, sentence 1"
    assert len(sr.content.get_image_measurement_groups()) == 3


def presence(group: object) -> str:
    (found,) = [
        one.value.meaning
        for one in group.get_qualitative_evaluations()  # type: ignore[attr-defined]
        if one.name.meaning == "Presence of property"
    ]
    return found


def test_a_place_in_a_volume_is_a_box_in_patient_space() -> None:
    sr = srread(io.BytesIO(written(ct_draft(), ct_headers())))
    assert type(sr) is Comprehensive3DSR
    (group,) = sr.content.get_volumetric_roi_measurement_groups()
    assert group.tracking_identifier == "lung nodule, sentence 1"
    faces = group.roi.graphic_data
    assert [face[0].tolist() for face in faces] == [[-50, 20, 100], [-50, 20, 130]]
    assert {tuple(face.max(axis=0)[:2]) for face in faces} == {(-20, 60)}
    assert group.roi.frame_of_reference_uid == "1.2.9"


def test_a_volume_whose_frame_is_unknown_keeps_its_place_in_words() -> None:
    bare = ct_headers()
    for image in bare:
        del image.FrameOfReferenceUID
    sr = read_sr(written(ct_draft(), bare))
    assert not [e for e in sr.iterall() if e.keyword == "GraphicData"]
    texts = [e.value for e in sr.iterall() if e.keyword == "TextValue"]
    assert any("x -50–-20, y 20–60, z 100–130 mm" in text for text in texts)


def test_boxes_end_at_the_border_of_the_image() -> None:
    over = Evidence("region", "place", replace(BOX, start=(-0.5, -0.5), stop=(200.5, 160.5)), by="model")
    sr = read_sr(written(draft(replace(SENTENCES[2], evidence=(over,)))))
    for box in [e.value for e in sr.iterall() if e.keyword == "GraphicData"]:
        assert list(box)[:6] == [0, 0, 160, 0, 160, 200]


def test_our_reader_reads_the_same_sentences_and_findings() -> None:
    (report,) = read_structured(written(draft()), "draft.dcm")
    assert isinstance(report, SourcedReport)
    assert (report.status, report.accession, report.study_uid) == ("preliminary", "A1", "1.2.3")
    wanted = split_sections(plain_text(draft()))
    wanted["technique"] = SENTENCES[0].text  # the plain text opens with its notices, the SR has them in a summary
    del wanted["provenance"]
    assert split_sections(report.text) == wanted
    stated = [replace(f, sentence=None) for f in find(report.text)]
    assert stated == [replace(f, sentence=None) for s in SENTENCES for f in s.findings]
    sizes = [(m.finding, m.side, m.value, m.unit) for m in report.measurements if m.name == "Diameter"]
    assert sizes == [("Nodule", "left", 12.0, "mm")]


@settings(max_examples=8, deadline=None)
@given(st.text(min_size=1, max_size=60).filter(str.strip))
def test_any_text_is_kept_where_it_can_be_seen(text: str) -> None:
    sr = read_sr(written(draft(sentence(text, "contradicted"))))
    texts = [e.value for e in sr.iterall() if e.keyword == "TextValue"]
    assert f"[CONTRADICTED] {visible(text)}".rstrip(" ") in [one.rstrip(" ") for one in texts]


def test_headers_of_another_study_are_refused() -> None:
    with pytest.raises(ValueError, match=r"headers of study 9\.9; expected the study of the draft, 1\.2\.3"):
        written(draft(), [header("9.9")])


def test_without_any_image_it_asks_for_headers() -> None:
    clear = DraftSentence("findings", "Clear.", (), (), None, "unsupported")
    with pytest.raises(ValueError, match=r"names no image by its SOP instance UID, .* pass `headers`"):
        render(Draft("1", ("1.2",), "CT", (clear,), {}), "dcm")


def test_codes_of_others_are_those_of_the_standard() -> None:
    from pydicom.sr._concepts_dict import concepts

    borrowed: list[Coded] = [*_FINDINGS.values(), *_ORGANS.values(), *_PLACES.values()]
    borrowed += [*SIDES.values(), *SEVERITIES.values(), *STATUSES.values()]
    for scheme in ("SCT", "DCM"):
        known = {value for by in concepts[scheme].values() for value in by}
        for code in borrowed:
            if code.scheme == scheme:
                assert code.value in known, code


def test_the_evidence_of_a_sentence_stands_below_it() -> None:
    sr = read_sr(written(draft()))
    texts = [e.value for e in sr.iterall() if e.keyword == "TextValue"]
    assert "measurement: fluid depth 12 mm (ruler)" in texts
    assert any(GROUNDS[2].text in text and "“Fluid fills the angle first.”" in text for text in texts)
    assert "contradicted: because contradicted" in texts
