"""All checks on one evaluation: which defects it has, which were looked for, and which could not be.

A card without flags means something only beside the list of what was looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import ArrayLike

from evaluation.calibration import Calibration
from evaluation.flag_laterality import MirrorScores, SideAnswers, mirror_flags, side_flags
from evaluation.flag_leaks import Sources, leak_flags
from evaluation.flag_reliance import reliance_flags
from evaluation.flag_shortcuts import Marker, shortcut_flags
from evaluation.flag_sizes import score_flags, size_flags
from evaluation.flag_subgroups import subgroup_flags, subgroup_gaps, too_small
from evaluation.flag_thresholds import calibration_flags, fitted_flags, plain_value, threshold_flags
from evaluation.flags import Flag, worst_first
from evaluation.score_table import ScoreTable
from evaluation.thresholds import Threshold

State = Literal["clear", "flagged", "not possible"]


@dataclass(frozen=True)
class Evidence:
    """What is known of an evaluation of N studies and K findings; what is None was not given.

    names (K,); scores, labels (N, K), label nan unknown; patients (N,) keys. probabilities (N, K) are calibrated, by
    `calibration` on the scores where that is given. thresholds apply to the scores, or to the probabilities where those
    are given. studies (N,) and fitted_on are study keys; learned and measured hold patients, images and texts. groups
    and markers map a name to a value for each study, "" or None unknown. controls map a name to scores (N, K). sides
    and mirrored have rows of their own.
    """

    names: Sequence[str]
    scores: ArrayLike
    labels: ArrayLike
    patients: Sequence[Hashable]
    probabilities: ArrayLike | None = None
    thresholds: Mapping[str, float | Threshold] | None = None
    studies: Sequence[Hashable] | None = None
    fitted_on: Collection[Hashable] | None = None
    learned: Sources | None = None
    measured: Sources | None = None
    groups: Mapping[str, Sequence[str]] | None = None
    markers: Mapping[str, Marker] | None = None
    controls: Mapping[str, ArrayLike] | None = None
    sides: SideAnswers | None = None
    mirrored: MirrorScores | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Check:
    """One check: what it asks, how it came out, and the reason where it or a part of it could not be made."""

    name: str
    question: str
    state: State
    reason: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return {"name": self.name, "question": self.question, "state": self.state, "reason": self.reason}


@dataclass(frozen=True)
class Examination:
    """Flags, worst first, and every check with its outcome."""

    flags: tuple[Flag, ...]
    checks: tuple[Check, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"flags": [flag.to_dict() for flag in self.flags], "checks": [check.to_dict() for check in self.checks]}


Raise = Callable[[Evidence, ScoreTable], list[Flag]]
CHECKS: tuple[tuple[str, str, tuple[str, ...], Raise], ...] = (
    ("sizes", "Are there enough patients with and without each finding?", (), lambda e, t: size_flags(t)),
    ("scores", "Do the scores rank at all, and in the right direction?", (), lambda e, t: score_flags(t)),
    ("leaks", "Did the model learn from patients, images or reports of the test?", ("learned", "measured"),
     lambda e, t: leak_flags(_given(e.learned), _given(e.measured))),
    ("fitted", "Were thresholds or calibration fitted on studies of the test?", ("studies", "fitted_on"),
     lambda e, t: fitted_flags(_given(e.studies), _given(e.fitted_on), "thresholds and calibration")),
    ("thresholds", "Are the thresholds those of other studies?", ("thresholds",),
     lambda e, t: threshold_flags(_called(e, t), _given(e.thresholds))),
    ("calibration", "Is the calibration that of other studies?", ("probabilities",),
     lambda e, t: calibration_flags(t, _given(e.probabilities), e.calibration)),
    ("subgroups", "Is any group of patients served worse?", ("groups",),
     lambda e, t: subgroup_flags(subgroup_gaps(_called(e, t), _given(e.groups), _numbers(e.thresholds)))),
    ("shortcuts", "Does a score follow a marker instead of the finding?", ("markers",),
     lambda e, t: shortcut_flags(t, _given(e.markers))),
    ("image", "Is the model better with its image than without?", ("controls",),
     lambda e, t: reliance_flags(t, _given(e.controls))),
    ("sides", "Are left and right told rightly?", ("sides",), lambda e, t: side_flags(_given(e.sides))),
    ("mirror", "Does the side turn when the image is mirrored?", ("mirrored",),
     lambda e, t: mirror_flags(_given(e.mirrored))),
)  # fmt: skip
_MISSING = {
    "learned": "the studies that the model learned from are not known",
    "measured": "the sources of the test studies are not known",
    "studies": "the test studies have no keys",
    "fitted_on": "the studies that thresholds and calibration were fitted on are not known",
    "thresholds": "no thresholds were given",
    "probabilities": "no probabilities were given",
    "groups": "no attribute of the patients is known",
    "markers": "no marker is known",
    "controls": "no control without the image was run",
    "sides": "no side was asked for",
    "mirrored": "the model was not asked about mirrored images",
}


def examine(evidence: Evidence) -> Examination:
    """Make every check that the evidence allows.

    Raises: ValueError for tables that do not fit together, naming what does not.
    """
    table = ScoreTable.of(evidence.names, evidence.scores, evidence.labels, evidence.patients)
    flags: list[Flag] = []
    checks = []
    for name, question, needs, raise_flags in CHECKS:
        missing = [need for need in needs if not _has(getattr(evidence, need))]
        if missing:
            checks.append(Check(name, question, "not possible", _MISSING[missing[0]]))
            continue
        found = raise_flags(evidence, table)
        flags += found
        checks.append(Check(name, question, "flagged" if found else "clear", _limits(name, evidence, table)))
    return Examination(worst_first(flags), tuple(checks))


def _limits(name: str, evidence: Evidence, table: ScoreTable) -> str:
    """What a check that was made could not see."""
    if name == "subgroups" and (small := too_small(table, evidence.groups or {})):
        return f"too few patients to tell for {', '.join(small[:5])}" + ("" if len(small) < 6 else " and others")
    return ""


def _has(part: Any) -> bool:
    return part is not None and not (isinstance(part, Mapping) and not part)


def _given(part: Any) -> Any:
    """A part that `examine` has seen to be there."""
    return part


def _called(evidence: Evidence, table: ScoreTable) -> ScoreTable:
    """The table that thresholds apply to."""
    given = evidence.probabilities
    return table if given is None else table.with_scores(given, "probabilities")


def _numbers(thresholds: Mapping[str, float | Threshold] | None) -> dict[str, float] | None:
    if thresholds is None:
        return None
    return {name: plain_value(threshold) for name, threshold in thresholds.items()}
