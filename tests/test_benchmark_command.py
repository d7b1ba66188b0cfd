"""`medvlm benchmark`: what it prints, its exit codes, and the table that it writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tiny_benchmarks import FILMS, put, text_of
from tiny_benchmarks_texts import TEXTS

from evaluation.benchmark import cards, open_benchmark
from evaluation.benchmark_export import write_references
from evaluation.benchmark_item import BenchmarkError
from medvlm.cli import main


def test_the_list_names_all_with_files_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark"]) == 0
    printed = capsys.readouterr().out
    for card in cards():
        assert f"{card.name}: {card.title}" in printed
        assert card.licence in printed
    assert main(["benchmark", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [card.name for card in cards()]


def test_check_lock_and_refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FILMS["nih"].write(tmp_path)
    assert main(["benchmark", "check", "nih", str(tmp_path)]) == 1
    assert "test has 1 items, expected 25,596" in capsys.readouterr().err
    assert main(["benchmark", "lock", str(tmp_path), "--part"]) == 0
    assert "locks nih" in capsys.readouterr().out
    assert main(["benchmark", "check", "nih", str(tmp_path), "--part", "--split", "test"]) == 0
    printed = capsys.readouterr().out
    assert "split test: 1 items, 1 patients" in printed
    assert "agrees: test: 1 items with the locked checksum" in printed
    assert "note: a part of the benchmark" in printed
    for name in ("Data_Entry_2017.csv", "test_list.txt", "BBox_List_2017.csv"):
        put(tmp_path / name, text_of(tmp_path / name).replace("00000002_000", "00000003_000"))
    assert main(["benchmark", "check", "nih", str(tmp_path), "--part", "--no-images"]) == 1
    assert "the split 'test' is not the one that benchmark.lock.json locks" in capsys.readouterr().err


def test_what_is_printed_names_no_patient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FILMS["chexpert"].write(tmp_path)
    assert main(["benchmark", "check", "chexpert", str(tmp_path), "--part"]) == 0
    assert main(["benchmark", "check", "chexpert", str(tmp_path), "--part", "--json"]) == 0
    assert main(["benchmark", "lock", str(tmp_path), "--part", "--json"]) == 0
    assert "patient0" not in capsys.readouterr().out
    assert "patient0" not in (tmp_path / "benchmark.lock.json").read_text(encoding="utf-8")


def test_an_unknown_name_is_one_line_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "check", "imagenet", str(tmp_path)]) == 1
    assert "no benchmark 'imagenet'; known: chestx-det" in capsys.readouterr().err


def test_the_exported_table_keeps_the_four_values_of_a_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FILMS["chexpert"].write(tmp_path / "data")
    out = tmp_path / "references.csv"
    command = [
        "benchmark",
        "export",
        "chexpert",
        str(tmp_path / "data"),
        "--split",
        "valid",
        "--out",
        str(out),
        "--part",
    ]
    assert main(command) == 0
    assert "2 rows with study, patient, split, image, Atelectasis" in capsys.readouterr().out
    with out.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["patient"] == second["patient"] == "0"  # one person, two films
    values = [first[name] for name in ("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "No Finding")]
    assert values == ["1", "0", "-1", ""]


def test_questions_and_their_options_are_exported_as_lines(tmp_path: Path) -> None:
    TEXTS["pmc-vqa"].write(tmp_path)
    benchmark = open_benchmark("pmc-vqa", tmp_path, "test", complete=False)
    assert write_references(benchmark, tmp_path / "out.jsonl")[4:] == ["question", "answer", "options"]
    (row,) = map(json.loads, (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert row["answer"] == "B"
    assert json.loads(row["options"])["B"] == "Liver"
    with pytest.raises(BenchmarkError, match=r"cannot write '.xlsx'; expected the name to end in .csv or .jsonl"):
        write_references(benchmark, tmp_path / "out.xlsx")


def test_unlisted_findings_can_be_called_absent(tmp_path: Path) -> None:
    FILMS["padchest"].write(tmp_path)
    benchmark = open_benchmark("padchest", tmp_path, complete=False)
    write_references(benchmark, tmp_path / "out.jsonl", unlisted=0)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["scoliosis"] for row in rows] == [0, 1]
    assert [row["report"] for row in rows] == ["sin hallazgos", "derrame"]
