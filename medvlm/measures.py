"""Diagnosis measured on a test set: each number with n, an interval over patients, and a named variant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.classification import auroc
from evaluation.intervals import patient_bootstrap, patient_bootstrap_many
from evaluation.score_metrics import Labelled, calibration_metrics, call_metrics, ranking_metrics
from evaluation.scorecard import FindingScores, Metric
from medvlm.diagnose import probabilities
from medvlm.model import Model
from medvlm.testset import SMALL, TestSet

FOCAL = ("pleural effusion", "pneumothorax", "consolidation", "atelectasis", "lung nodule", "lung mass", "rib fracture")
PAIRS = "prompt pairs, mean log-odds, highest of the sides"


def zero_shot(model: Model, test: TestSet, odds: np.ndarray) -> tuple[list[Metric], list[FindingScores]]:
    """AUROC, calibration, and calls at validation thresholds, of prompt pairs."""
    p, known = probabilities(model, odds, test.names)
    truth = truth_of(test)
    metrics = auroc_metrics("zero_shot.auroc", odds, test, PAIRS)
    fitted = f"Platt on validation studies for {sum(known)} of {len(known)} findings"
    metrics += calibration_metrics("zero_shot", p, truth, fitted)
    metrics += call_metrics("zero_shot", called(model, p, test.names), truth, "at the threshold from validation")
    return metrics, [FindingScores(name, p[:, k], test.labels[:, k]) for k, name in enumerate(test.names)]


def truth_of(test: TestSet) -> Labelled:
    """What scores are measured against."""
    return Labelled(test.names, test.labels, test.patients, test.data)


def called(model: Model, p: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Whether each finding is called present (n, K): its probability reaches its validation threshold, else 0.5."""
    return np.asarray(p >= np.array([model.thresholds.get(name, 0.5) for name in names]))


def auroc_metrics(
    name: str, scores: np.ndarray, test: TestSet, variant: str, only: Sequence[str] | None = None
) -> list[Metric]:
    """Macro AUROC, the macro over focal findings, and one AUROC for each finding (`only` these when given)."""
    return ranking_metrics(name, scores, truth_of(test), variant, FOCAL, only)


def known_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """AUROC over the rows whose label is known."""
    kept = ~np.isnan(labels)
    return auroc(scores[kept], labels[kept]) if kept.any() else float("nan")


def small_effusion(odds: np.ndarray, test: TestSet, name: str) -> list[Metric]:
    """AUROC of small effusions (severity tiny or mild) against studies without any; larger ones are left out."""
    kept = without_large_effusions(test)
    if kept is None:
        return []
    k = test.names.index("pleural effusion")
    scores, labels = odds[kept, k], test.labels[kept, k]
    patients = [test.patients[row] for row in kept]
    value = patient_bootstrap(lambda rows: known_auroc(scores[rows], labels[rows]), patients, n=500)
    return [Metric.of(f"{name}.small pleural effusion", value, "severity tiny or mild against none", test.data)]


def without_large_effusions(test: TestSet) -> np.ndarray | None:
    """Rows whose effusions, if any, are tiny or mild (n,); None where the truth does not say."""
    if not test.truth or "pleural effusion" not in test.names:
        return None
    severities = [{f["severity"] for f in line["findings"] if f["name"] == "pleural effusion"} for line in test.truth]
    return np.flatnonzero([not s or s <= SMALL for s in severities])


def above_baseline(odds: np.ndarray, baseline: np.ndarray, test: TestSet, name: str) -> list[Metric]:
    """AUROC of the model minus that of a baseline on the same studies, resampled together, for each focal finding."""

    def gain(rows: np.ndarray, k: int) -> float:
        labels = test.labels[rows, k]
        return known_auroc(odds[rows, k], labels) - known_auroc(baseline[rows, k], labels)

    columns = {n: test.names.index(n) for n in FOCAL if n in test.names}
    variant = "difference of AUROC, both on the same resamples of patients"

    def every(rows: np.ndarray) -> dict[str, float]:
        found = {n: gain(rows, k) for n, k in columns.items()}
        told = [value for value in found.values() if not np.isnan(value)]
        return {"focal": float(np.mean(told)) if told else float("nan"), **found}

    found = patient_bootstrap_many(every, test.patients, n=500)
    kept = without_large_effusions(test)
    if kept is not None:
        k, patients = columns["pleural effusion"], [test.patients[row] for row in kept]
        found["small pleural effusion"] = patient_bootstrap(lambda rows: gain(kept[rows], k), patients, n=500)
    return [Metric.of(f"{name}.{key}", value, variant, test.data) for key, value in found.items()]
