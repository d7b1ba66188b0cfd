"""Confidence intervals by resampling patients, never studies.

Two studies of one patient are not two independent observations. The cluster bootstrap draws whole patients with
replacement, so an interval does not shrink because somebody was scanned ten times.

"percentile" takes quantiles of the resampled values; it is too narrow for few patients. "expanded" takes quantiles
further out, as a t distribution is wider than a normal one, with degrees from how unequally patients matter. "bca"
shifts the quantiles for bias and skew. Both leave out one patient at a time besides. evaluation.weighted computes the
same intervals for common statistics in a fraction of the time, evaluation.jackknife others without resampling.

Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8 (hierarchical data); Efron and
Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 (percentile) and 14 (BCa); Hesterberg 2015,
doi:10.1080/00031305.2015.1089789 (expanded).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from evaluation.labelled import numbered_patients

Method = Literal["percentile", "bca", "expanded"]
Rows = NDArray[np.intp]
"""Row numbers of one resample, (M,); a patient drawn twice has each of their rows twice."""


@dataclass(frozen=True)
class Interval:
    """A value, its interval, and what it rests on.

    `n` counts rows (studies, queries, boxes: whatever one row is), `groups` counts patients, `undefined` counts
    resamples in which the statistic was nan (a label without a positive, say) and which the interval leaves out.
    `method` names the interval: percentile, expanded, bca, t (cluster-robust), and so on.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int
    undefined: int = 0
    method: str = "percentile"

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n={self.n}, {self.groups} patients)"


