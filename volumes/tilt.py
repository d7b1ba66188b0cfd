"""Gantry tilt: measured from the affine, never from a tag, and taken out by shear resampling when asked.

A tilted CT keeps its slices parallel but offsets each against the last, so the voxel grid is a parallelepiped. Many
tools read it as a box, which is silently wrong by millimetres. Here the sheared affine is kept unless `untilt` is
called, which interpolates linearly within each slice onto a box that holds all of it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from volumes.geometry import Vector
from volumes.volume import Unit, Volume, VolumeError

LEAST_DEGREES = 0.1
MAX_GROWTH = 4  # a box that holds a tilted series may be so many times as large
_OUTSIDE: dict[Unit, float] = {"HU": -1024.0, "SUV": 0.0, "1": 0.0}


def tilt_degrees(volume: Volume) -> float:
    """Angle in degrees between the line on which the slices lie and their normal."""
    step, normal = volume.affine[:3, 0].numpy(), _normal(volume.affine.numpy())
    cosine = abs(float(step @ normal)) / float(np.linalg.norm(step))
    return math.degrees(math.acos(min(1.0, cosine)))


def untilt(volume: Volume, outside: float | None = None) -> Volume:
    """The volume on an orthogonal grid: (D, H', W') with slices exactly below each other, enlarged to lose nothing.

    Linear interpolation within each slice; the slices stay where they are. Voxels that the scan did not cover get
    `outside` (default: -1024 HU, 0 SUV, else the least value). Less than 0.1 degree is left as it is.
    Raises VolumeError when the box would be over four times as large.
    """
    degrees = tilt_degrees(volume)
    if degrees < LEAST_DEGREES:
        return volume
    affine = volume.affine.numpy()
    along = affine[:3, 1:3]
    if abs(float(along[:, 0] @ along[:, 1])) > 1e-6 * float(np.prod(np.linalg.norm(along, axis=0))):
        raise VolumeError("rows and columns of the volume are not at right angles: this is no gantry tilt", "sheared")
    normal = _normal(affine)
    step = normal * float(affine[:3, 0] @ normal)
    # how far, in voxels (j, i), the slices move against the new grid with each k
    drift = np.array([float((affine[:3, 0] - step) @ v) / float(v @ v) for v in along.T])
    shifts = np.arange(volume.shape[0])[:, None] * drift
    low, high = np.floor(shifts.min(axis=0) + 1e-9).astype(int), np.ceil(shifts.max(axis=0) - 1e-9).astype(int)
    shape = (volume.shape[0], *(int(n + b - a) for n, a, b in zip(volume.shape[1:], low, high, strict=True)))
    if math.prod(shape) > MAX_GROWTH * math.prod(volume.shape):
        raise VolumeError(
            f"slices are offset by {degrees:.1f} degrees: a box that holds them would be {shape[0]} x {shape[1]} x"
            f" {shape[2]} voxels, over {MAX_GROWTH} times as many as were scanned",
            "tilt-too-large",
        )
    fill = outside if outside is not None else _OUTSIDE.get(volume.unit, float(volume.voxels.min()))
    out = np.full(shape, fill, dtype=np.float32)
    for k, slice_ in enumerate(volume.voxels.numpy()):
        _put(out[k], slice_, shifts[k] - low)
    grid = affine.copy()
    grid[:3, 0] = step
    grid[:3, 3] = affine[:3, 3] + along @ low
    note = (
        f"gantry tilt of {degrees:.1f} degrees taken out, as asked: resampled within the slices to {shape[1]} x"
        f" {shape[2]}, voxels that were not scanned hold {fill:g}"
    )
    kept = tuple(n for n in volume.notes if "kept as a sheared affine" not in n)
    return replace(volume, voxels=torch.from_numpy(out), affine=torch.from_numpy(grid), notes=(*kept, note))


def _normal(affine: Vector) -> Vector:
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    return np.asarray(normal / np.linalg.norm(normal))


def _put(out: Vector, slice_: Vector, shift: Vector) -> None:
    """Write a slice (H, W) moved by `shift` >= 0 voxels; only where all voxels that are mixed were scanned."""
    mixed = slice_
    starts = []
    for axis, by in enumerate(shift):
        whole = round(float(by)) if abs(by - round(float(by))) < 1e-6 else math.floor(by)
        part = np.float32(max(0.0, by - whole))
        if part > 1e-6:  # out[n + whole + 1] lies between slice[n] and slice[n + 1]
            ahead = mixed[1:] if axis == 0 else mixed[:, 1:]
            behind = mixed[:-1] if axis == 0 else mixed[:, :-1]
            mixed = behind * part + ahead * (1 - part)
            whole += 1
        starts.append(whole)
    j, i = starts
    out[j : j + mixed.shape[0], i : i + mixed.shape[1]] = mixed
