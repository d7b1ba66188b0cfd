"""How much worse a model gets when its input does: AUROC by severity, and the paired drop from the untouched input."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evaluation.labelled import labelled_table
from evaluation.scorecard import Metric
from evaluation.weighted import Weighted, weighted_auroc, weighted_bootstrap, weighted_difference, weighted_macro


@dataclass(frozen=True)
class Condition:
    """Scores (N, K) of the same studies under one condition. `level` says how strong, `step` is its order from 1."""

    name: str
    step: int
    level: str
    scores: ArrayLike


def macro_over(
    scores: ArrayLike, labels: ArrayLike, names: Sequence[str], kept: Sequence[int], rows: ArrayLike | None = None
) -> Weighted:
    """Macro AUROC over fixed columns, of all rows or of those where `rows` (N,) is true. Shapes: (N, K)."""
    score, label = labelled_table(scores, labels, names)
    if rows is not None:
        label = np.where(np.asarray(rows, bool)[:, None], label, np.nan)
    return weighted_macro([weighted_auroc(score[:, k], label[:, k]) for k in kept])


def both_classes(labels: ArrayLike, fewest: int = 1) -> list[int]:
    """Columns of labels (N, K) with at least `fewest` positives and negatives."""
    label = np.asarray(labels, dtype=np.float64)
    enough = ((label == 1).sum(0) >= fewest) & ((label == 0).sum(0) >= fewest)
    return [int(k) for k in np.flatnonzero(enough)]


def robustness_metrics(
    untouched: ArrayLike,
    conditions: Sequence[Condition],
    labels: ArrayLike,
    names: Sequence[str],
    patients: Sequence[Hashable],
    data: str,
    prefix: str = "robust",
    resamples: int = 1000,
) -> list[Metric]:
    """`robust.CONDITION.STEP.auroc` and `.drop` (untouched minus spoiled, same resamples) for each condition.

    Shapes: untouched, each condition's scores and labels (N, K); patients (N,). `robust.untouched.auroc` is the value
    on the same studies. A positive drop is a loss. Raises: ValueError on unequal shapes.
    """
    kept = both_classes(labels)
    before = macro_over(untouched, labels, names, kept)
    statistics = {"untouched.auroc": before}
    for one in conditions:
        after = macro_over(one.scores, labels, names, kept)
        statistics[f"{one.name}.{one.step}.auroc"] = after
        statistics[f"{one.name}.{one.step}.drop"] = weighted_difference(before, after)
    levels = {f"{one.name}.{one.step}": one.level for one in conditions}
    metrics = []
    for key, found in weighted_bootstrap(statistics, patients, n=resamples).items():
        level = levels.get(key.rpartition(".")[0], "images and prompts as they are")
        how = "untouched minus spoiled, same resamples" if key.endswith(".drop") else "macro AUROC"
        metrics.append(Metric.of(f"{prefix}.{key}", found, f"{level}; {how} over {len(kept)} findings", data))
    return metrics
