"""Lesions of a mask one by one: how many are found, how many are invented, and how well the found ones are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.intervals import Rows
from evaluation.item_scores import same_length

Counts = NDArray[np.int64]
Components = tuple[Counts, Counts]
"""Labels 1 to N of the voxels, 0 outside, and the N sizes in voxels."""


@dataclass(frozen=True)
class Lesions:
    """Lesions of R cases. `true` and `predicted` (R,) count them, `found` (R,) the true ones that were found, `right`
    (R,) the predicted ones that lie on a true one, `overlaps` the IoU of each matched pair, case by case.

    One predicted lesion may cover several true ones; all of them are found.
    """

    true: Counts
    predicted: Counts
    found: Counts
    right: Counts
    overlaps: list[list[float]]
    variant: str

    def over(self, rows: Rows) -> Lesions:
        """The same for some cases, a case as often as its row is there: for `patient_bootstrap`."""
        overlaps = [self.overlaps[row] for row in rows.tolist()]
        return Lesions(
            self.true[rows], self.predicted[rows], self.found[rows], self.right[rows], overlaps, self.variant
        )

    @property
    def sensitivity(self) -> float:
        """Share of all true lesions that were found; nan without any."""
        return _ratio(int(self.found.sum()), int(self.true.sum()))

    @property
    def precision(self) -> float:
        """Share of all predicted lesions that lie on a true one; nan without any."""
        return _ratio(int(self.right.sum()), int(self.predicted.sum()))

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision; 0 if lesions are there and none is found, nan without any."""
        if not self.true.sum() and not self.predicted.sum():
            return math.nan
        sensitivity = self.sensitivity if self.true.sum() else 0.0
        precision = self.precision if self.predicted.sum() else 0.0
        return 2 * sensitivity * precision / (sensitivity + precision) if sensitivity + precision else 0.0

    @property
    def false_lesions_per_case(self) -> float:
        """Mean number of predicted lesions that lie on no true one; nan without cases."""
        return float((self.predicted - self.right).mean()) if len(self.true) else math.nan

    @property
    def panoptic_quality(self) -> float:
        """Sum of the IoU of matched pairs / (pairs + half of the lesions without a partner); nan without any lesion.

        It is the published number only where lesions match at an IoU above 0.5, which makes pairs unique (Kirillov et
        al. 2019, arXiv:1801.00868).
        """
        matched = sum(len(pairs) for pairs in self.overlaps)
        lonely = int(self.true.sum()) + int(self.predicted.sum()) - 2 * matched
        return _ratio(sum(map(sum, self.overlaps)), matched + lonely / 2)


def match_lesions(
    predicted: Sequence[ArrayLike],
    true: Sequence[ArrayLike],
    smallest_iou: float = 0.0,
    neighbours: int = 26,
    smallest_voxels: int = 1,
) -> Lesions:
    """Connected components of both masks, matched where they overlap by an IoU above `smallest_iou`.

    0, the default, is any common voxel. Voxels hang together through 6 or 26 neighbours (planes: 4 or 8). Components
    of fewer than `smallest_voxels` voxels are dropped from both masks, as an annotator would.
    Source: lesion-wise scoring as in LiTS, Bilic et al. 2023, arXiv:1901.04056.
    Raises: ValueError if lengths or shapes differ, `neighbours` is another number, or an IoU is out of [0, 1).
    """
    same_length(len(predicted), len(true), "predicted and true masks")
    if neighbours not in (6, 26):
        raise ValueError(f"neighbours is {neighbours}, expected 6 or 26 (planes: 4 or 8 are meant)")
    if not 0 <= smallest_iou < 1:
        raise ValueError(f"smallest_iou is {smallest_iou}, expected 0 or more and below 1")
    rows = []
    for row, (mask, target) in enumerate(zip(predicted, true, strict=True)):
        one, other = np.asarray(mask, bool), np.asarray(target, bool)
        if one.shape != other.shape:
            raise ValueError(f"row {row}: masks have shapes {one.shape} and {other.shape}, expected one shape")
        rows.append(_Case.of(_components(one, neighbours, smallest_voxels),
                             _components(other, neighbours, smallest_voxels), smallest_iou))  # fmt: skip
    how = "any common voxel" if smallest_iou == 0 else f"IoU > {smallest_iou:g}"
    size = "" if smallest_voxels <= 1 else f", components of {smallest_voxels} voxels or more"
    table = np.asarray([row.counts for row in rows], dtype=np.int64).reshape(-1, 4)
    variant = f"{how}, {neighbours} neighbours{size}"
    return Lesions(table[:, 0], table[:, 1], table[:, 2], table[:, 3], [row.overlaps for row in rows], variant)


class _Case(NamedTuple):
    """True, predicted, found and right lesions of one case, and the IoU of each matched pair."""

    counts: tuple[int, int, int, int]
    overlaps: list[float]

    @classmethod
    def of(cls, one: Components, other: Components, smallest_iou: float) -> _Case:
        (labels, sizes), (true_labels, true_sizes) = one, other
        both = (labels > 0) & (true_labels > 0)
        pairs, common = np.unique(np.stack([labels[both], true_labels[both]]), axis=1, return_counts=True)
        ious = common / (sizes[pairs[0] - 1] + true_sizes[pairs[1] - 1] - common)
        hit = ious > smallest_iou
        found, right = len(np.unique(pairs[1, hit])), len(np.unique(pairs[0, hit]))
        return cls((len(true_sizes), len(sizes), found, right), ious[hit].tolist())


def _components(mask: NDArray[np.bool_], neighbours: int, smallest: int) -> Components:
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(mask.ndim, mask.ndim if neighbours == 26 else 1)
    labels, count = ndimage.label(mask, structure)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    kept = np.flatnonzero(sizes >= smallest)
    renamed = np.zeros(count + 1, dtype=np.int64)
    renamed[kept + 1] = np.arange(1, len(kept) + 1)
    return renamed[labels], sizes[kept]


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom else math.nan
