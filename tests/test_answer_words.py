"""The forms in which answers are compared; each case was worked by hand from the published rules."""

from __future__ import annotations

import pytest

from evaluation.answer_words import letters_only, mevf_words, squad_words, vqa_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Left Lung.", "left lung"),
        ("None", "0"),
        ("two, or a three", "2 or 3"),  # the comma stands beside a space: nothing takes its place
        ("left/right", "left right"),
        ("left /right", "left right"),  # one stands beside a space, and a space was there
        ("x-ray", "x ray"),
        ("x-ray -- y", "xray y"),  # one dash beside a space makes all of them vanish
        ("1,200 mm-wide", "1200 mmwide"),  # a comma inside a number makes every symbol vanish
        ("3.5 cm.", "3.5 cm"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("a an the", ""),
        ("", ""),
        ("Große Läsion?", "große läsion"),
        ("肺 结节", "肺 结节"),
    ],
)
def test_form_of_the_vqa_challenge(text: str, expected: str) -> None:
    assert vqa_words(text) == expected


def test_only_32_full_stops_go() -> None:
    assert vqa_words("a. " * 33) == "a."  # the last one is no article any more


def test_x_ray_is_one_word_for_the_baselines() -> None:
    assert mevf_words("X-Ray") == "xray"
    assert vqa_words("X-Ray") == "x ray"


def test_form_of_squad() -> None:
    assert squad_words("  The  X-ray, an 'AP' view! ") == "xray ap view"
    assert squad_words("theory") == "theory"


def test_letters_only() -> None:
    assert letters_only("Stage-2 (T1), ja: é") == "stage t ja "
