"""Body and lungs on a CT by attenuation: where they are, which side is which, and whether the scan covers them.

Source: the threshold at -400 HU and the closing of the body slice by slice follow Hu, Hoffman and Reinhardt 2001,
doi:10.1109/42.929615. Dense lung (consolidation, effusion, tumour) is not aerated and is therefore not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from experts.card import ExpertError
from experts.ct_grid import Grid
from experts.measure import Mask

AIR_HU = -400.0
"""Voxels below are air or aerated lung."""

_GAS_HU = -955.0  # bowel, stomach or outside air: lung tissue is never this empty as a whole
_AIRWAY_HU = -930.0
_CRUMB_ML = 20.0
_CROSSING = 0.15  # share of a lung that may lie beyond the middle of the body
_SMALLEST_ML = 100.0
_OPEN_MM2 = 1500.0  # lung cut by the first or last slice by more than this is not covered


@dataclass(frozen=True, eq=False)
class Chest:
    """Masks (D, H, W) on the working grid. `left` and `right` are the patient's; a lung that is not there is empty.

    `cut` names the ends at which the scan stops inside a lung ("top", "bottom"). `notes` say what is uncertain.
    """

    body: Mask
    left: Mask
    right: Mask
    cut: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def lungs(self) -> Mask:
        """Both lungs."""
        return self.left | self.right


def find_chest(grid: Grid) -> Chest:
    """Body and lungs. Raises: ExpertError if there is no body or no lung to speak of."""
    body = _body(grid)
    aerated = _without_airway(_aerated(grid, body), grid)
    found_ml = float(aerated.sum()) * grid.voxel_ml
    if found_ml < _SMALLEST_ML:
        raise ExpertError(
            f"{found_ml:.0f} ml of aerated lung were found, expected at least {_SMALLEST_ML:.0f} ml: the lungs are not"
            " covered by this scan, or it is not a chest",
            "no-lungs",
        )
    left, right, notes = _sides(aerated, body, grid)
    ends = {"bottom": aerated[0], "top": aerated[-1]}
    cut = tuple(name for name, slice_ in ends.items() if slice_.sum() * grid.pixel_mm2 > _OPEN_MM2)
    return Chest(body, left, right, cut, notes)


def _body(grid: Grid) -> Mask:
    solid = grid.hu > AIR_HU
    plane = np.ones((1, 3, 3), bool)
    labels, count = ndimage.label(ndimage.binary_opening(solid, plane))  # the opening lets go of the table
    if count == 0:
        raise ExpertError(f"no voxel is above {AIR_HU:.0f} HU: there is no body in this volume", "no-body")
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    body = labels == int(sizes.argmax())
    litres = float(body.sum()) * grid.voxel_ml / 1000
    if litres < 2:
        raise ExpertError(f"the largest object holds {litres:.2f} litres, expected at least 2: not a body", "no-body")
    # Closed slice by slice: in 3-D the lungs would open to the outside through the windpipe.
    return np.stack([ndimage.binary_fill_holes(slice_) for slice_ in ndimage.binary_closing(body, plane)])


def _aerated(grid: Grid, body: Mask) -> Mask:
    air = body & (grid.hu < AIR_HU)
    labels, count = ndimage.label(air)
    if count == 0:
        return air
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    core = ndimage.binary_erosion(air)  # border voxels are half wall, so they hide how empty a gas bubble is
    kept = np.zeros_like(air)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if sizes[number] * grid.voxel_ml > _SMALLEST_ML / 2:
            part = labels[box] == number
            inside = part & core[box]
            if inside.any() and np.median(grid.hu[box][inside]) > _GAS_HU:
                kept[box] |= part
    return kept


def _without_airway(air: Mask, grid: Grid) -> Mask:
    """Take out windpipe and main bronchi: in a slice, round holes near the middle that hold air and no tissue."""
    kept = air.copy()
    columns = np.flatnonzero(air.any(axis=(0, 1)))
    middle = columns.mean() if columns.size else 0.0
    for k in range(air.shape[0]):
        labels, _ = ndimage.label(air[k])
        for number, box in enumerate(ndimage.find_objects(labels), 1):
            part = labels[box] == number
            area = part.sum() * grid.pixel_mm2
            shape = part.shape[0] * grid.spacing_mm[1] / (part.shape[1] * grid.spacing_mm[2])
            off = abs((box[1].start + box[1].stop) / 2 - middle) * grid.spacing_mm[2]
            round_and_central = 40 < area < 700 and 0.4 < shape < 2.5 and off < 40
            if round_and_central and np.percentile(grid.hu[k][box][part], 25) < _AIRWAY_HU:
                kept[k][box] &= ~part
    labels, _ = ndimage.label(kept)  # what is left of throat and bronchi is small
    sizes = np.bincount(labels.ravel()) * grid.voxel_ml
    sizes[0] = 0
    return np.asarray((sizes > _CRUMB_ML)[labels])


def _sides(lungs: Mask, body: Mask, grid: Grid) -> tuple[Mask, Mask, tuple[str, ...]]:
    """Part the lungs where they are thin (they may touch in front of the heart); each voxel goes to the nearer part."""
    coarse = [max(1, round(4.0 / step)) for step in grid.spacing_mm]
    small = lungs[tuple(slice(None, None, step) for step in coarse)]
    sampling = [step * times for step, times in zip(grid.spacing_mm, coarse, strict=True)]
    depth = ndimage.distance_transform_edt(np.pad(small, 1), sampling=sampling)[1:-1, 1:-1, 1:-1]
    middle = _middle(body, lungs)
    for radius_mm in (0.0, 4.0, 6.0, 8.0, 10.0, 13.0, 16.0):
        labels, count = ndimage.label(depth > radius_mm)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        sizes[0] = 0
        first, second = np.argsort(-sizes)[:2]
        if count >= 2 and sizes[second] > 0.12 * sizes.sum():
            left, right = _nearest(lungs, labels, (int(first), int(second)), coarse)
            if max(left[:, :, :middle].sum() / left.sum(), right[:, :, middle:].sum() / right.sum()) < _CROSSING:
                return left, right, ()
    side = np.arange(lungs.shape[2]) >= middle
    left, right = lungs & side, lungs & ~side
    if min(left.sum(), right.sum()) < 0.05 * lungs.sum():
        name = "left" if left.sum() > right.sum() else "right"
        empty = np.zeros_like(lungs)
        pair = (lungs, empty) if name == "left" else (empty, lungs)
        return *pair, (f"only a {name} lung was found",)
    return left, right, ("the lungs could not be parted where they touch and were cut in the middle of the body",)


def _middle(body: Mask, lungs: Mask) -> int:
    """Column of the body's middle: half of its tissue on either side, in the slices that show lung."""
    weight = body[lungs.any(axis=(1, 2))].sum(axis=(0, 1)).cumsum()
    return int(np.searchsorted(weight, weight[-1] / 2))


def _nearest(lungs: Mask, labels: np.ndarray, pair: tuple[int, int], coarse: list[int]) -> tuple[Mask, Mask]:
    seeds = np.where(np.isin(labels, pair), labels, 0)
    places = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    owner = seeds[tuple(places)]
    for axis, step in enumerate(coarse):
        owner = np.repeat(owner, step, axis)
    owner = owner[tuple(slice(0, size) for size in lungs.shape)]
    one, other = lungs & (owner == pair[0]), lungs & (owner == pair[1])
    # i grows to the patient's left, whatever the file's axes were.
    one_is_left = np.nonzero(one)[2].mean() > np.nonzero(other)[2].mean()
    return (one, other) if one_is_left else (other, one)
