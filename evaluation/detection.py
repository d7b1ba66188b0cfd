"""Average precision of boxes with scores, in the forms of COCO, PASCAL VOC, the RSNA challenge and RadVLM.

Boxes are those of one finding; take the mean over findings to get a mAP. Matching happens once for each image, so that
resampling images or patients costs no further matching.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.boxes import Boxes, box_ious, checked_boxes
from evaluation.intervals import Rows
from evaluation.item_scores import Floats, ItemScores, same_length

Rule = Literal["coco", "voc"]
Form = Literal["coco101", "voc2007", "voc2010"]
COCO_THRESHOLDS = tuple((50 + 5 * step) / 100 for step in range(10))
RSNA_THRESHOLDS = tuple((40 + 5 * step) / 100 for step in range(8))
_FORMS = {
    "coco101": "mean precision at 101 recalls",
    "voc2007": "mean precision at 11 recalls",
    "voc2010": "area under the precision envelope",
}


@dataclass(frozen=True)
class Matched:
    """Predicted boxes of R images matched with the true ones: what average precision needs and nothing more.

    `scores` and `hits` hold one array for each image, highest score first; `true` (R,) counts its true boxes.
    """

    scores: list[Floats]
    hits: list[NDArray[np.bool_]]
    true: NDArray[np.int64]
    variant: str

    def over(self, rows: Rows) -> Matched:
        """The same for some images, an image as often as its row is there: for `patient_bootstrap`."""
        chosen = rows.tolist()
        return replace(
            self,
            scores=[self.scores[row] for row in chosen],
            hits=[self.hits[row] for row in chosen],
            true=self.true[rows],
        )


def match_boxes(
    predicted: Sequence[Boxes],
    scores: Sequence[ArrayLike],
    true: Sequence[Boxes],
    threshold: float = 0.5,
    rule: Rule = "coco",
    most: int | None = 100,
) -> Matched:
    """Match the predicted boxes of each image greedily, highest score first, at an IoU of the threshold or more.

    "coco": a predicted box takes the best true box that is still free. "voc": it wants its best true box, and is false
    if that one is taken. `most` keeps the highest scores of each image (COCO: 100).
    Source: Lin et al. 2014, arXiv:1405.0312, with pycocotools; Everingham et al. 2010, doi:10.1007/s11263-009-0275-4.
    Raises: ValueError if there are no images, lengths differ, a box is not one, or a score is nan.
    """
    images = checked_images(predicted, scores, true)
    kept_scores, hits = [], []
    for boxes, order_scores, targets in images:
        kept_scores.append(order_scores[:most])
        hits.append(_greedy(box_ious(boxes[:most], targets), threshold, rule))
    counts = np.asarray([len(targets) for _, _, targets in images], dtype=np.int64)
    limit = "" if most is None else f", at most {most} boxes for each image"
    return Matched(kept_scores, hits, counts, f"greedy matching of {rule.upper()} at IoU >= {threshold:g}{limit}")


def checked_images(
    predicted: Sequence[Boxes], scores: Sequence[ArrayLike], true: Sequence[Boxes]
) -> list[tuple[Floats, Floats, Floats]]:
    """For each image: predicted boxes by falling score, their scores, true boxes. Equal scores keep their order.

    Raises: ValueError if there are no images, lengths differ, a box is not one, or a score is nan or infinite.
    """
    same_length(len(predicted), len(true), "images with predicted and with true boxes")
    same_length(len(predicted), len(scores), "images with predicted boxes and with scores")
    if len(predicted) == 0:
        raise ValueError("there are 0 images, expected at least one")
    images = []
    for image, (boxes, values, targets) in enumerate(zip(predicted, scores, true, strict=True)):
        found, score = checked_boxes(boxes), np.asarray(values, dtype=np.float64).ravel()
        if len(found) != len(score):
            raise ValueError(f"image {image}: {len(found)} boxes and {len(score)} scores, expected as many")
        if not np.isfinite(score).all():
            raise ValueError(f"image {image}: a score is nan or infinite, expected numbers")
        order = np.argsort(-score, kind="stable")
        images.append((found[order], score[order], checked_boxes(targets)))
    return images


@dataclass(frozen=True)
class AveragePrecision:
    """`value` in [0, 1], nan without a true box; `recall` and `precision` (P,) by falling score, without envelope."""

    value: float
    true: int
    predicted: int
    images: int
    recall: Floats
    precision: Floats
    variant: str


def box_average_precision(matched: Matched, form: Form = "coco101") -> AveragePrecision:
    """Average precision of boxes pooled over images, each precision replaced by the best one at a higher recall.

    "coco101": the mean at recalls 0, 0.01 ... 1; "voc2007": at 0, 0.1 ... 1; "voc2010": the whole area. Images without
    a true box count through their false boxes. Equal scores of two images keep the images' order, as in pycocotools.
    """
    scores = np.concatenate([np.zeros(0), *matched.scores])
    hits = np.concatenate([np.zeros(0, bool), *matched.hits])[np.argsort(-scores, kind="stable")]
    total = int(matched.true.sum())
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    recall = right / total if total else np.zeros(len(hits))
    value = _area(recall, precision, form) if total else math.nan
    variant = f"{_FORMS[form]}; {matched.variant}"
    return AveragePrecision(value, total, len(hits), len(matched.true), recall, precision, variant)


def coco_average_precision(
    predicted: Sequence[Boxes],
    scores: Sequence[ArrayLike],
    true: Sequence[Boxes],
    thresholds: Sequence[float] = COCO_THRESHOLDS,
) -> dict[float, AveragePrecision]:
    """COCO's average precision at each IoU; their mean over 0.5, 0.55 ... 0.95 is what COCO calls AP."""
    return {
        threshold: box_average_precision(match_boxes(predicted, scores, true, threshold)) for threshold in thresholds
    }


