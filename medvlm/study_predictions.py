"""What a model said of each study of a test set, as rows of predictions.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.clinical import sides
from evaluation.predictions import StudyPrediction, numbered
from medvlm.diagnose import probabilities
from medvlm.measures import called
from medvlm.model import Model
from medvlm.testset import TestSet
from reports.findings import find


def study_predictions(
    model: Model,
    test: TestSet,
    odds: np.ndarray,
    texts: Sequence[str],
    values: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[str]],
) -> list[StudyPrediction]:
    """One row for each study. odds (n, K); texts: drafts, or none; values: name of metric to (n,), nan for none."""
    p, _ = probabilities(model, odds, test.names)
    calls = called(model, p, test.names)
    _, reference = test.references()
    rows = []
    for row, (example, patient) in enumerate(zip(test.examples, numbered(test.patients), strict=True)):
        rows.append(
            StudyPrediction(
                study=example.study_uid,
                patient=patient,
                labels=by_name(test.names, test.labels[row]),
                scores=by_name(test.names, odds[row]),
                probabilities=by_name(test.names, p[row]),
                called={name: bool(value) for name, value in zip(test.names, calls[row], strict=True)},
                reference=kept(reference[row], test.names),
                drafted=kept(sides(find(texts[row])), test.names) if texts else None,
                draft=texts[row] if texts else None,
                values={name: float(one[row]) for name, one in values.items() if np.isfinite(one[row])},
                groups={name: told[row] for name, told in groups.items() if told[row]},
            )
        )
    return rows


def by_name(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    """Values (K,) by name, rounded to what float32 weights can mean."""
    return {name: round(float(value), 7) for name, value in zip(names, values, strict=True)}


def kept(found: Mapping[str, set[str]], names: Sequence[str]) -> dict[str, list[str]]:
    """The findings that the model knows, with their sides in order."""
    return {name: sorted(sides) for name, sides in found.items() if name in names}
