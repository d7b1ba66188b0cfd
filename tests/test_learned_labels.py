from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from medvlm.cli import main
from reports.labels import label
from reports.learned_labels import LabelHead, cross_validated, fit_head, load_head, read_report

NAMES = ("Effusion", "Pneumonia")
# A hospital whose readers count every "may represent pneumonia" as pneumonia, which the rules call uncertain.
TEXTS = [
    ("Opacity at the base may represent pneumonia. No effusion.", (False, True)),
    ("Clear lungs. No effusion.", (False, False)),
    ("Small left pleural effusion.", (True, False)),
    ("Moderate right pleural effusion. Opacity may represent pneumonia.", (True, True)),
    ("No pneumonia. No pleural effusion.", (False, False)),
]


def corpus(repeats: int = 12) -> tuple[list[str], np.ndarray]:
    texts = [f"Film {number % 4}. {text}" for number in range(repeats) for text, _ in TEXTS]
    return texts, np.array([gold for _ in range(repeats) for _, gold in TEXTS])


def fitted() -> LabelHead:
    texts, gold = corpus()
    return fit_head([read_report(text, "nih14") for text in texts], gold, NAMES, "nih14")


def test_a_head_learns_a_habit_that_the_rules_do_not_have() -> None:
    head = fitted()
    text = "Density which may represent pneumonia."
    assert label(text, "nih14")["Pneumonia"] == -1
    assert head.label(text)["Pneumonia"] == 1
    assert head.label("Left pleural effusion.")["Effusion"] == 1
    assert head.label("No pleural effusion.")["Effusion"] == 0
    assert head.label("Atelectasis.")["Atelectasis"] == 1  # not learnt, so the rules' own


def test_what_only_the_rules_call_present_becomes_uncertain() -> None:
    head = fitted()
    never = LabelHead(
        head.scheme, head.names, head.features, head.own * 0, head.weights * 0, head.bias * 0 - 9, head.trained_on
    )
    assert never.label("Left pleural effusion.")["Effusion"] == -1
    assert never.label("No pleural effusion.")["Effusion"] == 0
    assert never.label("Clear lungs.")["Effusion"] is None


def test_a_head_survives_its_file_and_holds_no_rare_word(tmp_path: Path) -> None:
    texts, gold = corpus()
    texts[0] += " Discussed with Zebedee."
    head = fit_head([read_report(text, "nih14") for text in texts], gold, NAMES, "nih14")
    head.save(tmp_path / "head.safetensors")
    again = load_head(tmp_path / "head.safetensors")
    report = read_report("Opacity may represent pneumonia.", "nih14")
    assert np.array_equal(again.probabilities(report), head.probabilities(report))
    assert (again.scheme, again.names, again.trained_on) == ("nih14", NAMES, 60)
    assert b"zebedee" not in (tmp_path / "head.safetensors").read_bytes()


def test_fitting_twice_gives_the_same_weights() -> None:
    assert np.array_equal(fitted().weights, fitted().weights)


def test_a_label_that_no_report_has_is_left_to_the_rules() -> None:
    texts, gold = corpus()
    head = fit_head([read_report(text, "nih14") for text in texts], gold & [True, False], NAMES, "nih14")
    assert head.names == ("Effusion",)


def test_folds_are_the_same_each_time_and_need_enough_groups() -> None:
    texts, gold = corpus(4)
    reports = [read_report(text, "nih14") for text in texts]
    keys = [str(number) for number in range(len(texts))]
    alone = cross_validated(reports, gold, NAMES, "nih14", keys)
    assert alone.shape == gold.shape
    assert np.array_equal(alone, cross_validated(reports, gold, NAMES, "nih14", keys))
    with pytest.raises(ValueError, match="1 reports or patients are too few for 5 folds"):
        cross_validated(reports, gold, NAMES, "nih14", ["one"] * len(texts))


