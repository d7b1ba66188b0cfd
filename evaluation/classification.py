"""Scores against labels: ranking, calibration error and thresholds, for one finding or a table of findings.

Labels are 1 (present), 0 (absent) or nan (unknown: that row is left out for that finding). Anything else is refused, so
an "uncertain" -1 never becomes a negative by accident: the caller decides, and says so in the metric's variant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Binning = Literal["width", "mass"]


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: P(score of a positive > score of a negative) + P(equal) / 2.

    Shapes: scores, labels (N,). Returns a number in [0, 1], or nan if only one class is there.
    Source: Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747 (the Mann-Whitney U form).
    Raises: ValueError on unequal lengths, nan scores, or labels other than 0, 1, nan.
    """
    score, label = _checked(scores, labels)
    return _auroc(score, label)


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision: sum over distinct thresholds of (recall step) x precision, without interpolation.

    Shapes: scores, labels (N,). Returns a number in (0, 1], or nan without a positive. At chance it is the prevalence.
    Source: the definition of sklearn.metrics.average_precision_score.
    Raises: as auroc.
    """
    score, label = _checked(scores, labels)
    positives = label.sum()
    if positives == 0:
        return math.nan
    true, called, _ = _counts_at_thresholds(score, label)
    steps = np.diff(np.concatenate([[0.0], true])) / positives
    return float((steps * true / called).sum())


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Brier score: mean squared difference of probability and label; 0 is perfect, nan without rows.

    Shapes: probabilities, labels (N,). Source: Brier 1950, Monthly Weather Review 78.
    Raises: as auroc, and ValueError for probabilities outside [0, 1].
    """
    probability, label = _checked_probabilities(probabilities, labels)
    return float(np.mean((probability - label) ** 2)) if label.size else math.nan


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin: its edges, the mean probability said, the share found present, and how many rows it holds."""

    low: float
    high: float
    said: float
    found: float
    n: int


def reliability_bins(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, binning: Binning = "width"
) -> tuple[ReliabilityBin, ...]:
    """Non-empty bins of predicted probability, lowest first.

    "width": bins of equal width on [0, 1]; the last one holds its upper edge. "mass": about equally many rows each;
    equal probabilities always share a bin, so there may be fewer bins than asked for.
    Shapes: probabilities, labels (N,). Raises: as brier, and ValueError if bins < 1.
    """
    probability, label = _checked_probabilities(probabilities, labels)
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least 1")
    if label.size == 0:
        return ()
    if binning == "width":
        place = np.minimum((probability * bins).astype(int), bins - 1)
        edges = {number: (number / bins, (number + 1) / bins) for number in range(bins)}
    else:
        _, inverse, counts = np.unique(probability, return_inverse=True, return_counts=True)
        middle = (np.cumsum(counts) - counts / 2) / probability.size  # mean rank of each distinct value, in (0, 1)
        place = (middle * bins).astype(int)[inverse]
        edges = {n: (probability[place == n].min(), probability[place == n].max()) for n in np.unique(place).tolist()}
    return tuple(
        ReliabilityBin(
            float(edges[number][0]),
            float(edges[number][1]),
            float(probability[place == number].mean()),
            float(label[place == number].mean()),
            int((place == number).sum()),
        )
        for number in np.unique(place).tolist()
    )


def ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, binning: Binning = "width") -> float:
    """Expected calibration error of the probability that the finding is present: sum of n_b / N x |found_b - said_b|.

    Shapes: probabilities, labels (N,). For several findings: one value each, then the mean. nan without rows.
    Source: Naeini et al. 2015 (AAAI), equal width; Nixon et al. 2019, arXiv:1904.01685, equal mass ("adaptive").
    Raises: as reliability_bins.
    """
    found = reliability_bins(probabilities, labels, bins, binning)
    total = sum(one.n for one in found)
    return sum(one.n * abs(one.found - one.said) for one in found) / total if total else math.nan


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
    score, label = _checked_table(scores, labels, names)
    per_label = {name: _auroc(*_known(score[:, k], label[:, k])) for k, name in enumerate(names)}
    kept = [value for value in per_label.values() if not math.isnan(value)]
    dropped = tuple(name for name, value in per_label.items() if math.isnan(value))
    return Macro(float(np.mean(kept)) if kept else math.nan, per_label, dropped)


@dataclass(frozen=True)
class Threshold:
    """A finding is called present at score >= value. `reached` is the rule's value on the rows it was chosen on."""

    value: float
    rule: Literal["f1", "youden"]
    reached: float
    n: int
    positives: int


