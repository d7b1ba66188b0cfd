from __future__ import annotations

from pathlib import Path

import pytest

from reports.report import Report
from reports.sections import section_sentences, sentences, split_sections


def test_headings_in_any_house_style_give_the_same_sections() -> None:
    block = "INDICATION:\nCough.\n\nFINDINGS:\nThe lungs are clear.\n\nIMPRESSION:\nNormal chest."
    inline = "Reason for exam: Cough.\nFindings: The lungs are clear.\nConclusion: Normal chest."
    one_line = "CLINICAL HISTORY: Cough. FINDINGS: The lungs are clear. IMPRESSION: Normal chest."
    expected = {"indication": "Cough.", "findings": "The lungs are clear.", "impression": "Normal chest."}
    assert split_sections(block) == split_sections(inline) == split_sections(one_line) == expected


def test_text_without_headings_is_findings() -> None:
    assert split_sections("Left effusion. No pneumothorax.") == {"findings": "Left effusion. No pneumothorax."}
    assert split_sections("  \n ") == {}


def test_text_before_the_first_heading_is_kept() -> None:
    titled = split_sections("CHEST TWO VIEWS\n\nFINDINGS: Clear lungs.\nIMPRESSION: Normal.")
    assert titled["technique"] == "CHEST TWO VIEWS"
    untitled = split_sections("The heart is enlarged.\nIMPRESSION: Cardiomegaly.")
    assert untitled == {"findings": "The heart is enlarged.", "impression": "Cardiomegaly."}


def test_a_repeated_heading_appends_and_a_word_in_a_sentence_is_no_heading() -> None:
    text = "FINDINGS: Clear lungs.\nIMPRESSION: Normal.\nFINDINGS: Addendum, rib fracture."
    assert split_sections(text)["findings"] == "Clear lungs.\nAddendum, rib fracture."
    assert list(split_sections("Findings consistent with edema. The impression of a nodule remains.")) == ["findings"]


def test_sentences_drop_numbering_and_keep_decimals_and_abbreviations() -> None:
    text = "IMPRESSION: 1. Nodule of 1.4 cm vs. granuloma. 2. No effusion.\n3) Approx. 3 mm rim."
    assert sentences(text) == ["Nodule of 1.4 cm vs. granuloma.", "No effusion.", "Approx. 3 mm rim."]


def test_wrapped_lines_are_joined_and_missing_spaces_are_seen() -> None:
    text = "FINDINGS: heart and mediastinum are\nstable. No\neffusion in the left apex.There are clips."
    assert sentences(text) == ["heart and mediastinum are stable.", "No effusion in the left apex.", "There are clips."]
    assert sentences("FINDINGS:\nClear lungs\nNo effusion") == ["Clear lungs", "No effusion"]


def test_each_sentence_knows_its_section() -> None:
    report = Report.parse("INDICATION: Cough.\nFINDINGS: Clear lungs. No effusion.", study_uid="1.2.3", source="csv")
    assert section_sentences(report.text) == [
        ("indication", "Cough."),
        ("findings", "Clear lungs."),
        ("findings", "No effusion."),
    ]
    assert report.sentences[2] == "No effusion."
    assert (report.study_uid, report.source, report.accession) == ("1.2.3", "csv", "")


def test_real_sectioned_reports(real_data: Path) -> None:
    folder = real_data / "reports" / "section_split_samples"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in the test data")
    brain = split_sections((folder / "MRI-Brain-01.txt").read_text(encoding="utf-8"))
    assert list(brain) == ["technique", "indication", "comparison", "findings", "impression"]
    assert brain["impression"].startswith("Stable intracranial lesions")
    assert brain["comparison"].endswith("07/11/2018.")
