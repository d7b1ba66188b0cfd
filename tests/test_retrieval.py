"""Recall at K: duplicates are all right, ties count against the model, and the gallery size is quoted."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from evaluation.intervals import patient_bootstrap
from evaluation.retrieval import recall_at_k, recall_of_embeddings


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


def test_other_numbers_of_the_same_ranking() -> None:
    similarity = np.array([[0.9, 0.5, 0.1, 0.0], [0.8, 0.7, 0.1, 0.0], [0.3, 0.2, 0.1, 0.0]])

    found = recall_at_k(similarity, "abx", "abca")

    assert found.ranks[:2].tolist() == [1, 2]
    assert found.mean_reciprocal_rank == pytest.approx(0.75)
    assert found.mean_rank == 1.5
    assert (found.median_rank, found.open_clip_median_rank) == (1.5, 1)
    assert found.relevant.tolist() == [2, 1, 0]
    assert found.mean_relevant == 1.5
    assert "gallery of 4" in found.variant


def test_another_study_of_the_same_patient_is_left_out() -> None:
    similarity = np.array([[0.9, 0.8, 0.7, 0.6]])
    task = {"query_groups": ["normal"], "gallery_groups": ["mass", "normal", "edema", "normal"]}
    patients = (["p1"], ["p1", "p1", "p2", "p3"])

    kept = recall_at_k(similarity, **task, patients=patients)
    negatives = recall_at_k(similarity, **task, patients=patients, same_patient="leave out negatives")
    all_out = recall_at_k(similarity, **task, patients=patients, same_patient="leave out")

    assert (kept.ranks[0], kept.candidates[0], kept.relevant[0]) == (2, 4, 2)
    assert (negatives.ranks[0], negatives.candidates[0], negatives.relevant[0]) == (1, 3, 2)
    assert (all_out.ranks[0], all_out.candidates[0], all_out.relevant[0]) == (2, 2, 1)
    assert "same patient left out" in all_out.variant


def test_embeddings_give_what_their_table_gives() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(50, 8)), rng.normal(size=(70, 8))
    groups = rng.integers(0, 20, 50).tolist(), rng.integers(0, 20, 70).tolist()

    whole, blocks = recall_at_k(queries @ gallery.T, *groups), recall_of_embeddings(queries, gallery, *groups)

    np.testing.assert_array_equal(whole.ranks, blocks.ranks)
    assert whole.chance == blocks.chance


def test_an_archive_of_100_000_reports() -> None:
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(100_000, 16)).astype(np.float32)
    groups = np.arange(100_000) // 2
    start = time.perf_counter()

    found = recall_of_embeddings(gallery[:200], gallery, groups[:200].tolist(), groups.tolist(), own=range(200))

    assert found.gallery == 100_000
    assert found.chance[10] == pytest.approx(10 / 99_999)
    assert time.perf_counter() - start < 20


def test_chance_is_the_share_of_random_draws() -> None:
    rng = np.random.default_rng(0)
    found = recall_at_k(rng.random((4000, 12)), ["a"] * 4000, ["a", "a", "a", *"bcdefghij"], ks=(2,))

    assert found.chance[2] == pytest.approx(1 - 9 * 8 / (12 * 11))
    assert found.recall[2] == pytest.approx(found.chance[2], abs=0.02)


def test_no_queries_give_nan() -> None:
    found = recall_at_k(np.zeros((0, 3)), [], "abc")

    assert math.isnan(found.recall[1])
    assert math.isnan(found.mean_reciprocal_rank)
    assert found.queries == 0


def test_places_and_patients_must_fit() -> None:
    with pytest.raises(ValueError, match="own has places 0 to 7, expected 0 to 2"):
        recall_at_k(np.eye(3), "abc", "abc", own=[0, 7, 1])
    with pytest.raises(ValueError, match="own has 1 places, expected 3"):
        recall_at_k(np.eye(3), "abc", "abc", own=[0])
    with pytest.raises(ValueError, match="no patients are given"):
        recall_at_k(np.eye(3), "abc", "abc", same_patient="leave out")
    with pytest.raises(ValueError, match="there are 2 and 3 patients, expected 3 of queries"):
        recall_at_k(np.eye(3), "abc", "abc", patients=("pq", "pqr"))
    with pytest.raises(ValueError, match=r"shapes \(3, 3\) and \(2, 2\)"):
        recall_of_embeddings(np.eye(3), np.eye(2), "abc", "ab")


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
