"""Two models on the same studies, metric by metric: the difference, its interval and its p-value.

Everything is computed again from the two files of predictions, on the same resamples of patients; nothing is read off
the cards. Holm's method adjusts the p-values of the table, so that one chance finding among many is not a result.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.comparison import PairedTest, bootstrap_test
from evaluation.delong import delong_test
from evaluation.mcnemar import clustered_mcnemar
from evaluation.multiplicity import holm
from evaluation.predictions import StudyPrediction, names_of, table
from evaluation.weighted import (
    Weighted,
    weighted_calibration_error,
    weighted_macro,
    weighted_macro_auroc,
    weighted_mean,
    weighted_ratio,
)

LOWER = ("brier", "ece", "hallucination_rate", "omission_rate", "laterality_error", "false_area", "error_rate")
"""Last parts of names of which less is better."""
ALPHA = 0.05
_SHOWN = 3


@dataclass(frozen=True)
class Difference:
    """One metric of both models on the same n rows: a, b, a - b with its 95% interval, p, and p adjusted (Holm)."""

    name: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    n: int
    p: float
    adjusted: float
    variant: str

    @property
    def lower_is_better(self) -> bool:
        """Whether less is better."""
        return self.name.rsplit(".", 1)[-1] in LOWER

    @property
    def better(self) -> str:
        """ "a", "b", or "" where no difference is shown at 0.05 after adjustment."""
        if math.isnan(self.adjusted) or self.adjusted >= ALPHA or self.difference == 0:
            return ""
        return "a" if (self.difference > 0) != self.lower_is_better else "b"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; nan is written as null."""
        row = {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in asdict(self).items()}
        return row | {"better": self.better or None}


@dataclass(frozen=True)
class Comparison:
    """All differences, of `studies` studies of `patients` patients. `notes` say what could not be compared."""

    rows: tuple[Difference, ...]
    studies: int
    patients: int
    notes: tuple[str, ...] = ()


def compare(a: Sequence[StudyPrediction], b: Sequence[StudyPrediction], resamples: int | None = None) -> Comparison:
    """Compare what both files hold: ranking, calls, calibration, drafts, and per-study values.

    resamples: 10,000 when left out, since the smallest p of a bootstrap must survive the adjustment; 2,000 for more
    than 5,000 studies.

    Raises: ValueError where the studies, their labels, their references or their patients differ: a paired comparison
    of different studies would mean nothing.
    """
    first, second = pair(a, b)
    groups = [row.patient for row in first]
    resamples = resamples or (10_000 if len(first) <= 5_000 else 2_000)
    notes: list[str] = []
    tests = [
        *_ranking(first, second, groups, resamples, notes),
        *_probabilities(first, second, groups, resamples),
        *_calls(first, second, groups, resamples),
        *_drafts(first, second, groups, resamples),
        *_values(first, second, groups, resamples, notes),
    ]
    adjusted = holm([test.p for test in tests]).tolist()
    rows = tuple(replace(test, adjusted=value) for test, value in zip(tests, adjusted, strict=True))
    if not rows:
        raise ValueError("the two files share no score, call, draft or value, so there is nothing to compare")
    return Comparison(rows, len(first), len(set(groups)), tuple(notes))


def pair(
    a: Sequence[StudyPrediction], b: Sequence[StudyPrediction]
) -> tuple[list[StudyPrediction], list[StudyPrediction]]:
    """Both in the order of A. Raises: ValueError that counts and names what differs."""
    others = {row.study: row for row in b}
    own = {row.study for row in a}
    only_a = [row.study for row in a if row.study not in others]
    only_b = [uid for uid in others if uid not in own]
    if only_a or only_b:
        told = [
            f"{len(uids)} only in {name}, such as {', '.join(uids[:_SHOWN])}"
            for name, uids in (("A", only_a), ("B", only_b))
            if uids
        ]
        raise ValueError(
            f"A has {len(a)} studies and B has {len(b)}: {'; '.join(told)}. A paired comparison needs the same studies:"
            " evaluate both models on the same catalog and split"
        )
    second = [others[row.study] for row in a]
    _refuse_other_truth(a, second)
    _refuse_other_patients(a, second)
    return list(a), second


