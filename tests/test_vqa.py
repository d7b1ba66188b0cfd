"""Each published scoring of answers by hand, with its faults; and how far apart they lie on the same answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.vqa import SCORINGS, nearest_candidate, score_answers, score_answers_in_every_way


def score(name: str, answer: str, truth: str) -> float:
    return float(score_answers(name, [answer], [truth]).items[0])


@pytest.mark.parametrize(
    ("answer", "truth", "llava_med", "counted", "contains", "words"),
    [
        ("Yes, there is.", "yes", 1, 1, 1, 1),
        ("The chest is normal.", "no", 1, 1, 1, 0),  # "normal" contains "no"
        ("I cannot see one.", "no", 1, 1, 1, 0),
        ("Yes.", "no", math.nan, 0, 0, 0),  # wrong, and left out of LLaVA-Med's mean
        ("It is clear.", "no", 0, 0, 0, 0),
        ("Yes. No.", "no", 1, 1, 1, 0),  # both said: always right
        ("Right", "right", 0, 0, 1, 1),  # a closed question whose answer is neither yes nor no
        ("The knot is on the right", "right", 1, 1, 1, 1),  # "knot" contains "no", so this one counts
        ("bright", "right", 0, 0, 1, 0),
        ("", "no", 0, 0, 0, 0),
    ],
)
def test_closed_questions(
    answer: str, truth: str, llava_med: float, counted: float, contains: float, words: float
) -> None:
    expected = {
        "llava_med_closed": llava_med,
        "llava_med_closed_counted": counted,
        "contains": contains,
        "closed_words": words,
    }

    found = {name: score(name, answer, truth) for name in expected}

    assert found == pytest.approx(expected, nan_ok=True)


def test_leaving_errors_out_of_the_mean() -> None:
    said, true = ["yes", "yes", "no", "no", "unclear"], ["yes", "no", "yes", "no", "no"]

    published = score_answers("llava_med_closed", said, true)

    assert published.value == pytest.approx(2 / 3)  # two right, one without a yes or no; two wrong ones are gone
    assert published.n == 3
    assert published.excluded == {"yes or no said, and wrong": 2}
    assert score_answers("llava_med_closed_counted", said, true).value == pytest.approx(2 / 5)
    assert score_answers("closed_words", said, true).value == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("name", "answer", "truth", "expected"),
    [
        # Said: left left lung (3 words, "left" twice). True: left lower lung.
        ("llava_med_recall", "left left lung", "the left lower lung", 3 / 4),  # 3 shared, 1 missing
        ("llava_med_precision", "left left lung", "the left lower lung", 3 / 3),
        ("llava_med_f1", "left left lung", "the left lower lung", 2 * 0.75 / 1.75),
        ("llava_med_exact", "left left lung", "the left lower lung", 2 / 3),
        ("token_recall", "left left lung", "the left lower lung", 2 / 3),
        ("squad_f1", "left left lung", "the left lower lung", 2 / 3),
        ("squad_f1", "the", "a", 1),  # no words on either side
        ("squad_f1", "", "lung", 0),
        ("squad_exact", "The left lung!", "left lung", 1),
        ("exact", "Two.", "2", 1),
        ("squad_exact", "Two.", "2", 0),
        ("strict", "Left", "left", 0),
        ("strict", "left", "left", 1),
        ("mevf_accuracy", "X-ray", "xray", 1),
        ("exact", "X-ray", "xray", 0),
        ("pathvqa_f1", "stage 2", "stage 3", 1),  # digits are no letters
        ("pathvqa_exact", "in the blood vessels", "blood vessels", 2 / 4),
        ("llava_med_exact", "a mass is there", "", 0),
        ("llava_med_recall", "", "mass", 0),
        ("bleu_1", "left lung", "left lower lung", math.exp(1 - 3 / 2)),
        ("bleu_1", "left left lung base", "left lung", 2 / 4),
        ("bleu_1", "heart", "lung", 0),
        ("m3d_exact", "3.0", "3", 1),
        ("m3d_exact", "about 13 mm", "3", 1),  # the number 3 is inside 13
        ("m3d_exact", "Left Lung, upper", "left  lung", 1),
        ("m3d_exact", "left", "left lung", 0),
    ],
)
def test_open_questions(name: str, answer: str, truth: str, expected: float) -> None:
    assert score(name, answer, truth) == pytest.approx(expected)


def test_bleu_of_pathvqa_skips_an_order_without_a_match() -> None:
    # No shared pair of words: the second order is skipped, and the first has half its weight.
    assert score("pathvqa_bleu_2", "lung left", "left lung") == pytest.approx(1)
    assert score("pathvqa_bleu_1", "heart", "lung") == pytest.approx(1)  # wrong, longer than the truth, and perfect
    assert score("pathvqa_bleu_1", "lung", "the lung") == pytest.approx(math.exp(1 - 8 / 4))  # brevity in letters
    assert score("pathvqa_bleu_3", "left lung", "left lung") == 0  # too short for three words


def test_kinds_choose_the_questions() -> None:
    found = score_answers("llava_med_recall", ["no", "left lung"], ["no", "lung"], ["closed", "open"])

    assert math.isnan(found.items[0])
    assert found.value == 1
    assert found.excluded == {"closed question": 1}


def test_every_scoring_has_a_defined_result_for_odd_answers() -> None:
    odd = ["", " ", "no", "肺に結節", "a" * 5000, "1e400", "nan", "[](){}*+?\\", "."]

    for scored in score_answers_in_every_way(odd, odd[::-1]):
        known = scored.items[~np.isnan(scored.items)]
        assert ((known >= 0) & (known <= 1)).all(), scored.name
    assert len({scoring.name for scoring in SCORINGS.values()}) == len(SCORINGS)


def test_the_same_answers_in_every_way() -> None:
    said = ["normal", "yes", "Left lung.", "the left lower lobe"]
    true = ["no", "yes", "left lung", "left lower lobe"]
    kinds = ["closed", "closed", "open", "open"]

    found = {scored.name: scored for scored in score_answers_in_every_way(said, true, kinds)}

    assert found["llava_med_closed"].value == 1
    assert found["closed_words"].value == 0.5
    assert found["exact"].value == 0.75
    assert found["strict"].value == 0.25
    assert found["closed_words"].n == 2
    assert all(scored.variant for scored in found.values())


def test_nearest_candidate_takes_the_first_of_equals() -> None:
    candidates = ["pleural effusion", "effusion", "left lung"]

    found = nearest_candidate(["an effusion on the left", "a mass"], ["effusion", "pleural effusion"], candidates)

    # "effusion" is there whole, "pleural effusion" by half; an unknown answer becomes the first candidate.
    assert found.items.tolist() == [1, 1]


def test_no_questions_give_nan() -> None:
    assert math.isnan(score_answers("exact", [], []).value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: score_answers("bleu", ["a"], ["a"]), ValueError, "scoring 'bleu' is unknown, expected one of: bleu_1"),
        (lambda: score_answers("exact", ["a"], []), ValueError, "1 and 0 predicted and true answers"),
        (lambda: score_answers("exact", ["a"], ["a"], ["open", "open"]), ValueError, "1 and 2 answers and kinds"),
        (lambda: score_answers("exact", [math.nan], ["a"]), TypeError, "question 0: the predicted answer is nan"),
        (lambda: score_answers("exact", ["a", "b"], ["a", None]), TypeError, "question 1: the true answer is None"),
        (lambda: nearest_candidate(["a"], ["a"], []), ValueError, "0 candidate answers"),
    ],
)
def test_wrong_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
