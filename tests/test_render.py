"""Every form of a draft says what it is, marks what is not supported, and lets no text run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft, DraftSentence, Evidence, ImageExtent
from reports.findings import Finding
from reports.knowledge import Glossary
from reports.render import SCHEMA_VERSION, render
from volumes.volume import Region

HOSTILE = "<script>alert(1)</script> \" onload='x' & `code` [a](http://x)"
BOX = Region("1.2.5", "1.2.5.1", (100.0, 40.0), (180.0, 90.0), (40.0, 16.0), (72.0, 36.0), 0.7)


@pytest.fixture
def draft() -> Draft:
    passage = Glossary().concept("pleural effusion")
    effusion = Finding("pleural effusion", "present", "left", size_mm=float("nan"))
    evidence = (
        Evidence("region", "most likely place", BOX, 0.7, "1", by="model"),
        Evidence("measurement", "fluid depth", None, 12.0, "mm", by="ruler"),
        Evidence("passage", "see", passage=passage, by="glossary"),
    )
    sentences = (
        DraftSentence("impression", "Left effusion, größer.", (effusion,), evidence, 0.93, "supported", "p 0.93"),
        DraftSentence("findings", HOSTILE, (), (), None, "unsupported", HOSTILE),
        DraftSentence("findings", "The heart is enlarged.", (), evidence[:1], 0.07, "contradicted", "ratio 0.42"),
    )
    made_by = {"model": "demo", "model_digest": "sha256:ab", "preprocess_digest": "sha256:cd", "experts": HOSTILE}
    extents = {"1.2.5.1": ImageExtent((200, 160), "PA"), "1.2.5": ImageExtent((200, 160), "PA")}
    return Draft("1.2.3", ("1.2.5",), "DX", sentences, made_by, (HOSTILE,), True, extents)


def png(rows: int = 100, columns: int = 80) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((rows, columns), np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_every_text_form_says_draft_simulated_and_what_made_it(draft: Draft) -> None:
    for form in ("md", "json", "html"):
        made = render(draft, form, {})  # type: ignore[call-overload]
        assert DRAFT_NOTICE in made
        assert ("simulated" if form == "json" else SIMULATED_NOTICE) in made
        for needed in ("sha256:ab", "sha256:cd", "1.2.5", "contradicted", "unsupported"):
            assert needed in made, (form, needed)


def test_a_real_study_is_not_called_simulated(draft: Draft) -> None:
    real = Draft(draft.study_uid, draft.series_uids, "DX", draft.sentences, draft.made_by)
    assert "SIMULATED" not in render(real, "html")
    assert "SIMULATED" not in render(real, "md")


def test_markdown_marks_what_is_not_supported_and_escapes(draft: Draft) -> None:
    made = render(draft, "md")
    assert "**[CONTRADICTED]** (contradicted, confidence 0.07)" in made
    assert "**[UNSUPPORTED]** (unsupported, no probability)" in made
    assert "<script>" not in made
    assert r"\[a\](http://x)" in made
    assert made.index("## Findings") < made.index("## Impression")
    assert "[row 100–180; column 40–90; down 40–72, across 16–36 mm]" in made


def test_json_keeps_its_schema(draft: Draft) -> None:
    data = json.loads(render(draft, "json"))
    assert data["schema"] == "medvlm.draft"
    assert data["schema_version"] == SCHEMA_VERSION == 1
    assert set(data) == {
        "schema", "schema_version", "notice", "simulated", "study_uid", "series_uids", "modality", "made_by", "notes",
        "verdicts", "images", "sentences",
    }  # fmt: skip
    first = data["sentences"][0]
    assert set(first) == {
        "index", "section", "text", "verdict", "reason", "confidence", "findings", "evidence", "dropped"
    }  # fmt: skip
    assert first["findings"][0]["size_mm"] is None  # not finite: JSON has no NaN
    assert Region.from_dict(first["evidence"][0]["region"]) == BOX
    assert first["evidence"][2]["passage"]["passage_id"] == "glossary:pleural-effusion"
    assert data["verdicts"] == {"supported": 1, "unsupported": 1, "contradicted": 1}


class Page(HTMLParser):
    """Tags with their attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in attributes.items())]


