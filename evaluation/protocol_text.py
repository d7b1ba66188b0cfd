"""Without the image, and against it: what does a model answer from text, and does text overrule what it sees?

Sources: MMStar, Chen et al. 2024, arXiv:2403.20330 (gain of the image, leakage of the text model); VLind-Bench, Lee et
al. 2024, arXiv:2406.08702 (language priors are judged only where the model knows the answer otherwise).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from evaluation.influence import combine, rate_estimate
from evaluation.labelled import Floats
from evaluation.protocol_outcome import Outcome, People, columns_of, judged, metric
from evaluation.score_table import ENOUGH, ScoreTable

GAIN = 0.05
"""AUROC or accuracy that the image should add."""
FOLLOWED = 0.10
"""Share of right answers that a misleading text may turn."""


def blind(
    names: Sequence[str],
    scores: ArrayLike,
    controls: Mapping[str, ArrayLike],
    labels: ArrayLike,
    patients: Sequence[Hashable],
    data: str,
) -> Outcome:
    """Mean AUROC with the image, and the gain over each control without it (blank, swapped, text only).

    Shapes: scores, labels and each control (N, K). The mean is over findings with at least 10 patients of each class.
    Raises: ValueError for no control, no such finding, or shapes that do not fit.
    """
    table = ScoreTable.of(names, scores, labels, patients)
    columns = table.usable()
    if not columns or not controls:
        raise ValueError(
            f"{len(columns)} findings have {ENOUGH} patients of each class and {len(controls)} controls were given;"
            " expected at least one of each"
        )
    own = table.macro(columns)
    found = [metric("blind", "auroc", own, f"macro over {len(columns)} findings", data)]
    gains = []
    for name, given in controls.items():
        other = table.with_scores(given, f"scores of the control {name!r}").macro(columns)
        found.append(metric("blind", f"{name}.auroc", other, f"control: {name}; macro", data))
        gains.append(metric("blind", f"{name}.gain", own - other, f"with the image minus {name}", data, within=False))
    rule = f"passed when the image adds at least {GAIN:g} over every control, failed when it surely adds less."
    verdict = judged(*((gain, "least", GAIN) for gain in gains))
    return Outcome("blind", "Is the model better with its image than without?", (*found, *gains), verdict, rule)


def blind_answers(
    with_image: ArrayLike,
    without_image: ArrayLike,
    items: Sequence[Hashable],
    data: str,
    text_model: ArrayLike | None = None,
) -> Outcome:
    """MMStar on right (1) and wrong (0) answers (N,) of a model with and without its images.

    gain: accuracy with minus without. leakage, where `text_model` gives the answers of the language model that it was
    built on: accuracy without images minus that, or 0 if that is higher (what training told it of the test).
    """
    right = _right(with_image, "answers with the image")
    people = People.of(items, right.size)
    guessed = columns_of(_right(without_image, "answers without the image"), right.shape, "answers without the image")
    first, second = (rate_estimate(values, people.numbers, people.count) for values in (right, guessed))
    gain = metric("blind_answers", "gain", first - second, "MMStar multi-modal gain", data, within=False)
    found = [
        metric("blind_answers", "accuracy", first, "with the image", data),
        metric("blind_answers", "blind.accuracy", second, "without the image", data),
        gain,
    ]
    if text_model is not None:
        base = columns_of(_right(text_model, "answers of the text model"), right.shape, "answers of the text model")
        third = rate_estimate(base, people.numbers, people.count)
        leak = metric(
            "blind_answers", "leakage", second - third, "MMStar leakage before its cut at 0", data, within=False
        )
        found.append(leak)
    rule = f"passed when the image adds at least {GAIN:g} of accuracy, failed when it surely adds less."
    question = "How many questions are answered without looking?"
    return Outcome("blind_answers", question, tuple(found), judged((gain, "least", GAIN)), rule)


def text_bias(
    names: Sequence[str],
    neutral: ArrayLike,
    contradicting: ArrayLike,
    labels: ArrayLike,
    patients: Sequence[Hashable],
    data: str,
    thresholds: ArrayLike | float = 0.0,
) -> Outcome:
    """Scores (N, K) under a neutral text and under one that says the opposite of what the image shows.

    followed: of the answers that were right under the neutral text, the share that the contradicting one turns. Only
    those count, so that an ignorant model is not taken for a credulous one. auroc_change: contradicting minus neutral.
    Raises: ValueError if no answer is right under the neutral text, or shapes do not fit.
    """
    table = ScoreTable.of(names, neutral, labels, patients)
    other = table.with_scores(contradicting, "scores under the contradicting text")
    at = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), (len(table.names),))
    truth = table.labels == 1
    known = ~np.isnan(table.labels)
    right, still = ((t.scores >= at) == truth for t in (table, other))
    if not (right & known).any():
        raise ValueError(
            "no answer is right under the neutral text: whether a text turns right answers cannot be asked"
        )
    turned = np.where(right & known, (~still).astype(float), np.nan)
    who = np.repeat(table.patients, len(table.names))
    followed = metric(
        "text_bias",
        "followed",
        rate_estimate(turned.ravel(), who, table.count),
        "right answers that a contradicting text turns",
        data,
    )
    found = [followed]
    columns = table.usable()
    if columns:
        change = combine([other.auroc(k) - table.auroc(k) for k in columns])
        found.append(
            metric("text_bias", "auroc_change", change, "contradicting minus neutral, macro", data, within=False)
        )
    rule = f"passed when at most {FOLLOWED:.0%} of right answers are turned, failed when surely more."
    question = "Does a text that contradicts the image turn answers that were right?"
    return Outcome("text_bias", question, tuple(found), judged((followed, "most", FOLLOWED)), rule)


def _right(values: ArrayLike, what: str) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not np.isin(found, (0, 1)).all():
        raise ValueError(f"{what} have shape {found.shape} or values other than 0 (wrong) and 1 (right)")
    return found
