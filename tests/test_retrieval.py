"""Recall at K: duplicates are all right, ties count against the model, and the gallery size is quoted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.intervals import patient_bootstrap
from evaluation.retrieval import recall_at_k


def test_recall_by_hand() -> None:
    similarity = np.array([[0.9, 0.5, 0.1], [0.8, 0.7, 0.1], [0.3, 0.2, 0.1]])

    found = recall_at_k(similarity, "abc", "abc", ks=(1, 2, 3))

    assert found.ranks.tolist() == [1, 2, 3]
    assert found.recall == {1: pytest.approx(1 / 3), 2: pytest.approx(2 / 3), 3: 1.0}
    assert found.chance == {1: pytest.approx(1 / 3), 2: pytest.approx(2 / 3), 3: pytest.approx(1.0)}
    assert (found.queries, found.gallery, found.median_rank) == (3, 3, 2)


def test_a_duplicate_of_the_right_report_is_right() -> None:
    similarity = np.array([[0.1, 0.9, 0.5, 0.2]])

    assert recall_at_k(similarity, ["normal"], ["normal", "normal", "mass", "edema"], ks=(1,)).recall[1] == 1
    assert recall_at_k(similarity, ["a"], ["a", "b", "c", "d"], ks=(1,)).recall[1] == 0


def test_a_constant_similarity_earns_nothing() -> None:
    found = recall_at_k(np.ones((4, 4)), "abcd", "abcd", ks=(1, 3))

    assert found.ranks.tolist() == [4, 4, 4, 4]
    assert found.recall == {1: 0, 3: 0}


def test_the_query_itself_is_taken_out_of_its_own_archive() -> None:
    similarity = np.array([[1.0, 0.6, 0.4], [0.6, 1.0, 0.7], [0.4, 0.7, 1.0]])

    found = recall_at_k(similarity, ["a", "b", "a"], ["a", "b", "a"], ks=(1, 2), own=[0, 1, 2])

    assert found.ranks[0] == 2
    assert math.isnan(found.ranks[1])  # no other "b": excluded, and counted
    assert (found.queries, found.without_positive) == (2, 1)
    assert found.chance[1] == pytest.approx(0.5)


def test_hits_go_into_the_bootstrap_with_their_excluded_rows() -> None:
    found = recall_at_k(np.eye(3), ["a", "b", "x"], ["a", "b", "c"], ks=(1,))

    interval = patient_bootstrap(found.hits(1), ["p", "q", "r"])

    assert (interval.value, interval.n) == (1.0, 2)


@pytest.mark.parametrize(
    ("similarity", "ks", "message"),
    [
        (np.ones((2, 3)), (1,), r"shape \(2, 3\), expected \(3, 3\)"),
        (np.ones((3, 3)), (0,), "K is 0, expected at least 1"),
        (np.full((3, 3), math.nan), (1,), "9 of 9 similarities are nan"),
    ],
)
def test_wrong_input_is_refused(similarity, ks, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recall_at_k(similarity, "abc", "abc", ks)
