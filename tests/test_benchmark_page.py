"""The page of benchmarks: a run replaces its own section and leaves the others."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "page.py"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "PAGE", tmp_path / "benchmarks.md")
    return module


def test_a_run_replaces_its_own_section_and_leaves_the_others(page: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "apples.py").write_text("print('3 apples')")
    (tmp_path / "pears.py").write_text("import sys; print('| pears |'); print('|---|'); print(f'| {sys.argv[1]} |')")
    assert page.main(["apples.py", "pears.py 4"]) == 0
    assert page.main(["pears.py 5"]) == 0
    text = (tmp_path / "benchmarks.md").read_text()
    assert "```\n3 apples\n```" in text
    assert "`python pears.py 5` on Python" in text
    assert "\n| pears |\n|---|\n| 5 |\n" in text
    assert text.count("## pears") == 1
    assert "| 4 |" not in text


def test_what_follows_a_table_is_no_row_of_it(page: ModuleType) -> None:
    assert page.spaced(["2 cores", "| a |", "|---|", "| 1 |", "ours: 3", "theirs: 2"]) == (
        "2 cores\n\n| a |\n|---|\n| 1 |\n\nours: 3\n\ntheirs: 2"
    )


def test_a_missed_goal_is_kept_like_another_result(page: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "plums.py").write_text("import sys; print('| plums | missed |'); sys.exit(1)")
    assert page.main(["plums.py"]) == 0
    assert "| plums | missed |" in (tmp_path / "benchmarks.md").read_text()


def test_a_run_that_fails_changes_nothing(page: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "worms.py").write_text("import sys; print('half'); sys.exit(3)")
    assert page.main(["worms.py"]) == 1
    assert "`worms.py` ended with exit code 3; its section is unchanged" in capsys.readouterr().out
    assert not (tmp_path / "benchmarks.md").exists()
