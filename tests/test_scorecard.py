"""The score card: JSON that other programs read, and a page that stands alone and says what is simulated."""

from __future__ import annotations

import base64
import json
import math
import re

import numpy as np
import pytest

from evaluation.intervals import Interval
from evaluation.scorecard import FindingScores, Metric, Picture, ScoreCard, read_metrics

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def card(simulated: bool = True) -> ScoreCard:
    rng = np.random.default_rng(0)
    labels = (rng.random(60) < 0.4).astype(float)
    return ScoreCard(
        title="Demo <b>run</b>",
        data="phantom hospital, test split",
        simulated=simulated,
        metrics=(
            Metric("zero_shot.auroc.macro", 0.8, 0.7, 0.9, 60, "pair softmax", "test"),
            Metric("zero_shot.auroc.pleural effusion", 0.85, 0.75, 0.95, 60, "pair softmax", "test"),
            Metric("zero_shot.auroc.lung mass", math.nan, math.nan, math.nan, 60, "pair softmax", "test"),
            Metric("reliance.swapped.auroc", 0.51, 0.4, 0.6, 60, "images swapped", "test"),
            Metric("draft.finding_f1.micro", 0.6, 0.5, 0.7, 60, "uncertain = absent", "test"),
            Metric("draft.baseline.nearest.finding_f1.micro", 0.4, 0.3, 0.5, 60, "uncertain = absent", "test"),
        ),
        notes=("Thresholds were fitted on 20 validation studies.",),
        made_by={"model": "runs/demo"},
        scores=(
            FindingScores("pleural effusion", np.clip(rng.random(60) * 0.5 + labels * 0.4, 0, 1), labels),
            FindingScores("lung mass", rng.random(60), np.zeros(60)),
        ),
        pictures=(Picture(PNG, "effusion, left & small", "FINDINGS: A <small> effusion."),),
    )


def test_the_json_keeps_the_contract(tmp_path) -> None:
    path, _ = card().write(tmp_path / "card")
    read = json.loads(path.read_text(encoding="utf-8"))

    assert path.name == "card.json"
    assert all(list(row) == ["name", "value", "low", "high", "n", "variant", "data"] for row in read["metrics"])
    assert read["metrics"][0] == {
        "name": "zero_shot.auroc.macro", "value": 0.8, "low": 0.7, "high": 0.9, "n": 60,
        "variant": "pair softmax", "data": "test",
    }  # fmt: skip
    assert read["metrics"][2]["value"] is None  # nan is no JSON
    assert read["simulated"] is True
    assert read["notes"] == ["Thresholds were fitted on 20 validation studies."]


def test_metrics_are_read_back(tmp_path) -> None:
    path, _ = card().write(tmp_path)
    again = read_metrics(path)

    assert again[0] == card().metrics[0]
    assert math.isnan(again[2].value)
    (tmp_path / "other.json").write_text('{"metrics": [{"name": "x"}]}')
    with pytest.raises(ValueError, match=r"other\.json: not a score card: KeyError\('value'\)"):
        read_metrics(tmp_path / "other.json")


def test_the_page_needs_nothing_from_outside_and_escapes_text(tmp_path) -> None:
    _, path = card().write(tmp_path)
    html = path.read_text(encoding="utf-8")

    assert not re.findall(r"""(?:src|href)=["'](?!data:image/png;base64,)""", html)
    assert "http" not in html
    assert "<script" not in html
    assert "Demo &lt;b&gt;run&lt;/b&gt;" in html
    assert "A &lt;small&gt; effusion." in html
    assert html.count("data:image/png;base64,") == 4  # forest, reliability, ROC curves, one picture


def test_controls_stand_beside_the_number_they_question(tmp_path) -> None:
    _, path = card().write(tmp_path)
    html = path.read_text(encoding="utf-8")
    diagnosis, draft = (part.split("</article>")[0] for part in html.split('<article class="card">')[1:3])

    assert "0.800" in diagnosis
    assert 'aria-label="this model 0.80; swapped 0.51"' in diagnosis
    assert 'aria-label="this model 0.60; nearest 0.40"' in draft


def test_simulated_data_are_announced_and_real_data_are_not(tmp_path) -> None:
    _, simulated = card(simulated=True).write(tmp_path / "a")
    _, real = card(simulated=False).write(tmp_path / "b")

    assert "SIMULATED DATA" in simulated.read_text(encoding="utf-8")
    assert "SIMULATED" not in real.read_text(encoding="utf-8")
    assert "simulated</span>" not in real.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "b" / "card.json").read_text())["simulated"] is False


def test_findings_without_a_value_and_caveats_are_named(tmp_path) -> None:
    _, path = card().write(tmp_path)
    html = path.read_text(encoding="utf-8")

    assert "Without a value (one class only): lung mass." in html
    assert "Thresholds were fitted on 20 validation studies." in html
    assert "draft for review by a radiologist" in html


def test_an_empty_card_is_a_page_too(tmp_path) -> None:
    path, html = ScoreCard("Nothing", "no data", False, ()).write(tmp_path)

    assert json.loads(path.read_text())["metrics"] == []
    assert "No metric was computed." in html.read_text(encoding="utf-8")


def test_a_metric_takes_patients_and_undefined_resamples_into_its_variant() -> None:
    found = Metric.of("search.recall_at_5", Interval(0.4, 0.3, 0.5, 80, 40, 3), "grouped duplicates", "test")

    assert (found.value, found.low, found.high, found.n) == (0.4, 0.3, 0.5, 80)
    assert found.variant == "grouped duplicates; 95% bootstrap over 40 patients (3 resamples undefined)"


def test_two_numbers_under_one_name_are_refused() -> None:
    metric = Metric("zero_shot.ece", 0.1, 0.0, 0.2, 10, "15 bins", "test")
    with pytest.raises(ValueError, match=r"'zero_shot.ece' is there twice"):
        ScoreCard("t", "d", True, (metric, metric))


def test_a_picture_must_be_a_png() -> None:
    with pytest.raises(ValueError, match="expected the bytes of a PNG file"):
        Picture(b"\xff\xd8\xff", "overlay")
