"""Protocols on numbers worked by hand, models that cheat in a known way, and input that makes no sense."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from evaluation.protocols import (
    Contender,
    Edits,
    Outcome,
    Studies,
    before_after,
    blind,
    blind_answers,
    circular_orders,
    compositional_gap,
    compositional_split,
    head_to_head,
    look_alike,
    moved_sides,
    option_order,
    paired_answers,
    paired_images,
    prompt_wording,
    text_bias,
)

NAMES = ("consolidation", "atelectasis")


def studies(n: int = 300, signal: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Scores and labels (n, 2), one study a patient."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 2)) < 0.4).astype(float)
    return signal * (labels - 0.5) + rng.normal(size=(n, 2)), labels, list(range(n))


def values(outcome: Outcome, *names: str) -> list[float]:
    return [outcome.get(name).value for name in names]


class TestPairs:
    def test_paired_images_by_hand(self) -> None:
        found = paired_images([2, 1, -1, 0.5], [-1, 1, -2, 0.6], list("abcd"), "four pairs")
        assert values(found, "order", "both_right", "same_answer") == [0.625, 0.25, 0.75]
        assert found.verdict == "undecided"
        assert found.n == 4

    @pytest.mark.parametrize(("shift", "verdict"), [(3.0, "passed"), (0.0, "failed")])
    def test_a_model_that_sees_passes_and_one_that_does_not_fails(self, shift: float, verdict: str) -> None:
        rng = np.random.default_rng(0)
        patient = rng.normal(size=200)
        found = paired_images(patient + shift + 0.5 * rng.normal(size=200), patient, range(200), "pairs")
        assert found.verdict == verdict
        assert "75%" in found.rule

    def test_naturalbench_by_hand(self) -> None:
        truth = np.tile([[1, 0], [0, 1]], (4, 1, 1))
        answers = truth.copy()
        answers[1] = 1  # always yes: half of the answers, no question, no image
        answers[2, 0, 0] = 0
        found = paired_answers(answers, truth, range(4), "items")
        assert values(found, "accuracy", "question", "image", "group") == [13 / 16, 5 / 8, 5 / 8, 0.5]

    def test_one_answer_to_everything_earns_nothing(self) -> None:
        truth = np.tile([[1, 0], [0, 1]], (100, 1, 1))
        found = paired_answers(np.ones_like(truth), truth, range(100), "items")
        assert values(found, "accuracy", "group") == [0.5, 0.0]
        assert found.verdict == "failed"

    def test_a_pair_with_one_true_answer_is_refused(self) -> None:
        with pytest.raises(ValueError, match="item 0 has a question with the same true answer on both images"):
            paired_answers([[[1, 1], [0, 1]]], [[[1, 1], [0, 1]]], ["a"], "items")
        with pytest.raises(ValueError, match="values other than 0"):
            paired_answers([[[1, 2], [0, 1]]], [[[1, 0], [0, 1]]], ["a"], "items")


class TestEdits:
    def test_before_and_after_by_hand(self) -> None:
        before = [[1.0, -1.0, 0.2], [-1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [1.0, -2.0, -1.0]]
        after = [[-1.0, -1.0, -0.2], [0.5, 1.0, -1.0], [0.5, -1.0, -1.0], [1.0, -3.0, -1.0]]
        present = [[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
        edits = Edits(before, after, [0, 0, 0, 1], [False, True, False, True], present, list("abcd"))
        found = before_after(edits, "four edits")
        assert values(found, "understanding", "stubbornness", "ignorance") == [0.5, 0.5, 0.0]
        assert values(found, "order", "indecision") == [0.75, 1 / 8]
        assert found.get("shift").value == pytest.approx((2 + 1.5 + 0.5 - 1) / 4)
        assert found.get("spill").value == pytest.approx(0.4 / 8)
        assert "2 insertions and 2 removals of one finding of 3" in found.get("order").variant

    def test_a_model_that_calls_everything_after_any_edit_fails(self) -> None:
        rng = np.random.default_rng(0)
        before = -1 + 0.1 * rng.normal(size=(80, 5))
        edits = Edits(before, before + 2, [0] * 80, [True] * 80, np.zeros((80, 5)), range(80))
        found = before_after(edits, "edits")
        assert found.get("order").value == 1
        assert found.get("indecision").value > 0.9
        assert found.verdict == "failed"

    def test_an_edit_against_the_truth_is_refused(self) -> None:
        with pytest.raises(ValueError, match="edit 0: finding 1 is removed although it is not there"):
            before_after(Edits([[0.0, 0.0]], [[0.0, 0.0]], [1], [False], [[1, 0]], ["a"]), "edits")
        with pytest.raises(ValueError, match="edited columns range from 2 to 2, expected 0 to 1"):
            before_after(Edits([[0.0, 0.0]], [[0.0, 0.0]], [2], [True], [[1, 0]], ["a"]), "edits")
        with pytest.raises(ValueError, match="there are 0 rows"):
            before_after(Edits(np.empty((0, 2)), np.empty((0, 2)), [], [], np.empty((0, 2)), []), "edits")
        with pytest.raises(ValueError, match="scores after hold 1 values that are nan"):
            before_after(Edits([[0.0]], [[math.nan]], [0], [True], [[0]], ["a"]), "edits")

    def test_moves_by_hand(self) -> None:
        found = moved_sides([1, -1, 0.5, 2], [-1, 1, 0.2, 3], [True, False, True, True], list("abcd"), "moves")
        assert values(found, "follows", "turned") == [0.75, 0.5]


class TestText:
    def test_a_model_that_does_not_look_fails_and_one_that_looks_passes(self) -> None:
        scores, labels, patients = studies()
        blank = np.zeros_like(scores)
        assert blind(NAMES, scores, {"blank": blank}, labels, patients, "d").verdict == "passed"
        assert blind(NAMES, scores, {"text": scores + 1e-3}, labels, patients, "d").verdict == "failed"
        found = blind(NAMES, scores, {"blank": blank}, labels, patients, "d")
        assert found.get("blank.auroc").value == 0.5
        assert found.get("blank.gain").value == pytest.approx(found.get("auroc").value - 0.5)
        assert found.get("blank.gain").n == 300

    def test_gain_and_leakage_of_answers(self) -> None:
        found = blind_answers([1] * 8 + [0] * 2, [1] * 5 + [0] * 5, range(10), "d", text_model=[1] * 3 + [0] * 7)
        assert values(found, "accuracy", "blind.accuracy", "gain", "leakage") == pytest.approx([0.8, 0.5, 0.3, 0.2])
        with pytest.raises(ValueError, match="answers with the image have shape"):
            blind_answers([0.5], [1], ["a"], "d")

    @pytest.mark.parametrize(("pull", "verdict"), [(0.0, "passed"), (3.0, "failed")])
    def test_a_credulous_model_fails(self, pull: float, verdict: str) -> None:
        scores, labels, patients = studies()
        against = scores - pull * (2 * labels - 1)
        found = text_bias(NAMES, scores, against, labels, patients, "d")
        assert found.verdict == verdict
        assert found.get("auroc_change").value <= 0

    def test_only_answers_that_were_right_count(self) -> None:
        neutral, other = [[1.0], [1.0], [-1.0], [1.0]], [[-1.0], [1.0], [-1.0], [-1.0]]
        found = text_bias(("a",), neutral, other, [[1], [1], [1], [0]], range(4), "d")
        assert found.get("followed").value == 0.5
        assert found.get("followed").n == 2
        with pytest.raises(ValueError, match="no answer is right under the neutral text"):
            text_bias(("a",), [[1.0]], [[1.0]], [[0]], ["p"], "d")

    def test_too_few_studies_are_refused(self) -> None:
        with pytest.raises(ValueError, match="0 findings have 10 patients of each class"):
            blind(("a",), [[1.0]], {"blank": [[0.0]]}, [[1]], ["p"], "d")


class TestWording:
    def test_circular_evaluation_by_hand(self) -> None:
        orders = np.tile(circular_orders(3), (2, 1, 1))
        chosen = [[1, 1, 1], [0, 1, 2]]  # the second takes whatever stands first
        found = option_order(chosen, orders, [1, 1], ["a", "b"], "two items")
        assert values(found, "accuracy", "circular", "agreement") == pytest.approx([2 / 3, 0.5, 0.5])
        assert found.get("first").value == pytest.approx((1 / 3 + 1) / 2 - 1 / 3)

    def test_a_model_that_takes_the_first_option_fails(self) -> None:
        orders = np.tile(circular_orders(4), (60, 1, 1))
        found = option_order(orders[:, :, 0], orders, [0] * 60, range(60), "items")
        assert found.verdict == "failed"
        assert found.get("accuracy").value == 0.25

    @pytest.mark.parametrize(
        ("chosen", "orders", "told"),
        [
            ([[0]], [[[0, 1]]], "with P >= 2"),
            ([[0, 1]], [[[0, 1], [0, 0]]], "must be a permutation of 0 to 1"),
            ([[0, 2]], [[[0, 1], [1, 0]]], "choices range from 0 to 2"),
        ],
    )
    def test_orders_that_make_no_sense_are_refused(self, chosen: list, orders: list, told: str) -> None:
        with pytest.raises(ValueError, match=told):
            option_order(chosen, orders, [0], ["a"], "items")
        with pytest.raises(ValueError, match="there are 1 options"):
            circular_orders(1)

    def test_a_wording_that_breaks_the_model_is_found(self) -> None:
        scores, labels, patients = studies()
        noise = np.random.default_rng(9).normal(size=scores.shape)
        same = prompt_wording(NAMES, [scores, 2 * scores, scores + 0.01 * noise], labels, patients, "d")
        broken = prompt_wording(NAMES, [scores, scores, noise], labels, patients, "d")
        assert (same.verdict, broken.verdict) == ("passed", "failed")
        assert broken.get("worst").value == pytest.approx(0.5, abs=0.07)
        assert same.get("flips").value < 0.02 < broken.get("flips").value
        with pytest.raises(ValueError, match="with P >= 2"):
            prompt_wording(NAMES, [scores], labels, patients, "d")


class TestFindings:
    def test_an_over_call_on_the_look_alike_is_found(self) -> None:
        scores, labels, patients = studies(2000)
        mixed = scores.copy()
        mixed[:, 0] += 2.0 * labels[:, 1]  # atelectasis is taken for consolidation
        pair = [("consolidation", "atelectasis")]
        clean = look_alike(NAMES, scores, labels, patients, "d", pairs=pair)
        found = look_alike(NAMES, mixed, labels, patients, "d", pairs=pair)
        assert (clean.verdict, found.verdict) == ("passed", "failed")
        name = "consolidation called for atelectasis"
        assert found.get(f"apart.{name}").value < clean.get(f"apart.{name}").value
        assert found.get(f"overcall.{name}").value == pytest.approx(0.68, abs=0.1)
        with pytest.raises(ValueError, match="none of 1 pairs has 10 patients in each cell"):
            look_alike(NAMES, scores[:5], labels[:5], patients[:5], "d", pairs=pair)

    def test_a_compositional_split_holds_combinations_whose_parts_are_known(self) -> None:
        rng = np.random.default_rng(0)
        parts = [(str(rng.choice(["nodule", "mass"])), str(rng.choice(["left", "right"]))) for _ in range(200)]
        patients = [row // 2 for row in range(200)]
        split = compositional_split(parts, patients, share=0.25, seed=1)
        assert len(split.held) == 1
        assert {parts[row] for row in split.new.tolist()} == set(split.held)
        assert not {parts[row] for row in split.learn.tolist()} & set(split.held)
        assert {part for kind in split.held for part in kind} <= {p for row in split.learn.tolist() for p in parts[row]}
        by_patient = [{patients[row] for row in rows.tolist()} for rows in (split.learn, split.new, split.seen)]
        assert not by_patient[0] & by_patient[1]
        assert not by_patient[0] & by_patient[2]
        again = compositional_split(parts, patients, share=0.25, seed=1)
        assert again.learn.tolist() == split.learn.tolist()

    def test_combinations_without_shared_parts_cannot_be_held_out(self) -> None:
        with pytest.raises(ValueError, match="2 combinations share no parts"):
            compositional_split([("a", "x"), ("b", "y")], [0, 1])

    @pytest.mark.parametrize(("share", "verdict"), [(0.9, "passed"), (0.5, "failed")])
    def test_the_gap_to_new_combinations(self, share: float, verdict: str) -> None:
        right = np.concatenate([np.arange(400) % 10 < 9, np.arange(400) % 10 < 10 * share]).astype(float)
        found = compositional_gap(right, [False] * 400 + [True] * 400, range(800), "d")
        assert found.verdict == verdict
        assert found.get("gap").value == pytest.approx(0.9 - share)
        with pytest.raises(ValueError, match="0 of 2 rows are new combinations"):
            compositional_gap([1, 0], [False, False], ["a", "b"], "d")


Make = Callable[[np.ndarray, int], dict[str, np.ndarray]]


def contender(name: str, make: Make) -> tuple[Contender, Studies, Studies]:
    (_, held, people), (_, labels, others) = studies(seed=1), studies(seed=2)
    test = Studies(labels, [f"t{patient}" for patient in others])
    return Contender(name, make(held, 3), make(labels, 4)), Studies(held, people), test


def one_good_setting(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(seed).normal(size=labels.shape)
    return {"default": 0.5 * labels + noise, "tuned": 2 * labels + noise}


class TestHeadToHead:
    def test_a_gain_that_came_from_tuning_one_side_goes_away(self) -> None:
        first, held, test = contender("new", one_good_setting)
        second = contender("old", one_good_setting)[0]
        found = head_to_head(NAMES, first, second, held, test, "d")
        assert found.get("difference").value == 0
        assert found.verdict == "passed"
        plain = Contender("old", {"default": second.validation["default"]}, {"default": second.test["default"]})
        with pytest.raises(ValueError, match="new brings 2 settings and old 1, expected equally many"):
            head_to_head(NAMES, first, plain, held, test, "d")

    def test_the_setting_is_chosen_on_validation_even_where_the_test_likes_another(self) -> None:
        first, held, test = contender("a", one_good_setting)
        swapped = {"default": first.test["tuned"], "tuned": first.test["default"]}
        other = Contender("b", first.validation, swapped)
        found = head_to_head(NAMES, first, other, held, test, "d")
        assert "setting 'tuned' of 2" in found.get("b.auroc").variant
        assert found.get("difference").low > 0
        assert found.get("untuned").value == pytest.approx(-found.get("difference").value)
        assert head_to_head(NAMES, other, first, held, test, "d").verdict == "failed"

    def test_patients_on_both_splits_and_missing_settings_are_refused(self) -> None:
        first, held, test = contender("a", one_good_setting)
        other = contender("b", one_good_setting)[0]
        with pytest.raises(ValueError, match="300 patients are in validation and test"):
            head_to_head(NAMES, first, other, held, Studies(test.labels, held.patients), "d")
        lacking = Contender("b", other.validation, {"default": other.test["default"]})
        with pytest.raises(ValueError, match=r"b lacks scores of \['tuned'\] on one split"):
            head_to_head(NAMES, first, lacking, held, test, "d")
        with pytest.raises(ValueError, match="both contenders are called 'a'"):
            head_to_head(NAMES, first, first, held, test, "d")


def test_an_outcome_goes_to_json_with_n_interval_and_rule() -> None:
    found = paired_images([1.0, 2.0], [0.0, 0.0], ["a", "b"], "two pairs")
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["metrics"][0].keys() == {"name", "value", "low", "high", "n", "variant", "data"}
    assert told["rule"].startswith("passed when")
    assert "n=2" in found.text()
    with pytest.raises(KeyError, match="has no metric 'accuracy'; it has order, both_right, same_answer"):
        found.get("accuracy")