def test_html_lets_no_text_run_and_loads_nothing(draft: Draft) -> None:
    made = render(draft, "html", {"1.2.5.1": png()})
    page = Page(made)
    assert len(page.all("script")) == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in made
    assert not [a for _, a in page.tags if any(key.startswith("on") for key in a)]
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:;")
    for tag in ("script", "style"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", made, re.DOTALL)
        assert body is not None
        digest = base64.b64encode(hashlib.sha256(body[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy["content"])
    loads = [a.get("src") or a.get("href") or "" for t, a in page.tags if t in {"img", "image", "link", "script"}]
    assert all(str(load).startswith("data:image/png;base64,") or not load for load in loads)


def test_html_places_boxes_in_the_pixels_of_the_film_and_shares_them(draft: Draft) -> None:
    page = Page(render(draft, "html", {"1.2.5.1": png(50, 40)}))  # a picture at a quarter of the film's size
    assert page.all("svg", viewbox="0 0 160 200", role="img")
    (box,) = [a for a in page.all("g") if str(a.get("class", "")).startswith("box")]
    assert box["data-i"] == "0 2"  # sentences 1 and 3 point to one place
    assert page.all("rect", x="40.0", y="100.0", width="50.0", height="80.0")
    sentences = [a for a in page.all("li") if a.get("data-verdict")]
    assert [(a["data-i"], a["data-verdict"]) for a in sentences] == [
        ("1", "unsupported"), ("2", "contradicted"), ("0", "supported"),
    ]  # fmt: skip
    assert len(page.all("button", **{"class": "pick", "aria-pressed": "false"})) == 3


def test_html_shows_only_the_regions_of_the_slice(draft: Draft) -> None:
    inside = Region("1.2.5", "", (10.0, 1.0, 2.0), (14.0, 5.0, 9.0))
    evidence = (Evidence("region", "place", inside, by="model"),)
    sentence = DraftSentence("findings", "Nodule.", (), evidence, 0.5, "supported")
    volume = Draft("1", ("1.2.5",), "CT", (sentence,), {}, extents={"1.2.5": ImageExtent((20, 30, 40))})
    page = Page(render(volume, "html", {"1.2.5#k12": png(), "1.2.5#k14": png()}))
    assert len([a for a in page.all("g") if "box" in str(a.get("class"))]) == 1
    assert page.all("rect", x="2.0", y="1.0", width="7.0", height="4.0")
    assert len(page.all("svg", viewbox="0 0 40 30", role="img")) == 2


def test_html_without_pictures_lists_the_places(draft: Draft) -> None:
    made = render(draft, "html")
    assert "No picture was given" in made
    assert "row 100–180; column 40–90" in made


def test_a_picture_that_is_no_png_is_refused(draft: Draft) -> None:
    with pytest.raises(ValueError, match=r"picture of 1\.2\.5\.1: 4 bytes that do not start like a PNG; expected"):
        render(draft, "html", {"1.2.5.1": b"JPEG"})


def test_an_unknown_form_is_refused(draft: Draft) -> None:
    with pytest.raises(ValueError, match="form 'pdf' is unknown; expected one of md, json, html, dcm"):
        render(draft, "pdf")  # type: ignore[call-overload]


def read_sr(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def test_a_dicom_sr_is_preliminary_and_carries_every_sentence(draft: Draft) -> None:
    sr = read_sr(render(draft, "dcm"))
    assert (sr.Modality, sr.StudyInstanceUID) == ("SR", "1.2.3")
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == ("PARTIAL", "UNVERIFIED", "PRELIMINARY")
    assert "SIMULATED" in sr.SeriesDescription
    texts = [e.value for e in sr.iterall() if e.keyword == "TextValue"]
    assert any(DRAFT_NOTICE in text and SIMULATED_NOTICE in text and "sha256:ab" in text for text in texts)
    assert "[CONTRADICTED] The heart is enlarged." in texts
    assert "Left effusion, größer." in texts
    boxes = [e.value for e in sr.iterall() if e.keyword == "GraphicData"]
    assert list(boxes[0][:4]) == [40.0, 100.0, 90.0, 100.0]  # column, row
    numbers = [float(e.value) for e in sr.iterall() if e.keyword == "NumericValue"]
    assert sorted(numbers) == [7.0, 93.0]


def header(study_uid: str = "1.2.3") -> Dataset:
    image = Dataset()
    image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = study_uid, "1.2.5", "1.2.5.1"
    image.SOPClassUID, image.Modality = "1.2.840.10008.5.1.4.1.1.1.1", "DX"
    image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = "P1", "SIMULATED^P1", "", "F"
    image.AccessionNumber, image.StudyID, image.StudyDate, image.StudyTime = "A1", "S1", "20240102", "030405"
    return image


def test_a_dicom_sr_takes_patient_and_study_from_the_images(draft: Draft) -> None:
    sr = read_sr(render(draft, "dcm", {}, [header()]))
    assert (sr.PatientID, sr.AccessionNumber, sr.StudyDate) == ("P1", "A1", "20240102")
    with pytest.raises(ValueError, match=r"headers of study 9\.9; expected the study of the draft, 1\.2\.3"):
        render(draft, "dcm", {}, [header("9.9")])


def test_a_dicom_sr_without_any_image_asks_for_headers() -> None:
    sentence = DraftSentence("findings", "Clear.", (), (), None, "unsupported")
    with pytest.raises(ValueError, match=r"names no image by its SOP instance UID, .* pass `headers`"):
        render(Draft("1", ("1.2",), "CT", (sentence,), {}), "dcm")


def test_dciodvfy_finds_no_error_in_the_sr(draft: Draft, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is absent: install dicom3tools to check DICOM against the standard")
    path = tmp_path / "draft.dcm"
    path.write_bytes(render(draft, "dcm", {}, [header()]))
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in done.stderr, done.stderr
    assert "EnhancedSR" in done.stderr
