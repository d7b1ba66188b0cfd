"""The command line: what becomes of words, and of errors."""

from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path
from typing import Any, Literal

import pytest

from medvlm import commands
from medvlm.cli import main
from medvlm.manual import manual
from medvlm.options import ExistingPath, _argument_helps, bind, build_parser, read_overrides
from volumes.volume import SeriesError

REPOSITORY = Path(__file__).resolve().parent.parent


def sample(
    study: ExistingPath,
    *overrides: str,
    names: list[str] | None = None,
    column: tuple[str, ...] = (),
    form: Literal["md", "json"] = "md",
    data__catalog: Path = Path("c"),
    resume: bool = True,
    json: bool = False,
) -> None:
    """Take one of everything.

    Args:
        study: A study.
        names: Names.
        column: Columns.
        form: A form, which goes
            on in the next line.
        data__catalog: A catalog.
        resume: Go on.
        json: As JSON, 100 %.
    """


def parse(*words: str) -> tuple[list[Any], dict[str, Any], list[str]]:
    parser = build_parser({"sample": sample}, "title", "0")
    known, unknown = parser.parse_known_args(["sample", *words])
    values = vars(known)
    values.pop("command_")
    overrides = read_overrides(unknown, sample, values.pop("parser_"))
    return *bind(sample, values), overrides


def test_an_option_that_is_not_given_is_left_to_the_function() -> None:
    assert parse(".") == ([Path(".")], {}, [])


def test_words_become_typed_values() -> None:
    words = [
        "--names",
        "pleural effusion, pneumothorax",
        "--column",
        "a b",
        "c,d",
        "--form",
        "json",
        "--no-resume",
        "--json",
    ]
    positional, named, overrides = parse(".", *words, "--data.catalog", "hospital.db")
    assert positional == [Path(".")]
    assert named["names"] == ["pleural effusion", "pneumothorax"]
    assert named["column"] == ["a b", "c,d"]
    assert (named["form"], named["resume"], named["json"]) == ("json", False, True)
    assert named["data__catalog"] == Path("hospital.db")
    assert overrides == []


def test_unknown_dotted_options_change_the_recipe() -> None:
    _, _, overrides = parse(".", "--trainer.max_steps", "20", "--model.bias=-1.5", "--seed", "-3")
    assert overrides == ["trainer.max_steps=20", "model.bias=-1.5", "seed=-3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([".", "--nmes", "a"], "unrecognized argument: --nmes; did you mean --names?"),
        ([".", "--trainer.max_steps"], "--trainer.max_steps needs a value"),
        ([".", "more"], "unrecognized argument: more; a change to the recipe looks like --trainer.max_steps 20"),
        (["nowhere"], "argument STUDY: no such file or folder: nowhere"),
        ([".", "--names", "a,,b"], "'a,,b' has an empty name"),
        ([".", "--form", "pdf"], "invalid choice: 'pdf'"),
    ],
)
def test_a_wrong_call_exits_with_2_and_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(*words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "See `medvlm sample --help`" in error


def test_no_command_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: medvlm" in capsys.readouterr().err


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_documents_each_of_its_arguments(name: str) -> None:
    command = commands.COMMANDS[name]
    documented = set(_argument_helps(command))
    parameters = {p.name for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_POSITIONAL}
    assert documented == parameters
    assert commands.NEEDS[name], "medvlm doctor does not know what it needs"


def test_every_command_calls_what_it_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("medvlm.train.train", lambda *arguments: calls.append(arguments))
    assert (
        main(["train", "--config", "r", "--data.catalog", str(tmp_path), "--out", "o", "--trainer.max_steps", "2"]) == 0
    )
    assert calls == [("r", tmp_path, Path("o"), ["trainer.max_steps=2"])]


def test_experts_without_a_word_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experts", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["experts", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert first["experts"]


class TestErrors:
    """One line on stderr, exit code 1, and the traceback only when asked for."""

    def refuse(self, monkeypatch: pytest.MonkeyPatch, error: Exception, *words: str) -> int:
        def doctor(*, json: bool = False) -> None:
            """Fail.

            Args:
                json: Not used.
            """
            raise error

        monkeypatch.setitem(commands.COMMANDS, "doctor", doctor)
        return main(["doctor", *words])

    def test_the_systems_refusal_is_one_line(self, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.refuse(monkeypatch, FileNotFoundError("a.dcm: not\nthere")) == 1
        assert capsys.readouterr().err == "medvlm doctor: a.dcm: not there\n"

    def test_a_surprise_says_where_and_whose_fault_it_is(
        self, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.refuse(monkeypatch, KeyError("voxels")) == 1
        error = capsys.readouterr().err
        assert "unexpected KeyError in test_cli.py:" in error
        assert "fault of medvlm" in error
        assert error.count("\n") == 1

    def test_debug_adds_the_traceback(self, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.refuse(monkeypatch, FileNotFoundError("gone"), "--debug") == 1
        assert "Traceback (most recent call last)" in capsys.readouterr().err

    def test_our_own_refusal_is_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "notes.txt").write_text("no image")
        assert main(["experts", "run", "no such expert", str(tmp_path)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("medvlm experts run: ")
        assert "no such expert" in error
        assert "unexpected" not in error
        assert error.count("\n") == 1

    def test_a_typed_refusal_is_expected_wherever_it_comes_from(
        self, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.refuse(monkeypatch, SeriesError("gaps of 2.00 to 4.00 mm", reason="missing-slice")) == 1
        assert capsys.readouterr().err == "medvlm doctor: gaps of 2.00 to 4.00 mm\n"

    def test_a_value_error_from_a_library_is_a_surprise(
        self, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.refuse(monkeypatch, ValueError("operands could not be broadcast")) == 1
        assert "unexpected ValueError in test_cli.py:" in capsys.readouterr().err


def test_the_page_of_commands_is_current() -> None:
    page = (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8")
    assert page == manual(), "docs/commands.md is out of date: run `make docs`"


def test_no_option_is_abbreviated() -> None:
    with pytest.raises(SystemExit):
        parse(".", "--nam", "a")
    assert isinstance(build_parser({"sample": sample}, "t", "0"), argparse.ArgumentParser)
