"""Which letter a reply means, as five parsers have it, and what that does to accuracy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.multiple_choice import (
    PARSERS,
    choice_accuracy,
    label_f1,
    m3d_right,
    mentioned_labels,
)

OPTIONS = {"A": "pneumonia", "B": "left pleural effusion", "C": "pleural effusion", "D": "normal"}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B", "B"),
        ("(b)", "B"),
        (" C. ", "C"),
        ("B. left pleural effusion", "B"),
        ("B) because A is wrong", "B"),
        ("The answer is (C).", "C"),
        ("Option A fits, but the final answer is D", "D"),
        ("A mass is seen, so the answer: B", "B"),
        ("A mass is seen", None),  # an article is no option
        ("I would choose (B) here", "B"),
        ("(A) and (B) are possible", None),
        ("A. B. C. D.", None),
        ("This is pneumonia.", "A"),
        ("A left pleural effusion", "B"),  # not C, whose text lies inside
        ("pneumonia or normal", None),
        ("abnormal", None),
        ("E", None),
        ("", None),
        ("我认为是 D", None),
        ("Answer: Denied", None),
    ],
)
def test_what_a_reader_would_take_it_to_say(reply: str, expected: str | None) -> None:
    assert PARSERS["reader"](reply, OPTIONS) == expected


@pytest.mark.parametrize(
    ("parser", "reply", "expected"),
    [
        ("mmmu", "(A) is wrong, (B) is right", "B"),  # the last one
        ("mmmu", "A mass is seen", "A"),
        ("mmmu", "Not A but B", "B"),
        ("mmmu", "B.", "B"),
        ("mmmu", "pneumonia", None),  # fewer than six words
        ("mmmu", "I think that this is clearly pneumonia", "A"),
        ("mmmu", "I see pneumonia, then all was normal", "D"),
        ("mmmu", "no idea", None),
        ("mediconfusion", "The answer is B.", "B"),
        ("mediconfusion", "A or B", None),
        ("mediconfusion", "(B)", None),
        ("nearest", "pneumonia", "A"),
        ("nearest", "a small left effusion", "B"),
        ("nearest", "", None),
        ("m3d", "B. left pleural effusion", "B"),
        ("m3d", "B", None),
    ],
)
def test_published_parsers(parser: str, reply: str, expected: str | None) -> None:
    assert PARSERS[parser](reply, OPTIONS) == expected


def test_accuracy_and_what_a_reply_without_a_letter_is_worth() -> None:
    replies, options = ["B", "I do not know", "A"], [OPTIONS, OPTIONS, {"A": "yes", "B": "no"}]

    wrong = choice_accuracy(replies, options, ["B", "B", "B"])
    guess = choice_accuracy(replies, options, ["B", "B", "B"], unparsed="guess")

    assert wrong.accuracy.items.tolist() == [1, 0, 0]
    assert guess.accuracy.items.tolist() == [1, 0.25, 0]
    assert (wrong.letters, wrong.unparsed) == (["B", None, "A"], 1)
    assert wrong.chance == pytest.approx((0.25 + 0.25 + 0.5) / 3)
    assert "guess" in guess.accuracy.variant


def test_a_reply_that_lists_all_options_is_always_right_for_m3d() -> None:
    everything = "A. pneumonia B. left C. right D. normal"

    assert m3d_right([everything] * 4, list("ABCD")).value == 1
    assert m3d_right(["B"], ["B"]).value == 0


def test_mentioned_labels_do_not_hear_a_negation() -> None:
    names = ["Pneumothorax", "Edema"]

    found = mentioned_labels(["No pneumothorax.", "edema"], names)

    assert found.tolist() == [[1, 0], [0, 1]]
    assert mentioned_labels([], names).shape == (0, 2)


def test_f1_of_labels_by_hand() -> None:
    predicted, true = np.array([[1.0, 0, 0], [1, 1, 0]]), np.array([[1.0, 1, 0], [0, 1, 0]])

    found = label_f1(predicted, true)

    assert found["micro"] == pytest.approx(2 * 2 / 6)
    assert found["macro"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)  # a label that nobody has counts as 0
    assert label_f1(np.zeros((2, 2)), np.zeros((2, 2)))["micro"] == 0


def test_no_questions_give_nan() -> None:
    found = choice_accuracy([], [], [])

    assert math.isnan(found.accuracy.value)
    assert math.isnan(found.chance)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choice_accuracy(["A"], [OPTIONS], ["E"]), "question 0: the true answer is 'E', expected one of A, B"),
        (lambda: choice_accuracy(["A"], [OPTIONS], ["A"], "gpt"), "parser 'gpt' is unknown"),
        (lambda: choice_accuracy(["A"], [], ["A"]), "1 and 0 replies and lists of options"),
        (lambda: label_f1(np.zeros((2, 2)), np.zeros((2, 3))), "expected .N, L. for both"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
