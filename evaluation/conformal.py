"""Sets of answers with a promised coverage, from calibration studies that are exchangeable with the new ones.

The promise is marginal: over draws of calibration and new patients together. It breaks when the new hospital differs,
and it does not say that each patient is covered. Several studies of one patient are not exchangeable with a new
patient's, so calibration keeps one study a patient, drawn by a seed (Dunn et al. 2022, arXiv:1809.07441, "subsampling
once").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.labelled import Floats, numbered_patients
from evaluation.thresholds import refuse_test_split


@dataclass(frozen=True)
class ConformalSets:
    """Labels with 1 - p(label) <= quantile are in the set. `quantiles` (C,): one for each class, equal if marginal.

    inf says that calibration held too few rows of that class for the promise: the label is then in every set. `n` (C,)
    counts the calibration rows behind each quantile.
    """

    quantiles: tuple[float, ...]
    alpha: float
    n: tuple[int, ...]
    split: str
    by_class: bool

    def sets(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """Which labels are in the set: (N, C) probabilities to (N, C). An empty set says "none of these fits"."""
        table = _probability_table(probabilities)
        if table.shape[1] != len(self.quantiles):
            raise ValueError(f"probabilities have {table.shape[1]} classes, expected {len(self.quantiles)}")
        # the same rounding as in calibration: 1 - p, never p >= 1 - quantile
        return 1 - table <= np.array(self.quantiles)

    def variant(self) -> str:
        """Words for a metric's variant."""
        kind = "class-conditional" if self.by_class else "marginal"
        return f"split conformal, {kind}, score 1 - p(label), alpha {self.alpha:g}, {min(self.n)} rows of {self.split}"


@dataclass(frozen=True)
class Coverage:
    """Sets on labelled rows: the share that holds the truth, also by class, mean size, share of single and empty
    sets."""

    covered: float
    by_class: tuple[float, ...]
    size: float
    single: float
    empty: float
    n: int


def fit_conformal(
    probabilities: ArrayLike,
    classes: ArrayLike,
    alpha: float = 0.1,
    patients: Sequence[Hashable] | None = None,
    by_class: bool = False,
    split: str = "validation",
    seed: int = 0,
) -> ConformalSets:
    """Split conformal sets: a new patient's true class is in its set with probability >= 1 - alpha.

    Shapes: probabilities (N, C), or (N,) of "present" for two classes; classes (N,) of 0 to C - 1, nan left out.
    by_class promises it for each class by itself, as a screening of rare findings needs. patients (N,) keeps one row
    for each patient; None takes rows as patients.
    Source: Vovk et al. 2005; Sadinle et al. 2019, arXiv:1609.00451 (the score); Vovk 2012 (by class).
    Raises: ValueError on unequal lengths, alpha outside (0, 1), probabilities outside [0, 1], or the split "test".
    """
    refuse_test_split(split, "a conformal quantile")
    _check_alpha(alpha)
    table = _probability_table(probabilities)
    label = _classes(classes, table)
    keep = _one_each(np.flatnonzero(label >= 0), patients, len(label), seed)
    table, label = table[keep], label[keep]
    scores = 1 - table[np.arange(len(label)), label]
    if not by_class:
        found = conformal_quantile(scores, alpha)
        return ConformalSets((found,) * table.shape[1], alpha, (len(label),) * table.shape[1], split, False)
    parts = [scores[label == k] for k in range(table.shape[1])]
    return ConformalSets(
        tuple(conformal_quantile(part, alpha) for part in parts), alpha, tuple(map(len, parts)), split, True
    )


def conformal_quantile(scores: ArrayLike, alpha: float) -> float:
    """The ceil((n + 1) (1 - alpha))-th smallest score; inf where that is more than n. Shapes: (n,)."""
    _check_alpha(alpha)
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if np.isnan(ordered).any():
        raise ValueError("scores hold nan, expected numbers: leave out rows without a score")
    rank = math.ceil((ordered.size + 1) * (1 - alpha) - 1e-9)  # (n + 1) x 0.9 may end in ...0001
    return float(ordered[rank - 1]) if rank <= ordered.size else math.inf


def set_coverage(sets: ArrayLike, classes: ArrayLike) -> Coverage:
    """Coverage and size of sets (N, C) against classes (N,), nan left out; nan values without rows.

    Raises: ValueError on unequal lengths or classes out of range.
    """
    held = np.asarray(sets, dtype=bool)
    if held.ndim != 2:
        raise ValueError(f"sets have shape {held.shape}, expected (N, C)")
    label = _classes(classes, held.astype(np.float64))
    known = label >= 0
    held, label = held[known], label[known]
    if label.size == 0:
        return Coverage(math.nan, (math.nan,) * held.shape[1], math.nan, math.nan, math.nan, 0)
    hit, size = held[np.arange(label.size), label], held.sum(axis=1)
    by_class = tuple(float(hit[label == k].mean()) if (label == k).any() else math.nan for k in range(held.shape[1]))
    return Coverage(
        float(hit.mean()),
        by_class,
        float(size.mean()),
        float((size == 1).mean()),
        float((size == 0).mean()),
        label.size,
    )


