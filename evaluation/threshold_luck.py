"""Are thresholds the best of the test by luck, or because they were chosen there?

A threshold that was chosen on other patients is now and then the very best on these too; that all of a dozen are, is
no accident. How often one is, is found by choosing thresholds on smooth resamples of the test: whole patients drawn
with replacement, and each score moved a little, since other patients would not have the same scores again.

Source: the smoothed bootstrap of Silverman and Young 1987, doi:10.1093/biomet/74.3.469, on the log-odds of scores that
lie in (0, 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import logit

from evaluation.labelled import Floats, counts_at_thresholds
from evaluation.score_table import ENOUGH, ScoreTable

RESAMPLES = 200
"""At most; fewer where there are very many studies."""
_ROWS = 4_000_000
_BLOCK = 20


def luck(table: ScoreTable, values: Mapping[int, float], seed: int = 0) -> tuple[list[str], float]:
    """Findings whose threshold is the best of the test, and the chance of so many if they came from elsewhere.

    values: column -> threshold. For F1 and for Youden's index, whichever is the less likely (doubled). Findings are
    taken as independent.
    """
    best: tuple[list[str], float] = ([], 1.0)
    usable = [k for k in values if min(table.classes(k)) >= ENOUGH]
    rows = {k: np.flatnonzero(~np.isnan(table.labels[:, k])) for k in usable}
    scales = {k: _unbounded(table.scores[rows[k], k], values[k]) for k in usable}
    curves = {k: _curves(scales[k][0], table.labels[rows[k], k]) for k in usable}
    draws = {
        k: drawn_optima(scales[k][0], table.labels[rows[k], k], table.patients[rows[k]], (seed, k)) for k in usable
    }
    for rule in (0, 1):
        hits, chances = [], []
        for k in usable:
            worth, ranked = curves[k][rule], curves[k][2]
            hits.append(_worth_at(worth, ranked, scales[k][1]) >= worth.max() - 1e-12)
            met = [_worth_at(worth, ranked, value) >= worth.max() - 1e-12 for value in draws[k][rule]]
            chances.append((sum(met) + 1) / (len(met) + 1))
        p = min(1.0, 2 * _at_least(chances, sum(hits))) if hits else 1.0
        if p < best[1]:
            best = ([table.names[k] for k, hit in zip(usable, hits, strict=True) if hit], p)
    return best


def drawn_optima(score: Floats, label: Floats, patient: np.ndarray, seed: tuple[int, int]) -> tuple[Floats, Floats]:
    """Best thresholds by F1 and by Youden's index on smooth resamples of patients, half-way to the next score.

    Shapes: score, label, patient (M,) -> two arrays (B,); resamples with one class are left out.
    """
    rng = np.random.default_rng(seed)
    people, who = np.unique(patient, return_inverse=True)
    width = np.where(label == 1, _bandwidth(score[label == 1]), _bandwidth(score[label == 0]))
    draws = min(RESAMPLES, max(40, _ROWS // score.size))
    found: tuple[list[Floats], list[Floats]] = ([], [])
    for start in range(0, draws, _BLOCK):
        size = min(_BLOCK, draws - start)
        drawn = rng.multinomial(people.size, np.full(people.size, 1 / people.size), size)[:, who].astype(np.float64)
        moved = score + width * rng.normal(size=drawn.shape)
        moved[drawn == 0] = -np.inf  # to the end, where they change nothing
        order = np.argsort(-moved, axis=1)
        moved, drawn = (np.take_along_axis(values, order, 1) for values in (moved, drawn))
        true, called = np.cumsum(drawn * label[order], 1), np.cumsum(drawn, 1)
        both = (true[:, -1] > 0) & (called[:, -1] > true[:, -1])
        moved, true, called = moved[both], true[both], called[both]
        positives, negatives = true[:, -1:], called[:, -1:] - true[:, -1:]
        lowest = np.sum(np.isfinite(moved), 1) - 1
        curves = (2 * true / (called + positives), true / positives - (called - true) / negatives)
        for optima, worth in zip(found, curves, strict=True):
            at = np.argmax(np.round(worth, 12), axis=1)
            row = np.arange(len(at))
            optima.append((moved[row, at] + moved[row, np.minimum(at + 1, lowest)]) / 2)
    return np.concatenate(found[0]), np.concatenate(found[1])


def _unbounded(score: Floats, threshold: float) -> tuple[Floats, float]:
    """Scores and threshold as log-odds if all scores lie in (0, 1), else as they are: the order stays."""
    if score.min() <= 0 or score.max() >= 1:
        return score, threshold
    return logit(score), float(logit(np.clip(threshold, 1e-300, 1 - 1e-16)))


def _bandwidth(score: Floats) -> float:
    """Silverman's rule of thumb for a density: 0.9 min(sd, IQR / 1.34) n^(-1/5)."""
    low, high = np.quantile(score, [0.25, 0.75])
    return float(0.9 * min(np.std(score), (high - low) / 1.34) * score.size**-0.2)


def _curves(score: Floats, label: Floats) -> tuple[Floats, Floats, Floats]:
    """F1 and Youden's index (T,) of calling at each distinct score, and those scores, highest first."""
    true, called, ranked = counts_at_thresholds(score, label)
    positives, negatives = label.sum(), (1 - label).sum()
    return 2 * true / (called + positives), true / positives - (called - true) / negatives, ranked


def _worth_at(worth: Floats, ranked: Floats, threshold: float) -> float:
    """The worth of calling at `threshold`: that of the lowest score that is still called."""
    called = int(np.searchsorted(-ranked, -threshold, "right"))
    return float(worth[called - 1]) if called else -np.inf


def _at_least(chances: Sequence[float], hits: int) -> float:
    """P(at least `hits` of independent events with these chances): the Poisson-binomial tail."""
    share = np.ones(1)
    for chance in chances:
        share = np.convolve(share, [1 - chance, chance])
    return float(share[hits:].sum())
