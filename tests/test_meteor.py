"""METEOR by hand: nltk's form of 2007, and 1.5 without synonyms and paraphrases."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.meteor import nltk_meteor
from evaluation.meteor15 import meteor_15
from evaluation.text_pairs import TokenPairs

LESIONS = {"mass": ["lesion", "tumor"], "lesion": ["mass"]}


def synonyms(word: str) -> Iterable[str]:
    return LESIONS.get(word, ())


def test_2007_by_hand() -> None:
    # "the heart" is one chunk, "enlarg(ed)" matches by stem and is another: 3 of 3 words, 3 of 5
    score = nltk_meteor(TokenPairs(["the heart enlarging"], ["the heart is clearly enlarged"]))
    mean = (1 * 0.6) / (0.9 * 1 + 0.1 * 0.6)
    assert score.value == pytest.approx(mean * (1 - 0.5 * (2 / 3) ** 3))
    assert "no WordNet" in score.variant


def test_2007_of_equal_texts_is_less_than_one() -> None:
    score = nltk_meteor(TokenPairs(["No Effusion seen"], ["no effusion seen"]))
    assert score.value == pytest.approx(1 - 0.5 * (1 / 3) ** 3)


def test_2007_takes_the_best_reference() -> None:
    pairs = TokenPairs(["a b"], [["c", "a b", "a"]])
    assert nltk_meteor(pairs).value == pytest.approx(nltk_meteor(TokenPairs(["a b"], ["a b"])).value)


def test_synonyms_are_another_variant() -> None:
    pairs = TokenPairs(["a mass"], ["a lesion"])
    without, given = nltk_meteor(pairs), nltk_meteor(pairs, synonyms)
    assert given.value > without.value
    assert "given synonyms" in given.variant


def test_2007_with_synonyms_is_that_of_nltk() -> None:
    original = pytest.importorskip("nltk.translate.meteor_score", reason="nltk is not installed")

    def synsets(word: str) -> list[SimpleNamespace]:
        names = [SimpleNamespace(name=lambda other=other: other) for other in LESIONS.get(word, ())]
        return [SimpleNamespace(lemmas=lambda: names)] if names else []

    drawn = np.random.default_rng(0)
    words = ["mass", "masses", "lesion", "lesions", "tumor", "lung", "the", "lungs", "Lung"]
    texts = [" ".join(drawn.choice(words, drawn.integers(1, 12))) for _ in range(200)]
    found = nltk_meteor(TokenPairs(texts, texts[::-1]), synonyms).items
    wordnet = SimpleNamespace(synsets=synsets)
    theirs = [
        original.meteor_score([other.split()], text.split(), wordnet=wordnet)
        for text, other in zip(texts, texts[::-1], strict=True)
    ]
    assert found == pytest.approx(theirs, abs=1e-12)


def test_15_by_hand() -> None:
    # content words weigh 3/4, "the" and "is" 1/4; "lungs"/"lung" match by stem, worth 0.6
    score = meteor_15(TokenPairs(["the lung is clear"], ["the lungs clear"]))
    said, true = 2 * 0.25 + 2 * 0.75, 0.25 + 2 * 0.75
    found = 0.25 + 0.6 * 0.75 + 0.75
    mean = 1 / (0.15 / (found / said) + 0.85 / (found / true))
    assert score.value == pytest.approx(mean * (1 - 0.6 * (2 / 3) ** 0.2))  # two chunks over three matches


def test_15_of_equal_texts_is_one() -> None:
    texts = ["no acute disease", "the heart is normal"]
    score = meteor_15(TokenPairs(texts, texts))
    assert score.items.tolist() == [1, 1]
    assert score.value == pytest.approx(1)


def test_15_prefers_fewer_chunks_among_equal_matches() -> None:
    # "a" can be matched with either "a" of the reference; the one beside "b" leaves one chunk
    score = meteor_15(TokenPairs(["a b"], ["a c a b"]))
    one_chunk = 1 - 0.6 * (1 / 2) ** 0.2
    mean = 1 / (0.15 / 1 + 0.85 / ((0.25 + 0.75) / (2 * 0.25 + 2 * 0.75)))  # "a" is a function word
    assert score.value == pytest.approx(mean * one_chunk)


def test_15_of_a_set_sums_statistics() -> None:
    pairs = TokenPairs(["heart normal", "x y"], ["heart normal", "heart large"])
    score = meteor_15(pairs)
    assert score.items.tolist() == [1, 0]
    # sums: 2 of 4 words, no chunk for the text that matches whole
    assert score.value == pytest.approx(0.5)
    assert score.over(np.array([0])) == pytest.approx(1)


def test_empty_texts_score_nothing() -> None:
    pairs = TokenPairs(["", "a", ""], ["a", "", ""])
    assert nltk_meteor(pairs).items.tolist() == [0, 0, 0]
    assert meteor_15(pairs).items.tolist() == [0, 0, 0]
    assert math.isfinite(meteor_15(pairs).value)


def test_a_word_said_a_hundred_times_is_aligned_in_time() -> None:
    score = meteor_15(TokenPairs(["the lung " * 60], ["the clear lung " * 60]))
    assert 0 < score.value < 1
