"""How many patients, and how small a difference: what a test set can show, before anybody reads its p-values.

Formulas are for normal estimates with a standard error; simulation resamples the patients of a pilot, so that clusters,
skew and ties are those of the data. An error shrinks with the square root of the number of patients, not of studies.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from evaluation.intervals import patient_counts
from evaluation.labelled import Floats, numbered_patients


def normal_power(difference: float, error: float, alpha: float = 0.05) -> float:
    """Chance that a two-sided z-test finds a difference, both tails counted; nan where the error is nan.

    Raises: ValueError for alpha outside (0, 1) or an error that is not above 0.
    """
    _check(alpha, 0.5, error)
    edge = float(norm.ppf(1 - alpha / 2))
    return float(norm.sf(edge - difference / error) + norm.cdf(-edge - difference / error))


def minimal_detectable_difference(error: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The difference that a two-sided z-test finds with that power, about 2.8 errors for 0.05 and 0.8.

    Give the standard error of the difference between the models, patients as clusters (delong_test, clustered_error).
    Raises: as normal_power, and ValueError for a power not between alpha and 1.
    """
    _check(alpha, power, error)
    if math.isnan(error):
        return math.nan
    most = float(norm.ppf(1 - alpha / 2) + norm.ppf(power))
    return error * float(brentq(lambda z: normal_power(z, 1.0, alpha) - power, 0.0, most + 1e-9, xtol=1e-13))


def patients_to_detect(difference: float, error: float, patients: int, alpha: float = 0.05, power: float = 0.8) -> int:
    """Patients needed for that power, from the error that a pilot of `patients` patients had.

    Raises: as minimal_detectable_difference, and ValueError for a difference of 0 or fewer than 2 patients.
    """
    if difference == 0 or patients < 2:
        raise ValueError(f"difference is {difference} and patients {patients}, expected another than 0, and at least 2")
    ratio = minimal_detectable_difference(error, alpha, power) / abs(difference)
    return math.ceil(patients * ratio**2 - 1e-9)


def patients_for_noninferiority(
    margin: float, error: float, patients: int, true_difference: float = 0.0, alpha: float = 0.025, power: float = 0.8
) -> int:
    """Patients needed to show new - old above -margin, if the true difference is that (usually 0).

    Raises: as patients_to_detect, and ValueError where the true difference is at or below -margin.
    """
    _check(alpha, power, error)
    room = margin + true_difference
    if room <= 0 or patients < 2:
        raise ValueError(
            f"margin {margin} + true difference {true_difference} is {room}, expected above 0; no n is enough"
        )
    return math.ceil(patients * (error * float(norm.ppf(1 - alpha) + norm.ppf(power)) / room) ** 2 - 1e-9)


def patients_for_width(half_width: float, error: float, patients: int, level: float = 0.95) -> int:
    """Patients needed for an interval of value ± half_width. Raises: as patients_to_detect, for the half-width."""
    if not half_width > 0 or patients < 2:
        raise ValueError(f"half_width is {half_width} and patients {patients}, expected above 0, and at least 2")
    _check(1 - level, 0.9999, error)
    return math.ceil(patients * (float(norm.ppf((1 + level) / 2)) * error / half_width) ** 2 - 1e-9)


