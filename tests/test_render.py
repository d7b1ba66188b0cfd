"""Every form of a draft says what it is, marks what is not supported, and lets no text run."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, get_args

import drafts as planted
import pydicom
import pytest
from drafts import BOX, ISSUED, header, png

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft, DraftSentence, Evidence, ImageExtent
from reports.findings import Finding
from reports.passage import Passage
from reports.render import SCHEMA_VERSION, Form, form_of, render
from reports.render_text import evidence_words
from volumes.volume import Region

HOSTILE = "<script>alert(1)</script> \" onload='x' & `code` [a](http://x)"


@pytest.fixture
def draft() -> Draft:
    passage = Passage(
        "Fluid.", "Pleural effusion", "signs", "glossary", "", "3", "Apache-2.0", "glossary:pleural-effusion"
    )
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
    with pytest.raises(ValueError, match="form 'doc' is unknown; expected one of md, json, html, fhir, hl7, dcm, pdf"):
        render(draft, "doc")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.md", "md"),
        ("a.json", "json"),
        ("a.fhir.json", "fhir"),
        ("A.HL7", "hl7"),
        ("1.2.dcm", "dcm"),
        ("x.html", "html"),
    ],
)
def test_the_ending_of_a_file_chooses_the_form(name: str, form: str) -> None:
    assert form_of(name) == form


@pytest.mark.parametrize(("name", "found"), [("a.doc", "'.doc'"), ("a", "'nothing'"), (".md", "'.md'")])
def test_another_ending_is_refused_with_the_list(name: str, found: str) -> None:
    endings = r"\.dcm, \.fhir\.json, \.hl7, \.html, \.json, \.md, \.pdf"
    with pytest.raises(ValueError, match=rf"{re.escape(name)}: ends in {found}; expected one of {endings}"):
        form_of(name)


def shown(form: str, of: Draft) -> str:
    """What a reader of the form sees, as one line of text."""
    made: Any = render(of, form, {}, [header()], issued=ISSUED)  # type: ignore[call-overload]
    if form == "html":
        made = html.unescape(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", made, flags=re.DOTALL))
    elif form == "md":
        made = re.sub(r"\\([\[\]])", r"\1", made)
    elif form == "fhir":
        forms = [e["resource"]["presentedForm"][0] for e in json.loads(made)["entry"][:1]]
        made = base64.b64decode(forms[0]["data"]).decode()
    elif form == "dcm":
        made = " ".join(e.value for e in pydicom.dcmread(io.BytesIO(made)).iterall() if e.keyword == "TextValue")
    elif form == "pdf":
        pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed; it reads back what was written")
        made = " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(made)).pages)
    return " ".join(made.split())


@pytest.mark.parametrize("form", get_args(Form))
def test_no_form_shows_an_unsupported_sentence_as_supported(form: str) -> None:
    text = shown(form, planted.draft())
    for mark, words in (("UNSUPPORTED", "30 mm mass in the right lower lobe"), ("CONTRADICTED", "heart is enlarged")):
        if form == "json":  # a field of its own
            (told,) = [s for s in json.loads(text)["sentences"] if words in s["text"]]
            assert told["verdict"] == mark.lower()
        elif form == "md":  # behind the sentence
            assert re.search(rf"{words}\. \*\*\[{mark}\]\*\*", text)
        else:
            assert re.search(rf"\[{mark}\] (?:There is a |The ){words}", text), (form, text)
    for right in ("moderate left pleural effusion.", "No pneumothorax."):
        assert right in text
        assert not re.search(rf"\[(?:UNSUPPORTED|CONTRADICTED)\] (?:There is a )?{right}", text)
    assert "UPPORTED] No pneumothorax" not in text


@pytest.mark.parametrize("form", get_args(Form))
def test_every_form_says_draft_simulated_and_what_made_it(form: str) -> None:
    text = shown(form, planted.draft())
    assert DRAFT_NOTICE in text
    assert (SIMULATED_NOTICE if form != "json" else '"simulated": true') in text
    for needed in (*planted.MADE_BY.values(), "1.2.5", "not mentioned in the draft: pneumonia"):
        assert needed in text, needed


@pytest.mark.parametrize("form", [form for form in get_args(Form) if form != "json"])
def test_what_controls_a_screen_or_the_direction_of_writing_is_made_visible(form: str) -> None:
    text = shown(form, planted.draft(planted.sentence("No \u202eeffusion\u202c seen\x1b[2J.\x00\ud800")))
    assert "No \ufffdeffusion\ufffd seen\ufffd[2J.\ufffd\ufffd" in text.replace("\\[", "[")
    assert not set(text) & set("\u202e\u202c\x1b\x00")


def test_json_keeps_the_text_as_it_is_and_can_be_encoded() -> None:
    odd = "No \u202eeffusion\x00\ud800"
    made = render(planted.draft(planted.sentence(odd)), "json")
    assert json.loads(made.encode())["sentences"][0]["text"] == odd


@pytest.mark.parametrize("form", ["md", "json", "html"])
def test_a_writer_that_does_not_stop_is_written_in_bounded_time(form: str) -> None:
    endless = planted.draft(*(planted.SENTENCES[4] for _ in range(20_000)))
    start = time.process_time()
    made = render(endless, form)  # type: ignore[call-overload]
    assert made.count("No pneumothorax.") >= 20_000
    assert time.process_time() - start < 20


@pytest.mark.parametrize("form", ["dcm", "pdf", "fhir", "hl7"])
def test_slow_forms_refuse_a_writer_that_does_not_stop(form: str) -> None:
    endless = planted.draft(*(planted.SENTENCES[4] for _ in range(100_000)))
    with pytest.raises(ValueError, match=rf"1\.2\.3: 100000 sentences; expected at most \d+ for {form}: write it as"):
        render(endless, form)  # type: ignore[call-overload]


def test_a_time_without_a_zone_is_refused(draft: Draft) -> None:
    with pytest.raises(ValueError, match=r"issued 2026-01-02T03:04:05 has no zone; expected one, such as UTC"):
        render(draft, "hl7", issued=ISSUED.replace(tzinfo=None))


def test_a_place_that_sentences_share_shows_the_worst_verdict(draft: Draft) -> None:
    page = Page(render(draft, "html", {"1.2.5.1": png()}))
    (box,) = [a for a in page.all("g") if str(a.get("class", "")).startswith("box")]
    assert box["data-tone"] == box["data-rest"] == "contradicted"  # of a supported and a contradicted sentence


def test_a_measurement_is_shown_with_its_value(draft: Draft) -> None:
    assert "measurement: fluid depth 12 mm (ruler)" in render(draft, "md")
    bare = Evidence("measurement", "heart width 140 mm of 300 mm", None, 140.0, "mm", by="ruler")
    assert evidence_words(bare) == bare.text
    assert evidence_words(Evidence("measurement", "ratio", None, 0.4666, "1")) == "ratio 0.467"


def test_a_confidence_that_is_no_number_is_none() -> None:
    odd = replace(planted.SENTENCES[4], confidence=float("nan"))
    for form in ("md", "html"):
        made = render(planted.draft(odd), form)  # type: ignore[call-overload]
        assert "no probability" in made
        assert "confidence nan" not in made
