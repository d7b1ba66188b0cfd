"""Abstention: the risk that is left when the model answers only where it is confident.

Rows with equal confidence cannot be told apart, so they are taken in the mean over all orders: the curve of a constant
confidence is flat, and no result depends on the order of the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evaluation.labelled import Floats, labelled_probabilities


@dataclass(frozen=True)
class RiskCoverage:
    """Risk of the k most confident rows, k = 1 ... N. coverage = k / N and risk (mean loss of those rows) are (N,).

    aurc: mean risk over all coverages (Geifman and El-Yaniv 2017, arXiv:1705.08500). excess: aurc minus that of the
    best possible order of the same losses (E-AURC, Geifman et al. 2019, arXiv:1805.08206). augrc: mean over coverages
    of the share of all rows that are answered wrongly (Traub et al. 2024, arXiv:2407.01032). nan without rows.
    """

    coverage: Floats
    risk: Floats
    aurc: float
    excess: float
    augrc: float
    n: int

    def risk_at(self, coverage: float) -> float:
        """Risk when at least that share of rows is answered (0 < coverage <= 1); nan without rows."""
        if not 0 < coverage <= 1:
            raise ValueError(f"coverage is {coverage}, expected above 0 and at most 1")
        return float(self.risk[math.ceil(coverage * self.n - 1e-9) - 1]) if self.n else math.nan

    def coverage_at(self, risk: float) -> float:
        """The largest coverage whose risk is at most that much; 0 if there is none."""
        kept = np.flatnonzero(self.risk <= risk + 1e-12)
        return float(self.coverage[kept[-1]]) if kept.size else 0.0


def risk_coverage(confidence: ArrayLike, loss: ArrayLike) -> RiskCoverage:
    """The curve of losses (N,), 0 for right and 1 for wrong or any number, answered in order of confidence (N,).

    Rows whose loss is nan are left out. Raises: ValueError on unequal lengths or confidence that is not a number.
    """
    sure, lost = np.asarray(confidence, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if sure.ndim != 1 or sure.shape != lost.shape:
        raise ValueError(f"confidence {sure.shape} and loss {lost.shape} must share one shape (N,)")
    known = ~np.isnan(lost)
    sure, lost = sure[known], lost[known]
    if np.isnan(sure).any():
        raise ValueError(f"{int(np.isnan(sure).sum())} of {sure.size} confidences are nan, expected numbers")
    if sure.size == 0:
        return RiskCoverage(np.empty(0), np.empty(0), math.nan, math.nan, math.nan, 0)
    _, group = np.unique(-sure, return_inverse=True)
    shared = np.bincount(group, lost) / np.bincount(group)
    total = np.cumsum(shared[np.sort(group)])
    answered = np.arange(1, sure.size + 1)
    best = np.cumsum(np.sort(lost)) / answered
    risk = total / answered
    aurc = float(risk.mean())
    return RiskCoverage(
        answered / sure.size, risk, aurc, aurc - float(best.mean()), float((total / sure.size).mean()), sure.size
    )


def binary_risk_coverage(probabilities: ArrayLike, labels: ArrayLike, threshold: float = 0.5) -> RiskCoverage:
    """The curve of calls at p >= threshold for one finding; confidence is the distance of p from the threshold.

    Below the threshold the distance is a share of the threshold, above it of 1 - threshold, so both ends mean "sure".
    Shapes: (N,). Raises: as brier, and ValueError for a threshold outside (0, 1).
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}, expected between 0 and 1")
    probability, label = labelled_probabilities(probabilities, labels)
    called = probability >= threshold
    sure = np.where(called, (probability - threshold) / (1 - threshold), (threshold - probability) / threshold)
    return risk_coverage(sure, (called != (label == 1)).astype(np.float64))
