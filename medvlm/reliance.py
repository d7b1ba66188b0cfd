"""Whether a model looks at the image: the same questions with the wrong image, none, or nothing learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.jackknife import share_intervals
from evaluation.scorecard import Metric
from evaluation.weighted import Weighted, weighted_macro_auroc
from medvlm.diagnose import finding_odds
from medvlm.measures import PAIRS
from medvlm.model import Model, untrained
from medvlm.testset import TestSet, other_patient, tokens_of

RANDOM_MODELS = 5
"""Random weights tell findings apart a little, either way: one draw is no control for a thousand studies (LOG.md)."""


def controls(model: Model, test: TestSet, odds: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Scores (n, K) of each control: another patient's image, untrained models, a blank image."""
    untaught = []
    for seed in range(RANDOM_MODELS):
        fresh = untrained(model, seed)
        tokens = tokens_of(fresh, test.images, test.examples, f"untrained control {seed + 1} of {RANDOM_MODELS}")
        untaught.append(finding_odds(fresh, tokens, test.names))
    blank = np.zeros((1, *test.images.shape[1:]), dtype=np.float32)
    same = finding_odds(model, tokens_of(model, blank, test.examples[:1], "blank"), test.names)
    return {
        "swapped": [odds[other_patient(test.patients)]],
        "untrained": untaught,
        "blank": [np.repeat(same, len(odds), 0)],
    }


def reliance(scores: Mapping[str, Sequence[np.ndarray]], test: TestSet) -> list[Metric]:
    """Macro AUROC of each control, the mean over its draws: all should be at chance."""
    statistics = {
        name: mean_of([weighted_macro_auroc(one, test.labels, test.names) for one in drawn])
        for name, drawn in scores.items()
    }
    metrics = []
    for name, found in share_intervals(statistics, test.patients).items():
        draws = f"mean of {len(scores[name])} random models; " if len(scores[name]) > 1 else ""
        metrics.append(Metric.of(f"reliance.{name}.auroc", found, f"control: {name}; {draws}{PAIRS}; macro", test.data))
    return metrics


def mean_of(parts: Sequence[Weighted]) -> Weighted:
    """The plain mean of statistics in the same resample."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean([part(weights) for part in parts], axis=0))

    return statistic
