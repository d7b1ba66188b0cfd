"""Patient-level intervals of common statistics in one sweep: a resample is a weight for each row, not a list of rows.

A patient drawn twice weighs 2, one not drawn weighs 0. A statistic here maps weights (B, R) to values (B,), so a block
of resamples costs a few array operations, and the jackknife of BCa is one more block. The draws are those of
evaluation.intervals with the same seed, and so are the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.intervals import Interval, Method, interval, patient_counts
from evaluation.labelled import Floats, labelled_probabilities, labelled_table, numbered_patients, refuse_strange_labels

Weighted = Callable[[Floats], Floats]
"""Row weights (B, R) to values (B,), nan where undefined."""

_CELLS = 1 << 17
"""Weights held at a time: 1 MB, which stays in a processor's cache."""


def weighted_bootstrap(
    statistics: Mapping[str, Weighted],
    groups: Sequence[Hashable],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> dict[str, Interval]:
    """Intervals of weighted statistics from one set of resampled patients; groups (R,) is the patient of each row.

    nan bounds for fewer than two patients. Raises: ValueError if there are no rows, a row has no patient, or n, level
    or method is out of range.
    """
    if len(groups) == 0:
        raise ValueError("there are 0 rows, expected at least one study: check the split and the filters")
    if n < 1 or not 0 < level < 1 or method not in ("percentile", "bca", "expanded"):
        raise ValueError(
            f"n is {n}, level {level}, method {method!r}; expected n >= 1, a share, percentile, bca or expanded"
        )
    patient = numbered_patients(groups, len(groups))
    people = int(patient.max()) + 1
    drawn = _values(statistics, patient_draws(patient, n, seed)) if people > 1 else {}
    left = _values(statistics, without_each_patient(patient)) if people > 1 and method != "percentile" else {}
    whole, none = np.ones((1, len(groups))), np.empty(0)
    return {
        name: interval(
            float(statistic(whole)[0]), drawn.get(name, none), left.get(name, none), level, len(groups), people, method
        )
        for name, statistic in statistics.items()
    }


def patient_draws(patient: NDArray[np.intp], n: int, seed: int) -> Iterator[Floats]:
    """Row weights of n resamples of patients as blocks (B, R), from the patient number of each row (R,)."""
    people = int(patient.max()) + 1
    for counts in patient_counts(people, n, seed, max(people, _CELLS * people // patient.size)):
        yield counts[:, patient]


def weighted_mean(values: ArrayLike) -> Weighted:
    """The mean of values (R,) without its nan entries; nan when no weight is left."""
    given = np.asarray(values, dtype=np.float64)
    return weighted_ratio(np.where(np.isnan(given), 0, given), ~np.isnan(given))


def weighted_ratio(above: ArrayLike, below: ArrayLike) -> Weighted:
    """Sum of `above` / sum of `below`, both (R,) and known: sensitivity, F1 (2 TP over 2 TP + FP + FN), micro
    averages."""
    top, bottom = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    if top.ndim != 1 or top.shape != bottom.shape:
        raise ValueError(f"above {top.shape} and below {bottom.shape} must share one shape (R,)")
    if not (np.isfinite(top).all() and np.isfinite(bottom).all()):
        raise ValueError(
            "above or below holds nan or infinity, expected numbers: put 0 in both for rows that do not count"
        )

    def statistic(weights: Floats) -> Floats:
        return _divide(weights @ top, weights @ bottom)

    return statistic


def weighted_auroc(scores: ArrayLike, labels: ArrayLike) -> Weighted:
    """AUROC (ties count half), nan where a resample has one class only. Shapes: (R,), labels 1, 0 or nan (left out).

    Raises: as auroc.
    """
    score, label, kept = _known(scores, labels)
    positive, negative = kept[label == 1], kept[label == 0]
    ranked = np.sort(score[label == 0])
    negative = negative[np.argsort(score[label == 0], kind="stable")]
    below, upto = (np.searchsorted(ranked, score[label == 1], side) for side in ("left", "right"))
    tied = bool((below != upto).any())

    def statistic(weights: Floats) -> Floats:
        present, absent = weights[:, positive], weights[:, negative]
        beaten = np.zeros((len(weights), negative.size + 1))  # weight of the negatives below each place
        np.cumsum(absent, axis=1, out=beaten[:, 1:])
        wins = np.einsum("bp,bp->b", present, beaten[:, below])
        if tied:
            wins = (wins + np.einsum("bp,bp->b", present, beaten[:, upto])) / 2
        return _divide(wins, present.sum(1) * beaten[:, -1])

    return statistic


def weighted_average_precision(scores: ArrayLike, labels: ArrayLike) -> Weighted:
    """Average precision by steps, nan where a resample has no positive. Shapes, errors: as weighted_auroc."""
    score, label, kept = _known(scores, labels)
    order = np.argsort(-score, kind="stable")
    rows, positive = kept[order], label[order]
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf)) if score.size else np.zeros(0, dtype=np.intp)

    def statistic(weights: Floats) -> Floats:
        if rows.size == 0:
            return np.full(len(weights), math.nan)
        ranked = weights[:, rows]
        found = np.add.reduceat(ranked * positive, starts, axis=1)
        called = np.cumsum(np.add.reduceat(ranked, starts, axis=1), axis=1)
        true = np.cumsum(found, axis=1)
        precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
        return _divide((found * precision).sum(1), true[:, -1])

    return statistic


def weighted_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> Weighted:
    """Calibration error in `bins` bins of equal width. Resampling inflates it: see the card's note on its interval.

    Shapes, errors: as brier. nan without rows.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least 1")
    labelled_probabilities(probabilities, labels)
    probability, label, kept = _known(probabilities, labels)
    place = np.minimum((probability * bins).astype(np.intp), bins - 1)
    member = (place[:, None] == np.arange(bins)).astype(np.float64)  # (M, bins)

    def statistic(weights: Floats) -> Floats:
        gap = (weights[:, kept] * (label - probability)) @ member
        return _divide(np.abs(gap).sum(1), weights[:, kept].sum(1))

    return statistic


def weighted_macro(parts: Sequence[Weighted]) -> Weighted:
    """The mean of statistics that are defined in that resample (nan ones are left out of its mean)."""

    def statistic(weights: Floats) -> Floats:
        table = np.stack([part(weights) for part in parts]) if parts else np.empty((0, len(weights)))
        known = ~np.isnan(table)
        return _divide(np.where(known, table, 0).sum(0), known.sum(0).astype(np.float64))

    return statistic


def weighted_macro_auroc(scores: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> Weighted:
    """Mean AUROC over findings with both classes in the resample. Shapes: (R, K), names (K,). Raises: as
    macro_auroc."""
    score, label = labelled_table(scores, labels, names)
    return weighted_macro([weighted_auroc(score[:, k], label[:, k]) for k in range(len(names))])


def weighted_difference(first: Weighted, second: Weighted) -> Weighted:
    """first - second in the same resample: the paired difference."""

    def statistic(weights: Floats) -> Floats:
        return first(weights) - second(weights)

    return statistic


def without_each_patient(patient: NDArray[np.intp]) -> Iterator[Floats]:
    """Row weights with one patient after the other left out, as blocks (B, R): the jackknife over patients."""
    people, block = int(patient.max()) + 1, max(1, _CELLS // patient.size)
    for start in range(0, people, block):
        yield (np.arange(start, min(start + block, people))[:, None] != patient).astype(np.float64)


def _values(statistics: Mapping[str, Weighted], blocks: Iterable[Floats]) -> dict[str, Floats]:
    found: dict[str, list[Floats]] = {name: [] for name in statistics}
    for weights in blocks:
        for name, statistic in statistics.items():
            found[name].append(statistic(weights))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _known(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Scores, labels and row numbers (M,) of rows with a label, checked."""
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if score.ndim != 1 or score.shape != label.shape:
        raise ValueError(f"scores {score.shape} and labels {label.shape} must share one shape (N,)")
    refuse_strange_labels(label)
    kept = np.flatnonzero(~np.isnan(label))
    if not np.isfinite(score[kept]).all():
        raise ValueError(f"{(~np.isfinite(score[kept])).sum()} of {kept.size} scores are not finite, expected numbers")
    return score[kept], label[kept], kept


def _divide(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(above.shape, math.nan), where=below > 0)
