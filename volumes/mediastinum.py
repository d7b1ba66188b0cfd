"""Paints what lies between the lungs and grows into them: great vessels, heart, airways and the vessels of the lung."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from volumes.anatomy import Anatomy, Cage
from volumes.painting import blend, capsule, coverage, ellipsoid, smooth_curve, splat
from volumes.streams import stream
from volumes.thorax import BLOOD, Changes, Thorax

Floats = NDArray[np.float64]


def paint_mediastinum(th: Thorax) -> None:
    """The upper mediastinum as a column, the aorta with its arch, the superior vena cava and the hila."""
    a, cage, grid = th.anatomy, th.cage, th.grid
    h = a.height
    box = grid.box(np.array([-30.0, -110.0, -80.0]), np.array([h + 40, 110.0, 80.0]))
    z, y, x = grid.open(box)
    t = (z / h).ravel()
    half_x = a.pedicle * (0.92 + 0.5 * np.clip(t - 0.75, 0, 0.4) - 0.45 * np.clip((0.62 - t) / 0.3, 0, 1))
    _, _, depth, middle = cage.profile(np.minimum(z.ravel(), 0.97 * h))
    half_y = np.maximum(depth * (0.5 + 0.12 * np.clip((0.5 - t) / 0.3, 0, 1)), 42)
    shift = cage.spine_x(z.ravel()) * 0.6
    scale = half_x[:, None, None] * 0.5
    across = scale - scale * ((x - shift[:, None, None]) / half_x[:, None, None]) ** 2
    along = scale * np.abs((y - (middle + 2)[:, None, None]) / half_y[:, None, None]) ** 2.2
    th.solid(box, across.astype(np.float32) - along.astype(np.float32), 1.03, lung_only=True)
    # the lungs meet in front of the heart at an oblique septum, which no beam strikes edge on
    septum = np.asarray(2.2 - np.abs(x - shift[:, None, None] - 0.3 * (y + 50.0)), np.float32)
    th.solid(box, septum, 0.97, lung_only=True)
    arch = a.arch * h
    r = a.aorta
    spine = cage.spine_y(np.array([arch, 0.35 * h, -20.0]))
    bend = cage.spine_x(np.array([arch, 0.35 * h, -20.0]))
    m = float(cage.profile(np.array([arch]))[3][0])
    path = np.array(
        [
            [0.36 * h, m - 32, -10.0],
            [arch - 18, m - 30, -17.0],
            [arch - 2, m - 14, 0.0],
            [arch + 2, m + 8, 15 + 0.7 * r],
            [arch - 12, spine[0] - 12, 15 + 0.6 * r + bend[0]],
            [0.35 * h, spine[1] - 8, 13 + 0.5 * r + bend[1]],
            [-20.0, spine[2] - 10, 8.0 + bend[2]],
        ]
    )
    curve = smooth_curve(path, 18.0)
    for p, q_ in pairwise(curve):
        th.solid(*capsule(grid, p, q_, r, r), BLOOD)
    trunk = np.array([[arch - 30, m - 30, 12.0], [arch - 40, m - 14, 14 + 0.45 * a.pedicle]])
    th.solid(*capsule(grid, trunk[0], trunk[1], 14.0, 12.0), BLOOD)
    cava = np.array([[h * 0.93, m - 24, -21.0], [h * 0.42, m - 30, -20 - 0.12 * a.pedicle]])
    th.solid(*capsule(grid, cava[0], cava[1], 9.5, 11.0), BLOOD)
    carina_z = arch - 24 - 0.05 * h
    th.carina = np.array([carina_z, m + 8, float(cage.spine_x(np.array([carina_z]))[0]) * 0.5 - 2])
    rng = stream(a.seed, "hila")
    for right in (True, False):
        side = -1 if right else 1
        low = -6.0 if right else 7.0
        at = np.array(
            [carina_z - 16 + low + rng.uniform(-4, 4), m + 2, side * (a.pedicle * 0.72 + rng.uniform(17, 25))]
        )
        th.hila[right] = at
        root = np.array([carina_z - 14 + 0.3 * low, m - 12, side * 8.0])
        th.solid(*capsule(grid, root, at, 11.0, rng.uniform(7.5, 9.5)), BLOOD)
        lower = at + np.array([-32.0, 8.0, side * rng.uniform(3, 9)])
        th.solid(*capsule(grid, at, lower, 8.0, 5.5), BLOOD)


def heart_parts(anatomy: Anatomy, cage: Cage, ratio: float) -> list[tuple[Floats, Floats, Floats]]:
    """Ellipsoids (center, axes, half lengths) of both ventricles, the right atrium and the left atrium.

    Scaled so that the silhouette's width is `ratio` times the inner width of the thorax.
    """
    a = anatomy
    inner = a.half_width * (cage.side_scale(True) + cage.side_scale(False))
    turn, forward = np.deg2rad(a.heart_turn), np.deg2rad(28.0)
    long_axis = np.array([-np.sin(turn), -np.cos(turn) * np.sin(forward), np.cos(turn) * np.cos(forward)])
    side = np.cross(long_axis, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    axes = np.stack([long_axis, side, np.cross(long_axis, side)])
    parts = [
        (np.array([0.0, 0.0, 15.0]), axes, np.array([68.0, 47.0, 44.0])),
        (np.array([10.0, 2.0, -19.0]), np.eye(3), np.array([50.0, 38.0, 30.0])),
        (np.array([28.0, 24.0, 6.0]), np.eye(3), np.array([30.0, 24.0, 36.0])),
        (np.array([44.0, -10.0, 12.0]), np.eye(3), np.array([32.0, 22.0, 26.0])),
    ]
    right = max(np.sqrt((ax.T * s**2 @ ax)[2, 2]) - c[2] for c, ax, s in parts)
    left = max(np.sqrt((ax.T * s**2 @ ax)[2, 2]) + c[2] for c, ax, s in parts)
    k = ratio * inner / (right + left)
    tall = k**0.6
    base = cage.dome[1] * 0.5 - 5 + 47.0 * tall
    middle = float(cage.profile(np.array([base]))[3][0])
    origin = np.array([base, middle - 0.30 * cage.half_depth, 10.0 + a.heart_shift])
    scale = np.array([tall, min(k, 1.0) ** 0.5 * max(k, 1.0) ** 0.7, k])
    stretched = []
    for c, ax, s in parts:
        shape = (ax.T / s**2) @ ax / np.outer(scale, scale)
        values, vectors = np.linalg.eigh(shape)
        stretched.append((origin + c * scale, vectors.T, 1 / np.sqrt(values)))
    return stretched


def paint_heart(th: Thorax, changes: Changes) -> None:
    parts = heart_parts(th.anatomy, th.cage, changes.heart_ratio or th.anatomy.heart_ratio)
    grid = th.grid
    reach = [np.sqrt((ax.T * s**2 @ ax).diagonal()) for _, ax, s in parts]
    low = np.min([c - r for (c, _, _), r in zip(parts, reach, strict=True)], axis=0)
    high = np.max([c + r for (c, _, _), r in zip(parts, reach, strict=True)], axis=0)
    whole = grid.box(low, high, 2 * grid.step_mm)
    heart = np.zeros([s.stop - s.start for s in whole], np.float32)
    for c, ax, s in parts:
        box, depth = ellipsoid(grid, c, ax, s)
        inner = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, whole, strict=True))
        part = heart[inner]
        np.maximum(part, coverage(depth, grid.step_mm), out=part)
    z, y, x = grid.open(whole)
    floor = th.cage.diaphragm(x[0], y[0])
    heart *= np.clip((z - floor[None]) / grid.step_mm + 1.5, 0, 1).astype(np.float32)
    blend(th.density, whole, heart * th.aerated(whole), BLOOD)
    th.lung[whole] *= 1 - heart
    th.heart_box, th.heart = whole, heart


def paint_airways(th: Thorax) -> None:
    """Trachea and main bronchi, with a thin wall where they meet the lung."""
    a, grid, carina = th.anatomy, th.grid, th.carina
    top = a.height + 60
    spine = th.cage.spine_y(np.array([a.height]))[0]
    rng = stream(a.seed, "airways")
    neck = np.array([top, spine - 42, rng.uniform(-3, 3)])
    th.trachea = smooth_curve(
        np.array([neck, (neck + carina) / 2 + np.array([0, 2, rng.uniform(-4, 1)]), carina]), 10.0
    )
    r = 8.6 if a.sex == "M" else 7.6
    runs = [(p, q, r, r) for p, q in zip(th.trachea[:-1], th.trachea[1:], strict=True)]
    for right in (True, False):
        side = -1 if right else 1
        end = carina + (np.array([-26.0, 4.0, side * 26.0]) if right else np.array([-24.0, 6.0, side * 40.0]))
        runs.append((carina, end, r * 0.82, r * 0.62))
    for p, q, ra, rb in runs:
        box, depth = capsule(grid, p, q, ra + 1.8, rb + 1.8)
        th.solid(box, depth.copy(), 1.03, lung_only=True)
    for p, q, ra, rb in runs:
        box, depth = capsule(grid, p, q, ra, rb)
        blend(th.density, box, coverage(depth, grid.step_mm), 0.0)


def paint_vessels(th: Thorax, changes: Changes) -> None:
    """A random tree of vessels from each hilum, painted where there is lung."""
    for right in (True, False):
        points, radius = vessel_tree(th, right)
        th.trees[right] = points, radius
        index = th.grid.nearest(points)
        share = th.lung[index[:, 0], index[:, 1], index[:, 2]]
        gain = changes.vessel_gain
        mass = np.pi * radius**2 * 2.2 * (0.62 * gain) * share
        rng = stream(th.anatomy.seed, "vessel scatter", right)
        ball_ = rng.standard_normal((4, *points.shape)) * (radius * 0.33)[None, :, None]
        splat(th.density, th.grid, (points[None] + ball_).reshape(-1, 3), np.tile(mass / 4, 4))


def vessel_tree(th: Thorax, right: bool) -> tuple[Floats, Floats]:
    """Points (N, 3) about 2.2 mm apart along all branches of one lung, and the radius (N,) in mm at each."""
    a = th.anatomy
    rng = stream(a.seed, "vessels", right)
    side = -1.0 if right else 1.0
    hilum = th.hila[right]
    n = 15
    rise = np.linspace(-1.3, 1.15, n) + rng.uniform(-0.12, 0.12, n)
    heading = np.stack([rise, rng.uniform(-0.9, 1.0, n), side * rng.uniform(0.25, 1, n)], 1)
    start = hilum + np.stack([np.where(heading[:, 0] < -0.3, -18.0, 2.0), np.full(n, 2.0), np.full(n, side * 3.0)], 1)
    radius = rng.uniform(2.7, 4.2, n)
    points, radii = [], []
    for generation in range(6):
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        length = rng.uniform(17, 34, len(start)) * (0.95**generation)
        steps = np.linspace(0, 1, 12)
        curl = rng.normal(0, 0.16, heading.shape)
        course = steps[:, None] * heading[:, None] + (steps**2)[:, None] * curl[:, None]
        path = start[:, None] + length[:, None, None] * course
        points.append(path.reshape(-1, 3))
        radii.append((radius[:, None] * (1 - 0.22 * steps)).ravel())
        tip, bent = path[:, -1], heading + 2 * curl
        spread = rng.normal(0, 0.42, (len(tip), 3))
        start = np.concatenate([tip, tip])
        heading = np.concatenate([bent + spread, bent - spread]) + np.array([0.0, 0.0, side * 0.12])
        thick, thin = rng.uniform(0.72, 0.86, len(tip)), rng.uniform(0.6, 0.78, len(tip))
        radius = np.concatenate([radius * thick, radius * thin])
        inside = th.cage.depth(start) > 3.0
        start, heading, radius = start[inside], heading[inside], radius[inside]
        if not len(start):
            break
    return np.concatenate(points), np.concatenate(radii)
