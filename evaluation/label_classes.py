"""Labels as classes: how well positive, negated, uncertain and unmentioned are each told, and kappa over all four.

The F1 of positives cannot see a denial that became "not mentioned". These are the scores of the CheXpert and CheXbert
papers (Irvin et al. 2019, arXiv:1901.07031; Smit et al. 2020, arXiv:2004.09167).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.finding_labels import ABSENT, BLANK, NO_FINDING, PRESENT, UNCERTAIN, LabelTable, check_alike

_TOLD = (PRESENT, ABSENT, UNCERTAIN)


@dataclass(frozen=True)
class ClassF1:
    """For each label, F1 of telling a class from the rest, in the order of the names; 0 where 0/0.

    `weighted` averages negation, uncertain and positive by how often the weighting table holds each; `three_class` is
    their plain mean over those that occur in pred or ref; `kappa` is Cohen's over the four classes (nan when all is one
    class). `accuracy` is the share of all cells that are equal.
    """

    names: tuple[str, ...]
    mention: NDArray[np.float64]
    blank: NDArray[np.float64]
    positive: NDArray[np.float64]
    negation: NDArray[np.float64]
    uncertain: NDArray[np.float64]
    weighted: NDArray[np.float64]
    three_class: NDArray[np.float64]
    kappa: NDArray[np.float64]
    accuracy: float
    n: int
    variant: str

    def macro(self, which: str) -> float:
        """Mean over labels, without those that cannot have the class: "No Finding" is never negated or uncertain, and
        "Support Devices" never uncertain, in the CheXbert paper's averages. nan entries are left out."""
        never = {"negation": (NO_FINDING,), "uncertain": (NO_FINDING, "Support Devices")}.get(which, ())
        scores = getattr(self, which)
        kept = [k for k, name in enumerate(self.names) if name not in never and not math.isnan(scores[k])]
        return float(np.mean(scores[kept])) if kept else math.nan


def class_f1(pred: LabelTable, ref: LabelTable, by: str, weighting: LabelTable | None = None) -> ClassF1:
    """Scores of each class of each label.

    weighting: the labels whose class frequencies weigh `weighted` (the paper takes the training set's); else the
    reference's own. Raises: ValueError if the tables differ in names or reports.
    """
    check_alike(pred, ref)
    frequencies = (ref if weighting is None else weighting.only(ref.names)).codes
    each = {code: _f1(pred.codes == code, ref.codes == code) for code in (*_TOLD, BLANK)}
    shares = np.stack([(frequencies == code).sum(0) for code in _TOLD]).astype(np.float64)
    stacked = np.stack([each[code] for code in _TOLD])
    occurs = np.stack([((pred.codes == code) | (ref.codes == code)).any(0) for code in _TOLD])
    with np.errstate(invalid="ignore", divide="ignore"):
        three = (stacked * occurs).sum(0) / occurs.sum(0)
    source = "the references" if weighting is None else "a given table"
    return ClassF1(
        ref.names,
        _f1(pred.codes != BLANK, ref.codes != BLANK),
        each[BLANK],
        each[PRESENT],
        each[ABSENT],
        each[UNCERTAIN],
        (stacked * shares).sum(0) / np.maximum(shares.sum(0), 1),
        three,
        _kappa(pred.codes, ref.codes),
        float((pred.codes == ref.codes).mean()) if ref.codes.size else math.nan,
        len(ref.codes),
        f"labels by {by}; one class against the rest, 0/0 is 0; weights from {source}",
    )


def _f1(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    both, total = (said & true).sum(0), said.sum(0) + true.sum(0)
    return np.asarray(2 * both / np.maximum(total, 1), np.float64)


def _kappa(said: NDArray[np.int8], true: NDArray[np.int8]) -> NDArray[np.float64]:
    observed = (said == true).mean(0) if len(said) else np.full(said.shape[1], math.nan)
    expected = (
        sum((said == code).mean(0) * (true == code).mean(0) for code in (*_TOLD, BLANK)) if len(said) else observed
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - np.asarray(expected)), math.nan)
