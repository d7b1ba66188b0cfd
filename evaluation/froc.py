"""Free-response ROC: how many lesions are found at how many false marks for each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from evaluation.boxes import Boxes, box_ious
from evaluation.detection import checked_images
from evaluation.intervals import Rows
from evaluation.item_scores import Floats

LUNA16_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False marks for each image at which the LUNA16 challenge reads the sensitivity."""

Criterion = Literal["overlap", "center"]
Reading = Literal["step", "linear"]


@dataclass(frozen=True)
class Froc:
    """Scores of what was found and of what was false, image by image.

    `lesions`: for each image one score for each true lesion, -inf where no mark found it. `false`: the scores of marks
    that found none. A second mark on a found lesion is neither.
    """

    lesions: list[Floats]
    false: list[Floats]
    variant: str

    @property
    def images(self) -> int:
        """Number of images, with lesions or without."""
        return len(self.lesions)

    @property
    def n(self) -> int:
        """Number of lesions."""
        return sum(map(len, self.lesions))

    def over(self, rows: Rows) -> Froc:
        """The same for some images, an image as often as its row is there: for `patient_bootstrap`."""
        chosen = rows.tolist()
        return Froc([self.lesions[row] for row in chosen], [self.false[row] for row in chosen], self.variant)

    def points(self) -> tuple[Floats, Floats]:
        """The curve: false marks for each image and sensitivity, from no mark to all marks, (P + 1,) each."""
        lesions = np.concatenate([np.zeros(0), *self.lesions])
        false = np.sort(np.concatenate([np.zeros(0), *self.false]))
        levels = np.unique(np.concatenate([lesions[np.isfinite(lesions)], false]))[::-1]
        found = np.sort(lesions)
        rate = (len(false) - np.searchsorted(false, levels)) / self.images
        sensitivity = (len(found) - np.searchsorted(found, levels)) / max(len(found), 1)
        return np.append(0.0, rate), np.append(0.0, sensitivity)

    def sensitivity(self, rate: float, reading: Reading = "step") -> float:
        """Sensitivity at a rate of false marks for each image; nan without a lesion.

        "step": the best sensitivity at that rate or a lower one, which some threshold reaches. "linear": between two
        points of the curve, as LUNA16 reads it, which no threshold need reach; beyond the last mark, that of all marks.
        Raises: ValueError for a rate below 0.
        """
        if not rate >= 0:
            raise ValueError(f"the rate is {rate}, expected false marks for each image, 0 or more")
        if self.n == 0:
            return math.nan
        rates, values = self.points()
        if reading == "step":
            return float(values[rates <= rate].max())
        return float(np.interp(rate, rates, values))

    def mean_sensitivity(self, rates: Sequence[float] = LUNA16_RATES, reading: Reading = "linear") -> float:
        """Mean sensitivity over rates, with LUNA16's seven its competition performance metric; nan without a lesion."""
        return float(np.mean([self.sensitivity(rate, reading) for rate in rates]))


def froc(
    predicted: Sequence[Boxes],
    scores: Sequence[ArrayLike],
    true: Sequence[Boxes],
    criterion: Criterion = "overlap",
    threshold: float = 0.5,
) -> Froc:
    """Free-response ROC of marks with scores: boxes, or points written as boxes that start where they stop.

    A mark finds a lesion if their IoU is at least the threshold ("overlap"), or if its center lies in the true box
    ("center", half-open). A lesion has the highest score of the marks that find it; one mark may find several lesions.
    Source: Chakraborty and Winter 1990, doi:10.1148/radiology.174.3.2305073; LUNA16, Setio et al. 2017,
    arXiv:1612.08012.
    Raises: ValueError if there are no images, lengths differ, a box is not one, or a score is nan.
    """
    lesions, false = [], []
    for boxes, score, targets in checked_images(predicted, scores, true):
        finds = box_ious(boxes, targets) >= threshold if criterion == "overlap" else _centered(boxes, targets)
        best = np.where(finds, score[:, None], -np.inf).max(0, initial=-np.inf) if len(targets) else np.zeros(0)
        lesions.append(best)
        false.append(score[~finds.any(1)] if len(targets) else score)
    how = f"IoU >= {threshold:g}" if criterion == "overlap" else "center of the mark inside the true box"
    return Froc(lesions, false, f"{how}; second marks on a lesion ignored")


def _centered(boxes: Floats, targets: Floats) -> np.ndarray:
    if not len(boxes) or not len(targets):
        return np.zeros((len(boxes), len(targets)), bool)
    half = boxes.shape[1] // 2
    center = (boxes[:, None, :half] + boxes[:, None, half:]) / 2
    inside = (center >= targets[None, :, :half]) & (center < targets[None, :, half:])
    return np.asarray(inside.all(-1))
