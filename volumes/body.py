"""Paints a whole chest in order: trunk with skin, fat, muscle and lungs, then everything inside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from volumes.anatomy import FLATNESS, Anatomy, Cage
from volumes.mediastinum import paint_airways, paint_heart, paint_mediastinum, paint_vessels
from volumes.painting import Array, ball, blend, clouds, coverage, ellipsoid
from volumes.skeleton import paint_ribs, paint_shoulder_girdle, paint_spine
from volumes.streams import stream
from volumes.thorax import FAT, MUSCLE, Changes, Thorax

Floats = NDArray[np.float64]
SLAB = 8  # heights painted at once: small enough to stay in the processor's cache


def paint_thorax(anatomy: Anatomy, changes: Changes, step_mm: float) -> Thorax:
    """The chest of a patient with the changes that findings make to its anatomy, about 2 million voxels."""
    cage = Cage(anatomy, changes.inflation)
    grid = cage.grid(step_mm)
    thorax = Thorax(anatomy, cage, grid, np.empty(grid.shape, np.float32), np.zeros(grid.shape, np.float32))
    _paint_trunk(thorax, changes)
    if anatomy.breast > 0:
        _paint_breasts(thorax)
    _paint_abdomen(thorax)
    paint_mediastinum(thorax)
    paint_heart(thorax, changes)
    paint_spine(thorax)
    paint_airways(thorax)
    paint_ribs(thorax, changes)
    paint_shoulder_girdle(thorax)
    paint_vessels(thorax, changes)
    return thorax


def _paint_trunk(th: Thorax, changes: Changes) -> None:
    """Skin, fat, muscle and lungs, slab by slab."""
    a, cage, grid = th.anatomy, th.cage, th.grid
    z, y, x = grid.axis(0), grid.axis(1), grid.axis(2)
    p = np.float32(FLATNESS)
    center, width, depth, middle = cage.profile(z)
    scaled = np.abs(x) / np.where(x < 0, cage.side_scale(True), cage.side_scale(False))
    lung_x = (np.abs((scaled[None, :] - center[:, None]) / width[:, None]) ** p).astype(np.float32)
    lung_y = (np.abs((y[None, :] - middle[:, None]) / depth[:, None]) ** p).astype(np.float32)
    lung_scale = (np.minimum(width, depth) / FLATNESS).astype(np.float32)
    diaphragm = cage.diaphragm(x[None, :], y[:, None]).astype(np.float32)
    body_x, body_y, body_scale, roof = _outline(a, cage, x, y, z)
    fat_part = (a.fat / body_scale * FLATNESS).astype(np.float32)
    lung_value = np.float32(a.lung_density * (1 - 0.42 * changes.inflation))
    gravity = (1.0 + 0.12 * (y / cage.half_depth)).astype(np.float32)[None, :, None]
    seed = a.seed // 7
    for first in range(0, grid.shape[0], SLAB):
        s = slice(first, min(first + SLAB, grid.shape[0]))
        box = (s, slice(0, grid.shape[1]), slice(0, grid.shape[2]))
        body = body_x[s, None, :] + body_y[s, :, None]
        inner = (1.0 - fat_part[s])[:, None, None] - body
        np.subtract(1.0, body, out=body)
        for field_ in (body, inner):
            field_ *= body_scale[s].astype(np.float32)[:, None, None] / p
        np.minimum(body, roof[s, None, :], out=body)
        np.minimum(inner, roof[s, None, :] - np.float32(a.fat * 0.6), out=inner)
        density = coverage(body, grid.step_mm)
        density *= np.float32(FAT)
        muscle = coverage(inner, grid.step_mm)
        muscle *= np.float32(MUSCLE - FAT)
        density += muscle
        if z[s][-1] > -a.sulcus * 2 - 30 and z[s][0] < a.height + 3:
            lung = lung_x[s, None, :] + lung_y[s, :, None]
            np.subtract(1.0, lung, out=lung)
            lung *= lung_scale[s, None, None]
            above = (z[s, None, None] - diaphragm[None]) * np.float32(0.85)
            lung = coverage(np.minimum(lung, above, out=lung), grid.step_mm)
            value = clouds(box, seed)
            value *= np.float32(0.11)
            value += 1.0
            value *= lung_value * gravity
            value -= density
            value *= lung
            density += value
            th.lung[s] = lung
        th.density[s] = density


def _outline(a: Anatomy, cage: Cage, x: Array, y: Array, z: Array) -> tuple[Array, Array, Floats, Array]:
    """Terms of the superellipse of the body surface, its scale per height, and the roof formed by the shoulders."""
    t = np.clip(z / a.height, -0.4, 1.4)
    wall = a.muscle + a.fat + 9.0
    broad = np.clip((t - 0.55) / 0.35, 0, 1)
    broad = broad * broad * (3 - 2 * broad)
    half_x = a.half_width * (1.0 - 0.05 * np.clip(t, 0, 1)) + wall + broad * 62.0
    half_y = cage.half_depth * (1.0 - 0.20 * np.clip(t, 0, 1.2)) + a.muscle * 0.75 + a.fat + 13.0
    half_y = half_y * (1 + 0.12 * np.clip(-t / 0.3, 0, 1) ** 0.7)
    neck = np.clip((t - 0.86) / 0.42, 0, 1)
    neck = neck * neck * (3 - 2 * neck)
    half_y = half_y * (1 - neck) + (58 + 0.3 * a.fat) * neck
    shift = 16.0 * np.clip(t, 0, 1.2) + a.kyphosis * 4 * np.clip(t * (1 - t), 0, 1) * 0.7 + 6.0
    p = FLATNESS
    body_x = (np.abs(x[None, :]) / half_x[:, None]) ** p
    body_y = (np.abs(y[None, :] - shift[:, None]) / half_y[:, None]) ** p
    away = np.abs(x)
    slope = a.height + 30 - a.shoulder * np.clip(away - 58, 0, None) - 0.004 * np.clip(away - 120, 0, None) ** 2
    slope = slope + 75.0 * np.exp((52 + 0.2 * a.fat - away) / 16.0)
    roof = (slope[None, :] - z[:, None]) * 0.8
    return body_x.astype(np.float32), body_y.astype(np.float32), np.minimum(half_x, half_y), roof.astype(np.float32)


def _paint_breasts(th: Thorax) -> None:
    a, grid = th.anatomy, th.grid
    rng = stream(a.seed, "breasts")
    size = 26 + 18 * min(a.breast, 1.6)
    low, apart = rng.uniform(0.12, 0.24), rng.uniform(0.50, 0.60)
    for side in (-1, 1):
        at = np.array([a.height * low + rng.normal(0, 4), 0.0, side * a.half_width * apart])
        at[1] = -th.cage.half_depth * 0.86 - a.muscle * 0.4 - a.fat * 0.8
        droop = np.deg2rad(28.0)
        axes = np.array([[np.cos(droop), np.sin(droop), 0], [-np.sin(droop), np.cos(droop), 0], [0, 0, 1.0]])
        box, depth = ellipsoid(grid, at, axes, np.array([size * 1.25, size * 0.58, size * 1.2]))
        cover = coverage(depth * np.float32(0.35), grid.step_mm)
        part = th.density[box]
        np.maximum(part, cover * np.float32(0.96), out=part)


def _paint_abdomen(th: Thorax) -> None:
    """Gas in the stomach and the left colon; the liver needs no brush of its own on a film."""
    a, grid = th.anatomy, th.grid
    rng = stream(a.seed, "abdomen")
    left = th.cage.dome[1]
    if a.bubble > 6:
        r = a.bubble
        at = np.array([left - 10 - 0.55 * r, -0.1 * th.cage.half_depth, a.half_width * rng.uniform(0.36, 0.5)])
        box, depth = ellipsoid(grid, at, np.eye(3), np.array([0.62 * r, r, 1.25 * r]))
        cover = coverage(depth, grid.step_mm)
        z = grid.open(box)[0]
        cover *= np.clip((z - np.float32(at[0] - 0.15 * r)) / grid.step_mm + 0.5, 0, 1)  # a fluid level below
        cover *= 1 - th.lung[box]
        blend(th.density, box, cover, 0.0)
    for _ in range(int(rng.integers(0, 4))):
        r = rng.uniform(7, 15)
        at = np.array([left - rng.uniform(38, 80), rng.uniform(-40, 20), a.half_width * rng.uniform(0.5, 0.78)])
        box, depth = ball(grid, at, r)
        blend(th.density, box, coverage(depth, grid.step_mm) * (1 - th.lung[box]), 0.02)
