"""Not worse, or as good: tests against a margin that was fixed before the data were seen.

A difference that is not significant shows nothing: it may be small data. Non-inferiority asks whether the new model is
worse by less than the margin; equivalence whether it differs by less than the margins either way (two one-sided tests).
Both read the interval at level 1 - 2 alpha, so alpha 0.025 goes with the usual 95% interval.

Source: Schuirmann 1987, doi:10.1007/BF01068419; Piaggio et al. 2012 (CONSORT), doi:10.1001/jama.2012.87802.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as student

from evaluation.intervals import clustered_error
from evaluation.labelled import Floats, numbered_patients


@dataclass(frozen=True)
class MarginTest:
    """A difference (new - old, more is better), its interval at 1 - 2 alpha, the one-sided p-value, and the conclusion.

    conclusion is one of "non-inferior", "inferior", "equivalent", "not equivalent", "inconclusive", or "undefined".
    """

    value: float
    low: float
    high: float
    margin: tuple[float, float]
    p: float
    conclusion: str
    n: int
    groups: int
    variant: str


def noninferiority(
    value: float,
    error: float,
    margin: float,
    alpha: float = 0.025,
    degrees: float = math.inf,
    n: int = 0,
    groups: int = 0,
) -> MarginTest:
    """Is new - old above -margin? From an estimate and its standard error (of DeLong, say); more is better.

    "inferior" says that the whole interval lies below -margin. `degrees` of t, or infinity for the normal; n rows and
    patients are carried along. "undefined" where value or error is nan, or the error is 0.
    Raises: ValueError for a margin or alpha out of range, or an error below 0.
    """
    _check(margin, alpha, error)
    low, high = _bounds(value, error, alpha, degrees)
    p = _upper(value + margin, error, degrees)
    conclusion = _judge(low, high, -margin, math.inf, ("non-inferior", "inferior"))
    variant = f"non-inferiority, margin {margin:g}, one-sided alpha {alpha:g}, {_shape(degrees)}"
    return MarginTest(value, low, high, (-margin, math.inf), p, conclusion, n, groups, variant)


def equivalence(
    value: float,
    error: float,
    margin: float,
    alpha: float = 0.025,
    degrees: float = math.inf,
    n: int = 0,
    groups: int = 0,
) -> MarginTest:
    """Is new - old between -margin and margin? Two one-sided tests; p is the larger of both. As noninferiority."""
    _check(margin, alpha, error)
    low, high = _bounds(value, error, alpha, degrees)
    parts = (_upper(value + margin, error, degrees), _upper(margin - value, error, degrees))
    conclusion = _judge(low, high, -margin, margin, ("equivalent", "not equivalent"))
    variant = f"equivalence (TOST), margin {margin:g}, one-sided alpha {alpha:g}, {_shape(degrees)}"
    p = math.nan if math.isnan(parts[0]) else max(parts)
    return MarginTest(value, low, high, (-margin, margin), p, conclusion, n, groups, variant)


def noninferiority_of_means(
    new: ArrayLike, old: ArrayLike, groups: Sequence[Hashable], margin: float, alpha: float = 0.025
) -> MarginTest:
    """Non-inferiority of the mean of paired values (R,), patients as clusters; rows with a nan are left out.

    Raises: as noninferiority, and ValueError on unequal lengths or a row without a patient.
    """
    gain, error, people = _paired(new, old, groups)
    return noninferiority(_mean(gain), error, margin, alpha, max(people - 1, 1), gain.size, people)


def equivalence_of_means(
    new: ArrayLike, old: ArrayLike, groups: Sequence[Hashable], margin: float, alpha: float = 0.025
) -> MarginTest:
    """Equivalence of the mean of paired values, patients as clusters; as noninferiority_of_means."""
    gain, error, people = _paired(new, old, groups)
    return equivalence(_mean(gain), error, margin, alpha, max(people - 1, 1), gain.size, people)


def margin_test_of_draws(
    value: float, drawn: ArrayLike, margin: float, alpha: float = 0.025, two_sided: bool = False
) -> MarginTest:
    """The same questions of bootstrap values (B,) of a difference, for a statistic without a formula (F1, BLEU, mIoU).

    The interval is the percentile one at 1 - 2 alpha; p is the share of values beyond the margin (the larger of both
    sides), one added to count and total. Undefined (nan) values are left out. Raises: as noninferiority.
    """
    _check(margin, alpha, 0.0)
    given = np.asarray(drawn, dtype=np.float64)
    known = given[np.isfinite(given)]
    high_edge = margin if two_sided else math.inf
    words = ("equivalent", "not equivalent") if two_sided else ("non-inferior", "inferior")
    kind = "equivalence" if two_sided else "non-inferiority"
    variant = f"{kind}, margin {margin:g}, one-sided alpha {alpha:g}, percentile bootstrap, {known.size} resamples"
    if known.size == 0 or not math.isfinite(value):
        return MarginTest(value, math.nan, math.nan, (-margin, high_edge), math.nan, "undefined", 0, 0, variant)
    low, high = (float(edge) for edge in np.quantile(known, [alpha, 1 - alpha]))
    beyond = max(int((known <= -margin).sum()), int((known >= high_edge).sum()))
    p = (beyond + 1) / (known.size + 1)
    return MarginTest(
        value, low, high, (-margin, high_edge), p, _judge(low, high, -margin, high_edge, words), 0, 0, variant
    )


def _paired(new: ArrayLike, old: ArrayLike, groups: Sequence[Hashable]) -> tuple[Floats, float, int]:
    one, other = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"new {one.shape} and old {other.shape} must share one shape (R,): the same cases")
    patient = numbered_patients(groups, one.size)
    known = np.isfinite(one) & np.isfinite(other)
    gain = (one - other)[known]
    _, number = np.unique(patient[known], return_inverse=True)
    people = int(number.max()) + 1 if number.size else 0
    return gain, clustered_error(gain, number) if people > 1 else math.nan, people


def _bounds(value: float, error: float, alpha: float, degrees: float) -> tuple[float, float]:
    if not (math.isfinite(value) and error > 0):
        return math.nan, math.nan
    half = float(norm.ppf(1 - alpha) if math.isinf(degrees) else student.ppf(1 - alpha, degrees)) * error
    return value - half, value + half


def _upper(distance: float, error: float, degrees: float) -> float:
    """P(a statistic as far above 0), for a distance from the edge of the margin."""
    if not (math.isfinite(distance) and error > 0):
        return math.nan
    z = distance / error
    return float(norm.sf(z) if math.isinf(degrees) else student.sf(z, degrees))


def _judge(low: float, high: float, edge: float, other: float, words: tuple[str, str]) -> str:
    if math.isnan(low):
        return "undefined"
    if low > edge and high < other:
        return words[0]
    return words[1] if high < edge or low > other else "inconclusive"


def _check(margin: float, alpha: float, error: float) -> None:
    if not margin > 0 or not 0 < alpha < 0.5 or error < 0:
        raise ValueError(
            f"margin is {margin}, alpha {alpha}, error {error}; expected a margin above 0, fixed before the data were"
            " seen, alpha between 0 and 0.5, and an error of 0 or more"
        )


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else math.nan


def _shape(degrees: float) -> str:
    return "normal" if math.isinf(degrees) else f"t with {degrees:g} degrees"