@dataclass(frozen=True)
class RiskControl:
    """A threshold whose expected loss on a new patient is at most alpha. None: no threshold on the list keeps that."""

    threshold: float | None
    alpha: float
    risk: float
    patients: int
    split: str


def control_risk(
    losses: Callable[[float], ArrayLike],
    thresholds: ArrayLike,
    alpha: float = 0.1,
    patients: Sequence[Hashable] | None = None,
    largest_loss: float = 1.0,
    split: str = "validation",
) -> RiskControl:
    """Conformal risk control: the largest threshold whose bounded risk, and that of all lower ones, stays below alpha.

    losses(threshold) gives a loss in [0, largest_loss] for each calibration row (N,), nan where it says nothing; a
    lower threshold must not lose more (a false negative rate does not). The loss of a patient is the mean over their
    rows, so the promise is about the next patient's mean loss. It holds when G / (G + 1) x risk + largest_loss / (G +
    1) <= alpha.
    Source: Angelopoulos et al. 2022, arXiv:2208.02814, theorem 1.
    Raises: ValueError for alpha outside (0, largest_loss), losses out of range or that fall, or the split "test".
    """
    refuse_test_split(split, "a risk threshold")
    if not 0 < alpha < largest_loss:
        raise ValueError(f"alpha is {alpha}, expected between 0 and the largest loss {largest_loss}")
    best, reached, before, people = None, math.nan, -math.inf, 0
    for threshold in np.unique(np.asarray(thresholds, dtype=np.float64)).tolist():  # lowest first: the safest
        means = _patient_losses(losses(threshold), patients, largest_loss)
        people = len(means)
        risk = float(means.mean()) if people else math.nan
        if risk < before - 1e-9:
            raise ValueError(
                f"the risk falls from {before:.4g} to {risk:.4g} at threshold {threshold:g}, expected it to grow with"
                " the threshold; conformal risk control does not hold for such a loss"
            )
        if not people or (people * risk + largest_loss) / (people + 1) > alpha:
            break
        best, reached, before = threshold, risk, risk
    return RiskControl(best, alpha, reached, people, split)


def missed_share(scores: ArrayLike, labels: ArrayLike) -> Callable[[float], Floats]:
    """The loss "share of a study's present findings that score below the threshold", for control_risk.

    Shapes: scores, labels (N, K); nan labels are left out, and a study without a present finding loses nothing: it is
    0, so the promise is about all studies, and over those with a finding only after dropping the others.
    """
    score, present = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64) == 1
    if score.ndim != 2 or score.shape != present.shape:
        raise ValueError(f"scores {score.shape} and labels {present.shape} must share one shape (N, K)")

    def losses(threshold: float) -> Floats:
        missed = (present & ~(score >= threshold)).sum(axis=1)
        return missed / np.maximum(present.sum(axis=1), 1)

    return losses


def _patient_losses(losses: ArrayLike, patients: Sequence[Hashable] | None, largest: float) -> Floats:
    lost = np.asarray(losses, dtype=np.float64)
    who = np.arange(lost.size) if patients is None else numbered_patients(patients, lost.size)
    known = ~np.isnan(lost)
    if known.any() and (lost[known].min() < 0 or lost[known].max() > largest + 1e-12):
        raise ValueError(f"losses range to {lost[known].max():.4g}, expected from 0 to {largest}")
    _, number = np.unique(who[known], return_inverse=True)
    return np.bincount(number, lost[known]) / np.bincount(number) if number.size else np.empty(0)


def _one_each(rows: NDArray[np.intp], patients: Sequence[Hashable] | None, total: int, seed: int) -> NDArray[np.intp]:
    """One row of each patient among `rows`, by a seeded shuffle; all of them without patients."""
    if patients is None:
        return rows
    who = numbered_patients(patients, total)
    shuffled = np.random.default_rng(seed).permutation(rows)
    _, first = np.unique(who[shuffled], return_index=True)
    return np.sort(shuffled[first])


def _probability_table(probabilities: ArrayLike) -> Floats:
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim == 1:
        table = np.column_stack([1 - table, table])
    if table.ndim != 2 or not np.isfinite(table).all() or (table.size and (table.min() < 0 or table.max() > 1)):
        raise ValueError(f"probabilities of shape {table.shape} must be (N, C) or (N,), finite and in [0, 1]")
    return table


def _classes(classes: ArrayLike, table: Floats) -> NDArray[np.intp]:
    """Class numbers (N,), -1 where unknown."""
    given = np.asarray(classes, dtype=np.float64)
    if given.shape != table.shape[:1]:
        raise ValueError(f"classes {given.shape} must have one entry for each of {len(table)} rows")
    known = ~np.isnan(given)
    if not np.isin(given[known], np.arange(table.shape[1])).all():
        raise ValueError(f"classes hold other values than 0 to {table.shape[1] - 1} and nan")
    return np.where(known, given, -1).astype(np.intp)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, expected between 0 and 1")
