"""Masks in NIfTI, NRRD or MetaImage files -> masks on the grid of an image, one per label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from volumes.masks import Mask, Masks
from volumes.segmentation import sample_nearest
from volumes.study import read_study
from volumes.volume import Volume, VolumeError

MAX_LABELS = 1024
_SAME_MM = 0.05  # corners of two grids nearer than this are one grid


def read_mask_file(path: Path | str, image: Volume) -> Masks:
    """One mask per whole number above 0, named by the file, and by the label too where there are several.

    A file on another grid is sampled at the voxel centres of the image (nearest), which is noted. The file must lie in
    the patient space of the image, which only the caller can know. Raises VolumeError when it holds no mask.
    """
    labels = read_study(path).main_series().read()
    if not isinstance(labels, Volume):
        raise VolumeError(
            "the file is a picture; a mask has three dimensions and a place in the patient", "not-a-volume"
        )
    values = np.unique(labels.voxels.numpy())
    if not np.isfinite(values).all() or (values != np.rint(values)).any() or len(values) > MAX_LABELS or values[0] < 0:
        raise VolumeError(
            f"the file holds {len(values)} values from {values[0]:g} to {values[-1]:g}; expected whole numbers from 0,"
            f" at most {MAX_LABELS} labels. It looks like an image, not a mask",
            "not-a-mask",
        )
    same = labels.shape == image.shape and _apart_mm(labels, image) < _SAME_MM
    placed = labels.voxels.numpy() if same else sample_nearest(labels.voxels.numpy(), labels.affine.numpy(), image)
    notes = () if same else ("sampled at the voxels of the image (nearest): the file has another grid",)
    numbers = [int(v) for v in values if v > 0]
    if not placed.any():
        raise VolumeError("no voxel of the mask lies inside the image", "no-mask")
    stem = Path(path).name.split(".")[0]
    found = Masks()
    for number in numbers:
        name = stem if len(numbers) == 1 else f"{stem} {number}"
        found[name] = Mask(name, torch.from_numpy(placed == number), number, notes=notes)
    return found


def _apart_mm(a: Volume, b: Volume) -> float:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, n - 1.0], dtype=torch.float64) for n in b.shape])
    return float((a.index_to_mm(corners) - b.index_to_mm(corners)).norm(dim=1).max())
