"""Counts of n-grams of many texts at once, beside a Counter of each text."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.ngrams import TokenTable

TEXTS = st.lists(st.lists(st.sampled_from("abcde"), max_size=12), min_size=1, max_size=8)


def counted(table: TokenTable, order: int) -> list[Counter[int]]:
    """Counts by n-gram number, text by text."""
    found = list(table.grams(order))[-1]
    texts: list[Counter[int]] = [Counter() for _ in found.totals]
    for gram, text, count in zip(found.gram.tolist(), found.text.tolist(), found.count.tolist(), strict=True):
        texts[text][gram] = count
    return texts


@given(TEXTS, st.integers(1, 4))
def test_equal_n_grams_get_equal_numbers_and_no_others(texts: list[list[str]], order: int) -> None:
    wanted = [Counter(tuple(text[at : at + order]) for at in range(len(text) - order + 1)) for text in texts]
    found = counted(TokenTable(texts), order)
    for mine, theirs in zip(found, wanted, strict=True):
        assert sorted(mine.values()) == sorted(theirs.values())
    # the numbering is one to one: joined over all texts, the same counts by n-gram
    totals: Counter[int] = Counter()
    for mine in found:
        totals.update(mine)
    assert sorted(totals.values()) == sorted(sum(wanted, Counter()).values())
    assert len(totals) == len({gram for theirs in wanted for gram in theirs})


@given(TEXTS)
def test_totals_count_repeats(texts: list[list[str]]) -> None:
    for order, found in enumerate(TokenTable(texts).grams(4), start=1):
        assert found.totals.tolist() == [max(len(text) - order + 1, 0) for text in texts]
        assert np.bincount(found.text, found.count, len(texts)).tolist() == found.totals.tolist()


def test_characters_are_tokens() -> None:
    texts = ["aab", "", "b\ud800🫁"]
    assert counted(TokenTable.of_characters(texts), 1) == counted(TokenTable([list(text) for text in texts]), 1)


def test_no_text_has_tokens() -> None:
    for found in TokenTable([[], []]).grams(3):
        assert found.totals.tolist() == [0, 0]
        assert found.grams == len(found.gram) == 0


@pytest.mark.parametrize("vocabulary", [3, 2**40])
def test_both_ways_to_sort_agree(vocabulary: int) -> None:
    table = TokenTable([list(range(3)) * 3, [2, 0, 1]])
    wanted = counted(TokenTable([list(range(3)) * 3, [2, 0, 1]]), 2)
    table.vocabulary = vocabulary  # a large one does not fit into a packed integer
    assert counted(table, 2) == wanted
