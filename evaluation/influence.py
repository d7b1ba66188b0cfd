"""Estimates that remember how much each patient moved them, so that differences need no resampling.

The variance of an AUROC, a rate, a mean of them or a difference between any two on the same patients is the sum of
squared influences of the patients. It takes one pass where a bootstrap takes a thousand, so that hundreds of
comparisons can be afforded.

Source: Obuchowski 1997, doi:10.2307/2533958 (AUROC of clustered data); DeLong et al. 1988, doi:10.2307/2531595, is
the case of one row a patient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from evaluation.intervals import effective_degrees
from evaluation.labelled import Floats, known_rows
from evaluation.multiplicity import holm

_MISPLACED = 0.5
"""No AUROC is surer than if half a patient of its smallest class were misplaced: a perfect one of ten positives has
influences of 0, which would make it certain."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value and the influence (G,) of each patient on it, in the patient order that the caller fixed.

    `n` counts rows; `smallest` is the number of patients in the smallest class that it rests on; `lack` is the variance
    that so few must have and the influences do not show. Estimates on the same patients may be subtracted: what they
    share cancels.
    """

    value: float
    influence: Floats
    n: int
    smallest: int
    lack: float = 0.0

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference on the same rows. What the influences do not show is shared as far as the influences are."""
        found = combine((self, other), (1.0, -1.0))
        whole = _spread(self.influence) + _spread(other.influence)
        apart = min(1.0, _spread(found.influence) / whole) if whole > 0 else float(self.value != other.value)
        return replace(found, lack=found.lack * apart)

    def minus_apart(self, other: Estimate) -> Estimate:
        """The difference between two sets of rows, whose n add up; their patients may be the same."""
        return combine((self, other), (1.0, -1.0), n=self.n + other.n)

    @property
    def error(self) -> float:
        """Standard error; nan where fewer than two patients are in a class."""
        if self.smallest < 2 or math.isnan(self.value):
            return math.nan
        return math.sqrt(_spread(self.influence) + self.lack)

    def p_above(self, margin: float) -> float:
        """One-sided p of "the truth is at most `margin`" (Student t); 1 where it is unknown."""
        return self._p(self.value - margin)

    def p_below(self, margin: float) -> float:
        """One-sided p of "the truth is at least `margin`"; 1 where it is unknown."""
        return self._p(margin - self.value)

    def _p(self, beyond: float) -> float:
        error = self.error
        if math.isnan(error) or error == 0:
            return 0.0 if error == 0 and beyond > 0 else 1.0
        return float(student.sf(beyond / error, effective_degrees(self.influence)))

    def bounds(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval by Student t; nan where it is unknown."""
        error = self.error
        if math.isnan(error):
            return math.nan, math.nan
        reach = float(student.ppf((1 + level) / 2, effective_degrees(self.influence))) * error
        return self.value - reach, self.value + reach


def auroc_estimate(scores: ArrayLike, labels: ArrayLike, patients: ArrayLike, count: int) -> Estimate:
    """AUROC with influences. Shapes: scores, labels (N,), nan labels left out; patients (N,) numbers below `count`.

    nan with one class. Raises: ValueError for scores of known rows that are not finite.
    """
    label = np.asarray(labels, dtype=np.float64)
    who = np.asarray(patients, dtype=np.intp)[~np.isnan(label)]
    score, label = known_rows(np.asarray(scores, dtype=np.float64), label)
    return separation(score[label == 1], score[label == 0], who[label == 1], who[label == 0], count)


def separation(high: Floats, low: Floats, who_high: ArrayLike, who_low: ArrayLike, count: int) -> Estimate:
    """P(high > low) + P(equal) / 2 of two sets of scores (P,), (Q,) with the patient of each; nan if one is empty."""
    n = high.size + low.size
    first, second = np.asarray(who_high, dtype=np.intp), np.asarray(who_low, dtype=np.intp)
    smallest = min(how_many(first, count), how_many(second, count))
    if smallest == 0:
        return Estimate(math.nan, np.zeros(count), n, 0)
    won, lost = _wins(high, np.sort(low)), 1 - _wins(low, np.sort(high))
    value = float(won.mean())
    pull = _per_patient((won - value) / high.size, first, count) + _per_patient(
        (lost - value) / low.size, second, count
    )
    return Estimate(value, pull, n, smallest, max(0.0, _MISPLACED / smallest**2 - _spread(pull)))


def rate_estimate(values: ArrayLike, patients: ArrayLike, count: int) -> Estimate:
    """Mean of values (N,) without their nan entries; patients (N,) are numbers below `count`. nan without a value.

    A share (values 0 and 1 only) is never surer than if two patients more had it and two more had not: 0 of 20 is not
    certainly 0. Source: Agresti and Coull 1998, doi:10.1080/00031305.1998.10480550.
    """
    given = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(given)
    given, who = given[known], np.asarray(patients, dtype=np.intp)[known]
    if given.size == 0:
        return Estimate(math.nan, np.zeros(count), 0, 0)
    value, people = float(given.mean()), how_many(who, count)
    pull = _per_patient((given - value) / given.size, who, count)
    drawn = (value * people + 2) / (people + 4)
    least = drawn * (1 - drawn) / (people + 4) if np.isin(given, (0, 1)).all() else 0.0
    return Estimate(value, pull, given.size, people, max(0.0, least - _spread(pull)))


def combine(parts: Sequence[Estimate], weights: Sequence[float] | None = None, n: int | None = None) -> Estimate:
    """A weighted sum of estimates on the same patients, by default their mean.

    `n` of the result is the largest of the parts unless given; `smallest` is that of the weakest part.
    Raises: ValueError if there are no parts or their patients differ in number.
    """
    if not parts or len({part.influence.size for part in parts}) != 1:
        raise ValueError(f"{len(parts)} estimates, expected at least 1, all over the same numbered patients")
    shares = [1 / len(parts)] * len(parts) if weights is None else list(weights)
    influence = np.sum([share * part.influence for share, part in zip(shares, parts, strict=True)], axis=0)
    lack = sum(share**2 * part.lack for share, part in zip(shares, parts, strict=True))
    value = sum(share * part.value for share, part in zip(shares, parts, strict=True))
    rows = max(part.n for part in parts) if n is None else n
    return Estimate(float(value), influence, rows, min(part.smallest for part in parts), lack)


def holm_by_name(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values by name: reject those at most alpha, and the chance of any false rejection is alpha."""
    return dict(zip(p_values, holm(list(p_values.values())).tolist(), strict=True)) if p_values else {}


def how_many(who: NDArray[np.intp], count: int) -> int:
    """Different patients among numbers (M,) below `count`."""
    return int(np.count_nonzero(np.bincount(who, minlength=count)))


def _wins(scores: Floats, ranked: Floats) -> Floats:
    """Share of `ranked` below each score, equal ones counting half."""
    pairs = np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")
    return np.asarray(pairs / (2 * ranked.size))


def _per_patient(values: Floats, who: NDArray[np.intp], count: int) -> Floats:
    return np.asarray(np.bincount(who, values, count), dtype=np.float64)


def _spread(influence: Floats) -> float:
    """Sum of squared influences, with the usual correction for the number of patients who have one."""
    patients = np.count_nonzero(influence)
    return float(influence @ influence) * (patients / (patients - 1) if patients > 1 else 1.0)
