"""Four computations that are all published as "mIoU" of a heat map or of boxes. Their numbers cannot be compared.

| function | mean over | threshold |
|---|---|---|
| miou_over_thresholds | 0.1 to 0.5, then maps | none chosen |
| miou_tuned | maps with target and prediction | chosen on validation for the finding |
| miou_two_classes | finding and background, then masks | whatever made the masks |
| miou_all_pairs | all pairs of predicted and true boxes | none |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.boxes import Boxes, box_ious, checked_boxes
from evaluation.grounding import Target, iou, target_mask
from evaluation.heat_maps import finite_map
from evaluation.item_scores import ItemScores, same_length
from evaluation.thresholds import refuse_test_split

BIOVIL_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
CHEXLOCALIZE_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def miou_over_thresholds(
    maps: Sequence[ArrayLike | None],
    targets: Sequence[Target | None],
    thresholds: Sequence[float] = BIOVIL_THRESHOLDS,
) -> ItemScores:
    """BioViL's mIoU: IoU of {map > threshold} with the target, mean over thresholds, then over maps.

    The map is taken as it is (a cosine similarity), not scaled. A map of None overlaps with nothing: 0. Rows without a
    target are left out.
    Source: Boecking et al. 2022, arXiv:2204.09817, which does not say whether a value equal to the threshold is lit.
    Raises: ValueError if there is no threshold, lengths or shapes differ, or a map holds nan or infinity.
    """
    if not thresholds:
        raise ValueError("there are 0 thresholds, expected at least one")
    same_length(len(maps), len(targets), "maps and targets")
    levels = ", ".join(f"{level:g}" for level in thresholds)
    found: list[float | str] = []
    for row, (heat, target) in enumerate(zip(maps, targets, strict=True)):
        if target is None or not np.any(target):
            found.append("no target")
        elif heat is None:
            found.append(0.0)
        else:
            values = finite_map(heat, row)
            inside = target_mask(target, values.shape)
            found.append(float(np.mean([_iou_or_zero(values > level, inside) for level in thresholds])))
    return ItemScores.of("miou_over_thresholds", f"BioViL: map unscaled, above {levels}, mean of the IoUs", found)


@dataclass(frozen=True)
class MapThreshold:
    """Where a finding's scaled map is cut, and the mIoU of the rows that it was chosen on."""

    value: float
    reached: float
    n: int
    split: str = "validation"


def tune_map_threshold(
    maps: Sequence[ArrayLike | None],
    targets: Sequence[Target | None],
    split: str = "validation",
    thresholds: Sequence[float] = CHEXLOCALIZE_THRESHOLDS,
) -> MapThreshold:
    """The threshold of one finding with the highest mIoU on a split that is not the test; the lowest of equals.

    Source: CheXlocalize, Saporta et al. 2022, doi:10.1038/s42256-022-00536-x, whose candidates are 0.2 to 0.7.
    Raises: ValueError for the split "test", or if no row has a target and a map, and as `miou_tuned`.
    """
    refuse_test_split(split, "a map threshold")
    tried = [miou_tuned(maps, targets, MapThreshold(level, np.nan, 0, split)) for level in thresholds]
    values = np.asarray([np.nan if score.n == 0 else score.value for score in tried])
    if not np.isfinite(values).any():
        raise ValueError(f"{split} has no row with a target and a lit map: no threshold can be chosen for this finding")
    best = int(np.nanargmax(values))
    return MapThreshold(float(thresholds[best]), float(values[best]), tried[best].n, split)


def miou_tuned(
    maps: Sequence[ArrayLike | None],
    targets: Sequence[Target | None],
    threshold: MapThreshold,
    true_positives_only: bool = True,
) -> ItemScores:
    """CheXlocalize's mIoU of one finding: the map is scaled to [0, 1] and lit where it is above the threshold.

    With `true_positives_only`, as published, rows without a target or with nothing lit are left out, which hides
    misses; without it a map of None or without light counts as 0. A constant map cannot be scaled and lights nothing.
    Source: CheXlocalize, Saporta et al. 2022, doi:10.1038/s42256-022-00536-x.
    Raises: ValueError if lengths or shapes differ, or a map holds nan or infinity.
    """
    same_length(len(maps), len(targets), "maps and targets")
    found: list[float | str] = []
    for row, (heat, target) in enumerate(zip(maps, targets, strict=True)):
        lit = None if heat is None else _scaled(finite_map(heat, row)) > threshold.value
        if target is None or not np.any(target):
            found.append("no target")
        elif lit is None or not lit.any():
            found.append("nothing predicted" if true_positives_only else 0.0)
        else:
            found.append(_iou_or_zero(lit, target_mask(target, lit.shape)))
    rows = "true positives only" if true_positives_only else "rows with a target"
    cut = f"scaled map above {threshold.value:.1f}, chosen on {threshold.split} (n={threshold.n})"
    return ItemScores.of("miou_tuned", f"CheXlocalize: {cut}; {rows}", found)


def miou_two_classes(predicted: Sequence[ArrayLike | None], true: Sequence[ArrayLike]) -> ItemScores:
    """generate_to_ground's mIoU: (IoU of the finding + IoU of the background) / 2 of each pair of masks, then the mean.

    No predicted mask, or an empty one, is 0 altogether. Where both masks cover everything, the background's IoU is 0,
    as scikit-learn's jaccard_score has it. A mask that finds nothing of a small target still earns nearly 0.5.
    Source: the evaluation code of generate_to_ground (whose masks come from a Gaussian mixture).
    Raises: ValueError if lengths or shapes differ.
    """
    same_length(len(predicted), len(true), "predicted and true masks")
    found: list[float | str] = []
    for mask, target in zip(predicted, true, strict=True):
        one = None if mask is None else np.asarray(mask, bool)
        if one is None or not one.any():
            found.append(0.0)
        else:
            other = np.asarray(target, bool)
            found.append((_iou_or_zero(one, other) + _iou_or_zero(~one, ~other)) / 2)
    return ItemScores.of("miou_two_classes", "generate_to_ground: mean of finding and background", found)


def miou_all_pairs(predicted: Sequence[Boxes], true: Sequence[Boxes]) -> ItemScores:
    """RadVLM's avg_iou: the mean IoU of all pairs of a predicted and a true box of an image.

    `items` are the pairs (P,), image by image, not the images: three perfect boxes for three findings score 1/3. Images
    without a predicted or a true box add nothing, so that silence is free.
    Source: RadVLM's evaluation code, evaluate_boxes.
    Raises: ValueError if lengths differ, or a box is not one.
    """
    same_length(len(predicted), len(true), "images with predicted and with true boxes")
    pairs = [
        box_ious(checked_boxes(one), checked_boxes(other)).ravel() for one, other in zip(predicted, true, strict=True)
    ]
    flat = np.concatenate([np.zeros(0), *pairs])
    silent = sum(not len(one) or not len(other) for one, other in zip(predicted, true, strict=True))
    excluded = {"image without a predicted or a true box": silent} if silent else {}
    return ItemScores("miou_all_pairs", "RadVLM avg_iou: mean over all pairs of boxes", flat, excluded)


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)


def _iou_or_zero(one: ArrayLike, other: ArrayLike) -> float:
    found = iou(one, other)
    return 0.0 if np.isnan(found) else found
