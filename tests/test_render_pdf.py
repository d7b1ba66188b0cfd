"""A draft as a PDF says on every page that it is a draft, keeps every mark, and shows what it cannot draw."""

from __future__ import annotations

import builtins
import io
from dataclasses import replace
from typing import Any

import pytest
from drafts import ISSUED, MARKED, SENTENCES, draft, png, sentence

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft
from reports.render import form_of, render

pytest.importorskip("fpdf", reason='fpdf2 is not installed: pip install "medvlm-platform[pdf]"')
pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed; it reads back what was written")


def pages(of: Draft, pictures: dict[str, bytes] | None = None) -> list[str]:
    """The text of each page, its line ends as blanks."""
    made = render(of, "pdf", pictures or {}, issued=ISSUED)
    return [" ".join(page.extract_text().split()) for page in pypdf.PdfReader(io.BytesIO(made)).pages]


def test_every_page_says_draft_and_simulated() -> None:
    many = draft(*(sentence(f"Sentence {n} of many.") for n in range(60)))
    read = pages(many)
    assert len(read) >= 4
    for number, page in enumerate(read, 1):
        assert page.startswith(f"{DRAFT_NOTICE} {SIMULATED_NOTICE}")
        assert f"Draft, not verified · study 1.2.3 page {number} of {len(read)}" in page
    assert SIMULATED_NOTICE not in pages(draft(simulated=False))[0]


def test_marks_evidence_and_makers_stand_in_it() -> None:
    whole = " ".join(pages(draft()))
    for needed in (
        *MARKED,
        "✓ supported · confidence 0.93",
        "✕ contradicted · confidence 0.07",
        "? unsupported · no probability",
        "why: because contradicted",
        "measurement: fluid depth 12 mm (ruler)",
        "read from series 1.2.5",
        "model digest sha256:ab",
        "knowledge glossary 3",
        "note not mentioned in the draft: pneumonia, probability 0.71",
    ):
        assert needed in whole, needed
    assert "[SUPPORTED]" not in whole
    assert whole.index("Technique") < whole.index("Findings") < whole.index("Impression")


def test_pictures_are_embedded_with_their_boxes() -> None:
    made = render(draft(), "pdf", {"1.2.5.1": png(), "1.2.5": png(50, 40), "9": png(30, 30)}, issued=ISSUED)
    reader = pypdf.PdfReader(io.BytesIO(made))
    assert sum(len(page.images) for page in reader.pages) == 3
    text = " ".join(reader.pages[0].extract_text().split())
    assert "3·6" in text  # the third and the sixth sentence share a place
    assert "PA film, 200 × 160" in text
    with pytest.raises(ValueError, match=r"picture of 1\.2\.5\.1: 4 bytes that do not start like a PNG; expected"):
        render(draft(), "pdf", {"1.2.5.1": b"JPEG"})


def test_other_scripts_are_drawn_and_lost_characters_are_counted() -> None:
    (first, *_) = pages(draft(sentence("Größer, Сердце увеличено, καρδιά.")))
    assert "Größer, Сердце увеличено, καρδιά." in first
    assert "no glyph" not in first
    (first, *_) = pages(draft(sentence("Opacity 肺炎 seen.")))
    assert "2 character(s) have no glyph in the font of this PDF and are shown as \ufffd: read" in first
    assert "Opacity \ufffd\ufffd seen." in first


def test_right_to_left_text_is_shaped() -> None:
    made = render(draft(sentence("שלום عالم heart")), "pdf", issued=ISSUED)
    assert "heart" in pypdf.PdfReader(io.BytesIO(made)).pages[0].extract_text()


def test_hostile_text_is_text() -> None:
    odd = replace(SENTENCES[2], confidence=float("nan"), text="<b>x</b> **y** \x00\x1b[31m \u202ez " + "w" * 3000)
    whole = " ".join(pages(draft(odd)))
    assert "<b>x</b> **y** \ufffd\ufffd[31m \ufffdz" in whole
    assert "✓ supported · no probability" in whole
    assert b"/JavaScript" not in render(draft(odd), "pdf", issued=ISSUED)


def test_equal_calls_write_equal_bytes() -> None:
    assert render(draft(), "pdf", issued=ISSUED) == render(draft(), "pdf", issued=ISSUED)


def test_its_metadata_says_draft_and_names_no_patient() -> None:
    told = pypdf.PdfReader(io.BytesIO(render(draft(), "pdf", issued=ISSUED))).metadata
    assert told.title == "Draft report, not verified, SIMULATED"
    assert DRAFT_NOTICE in told.subject
    assert told.creation_date.isoformat() == "2026-01-02T03:04:05+00:00"


def test_an_empty_draft_is_a_page() -> None:
    (only,) = pages(replace(draft(), sentences=(), notes=()))
    assert "✓ 0 supported ? 0 unsupported ✕ 0 contradicted" in only


def test_a_missing_package_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_fpdf(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "fpdf":
            raise ImportError("No module named 'fpdf'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_fpdf)
    with pytest.raises(ImportError, match=r'a PDF needs fpdf2, .*: pip install "medvlm-platform\[pdf\]"'):
        form_of("draft.pdf")
