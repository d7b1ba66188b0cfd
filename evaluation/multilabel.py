"""Many findings at once, some labels missing: F1 and its relatives at thresholds that validation chose.

A missing label (nan) takes its own cell out and nothing else: the study still counts for its other findings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.classification import auroc
from evaluation.labelled import Floats, labelled_table, refuse_strange_labels
from evaluation.thresholds import Threshold, choose_threshold


@dataclass(frozen=True)
class MultiLabelScores:
    """F1 in its averages, by name, and what they rest on.

    micro: counts of all findings pooled. macro: mean over findings. weighted: mean over findings, by positives.
    example: mean over studies. subset: share of studies with every known finding right (exact match).
    hamming: share of wrong cells. `undefined` names findings with neither a positive nor a call; they took the value
    `zero_division`, and where that is nan they are not in macro. `n` counts studies with a known label, `cells` labels.
    """

    micro: float
    macro: float
    weighted: float
    example: float
    subset: float
    hamming: float
    per_label: dict[str, float]
    undefined: tuple[str, ...]
    n: int
    cells: int

    def variant(self) -> str:
        """Words for a metric's variant."""
        dropped = f"; without calls or positives: {', '.join(self.undefined)}" if self.undefined else ""
        return f"{len(self.per_label)} findings, {self.cells} known labels{dropped}"


def choose_thresholds(
    scores: ArrayLike, labels: ArrayLike, names: Sequence[str], split: str = "validation"
) -> tuple[dict[str, Threshold], tuple[str, ...]]:
    """The threshold of best F1 for each finding, and the names of findings that have one class only and get none.

    Shapes: scores, labels (N, K), labels 1, 0 or nan. Raises: ValueError as choose_threshold, the split "test"
    included.
    """
    score, label = labelled_table(scores, labels, names)
    both = [0 < np.nansum(label[:, k]) < np.isfinite(label[:, k]).sum() for k in range(len(names))]
    found = {name: choose_threshold(score[:, k], label[:, k], "f1", split) for k, name in enumerate(names) if both[k]}
    return found, tuple(name for k, name in enumerate(names) if not both[k])


def call_table(scores: ArrayLike, thresholds: Mapping[str, Threshold | float], names: Sequence[str]) -> Floats:
    """1 where a score reaches its finding's threshold, else 0, nan where the score is nan; (N, K) to (N, K).

    Raises: KeyError naming findings without a threshold; ValueError if the columns are not as many as the names.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(names):
        raise ValueError(f"scores have shape {table.shape}, expected (N, {len(names)}), a column a name")
    missing = [name for name in names if name not in thresholds]
    if missing:
        raise KeyError(f"no threshold for {missing}; known are {sorted(thresholds)}. Leave these findings out by name")
    chosen = [thresholds[name] for name in names]
    values = np.array([one.value if isinstance(one, Threshold) else float(one) for one in chosen])
    return np.where(np.isnan(table), np.nan, (table >= values).astype(np.float64))


def multilabel_scores(
    calls: ArrayLike, labels: ArrayLike, names: Sequence[str], zero_division: float = math.nan
) -> MultiLabelScores:
    """F1 averages of calls against labels.

    Shapes: calls (N, K) of 0 and 1, labels (N, K) of 0, 1 or nan (unknown). zero_division is the F1 of a finding (and
    of a study) with neither a positive nor a call: nan leaves it out; 0 and 1 are the settings of scikit-learn.
    Every value is nan where nothing is left to average, such as an empty table.
    Raises: ValueError on unequal shapes, other values, or a call that is nan where the label is known.
    """
    called, label = labelled_table(calls, labels, names)
    refuse_strange_labels(called)
    known = ~np.isnan(label)
    if np.isnan(called[known]).any():
        raise ValueError(
            f"{int(np.isnan(called[known]).sum())} calls are nan where the label is known, expected 0 or 1: a model"
            " that does not answer must be counted as a miss or left out by the caller"
        )
    yes, present = (called == 1) & known, (label == 1) & known
    hits, extra, missed = yes & present, yes & ~present, ~yes & present & known
    per_label = _f1(hits.sum(0), extra.sum(0), missed.sum(0), zero_division)
    rows = known.any(axis=1)
    per_study = _f1(hits.sum(1), extra.sum(1), missed.sum(1), zero_division)[rows]
    support = present.sum(0).astype(np.float64)
    empty = (hits | extra | missed).sum(0) == 0
    weighted = float((support * np.nan_to_num(per_label)).sum() / support.sum()) if support.sum() else math.nan
    return MultiLabelScores(
        micro=float(_f1(hits.sum(), extra.sum(), missed.sum(), zero_division)),
        macro=_mean(per_label),
        weighted=weighted,
        example=_mean(per_study),
        subset=_mean((~(extra | missed).any(axis=1))[rows].astype(np.float64)),
        hamming=float((extra | missed).sum() / known.sum()) if known.any() else math.nan,
        per_label={name: float(value) for name, value in zip(names, per_label, strict=True)},
        undefined=tuple(name for name, none in zip(names, empty, strict=True) if none),
        n=int(rows.sum()),
        cells=int(known.sum()),
    )


def micro_auroc(scores: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> float:
    """AUROC of all known cells pooled into one column.

    It asks that scores of different findings be on one scale, and rewards knowing which findings are common.
    macro_auroc does not, so the two are never compared. Shapes: (N, K). nan with one class. Raises: as macro_auroc.
    """
    score, label = labelled_table(scores, labels, names)
    return auroc(score.ravel(), label.ravel())


def _f1(
    hits: NDArray[np.intp] | np.intp,
    extra: NDArray[np.intp] | np.intp,
    missed: NDArray[np.intp] | np.intp,
    zero_division: float,
) -> Floats:
    whole = np.asarray(2 * hits + extra + missed, dtype=np.float64)
    return np.where(whole > 0, 2 * np.asarray(hits) / np.maximum(whole, 1), zero_division)


def _mean(values: Floats) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else math.nan
