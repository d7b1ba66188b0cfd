"""GREEN: reading what its judge writes, and its arithmetic; the judge itself when it is here.

Ostmeier et al. 2024, arXiv:2405.03595. A language model lists clinically significant errors in six kinds and matched
findings; GREEN = matched / (matched + significant errors). So two normal reports whose judge finds nothing to match
score 0, like a draft that is all wrong. Two versions differ in an answer that lacks a part: 0, or no score.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evaluation.originals import Original, OriginalMissingError, find_original, load_package, metric_name, offline

ERRORS: tuple[str, ...] = (
    "false finding",
    "missed finding",
    "wrong place",
    "wrong severity",
    "extra comparison",
    "missed comparison",
)
"""The kinds (a) to (f) of its judge, in short."""
_METRIC = "GREEN"
_PARTS = {
    "significant": "Clinically Significant Errors",
    "insignificant": "Clinically Insignificant Errors",
    "matched": "Matched Findings",
}
_INSTALL = "install green_score from its authors' repository"
_LETTERED, _NUMBERED = re.compile(r"\(([a-f])\) .*"), re.compile(r"\(([1-6])\) .*")
_TURN = "<|assistant|>"
_COUNT = re.compile(r"(?<=: )\b\d+\b(?=\.)")
_LEADING = re.compile(r"\b\d+\b(?=\.)")


@dataclass(frozen=True)
class Judgement:
    """What a judge counted: errors (a) to (f), significant and not, and matched findings; None for a part not there."""

    significant: tuple[int, ...] | None
    insignificant: tuple[int, ...] | None
    matched: int | None

    def score(self, missing: Literal["0", "nan"] = "0") -> float:
        """matched / (matched + significant errors); 0 without a match.

        missing: what an answer without a part is. "0" reads it as no match or no error, as the published scores do, so
        an answer without a part on errors scores 1 for any match; "nan" gives no score, unless nothing matched.
        Raises: ValueError for another `missing`.
        """
        if missing not in ("0", "nan"):
            raise ValueError(f'missing is "{missing}", expected "0" or "nan"')
        if self.matched == 0 or (self.matched is None and missing == "0"):
            return 0.0
        if self.matched is None or (self.significant is None and missing == "nan"):
            return math.nan
        return self.matched / (self.matched + sum(self.significant or ()))


def read_judgement(text: str) -> Judgement:
    """The counts in a judge's answer, read as the original does.

    Parts start with "[Matched Findings]:" and so on, and end at an empty line. A part that starts with "No" counts 0.
    Errors are lines "(a) <kind>: <count>. …", or "(1) …" where no line has a letter; of two lines of a kind the later
    in the order of the alphabet counts, the first number between ": " and "." is the count, and a line without one adds
    nothing. Matches are a number and a point at the start. What stands before the judge's turn is not read: the prompt
    holds the same headings.
    """
    text = text.rsplit(_TURN, 1)[-1]
    matched = _part(text, _PARTS["matched"])
    count = None
    if matched is not None:
        found = None if matched.startswith("No") else _LEADING.match(matched)
        count = int(found[0]) if found else 0
    return Judgement(_errors(_part(text, _PARTS["significant"])), _errors(_part(text, _PARTS["insignificant"])), count)


def _part(text: str, heading: str) -> str | None:
    found = re.search(rf"\[{heading}\]:\s*(.*?)(?:\n\s*\n|\Z)", text, re.DOTALL)
    return None if found is None else found[1]


def _errors(part: str | None) -> tuple[int, ...] | None:
    if part is None:
        return None
    counts = [0] * len(ERRORS)
    if not part.startswith("No"):
        kinds, lines = "abcdef", list(_LETTERED.finditer(part))
        if not lines:
            kinds, lines = "123456", list(_NUMBERED.finditer(part))
        for line in sorted(lines, key=lambda match: match[0]):
            number = _COUNT.search(line[0])
            if number is not None:
                counts[kinds.index(line[1])] = int(number[0])
    return tuple(counts)


@dataclass(frozen=True)
class Green:
    """The mean over the answers that have a score, each score (nan without), and errors of each kind per report.

    `incomplete` counts answers that lack a part. `name` is what to print.
    """

    name: str
    value: float
    per_report: list[float]
    errors: dict[str, float]
    incomplete: int
    n: int
    variant: str


def green_score(answers: Sequence[str], by: str | Original, missing: Literal["0", "nan"] = "0") -> Green:
    """GREEN of judges' answers, one for each pair of reports. by: the judge."""
    judged = [read_judgement(text) for text in answers]
    scores = [one.score(missing) for one in judged]
    known = [score for score in scores if not math.isnan(score)]
    told = [one.significant for one in judged if one.significant is not None]
    errors = {kind: sum(one[at] for one in told) / len(told) if told else math.nan for at, kind in enumerate(ERRORS)}
    shown = "counted as nothing found" if missing == "0" else "left out"
    return Green(
        metric_name(_METRIC, by, "answers"),
        sum(known) / len(known) if known else math.nan,
        scores,
        errors,
        sum(one.matched is None or one.significant is None for one in judged),
        len(known),
        f"matched / (matched + significant errors), 0 without a match; a missing part {shown}",
    )


class GreenJudge:
    """The original judge: the package green_score with its model, as transformers saves it, in a folder."""

    def __init__(self, weights: Path) -> None:
        """Raises: OriginalMissingError when the package or the model is not here."""
        self.original = find_original(_METRIC, "green_score", weights, ("config.json",), _INSTALL)
        package = load_package("green_score")
        with offline():
            # It writes the reports into its output folder: one that is gone with this object.
            self._folder = tempfile.TemporaryDirectory(prefix="green_")
            try:
                self._judge: Any = package.GREEN(str(weights), output_dir=self._folder.name)
            except (OSError, KeyError, RuntimeError) as error:
                raise OriginalMissingError(f"green_score found its model and did not load: {error!r}") from error

    def answers(self, pred: Sequence[str], ref: Sequence[str]) -> list[str]:
        """What the judge writes of each pair. Raises: ValueError if there are not as many drafts as references."""
        if len(pred) != len(ref):
            raise ValueError(f"there are {len(pred)} drafts and {len(ref)} references, expected as many")
        with offline():
            table = self._judge(list(ref), list(pred))[-1]
        return [str(answer) for answer in table["green_analysis"]]
