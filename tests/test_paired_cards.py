"""Two models on the same studies: differences with their sign, refusals where the studies differ, files read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.classification import auroc
from evaluation.comparison_page import side_by_side
from evaluation.flags import Flag
from evaluation.paired_cards import Difference, compare, pair
from evaluation.predictions import StudyPrediction, data_digest, numbered, read_predictions, write_predictions
from evaluation.scorecard import Metric, ScoreCard
from medvlm.cli import main


def rows(signal: float, n: int = 160, seed: int = 0, invents: bool = False) -> list[StudyPrediction]:
    """Studies of two for each patient; a model with that much signal; the truth and the noise are always the same."""
    rng = np.random.default_rng(7)
    truth = (rng.random(n) < 0.5).astype(float)
    noise = np.random.default_rng(seed).normal(size=n)
    p = 1 / (1 + np.exp(-(signal * (truth - 0.5) + noise)))
    return [
        StudyPrediction(
            study=f"2.25.{k}",
            patient=k // 2,
            labels={"effusion": truth[k], "nodule": float("nan")},
            scores={"effusion": float(p[k]), "nodule": 0.0},
            probabilities={"effusion": float(p[k])},
            called={"effusion": bool(p[k] >= 0.5)},
            reference={"effusion": ["left"]} if truth[k] else {},
            drafted={"effusion": ["left"]} | ({"mass": []} if invents else {}) if p[k] >= 0.5 else {},
            draft="Left effusion." if p[k] >= 0.5 else "Clear.",
            values={"text.rouge_score.rouge_l": float(p[k])},
            groups={"sex": "male"},
        )
        for k in range(n)
    ]


def test_the_better_model_is_found_and_the_difference_is_that_of_the_metric() -> None:
    a, b = rows(4.0), rows(0.5, invents=True)
    found = compare(a, b, resamples=4000)
    by_name = {row.name: row for row in found.rows}
    labels = np.array([row.labels["effusion"] for row in a])
    values = [auroc([row.scores["effusion"] for row in side], labels) for side in (a, b)]
    assert (by_name["auroc.macro"].a, by_name["auroc.macro"].b) == (pytest.approx(values[0]), pytest.approx(values[1]))
    assert by_name["auroc.effusion"].difference == pytest.approx(values[0] - values[1])
    assert "auroc.nodule" not in by_name  # nobody knows
    for name in ("auroc.macro", "auroc.effusion", "brier", "error_rate", "draft.hallucination_rate"):
        assert by_name[name].better == "a", name
        assert by_name[name].adjusted >= by_name[name].p
    assert by_name["draft.hallucination_rate"].lower_is_better
    assert (found.studies, found.patients) == (160, 80)
    assert {row.better for row in compare(b, a, resamples=4000).rows} == {"b", ""}


def test_a_model_against_itself_shows_no_difference() -> None:
    for row in compare(rows(2.0), rows(2.0), resamples=200).rows:
        assert row.difference == 0
        assert row.better == ""


def test_equal_models_are_seldom_told_apart() -> None:
    told = sum(
        any(row.better for row in compare(rows(1.5, seed=s), rows(1.5, seed=s + 50), resamples=400).rows)
        for s in range(15)
    )
    assert told <= 3  # 5 % of 15 is less than 1; 4 or more has a chance below 1 in 150


def test_other_studies_truths_and_patients_are_refused() -> None:
    a = rows(2.0)
    with pytest.raises(
        ValueError, match=r"A has 160 studies and B has 150: 10 only in A, such as 2\.25\.150, 2\.25\.151"
    ):
        compare(a, rows(2.0)[:150])
    with pytest.raises(
        ValueError, match=r"A has 160 studies and B has 160: 1 only in A, such as 2\.25\.0; 1 only in B"
    ):
        compare(a, [replace(a[0], study="2.25.999"), *a[1:]])
    with pytest.raises(
        ValueError, match=r"labels or references of 1 of 160 studies differ between A and B, such as 2\.25\.0"
    ):
        compare(a, [replace(a[0], labels={"effusion": 1 - a[0].labels["effusion"]}), *a[1:]])
    with pytest.raises(ValueError, match="put the studies together into patients differently"):
        compare(a, [replace(a[0], patient=77), *a[1:]])
    with pytest.raises(ValueError, match="share no score, call, draft or value"):
        compare([StudyPrediction("s", 0)], [StudyPrediction("s", 0)])


def test_order_and_numbering_do_not_matter() -> None:
    a = rows(2.0)
    shuffled = [replace(row, patient=row.patient + 1000) for row in reversed(a)]
    first, second = pair(a, shuffled)
    assert [row.study for row in first] == [row.study for row in second]
    assert data_digest(a) == data_digest(shuffled)
    assert data_digest(a) != data_digest(a[1:])
    assert numbered(["x", "y", "x"]) == [0, 1, 0]


def test_less_is_better_for_errors_only() -> None:
    row = Difference("draft.omission_rate", 0.1, 0.3, -0.2, -0.3, -0.1, 50, 0.001, 0.01, "")
    assert row.better == "a"
    assert replace(row, name="draft.finding_f1.micro").better == "b"
    assert replace(row, adjusted=0.2).better == ""
    assert replace(row, adjusted=float("nan")).better == ""


def test_predictions_are_read_back_and_damaged_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, rows(2.0, 4))
    again = read_predictions(tmp_path)
    assert again[1].scores == rows(2.0, 4)[1].scores
    assert np.isnan(again[0].labels["nodule"])
    text = path.read_text()
    assert "NaN" not in text  # JSON has none
    path.write_text(text + text.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"study 2\.25\.0 is in lines 1 and 5; expected once"):
        read_predictions(path)
    path.write_text(text + "{}\n")
    with pytest.raises(ValueError, match=r"line 5 is no row of predictions: KeyError\('study'\)"):
        read_predictions(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="0 studies, expected at least one line"):
        read_predictions(path)
    with pytest.raises(ValueError, match=r"not there; expected the predictions\.jsonl that `medvlm evaluate` writes"):
        read_predictions(tmp_path / "absent")


def test_the_command_writes_a_page_that_stands_alone_and_carries_the_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = Flag("leak.patient", "serious", "3 of 80 patients were learned from (n=80).", "It is known.", "Split again.")
    for name, signal in (("old", 0.5), ("new", 4.0)):
        metric = Metric("zero_shot.auroc.macro", 0.8, 0.7, 0.9, 160, "pairs", "test")
        flags = (flag,) if name == "old" else ()
        card = ScoreCard(name, "test", True, (metric,), made_by={"model": name}, flags=flags,
                         predictions=tuple(rows(signal)))  # fmt: skip
        card.write(tmp_path / name)
    words = ["compare", str(tmp_path / "old"), str(tmp_path / "new")]
    assert main([*words, "--out", str(tmp_path / "both")]) == 0
    said = capsys.readouterr().out
    assert "160 studies of 80 patients; A old, B new" in said
    assert "B better" in said
    page = (tmp_path / "both" / "comparison.html").read_text()
    assert "SIMULATED DATA" in page
    assert "A: 3 of 80 patients were learned from" in page
    assert "http" not in page
    assert "<script" not in page
    held = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert held["a"]["made_by"]["model"] == "old"
    assert len(held["data_digest"]) == 16
    assert all(row["n"] for row in held["rows"])
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["patients"] == 80


def test_equal_folder_names_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "card").mkdir(parents=True)
        write_predictions(tmp_path / name / "card" / "predictions.jsonl", rows(1.0, 20))
    both = side_by_side(tmp_path / "a" / "card", tmp_path / "b" / "card")
    assert (both.a.name, both.b.name) == ("a/card", "b/card")
    (tmp_path / "a" / "card" / "card.json").write_text("[]")
    with pytest.raises(ValueError, match=r"card\.json: not a score card"):
        side_by_side(tmp_path / "a" / "card", tmp_path / "b" / "card")