def test_folds_are_read_by_a_head_that_did_not_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from reports import learned_labels

    texts, gold = corpus(4)
    reports = [read_report(text + f" mark{at % 7}", "nih14") for at, text in enumerate(texts)]
    groups = [f"patient {at % 7}" for at in range(len(texts))]
    seen: list[set[str]] = []
    real = learned_labels.fit_head

    def spy(into: list[learned_labels.ReadReport], *rest: object) -> LabelHead:
        seen.append({groups[at] for at, report in enumerate(reports) if any(report is one for one in into)})
        return real(into, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(learned_labels, "fit_head", spy)
    cross_validated(reports, gold, NAMES, "nih14", groups, folds=3)
    left_out = [set(groups) - into for into in seen]
    assert set.union(*left_out) == set(groups)
    assert sum(map(len, left_out)) == len(set(groups))


def test_files_that_are_no_head_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(b"no safetensors at all")
    with pytest.raises(
        ValueError, match=r"head\.safetensors: no head of a labeller .*; make one with medvlm label-fit"
    ):
        load_head(path)
    save_file({"weights": np.zeros(1, np.float32)}, str(path))
    with pytest.raises(ValueError, match=r'format "None", expected "medvlm-label-head-1"'):
        load_head(path)
    about = '{"scheme": "nih14", "names": ["Mass"], "features": [], "trained_on": 1}'
    arrays = {name: np.zeros((2, 2), np.float32) for name in ("own", "weights", "bias")}
    save_file(arrays, str(path), metadata={"format": "medvlm-label-head-1", "about": about})
    with pytest.raises(ValueError, match=r"arrays of shapes .* expected \(\(1, 4\), \(1, 0\), \(1,\)\)"):
        load_head(path)


def labelled_csv(path: Path, repeats: int = 8) -> Path:
    texts, gold = corpus(repeats)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "text", "gold_Effusion", "gold_Pneumonia", "gold_Hernia"])
        for at, (text, row) in enumerate(zip(texts, gold, strict=True)):
            writer.writerow([f"P{at // 2}", text, int(row[0]), int(row[1]), 0])
    return path


def test_the_command_fits_and_shows_rules_and_head_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, head = labelled_csv(tmp_path / "in.csv"), tmp_path / "head.safetensors"
    call = ["label-fit", str(table), "--column", "text", "--scheme", "nih14", "--gold", "gold_"]
    assert main([*call, "--patient", "patient_id", "--out", str(head)]) == 0
    shown = capsys.readouterr().out
    assert "Hernia: no report has it, so nothing is learnt or compared" in shown
    assert "40 reports, 20 patients, 5 folds" in shown
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line}
    assert lines["Pneumonia"][1] == "0.000"  # the rules'
    assert float(lines["Pneumonia"][5]) > 0.9  # the head's
    out = tmp_path / "out.csv"
    again = ["label", str(table), "--column", "text", "--head", str(head), "--out", str(out)]
    assert main([*again, "--scheme", "nih14"]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        assert [row["Pneumonia"] for row in csv.DictReader(file)][:5] == ["1", "", "", "1", "0"]
    assert main([*again, "--scheme", "open"]) == 1
    assert "learned for scheme nih14, asked for open; add --scheme nih14" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--column": "report"}, "no column report; the file has: patient_id, text"),
        ({"--gold": "label_"}, r"no column label_ \+ a label of nih14"),
        ({"--patient": "mrn"}, "no column mrn"),
        ({"--out": "head.bin"}, r'expected the name of a head to end in \.safetensors, found "\.bin"'),
    ],
)
def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], message: str
) -> None:
    import re

    options = {"--column": "text", "--scheme": "nih14", "--gold": "gold_", "--patient": "patient_id"}
    options |= {"--out": str(tmp_path / "head.safetensors")} | changes
    call = [word for pair in options.items() for word in pair]
    assert main(["label-fit", str(labelled_csv(tmp_path / "in.csv", 1)), *call]) == 1
    assert re.search(message, capsys.readouterr().err)
