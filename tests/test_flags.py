"""Flags and the checks behind them, at their edges."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluation.calibration import fit_platt
from evaluation.evidence import Evidence, examine
from evaluation.flag_laterality import MirrorScores, SideAnswers, mirror_flags, side_flags
from evaluation.flag_leaks import Sources, leak_flags
from evaluation.flag_reliance import reliance_flags
from evaluation.flag_shortcuts import shortcut_flags
from evaluation.flag_sizes import score_flags, size_flags
from evaluation.flag_subgroups import subgroup_gaps, too_small
from evaluation.flag_thresholds import calibration_flags, fitted_flags, is_among, misfit, refitted, threshold_flags
from evaluation.flags import Flag, worst_first
from evaluation.planted import clean
from evaluation.score_table import ScoreTable
from evaluation.threshold_luck import luck
from evaluation.thresholds import Threshold, choose_threshold

NOTE = Flag("a", "note", "found.", "why.", "do.", {"n": 3, "x": float("nan")})
WORDS = "the lungs are clear and the heart is of normal size without effusion or free air "


def table(n: int = 200, findings: int = 1, signal: float = 1.5, seed: int = 0) -> ScoreTable:
    """One study a patient."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, findings)) < 0.4).astype(float)
    scores = signal * labels + rng.normal(size=labels.shape)
    return ScoreTable.of([f"finding {k}" for k in range(findings)], scores, labels, list(range(n)))


class TestFlag:
    def test_goes_to_json_and_back(self) -> None:
        again = Flag.from_dict(json.loads(json.dumps(NOTE.to_dict(), allow_nan=False)))
        assert again.numbers["n"] == 3
        assert np.isnan(again.numbers["x"])
        assert replace(again, numbers={}) == replace(NOTE, numbers={})

    def test_says_what_why_and_what_to_do(self) -> None:
        with pytest.raises(ValueError, match="'a' has an empty 'do'"):
            replace(NOTE, do=" ")
        with pytest.raises(ValueError, match="severity 'grave', expected one of"):
            replace(NOTE, severity="grave")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="not a flag: KeyError"):
            Flag.from_dict({"name": "a"})

    def test_the_worst_comes_first_and_once(self) -> None:
        worst = replace(NOTE, name="z", severity="serious")
        assert [flag.name for flag in worst_first([NOTE, worst, NOTE])] == ["z", "a"]


class TestLeaks:
    def test_the_same_patient_with_the_same_image_and_text_is_told_once(self) -> None:
        text = WORDS * 2
        train = Sources(["p", "q"], ["1", "2"], [text, "short"])
        flags = leak_flags(train, Sources(["p", "r"], ["1", "9"], [text, "short"]))
        assert [flag.name for flag in flags] == ["leak.patient"]
        assert "1 of 2 test patients (1 of 2 test studies)" in flags[0].found
        assert "p" not in flags[0].found.split()

    def test_one_of_several_images_under_another_key_is_enough(self) -> None:
        flags = leak_flags(Sources(["p"], ["1 2"]), Sources(["q", "r"], ["7 2", ""]))
        assert [flag.name for flag in flags] == ["leak.image"]

    def test_an_image_under_two_keys_of_the_test_is_told(self) -> None:
        flags = leak_flags(Sources(["p"], ["1"]), Sources(["q", "r"], ["7", "7"]))
        assert [flag.name for flag in flags] == ["test.repeated"]

    def test_templates_are_no_leak_and_copies_are(self) -> None:
        rng = np.random.default_rng(0)
        own = [f"{WORDS} finding number {row}" for row in range(600)]
        texts = [WORDS * 2 if rng.random() < 0.5 else text for text in own]
        train = Sources([f"t{row}" for row in range(400)], reports=texts[:400])
        patients = [f"m{row}" for row in range(200)]
        assert leak_flags(train, Sources(patients, reports=texts[400:])) == []
        copied = [text for text in texts[:400] if text != WORDS * 2][:15]
        flags = leak_flags(train, Sources(patients, reports=[*copied, *texts[415:]]))
        assert [flag.name for flag in flags] == ["leak.report"]
        assert "15 of 200 test reports" in flags[0].found

    def test_unknown_keys_and_digests_are_not_shared(self) -> None:
        assert leak_flags(Sources(["", ""], ["", ""], ["", ""]), Sources(["", "q"], ["", ""], ["", ""])) == []

    def test_rows_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ValueError, match="there are 1 images for 2 studies"):
            Sources(["p", "q"], ["1"])


