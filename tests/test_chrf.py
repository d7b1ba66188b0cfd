"""chrF by hand, and where orders are missing."""

from __future__ import annotations

import pytest

from evaluation.chrf import chrf


def f2(precision: float, recall: float) -> float:
    return 100 * 5 * precision * recall / (4 * precision + recall)


def test_characters_by_hand() -> None:
    # abc / abd: 2 of 3, 1 of 2, 0 of 1; orders 4 to 6 exist in neither and do not count
    mean = (2 / 3 + 1 / 2 + 0) / 3
    assert chrf(["abc"], ["abd"]).value == pytest.approx(f2(mean, mean))


def test_white_space_does_not_count() -> None:
    assert chrf(["a b c"], ["abc"]).value == pytest.approx(100)


def test_words_count_in_the_other_form() -> None:
    # "a bc" / "a bd": characters abc / abd as above; words 1 of 2, pairs 0 of 1
    mean = (2 / 3 + 1 / 2 + 0 + 1 / 2 + 0) / 5
    found = chrf(["a bc"], ["a bd"], words=True)
    assert found.value == pytest.approx(f2(mean, mean))
    assert found.name == "sacrebleu.chrf++"


def test_the_best_reference_counts() -> None:
    assert chrf(["abc"], [["xyz", "abc", "abd"]]).value == pytest.approx(100)


def test_a_corpus_sums_counts() -> None:
    score = chrf(["ab", "xyzxyz"], ["ab", "q"])
    assert score.items.tolist() == pytest.approx([100, 0])
    # orders 1 and 2: 2 of 2 + 6, 1 of 1 (the second reference has no pair of characters)
    precision, recall = (2 / 8 + 1) / 2, (2 / 3 + 1) / 2
    assert score.value == pytest.approx(f2(precision, recall))


def test_empty_and_odd_texts_are_defined() -> None:
    assert chrf(["", "", "a"], ["", "a", ""]).items.tolist() == [0, 0, 0]
    assert chrf(["\ud800 体温 🫁"], ["\ud800 体温 🫁"]).value == pytest.approx(100)


def test_it_is_that_of_sacrebleu_over_several_parts() -> None:
    metrics = pytest.importorskip("sacrebleu.metrics", reason="sacrebleu is not installed")
    texts = [f"Report {k}: (no) change, {k % 13} mm 体{k % 5}." for k in range(1100)]
    other = texts[7:] + texts[:7]
    assert chrf(texts, other).value == pytest.approx(metrics.CHRF().corpus_score(texts, [other]).score, abs=1e-9)