def patient_bootstrap(
    values: ArrayLike | Callable[[Rows], float],
    groups: Sequence[Hashable],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> Interval:
    """Interval of a mean, or of any statistic, when rows belong to patients.

    Shapes: values (R,), whose mean is taken without its nan entries (which do not count in `n`), or a function from row
    numbers (M,) to one number. groups (R,): the patient of each row.
    Returns nan bounds for fewer than two patients: one patient says nothing about the next.
    Raises: ValueError if the lengths differ, there are no rows, a row has no patient, or n or level is out of range.
    """
    if callable(values):
        statistic = values
        return patient_bootstrap_many(lambda rows: {"": statistic(rows)}, groups, n, seed, level, method)[""]
    row_values = np.asarray(values, dtype=np.float64)
    if row_values.shape != (len(groups),):
        raise ValueError(f"values have shape {row_values.shape}, expected ({len(groups)},), as the groups")
    known = np.flatnonzero(np.isfinite(row_values))
    _check_call(n, level, method)
    if known.size == 0:
        return Interval(math.nan, math.nan, math.nan, 0, 0, method=method)
    kept = row_values[known]
    patient = numbered_patients([groups[row] for row in known.tolist()], known.size)
    sums, counts = np.bincount(patient, kept), np.bincount(patient).astype(np.float64)
    value = float(kept.mean())
    # The mean of a resample needs only how often each patient was drawn: their sums and counts do the rest.
    drawn = np.concatenate([(w @ sums) / (w @ counts) for w in patient_counts(counts.size, n, seed)])
    left = np.empty(0)
    if method != "percentile" and counts.size > 1:
        left = (kept.sum() - sums) / (kept.size - counts)
    return interval(value, drawn, left, level, known.size, counts.size, method)


def patient_bootstrap_many(
    statistic: Callable[[Rows], Mapping[str, float]],
    groups: Sequence[Hashable],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> dict[str, Interval]:
    """Intervals of several statistics from one set of resamples, so that they can be read side by side.

    The statistic maps row numbers (M,) to named numbers; the names of the full data set are the ones reported. "bca"
    and "expanded" call it once more for each patient.
    Raises: ValueError if there are no rows, a row has no patient, or n or level is out of range.
    """
    _check_call(n, level, method)
    rows_by_patient = patients_rows(groups)
    full = dict(statistic(np.arange(len(groups))))
    drawn = {name: np.full(n, math.nan) for name in full}
    left = {name: np.full(len(rows_by_patient) if method != "percentile" else 0, math.nan) for name in full}
    if len(rows_by_patient) > 1:
        for number, rows in enumerate(_resamples(rows_by_patient, n, seed)):
            _note(drawn, number, statistic(rows))
        if method != "percentile":
            for number in range(len(rows_by_patient)):
                rest = rows_by_patient[:number] + rows_by_patient[number + 1 :]
                _note(left, number, statistic(np.concatenate(rest)))
    size, people = len(groups), len(rows_by_patient)
    return {name: interval(value, drawn[name], left[name], level, size, people, method) for name, value in full.items()}


def paired_difference(
    first: Callable[[Rows], float],
    second: Callable[[Rows], float],
    groups: Sequence[Hashable],
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> Interval:
    """Interval of first - second on the same resamples: pairing removes what both share, such as an easy patient.

    Both statistics map row numbers (M,) to a number. An interval that leaves out 0 is a difference at that level.
    Raises: as patient_bootstrap.
    """
    return patient_bootstrap(lambda rows: first(rows) - second(rows), groups, n, seed, level, method)


def clustered_mean(
    values: ArrayLike,
    groups: Sequence[Hashable],
    level: float = 0.95,
    degrees: Literal["effective", "patients"] = "effective",
) -> Interval:
    """A mean with the cluster-robust t interval: no resampling, exact arithmetic.

    The standard error is that of a ratio of patient sums, with G / (G - 1). The t law has the degrees of
    effective_degrees, or G - 1 ("patients", as statsmodels and Stata have it; too narrow for few or unequal patients).
    Shapes: values (R,), nan left out; groups (R,). nan bounds for fewer than two patients.
    Source: Liang and Zeger 1986, doi:10.1093/biomet/73.1.13. Raises: as patient_bootstrap, and for other degrees.
    """
    row_values = np.asarray(values, dtype=np.float64)
    if row_values.shape != (len(groups),):
        raise ValueError(f"values have shape {row_values.shape}, expected ({len(groups)},), as the groups")
    _check_call(1, level, "percentile")
    if degrees not in ("effective", "patients"):
        raise ValueError(f"degrees is {degrees!r}, expected effective or patients")
    known = np.flatnonzero(np.isfinite(row_values))
    method = f"cluster-robust t, {degrees} degrees"
    if known.size == 0:
        return Interval(math.nan, math.nan, math.nan, 0, 0, method=method)
    kept = row_values[known]
    patient = numbered_patients([groups[row] for row in known.tolist()], known.size)
    people, value = int(patient.max()) + 1, float(kept.mean())
    if people < 2:
        return Interval(value, math.nan, math.nan, known.size, people, method=method)
    pull = np.bincount(patient, kept - value).astype(np.float64)
    law = effective_degrees(pull) if degrees == "effective" else people - 1
    half = float(student.ppf((1 + level) / 2, law)) * clustered_error(kept, patient)
    return Interval(value, value - half, value + half, known.size, people, method=method)


def clustered_error(values: NDArray[np.float64], patient: Rows) -> float:
    """Cluster-robust standard error of the mean of values (R,), patient (R,) from 0 to G - 1; nan for one patient."""
    residuals = np.bincount(patient, values - values.mean())
    if residuals.size < 2:
        return math.nan
    return float(math.sqrt(residuals.size / (residuals.size - 1) * (residuals**2).sum()) / values.size)


def patients_rows(groups: Sequence[Hashable]) -> list[Rows]:
    """Row numbers of each patient, in order of first appearance. Raises: ValueError without rows or without a
    patient."""
    if len(groups) == 0:
        raise ValueError("there are 0 rows, expected at least one study: check the split and the filters")
    patient = numbered_patients(groups, len(groups))
    order = np.argsort(patient, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(patient[order])) + 1)


def patient_counts(
    people: int, n: int, seed: int, cells: int = 1 << 22, draws: int | None = None
) -> Iterator[NDArray[np.float64]]:
    """How often each patient is drawn in each of n resamples, as blocks (B, people) of at most `cells` numbers.

    The draws are those of every other function here with the same seed, so their intervals are the same. `draws` is the
    number of patients of a resample, None for as many as there are.
    """
    generator = np.random.default_rng(seed)
    size_of_one = people if draws is None else draws
    block = max(1, min(n, cells // max(people, size_of_one)))
    for start in range(0, n, block):
        size = min(block, n - start)
        drawn = generator.integers(0, people, (size, size_of_one))  # the stream of one call for each resample
        flat = np.bincount((drawn + people * np.arange(size)[:, None]).ravel(), minlength=size * people)
        yield flat.reshape(size, people).astype(np.float64)


def interval(
    value: float,
    drawn: NDArray[np.float64],
    left_out: NDArray[np.float64],
    level: float,
    rows: int,
    patients: int,
    method: Method = "percentile",
) -> Interval:
    """The interval of a value from its resampled values (n,) and, but for percentile, those without each patient (G,).

    Undefined (nan) values are left out of both. nan bounds for fewer than two patients, without a defined resample, or
    for bca where the value lies outside all resampled ones (a biased statistic, such as a calibration error).
    """
    known = drawn[np.isfinite(drawn)]
    if known.size == 0 or patients < 2 or not math.isfinite(value):
        return Interval(float(value), math.nan, math.nan, rows, patients, drawn.size if patients > 1 else 0, method)
    shares = np.array([(1 - level) / 2, (1 + level) / 2])
    left = left_out[np.isfinite(left_out)]
    if method == "bca":
        shares = _bca_shares(value, known, left, shares)
    elif method == "expanded":
        # Resamples spread by (G - 1) / G less than the estimate does, and by a normal law where a t law holds.
        edges = student.ppf(shares, effective_degrees(left)) * math.sqrt(patients / (patients - 1))
        shares = np.asarray(ndtr(edges))
    undefined = int(drawn.size - known.size)
    if np.isnan(shares).any():
        return Interval(float(value), math.nan, math.nan, rows, patients, undefined, method)
    low, high = np.quantile(known, shares)
    return Interval(float(value), float(low), float(high), rows, patients, undefined, method)


def effective_degrees(left_out: NDArray[np.float64]) -> float:
    """Degrees of freedom of a standard error, from the values without each patient (G,): at most G - 1, at least 1.

    With pulls u (mean less each value) it is 3 (sum u^2)^2 / sum u^4: the number of patients when all matter alike in a
    normal way, fewer when a few carry the number. Source: Satterthwaite 1946, doi:10.2307/3002019.
    """
    pull = left_out.mean() - left_out if left_out.size else np.zeros(1)
    fourth = float((pull**4).sum())
    most = max(left_out.size - 1.0, 1.0)
    return min(max(3 * float((pull**2).sum()) ** 2 / fourth, 1.0), most) if fourth > 0 else most


def _bca_shares(
    value: float, drawn: NDArray[np.float64], left_out: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The quantiles to take in place of the nominal ones; equal values count half below, half above."""
    if drawn.min() == drawn.max() == value:
        return shares
    bias = ndtri((np.sum(drawn < value) + np.sum(drawn <= value)) / (2 * drawn.size))
    if not np.isfinite(bias):
        return np.full(2, math.nan)
    pull = left_out.mean() - left_out if left_out.size else np.zeros(1)
    spread = float((pull**2).sum())
    skew = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    moved = bias + ndtri(shares)
    return np.asarray(ndtr(bias + moved / (1 - skew * moved)))


def _check_call(n: int, level: float, method: str) -> None:
    if n < 1 or not 0 < level < 1:
        raise ValueError(f"n is {n} and level is {level}, expected n >= 1 and 0 < level < 1")
    if method not in ("percentile", "bca", "expanded"):
        raise ValueError(f"method is {method!r}, expected percentile, bca or expanded")


def _note(table: Mapping[str, NDArray[np.float64]], number: int, found: Mapping[str, float]) -> None:
    for name, column in table.items():
        column[number] = found.get(name, math.nan)


def _resamples(rows_by_patient: list[Rows], n: int, seed: int) -> Iterator[Rows]:
    generator = np.random.default_rng(seed)
    flat = np.concatenate(rows_by_patient)
    one_row_each = len(flat) == len(rows_by_patient)  # then no lists need to be joined, which is most of the time
    for _ in range(n):
        patients = generator.integers(0, len(rows_by_patient), len(rows_by_patient))
        yield flat[patients] if one_row_each else np.concatenate([rows_by_patient[patient] for patient in patients])