class TestThresholds:
    def test_a_record_of_the_test_split_is_enough(self) -> None:
        flags = threshold_flags(table(), {"finding 0": Threshold(0.5, "f1", 0.8, 10, 5, split="test")})
        assert [flag.name for flag in flags] == ["threshold.chosen_on_test"]
        assert "say that they were chosen on test" in flags[0].found

    def test_a_test_score_or_a_middle_is_recognised_unless_scores_are_rounded(self) -> None:
        scores = np.random.default_rng(0).normal(size=50)
        ranked = np.sort(scores)
        assert is_among(scores, float(ranked[7]))
        assert is_among(scores, float((ranked[7] + ranked[8]) / 2))
        assert not is_among(scores, float(ranked[7] + 1e-6))
        rounded = np.round(scores, 2)
        assert not is_among(rounded, float(rounded[0]))
        assert not is_among(np.append(scores, 0.5), 0.5)

    def test_luck_is_for_thresholds_that_are_the_best_here_and_only_for_them(self) -> None:
        t, other = table(n=400, findings=6), table(n=400, findings=6, seed=1)
        here, elsewhere = (
            {k: choose_threshold(part.scores[:, k], part.labels[:, k], "f1").value for k in range(6)}
            for part in (t, other)
        )
        names, p = luck(t, here)
        assert names == list(t.names)
        assert p < 1e-4
        assert luck(t, elsewhere)[1] > 0.05
        assert luck(t, {}) == ([], 1.0)

    def test_nan_is_refused(self) -> None:
        with pytest.raises(ValueError, match="a threshold is nan"):
            threshold_flags(table(), {"finding 0": float("nan")})

    def test_studies_on_both_sides_of_a_fit_are_counted(self) -> None:
        flags = fitted_flags(["a", "b", "c"], {"b", "x"}, "thresholds")
        assert [flag.name for flag in flags] == ["fitted.on_test"]
        assert "1 of 3 test studies are among the 2" in flags[0].found
        assert fitted_flags(["a"], {"b"}, "thresholds") == []


class TestCalibration:
    def test_the_misfit_of_the_truth_is_chi_square(self) -> None:
        rng = np.random.default_rng(0)
        found = []
        for _ in range(400):
            p = rng.beta(1, 3, 200)
            value, degrees = misfit(p, (rng.random(200) < p).astype(float))
            assert degrees == 2
            found.append(value)
        assert np.mean(found) == pytest.approx(2, abs=0.3)
        assert np.mean(np.array(found) > 5.99) == pytest.approx(0.05, abs=0.03)

    def test_the_share_of_each_class_as_probability_is_a_fit_to_it(self) -> None:
        t = table(findings=6)
        shares = np.broadcast_to(t.labels.mean(0), t.labels.shape)
        assert [flag.name for flag in calibration_flags(t, shares)] == ["calibration.fitted_on_test"]

    def test_a_calibration_that_a_fit_on_the_test_gives_again_is_recognised(self) -> None:
        t, other = table(findings=2), table(findings=2, seed=1)
        here, elsewhere = (fit_platt(part.scores, part.labels, t.names) for part in (t, other))
        assert refitted(t, here) == list(t.names)
        assert refitted(t, elsewhere) == []
        assert refitted(t, replace(here, method="isotonic")) == []
        flags = calibration_flags(t, here.apply(t.scores, t.names), here)
        assert [flag.name for flag in flags] == ["calibration.fitted_on_test"]
        assert "is what a fit on the labels of these 200 studies gives" in flags[0].found

    def test_logits_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"probabilities range from .* expected \[0, 1\]"):
            calibration_flags(table(), table().scores)


