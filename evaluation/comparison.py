"""Two models on the same patients: is the difference more than luck?

Both tests keep what the models share. The bootstrap resamples patients and gives an interval; the permutation test
swaps the two models' answers within whole patients, so it is exact under the hypothesis that the models are
interchangeable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evaluation.intervals import Interval, Method, interval, patient_counts
from evaluation.labelled import Floats, numbered_patients
from evaluation.weighted import Weighted, patient_draws, weighted_difference, weighted_mean, without_each_patient


@dataclass(frozen=True)
class PairedTest:
    """first - second with its interval, a two-sided p-value, and how both were made."""

    difference: Interval
    p: float
    variant: str


def bootstrap_test(
    first: Weighted,
    second: Weighted,
    groups: Sequence[Hashable],
    n: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> PairedTest:
    """Paired cluster bootstrap of two statistics from evaluation.weighted; groups (R,) is the patient of each row.

    p is twice the smaller share of resamples on one side of 0, those at 0 on both, with one added to count and total:
    the level at which the percentile interval would touch 0. It cannot be below 2 / (n + 1).
    nan for fewer than two patients. Source: Efron and Tibshirani 1993, chapter 15; Davison and Hinkley 1997, chapter 4.
    Raises: ValueError if there are no rows, a row has no patient, or n or level is out of range.
    """
    if len(groups) == 0 or n < 1 or not 0 < level < 1:
        raise ValueError(f"there are {len(groups)} rows, n is {n}, level {level}; expected rows, n >= 1 and a share")
    patient = numbered_patients(groups, len(groups))
    people, both = int(patient.max()) + 1, weighted_difference(first, second)
    value = float(both(np.ones((1, patient.size)))[0])
    variant = f"paired bootstrap over patients, {n} resamples, {method}"
    if people < 2:
        return PairedTest(Interval(value, math.nan, math.nan, patient.size, people, method=method), math.nan, variant)
    drawn = np.concatenate([both(weights) for weights in patient_draws(patient, n, seed)])
    left = np.empty(0)
    if method != "percentile":
        left = np.concatenate([both(weights) for weights in without_each_patient(patient)])
    found = interval(value, drawn, left, level, patient.size, people, method)
    return PairedTest(found, crossing_p(drawn, 0.0), variant)


def crossing_p(drawn: Floats, at: float) -> float:
    """Two-sided p-value of "the true value is `at`" from resampled values; undefined (nan) ones are left out."""
    known = drawn[np.isfinite(drawn)]
    if known.size == 0:
        return math.nan
    side = min(int((known <= at).sum()), int((known >= at).sum()))
    return min(1.0, 2 * (side + 1) / (known.size + 1))


def permutation_test(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Callable[[Floats], float],
    groups: Sequence[Hashable],
    n: int = 2000,
    seed: int = 0,
) -> PairedTest:
    """Swap both models' answers within whole patients, and see how often the difference is as large as it was.

    Shapes: first, second (R,) or (R, K), answers of the models to the same rows; statistic maps such a table to a
    number. Answers must mean the same for both models: for a ranking statistic pass ranks or calibrated probabilities,
    since mixing raw scores on two scales changes the ranking. The interval is nan: the test has none.
    Source: Good 2005, Permutation Tests, chapter 3; p has one added to count and total (Phipson and Smyth 2010).
    Raises: ValueError on unequal shapes, no rows, rows without a patient, or n < 1.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim not in (1, 2) or len(one) == 0 or n < 1:
        raise ValueError(f"first {one.shape} and second {other.shape} must share one shape with a row, and n be >= 1")
    patient = numbered_patients(groups, len(one))
    people = int(patient.max()) + 1
    value = statistic(one) - statistic(other)
    generator, as_large, defined = np.random.default_rng(seed), 0, 0
    for _ in range(n):
        swap = (generator.random(people) < 0.5)[patient].reshape(-1, *[1] * (one.ndim - 1))
        found = statistic(np.where(swap, other, one)) - statistic(np.where(swap, one, other))
        defined += int(math.isfinite(found))
        as_large += int(abs(found) >= abs(value) - 1e-12)
    bounds = Interval(value, math.nan, math.nan, len(one), people, n - defined, "none")
    p = (as_large + 1) / (defined + 1) if math.isfinite(value) else math.nan
    return PairedTest(bounds, p, f"permutation of models within patients, {n} draws")


def sign_flip_test(
    first: ArrayLike, second: ArrayLike, groups: Sequence[Hashable], n: int = 10000, seed: int = 0
) -> PairedTest:
    """The permutation test of two means, by one matrix product: values (R,) of both models, nan left out in pairs.

    All 2^G swaps are counted where they are no more than n; then p is exact. The interval is the percentile
    bootstrap's.
    Raises: as permutation_test.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or one.size == 0 or n < 1:
        raise ValueError(
            f"first {one.shape} and second {other.shape} must share one shape (R,) with a row, and n be >= 1"
        )
    patient = numbered_patients(groups, one.size)
    gain = np.where(np.isfinite(one - other), one - other, np.nan)
    known = ~np.isnan(gain)
    if not known.any():
        return PairedTest(Interval(math.nan, math.nan, math.nan, 0, 0), math.nan, "sign flips over patients, no rows")
    _, number = np.unique(patient[known], return_inverse=True)
    excess = np.bincount(number, gain[known])
    people, total = excess.size, float(excess.sum())
    if 2**people <= n:
        signs = 1.0 - 2.0 * ((np.arange(2**people)[:, None] >> np.arange(people)) & 1)
        p = float((np.abs(signs @ excess) >= abs(total) - 1e-9 * np.abs(excess).sum()).mean())
        variant = f"all {2**people} sign flips over patients (exact)"
    else:
        flips = np.random.default_rng(seed).integers(0, 2, (n, people)) * 2.0 - 1.0
        count = int((np.abs(flips @ excess) >= abs(total) - 1e-9 * np.abs(excess).sum()).sum())
        p, variant = (count + 1) / (n + 1), f"{n} random sign flips over patients"
    sizes = np.bincount(number).astype(np.float64)
    drawn = np.concatenate([(w @ excess) / (w @ sizes) for w in patient_counts(people, 2000, seed)])
    found = interval(float(gain[known].mean()), drawn, np.empty(0), 0.95, int(known.sum()), people)
    return PairedTest(found, p, variant)


def paired_mean_test(
    first: ArrayLike, second: ArrayLike, groups: Sequence[Hashable], n: int = 2000, seed: int = 0, level: float = 0.95
) -> PairedTest:
    """bootstrap_test of two means over the rows where both models have a value; first, second (R,)."""
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"first {one.shape} and second {other.shape} must share one shape (R,): the same cases")
    both = np.isfinite(one) & np.isfinite(other)
    one, other = np.where(both, one, np.nan), np.where(both, other, np.nan)
    return bootstrap_test(weighted_mean(one), weighted_mean(other), groups, n, seed, level)
