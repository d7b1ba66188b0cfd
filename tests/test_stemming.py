"""Stems: cases from the papers, cases of reports, and nltk on every word of real text."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from evaluation.stemming import porter
from evaluation.stemming_snowball import snowball

SUFFIXES = (
    "s sses ies ed eed ing y ational tional enci izer bli alli entli eli ousli ization ator alism iveness fulness "
    "aliti iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ement ion ou ism iti ous ive ize e ll"
)


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("ties", "tie"), ("cats", "cat"), ("agreed", "agre"),
        ("plastered", "plaster"), ("motoring", "motor"), ("sing", "sing"), ("hopping", "hop"), ("falling", "fall"),
        ("filing", "file"), ("happy", "happi"), ("enjoy", "enjoy"), ("relational", "relat"), ("died", "die"),
        ("conditional", "condit"), ("geology", "geolog"), ("adjustment", "adjust"), ("controlling", "control"),
        ("skies", "sky"), ("effusions", "effus"), ("opacities", "opac"), ("calcified", "calcifi"), ("of", "of"),
    ],
)  # fmt: skip
def test_porter_by_hand(word: str, stem: str) -> None:
    assert porter(word) == stem


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("generalization", "general"), ("communication", "communic"), ("skis", "ski"), ("dying", "die"),
        ("gently", "gentl"), ("news", "news"), ("herring", "herring"), ("patient's", "patient"), ("youth", "youth"),
        ("happily", "happili"), ("hoping", "hope"), ("hopping", "hop"), ("ties", "tie"), ("cries", "cri"),
        ("effusions", "effus"), ("gas", "gas"), ("this", "this"), ("analogously", "analog"), ("at", "at"),
    ],
)  # fmt: skip
def test_snowball_by_hand(word: str, stem: str) -> None:
    assert snowball(word) == stem


@pytest.mark.parametrize(
    "word", ["", "a", "'", "''", "y", "yyyy", "ss", "ing", "ed", "ation", "li", "µm", "体", "e" * 5000]
)
def test_any_word_has_a_stem(word: str) -> None:
    assert isinstance(porter(word), str)
    assert isinstance(snowball(word), str)


def test_porter_is_that_of_nltk(real_data: Path) -> None:
    original = pytest.importorskip("nltk.stem.porter", reason="nltk is not installed").PorterStemmer()
    text = (real_data / "reports" / "openi_cxr_reports.csv").read_text(encoding="utf-8").lower()
    words = sorted(set(re.findall(r"[a-z0-9']+", text)))
    drawn, suffixes = random.Random(0), SUFFIXES.split()
    words += [drawn.choice(words)[: drawn.randint(1, 7)] + drawn.choice(suffixes) for _ in range(5000)]
    assert [word for word in words if porter(word) != original.stem(word)] == []


def test_snowball_is_that_of_nltk_on_words_of_reports(real_data: Path) -> None:
    original = pytest.importorskip("nltk.stem.snowball", reason="nltk is not installed").EnglishStemmer()
    text = (real_data / "reports" / "openi_cxr_reports.csv").read_text(encoding="utf-8").lower()
    words = sorted(set(re.findall(r"[a-z']+", text)))
    assert [word for word in words if snowball(word) != original.stem(word)] == []
