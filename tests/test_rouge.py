"""ROUGE by hand in both forms, and the common subsequence beside the usual table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.rouge import coco_rouge_l, longest_common_subsequence, rouge_l_f1, rouge_n_f1
from evaluation.text_pairs import TokenPairs
from evaluation.tokenization import ROUGE_STEMS

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=70)


def table_length(first: list[str], second: list[str]) -> int:
    """The length by the table of every textbook."""
    row = [0] * (len(second) + 1)
    for one in first:
        before = row
        row = [0]
        for at, other in enumerate(second):
            row.append(before[at] + 1 if one == other else max(before[at + 1], row[at]))
    return row[-1]


@given(WORDS, WORDS)
def test_bits_count_what_the_table_counts(first: list[str], second: list[str]) -> None:
    assert longest_common_subsequence(first, second) == table_length(first, second)


def test_recall_weighs_more_in_one_form_only() -> None:
    # common: a b d; precision 3/4, recall 3/6
    pairs = TokenPairs(["a b d x"], ["a b c d e f"])
    assert coco_rouge_l(pairs).value == pytest.approx((1 + 1.44) * 0.75 * 0.5 / (0.5 + 1.44 * 0.75))
    assert rouge_l_f1(pairs).value == pytest.approx(2 * 0.75 * 0.5 / 1.25)


def test_best_precision_and_best_recall_may_come_from_two_references() -> None:
    pairs = TokenPairs(["a b"], [["a b c d", "a"]])  # precision 1 and 1/2, recall 1/2 and 1
    assert coco_rouge_l(pairs).value == pytest.approx(1)
    assert rouge_l_f1(pairs).value == pytest.approx(2 * 2 / 6)  # the best reference as a whole


def test_n_grams_by_hand() -> None:
    pairs = TokenPairs(["a a b c"], ["a b b c d"])
    assert rouge_n_f1(pairs, 1).value == pytest.approx(2 * 3 / 9)  # a, b, c
    assert rouge_n_f1(pairs, 2).value == pytest.approx(2 * 2 / 7)  # a b, b c
    assert rouge_n_f1(pairs, 1).name == "rouge_score.rouge_1"
    assert rouge_n_f1(TokenPairs(["a b"], [["c", "a b c"]]), 2).value == pytest.approx(2 * 1 / 3)


def test_stems_match_where_words_do_not() -> None:
    texts = ["Effusions increasing"], ["effusion increased"]
    assert rouge_l_f1(TokenPairs(*texts, ROUGE_STEMS)).value == 1
    assert rouge_l_f1(TokenPairs(["effusions increasing"], ["effusion increased"])).value == 0


def test_empty_texts_differ_between_the_forms() -> None:
    pairs = TokenPairs(["", "", "a"], ["", "a", ""])
    assert coco_rouge_l(pairs).items.tolist() == [1, 0, 0]  # an empty text is one empty token there
    assert rouge_l_f1(pairs).items.tolist() == [0, 0, 0]
    assert rouge_n_f1(pairs, 2).items.tolist() == [0, 0, 0]


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=9).map(" ".join), min_size=1, max_size=6)
)
def test_equal_texts_score_one(texts: list[str]) -> None:
    pairs = TokenPairs(texts, texts)
    assert coco_rouge_l(pairs).value == pytest.approx(1)
    assert rouge_l_f1(pairs).value == pytest.approx(1)
    assert rouge_n_f1(pairs, 2).value == pytest.approx(1)


def test_an_order_that_is_not_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="order is 0, expected 1 to 4"):
        rouge_n_f1(TokenPairs(["a"], ["a"]), 0)