class TestSizesAndScores:
    def test_a_finding_without_both_classes_and_one_with_few_are_told_apart(self) -> None:
        t = table(findings=3)
        labels = t.labels.copy()
        labels[:, 0] = 0
        labels[3:, 1] = 0
        flags = size_flags(ScoreTable.of(t.names, t.scores, labels, t.patients.tolist()))
        assert [(flag.name, flag.severity) for flag in flags] == [
            ("labels.one_class", "serious"),
            ("labels.few", "warning"),
        ]
        assert "finding 0 (0 patients with it, 200 without)" in flags[0].found

    def test_constant_inverted_and_perfect_scores(self) -> None:
        t = table(findings=3)
        scores = np.stack([np.ones(200), -3 * t.labels[:, 1] + t.scores[:, 1], t.labels[:, 2]], 1)
        names = [flag.name for flag in score_flags(t.with_scores(scores, "scores"))]
        assert names == ["scores.constant", "scores.inverted", "scores.perfect"]

    def test_one_study_raises_what_one_study_must(self) -> None:
        found = examine(Evidence(["a"], [[0.3]], [[1.0]], ["p"]))
        assert [flag.name for flag in found.flags] == ["labels.one_class"]
        assert [c.name for c in found.checks if c.state != "not possible"] == ["sizes", "scores"]


class TestSubgroups:
    def test_groups_without_value_or_with_too_few_are_left_out(self) -> None:
        t = table()
        groups = {"site": ["A"] * 100 + ["B"] * 90 + [""] * 10, "view": ["PA"] * 195 + ["AP"] * 5}
        gaps = subgroup_gaps(t, groups)
        assert {(gap.attribute, gap.group) for gap in gaps} == {("site", "A"), ("site", "B")}
        assert {gap.inside.n + gap.rest.n for gap in gaps} == {190}
        assert too_small(t, groups) == ["view AP (n=5)"]

    def test_sensitivity_is_compared_at_the_given_thresholds(self) -> None:
        t = table(n=800)
        scores = t.scores.copy()
        here = np.arange(800) < 400
        scores[here] -= 1.5  # ranks as before within the group, and is called less often
        groups = {"scanner": np.where(here, "old", "new").tolist()}
        gaps = subgroup_gaps(t.with_scores(scores, "scores"), groups, {"finding 0": 0.75})
        low = [gap for gap in gaps if gap.p < 0.001]
        assert {(gap.group, gap.measure) for gap in low} == {("old", "sensitivity")}

    def test_rows_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ValueError, match="attribute 'site' has 2 values, expected 200"):
            subgroup_gaps(table(), {"site": ["A", "B"]})


class TestShortcuts:
    def test_a_marker_that_cannot_be_told_from_the_finding_is_named(self) -> None:
        t = table()
        marker = [bool(label) for label in t.labels[:, 0]]
        marker[0] = not marker[0]
        flags = shortcut_flags(t, {"tube": marker})
        assert [flag.name for flag in flags] == ["shortcut.inseparable"]
        assert "finding 0 and tube (AUROC of the marker" in flags[0].found

    def test_a_marker_that_goes_with_the_finding_but_is_not_used_is_no_flag(self) -> None:
        t = table(n=600)
        rng = np.random.default_rng(5)
        marker = [bool(rng.random() < (0.7 if label else 0.2)) for label in t.labels[:, 0]]
        assert shortcut_flags(t, {"tube": marker}) == []

    def test_a_labelled_device_is_no_marker_of_itself(self) -> None:
        t = table()
        assert shortcut_flags(t, {"finding 0": [bool(label) for label in t.labels[:, 0]]}) == []

    def test_unknown_markers_are_left_out_and_words_are_markers(self) -> None:
        t = table(n=900)
        rng = np.random.default_rng(6)
        scanner = rng.choice(["", "one", "two", "three"], 900)
        scores = t.scores + 2.0 * (scanner == "two")[:, None]
        flags = shortcut_flags(t.with_scores(scores, "scores"), {"scanner": scanner.tolist()})
        assert [flag.name for flag in flags] == ["shortcut.used"]
        assert "finding 0 follows scanner two" in flags[0].found

    def test_rows_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ValueError, match="marker 'tube' has 1 values, expected 200"):
            shortcut_flags(table(), {"tube": [True]})


