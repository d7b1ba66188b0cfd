"""CIDEr-D by hand, and what its document frequencies rest on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.cider import cider_d, cider_d_with
from evaluation.text_pairs import TokenPairs
from evaluation.tokenization import V13A


def test_two_pairs_by_hand() -> None:
    # N = 2. "a" is in both references, so it weighs log 2 - log 2 = 0; b, c and "a b", "a c" weigh log 2.
    score = cider_d(TokenPairs(["a b", "a d"], ["a b", "a c"]))
    # pair 0: orders 1 and 2 are equal (cosine 1), orders 3 and 4 do not exist; equal lengths
    assert score.items[0] == pytest.approx(10 * (1 + 1) / 4)
    # pair 1: nothing in common but "a", which weighs nothing
    assert score.items[1] == 0
    assert score.value == pytest.approx(2.5)
    assert "2 evaluated pairs" in score.variant


def test_repeats_are_clipped_and_lengths_compared() -> None:
    score = cider_d(TokenPairs(["b b", "x"], ["b", "c"]))
    # weights: hypothesis 2 log 2, reference log 2; min is log 2; cosine log² / (2 log · log) = 1/2; one bigram more
    assert score.items[0] == pytest.approx(10 * 0.5 * math.exp(-1 / 72) / 4)


def test_references_are_averaged() -> None:
    both = cider_d(TokenPairs(["b", "x"], [["b", "y"], ["c", "z"]]))
    one = cider_d(TokenPairs(["b", "x"], [["b"], ["c"]]))
    assert both.items[0] == pytest.approx(one.items[0] / 2)


def test_a_set_of_one_says_nothing() -> None:
    assert cider_d(TokenPairs(["a b c"], ["a b c"])).value == 0


def test_frequencies_of_a_corpus_make_sets_comparable() -> None:
    corpus = ["a b", "a c", "a d", "e f"]
    whole = cider_d_with(TokenPairs(["a b", "a d"], ["a b", "a c"]), corpus)
    alone = cider_d_with(TokenPairs(["a b"], ["a b"]), corpus)
    assert alone.items[0] == pytest.approx(whole.items[0])
    assert alone.items[0] == pytest.approx(5)
    # "a" weighs log 4/3 and "b" log 4 in both texts of pair 1, which share "a"
    common, rare = math.log(4 / 3), math.log(4)
    assert whole.items[1] == pytest.approx(10 * common**2 / (common**2 + rare**2) / 4)
    assert "corpus of 4" in whole.variant


def test_what_cannot_be_counted_is_refused() -> None:
    pairs = TokenPairs(["a"], ["a"])
    with pytest.raises(ValueError, match="the corpus holds 0 texts"):
        cider_d_with(pairs, [])
    with pytest.raises(ValueError, match="cut by 'white space', the corpus by '13a'"):
        cider_d_with(pairs, ["a"], V13A)


def test_empty_texts_score_nothing() -> None:
    score = cider_d(TokenPairs(["", "a b", ""], ["a b", "", ""]))
    assert score.items.tolist() == [0, 0, 0]


def test_the_order_of_pairs_does_not_matter() -> None:
    texts = [f"word{k % 7} word{k % 5} word{k % 3} common" for k in range(40)]
    other = texts[3:] + texts[:3]
    order = np.random.default_rng(0).permutation(40)
    first = cider_d(TokenPairs(texts, other)).items
    second = cider_d(TokenPairs([texts[k] for k in order], [other[k] for k in order])).items
    assert second == pytest.approx(first[order])
