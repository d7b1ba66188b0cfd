"""The comparison with the originals: its page, what it calls a difference, and text metrics on simulated reports."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
ORIGINALS = {
    "coco_rows": "pycocoevalcap",
    "sacrebleu_rows": "sacrebleu",
    "rouge_rows": "rouge_score",
    "nltk_rows": "nltk",
}


@pytest.fixture
def equality(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("equality")


@pytest.fixture
def text_section(equality: ModuleType) -> ModuleType:
    return importlib.import_module("equality_text")


def row(name: str = "F1, one case | scikit-learn 1.0", **fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**({"name": name, "n": 3, "ours": 0.5, "original": 0.5, "difference": 0.0} | fields))


def test_a_difference_is_marked_and_a_missing_original_is_said(equality: ModuleType) -> None:
    assert equality.shown(row()) == "| F1, one case | scikit-learn 1.0 | 3 | 0.500000 | 0.500000 | 0.0e+00 |"
    assert equality.shown(row(difference=2e-6)).endswith("2.0e-06 **differs** |")
    assert equality.shown(row(original=None, difference=None)).endswith("| 0.500000 | not installed | |")
    assert equality.differs(row(difference=math.nan))
    assert not equality.differs(row(difference=1e-6))


def test_the_page_keeps_sections_that_were_not_run(
    equality: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"one": [row()], "two": [row(difference=1.0)]}
    monkeypatch.setattr(equality, "names", lambda: list(made))
    monkeypatch.setattr(
        equality.importlib,
        "import_module",
        lambda name: SimpleNamespace(__doc__=f"Title of {name}.\n\nMore.", main=lambda: iter(made[name[9:]])),
    )
    page = tmp_path / "equality.md"
    assert equality.main(["--out", str(page)]) == 1
    made["one"] = [row(ours=0.25)]
    assert equality.main(["--one", "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Equality with the originals")
    assert text.count("## one") == text.count("## two") == 1
    assert "Title of equality_one." in text
    assert "| 0.250000 |" in text
    assert "**differs**" in text


@pytest.mark.parametrize("rows", ORIGINALS)
def test_text_metrics_equal_their_originals(rows: str, text_section: ModuleType) -> None:
    pytest.importorskip(ORIGINALS[rows], reason=f"{ORIGINALS[rows]} is not installed")
    found = list(getattr(text_section, rows)(text_section.two_references()))
    assert found
    assert [one.name for one in found if one.difference is None or not one.difference <= 1e-6] == []


def test_real_reports_are_all_paired(text_section: ModuleType, real_data: Path) -> None:
    pairs = text_section.real_pairs(real_data / "reports" / "openi_cxr_reports.csv")
    assert len(pairs.hypotheses) == len(pairs.references) == 2348
    assert sorted(pairs.hypotheses) == sorted(texts[0] for texts in pairs.references)
    assert pairs.hypotheses != [texts[0] for texts in pairs.references]


def test_the_speed_benchmark_compares_equal_work(text_section: ModuleType) -> None:
    pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed")
    speed = importlib.import_module("text_metrics")
    source, hypotheses, references = speed.texts_of(None, 30)
    assert source == "simulated reports"
    took, mine = speed.ours(hypotheses, references)
    other_took, theirs = speed.original(hypotheses, references)
    assert mine == pytest.approx(theirs, abs=1e-6)
    assert set(other_took) < set(took)
