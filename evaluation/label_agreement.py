"""How a labeller of reports agrees with people: precision, recall and F1 of presence by label, with intervals."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import Interval, Rows, patient_bootstrap_many

_MEASURES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class LabelScore:
    """One label: counts, and precision, recall and F1 with 95% intervals; nan where there is nothing to divide by."""

    hit: int
    extra: int
    missed: int
    precision: Interval
    recall: Interval
    f1: Interval


@dataclass(frozen=True)
class Agreement:
    """Scores by label; micro F1 pools all decisions, macro F1 is the mean over labels that have a positive."""

    labels: dict[str, LabelScore]
    micro: Interval
    macro: Interval
    n: int


def label_agreement(
    read: NDArray[np.bool_],
    gold: NDArray[np.bool_],
    names: Sequence[str],
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Compare what was read with what people say, both (N reports, K labels) of bool, present or not.

    Intervals resample reports, or whole patients where `groups` (N,) says whose each report is. A label that people
    never give counts in micro F1 (its positives are false) and not in macro.
    Raises: ValueError for shapes that differ or no reports.
    """
    if read.shape != gold.shape or read.shape != (len(read), len(names)) or not len(read):
        raise ValueError(f"shapes {read.shape} and {gold.shape}, expected both (reports, {len(names)}) with a report")

    def statistic(rows: Rows) -> dict[str, float]:
        counts = _counts(read[rows], gold[rows])
        values = {
            f"{measure} {name}": float(value)
            for measure, row in zip(_MEASURES, _scores(counts), strict=True)
            for name, value in zip(names, row, strict=True)
        }
        return values | _pooled(counts)

    keys: Sequence[Hashable] = range(len(read)) if groups is None else groups
    drawn = patient_bootstrap_many(statistic, keys, n=resamples, seed=seed)
    hit, extra, missed = _counts(read, gold)
    labels = {
        name: LabelScore(
            int(hit[at]),
            int(extra[at]),
            int(missed[at]),
            drawn[f"precision {name}"],
            drawn[f"recall {name}"],
            drawn[f"f1 {name}"],
        )
        for at, name in enumerate(names)
    }
    return Agreement(labels, drawn["micro"], drawn["macro"], len(read))


def _counts(read: NDArray[np.bool_], gold: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(3, K): true positives, false positives, false negatives."""
    return np.stack([(read & gold).sum(0), (read & ~gold).sum(0), (~read & gold).sum(0)])


def _scores(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(3, K): precision, recall, F1."""
    hit, extra, missed = counts.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([hit / (hit + extra), hit / (hit + missed), 2 * hit / (2 * hit + extra + missed)])


def _pooled(counts: NDArray[np.int64]) -> dict[str, float]:
    hit, extra, missed = (int(row.sum()) for row in counts)
    known = counts[0] + counts[2] > 0
    macro = float(_scores(counts)[2][known].mean()) if known.any() else math.nan
    total = 2 * hit + extra + missed
    return {"micro": 2 * hit / total if total else math.nan, "macro": macro}