def rows_for_mcnemar(discordant: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Independent cases for McNemar's test: `discordant` is the share that just one model gets right.

    Multiply by design_effect for several studies a patient. Source: Connor 1987, doi:10.2307/2531961.
    Raises: ValueError unless 0 < |difference| <= discordant <= 1.
    """
    _check(alpha, power, 1.0)
    if not 0 < abs(difference) <= discordant <= 1:
        raise ValueError(
            f"difference is {difference} and discordant {discordant}, expected 0 < |difference| <= discordant <= 1"
        )
    a, b = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))
    return math.ceil(((a * math.sqrt(discordant) + b * math.sqrt(discordant - difference**2)) / difference) ** 2 - 1e-9)


def auroc_error(auroc: float, positives: int, negatives: int) -> float:
    """Standard error of an AUROC that is yet to be measured, on independent rows.

    Source: Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747 (negative-exponential form). Multiply its square
    by design_effect for clusters; for data in hand take delong_interval. Raises: ValueError outside [0, 1] or without
    rows.
    """
    if not 0 <= auroc <= 1 or positives < 1 or negatives < 1:
        raise ValueError(
            f"auroc {auroc}, {positives} positives, {negatives} negatives: expected [0, 1] and at least 1 each"
        )
    one, two = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (positives - 1) * (one - auroc**2) + (negatives - 1) * (two - auroc**2)
    return math.sqrt(spread / (positives * negatives))


def intraclass_correlation(values: ArrayLike, groups: Sequence[Hashable]) -> float:
    """How alike the rows of one patient are: the ANOVA estimator of the ICC, nan left out; may be slightly below 0.

    Shapes: values, groups (R,). nan for fewer than two patients, only one row each, or no spread.
    Source: Donner 1986, doi:10.2307/1403259. Raises: ValueError on unequal lengths or a row without a patient.
    """
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1:
        raise ValueError(f"values have shape {given.shape}, expected (R,)")
    patient = numbered_patients(groups, given.size)
    known = np.isfinite(given)
    kept = given[known]
    _, number = np.unique(patient[known], return_inverse=True)
    size = np.bincount(number).astype(np.float64)
    if size.size < 2 or kept.size == size.size:
        return math.nan
    means = np.bincount(number, kept) / size
    between = float((size * (means - kept.mean()) ** 2).sum()) / (size.size - 1)
    within = float(((kept - means[number]) ** 2).sum()) / (kept.size - size.size)
    typical = (kept.size - float((size**2).sum()) / kept.size) / (size.size - 1)
    total = between + (typical - 1) * within
    return (between - within) / total if total > 0 else math.nan


def design_effect(groups: Sequence[Hashable], correlation: float) -> float:
    """How much larger a variance is than on independent rows: 1 + (m - 1) x correlation, m = sum of squares / sum.

    groups (R,). Source: Kish 1965. Raises: ValueError without rows or for a correlation outside [-1, 1].
    """
    if len(groups) == 0 or not -1 <= correlation <= 1:
        raise ValueError(f"there are {len(groups)} rows and correlation is {correlation}, expected rows and [-1, 1]")
    size = np.bincount(numbered_patients(groups, len(groups))).astype(np.float64)
    return 1 + (float((size**2).sum() / size.sum()) - 1) * correlation


@dataclass(frozen=True)
class Detectable:
    """The smallest difference found with that power in simulated studies, and the simulation behind it."""

    difference: float
    power: float
    alpha: float
    patients: int
    simulations: int


def simulated_power(
    pilot: ArrayLike,
    groups: Sequence[Hashable],
    difference: float,
    patients: int | None = None,
    alpha: float = 0.05,
    simulations: int = 2000,
    seed: int = 0,
) -> float:
    """Share of simulated studies in which the cluster-robust t-test of a mean difference finds it.

    pilot (R,): first - second of each row; groups (R,) its patients. Each study draws `patients` (None: as many as the
    pilot) with replacement from the pilot, whose mean is moved to `difference`; spread and clusters stay.
    nan for a pilot of fewer than two patients or without spread. Raises: ValueError on unequal lengths, no rows, or
    numbers out of range.
    """
    means, errors = _simulated(pilot, groups, patients, simulations, seed)
    if errors.size == 0:
        return math.nan
    _check(alpha, 0.5, 1.0)
    edge = float(student.ppf(1 - alpha / 2, _people(groups, patients) - 1))
    return float((np.abs(means + difference) > edge * errors).mean())


def simulated_detectable_difference(
    pilot: ArrayLike,
    groups: Sequence[Hashable],
    patients: int | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    simulations: int = 2000,
    seed: int = 0,
) -> Detectable:
    """The smallest positive difference that simulated studies find with that power; see simulated_power.

    The same studies serve every difference, so the answer has no noise of its own between calls. nan difference as
    there.
    """
    _check(alpha, power, 1.0)
    means, errors = _simulated(pilot, groups, patients, simulations, seed)
    people = _people(groups, patients)
    if errors.size == 0:
        return Detectable(math.nan, power, alpha, people, simulations)
    edge = float(student.ppf(1 - alpha / 2, people - 1))
    low, high = 0.0, float((edge * errors - means).max()) + 1e-12

    for _ in range(60):
        middle = (low + high) / 2
        enough = float((np.abs(means + middle) > edge * errors).mean()) >= power
        low, high = (low, middle) if enough else (middle, high)
    return Detectable(high, power, alpha, people, simulations)


def _simulated(
    pilot: ArrayLike, groups: Sequence[Hashable], patients: int | None, simulations: int, seed: int
) -> tuple[Floats, Floats]:
    """Centred means and cluster-robust errors (simulations,) of studies drawn from the pilot; empty without spread."""
    given = np.asarray(pilot, dtype=np.float64)
    if given.ndim != 1 or given.size == 0 or not np.isfinite(given).all():
        raise ValueError(f"pilot has shape {given.shape}, expected (R,) finite differences with at least one row")
    number = numbered_patients(groups, given.size)
    sums, sizes = np.bincount(number, given - given.mean()), np.bincount(number).astype(np.float64)
    wanted = _people(groups, patients)
    if sums.size < 2 or wanted < 2 or simulations < 1 or not np.abs(sums).max() > 0:
        return np.empty(0), np.empty(0)
    blocks = []
    for counts in patient_counts(sums.size, simulations, seed, draws=wanted):
        rows, total = counts @ sizes, counts @ sums
        mean = total / rows
        # sum over drawn patients of (s - m x mean)^2, from three sums of the pilot
        square = counts @ sums**2 - 2 * mean * (counts @ (sums * sizes)) + mean**2 * (counts @ sizes**2)
        error = np.sqrt(wanted / (wanted - 1) * np.maximum(square, 0)) / rows
        blocks.append(np.stack([mean, error]))
    means, errors = np.concatenate(blocks, axis=1)
    return means, errors


def _people(groups: Sequence[Hashable], patients: int | None) -> int:
    return len(set(groups)) if patients is None else patients


def _check(alpha: float, power: float, error: float) -> None:
    if not 0 < alpha < 1 or not alpha < power < 1 or error <= 0:
        raise ValueError(
            f"alpha is {alpha}, power {power}, error {error}; expected 0 < alpha < power < 1 and an error above 0"
        )
