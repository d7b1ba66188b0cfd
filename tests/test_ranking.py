"""Average precision, NDCG and R-precision of a ranking by hand; CT-CLIP's label overlap and its script's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.ranking import (
    as_ct_clip_prints,
    label_overlap_at_k,
    label_overlap_chance,
    mean_average_precision,
    ndcg,
    r_precision,
)

SCORES = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]])
RIGHT = np.array([[1, 0, 1, 0, 1]])


def test_average_precision_by_hand() -> None:
    assert mean_average_precision(SCORES, RIGHT).value == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert mean_average_precision(SCORES, RIGHT, 2).value == pytest.approx(1 / 2)  # of min(2, 3) right items
    assert r_precision(SCORES, RIGHT).value == pytest.approx(2 / 3)


def test_gains_and_discounts_by_hand() -> None:
    grades = np.array([[1, 0, 3, 0, 0]])
    best = 3 + 1 / math.log2(3)

    assert ndcg(SCORES, grades).value == pytest.approx((1 + 3 / 2) / best)
    assert ndcg(SCORES, grades, gain="exponential").value == pytest.approx((1 + 7 / 2) / (7 + 1 / math.log2(3)))
    assert ndcg(SCORES, grades, 2).value == pytest.approx(1 / best)
    assert ndcg(SCORES, RIGHT).value == ndcg(SCORES, RIGHT, gain="exponential").value


def test_ties_count_against_the_model() -> None:
    flat = np.zeros((1, 5))

    assert mean_average_precision(flat, [[1, 0, 0, 0, 0]]).value == pytest.approx(1 / 5)
    assert r_precision(flat, [[1, 0, 0, 0, 0]]).value == 0
    assert ndcg(flat, [[1, 0, 0, 0, 0]]).value == pytest.approx(1 / math.log2(6))


def test_queries_without_a_right_item_and_items_that_are_no_candidates() -> None:
    scores, right = np.repeat(SCORES, 2, 0), np.array([[0, 0, 0, 0, 0], [0, 1, 0, 0, 0]])
    candidate = np.ones((2, 5), bool)
    candidate[1, 0] = False  # the same patient, say

    found = mean_average_precision(scores, right, candidate=candidate)

    assert math.isnan(found.items[0])
    assert found.items[1] == 1
    assert found.excluded == {"no relevant item": 1}
    assert ndcg(scores, right, candidate=candidate).items[1] == 1


def test_label_overlap_by_hand() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]])
    similarity = np.array([[1.0, 0.8, 0.9, 0.95], [0.1, 1, 0.2, 0.3], [0, 0, 1, 0], [0.3, 0.2, 0.1, 1]])

    found = label_overlap_at_k(similarity, labels, labels, (1, 2))

    # The gallery is the first three; each query with labels finds itself first, the last one scores 0.
    assert found[1].items.tolist() == [1, 1, 1, 0]
    assert found[2].items.tolist() == pytest.approx([(1 + 1 / 3) / 2, (1 + 0) / 2, (1 + 1 / 3) / 2, 0])
    assert "gallery of 3 labelled items" in found[1].variant


def test_the_script_mixes_the_number_of_one_k_into_the_next() -> None:
    labels = np.eye(3)
    found = label_overlap_at_k(np.eye(3), labels, labels, (1, 3))

    assert (found[1].value, found[3].value) == (1, pytest.approx(1 / 3))
    assert as_ct_clip_prints(found) == {1: 1, 3: pytest.approx((1 + 1 / 3) / 2)}


def test_chance_of_label_overlap() -> None:
    labels = np.array([[1, 0], [1, 1]])

    assert label_overlap_chance(labels, labels) == pytest.approx((1 + 0.5 + 0.5 + 1) / 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_average_precision(SCORES, RIGHT[:, :3]), r"relevance \(1, 3\)"),
        (lambda: mean_average_precision(np.full((1, 5), math.nan), RIGHT), "5 of 5 cells hold nan"),
        (lambda: mean_average_precision(SCORES, RIGHT, 0), "k is 0, expected at least 1"),
        (lambda: ndcg(SCORES, -RIGHT), "the smallest relevance is -1"),
        (lambda: label_overlap_at_k(np.eye(2), np.zeros((2, 3)), np.zeros((2, 3))), "no gallery item has a label"),
        (lambda: label_overlap_at_k(np.eye(2), np.eye(3), np.eye(2)), "expected .Q, G., .Q, L., .G, L."),
        (lambda: label_overlap_at_k(np.eye(2), np.full((2, 2), 0.5), np.eye(2)), "a label is neither 0 nor 1"),
        (lambda: label_overlap_at_k(np.eye(2), np.eye(2), np.eye(2), (0,)), "K is 0"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
