"""Flags on what was fitted to the test: thresholds, and probabilities that are calibrated better than chance allows.

Two kinds of evidence. The record: the split that a threshold carries, or the studies that something was fitted on. And
the trace that a fit leaves even where no record says so: a threshold that is exactly one of the test scores, a set of
thresholds that are all the best ones of the test, probabilities that fit the test labels better than the true
probabilities would.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit
from scipy.stats import chi2

from evaluation.calibration import Calibration, fit_platt, fit_temperature
from evaluation.flags import Flag
from evaluation.influence import holm_by_name
from evaluation.labelled import Floats
from evaluation.score_table import ScoreTable
from evaluation.threshold_luck import luck
from evaluation.thresholds import Threshold

ALPHA = 0.01
TOO_LUCKY = 0.001
"""Chance that thresholds from elsewhere are the best of the test in so many findings; below it they are not."""


def threshold_flags(table: ScoreTable, thresholds: Mapping[str, float | Threshold], seed: int = 0) -> list[Flag]:
    """threshold.chosen_on_test, by record, by coincidence with test scores, or by being the best too often.

    Thresholds apply to the table's scores; findings without one are left out.
    """
    told = [name for name, t in thresholds.items() if isinstance(t, Threshold) and "test" in t.split.lower().split()]
    if told:
        return [_threshold_flag(f"{len(told)} of {len(thresholds)} thresholds say that they were chosen on test", told)]
    values = {k: plain_value(thresholds[name]) for k, name in enumerate(table.names) if name in thresholds}
    copied = [table.names[k] for k, value in values.items() if is_among(table.known(k)[0], value)]
    if copied:
        words = "exactly a score of a test study, or the middle of two neighbouring ones"
        return [_threshold_flag(f"{len(copied)} of {len(values)} thresholds are {words}", copied, table.n)]
    lucky, p = luck(table, values, seed)
    if p < TOO_LUCKY:
        words = f"{len(lucky)} of {len(values)} thresholds are the very best of the test studies (p={p:.1g} by chance)"
        return [_threshold_flag(words, lucky, table.n, p)]
    return []


def plain_value(threshold: float | Threshold) -> float:
    """The number of a threshold. Raises: ValueError for nan: no study can be called with it."""
    value = threshold.value if isinstance(threshold, Threshold) else float(threshold)
    if np.isnan(value):
        raise ValueError("a threshold is nan, expected a number; leave findings without a threshold out")
    return value


def fitted_flags(studies: Sequence[Hashable], fitted_on: Collection[Hashable], what: str) -> list[Flag]:
    """fitted.on_test: studies of the test are among those that thresholds or a calibration were fitted on."""
    both = set(studies) & set(fitted_on)
    if not both:
        return []
    return [
        Flag(
            "fitted.on_test",
            "serious",
            f"{len(both)} of {len(set(studies))} test studies are among the {len(set(fitted_on))} that {what} were"
            " fitted on.",
            "What was fitted on these studies suits them better than it will suit new patients.",
            "Fit on validation studies of other patients, and measure again.",
            {"n": len(set(studies)), "studies": len(both)},
        )
    ]


def is_among(scores: Floats, value: float) -> bool:
    """Whether a value is exactly one of the scores (M,), or the middle of two neighbours, where that is no accident.

    Rounded scores, ties and round values coincide by accident: then the answer is False.
    """
    distinct = np.unique(scores)
    rounded = float(np.mean(np.round(distinct, 4) == distinct))
    if distinct.size < 0.9 * scores.size or rounded > 0.05 or round(value, 3) == value:
        return False
    candidates = np.concatenate([distinct, (distinct[1:] + distinct[:-1]) / 2])
    return bool(np.isclose(candidates, value, rtol=1e-12, atol=0).any())


def calibration_flags(
    table: ScoreTable, probabilities: ArrayLike, calibration: Calibration | None = None
) -> list[Flag]:
    """calibration.fitted_on_test: scales that a fit on these very labels gives again, or probabilities (N, K) that
    agree with the labels better than the true ones would.

    The score test of slope 1 and intercept 0 has, under the truth, a chi-square distribution with 2 degrees; a fit on
    these very labels brings it to 0. Studies of one patient only make it larger, so the rule stays on the safe side.
    Source: Cox 1958, doi:10.1093/biomet/45.3-4.562 (slope and intercept); the lower tail is our rule.
    Raises: ValueError for another shape, or probabilities outside [0, 1].
    """
    given = table.with_scores(probabilities, "probabilities")
    inside = given.scores[~np.isnan(given.labels)]
    if inside.size and (inside.min() < 0 or inside.max() > 1):
        raise ValueError(f"probabilities range from {inside.min():.3g} to {inside.max():.3g}, expected [0, 1]")
    again = refitted(table, calibration) if calibration is not None else []
    if again:
        words = f"The calibration of {_some(again)} is what a fit on the labels of these {table.n} studies gives."
        return [_calibration_flag(words, {"n": table.n, "findings": len(again)})]
    found = {given.names[k]: misfit(*given.known(k)) for k in given.usable()}
    if not found:
        return []
    single = holm_by_name({name: float(chi2.cdf(value, degrees)) for name, (value, degrees) in found.items()})
    total, degrees = (sum(part[i] for part in found.values()) for i in (0, 1))
    together = float(chi2.cdf(total, degrees))
    alone = [name for name, p in single.items() if p < ALPHA / 20]  # one finding must be nearly exact
    if together >= ALPHA / 2 and not alone:
        return []
    least = min(together, *single.values())
    shown = alone if together >= ALPHA / 2 else list(found)
    words = (
        f"The probabilities of {_some(shown)} agree with the labels of these {table.n} studies better than the true"
        f" probabilities would (misfit {total:.3g}, expected about {degrees}; p={least:.1g})."
    )
    return [_calibration_flag(words, {"n": table.n, "misfit": total, "degrees": degrees, "p": least})]


def refitted(table: ScoreTable, calibration: Calibration) -> list[str]:
    """Findings whose slope and intercept come out the same, to four digits, when fitted on these scores and labels."""
    fit = {"platt": fit_platt, "temperature": fit_temperature}.get(calibration.method)
    names = [name for name in table.names if name in calibration.scales and name not in calibration.unfitted]
    if fit is None or not names:
        return []
    columns = [table.names.index(name) for name in names]
    ours = fit(table.scores[:, columns], table.labels[:, columns], names).scales
    pairs = {name: (calibration.scales[name], ours[name]) for name in names if name not in calibration.unfitted}
    return [
        name
        for name, (one, two) in pairs.items()
        if two.slope != 1.0
        and np.allclose([one.slope, one.intercept], [two.slope, two.intercept], rtol=1e-4, atol=1e-6)
    ]


def _calibration_flag(found: str, numbers: Mapping[str, float]) -> Flag:
    return Flag(
        "calibration.fitted_on_test",
        "serious",
        found,
        "Only a fit on these very labels does that: calibration error and every threshold are too good here.",
        "Fit the calibration on validation studies, and measure again.",
        numbers,
    )


def misfit(probability: Floats, label: Floats) -> tuple[float, int]:
    """Score statistic of intercept 0 and slope 1 on the log-odds, and its degrees of freedom. Shapes: (M,)."""
    p = np.clip(probability, 1e-9, 1 - 1e-9)
    design = np.column_stack([np.ones_like(p), logit(p)])
    information = design.T @ (design * (p * (1 - p))[:, None])
    score = design.T @ (label - p)
    return float(score @ np.linalg.pinv(information) @ score), int(np.linalg.matrix_rank(information))


def _threshold_flag(found: str, names: Sequence[str], n: int = 0, p: float = 0.0) -> Flag:
    return Flag(
        "threshold.chosen_on_test",
        "serious",
        f"{found}: {_some(names)}" + (f" (n={n})." if n else "."),
        "A threshold chosen on the studies it is judged on makes sensitivity, specificity and F1 better than new"
        " patients will see.",
        "Choose thresholds on validation studies; of the present card use only what needs no threshold.",
        {"n": n, "thresholds": len(names), "p": p},
    )


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