class TestReliance:
    def test_a_control_as_good_as_the_model_is_serious_and_too_few_studies_a_warning(self) -> None:
        t = table(n=400)
        noise = np.random.default_rng(1).normal(scale=0.05, size=t.scores.shape)
        flags = reliance_flags(t, {"blank": t.scores + noise})
        assert [(flag.name, flag.severity) for flag in flags] == [("image.ignored", "serious")]
        few = table(n=45, signal=0.4)
        swapped = few.scores[np.random.default_rng(2).permutation(45)]
        flags = reliance_flags(few, {"swapped": swapped})
        assert [(flag.name, flag.severity) for flag in flags] == [("image.ignored", "warning")]
        assert "It is not shown that the model uses its image" in flags[0].found

    def test_a_control_that_knows_something_is_told(self) -> None:
        t = table(n=600, signal=2.5)
        text = 0.6 * t.labels + np.random.default_rng(1).normal(size=t.scores.shape)
        assert [flag.name for flag in reliance_flags(t, {"blank": text})] == ["control.knows"]


class TestSides:
    def test_sides_other_than_left_and_right_and_few_patients_say_nothing(self) -> None:
        assert side_flags(SideAnswers(["left"] * 9, ["right"] * 9, list(range(9)))) == []
        assert side_flags(SideAnswers(["bilateral"] * 50, ["right"] * 50, list(range(50)))) == []

    def test_a_guess_is_told_from_an_exchange(self) -> None:
        true = ["left", "right"] * 100
        guessed = ["left"] * 200
        assert [flag.name for flag in side_flags(SideAnswers(guessed, true, range(200)))] == ["laterality.guessed"]
        turned = ["right", "left"] * 100
        assert [flag.name for flag in side_flags(SideAnswers(turned, true, range(200)))] == ["laterality.flipped"]

    def test_mirror_scores_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ValueError, match="must be equally many"):
            mirror_flags(MirrorScores([1.0], [0.0], [1.0, 2.0], [0.0, 1.0], ["p"]))
        with pytest.raises(ValueError, match="nan or infinity"):
            mirror_flags(MirrorScores([np.nan], [0.0], [1.0], [0.0], ["p"]))


class TestExamination:
    def test_what_was_not_given_is_said_to_be_unchecked_with_the_reason(self) -> None:
        found = examine(replace(clean(0, 60), learned=None, groups={}, markers=None))
        left = {check.name: check.reason for check in found.checks if check.state == "not possible"}
        assert left == {
            "leaks": "the studies that the model learned from are not known",
            "subgroups": "no attribute of the patients is known",
            "shortcuts": "no marker is known",
        }

    def test_a_clear_check_says_which_groups_were_too_small_for_it(self) -> None:
        found = examine(replace(clean(0, 60), groups={"site": ["A"] * 3 + ["B"] * (len(clean(0, 60).patients) - 3)}))
        check = next(check for check in found.checks if check.name == "subgroups")
        assert (check.state, check.reason) == ("clear", "too few patients to tell for site A (n=3)")

    def test_it_goes_to_json(self) -> None:
        found = json.loads(json.dumps(examine(clean(0, 60)).to_dict(), allow_nan=False))
        assert {"name", "question", "state", "reason"} == set(found["checks"][0])

    def test_a_hundred_thousand_studies_take_seconds(self) -> None:
        t = table(n=100_000, findings=2)
        groups = {"sex": np.where(np.arange(100_000) % 2, "F", "M").tolist()}
        p = 1 / (1 + np.exp(-t.scores))
        found = examine(
            Evidence(t.names, t.scores, t.labels, t.patients.tolist(), p, {"finding 0": 0.4}, groups=groups)
        )
        assert {c.state for c in found.checks if c.name in ("thresholds", "calibration", "subgroups")} == {"clear"}
