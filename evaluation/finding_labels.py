"""F1 of labels by report (1 present, 0 absent, -1 uncertain, None not mentioned), every choice of it named.

Published "CheXbert F1" and "CheXpert F1" differ in what an uncertain label counts as, which labels are averaged,
whether "No Finding" is one of them and what 0/0 is. Here each choice is an argument and the result says which were
made. Labels arrive as arguments, so the number rests on whatever labeller made them: name it in `by`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Label = int | float | None
Uncertain = Literal["positive", "negative", "left out"]
Average = Literal["micro", "macro", "weighted", "example"]
Empty = Literal["0", "1", "left out"]
"""What 0/0 is, where neither side has a positive: 0 (scikit-learn's default), 1, or left out of the average."""

Floats = NDArray[np.float64]
PRESENT, ABSENT, UNCERTAIN, BLANK = 1, 0, -1, -2
NO_FINDING = "No Finding"
_HOW_UNCERTAIN = {
    "positive": "uncertain counted as positive",
    "negative": "uncertain counted as negative",
    "left out": "cells left out where the reference is uncertain, else uncertain counted as negative",
}


@dataclass(frozen=True)
class LabelTable:
    """What N reports say of K labels: `codes` (N, K) of 1 present, 0 absent, -1 uncertain, -2 not mentioned."""

    names: tuple[str, ...]
    codes: NDArray[np.int8]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Label]], names: Sequence[str]) -> LabelTable:
        """From one mapping for each report, as `reports.labels.label` gives it; nan is read as None (an empty cell).

        Raises: ValueError for a name that a report lacks or a value other than 1, 0, -1, None.
        """
        codes = np.full((len(rows), len(names)), BLANK, np.int8)
        for at, row in enumerate(rows):
            for k, name in enumerate(names):
                if name not in row:
                    raise ValueError(f'report {at} has no label "{name}", expected one for each of {len(names)} names')
                codes[at, k] = _code(row[name], at, name)
        return cls(tuple(names), codes)

    def only(self, names: Sequence[str]) -> LabelTable:
        """The columns of these names, in this order. Raises: ValueError for a name that is not in the table."""
        missing = [name for name in names if name not in self.names]
        if missing:
            raise ValueError(f"the table has no label {missing[0]!r}; it has {', '.join(self.names)}")
        return LabelTable(tuple(names), self.codes[:, [self.names.index(name) for name in names]])

    def without(self, name: str) -> LabelTable:
        """The table without one column; the same table where it has none of that name."""
        return self.only([other for other in self.names if other != name])


def _code(value: Label, at: int, name: str) -> int:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return BLANK
    if value in (PRESENT, ABSENT, UNCERTAIN):
        return int(value)
    raise ValueError(
        f'report {at} has the label {value!r} for "{name}", expected 1 (present), 0 (absent), -1 (uncertain) or None'
    )


@dataclass(frozen=True)
class LabelCounts:
    """Cells (N, K) that are hits (true positives), extra (false positives) and missed (false negatives).

    Numbers in [0, 1]: 1 or 0 for one report, a share where several reports of a study were averaged. `variant` says how
    the cells came about. All averages can be taken of a resample of reports: `rows`.
    """

    names: tuple[str, ...]
    hit: Floats
    extra: Floats
    missed: Floats
    variant: str

    @property
    def n(self) -> int:
        """Reports."""
        return len(self.hit)

    def rows(self, rows: NDArray[np.intp]) -> LabelCounts:
        """The counts of these reports, repeated as often as they are named: one bootstrap resample."""
        return replace(self, hit=self.hit[rows], extra=self.extra[rows], missed=self.missed[rows])

    def averaged_over(self, groups: Sequence[Hashable]) -> LabelCounts:
        """One row for each group (a study with several images), its cells the mean over the group's reports, so that a
        study with many images weighs no more. Source: Nicolson et al. 2023 (CXRMate), arXiv:2307.09758.

        Raises: ValueError if there are not as many groups as reports.
        """
        if len(groups) != self.n:
            raise ValueError(f"there are {len(groups)} groups and {self.n} reports, expected as many")
        places: dict[Hashable, int] = {}
        of = np.array([places.setdefault(group, len(places)) for group in groups], np.intp)
        sizes = np.bincount(of, minlength=len(places))[:, None]

        def mean(cells: Floats) -> Floats:
            summed = np.zeros((len(places), len(self.names)))
            np.add.at(summed, of, cells)
            return summed / sizes

        variant = f"{self.variant}; counts averaged over the reports of a study"
        return LabelCounts(self.names, mean(self.hit), mean(self.extra), mean(self.missed), variant)

    def f1(self, average: Average, empty: Empty = "0") -> float:
        """2 TP / (2 TP + FP + FN), averaged.

        micro: counts pooled over reports and labels. macro: mean over labels. weighted: mean over labels by their
        positives in the reference. example: mean over reports ("samples" in scikit-learn). nan where nothing is left.
        """
        return _averaged(2 * self.hit, 2 * self.hit + self.extra + self.missed, self._support(), average, empty)

    def precision(self, average: Average, empty: Empty = "0") -> float:
        """TP / (TP + FP), averaged as `f1`."""
        return _averaged(self.hit, self.hit + self.extra, self._support(), average, empty)

    def recall(self, average: Average, empty: Empty = "0") -> float:
        """TP / (TP + FN), averaged as `f1`."""
        return _averaged(self.hit, self.hit + self.missed, self._support(), average, empty)

    def per_label(self, empty: Empty = "0") -> dict[str, float]:
        """F1 of each label; nan for 0/0 if that is left out."""
        above, below = 2 * self.hit.sum(0), (2 * self.hit + self.extra + self.missed).sum(0)
        return dict(zip(self.names, _divided(above, below, empty).tolist(), strict=True))

    def positives(self) -> dict[str, float]:
        """Positives of each label in the reference."""
        return dict(zip(self.names, self._support().tolist(), strict=True))

    def exact_match(self) -> float:
        """Share of reports all of whose labels are right; nan without reports."""
        return float(((self.extra + self.missed).sum(1) == 0).mean()) if self.n else math.nan

    def _support(self) -> Floats:
        return np.asarray((self.hit + self.missed).sum(0), np.float64)


