"""Drafts measured: what they state against the reference, beside baselines that write nothing themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from evaluation.clinical import FindingTable, laterality_pairs, present, sides
from evaluation.intervals import patient_bootstrap_many
from evaluation.scorecard import Metric
from medvlm.data import Example
from medvlm.encoders import ImageTokens
from medvlm.model import Model
from medvlm.searching import facts_key
from medvlm.testset import TestSet
from reports.findings import find


def drafting(
    model: Model, test: TestSet, tokens: ImageTokens, learned: tuple[list[Example], torch.Tensor] | None
) -> tuple[list[Metric], list[str]]:
    """Finding F1 of drafts and of two baselines without a writer; hallucinations, omissions and wrong sides."""
    texts = write_all(model, test, tokens)
    metrics = draft_metrics("draft", texts, test, "greedy")
    if learned is not None:
        examples, whole = learned
        frequent = Counter(example.text for example in examples).most_common(1)[0][0]
        common = frequent_findings_report(examples)
        nearest = (F.normalize(tokens.whole, dim=-1) @ F.normalize(whole, dim=-1).T).argmax(1).tolist()
        baselines = {
            "frequent": ([common] * len(texts), "a training report with the most frequent set of findings"),
            "nearest": (
                [examples[i].text for i in nearest],
                "report of the training study with the most similar image",
            ),
        }
        if frequent != common:
            baselines["frequent_text"] = ([frequent] * len(texts), "the most frequent training report, word by word")
        for name, (written, variant) in baselines.items():
            metrics += draft_metrics(f"draft.baseline.{name}", written, test, variant)[:2]
    return metrics, texts


def frequent_findings_report(examples: Sequence[Example]) -> str:
    """A report whose set of present findings is the most frequent one that has any finding.

    The most frequent of all states nothing present, and would score 0 by construction: too weak a baseline.
    """
    counts = Counter(key for example in examples if (key := facts_key(example)))
    if not counts:
        return examples[0].text
    best = counts.most_common(1)[0][0]
    return next(example.text for example in examples if facts_key(example) == best)


def write_all(model: Model, test: TestSet, tokens: ImageTokens, batch: int = 32) -> list[str]:
    """Drafts of all studies, without prior."""
    from tqdm import tqdm

    texts: list[str] = []
    for s in tqdm(range(0, len(test.examples), batch), desc="write drafts", unit="batch"):
        part = ImageTokens(tokens.local[s : s + batch], tokens.whole[s : s + batch], tokens.grid)
        texts += model.write(part, [example.view for example in test.examples[s : s + batch]])
    return texts


def draft_metrics(name: str, texts: Sequence[str], test: TestSet, variant: str) -> list[Metric]:
    """Micro and macro finding F1, hallucination and omission rate, and laterality errors of texts."""
    said = [find(text) for text in texts]
    drafted = [{f for f in present(facts) if f in test.names} for facts in said]
    reference, reference_sides = test.references()
    table = FindingTable.of(drafted, [{f for f in found if f in test.names} for found in reference], test.names)
    wrong = laterality_pairs([sides(facts) for facts in said], reference_sides)

    def statistic(rows: np.ndarray) -> dict[str, float]:
        part: Any = table.rows(rows)
        count, of = (sum(wrong[r][i] for r in rows) for i in (0, 1))
        return {
            "finding_f1.micro": part.micro_f1(),
            "finding_f1.macro": part.macro_f1(),
            "hallucination_rate": part.hallucination_rate(),
            "omission_rate": part.omission_rate(),
            "laterality_error": count / of if of else float("nan"),
        }

    how = f"{variant}; our labeller, uncertain counted as absent"
    return [
        Metric.of(f"{name}.{key}", value, how, test.data)
        for key, value in patient_bootstrap_many(statistic, test.patients, n=500).items()
    ]
