from __future__ import annotations

import time
from pathlib import Path

import pytest

from reports.findings import find
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cough FINDINGS: Clear lungs IMPRESSION: Normal", ["technique", "findings", "impression"]),
        ("**Findings:** Clear.\n\n## Impression\nNormal.", ["findings", "impression"]),
        ("[FINDINGS]\nClear.\n[IMPRESSION]\nNormal.", ["findings", "impression"]),
        ("Reason for Exam: Cough.\r\nReport:\r\nClear.\r\nOpinion - No.", ["indication", "findings", "impression"]),
        ("CLINICAL QUESTION: Effusion? RESULT: None seen. OPINION: Normal.", ["indication", "findings", "impression"]),
        ("TECHNICAL FACTORS: 5 mm.\nPRIORS: None.\nKEY FINDINGS: Mass.", ["technique", "comparison", "findings"]),
        ("FINDINGS: Mass.\nADDENDUM #2: Also a nodule.", ["findings", "addendum"]),
        ("FINDINGS: A.\nCRITICAL RESULTS: Told.\nSigned by: A.", ["findings", "communication", "signature"]),
        ("FINDINGS: Mass.\nPLAN: CT.", ["findings", "recommendation"]),
        ("The findings: a mass. Lungs: clear.", ["findings"]),
    ],
)  # fmt: skip
def test_many_house_styles(text: str, expected: list[str]) -> None:
    assert list(split_sections(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Seen by Dr. Brown at 5 p.m. today. No mass.", ["Seen by Dr. Brown at 5 p.m. today.", "No mass."]),
        ("A 5 mm. nodule is seen. No effusion.", ["A 5 mm. nodule is seen.", "No effusion."]),
        ("Pneumothorax: no. Effusion: small.", ["Pneumothorax: no.", "Effusion: small."]),
        ("See image no. 12 for the mass. Clear.", ["See image no. 12 for the mass.", "Clear."]),
        ("1.Left effusion.\n2.No mass.", ["Left effusion.", "No mass."]),
        ("- Left effusion\n• No mass\n* Normal heart", ["Left effusion", "No mass", "Normal heart"]),
        ("a) Effusion.\nb) Mass.", ["Effusion.", "Mass."]),
        ("Nodule of 1.4 cm, approx. 3 mm more. SUV 2.5.", ["Nodule of 1.4 cm, approx. 3 mm more.", "SUV 2.5."]),
    ],
)
def test_full_stops_that_end_nothing(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_a_signature_states_nothing_and_an_addendum_does() -> None:
    text = "FINDINGS: Clear.\nADDENDUM: Small left effusion.\nSigned by: Mass, A."
    assert [(finding.name, finding.side) for finding in find(text)] == [("pleural effusion", "left")]


def test_long_headings_and_endless_capitals_take_bounded_time() -> None:
    start = time.process_time()
    for text in ("FINDINGS " * 20000, "A\n" * 50000, "- " * 50000, "FINDINGS" + " " * 200000 + "x"):
        split_sections(text)
    assert time.process_time() - start < 5


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
