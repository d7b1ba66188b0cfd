"""Search measured: each report looks for its own study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from evaluation.intervals import patient_bootstrap
from evaluation.retrieval import recall_at_k
from evaluation.scorecard import Metric
from medvlm.data import Example
from medvlm.encoders import ImageTokens
from medvlm.model import Model
from medvlm.testset import TestSet


def searching(model: Model, test: TestSet, tokens: ImageTokens) -> tuple[list[Metric], dict[str, np.ndarray]]:
    """Each report looks for its own study; studies whose reports state the same facts count as right too.

    Returns also what each study scored (n,), nan where its report states nothing, by name of metric.
    """
    asked = [i for i, example in enumerate(test.examples) if example.said]
    if len(asked) < 10:
        return [], {}
    table = report_scores(model, [test.examples[i] for i in asked], tokens)
    groups = [facts_key(example) for example in test.examples]
    found = recall_at_k(table, [groups[i] for i in asked], groups, ks=(1, 5, 10))
    patients = [test.patients[i] for i in asked]
    variant = f"report to image, mean log-odds of its sentences; N={len(groups)}; same facts count as the same"
    metrics = [
        Metric.of(f"search.recall_at_{k}", patient_bootstrap(found.hits(k), patients), variant, test.data)
        for k in (1, 5, 10)
    ]
    hits = {f"search.recall_at_{k}": np.full(len(groups), np.nan) for k in (1, 5, 10)}
    for k in (1, 5, 10):
        hits[f"search.recall_at_{k}"][asked] = found.hits(k)
    chance = found.chance[5]
    how = "random order of the same gallery"
    return [
        *metrics,
        Metric("search.chance.recall_at_5", chance, chance, chance, found.queries, how, test.data),
    ], hits


def facts_key(example: Example) -> str:
    """Present findings with their sides, as one key; an empty report has a key of its own."""
    if not example.said:
        return example.study_uid
    return "; ".join(sorted({f"{f.side or ''} {f.name}" for f in example.facts if f.status == "present"}))


def report_scores(model: Model, asking: Sequence[Example], tokens: ImageTokens, batch: int = 16) -> np.ndarray:
    """Mean log-odds (Q, n) of each report's sentences on each image."""
    texts = list(dict.fromkeys(s.text for example in asking for s in example.said))
    place = {text: i for i, text in enumerate(texts)}
    weights = torch.zeros(len(texts), len(asking))
    for q, example in enumerate(asking):
        for statement in example.said:
            weights[place[statement.text], q] += 1 / len(example.said)
    parts = [
        model.odds(ImageTokens(tokens.local[s : s + batch], tokens.whole[s : s + batch], tokens.grid), texts) @ weights
        for s in range(0, len(tokens.local), batch)
    ]
    return torch.cat(parts).T.double().numpy()
