"""AUROC with a standard error, and the test of two correlated AUROCs, without resampling.

Each positive has the share of negatives that it beats, each negative the share of positives that beat it; their
variances give that of the AUROC (DeLong et al. 1988, doi:10.2307/2531595), in O(N log N) by midranks (Sun and Xu 2014,
doi:10.1109/LSP.2014.2337313). With several studies a patient, those shares are summed over the patient first
(Obuchowski 1997, doi:10.2307/2533958); with one study each it is DeLong's to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from evaluation.intervals import Interval, effective_degrees
from evaluation.labelled import Floats, numbered_patients, refuse_strange_labels


@dataclass(frozen=True)
class CurveTest:
    """Two AUROCs on the same rows, their difference (first - second) with interval, z and two-sided p-value.

    Equal rankings have p = 1. p is nan where there is no variance to judge by: one class, or one patient with a class.
    """

    first: float
    second: float
    difference: Interval
    error: float
    z: float
    p: float
    variant: str


def delong_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    on_logit: bool = True,
) -> Interval:
    """AUROC of scores (N,) with an interval; labels (N,) 1, 0 or nan (left out); groups (N,) the patient of each row.

    Without groups rows are independent and the law is normal; with them patients are clusters and the law is t. On the
    logit scale the interval stays inside (0, 1) and holds its level better near 1 (Pepe 2003). nan bounds for an AUROC
    of 0 or 1, which has no variance, and for one patient with a class; nan with one class.
    Raises: ValueError on unequal lengths, scores that are not finite, strange labels, rows without a patient.
    """
    _check_level(level)
    table, label, patient, kept = _checked([scores], labels, groups)
    people = np.unique(patient).size
    value, covariance, pull = _areas(table, label, patient)
    area, variance = float(value[0]), float(covariance[0, 0])
    edge, law = _edge(level, groups is not None, pull[0])
    method = law + (", logit" if on_logit else "")
    if not math.isfinite(area) or not variance > 0:
        return Interval(area, math.nan, math.nan, kept, people, method=method)
    half = edge * math.sqrt(variance)
    if not on_logit:
        return Interval(area, max(area - half, 0.0), min(area + half, 1.0), kept, people, method=method)
    if not 0 < area < 1:
        return Interval(area, math.nan, math.nan, kept, people, method=method)
    centre, width = float(logit(area)), half / (area * (1 - area))
    return Interval(area, float(expit(centre - width)), float(expit(centre + width)), kept, people, method=method)


def delong_test(
    first: ArrayLike,
    second: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> CurveTest:
    """Do two scores of the same rows have the same AUROC? Shapes: first, second, labels, groups (N,); labels as above.

    Not for nested models fitted on the same rows (Demler et al. 2012, doi:10.1002/sim.5328). The null hypothesis is
    equal areas, not equal curves. Raises: as delong_interval.
    """
    _check_level(level)
    table, label, patient, kept = _checked([first, second], labels, groups)
    values, covariance, pull = _areas(table, label, patient)
    one, other = float(values[0]), float(values[1])
    gain, people = one - other, np.unique(patient).size
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    edge, law = _edge(level, groups is not None, pull[0] - pull[1])
    # equal rankings leave a variance of rounding errors, which would turn 0 / 0 into a p-value
    if not variance > 1e-14:
        same = gain == 0 and math.isfinite(variance)
        bound, p = (0.0, 1.0) if same else (math.nan, math.nan)
        found = Interval(gain, bound, bound, kept, people, method=law)
        return CurveTest(one, other, found, bound, math.nan, p, law)
    error = math.sqrt(variance)
    z = gain / error
    p = float(2 * norm.sf(abs(z)) if groups is None else 2 * student.sf(abs(z), effective_degrees(pull[0] - pull[1])))
    found = Interval(gain, gain - edge * error, gain + edge * error, kept, people, method=law)
    return CurveTest(one, other, found, error, z, p, law)


def auroc_covariance(
    scores: Sequence[ArrayLike], labels: ArrayLike, groups: Sequence[Hashable] | None = None
) -> tuple[Floats, Floats]:
    """AUROCs (M,) of M scores of the same rows, and the covariance (M, M) of their estimates. Raises: as
    delong_test."""
    table, label, patient, _ = _checked(scores, labels, groups)
    areas, covariance, _ = _areas(table, label, patient)
    return areas, covariance


def _edge(level: float, clustered: bool, pull: Floats) -> tuple[float, str]:
    """The quantile of the law of an interval, and the law's name."""
    if not clustered:
        return float(norm.ppf((1 + level) / 2)), "DeLong, normal"
    name = "DeLong with patients as clusters (Obuchowski 1997), t"
    return float(student.ppf((1 + level) / 2, effective_degrees(pull))), name