def label_counts(
    pred: LabelTable,
    ref: LabelTable,
    by: str,
    uncertain: Uncertain = "positive",
    no_finding: bool = True,
) -> LabelCounts:
    """Hits, extras and misses of positives; absent and not mentioned count as negative.

    by: who made the labels. no_finding: whether "No Finding" is one of the labels.
    Raises: ValueError if the tables differ in names or reports.
    """
    check_alike(pred, ref)
    if not no_finding:
        pred, ref = pred.without(NO_FINDING), ref.without(NO_FINDING)
    said, true = _positive(pred, uncertain), _positive(ref, uncertain)
    kept = ref.codes != UNCERTAIN if uncertain == "left out" else np.ones(ref.codes.shape, bool)
    among = f'"{NO_FINDING}" {"included" if NO_FINDING in ref.names else "not included"}'
    variant = f"labels by {by}; {_HOW_UNCERTAIN[uncertain]}; {len(ref.names)} labels, {among}"
    cells = (said & true & kept, said & ~true & kept, ~said & true & kept)
    hit, extra, missed = (np.asarray(cell, np.float64) for cell in cells)
    return LabelCounts(ref.names, hit, extra, missed, variant)


@dataclass(frozen=True)
class LabelF1:
    """F1 of labels in one variant: the averages, each label, and how many reports and positives they rest on."""

    micro: float
    macro: float
    weighted: float
    example: float
    per_label: dict[str, float]
    positives: dict[str, float]
    exact_match: float
    n: int
    variant: str


def label_f1(
    pred: LabelTable,
    ref: LabelTable,
    by: str,
    uncertain: Uncertain = "positive",
    no_finding: bool = True,
    empty: Empty = "0",
) -> LabelF1:
    """All averages of the F1 of positives. Arguments as `label_counts`; `empty` says what 0/0 is.

    With "0" the averages are those of `sklearn.metrics.classification_report`. Raises: as `label_counts`.
    """
    counts = label_counts(pred, ref, by, uncertain, no_finding)
    shown = f"0/0 {'left out' if empty == 'left out' else f'is {empty}'}"
    return LabelF1(
        counts.f1("micro", empty),
        counts.f1("macro", empty),
        counts.f1("weighted", empty),
        counts.f1("example", empty),
        counts.per_label(empty),
        counts.positives(),
        counts.exact_match(),
        counts.n,
        f"{counts.variant}; {shown}",
    )


def check_alike(pred: LabelTable, ref: LabelTable) -> None:
    """Raises: ValueError if the tables differ in labels or in the number of reports."""
    if pred.names != ref.names:
        raise ValueError(
            f"the tables have different labels ({', '.join(pred.names)} and {', '.join(ref.names)}), expected the same"
        )
    if len(pred.codes) != len(ref.codes):
        raise ValueError(f"there are {len(pred.codes)} drafts and {len(ref.codes)} references, expected as many")


def _positive(table: LabelTable, uncertain: Uncertain) -> NDArray[np.bool_]:
    if uncertain not in _HOW_UNCERTAIN:
        raise ValueError(f'uncertain is "{uncertain}", expected one of {", ".join(_HOW_UNCERTAIN)}')
    present: NDArray[np.bool_] = table.codes == PRESENT
    return present | (table.codes == UNCERTAIN) if uncertain == "positive" else present


def _divided(above: Floats, below: Floats, empty: Empty) -> Floats:
    if empty not in ("0", "1", "left out"):
        raise ValueError(f'empty is "{empty}", expected "0", "1" or "left out"')
    nothing = {"0": 0.0, "1": 1.0, "left out": math.nan}[empty]
    return np.where(below > 0, above / np.where(below > 0, below, 1), nothing)


def _averaged(above: Floats, below: Floats, support: Floats, average: Average, empty: Empty) -> float:
    if average == "micro":
        return float(_divided(above.sum(), below.sum(), empty))
    if average not in ("macro", "weighted", "example"):
        raise ValueError(f'average is "{average}", expected micro, macro, weighted or example')
    along = 1 if average == "example" else 0
    scores = _divided(above.sum(along), below.sum(along), empty)
    weights = support if average == "weighted" else np.ones(len(scores))
    weights = np.where(np.isnan(scores), 0.0, weights)
    total = weights.sum()
    if not total:  # scikit-learn's weighted average of nothing is 0
        return 0.0 if average == "weighted" and empty == "0" and len(scores) else math.nan
    return float((np.nan_to_num(scores) * weights).sum() / total)
