"""Scores, labels and patients in one checked table: what most flags and protocols are computed from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.influence import Estimate, auroc_estimate, combine, how_many, separation
from evaluation.labelled import Floats, labelled_table, numbered_patients

ENOUGH = 10
"""Patients with a finding, and patients without it, below which a ranking of it is not compared with anything."""


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Shapes: scores, labels (N, K), label nan unknown; patients (N,) numbers below `count`; names (K,)."""

    names: tuple[str, ...]
    scores: Floats
    labels: Floats
    patients: NDArray[np.intp]
    count: int

    @classmethod
    def of(cls, names: Sequence[str], scores: ArrayLike, labels: ArrayLike, patients: Sequence[Hashable]) -> ScoreTable:
        """Checked. Raises: ValueError on unequal shapes, strange labels, scores that are not finite where the label is
        known, no rows, or rows without a patient."""
        score, label = labelled_table(scores, labels, names)
        if not len(score):
            raise ValueError("there are 0 rows, expected at least one study: check the split and the filters")
        bad = ~np.isfinite(score) & ~np.isnan(label)
        if bad.any():
            row, column = (int(place) for place in np.argwhere(bad)[0])
            raise ValueError(
                f"{int(bad.sum())} scores are not finite, the first in row {row} of {names[column]!r}; expected a"
                " number wherever the label is known"
            )
        number = numbered_patients(patients, len(score))
        return cls(tuple(names), score, label, number, int(number.max()) + 1)

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.scores)

    def with_scores(self, scores: ArrayLike, what: str) -> ScoreTable:
        """The same labels under other scores (N, K). Raises: ValueError naming `what` when the shape differs."""
        other = np.asarray(scores, dtype=np.float64)
        if other.shape != self.scores.shape:
            raise ValueError(f"{what} have shape {other.shape}, expected {self.scores.shape}, as the scores")
        if not np.isfinite(other[~np.isnan(self.labels)]).all():
            raise ValueError(f"{what} hold nan or infinity where the label is known, expected numbers")
        return ScoreTable(self.names, other, self.labels, self.patients, self.count)

    def known(self, k: int) -> tuple[Floats, Floats]:
        """Scores and labels (M,) of one finding where its label is known."""
        kept = ~np.isnan(self.labels[:, k])
        return self.scores[kept, k], self.labels[kept, k]

    def auroc(self, k: int, rows: NDArray[np.bool_] | None = None) -> Estimate:
        """AUROC of one finding, on all rows or on a mask (N,)."""
        label = self.labels[:, k] if rows is None else np.where(rows, self.labels[:, k], np.nan)
        return auroc_estimate(self.scores[:, k], label, self.patients, self.count)

    def macro(self, columns: Sequence[int], rows: NDArray[np.bool_] | None = None) -> Estimate:
        """Mean AUROC of several findings. Raises: ValueError for no column."""
        return combine([self.auroc(k, rows) for k in columns])

    def between(self, k: int, high: NDArray[np.bool_], low: NDArray[np.bool_]) -> Estimate:
        """P(score of a row in `high` > of a row in `low`), ties half, for one finding; masks (N,)."""
        score, who = self.scores[:, k], self.patients
        return separation(score[high], score[low], who[high], who[low], self.count)

    def classes(self, k: int, rows: NDArray[np.bool_] | None = None) -> tuple[int, int]:
        """Patients with at least one positive row, and with at least one negative row."""
        label = self.labels[:, k] if rows is None else np.where(rows, self.labels[:, k], np.nan)
        return how_many(self.patients[label == 1], self.count), how_many(self.patients[label == 0], self.count)

    def usable(self, rows: NDArray[np.bool_] | None = None, enough: int = ENOUGH) -> list[int]:
        """Columns with at least `enough` patients of each class."""
        return [k for k in range(len(self.names)) if min(self.classes(k, rows)) >= enough]
