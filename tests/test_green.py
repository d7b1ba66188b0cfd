"""GREEN: what a judge's text says, and the score of it."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from evaluation.green import ERRORS, GreenJudge, green_score, read_judgement
from evaluation.originals import OriginalMissingError

ANSWER = """[Explanation]:
The candidate invents an effusion and misses two things.

[Clinically Significant Errors]:
(a) Invented: 1. effusion
(b) Missed: 2. nodule; line in 3 places
(c) Wrong place: none

[Clinically Insignificant Errors]:
(d) Severity: 4. all of it

[Matched Findings]:
3. heart; lungs; bones
"""


def test_counts_and_score_by_hand() -> None:
    found = read_judgement(ANSWER)

    assert found.significant == (1, 2, 0, 0, 0, 0)
    assert found.insignificant == (0, 0, 0, 4, 0, 0)
    assert found.matched == 3
    assert found.score() == pytest.approx(3 / (3 + 3))


@pytest.mark.parametrize(
    ("text", "significant", "matched"),
    [
        ("[Clinically Significant Errors]:\nNo errors (a) x: 3.\n\n[Matched Findings]:\n2. a; b", (0,) * 6, 2),
        (
            "[Clinically Significant Errors]:\n(1) x: 2. y\n(6) z: 1. w\n\n[Matched Findings]:\nNone",
            (2, 0, 0, 0, 0, 1),
            0,
        ),
        # a letter anywhere, and numbered lines are not read
        ("[Clinically Significant Errors]:\n(b) x: 1. (2) y: 5.\n\n[Matched Findings]:\n12. a", (0, 1, 0, 0, 0, 0), 12),
        # the first count of a line; two lines of a kind: the later in the alphabet
        (
            "[Clinically Significant Errors]:\n(a) x: 4. y: 9.\n(a) b: 7. z\n\n[Matched Findings]:\n1.",
            (4, 0, 0, 0, 0, 0),
            1,
        ),
        ("[Clinically Significant Errors]:\n(a) of 2. and: 3. x\n\n[Matched Findings]:\n1.", (3, 0, 0, 0, 0, 0), 1),
        # a count without its point is none; matches must stand first
        ("[Clinically Significant Errors]:\n(a) x: 4 of them\n\n[Matched Findings]:\nAbout 3. a", (0,) * 6, 0),
    ],
)
def test_odd_answers_are_read_as_the_original_reads_them(text: str, significant: tuple[int, ...], matched: int) -> None:
    found = read_judgement(text)

    assert found.significant == significant
    assert found.matched == matched


def test_parts_that_are_missing_are_zero_or_no_score() -> None:
    only_matched, only_errors, nothing = (
        read_judgement(text)
        for text in ("[Matched Findings]:\n2. a; b", "[Clinically Significant Errors]:\n(a) x: 1. y", "I cannot tell.")
    )

    assert (only_matched.significant, only_errors.matched) == (None, None)
    assert only_matched.score() == 1.0  # nobody said that there are errors
    assert math.isnan(only_matched.score("nan"))
    assert only_errors.score() == 0.0
    assert math.isnan(only_errors.score("nan"))
    assert nothing.score() == 0.0
    assert math.isnan(nothing.score("nan"))
    assert read_judgement("[Matched Findings]:\nNo matches").score("nan") == 0.0
    with pytest.raises(ValueError, match='missing is "none", expected "0" or "nan"'):
        nothing.score("none")  # type: ignore[arg-type]


def test_the_prompt_s_own_headings_are_not_the_answer() -> None:
    prompt = "<|user|>[Matched Findings]:\n<The number>. <Finding 1>\n\n<|assistant|>"

    assert read_judgement(prompt + ANSWER).matched == 3


def test_the_mean_its_n_and_its_name() -> None:
    found = green_score([ANSWER, "I cannot tell."], "a local judge")
    strict = green_score([ANSWER, "I cannot tell."], "a local judge", missing="nan")

    assert found.value == pytest.approx(0.25)
    assert (found.n, found.incomplete) == (2, 1)
    assert strict.value == pytest.approx(0.5)
    assert strict.n == 1
    assert found.errors == pytest.approx(dict(zip(ERRORS, (1, 2, 0, 0, 0, 0), strict=True)))
    assert found.name == "GREEN arithmetic on answers by a local judge"
    assert math.isnan(green_score([], "a local judge").value)
    assert math.isnan(green_score([], "a local judge").errors[ERRORS[0]])


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A package of the interface of green_score, which writes the reports into its output folder."""

    class GREEN:
        def __init__(self, model_name: str, output_dir: str = ".") -> None:
            assert Path(output_dir) != Path(".")
            self.folder = Path(output_dir)

        def __call__(self, refs: list[str], hyps: list[str]) -> tuple[object, ...]:
            (self.folder / "results.csv").write_text("reports")
            answers = [ANSWER if ref == hyp else "[Matched Findings]:\n0." for ref, hyp in zip(refs, hyps, strict=True)]
            return 0.0, 0.0, [], "", {"green_analysis": answers}

    module = ModuleType("green_score")
    module.GREEN = GREEN  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "green_score", module)
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_original_judge_has_its_name_and_leaves_no_reports_behind(weights: Path) -> None:
    judge = GreenJudge(weights)

    answers = judge.answers(["a", "b"], ["a", "c"])

    found = green_score(answers, judge.original)
    assert found.name.startswith("GREEN (green_score ")
    assert found.per_report == [0.5, 0.0]
    assert [path.name for path in weights.iterdir()] == ["config.json"]
    with pytest.raises(ValueError, match="there are 1 drafts and 2 references"):
        judge.answers(["a"], ["a", "b"])


def test_a_missing_judge_is_not_downloaded(weights: Path) -> None:
    (weights / "config.json").unlink()
    with pytest.raises(OriginalMissingError, match=r"config\.json not found there"):
        GreenJudge(weights)