def _areas(table: Floats, label: Floats, patient: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """AUROCs (M,), their covariance (M, M) and the part of each patient (M, G); nan with one class, or one patient
    with a class."""
    positive = label == 1
    m, n = int(positive.sum()), int((~positive).sum())
    models = len(table)
    if m == 0 or n == 0:
        return np.full(models, math.nan), np.full((models, models), math.nan), np.zeros((models, 1))
    beats = np.empty((models, m))
    beaten = np.empty((models, n))
    for number, score in enumerate(table):
        ranks = rankdata(score)  # midranks among all, less those within the class: wins, ties counting half
        beats[number] = (ranks[positive] - rankdata(score[positive])) / n
        beaten[number] = 1 - (ranks[~positive] - rankdata(score[~positive])) / m
    areas = beats.mean(axis=1)
    by_positive = _patient_sums(beats - areas[:, None], patient[positive], patient)
    by_negative = _patient_sums(beaten - areas[:, None], patient[~positive], patient)
    with_positive, with_negative, people = (np.unique(p).size for p in (patient[positive], patient[~positive], patient))
    pull = by_positive / m + by_negative / n
    if with_positive < 2 or with_negative < 2:
        return areas, np.full((models, models), math.nan), pull
    cross = by_positive @ by_negative.T * people / ((people - 1) * m * n)
    covariance = by_positive @ by_positive.T * with_positive / ((with_positive - 1) * m**2)
    covariance += by_negative @ by_negative.T * with_negative / ((with_negative - 1) * n**2)
    return areas, covariance + cross + cross.T, pull


def _patient_sums(values: Floats, patient: NDArray[np.intp], everyone: NDArray[np.intp]) -> Floats:
    """Sums (M, G) of values (M, K) over the rows of each patient, in one numbering for both classes."""
    size = int(everyone.max()) + 1
    return np.stack([np.bincount(patient, row, minlength=size) for row in values])


def _checked(
    scores: Sequence[ArrayLike], labels: ArrayLike, groups: Sequence[Hashable] | None
) -> tuple[Floats, Floats, NDArray[np.intp], int]:
    """Scores (M, K), labels (K,) and patients (K,) of rows with a label, and K."""
    label = np.asarray(labels, dtype=np.float64)
    parts = [np.asarray(score, dtype=np.float64) for score in scores]
    if label.ndim != 1 or any(part.shape != label.shape for part in parts):
        shapes = [part.shape for part in parts]
        raise ValueError(f"scores {shapes} and labels {label.shape} must share one shape (N,)")
    refuse_strange_labels(label)
    patient = np.arange(label.size) if groups is None else numbered_patients(groups, label.size)
    known = ~np.isnan(label)
    table = np.stack(parts)[:, known]
    if not np.isfinite(table).all():
        raise ValueError(f"{int((~np.isfinite(table)).sum())} of {table.size} scores are not finite, expected numbers")
    _, number = np.unique(patient[known], return_inverse=True)
    return table, label[known], number, int(known.sum())


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected between 0 and 1")