def _refuse_other_truth(a: Sequence[StudyPrediction], b: Sequence[StudyPrediction]) -> None:
    different = [one.study for one, other in zip(a, b, strict=True) if not _same_truth(one, other)]
    if different:
        raise ValueError(
            f"labels or references of {len(different)} of {len(a)} studies differ between A and B, such as"
            f" {', '.join(different[:_SHOWN])}; evaluate both against the same truth"
        )


def _same_truth(one: StudyPrediction, other: StudyPrediction) -> bool:
    """Equal labels where both have one, equal reference findings among those that both models could name."""
    shared = one.labels.keys() & other.labels.keys()
    if any(_unequal(one.labels[name], other.labels[name]) for name in shared):
        return False
    if one.reference is None or other.reference is None:
        return True
    known = shared if one.labels and other.labels else one.reference.keys() | other.reference.keys()
    first, second = ({n: sorted(s) for n, s in row.items() if n in known} for row in (one.reference, other.reference))
    return first == second


def _unequal(one: float, other: float) -> bool:
    return not (one == other or (math.isnan(one) and math.isnan(other)))


def _refuse_other_patients(a: Sequence[StudyPrediction], b: Sequence[StudyPrediction]) -> None:
    both = {(one.patient, other.patient) for one, other in zip(a, b, strict=True)}
    if not len(both) == len({one for one, _ in both}) == len({other for _, other in both}):
        raise ValueError(
            "A and B put the studies together into patients differently; evaluate both with the same column of patients"
        )


def _ranking(
    a: Sequence[StudyPrediction],
    b: Sequence[StudyPrediction],
    groups: Sequence[Hashable],
    resamples: int,
    notes: list[str],
) -> list[Difference]:
    names = _both(a, b, "scores", notes)
    names = [name for name in names if any(name in row.labels for row in a)]
    if not names:
        return []
    labels, one, other = table(a, "labels", names), table(a, "scores", names), table(b, "scores", names)
    labels = np.where(np.isnan(one) | np.isnan(other), np.nan, labels)
    found = [
        _tested(
            "auroc.macro",
            [weighted_macro_auroc(side, labels, names) for side in (one, other)],
            groups,
            resamples,
            f"AUROC, mean over {len(names)} findings",
        )
    ]
    for k, name in enumerate(names):
        test = delong_test(one[:, k], other[:, k], labels[:, k], groups)
        low, high, n = test.difference.low, test.difference.high, test.difference.n
        value = test.difference.value
        if math.isnan(value):
            continue
        how = "AUROC; DeLong's test, patients as clusters"
        found.append(Difference(f"auroc.{name}", test.first, test.second, value, low, high, n, test.p, math.nan, how))
    return found


def _probabilities(
    a: Sequence[StudyPrediction], b: Sequence[StudyPrediction], groups: Sequence[Hashable], resamples: int
) -> list[Difference]:
    names = [n for n in _both(a, b, "probabilities") if any(n in row.labels for row in a)]
    if not names:
        return []
    labels, one, other = table(a, "labels", names), table(a, "probabilities", names), table(b, "probabilities", names)
    labels = np.where(np.isnan(one) | np.isnan(other), np.nan, labels)
    columns = [k for k in range(len(names)) if not np.isnan(labels[:, k]).all()]

    def brier(p: NDArray[np.float64]) -> Weighted:
        return weighted_macro([weighted_mean((p[:, k] - labels[:, k]) ** 2) for k in columns])

    def error(p: NDArray[np.float64]) -> Weighted:
        return weighted_macro([weighted_calibration_error(np.nan_to_num(p[:, k]), labels[:, k]) for k in columns])

    return [
        _tested("brier", [brier(one), brier(other)], groups, resamples, "Brier score, mean over findings"),
        _tested("ece", [error(one), error(other)], groups, resamples, "calibration error, 15 bins, mean over findings"),
    ]


