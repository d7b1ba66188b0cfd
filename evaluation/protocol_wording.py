"""The same question in other words, the same options in another order: does the answer stay?

Sources: MMBench, Liu et al. 2023, arXiv:2307.06281 (CircularEval); Zheng et al. 2023, arXiv:2309.03882 (bias for an
option's place).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from evaluation.influence import Estimate, combine, rate_estimate
from evaluation.protocol_outcome import Outcome, People, judged, metric
from evaluation.score_table import ENOUGH, ScoreTable

STAYS = 0.90
"""Share of answers that should stay when only the order of the options changes."""
LOSS = 0.05
"""AUROC that the worst wording may lose against the mean of all."""


def option_order(
    chosen: ArrayLike, orders: ArrayLike, truth: Sequence[int], items: Sequence[Hashable], data: str
) -> Outcome:
    """Choices under several orders of the same options.

    Shapes: chosen (N, P) the option (0 to C - 1, not its place), -1 for no choice; orders (N, P, C) the option at each
    place; truth (N,). accuracy: mean over orders. circular: right in every order. agreement: the same option in every
    order. first, last: how much more often than 1 / C the option at that place is taken.
    Raises: ValueError for fewer than 2 orders, shapes that do not fit, or rows of `orders` that are no permutation.
    """
    given = np.asarray(chosen, dtype=np.intp)
    place = np.asarray(orders, dtype=np.intp)
    if given.ndim != 2 or given.shape[1] < 2 or place.ndim != 3 or place.shape[:2] != given.shape:
        raise ValueError(f"choices {given.shape} and orders {place.shape} must be (N, P) and (N, P, C) with P >= 2")
    options = place.shape[2]
    if not (np.sort(place, axis=2) == np.arange(options)).all():
        raise ValueError(f"each row of orders must be a permutation of 0 to {options - 1}")
    if given.min() < -1 or given.max() >= options:
        raise ValueError(f"choices range from {given.min()} to {given.max()}, expected -1 (none) to {options - 1}")
    true = np.asarray(truth, dtype=np.intp)
    if true.shape != given.shape[:1]:
        raise ValueError(f"truth has shape {true.shape}, expected {given.shape[:1]}, the right option of each item")
    people = People.of(items, len(given))
    right = given == true[:, None]
    parts = {
        "agreement": ((given == given[:, :1]).all(1) & (given[:, 0] >= 0)).astype(float),
        "accuracy": right.mean(1),
        "circular": right.all(1).astype(float),
        "first": (given == place[:, :, 0]).mean(1) - 1 / options,
        "last": (given == place[:, :, -1]).mean(1) - 1 / options,
    }
    variant = f"{given.shape[1]} orders of {options} options"
    found = [
        metric(
            "option_order",
            name,
            rate_estimate(values, people.numbers, people.count),
            variant,
            data,
            within=name not in ("first", "last"),
        )
        for name, values in parts.items()
    ]
    rule = f"passed when at least {STAYS:.0%} of answers stay the same in every order, failed when surely fewer."
    question = "Does the answer stay when the options change places?"
    return Outcome("option_order", question, tuple(found), judged((found[0], "least", STAYS)), rule)


def prompt_wording(
    names: Sequence[str],
    scores: ArrayLike,
    labels: ArrayLike,
    patients: Sequence[Hashable],
    data: str,
    thresholds: ArrayLike | float = 0.0,
) -> Outcome:
    """Scores (P, N, K) under P wordings of each question.

    auroc, worst: macro AUROC, mean over wordings and that of the worst wording. loss: their difference (the worst is
    chosen on the same studies, so the loss is on the strict side). flips: share of answers that are not the same
    under all wordings.
    Raises: ValueError for fewer than 2 wordings, shapes that do not fit, or no finding with 10 patients of each class.
    """
    given = np.asarray(scores, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    if given.ndim != 3 or len(given) < 2 or given.shape[1:] != label.shape:
        raise ValueError(f"scores {given.shape} must be (P, N, K) with P >= 2, and labels {label.shape} (N, K)")
    first = ScoreTable.of(names, given[0], label, patients)
    columns = first.usable()
    if not columns:
        raise ValueError(f"no finding has {ENOUGH} patients of each class: wordings cannot be told apart")
    found: list[Estimate] = [
        first.with_scores(part, f"scores of wording {number}").macro(columns) for number, part in enumerate(given)
    ]
    mean, worst = combine(found), min(found, key=lambda estimate: estimate.value)
    at = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), (len(first.names),))
    called = given >= at
    flips = np.where(np.isnan(label), np.nan, (called != called[0]).any(0).astype(float))
    who = np.repeat(first.patients, len(first.names))
    variant = f"{len(given)} wordings; macro over {len(columns)} findings"
    loss = metric("prompt_wording", "loss", mean - worst, f"mean minus worst of {variant}", data, within=False)
    metrics = (
        loss,
        metric("prompt_wording", "auroc", mean, variant, data),
        metric("prompt_wording", "worst", worst, f"worst of {variant}", data),
        metric(
            "prompt_wording",
            "flips",
            rate_estimate(flips.ravel(), who, first.count),
            f"answers that differ between {len(given)} wordings",
            data,
        ),
    )
    rule = f"passed when the worst wording loses at most {LOSS:g} of AUROC against the mean, failed when surely more."
    question = "Does the wording of the question decide the answer?"
    return Outcome("prompt_wording", question, metrics, judged((loss, "most", LOSS)), rule)


def circular_orders(options: int) -> np.ndarray:
    """The orders of CircularEval (C, C): every rotation, so that each option stands at each place once."""
    if options < 2:
        raise ValueError(f"there are {options} options, expected at least 2")
    return (np.arange(options)[:, None] + np.arange(options)) % options
