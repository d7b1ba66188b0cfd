"""Whether probabilities mean what they say: Brier score, calibration errors by name, reliability bins.

"ECE" is a family. Each member here names its bins: "width" is M bins of equal width on [0, 1]; "mass" is about equally
many rows each, equal probabilities never split; "quantile" is cut at quantiles of the probabilities, as scikit-learn's
calibration_curve. All are about P(finding present), except top_label_ece. For several findings: one value each, then
the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from evaluation.labelled import Floats, labelled_probabilities

Binning = Literal["width", "mass", "quantile"]


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Brier score: mean squared difference of probability and label; 0 is perfect, nan without rows.

    Shapes: probabilities, labels (N,). Source: Brier 1950, Monthly Weather Review 78.
    Raises: as auroc, and ValueError for probabilities outside [0, 1].
    """
    probability, label = labelled_probabilities(probabilities, labels)
    return float(np.mean((probability - label) ** 2)) if label.size else math.nan


def brier_skill(probabilities: ArrayLike, labels: ArrayLike, prevalence: float | None = None) -> float:
    """1 - Brier / Brier of always saying the prevalence: 1 is perfect, 0 no better than the base rate, below 0 worse.

    Give the prevalence of the training studies for an honest rival; None takes that of these rows (the usual, kinder to
    the rival). Shapes: (N,). nan with one class (the rival is perfect), or no rows. Raises: as brier.
    """
    probability, label = labelled_probabilities(probabilities, labels)
    if label.size == 0 or label.min() == label.max():
        return math.nan
    said = float(label.mean()) if prevalence is None else prevalence
    if not 0 <= said <= 1:
        raise ValueError(f"prevalence is {said}, expected a share from 0 to 1")
    return float(1 - np.mean((probability - label) ** 2) / np.mean((said - label) ** 2))


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
    equal probabilities always share a bin, so there may be fewer bins than asked for. "quantile": cut at the quantiles
    of the probabilities (linear interpolation; a row on an edge belongs to the lower bin), as scikit-learn does.
    Shapes: probabilities, labels (N,). Raises: as brier, and ValueError if bins < 1.
    """
    probability, label = labelled_probabilities(probabilities, labels)
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least 1")
    if label.size == 0:
        return ()
    place = _places(probability, bins, binning)
    numbers, place = np.unique(place, return_inverse=True)
    n = np.bincount(place)
    said, found = np.bincount(place, probability) / n, np.bincount(place, label) / n
    if binning == "width":
        low, high = numbers / bins, (numbers + 1) / bins
    else:
        low, high = np.full(len(n), np.inf), np.full(len(n), -np.inf)
        np.minimum.at(low, place, probability)
        np.maximum.at(high, place, probability)
    return tuple(
        ReliabilityBin(float(a), float(b), float(p), float(q), int(count))
        for a, b, p, q, count in zip(low, high, said, found, n, strict=True)
    )


def _places(probability: Floats, bins: int, binning: Binning) -> NDArray[np.intp]:
    """The number of each row's bin (N,)."""
    if binning == "width":
        return np.minimum((probability * bins).astype(np.intp), bins - 1)
    if binning == "mass":
        _, inverse, counts = np.unique(probability, return_inverse=True, return_counts=True)
        middle = (np.cumsum(counts) - counts / 2) / probability.size  # mean rank of each distinct value, in (0, 1)
        return (middle * bins).astype(np.intp)[inverse]
    if binning == "quantile":
        edges = np.percentile(probability, np.linspace(0, 1, bins + 1) * 100)
        return np.searchsorted(edges[1:-1], probability)
    raise ValueError(f"binning is {binning!r}, expected width, mass or quantile")


def ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, binning: Binning = "width") -> float:
    """Expected calibration error of the probability that the finding is present: sum of n_b / N x |found_b - said_b|.

    Shapes: probabilities, labels (N,). For several findings: one value each, then the mean. nan without rows.
    Source: Naeini et al. 2015 (AAAI), equal width; Nixon et al. 2019, arXiv:1904.01685, equal mass ("adaptive").
    Raises: as reliability_bins.
    """
    found = reliability_bins(probabilities, labels, bins, binning)
    total = sum(one.n for one in found)
    return sum(one.n * abs(one.found - one.said) for one in found) / total if total else math.nan


def top_label_ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, binning: Binning = "width") -> float:
    """Calibration error of the confidence in the call: max(p, 1 - p) against whether p >= 0.5 was right.

    The ECE of Guo et al. 2017 (arXiv:1706.04599) for two classes. With a rare finding nearly every call is "absent" and
    right, so it is far smaller than `ece`: never compare the two. Shapes: (N,). nan without rows. Raises: as ece.
    """
    probability, label = labelled_probabilities(probabilities, labels)
    called = probability >= 0.5
    return ece(np.where(called, probability, 1 - probability), (called == label).astype(float), bins, binning)


