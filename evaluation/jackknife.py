"""Intervals from leaving out one patient at a time: no random numbers, and honest for few patients.

The values without each patient say how much each one matters. Their spread is the standard error; how unequal they are
says on how many patients the number really rests (a few patients with many studies carry most of it), which sets the
degrees of a t distribution. Shares are taken to the logit scale, where their distribution is closer to symmetric and
the interval stays inside (0, 1). docs/coverage.md shows what that is worth beside the bootstrap.

Source: Efron and Tibshirani 1993, chapter 11 (jackknife); Satterthwaite 1946, doi:10.2307/3002019 (degrees), as used
for cluster-robust errors by Bell and McCaffrey 2002.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t as student

from evaluation.intervals import Interval, Rows, effective_degrees, patients_rows
from evaluation.labelled import Floats, numbered_patients
from evaluation.weighted import Weighted, weighted_bootstrap, without_each_patient

Scale = Literal["logit", "plain"]


def patient_jackknife(
    statistic: Callable[[Rows], Mapping[str, float]],
    groups: Sequence[Hashable],
    level: float = 0.95,
    scale: Scale = "logit",
) -> dict[str, Interval]:
    """Intervals of smooth statistics (AUROC, F1, BLEU, mean IoU; not a median) by the jackknife over patients.

    The statistic maps row numbers (M,) to named numbers, and is called once for each patient. "logit" is for shares in
    [0, 1], "plain" for differences and whatever may lie outside. nan bounds for fewer than two patients, and on the
    logit scale for a value of exactly 0 or 1, whose error is 0 and means nothing.
    Raises: ValueError if there are no rows, a row has no patient, a share lies outside [0, 1], or level is out of
    range.
    """
    by_patient = patients_rows(groups)
    full = dict(statistic(np.arange(len(groups))))
    left = {name: np.full(len(by_patient), math.nan) for name in full}
    if len(by_patient) > 1:
        for number in range(len(by_patient)):
            rest = by_patient[:number] + by_patient[number + 1 :]
            for name, value in statistic(np.concatenate(rest)).items():
                if name in left:
                    left[name][number] = value
    return {name: jackknife_interval(value, left[name], level, len(groups), scale) for name, value in full.items()}


def weighted_jackknife(
    statistics: Mapping[str, Weighted], groups: Sequence[Hashable], level: float = 0.95, scale: Scale = "logit"
) -> dict[str, Interval]:
    """patient_jackknife for statistics of evaluation.weighted, a block of patients at a time; groups (R,)."""
    if len(groups) == 0:
        raise ValueError("there are 0 rows, expected at least one study: check the split and the filters")
    patient: NDArray[np.intp] = numbered_patients(groups, len(groups))
    left: dict[str, list[Floats]] = {name: [] for name in statistics}
    if patient.max() > 0:
        for weights in without_each_patient(patient):
            for name, statistic in statistics.items():
                left[name].append(statistic(weights))
    whole = np.ones((1, len(groups)))
    return {
        name: jackknife_interval(
            float(statistic(whole)[0]), np.concatenate([*left[name], np.empty(0)]), level, len(groups), scale
        )
        for name, statistic in statistics.items()
    }


def share_intervals(statistics: Mapping[str, Weighted], groups: Sequence[Hashable]) -> dict[str, Interval]:
    """95 % intervals of smooth shares (AUROC, average precision) as cards print them; groups (R,).

    By the jackknife, which holds the truth as often as it says for few patients too (docs/coverage.md); by the
    percentile bootstrap where the jackknife is undefined (a share of exactly 0 or 1, or one that no patient moves).
    """
    found = weighted_jackknife(statistics, groups)
    left = {name: statistics[name] for name, interval in found.items() if not math.isfinite(interval.low)}
    return found | (weighted_bootstrap(left, groups, n=500) if left else {})


def jackknife_interval(value: float, left_out: Floats, level: float, rows: int, scale: Scale = "logit") -> Interval:
    """The interval of a value from its values without each patient (G,); undefined (nan) ones are left out and counted.

    Raises: ValueError for a share outside [0, 1] on the logit scale, another scale, or a level out of range.
    """
    if not 0 < level < 1 or scale not in ("logit", "plain"):
        raise ValueError(f"level is {level} and scale {scale!r}, expected between 0 and 1, and logit or plain")
    if scale == "logit" and math.isfinite(value) and not 0 <= value <= 1:
        raise ValueError(f"the value is {value:g}, expected a share in [0, 1]; use the plain scale for a difference")
    known = left_out[np.isfinite(left_out)]
    people, undefined = max(left_out.size, 1 if rows else 0), int(left_out.size - known.size)
    method = f"jackknife t, {scale}"
    nothing = Interval(float(value), math.nan, math.nan, rows, people, undefined, method)
    if known.size < 2 or not math.isfinite(value):
        return nothing
    pull = known.mean() - known
    error = math.sqrt((known.size - 1) / known.size * float((pull**2).sum()))
    half = float(student.ppf((1 + level) / 2, effective_degrees(known))) * error
    if scale == "plain":
        return Interval(float(value), value - half, value + half, rows, people, undefined, method)
    if not 0 < value < 1:
        return nothing
    centre, width = float(logit(value)), half / (value * (1 - value))
    return Interval(
        float(value), float(expit(centre - width)), float(expit(centre + width)), rows, people, undefined, method
    )
