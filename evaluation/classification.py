"""Scores against labels: how well a score ranks, for one finding or a table of findings.

Labels are 1 (present), 0 (absent) or nan (unknown: left out). This module holds the ranking metrics and is the door to
their neighbours: evaluation.thresholds (calls at a threshold) and evaluation.reliability (Brier, calibration error).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evaluation.labelled import Floats, counts_at_thresholds, known_rows, labelled_rows, labelled_table
from evaluation.reliability import Binning, ReliabilityBin, brier, ece, reliability_bins
from evaluation.thresholds import Decision, Threshold, choose_threshold, decide

__all__ = [
    "Binning", "Decision", "Macro", "ReliabilityBin", "Threshold", "auroc", "average_precision", "brier",
    "choose_threshold", "decide", "ece", "interpolated_average_precision", "macro_auroc", "macro_average_precision",
    "partial_auroc", "precision_recall_points", "reliability_bins", "roc_points", "trapezoid_average_precision",
]  # fmt: skip


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: P(score of a positive > score of a negative) + P(equal) / 2.

    Shapes: scores, labels (N,). Returns a number in [0, 1], or nan if only one class is there.
    Source: Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747 (the Mann-Whitney U form).
    Raises: ValueError on unequal lengths, nan scores, or labels other than 0, 1, nan.
    """
    return _auroc(*labelled_rows(scores, labels))


def partial_auroc(
    scores: ArrayLike, labels: ArrayLike, max_false_positive_rate: float, standardised: bool = True
) -> float:
    """Area under the ROC curve left of a false positive rate, where a screening test must work.

    The curve is cut by linear interpolation. Standardised (McClish 1989, doi:10.1177/0272989X8900900307): 0.5 for
    guessing and 1 for a perfect ranking, as sklearn.metrics.roc_auc_score(max_fpr=...). Otherwise the bare area, at
    most `max_false_positive_rate`. Shapes: (N,). nan with one class only.
    Raises: as auroc, and ValueError for a rate outside (0, 1].
    """
    if not 0 < max_false_positive_rate <= 1:
        raise ValueError(f"max_false_positive_rate is {max_false_positive_rate}, expected above 0 and at most 1")
    false, true = roc_points(scores, labels)
    if false.size == 0:
        return math.nan
    inside = false <= max_false_positive_rate
    edge = np.interp(max_false_positive_rate, false, true)
    x = np.append(false[inside], max_false_positive_rate)
    y = np.append(true[inside], edge if max_false_positive_rate < 1 else true[-1])
    area = float(np.trapezoid(y, x))
    if not standardised:
        return area
    low, high = max_false_positive_rate**2 / 2, max_false_positive_rate
    return 0.5 * (1 + (area - low) / (high - low))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision by steps: sum over distinct thresholds of (recall step) x precision, without interpolation.

    Shapes: scores, labels (N,). Returns a number in (0, 1], or nan without a positive. At chance it is the prevalence.
    Source: the definition of sklearn.metrics.average_precision_score.
    Raises: as auroc.
    """
    precision, recall = precision_recall_points(scores, labels)
    return float((np.diff(recall, prepend=0.0) * precision).sum()) if recall.size else math.nan


def interpolated_average_precision(scores: ArrayLike, labels: ArrayLike, points: int | None = None) -> float:
    """Average precision after precision is replaced by the best precision at that recall or a higher one.

    points None: the area under that envelope (PASCAL VOC from 2010 on). 11: the mean at recalls 0, 0.1 ... 1 (VOC
    2007). 101: the mean at recalls 0, 0.01 ... 1 (COCO). Never lower than average_precision, so never to be compared
    with it.
    Shapes: (N,). nan without a positive. Source: Everingham et al. 2010, doi:10.1007/s11263-009-0275-4.
    Raises: as auroc, and ValueError for fewer than 2 points.
    """
    if points is not None and points < 2:
        raise ValueError(f"points is {points}, expected at least 2, or None for the whole area")
    precision, recall = precision_recall_points(scores, labels)
    if recall.size == 0:
        return math.nan
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points is None:
        return float((np.diff(recall, prepend=0.0) * envelope).sum())
    # A recall that should equal k / (points - 1) may lie a rounding error below it.
    place = np.searchsorted(recall, np.linspace(0, 1, points) - 1e-12)
    return float(envelope[place].mean())


def trapezoid_average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under straight lines between the points of the precision-recall curve, from (recall 0, precision 1).

    Too kind: no classifier lies on those lines (Davis and Goadrich 2006, doi:10.1145/1143844.1143874). It is here
    because it is published as "AUPRC", and equals sklearn.metrics.auc of precision_recall_curve. Shapes: (N,); nan
    without a positive.
    Raises: as auroc.
    """
    precision, recall = precision_recall_points(scores, labels)
    if recall.size == 0:
        return math.nan
    return float(np.trapezoid(np.append(1.0, precision), np.append(0.0, recall)))