def rsna_score(
    predicted: Sequence[Boxes],
    scores: Sequence[ArrayLike],
    true: Sequence[Boxes],
    thresholds: Sequence[float] = RSNA_THRESHOLDS,
) -> ItemScores:
    """Score of the RSNA Pneumonia Detection Challenge: TP / (TP + FP + FN) of each image, mean over IoU thresholds.

    A box is a hit at an IoU above the threshold. An image without pneumonia scores 0 if any box is predicted, and is
    left out if none is.
    Source: the challenge's evaluation page (2018), as described there.
    Raises: as match_boxes.
    """
    found: list[float | str] = []
    for boxes, _, targets in checked_images(predicted, scores, true):
        if not len(targets):
            found.append(0.0 if len(boxes) else "nothing there, nothing predicted")
            continue
        overlaps = box_ious(boxes, targets)
        right = [int(_greedy(overlaps, np.nextafter(level, 1), "coco").sum()) for level in thresholds]
        found.append(float(np.mean([hits / (len(boxes) + len(targets) - hits) for hits in right])))
    levels = f"{thresholds[0]:g} to {thresholds[-1]:g}"
    return ItemScores.of(
        "rsna_score", f"TP / (TP + FP + FN) at IoU > {levels}, mean over thresholds, then images", found
    )


def radvlm_map(predicted: Sequence[Boxes], true: Sequence[Boxes], threshold: float = 0.5) -> ItemScores:
    """RadVLM's mAP: the area under each image's own precision envelope, boxes in the order they were written.

    There are no scores, and the mean over images is not an average precision of the set. An image without a predicted
    or a true box scores 0, so that silence about a healthy image is punished.
    Source: RadVLM's evaluation code, evaluate_boxes.
    Raises: ValueError if lengths differ or a box is not one.
    """
    same_length(len(predicted), len(true), "images with predicted and with true boxes")
    found: list[float | str] = []
    for boxes, targets in zip(predicted, true, strict=True):
        one, other = checked_boxes(boxes), checked_boxes(targets)
        if not len(one) or not len(other):
            found.append(0.0)
            continue
        right = np.cumsum(_greedy(box_ious(one, other), threshold, "voc"))
        found.append(_area(right / len(other), right / np.arange(1, len(one) + 1), "voc2010"))
    return ItemScores.of("radvlm_map", f"RadVLM mAP_{threshold:g}: area of each image, boxes as written", found)


def _greedy(overlaps: Floats, threshold: float, rule: Rule) -> NDArray[np.bool_]:
    """Which rows of (N, M) find a column, in order."""
    hits = np.zeros(len(overlaps), bool)
    if overlaps.size == 0:
        return hits
    free = np.ones(overlaps.shape[1], bool)
    enough = min(threshold, 1 - 1e-10)  # pycocotools' guard: a perfect box must pass a threshold of 1
    for row, overlap in enumerate(overlaps):
        wanted = np.where(free, overlap, -1.0) if rule == "coco" else overlap
        # Of equal overlaps pycocotools takes the last one and argmax the first, which PASCAL VOC's code does.
        best = len(wanted) - 1 - int(np.argmax(wanted[::-1])) if rule == "coco" else int(np.argmax(wanted))
        if wanted[best] >= enough and free[best]:
            hits[row], free[best] = True, False
    return hits


def _area(recall: Floats, precision: Floats, form: Form) -> float:
    if len(recall) == 0:
        return 0.0
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if form == "voc2010":
        return float((np.diff(recall, prepend=0.0) * envelope).sum())
    wanted = np.linspace(0, 1, 101 if form == "coco101" else 11)
    place = np.searchsorted(recall, wanted, side="left")
    return float(np.append(envelope, 0.0)[place].mean())
