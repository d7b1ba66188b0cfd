"""Boxes: their overlap, the boxes in a model's answer, and whether the box for a phrase is right.

A box is a row of numbers, first the starts and then the stops, half-open, as in evaluation.grounding: (row0, col0,
row1, col1), or six numbers in a volume. Any order of axes will do if predicted and true boxes share it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from evaluation.item_scores import Floats, ItemScores, same_length

Boxes = Sequence[Sequence[float]] | Floats
_NUMBER = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*"
_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")


def checked_boxes(boxes: ArrayLike, axes: int | None = None) -> Floats:
    """The boxes as an array (N, 2 x axes); no boxes give (0, 2 x axes), 2 axes unless said.

    Raises: ValueError if a box has an odd number of numbers, nan or infinity, or stops before it starts.
    """
    rows = np.asarray(boxes, dtype=np.float64)
    if rows.size == 0:
        return np.zeros((0, 2 * (axes or 2)))
    if rows.ndim != 2 or rows.shape[1] % 2 or (axes is not None and rows.shape[1] != 2 * axes):
        wanted = f"(boxes, {2 * axes})" if axes else "(boxes, 4) or (boxes, 6)"
        raise ValueError(f"boxes have shape {rows.shape}, expected {wanted}: starts, then stops")
    if not np.isfinite(rows).all():
        raise ValueError(f"{int((~np.isfinite(rows)).any(1).sum())} of {len(rows)} boxes hold nan or infinity")
    half = rows.shape[1] // 2
    turned = np.flatnonzero((rows[:, half:] < rows[:, :half]).any(1))
    if turned.size:
        raise ValueError(
            f"box {turned[0]} {tuple(rows[turned[0]].tolist())} stops before it starts, expected starts, then stops:"
            " is it a corner with width and height?"
        )
    return rows


def box_ious(one: ArrayLike, other: ArrayLike) -> Floats:
    """Intersection over union of each pair, (N, 2d) and (M, 2d) to (N, M); 0 for two boxes without any area.

    Areas are those of half-open boxes; PASCAL VOC's own code adds a pixel to each side.
    Raises: ValueError if the boxes have different numbers of axes.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if len(first) == 0 or len(second) == 0:
        return np.zeros((len(first), len(second)))
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"boxes have {first.shape[1]} and {second.shape[1]} numbers, expected as many")
    half = first.shape[1] // 2
    starts = np.maximum(first[:, None, :half], second[None, :, :half])
    stops = np.minimum(first[:, None, half:], second[None, :, half:])
    common = np.clip(stops - starts, 0, None).prod(-1)
    union = _sizes(first)[:, None] + _sizes(second)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def boxes_of_answer(text: str) -> list[tuple[float, ...]]:
    """Boxes that a model wrote into its answer as [0.1, 0.2, 0.3, 0.4], in the order of the text, numbers as written.

    Source: the form that RadVLM's evaluation reads.
    """
    return [tuple(float(number) for number in found) for found in _BOX.findall(text)]


def phrase_grounding(
    predicted: Sequence[Sequence[float] | None],
    true: Sequence[Boxes],
    threshold: float = 0.5,
    boundary: Literal["counts", "fails"] = "counts",
    several: Literal["best", "hull"] = "best",
) -> ItemScores:
    """Accuracy of the one box that is predicted for each phrase: right at an IoU of the threshold with the true one.

    `boundary` says whether an IoU equal to the threshold counts; published code does either. A phrase with several true
    boxes is compared with the "best" of them, or with the "hull", the smallest box around all. No box predicted is
    wrong; a phrase without a true box is left out.
    Source: Acc@0.5 of referring expressions, Yu et al. 2016, arXiv:1608.00272.
    Raises: ValueError if lengths differ or a box is not one.
    """
    overlaps = phrase_overlap(predicted, true, several)
    right = overlaps.items >= threshold if boundary == "counts" else overlaps.items > threshold
    items = np.where(np.isnan(overlaps.items), np.nan, right.astype(np.float64))
    sign = ">=" if boundary == "counts" else ">"
    return ItemScores("phrase_grounding", f"IoU {sign} {threshold:g}, {overlaps.variant}", items, overlaps.excluded)


def phrase_overlap(
    predicted: Sequence[Sequence[float] | None], true: Sequence[Boxes], several: Literal["best", "hull"] = "best"
) -> ItemScores:
    """IoU of the one box that is predicted for each phrase, as `phrase_grounding` compares it; 0 without a box."""
    same_length(len(predicted), len(true), "predicted boxes and phrases")
    found: list[float | str] = []
    for box, targets in zip(predicted, true, strict=True):
        right = checked_boxes(targets)
        if not len(right):
            found.append("no true box")
        elif box is None:
            found.append(0.0)
        else:
            half = right.shape[1] // 2
            if several == "hull":
                right = np.concatenate([right[:, :half].min(0), right[:, half:].max(0)])[None]
            found.append(float(box_ious(checked_boxes([box]), right).max()))
    return ItemScores.of("phrase_overlap", f"{several} of several true boxes", found)


def _sizes(boxes: Floats) -> Floats:
    half = boxes.shape[1] // 2
    return (boxes[:, half:] - boxes[:, :half]).prod(-1)
