from __future__ import annotations

import pytest

from reports.remarks import communications, interval_days, not_in_image, recommendations, speaks_of_prior


@pytest.mark.parametrize(
    ("text", "modality", "days"),
    [
        ("Follow-up CT in 3 months is recommended.", "CT", (91, 91)),
        ("Recommend low dose CT in 6-12 months.", "CT", (183, 365)),
        ("Repeat chest radiograph in two weeks to document clearing.", "XR", (14, 14)),
        ("MRI of the liver is advised.", "MR", None),
        ("PET/CT or biopsy should be considered.", "PET", None),
        ("Annual surveillance with mammography.", "MG", (365, 365)),
        ("Further evaluation with ultrasound is suggested.", "US", None),
        ("Clinical correlation is recommended.", None, None),
        ("IMPRESSION: Nodule. RECOMMENDATION: Chest CT within 1 year.", "CT", (365, 365)),
    ],
)
def test_a_recommendation_has_a_modality_and_an_interval(
    text: str, modality: str | None, days: tuple[int, int] | None
) -> None:
    (found,) = recommendations(text)
    assert (found.modality, found.days, found.declined) == (modality, days, False)


def test_conditions_and_refusals_are_kept_apart() -> None:
    (given,) = recommendations("Consider CT if symptoms persist.")
    assert (given.modality, given.condition) == ("CT", "if symptoms persist")
    (none,) = recommendations("No further follow-up is needed.")
    assert none.declined
    assert recommendations("The nodule is stable since 2 years ago. No effusion.") == ()
    assert recommendations("INDICATION: Follow-up CT in 3 months was advised.\nFINDINGS: No effusion.") == ()


def test_intervals_are_in_days_and_ages_are_none() -> None:
    assert interval_days("in 4 to 6 weeks") == (28, 42)
    assert interval_days("within a year") == (365, 365)
    assert interval_days("A 65-year-old patient.") is None
    assert interval_days("stable since 3 months ago") is None


def test_calls_are_found_without_names() -> None:
    text = "FINDINGS: Large pneumothorax.\nIMPRESSION: Critical result was called to Dr. Brown at 14:10. No effusion."
    (call,) = communications(text)
    assert (call.critical, call.timed, call.sentence) == (True, True, 1)
    assert "Brown" not in repr(call)
    (heading,) = communications("FINDINGS: Clear.\nCRITICAL RESULTS: The ward knows.")
    assert heading.critical
    assert communications("The lungs are called clear.") == ()


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("History of lung cancer.", "history"),
        ("The patient is a smoker with cough.", "history"),
        ("Discussed with Dr. Brown by phone.", "communication"),
        ("Electronically signed by the radiologist.", "signature"),
        ("This report was made with voice recognition.", "dictation"),
        ("Axial images were obtained after intravenous contrast.", "technique"),
        ("Follow-up CT in 3 months.", "recommendation"),
        ("There is a small left pleural effusion.", None),
        ("No pneumothorax.", None),
    ],
)
def test_what_no_image_shows(sentence: str, reason: str | None) -> None:
    assert not_in_image(sentence) == reason
    assert not_in_image("Anything.", "indication") == "history"


def test_sentences_that_need_the_prior() -> None:
    assert speaks_of_prior("The effusion has increased since the prior study.")
    assert speaks_of_prior("Interval removal of the chest tube.")
    assert not speaks_of_prior("Small left effusion.")
