"""Find the two lung fields on a frontal film by threshold, components and shape. No training, no labels.

Lungs are darker than what surrounds them, but no single grey value fits every exposure. So many thresholds are tried,
on the film and on the film with slow brightness removed; each dark component of a plausible size, place and solidity is
a candidate, and pairs of candidates are ranked by how well their outline follows edges and how alike they are. The
spread of a measurement over the best pairs is an honest part of its uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from experts.card import ExpertError

Plane = NDArray[np.float64]
Mask = NDArray[np.bool_]

WORKING_SIZE = 256
"""Longest side of the plane that is searched, pixels."""

_THRESHOLDS = np.linspace(0.05, 0.65, 25)  # as quantiles of the plane
_KEPT = 30  # pairs that vote, at most
_NEAR_BEST = 0.7  # of the best score


@dataclass(frozen=True, eq=False)
class Field:
    """One candidate: its mask (h, w) in the working plane, its box, and what speaks for it."""

    mask: Mask
    rows: tuple[int, int]
    columns: tuple[int, int]
    area: float  # share of the film
    score: float


@dataclass(frozen=True, eq=False)
class Pair:
    """A field in the left half of the film (a patient's right lung, as films are hung) and one in the right half."""

    left: Field
    right: Field
    score: float


@dataclass(frozen=True, eq=False)
class LungFields:
    """The best pairs, best first, on the plane (h, w) they were found on; `scale` is plane pixels per film pixel."""

    pairs: tuple[Pair, ...]
    plane: Plane
    scale: float


def find_lung_fields(pixels: NDArray[np.float32]) -> LungFields:
    """Find both lung fields on a frontal film (H, W), bright = more attenuation, in any unit.

    Raises: ExpertError if the film is empty, or no plausible pair of fields is found.
    """
    plane, scale = _plane(pixels)
    width = plane.shape[1]
    smooth = ndimage.gaussian_filter(plane, 1.5)
    even = smooth - ndimage.gaussian_filter(smooth, WORKING_SIZE / 10)
    edges = ndimage.gaussian_gradient_magnitude(plane, 1.5)
    found = [field for source in (smooth, even) for field in _candidates(source, edges)]
    middle = width / 2
    left = [field for field in found if sum(field.columns) / 2 < middle]
    right = [field for field in found if sum(field.columns) / 2 >= middle]
    pairs = [pair for one, other in product(left, right) if (pair := _pair(one, other, width)) is not None]
    pairs.sort(key=lambda pair: -pair.score)
    if not pairs:
        raise ExpertError(
            f"no two lung fields were found: {len(left)} candidate(s) in the left and {len(right)} in the right half of"
            f" {pixels.shape[1]} x {pixels.shape[0]} pixels; expected one dark field in each. The film may not be a"
            " frontal chest film, may be inverted, or a lung may be opaque",
            "no-lung-fields",
        )
    best = tuple(pair for pair in pairs if pair.score > _NEAR_BEST * pairs[0].score)[:_KEPT]
    area = best[0].left.area + best[0].right.area
    if area < 0.13:
        raise ExpertError(
            f"the lung fields cover {area:.0%} of the film, expected at least 13%: too little for a chest film of an"
            " adult, or only parts of the lungs are dark",
            "implausible-lung-fields",
        )
    return LungFields(best, smooth, scale)


def _plane(pixels: NDArray[np.float32]) -> tuple[Plane, float]:
    if min(pixels.shape) < 64:
        raise ExpertError(
            f"the film is {pixels.shape[1]} x {pixels.shape[0]} pixels, expected at least 64", "too-small"
        )
    scale = WORKING_SIZE / max(pixels.shape)
    shrink = max(1, int(0.5 / scale))
    kept = pixels[: pixels.shape[0] // shrink * shrink, : pixels.shape[1] // shrink * shrink]
    blocks = kept.reshape(kept.shape[0] // shrink, shrink, kept.shape[1] // shrink, shrink).mean(axis=(1, 3))
    plane = ndimage.zoom(blocks.astype(np.float64), scale * shrink, order=1, grid_mode=True, mode="nearest")
    low, high = np.percentile(plane, [1, 99])
    if not high > low:
        raise ExpertError(f"98% of the film has one grey value, {low:.3g}: there is nothing to see", "blank-film")
    return np.clip((plane - low) / (high - low), 0, 1), scale


def _candidates(source: Plane, edges: Plane) -> Iterator[Field]:
    for threshold in np.quantile(source, _THRESHOLDS):
        labels, _ = ndimage.label(ndimage.binary_opening(source < threshold, _disk(2)))
        for number, box in enumerate(ndimage.find_objects(labels), 1):
            field = _field(labels, number, box, edges)
            if field is not None:
                yield field


def _field(labels: NDArray[np.int32], number: int, box: tuple[slice, slice], edges: Plane) -> Field | None:
    height, width = labels.shape
    tall = (box[0].stop - box[0].start) / height
    wide = (box[1].stop - box[1].start) / width
    if tall < 0.28 or not 0.1 <= wide <= 0.5:
        return None
    component = labels[box] == number
    share = component.sum() / labels.size
    # A field may touch the film's border where the film is cut close, but air around the patient lies along it.
    along = [(labels[:, place] == number).mean() for place in (0, -1)]
    along += [(labels[place] == number).mean() for place in (0, -1)]
    if not 0.03 <= share <= 0.3 or max(along) > 0.12:
        return None
    pad = 8
    closed = ndimage.binary_closing(np.pad(component, pad), _disk(6))  # ribs cut notches of about this width
    filled = ndimage.binary_fill_holes(closed)[pad:-pad, pad:-pad]
    center = (np.nonzero(filled)[1].mean() + box[1].start) / width
    solidity = filled.sum() / _hull_area(filled)
    if not (0.15 < center < 0.48 or 0.52 < center < 0.85) or solidity < 0.75:
        return None
    outline = filled & ~ndimage.binary_erosion(filled)
    area = float(filled.sum() / labels.size)
    mask = np.zeros(labels.shape, bool)
    mask[box] = filled
    score = float(edges[box][outline].mean() * solidity**2 * area**0.5)
    return Field(mask, (box[0].start, box[0].stop), (box[1].start, box[1].stop), area, score)


def _pair(left: Field, right: Field, width: int) -> Pair | None:
    if left.columns[1] > right.columns[0] + 0.06 * width:
        return None
    shared = min(left.rows[1], right.rows[1]) - max(left.rows[0], right.rows[0])
    spanned = max(left.rows[1], right.rows[1]) - min(left.rows[0], right.rows[0])
    if shared < 0.5 * spanned:
        return None
    # The heart takes its room from the patient's left lung. A larger left field has swallowed the heart.
    alike = min(left.area / right.area, 1.0) ** 3 * min(right.area / left.area, 1.0) ** 0.5
    return Pair(left, right, (left.score + right.score) * shared / spanned * alike)


def _hull_area(mask: Mask) -> float:
    try:
        return float(ConvexHull(np.argwhere(mask & ~ndimage.binary_erosion(mask))).volume) or 1.0
    except QhullError:
        return float(mask.size)


def _disk(radius: int) -> Mask:
    row, column = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(row**2 + column**2 <= radius**2)
