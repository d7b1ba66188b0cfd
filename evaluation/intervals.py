"""Confidence intervals by resampling patients, never studies.

Two studies of one patient are not two independent observations. The cluster bootstrap draws whole patients with
replacement, so an interval does not shrink because somebody was scanned ten times.

Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8 (hierarchical data); the interval
is the percentile interval of Efron and Tibshirani 1993, chapter 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.intp]
"""Row numbers of one resample, (M,); a patient drawn twice has each of their rows twice."""


@dataclass(frozen=True)
class Interval:
    """A value, its percentile interval, and what it rests on.

    `n` counts rows (studies, queries, boxes: whatever one row is), `groups` counts patients, `undefined` counts
    resamples in which the statistic was nan (a label without a positive, say) and which the interval leaves out.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int
    undefined: int = 0

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n={self.n}, {self.groups} patients)"


def patient_bootstrap(
    values: ArrayLike | Callable[[Rows], float],
    groups: Sequence[Hashable],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a mean, or of any statistic, when rows belong to patients.

    Shapes: values (R,), whose mean is taken without its nan entries (which do not count in `n`), or a function from row
    numbers (M,) to one number. groups (R,): the patient of each row.
    Returns nan bounds for fewer than two patients: one patient says nothing about the next.
    Raises: ValueError if the lengths differ, there are no rows, or n or level is out of range.
    """
    if callable(values):
        statistic = values
        return patient_bootstrap_many(lambda rows: {"": statistic(rows)}, groups, n, seed, level)[""]
    row_values = np.asarray(values, dtype=np.float64)
    if row_values.shape != (len(groups),):
        raise ValueError(f"values have shape {row_values.shape}, expected ({len(groups)},), as the groups")
    known = np.flatnonzero(np.isfinite(row_values))
    if known.size == 0:
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    kept, patients = row_values[known], [groups[row] for row in known.tolist()]
    return patient_bootstrap(lambda rows: float(kept[rows].mean()), patients, n, seed, level)


def patient_bootstrap_many(
    statistic: Callable[[Rows], Mapping[str, float]],
    groups: Sequence[Hashable],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of several statistics from one set of resamples, so that they can be read side by side.

    The statistic maps row numbers (M,) to named numbers; the names of the full data set are the ones reported.
    Raises: ValueError if there are no rows, or n or level is out of range.
    """
    if n < 1 or not 0 < level < 1:
        raise ValueError(f"n is {n} and level is {level}, expected n >= 1 and 0 < level < 1")
    rows_by_patient = _rows_by_patient(groups)
    full = dict(statistic(np.arange(len(groups))))
    drawn = {name: np.full(n, math.nan) for name in full}
    if len(rows_by_patient) > 1:
        for number, rows in enumerate(_resamples(rows_by_patient, n, seed)):
            found = statistic(rows)
            for name in full:
                drawn[name][number] = found.get(name, math.nan)
    return {
        name: _interval(value, drawn[name], level, len(groups), len(rows_by_patient)) for name, value in full.items()
    }


def paired_difference(
    first: Callable[[Rows], float],
    second: Callable[[Rows], float],
    groups: Sequence[Hashable],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of first - second on the same resamples: pairing removes what both share, such as an easy patient.

    Both statistics map row numbers (M,) to a number. An interval that leaves out 0 is a difference at that level.
    Raises: as patient_bootstrap.
    """
    return patient_bootstrap(lambda rows: first(rows) - second(rows), groups, n, seed, level)


def _rows_by_patient(groups: Sequence[Hashable]) -> list[Rows]:
    if len(groups) == 0:
        raise ValueError("there are 0 rows, expected at least one study: check the split and the filters")
    rows: dict[Hashable, list[int]] = {}
    for row, patient in enumerate(groups):
        rows.setdefault(patient, []).append(row)
    return [np.asarray(found, dtype=np.intp) for found in rows.values()]


def _resamples(rows_by_patient: list[Rows], n: int, seed: int) -> Iterator[Rows]:
    generator = np.random.default_rng(seed)
    flat = np.concatenate(rows_by_patient)
    one_row_each = len(flat) == len(rows_by_patient)  # then no lists need to be joined, which is most of the time
    for _ in range(n):
        patients = generator.integers(0, len(rows_by_patient), len(rows_by_patient))
        yield flat[patients] if one_row_each else np.concatenate([rows_by_patient[patient] for patient in patients])


def _interval(value: float, drawn: NDArray[np.float64], level: float, rows: int, patients: int) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if known.size == 0 or patients < 2:
        return Interval(float(value), math.nan, math.nan, rows, patients, drawn.size if patients > 1 else 0)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high), rows, patients, int(drawn.size - known.size))
