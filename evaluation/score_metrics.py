"""The metrics of a table of scores that belong on a card: ranking, calls at thresholds, calibration, each by name."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import Interval, patient_bootstrap
from evaluation.jackknife import share_intervals
from evaluation.scorecard import Metric
from evaluation.selective import binary_risk_coverage
from evaluation.weighted import (
    Weighted,
    weighted_auroc,
    weighted_average_precision,
    weighted_bootstrap,
    weighted_calibration_error,
    weighted_macro,
    weighted_mean,
    weighted_ratio,
)

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """What scores are measured against: names (K,), labels (N, K) with nan unknown, patients (N,), and on what."""

    names: Sequence[str]
    labels: Table
    patients: Sequence[Hashable]
    data: str


def ranking_metrics(
    name: str,
    scores: Table,
    truth: Labelled,
    variant: str,
    focal: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> list[Metric]:
    """`NAME.macro`, `NAME.focal` over some findings where any are named, and `NAME.FINDING`: AUROC. scores (N, K)."""
    names = [n for n in truth.names if only is None or n in only]
    column = {n: truth.names.index(n) for n in names}
    single = {n: weighted_auroc(scores[:, k], truth.labels[:, k]) for n, k in column.items()}
    statistics = {"macro": weighted_macro(list(single.values()))}
    if focal:
        statistics["focal"] = weighted_macro([value for n, value in single.items() if n in focal])
    found = share_intervals(statistics | single, truth.patients)
    return [Metric.of(f"{name}.{key}", value, variant, truth.data) for key, value in found.items()]


def precision_metrics(name: str, scores: Table, truth: Labelled) -> list[Metric]:
    """`NAME.macro` and `NAME.FINDING`: average precision by steps; at chance it is the share that has the finding."""
    single = {
        n: weighted_average_precision(scores[:, k], truth.labels[:, k])
        for k, n in enumerate(truth.names)
        if (truth.labels[:, k] == 1).any()
    }
    statistics = {"macro": weighted_macro(list(single.values())), **single}
    found = share_intervals(statistics, truth.patients)
    how = "average precision by steps, no interpolation"
    return [Metric.of(f"{name}.{key}", value, how, truth.data) for key, value in found.items()]


def calibration_metrics(prefix: str, p: Table, truth: Labelled, fitted: str) -> list[Metric]:
    """Calibration error, Brier score, and the risk when only sure answers are given. p (N, K) in [0, 1]."""
    columns = [k for k in range(len(truth.names)) if not np.isnan(truth.labels[:, k]).all()]
    statistics = {
        "ece": weighted_macro([weighted_calibration_error(p[:, k], truth.labels[:, k]) for k in columns]),
        "brier": weighted_macro([weighted_mean((p[:, k] - truth.labels[:, k]) ** 2) for k in columns]),
    }
    found = weighted_bootstrap(statistics, truth.patients, n=300)
    found["ece"] = centered(found["ece"])
    ways = {"ece": "15 bins of equal width, mean over findings, interval centered", "brier": "mean over findings"}
    metrics = [Metric.of(f"{prefix}.{k}", value, f"{ways[k]}; {fitted}", truth.data) for k, value in found.items()]

    def risk(rows: NDArray[np.intp]) -> float:
        values = [binary_risk_coverage(p[rows, k], truth.labels[rows, k]).aurc for k in columns]
        known = [value for value in values if not math.isnan(value)]
        return float(np.mean(known)) if known else math.nan

    curve = "area under risk against coverage, calls at 0.5, mean over findings; 0 is best"
    return [*metrics, Metric.of(f"{prefix}.aurc", patient_bootstrap(risk, truth.patients, n=200), curve, truth.data)]


def centered(found: Interval) -> Interval:
    """The interval moved onto its value: resampling makes a calibration error larger, because it empties bins."""
    shift = found.value - (found.low + found.high) / 2
    return replace(found, low=max(0.0, found.low + shift), high=found.high + shift)


def call_metrics(prefix: str, calls: NDArray[np.bool_], truth: Labelled, threshold: str) -> list[Metric]:
    """F1, sensitivity and specificity of calls (N, K), of each finding and over all; `threshold` says which one.

    n is the number of studies that count: with the finding for sensitivity, without it for specificity. Where every
    call is right (or wrong) all resamples agree; then the interval is the exact one of that many patients.
    """
    counts: dict[str, tuple[int, int]] = {}
    statistics: dict[str, Weighted] = {}
    for what, value in (("sensitivity", 1), ("specificity", 0)):
        member = truth.labels == value  # unknown labels are in neither
        right = member & (calls == bool(value))
        counted = [k for k in range(len(truth.names)) if member[:, k].any()]
        if counted:
            statistics[f"{what}.micro"] = weighted_ratio(right.sum(1), member.sum(1))
        for k in counted:
            statistics[f"{what}.{truth.names[k]}"] = weighted_ratio(right[:, k], member[:, k])
            rows = np.flatnonzero(member[:, k]).tolist()
            counts[f"{what}.{truth.names[k]}"] = len(rows), len({truth.patients[row] for row in rows})
    known = ~np.isnan(truth.labels)
    hit, said = (truth.labels == 1) & calls, calls & known
    statistics["f1.micro"] = weighted_ratio(2 * hit.sum(1), ((truth.labels == 1).sum(1) + said.sum(1)))
    metrics = []
    for key, found in weighted_bootstrap(statistics, truth.patients, n=500).items():
        member = truth.labels == (0 if key.startswith("specificity") else 1)
        variant = f"{threshold}; studies that count: {'without' if key.startswith('specificity') else 'with'} it"
        if key.endswith(".micro"):
            variant = f"{threshold}; all findings pooled, {int(member.sum())} answers"
        n, patients = counts.get(key, (found.n, found.groups))
        metrics.append(
            Metric.of(f"{prefix}.{key}", exact_at_the_end(replace(found, n=n), patients), variant, truth.data)
        )
    return metrics


def exact_at_the_end(found: Interval, patients: int, level: float = 0.95) -> Interval:
    """The exact interval (Clopper and Pearson 1934) of a share that is 0 or 1 in every resample; others as they are."""
    if not (found.low == found.high == found.value and found.value in (0.0, 1.0) and patients):
        return found
    reach = ((1 - level) / 2) ** (1 / patients)
    low, high = (reach, 1.0) if found.value == 1 else (0.0, 1 - reach)
    return replace(found, low=low, high=high, groups=patients, method="exact")