def choose_threshold(scores: ArrayLike, labels: ArrayLike, rule: Literal["f1", "youden"] = "youden") -> Threshold:
    """The threshold with the best F1, or the best Youden index (sensitivity + specificity - 1).

    Give validation rows: a threshold chosen on test rows makes the test optimistic. It lies half-way between two
    neighbouring scores, so a rounding error does not flip the row that sits on it; ties go to the higher threshold.
    Shapes: scores, labels (N,). Source: Youden 1950, doi:10.1002/1097-0142(1950)3:1<32::aid-cncr2820030106>3.0.co;2-3.
    Raises: ValueError as auroc, and if only one class is there.
    """
    score, label = _checked(scores, labels)
    positives, negatives = label.sum(), (1 - label).sum()
    if positives == 0 or negatives == 0:
        raise ValueError(
            f"validation has {positives:.0f} positive and {negatives:.0f} negative rows, expected at least one of each:"
            " no threshold can be chosen; use more validation studies or leave this finding out"
        )
    true, called, values = _counts_at_thresholds(score, label)
    youden = true / positives - (called - true) / negatives
    reached = 2 * true / (called + positives) if rule == "f1" else youden
    best = int(np.argmax(np.round(reached, 12)))  # argmax takes the first, and thresholds fall: the highest of equals
    below = values[best + 1] if best + 1 < len(values) else values[best]
    return Threshold(float((values[best] + below) / 2), rule, float(reached[best]), len(label), int(positives))


@dataclass(frozen=True)
class Decision:
    """Counts of present/absent calls at one threshold, and the usual ratios (nan where the denominator is 0)."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def sensitivity(self) -> float:
        """True positives / all present."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """True negatives / all absent."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)


def decide(scores: ArrayLike, labels: ArrayLike, threshold: float) -> Decision:
    """Count calls at score >= threshold. Shapes: scores, labels (N,). Raises: as auroc."""
    score, label = _checked(scores, labels)
    called = score >= threshold
    present = label == 1
    return Decision(
        int((called & present).sum()),
        int((called & ~present).sum()),
        int((~called & present).sum()),
        int((~called & ~present).sum()),
    )


def roc_points(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """False and true positive rates at every distinct threshold, from (0, 0) to (1, 1); empty with one class.

    Shapes: scores, labels (N,) -> two arrays (T,). Raises: as auroc.
    """
    score, label = _checked(scores, labels)
    positives, negatives = label.sum(), (1 - label).sum()
    if positives == 0 or negatives == 0:
        return np.empty(0), np.empty(0)
    true, called, _ = _counts_at_thresholds(score, label)
    zero = np.zeros(1)
    return np.concatenate([zero, (called - true) / negatives]), np.concatenate([zero, true / positives])


def _auroc(score: Floats, label: Floats) -> float:
    positive = label == 1
    wins = score[positive]
    negative = np.sort(score[~positive])
    if wins.size == 0 or negative.size == 0:
        return math.nan
    # Twice the number of pairs won, a tied pair counting once: integers, so no rounding.
    pairs = np.searchsorted(negative, wins, "left").sum() + np.searchsorted(negative, wins, "right").sum()
    return float(pairs / (2 * wins.size * negative.size))


def _counts_at_thresholds(score: Floats, label: Floats) -> tuple[Floats, Floats, Floats]:
    """True positives, calls and the threshold itself, at each distinct score, highest first."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # last row of each run of equal scores
    true = np.cumsum(label[order])[last]
    return true, (last + 1).astype(np.float64), ranked[last]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _known(score: Floats, label: Floats) -> tuple[Floats, Floats]:
    known = ~np.isnan(label)
    score, label = score[known], label[known]
    if not np.isfinite(score).all():
        raise ValueError(f"{(~np.isfinite(score)).sum()} of {score.size} scores are not finite, expected numbers")
    return score, label


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    score = np.asarray(scores, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    if score.ndim != 1 or score.shape != label.shape:
        raise ValueError(f"scores {score.shape} and labels {label.shape} must share one shape (N,)")
    _check_labels(label)
    return _known(score, label)


def _checked_table(scores: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> tuple[Floats, Floats]:
    score = np.asarray(scores, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    if score.ndim != 2 or score.shape != label.shape or score.shape[1] != len(names):
        raise ValueError(f"scores {score.shape} and labels {label.shape} must both be (N, {len(names)})")
    _check_labels(label)
    return score, label


def _check_labels(label: Floats) -> None:
    strange = label[~np.isnan(label) & (label != 0) & (label != 1)]
    if strange.size:
        raise ValueError(
            f"labels hold {sorted(set(strange.tolist()))[:5]}, expected 1 (present), 0 (absent) or nan (unknown);"
            " decide first what an uncertain label counts as, and name it in the metric's variant"
        )


def _checked_probabilities(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    probability, label = _checked(probabilities, labels)
    if probability.size and (probability.min() < 0 or probability.max() > 1):
        raise ValueError(
            f"probabilities range from {probability.min():.3g} to {probability.max():.3g}, expected [0, 1]; pass"
            " probabilities, not logits"
        )
    return probability, label
