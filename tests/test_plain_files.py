"""`medvlm evaluate` on plain tables: right numbers for right tables, and errors that name and count what is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.classification import auroc
from evaluation.plain_card import score_files
from evaluation.plain_files import Columns, read_pair
from evaluation.predictions import read_predictions
from medvlm.cli import main

TRUE = (
    "FINDINGS: Small left pleural effusion. No pneumothorax.",
    "FINDINGS: The lungs are clear. No pleural effusion.",
    "FINDINGS: Right pneumothorax. Cardiomegaly.",
    "IMPRESSION: No acute cardiopulmonary abnormality.",
)
SAID = (
    "FINDINGS: Small right pleural effusion. No pneumothorax.",
    "FINDINGS: The lungs are clear. No pleural effusion.",
    "FINDINGS: No pneumothorax. Cardiomegaly.",
    "IMPRESSION: Cardiomegaly.",
)
TEXT = Columns(text=("report", "report"))


def write(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def texts(folder: Path, said: tuple[str, ...] = SAID) -> tuple[Path, Path]:
    true = write(folder / "true.csv", ["study", "report"], [[f"s{k}", text] for k, text in enumerate(TRUE)])
    mine = [[f"s{k}", text] for k, text in reversed(list(enumerate(said)))]  # another order
    return true, write(folder / "said.csv", ["study", "report"], mine)


def scores(folder: Path, n: int = 60) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    said = np.clip(labels * 0.4 + rng.random(n) * 0.6, 0, 1)
    rows = [[f"s{k}", f"p{k // 2}", "MF"[k % 2], labels[k] if k else -1] for k in range(n)]
    true = write(folder / "true.csv", ["study", "patient", "sex", "effusion"], rows)
    return true, write(folder / "said.csv", ["study", "effusion"], [[f"s{k}", said[k]] for k in range(n)])


def test_reports_are_measured_on_words_and_on_findings(tmp_path: Path) -> None:
    card = score_files(*texts(tmp_path), TEXT)
    found = {metric.name: metric for metric in card.metrics}
    # True: effusion; nothing; pneumothorax, cardiomegaly; nothing. Said: effusion; nothing; cardiomegaly; cardiomegaly.
    assert found["draft.finding_f1.micro"].value == pytest.approx(2 * 2 / (3 + 3))
    assert found["draft.hallucination_rate"].value == pytest.approx(1 / 3)
    assert found["draft.omission_rate"].value == pytest.approx(1 / 3)
    assert found["draft.laterality_error"].value == 1
    assert 0 < found["text.coco.bleu_4"].value < 1
    assert "our rule labeller" in found["draft.finding_f1.micro"].variant
    assert all(metric.n for metric in card.metrics if metric.value == metric.value)
    wrong = {case.study: case for case in card.cases}
    assert wrong["s2"].missed == ("pneumothorax",)
    assert wrong["s3"].invented == ("cardiomegaly",)
    assert wrong["s0"].wrong_side == ("pleural effusion",)
    assert ("No pneumothorax.", "pneumothorax") in wrong["s2"].drafted  # denied although it is there
    assert any("No patient is named" in note for note in card.notes)


def test_the_same_reports_are_perfect_and_unicode_is_text(tmp_path: Path) -> None:
    same = ("FINDINGS: Größe 5 mm. Épanchement 左 pleural effusion.", *TRUE[1:])
    true = write(tmp_path / "true.csv", ["study", "report"], [[f"s{k}", text] for k, text in enumerate(same)])
    found = {m.name: m for m in score_files(true, true, TEXT).metrics}
    assert found["text.coco.bleu_4"].value == pytest.approx(1, abs=1e-6)
    assert found["text.rouge_score.rouge_l"].value == pytest.approx(1)
    assert found["draft.finding_f1.micro"].value == 1
    assert found["draft.hallucination_rate"].value == 0


def test_one_study_and_empty_reports_have_a_defined_result(tmp_path: Path) -> None:
    true = write(tmp_path / "true.csv", ["study", "report"], [["s", "Left pleural effusion."]])
    said = write(tmp_path / "said.csv", ["study", "report"], [["s", ""]])
    found = {m.name: m for m in score_files(true, said, TEXT).metrics}
    assert found["draft.omission_rate"].value == 1
    assert np.isnan(found["draft.omission_rate"].low)  # one patient says nothing about the next
    assert np.isnan(found["draft.hallucination_rate"].value)  # nothing was drafted
    assert found["text.coco.bleu_1"].value == pytest.approx(0, abs=1e-6)


def test_scores_are_ranked_called_and_calibrated(tmp_path: Path) -> None:
    true, said = scores(tmp_path)
    columns = Columns(patient="patient", labels=("effusion",), groups=("sex",))
    card = score_files(true, said, columns)
    paired = read_pair(true, said, columns)
    assert np.isnan(paired.labels[0, 0])  # -1 is unknown unless said otherwise
    known = slice(1, None)
    value = card.get("classification.auroc.effusion")
    assert value is not None
    assert value.value == pytest.approx(auroc(paired.scores[known, 0], paired.labels[known, 0]))
    assert "30 patients" in value.variant
    names = {metric.name for metric in card.metrics}
    assert {"classification.ece", "classification.sensitivity.effusion", "subgroup.sex.F.gap"} <= names
    assert card.population is not None
    assert card.population.patients == 30
    assert {check.name for check in card.checks} >= {"sizes", "scores", "subgroups"}
    positive = read_pair(true, said, Columns(labels=("effusion",), uncertain="positive"))
    assert positive.labels[0, 0] == 1


def test_scores_that_are_no_probabilities_are_only_ranked(tmp_path: Path) -> None:
    true, said = scores(tmp_path)
    write(said, ["study", "effusion"], [[f"s{k}", k * 0.7 - 9] for k in range(60)])
    names = {metric.name for metric in score_files(true, said, Columns(labels=("effusion",))).metrics}
    assert "classification.auroc.effusion" in names
    assert not any("ece" in name or "sensitivity" in name for name in names)


def test_ids_of_one_side_are_named_and_counted_or_left_out_on_demand(tmp_path: Path) -> None:
    true, said = texts(tmp_path)
    write(said, ["study", "report"], [["s0", SAID[0]], ["s1", SAID[1]], ["s9", "Clear."]])
    with pytest.raises(
        ValueError, match=r"2 of 4 studies of true\.csv are not in said\.csv, such as s2, s3; 1 of 3 st"
    ):
        score_files(true, said, TEXT)
    card = score_files(true, said, TEXT, shared=True)
    assert card.population is not None
    assert card.population.studies == 2
    assert "Left out: 2 studies without a prediction and 1 predictions without a reference." in card.notes
    write(said, ["study", "report"], [["x", "Clear."]])
    with pytest.raises(ValueError, match="no study is in both: check the column of IDs"):
        score_files(true, said, TEXT, shared=True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [["s0", "0.1"], ["s0", "0.2"], ["s1", "1"]],
            r"said\.csv: 1 study stand more than once, such as s0; expected one",
        ),
        ([["s0", "0.1"], ["", "0.2"]], r"said\.csv: row 2 has no study; expected an ID in every row"),
        ([["s0", "nan"], ["s1", ""]], r"2 of 2 scores are no finite number, the first of study s0, column effusion"),
        ([["s0", "inf"], ["s1", "1"]], r"1 of 2 scores are no finite number"),
        ([["s0", "high"], ["s1", "1"]], r"study s0, column effusion: 'high', expected a number"),
        ([], r"said\.csv: 0 rows, expected at least one study"),
    ],
)
def test_strange_predictions_are_refused_by_name(tmp_path: Path, rows: list[list[object]], message: str) -> None:
    true = write(tmp_path / "true.csv", ["study", "effusion"], [["s0", 1], ["s1", 0]])
    said = write(tmp_path / "said.csv", ["study", "effusion"], rows)
    with pytest.raises(ValueError, match=message):
        read_pair(true, said, Columns(labels=("effusion",)))


def test_strange_references_and_calls_are_refused_by_name(tmp_path: Path) -> None:
    true = write(
        tmp_path / "true.csv", ["study", "effusion", "empty", "patient"], [["s0", 2, "", ""], ["s1", 0, "", ""]]
    )
    said = write(tmp_path / "said.csv", ["study", "effusion", "empty"], [["s0", 1, 1], ["s1", 0, 1]])
    with pytest.raises(ValueError, match=r"study s0, column effusion: '2', expected 1, 0, -1 \(uncertain\) or nothing"):
        read_pair(true, said, Columns(labels=("effusion",)))
    with pytest.raises(ValueError, match="column empty has no label in any of 2 studies"):
        read_pair(true, said, Columns(labels=("empty",)))
    with pytest.raises(ValueError, match=r"no column age; the file has: study, effusion, empty, patient"):
        read_pair(true, said, Columns(labels=("empty",), groups=("age",)))
    with pytest.raises(ValueError, match="nothing to measure: name a column of reports"):
        read_pair(true, said, Columns())
    write(true, ["study", "effusion", "patient"], [["s0", 1, ""], ["s1", 0, "p"]])
    with pytest.raises(ValueError, match="study s0 has no patient; expected a patient for every study"):
        read_pair(true, said, Columns(labels=("effusion",), patient="patient"))


def test_one_class_has_no_auroc_and_says_so(tmp_path: Path) -> None:
    rows = [[f"s{k}", 1] for k in range(12)]
    true = write(tmp_path / "true.csv", ["study", "effusion"], rows)
    said = write(tmp_path / "said.csv", ["study", "effusion"], [[f"s{k}", k / 12] for k in range(12)])
    card = score_files(true, said, Columns(labels=("effusion",)))
    value = card.get("classification.auroc.effusion")
    assert value is not None
    assert np.isnan(value.value)
    assert any(flag.name.startswith("test.") or "one" in flag.found or "class" in flag.found for flag in card.flags)


def test_the_command_writes_a_card_and_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true, said = texts(tmp_path)
    words = ["evaluate", "--references", str(true), "--predictions", str(said), "--text", "report"]
    assert main([*words, "--out", str(tmp_path / "card")]) == 0
    assert "draft.finding_f1.micro" in capsys.readouterr().out
    held = json.loads((tmp_path / "card" / "card.json").read_text())
    assert held["made_by"]["references"] == "true.csv"
    assert len(held["made_by"]["data_digest"]) == 16
    rows = read_predictions(tmp_path / "card")
    assert [row.study for row in rows] == ["s0", "s1", "s2", "s3"]
    assert rows[0].drafted == {"pleural effusion": ["right"]}
    assert rows[0].reference == {"pleural effusion": ["left"]}
    assert "text.rouge_score.rouge_l" in rows[0].values
    page = (tmp_path / "card" / "card.html").read_text()
    assert 'class="bad"' in page
    assert "http" not in page

    assert main([*words, "--no-pictures", "--out", str(tmp_path / "bare")]) == 0
    assert "Small left pleural effusion" not in (tmp_path / "bare" / "card.html").read_text()
    assert main(["evaluate", "--references", str(true), "--out", str(tmp_path / "x")]) == 1
    assert "expected --model and --catalog, or --references and --predictions" in capsys.readouterr().err