def _calls(
    a: Sequence[StudyPrediction], b: Sequence[StudyPrediction], groups: Sequence[Hashable], resamples: int
) -> list[Difference]:
    names = [n for n in _both(a, b, "called") if any(n in row.labels for row in a)]
    if not names:
        return []
    labels, one, other = table(a, "labels", names), table(a, "called", names), table(b, "called", names)
    known = ~(np.isnan(labels) | np.isnan(one) | np.isnan(other))
    found = []
    for what, value in (("sensitivity", 1.0), ("specificity", 0.0)):
        member = known & (labels == value)
        if member.any():
            sides = [weighted_ratio((member & (said == value)).sum(1), member.sum(1)) for said in (one, other)]
            how = f"calls at each model's own thresholds, {int(member.sum())} answers"
            found.append(_tested(f"{what}.micro", sides, groups, resamples, how))
    wrong = [np.where(known, said != labels, np.nan) for said in (one, other)]
    if known.any():
        patients = np.repeat(np.asarray(groups), len(names))
        test = clustered_mcnemar(1 - wrong[0].ravel(), 1 - wrong[1].ravel(), patients.tolist())
        rates = [weighted_ratio((known & (said != labels)).sum(1), known.sum(1)) for said in (one, other)]
        row = _tested("error_rate", rates, groups, resamples, "share of calls that are wrong")
        found.append(replace(row, p=test.p, variant=f"{row.variant}; p: McNemar's test, patients as clusters"))
    return found


def _drafts(
    a: Sequence[StudyPrediction], b: Sequence[StudyPrediction], groups: Sequence[Hashable], resamples: int
) -> list[Difference]:
    if any(row.drafted is None or row.reference is None for row in (*a, *b)):
        return []
    counts = [np.array([_counted(row) for row in rows], dtype=np.float64) for rows in (a, b)]
    how = "findings of the drafts, uncertain counted as absent"
    ways = {
        "draft.finding_f1.micro": lambda c: (2 * c[:, 0], c[:, 1] + c[:, 2]),
        "draft.hallucination_rate": lambda c: (c[:, 1] - c[:, 0], c[:, 1]),
        "draft.omission_rate": lambda c: (c[:, 2] - c[:, 0], c[:, 2]),
        "draft.laterality_error": lambda c: (c[:, 3], c[:, 4]),
    }
    return [
        _tested(name, [weighted_ratio(*way(c)) for c in counts], groups, resamples, how) for name, way in ways.items()
    ]


def _counted(row: StudyPrediction) -> tuple[int, int, int, int, int]:
    """Findings in both, drafted, true; of those in both with a side in both, how many differ, and how many are."""
    said, true = row.drafted or {}, row.reference or {}
    both = said.keys() & true.keys()
    sided = [name for name in both if said[name] and true[name]]
    wrong = sum(1 for name in sided if set(said[name]) != set(true[name]))
    return len(both), len(said), len(true), wrong, len(sided)


def _values(
    a: Sequence[StudyPrediction],
    b: Sequence[StudyPrediction],
    groups: Sequence[Hashable],
    resamples: int,
    notes: list[str],
) -> list[Difference]:
    found = []
    for name in _both(a, b, "values", notes):
        one, other = (table(rows, "values", [name])[:, 0] for rows in (a, b))
        known = np.isfinite(one) & np.isfinite(other)
        if not known.any():
            continue
        sides = [weighted_mean(np.where(known, side, np.nan)) for side in (one, other)]
        row = _tested(name, sides, groups, resamples, "mean over studies that have it in both")
        found.append(replace(row, n=int(known.sum())))
    return found


def _both(
    a: Sequence[StudyPrediction], b: Sequence[StudyPrediction], what: str, notes: list[str] | None = None
) -> list[str]:
    one, other = names_of(a, what), names_of(b, what)
    alone = [name for name in (*one, *other) if not (name in one and name in other)]
    if alone and notes is not None:
        notes.append(f"Only one of the two has {what} of: {', '.join(alone)}. They are left out.")
    return [name for name in one if name in other]


def _tested(name: str, both: Sequence[Weighted], groups: Sequence[Hashable], resamples: int, what: str) -> Difference:
    first, second = both
    test: PairedTest = bootstrap_test(first, second, groups, n=resamples)
    whole = np.ones((1, len(groups)))
    a, b = float(first(whole)[0]), float(second(whole)[0])
    bounds = test.difference
    how = f"{what}; {test.variant}"
    return Difference(name, a, b, bounds.value, bounds.low, bounds.high, bounds.n, test.p, math.nan, how)
