"""BLEU by hand in each form, where the forms differ, and the texts that have no score of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.bleu import BleuCounts, bleu_counts, coco_bleu, sacre_bleu, sentence_bleu
from evaluation.intervals import patient_bootstrap
from evaluation.text_pairs import TokenPairs
from evaluation.tokenization import REPORT_METRIC, V13A

HYPOTHESES = ["the the the cat", "no effusion is seen"]
REFERENCES = ["the cat sat on the mat", "no pleural effusion is seen"]


def test_matches_are_clipped_by_the_reference() -> None:
    counts = bleu_counts(TokenPairs(HYPOTHESES, REFERENCES))
    assert counts.correct.tolist() == [[3, 1, 0, 0], [4, 2, 1, 0]]  # "the" twice, "cat"; "the cat"; "effusion is seen"
    assert counts.guess.tolist() == [[4, 3, 2, 1], [4, 3, 2, 1]]
    assert counts.length.tolist() == [4, 4]
    assert counts.reference_length.tolist() == [6, 5]


def test_corpus_bleu_sums_counts_before_it_divides() -> None:
    scores = {score.name: score.value for score in coco_bleu(TokenPairs(HYPOTHESES, REFERENCES))}
    penalty = math.exp(1 - 11 / 8)
    assert scores["coco.bleu_1"] == pytest.approx(penalty * 7 / 8)
    assert scores["coco.bleu_2"] == pytest.approx(penalty * math.sqrt(7 / 8 * 3 / 6))
    assert scores["coco.bleu_3"] == pytest.approx(penalty * (7 / 8 * 3 / 6 * 1 / 4) ** (1 / 3))
    assert scores["coco.bleu_4"] == pytest.approx(0, abs=1e-3)
    assert scores["coco.bleu_4"] > 0  # pycocoevalcap adds 1e-15 to no match at all


def test_several_references_lend_their_counts_and_the_closest_length() -> None:
    pairs = TokenPairs(["a a b"], [["a c", "a a d d d", "b b b b"]])
    counts = bleu_counts(pairs)
    assert counts.correct[0].tolist() == [3, 1, 0, 0]
    assert counts.reference_length.tolist() == [2]  # 2 and 4 are as close to 3; the shorter counts


def test_sentence_forms_by_hand() -> None:
    pairs = TokenPairs(["a b c d e"], ["a b x c d"])  # 4 of 5, 2 of 4, 0 of 3
    values = {
        smoothing: sentence_bleu(pairs, 3, smoothing).value for smoothing in ("none", "epsilon", "add-one", "nist")
    }  # type: ignore[arg-type]
    assert values["none"] == pytest.approx(0, abs=1e-6)
    assert values["epsilon"] == pytest.approx((4 / 5 * 2 / 4 * 0.1 / 3) ** (1 / 3))
    assert values["add-one"] == pytest.approx((4 / 5 * 3 / 5 * 1 / 4) ** (1 / 3))
    assert values["nist"] == pytest.approx((4 / 5 * 2 / 4 * 1 / 2 / 3) ** (1 / 3))


def test_sacrebleu_by_hand() -> None:
    pairs = TokenPairs(["a b c d e"], ["a b x c d"], V13A)
    exp = 100 * (4 / 5 * 2 / 4 * 1 / (2 * 3) * 1 / (4 * 2)) ** (1 / 4)
    assert sacre_bleu(pairs).value == pytest.approx(exp)
    assert sacre_bleu(pairs, "none").value == 0
    assert sacre_bleu(pairs, "floor", 0.5).value == pytest.approx(100 * (4 / 5 * 2 / 4 * 0.5 / 3 * 0.5 / 2) ** (1 / 4))
    assert "smooth:floor[0.50]" in sacre_bleu(pairs, "floor", 0.5).variant


def test_the_same_texts_give_each_form_another_number() -> None:
    hypotheses, references = ["No mass.", "The heart is large."], ["No mass is seen.", "The heart is enlarged."]
    plain, cased, peer = (TokenPairs(hypotheses, references, *cut) for cut in ((), (V13A,), (REPORT_METRIC,)))
    values = [
        coco_bleu(plain)[1].value,
        sacre_bleu(cased).value / 100,
        sentence_bleu(peer, 2).value,
        sentence_bleu(plain, 2, "none").value,
    ]
    assert len({round(value, 6) for value in values}) == len(values)


def test_equal_texts_score_one() -> None:
    texts = ["the heart is not enlarged", "no pneumothorax or effusion is seen"]
    pairs = TokenPairs(texts, texts)
    assert [score.value for score in coco_bleu(pairs)] == pytest.approx([1, 1, 1, 1], abs=1e-6)
    assert sacre_bleu(pairs).value == pytest.approx(100)
    assert sentence_bleu(pairs).value == pytest.approx(1)


@pytest.mark.parametrize(("hypothesis", "reference"), [("", "a b"), ("", ""), ("a", ""), ("x y", "a b")])
def test_texts_without_a_common_word_score_nothing(hypothesis: str, reference: str) -> None:
    pairs = TokenPairs([hypothesis], [reference])
    values = [*(score.value for score in coco_bleu(pairs)), sacre_bleu(pairs).value, sentence_bleu(pairs).value]
    assert values == pytest.approx([0] * 6, abs=2e-3)  # pycocoevalcap's 1e-15 and 1e-9 leave a trace in BLEU-4
    assert not np.isnan(values).any()


def test_the_interval_resamples_counts_and_not_scores() -> None:
    score = coco_bleu(TokenPairs(HYPOTHESES, REFERENCES))[0]
    assert score.over(np.array([0, 0])) == pytest.approx(math.exp(1 - 12 / 8) * 6 / 8)
    assert score.value != pytest.approx(score.items.mean(), abs=1e-3)
    interval = patient_bootstrap(score.over, ["p", "q"], n=100)
    assert interval.low <= score.value <= interval.high
    assert interval.value == score.value


def test_an_order_that_is_not_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="order is 5, expected 1 to 4"):
        sentence_bleu(TokenPairs(["a"], ["a"]), 5)


def test_counts_are_whole_numbers() -> None:
    counts: BleuCounts = bleu_counts(TokenPairs(HYPOTHESES, REFERENCES))
    assert counts.correct.dtype == counts.guess.dtype == np.int64
