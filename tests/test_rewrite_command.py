"""`medvlm rewrite` over tables, and reports rewritten for training."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from medvlm.cli import main
from medvlm.data import load_examples
from medvlm.rewrite import training_text
from medvlm.train import set_value
from reports.prior_free import mentions_prior
from volumes.catalog import Catalog
from volumes.transforms import FilmContract

ROWS = (
    ("1", "Unchanged small left pleural effusion. No pneumothorax."),
    ("2", "No interval change."),
    ("3", "=cmd|' /C calc'!A0"),
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    with (tmp_path / "reports.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *ROWS])
    return tmp_path / "reports.csv"


def test_a_table_is_rewritten_and_refusals_say_why(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.with_name("out.csv")
    assert main(["rewrite", str(table), "--column", "text", "--how", "prior-free", "--out", str(out)]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == ["0", "1", "2"]
    assert lines[0]["text"] == "Small left pleural effusion. No pneumothorax."
    assert "unchanged -> present mild left pleural effusion" in lines[0]["changed"]
    assert (lines[1]["text"], lines[1]["reason"]) == ("", "no sentence that states a fact would remain")
    assert not any(cell.startswith(("=", "+", "@")) for line in lines for cell in line.values())
    printed = capsys.readouterr().out
    assert "2 rewritten, 1 refused" in printed
    assert "1 refused  empty" in printed


def test_negatives_of_a_table_are_one_line_per_kind(table: Path) -> None:
    out = table.with_name("out.jsonl")
    assert main(["rewrite", str(table), "--column", "text", "--how", "negatives", "--out", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    first = {line["kind"]: line for line in lines if line["row"] == 0}
    assert len(first) == 7
    assert first["laterality"]["text"] == "Unchanged small right pleural effusion. No pneumothorax."
    assert first["laterality"]["changed"].startswith("present mild left pleural effusion")
    assert first["location"]["reason"] == "no fact of the text has what a change of location needs"
    again = out.read_bytes()
    main(["rewrite", str(table), "--column", "text", "--how", "negatives", "--out", str(out)])
    assert out.read_bytes() == again


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--column", "body", "--how", "cleaned", "--out", "x.csv"], "no column body; the file has: id, text"),
        (["--column", "text", "--how", "cleaned", "--out", "x.docx"], "expected the name to end in .csv or .jsonl"),
    ],
)
def test_wrong_calls_say_what_was_expected(
    table: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(table.with_name(word)) if word.startswith("x.") else word for word in words]
    assert main(["rewrite", str(table), *words]) == 1
    assert message in capsys.readouterr().err
    assert not list(table.parent.glob("*.part"))


def test_training_text_is_as_written_unless_asked() -> None:
    text = "Stable cardiomegaly. No interval change."
    assert training_text(text, None) == text
    assert training_text(text, "prior-free") == "Cardiomegaly."
    assert training_text("No interval change.", "prior-free") is None
    with pytest.raises(ValueError, match=r'data\.rewrite is "shorter"; expected one of prior-free, cleaned, or null'):
        training_text(text, "shorter")


def test_examples_can_be_read_without_comparisons(tiny_hospital: Any) -> None:
    with Catalog.open(tiny_hospital.catalog) as catalog:
        plain = load_examples(catalog, FilmContract(size=32), None)
        free = {e.study_uid: e for e in load_examples(catalog, FilmContract(size=32), None, rewrite="prior-free")}
    assert any(fact.change for example in plain for fact in example.facts)
    assert len(free) > 0.9 * len(plain)
    for example in free.values():
        assert not any(mentions_prior(statement.text) for statement in example.said)
        assert not any(fact.change for fact in example.facts)


def test_the_option_may_be_set_on_any_recipe() -> None:
    recipe = {"data": {"batch_size": 2}}
    set_value(recipe, "data.rewrite", "prior-free")
    assert recipe["data"] == {"batch_size": 2, "rewrite": "prior-free"}