def roc_points(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """False and true positive rates at every distinct threshold, from (0, 0) to (1, 1); empty with one class.

    Shapes: scores, labels (N,) -> two arrays (T,). Raises: as auroc.
    """
    score, label = labelled_rows(scores, labels)
    positives, negatives = label.sum(), (1 - label).sum()
    if positives == 0 or negatives == 0:
        return np.empty(0), np.empty(0)
    true, called, _ = counts_at_thresholds(score, label)
    zero = np.zeros(1)
    return np.concatenate([zero, (called - true) / negatives]), np.concatenate([zero, true / positives])


def precision_recall_points(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """Precision and recall at every distinct threshold, highest first; empty without a positive.

    Shapes: scores, labels (N,) -> two arrays (T,). Raises: as auroc.
    """
    score, label = labelled_rows(scores, labels)
    positives = label.sum()
    if positives == 0:
        return np.empty(0), np.empty(0)
    true, called, _ = counts_at_thresholds(score, label)
    return true / called, true / positives


@dataclass(frozen=True)
class Macro:
    """An unweighted mean over findings. `dropped` names the findings that have one class only and are not in it."""

    value: float
    per_label: dict[str, float]
    dropped: tuple[str, ...]


def macro_auroc(scores: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> Macro:
    """Mean AUROC over findings with at least one positive and one negative.

    Shapes: scores, labels (N, K); names (K,). value is nan if no finding is left. Under resampling a rare finding may
    lose its positives and leave the mean of that resample: say so, or give per-finding intervals beside it.
    Raises: ValueError on unequal shapes, nan scores of known labels, or labels other than 0, 1, nan.
    """
    score, label = labelled_table(scores, labels, names)
    return _macro({name: _auroc(*known_rows(score[:, k], label[:, k])) for k, name in enumerate(names)})


def macro_average_precision(scores: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> Macro:
    """Mean average precision (by steps) over findings with at least one positive. Shapes, errors: as macro_auroc."""
    score, label = labelled_table(scores, labels, names)
    return _macro({name: average_precision(score[:, k], label[:, k]) for k, name in enumerate(names)})


def _macro(per_label: dict[str, float]) -> Macro:
    kept = [value for value in per_label.values() if not math.isnan(value)]
    dropped = tuple(name for name, value in per_label.items() if math.isnan(value))
    return Macro(float(np.mean(kept)) if kept else math.nan, per_label, dropped)


def _auroc(score: Floats, label: Floats) -> float:
    positive = label == 1
    wins = score[positive]
    negative = np.sort(score[~positive])
    if wins.size == 0 or negative.size == 0:
        return math.nan
    # Twice the number of pairs won, a tied pair counting once: integers, so no rounding.
    pairs = np.searchsorted(negative, wins, "left").sum() + np.searchsorted(negative, wins, "right").sum()
    return float(pairs / (2 * wins.size * negative.size))