def adaptive_ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Adaptive calibration error of one finding: bins of equal mass, and the plain mean of their |found - said|.

    Source: Nixon et al. 2019, arXiv:1904.01685 (ACE; here for one class, so the mean over classes is left to the
    caller). Equals ece(binning="mass") when all bins hold equally many rows. Shapes: (N,). nan without rows. Raises: as
    ece.
    """
    found = reliability_bins(probabilities, labels, bins, "mass")
    return float(np.mean([abs(one.found - one.said) for one in found])) if found else math.nan


def max_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, binning: Binning = "width"
) -> float:
    """The largest |found - said| of a bin, however few its rows. Shapes: (N,). nan without rows. Raises: as ece."""
    return max(
        (abs(one.found - one.said) for one in reliability_bins(probabilities, labels, bins, binning)), default=math.nan
    )


def root_mean_square_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, binning: Binning = "width", debiased: bool = False
) -> float:
    """Square root of sum n_b / N x (found_b - said_b)^2.

    A calibrated model has a positive value in a small sample, because found_b is noisy. Debiased subtracts the variance
    found_b (1 - found_b) / (n_b - 1) of each bin (bins of one row are left out) and is 0 where that is more than all.
    Shapes: (N,). nan without rows. Source: Kumar et al. 2019, arXiv:1909.10155. Raises: as ece.
    """
    found = reliability_bins(probabilities, labels, bins, binning)
    if debiased:
        found = tuple(one for one in found if one.n > 1)
    total = sum(one.n for one in found)
    if total == 0:
        return math.nan
    square = sum(
        one.n * ((one.found - one.said) ** 2 - (one.found * (1 - one.found) / (one.n - 1) if debiased else 0))
        for one in found
    )
    return math.sqrt(max(square, 0.0) / total)


@dataclass(frozen=True)
class BrierParts:
    """Brier = reliability - resolution + uncertainty + within: `within` is what binning leaves over."""

    reliability: float
    resolution: float
    uncertainty: float
    within: float
    n: int


def brier_parts(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15, binning: Binning = "width") -> BrierParts:
    """What the Brier score is made of: misfit of the bins, spread of the bins, the base rate's own spread.

    Shapes: (N,). nan without rows. Source: Murphy 1973; `within` is the two terms of Stephenson et al. 2008
    (doi:10.1175/2007WAF2006116.1), so that the sum is exact. Raises: as ece.
    """
    probability, label = labelled_probabilities(probabilities, labels)
    if label.size == 0:
        return BrierParts(math.nan, math.nan, math.nan, math.nan, 0)
    found = reliability_bins(probability, label, bins, binning)
    base, n = float(label.mean()), label.size
    misfit = sum(one.n * (one.found - one.said) ** 2 for one in found) / n
    spread = sum(one.n * (one.found - base) ** 2 for one in found) / n
    total = float(np.mean((probability - label) ** 2))
    return BrierParts(misfit, spread, base * (1 - base), total - misfit + spread - base * (1 - base), n)


@dataclass(frozen=True)
class CalibrationLine:
    """logit P(present) = intercept + slope x logit(said). Perfect is 0 and 1; a slope below 1 is overconfidence.

    `in_the_large` is the intercept when the slope is held at 1: above 0, findings are commoner than was said.
    """

    slope: float
    intercept: float
    in_the_large: float
    n: int


def calibration_line(probabilities: ArrayLike, labels: ArrayLike, clip: float = 1e-6) -> CalibrationLine:
    """Calibration slope and intercept by logistic regression (maximum likelihood, no penalty).

    Shapes: (N,). Probabilities are clipped to [clip, 1 - clip]. nan with one class, fewer than two distinct
    probabilities (the slope), or classes that the probabilities separate (no finite maximum).
    Source: Cox 1958; Van Calster et al. 2019, doi:10.1186/s12916-019-1466-7. Raises: as brier.
    """
    probability, label = labelled_probabilities(probabilities, labels)
    if label.size == 0 or label.min() == label.max():
        return CalibrationLine(math.nan, math.nan, math.nan, label.size)
    x = logit(np.clip(probability, clip, 1 - clip))
    large = _newton(np.ones((label.size, 1)), label, offset=x)
    separated = x[label == 1].min() >= x[label == 0].max() or x[label == 1].max() <= x[label == 0].min()
    if separated or np.ptp(x) == 0:
        return CalibrationLine(math.nan, math.nan, float(large[0]), label.size)
    intercept, slope = _newton(np.column_stack([np.ones_like(x), x]), label, offset=np.zeros_like(x))
    return CalibrationLine(float(slope), float(intercept), float(large[0]), label.size)


def spiegelhalter(probabilities: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Spiegelhalter's z and its two-sided p: is the Brier score what calibrated probabilities would give?

    Shapes: (N,), rows taken as independent (one study a patient). (nan, nan) without rows or without spread (all
    probabilities 0, 1/2 or 1). Source: Spiegelhalter 1986, doi:10.1002/sim.4780050506. Raises: as brier.
    """
    p, label = labelled_probabilities(probabilities, labels)
    variance = float(np.sum((1 - 2 * p) ** 2 * p * (1 - p)))
    if variance == 0:
        return math.nan, math.nan
    z = float(np.sum((label - p) * (1 - 2 * p))) / math.sqrt(variance)
    return z, float(2 * norm.sf(abs(z)))


def _newton(design: Floats, label: Floats, offset: Floats) -> Floats:
    """Logistic regression by Newton's steps, halved where the likelihood falls; design (N, P) -> (P,)."""
    beta = np.zeros(design.shape[1])
    loss = _loss(design, label, offset, beta)
    for _ in range(100):
        p = expit(offset + design @ beta)
        hessian = (design * (p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(hessian + 1e-12 * np.eye(len(beta)), design.T @ (label - p))
        while (new := _loss(design, label, offset, beta + step)) > loss + 1e-12 and np.abs(step).max() > 1e-12:
            step = step / 2
        beta, loss = beta + step, new
        if np.abs(step).max() < 1e-10:
            break
    return beta


def _loss(design: Floats, label: Floats, offset: Floats, beta: Floats) -> float:
    z = offset + design @ beta
    return float(np.sum(np.logaddexp(0, z) - label * z))
