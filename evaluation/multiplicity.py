"""Many findings, many tests: p-values adjusted so that a table of them keeps its promise.

Holm bounds the chance of one false alarm in the table; Benjamini-Hochberg bounds the expected share of false alarms
among the alarms (for tests that are independent or positively related), Benjamini-Yekutieli the same under any
dependence. An adjusted p-value below alpha is an alarm at level alpha. A test without a p-value (nan) stays nan and is
not counted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from evaluation.labelled import Floats


def bonferroni(p_values: ArrayLike) -> Floats:
    """p x number of tests, at most 1. Shapes: (T,) to (T,). Raises: ValueError for values outside [0, 1]."""
    return _adjusted(p_values, lambda p: p * p.size)


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down, never weaker than Bonferroni. Shapes, errors: as bonferroni. Source: Holm 1979."""
    return _adjusted(p_values, lambda p: np.maximum.accumulate(p * np.arange(p.size, 0, -1)))


def hochberg(p_values: ArrayLike) -> Floats:
    """Hochberg's step-up, for independent or positively related tests. Source: Hochberg 1988,
    doi:10.1093/biomet/75.4.800."""
    return _adjusted(p_values, lambda p: _from_the_right(p * np.arange(p.size, 0, -1)))


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """False discovery rate. Shapes, errors: as bonferroni. Source: Benjamini and Hochberg 1995 (JRSS B 57: 289)."""
    return _adjusted(p_values, lambda p: _from_the_right(p * p.size / np.arange(1, p.size + 1)))


def benjamini_yekutieli(p_values: ArrayLike) -> Floats:
    """False discovery rate under any dependence. Source: Benjamini and Yekutieli 2001, doi:10.1214/aos/1013699998."""

    def adjust(p: Floats) -> Floats:
        rank = np.arange(1, p.size + 1)
        return _from_the_right(p * p.size * (1 / rank).sum() / rank)

    return _adjusted(p_values, adjust)


def _adjusted(p_values: ArrayLike, adjust: Callable[[Floats], Floats]) -> Floats:
    given = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(given)
    p = given[known]
    if given.ndim != 1 or (p.size and (p.min() < 0 or p.max() > 1)):
        raise ValueError(f"p-values of shape {given.shape} must be (T,) and in [0, 1], nan where there is none")
    found = np.full(given.shape, np.nan)
    if p.size:
        order = np.argsort(p, kind="stable")
        moved = np.empty(p.size)
        moved[order] = np.minimum(adjust(p[order]), 1.0)
        found[known] = moved
    return found


def _from_the_right(values: Floats) -> Floats:
    return np.minimum.accumulate(values[::-1])[::-1]
