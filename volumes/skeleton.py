"""Paints the bones: spine, 24 ribs with their fractures, clavicles, shoulder blades and breastbone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volumes.anatomy import FLATNESS, Anatomy, Cage, vertebra_mm
from volumes.painting import blend, coverage, resample, smooth_curve, smoothstep, splat
from volumes.streams import stream
from volumes.thorax import Changes, Thorax

Floats = NDArray[np.float64]


def paint_spine(th: Thorax) -> None:
    """Vertebral bodies with denser end plates, discs, and the arch behind them."""
    a, cage, grid = th.anatomy, th.cage, th.grid
    pitch = vertebra_mm(a)
    box = grid.box(np.array([grid.start_mm[0], 20.0, -48.0]), np.array([1e4, 1e4, 48.0]))
    z, y, x = grid.open(box)
    # two-dimensional terms over (z, y) and (z, x), so that each organ costs few operations on the whole box
    dy = y - cage.spine_y(z.ravel()).astype(np.float32)[:, None, None]
    dx = x - cage.spine_x(z.ravel()).astype(np.float32)[:, None, None]
    half = 15.5 + 3.5 * np.clip(1 - z / np.float32(a.height), 0, 1.3)
    r = np.asarray(np.sqrt((dx / half) ** 2 + (dy / 15.0) ** 2), np.float32)
    body = coverage((1 - r) * 14.0, grid.step_mm)
    phase = np.abs(((z - a.height) / pitch) % 1.0 - 0.5) * 2  # 1 in the disc, 0 in the middle of the body
    disc = np.clip((phase - 0.74) / 0.06, 0, 1)
    plate = np.clip(1 - np.abs(phase - 0.66) / 0.12, 0, 1)
    shell = np.clip(1 - np.abs((1 - r) * 14.0 - 2.0) / 2.5, 0, 1)
    bone = np.float32(a.rib_density)
    value = 1.05 + (0.12 + 0.24 * plate + 0.14 * shell) * (1 - disc) * bone
    blend(th.density, box, body, np.asarray(value, np.float32))
    th.lung[box] *= 1 - body
    for ahead, wide, deep in ((-8.0, 31.0, 24.0), (22.0, 21.0, 18.0)):  # muscle beside the spine, esophagus before it
        q = (1.0 - (dx / wide) ** 2) * (deep / 5) - ((dy + ahead) / deep) ** 2 * (deep / 5)
        soft = coverage(np.asarray(q, np.float32), grid.step_mm) * th.lung[box]
        blend(th.density, box, soft, 1.03)
        th.lung[box] *= 1 - soft
    arch = np.asarray(np.sqrt((dx / 17.0) ** 2 + ((dy - 25) / 12.0) ** 2), np.float32)
    cover = coverage((1 - arch) * 11.0, grid.step_mm)
    blend(th.density, box, cover, np.asarray(1.05 + 0.13 * bone * np.clip(1.25 - phase, 0, 1), np.float32))
    th.lung[box] *= 1 - cover
    spine = np.asarray(np.sqrt((dx / 3.5) ** 2 + ((dy - 48) / 15.0) ** 2), np.float32)
    low = np.clip(1.2 - np.abs(((z - a.height) / pitch + 0.25) % 1.0 - 0.5) * 2.4, 0, 1)
    blend(th.density, box, np.asarray(coverage((1 - spine) * 3.5, grid.step_mm) * low, np.float32), 1.4)


def rib_curve(anatomy: Anatomy, cage: Cage, right: bool, number: int) -> tuple[Floats, Floats, Floats]:
    """Centerline (N, 3) in (z, y, x) mm from the spine forwards, outward normals (N, 3), angles (N,) in degrees."""
    a = anatomy
    end = (128, 138, 142, 144, 144, 142, 138, 128, 118, 108, 88, 62)[number - 1]
    angle = np.linspace(9.0, end, 90)
    phi = np.deg2rad(angle)
    start = a.height + 3 - (number - 1) * vertebra_mm(a) * 0.985
    drop = a.rib_drop * (14, 34, 50, 62, 72, 80, 86, 90, 92, 84, 62, 40)[number - 1]
    share = phi / np.pi
    z = start + 5 * np.sin(np.minimum(share * 4, 1) * np.pi) - drop * 1.5 * share**1.7
    level = np.clip(z, -1e3, 0.86 * a.height)
    c, w, b, m = cage.profile(level)
    bend = 2 / FLATNESS
    sin, cos = np.abs(np.sin(phi)) ** bend, np.abs(np.cos(phi)) ** bend * np.sign(np.cos(phi))
    x = (c * np.minimum(sin * 1.6, 1) + w * sin + 4.5) * cage.side_scale(right)
    y = m + (b + 4.5) * cos
    side = -1.0 if right else 1.0
    points = np.stack([z, y, side * x + cage.spine_x(np.array(start)) * np.cos(phi / 2) ** 2], axis=1)
    normal = np.stack([np.zeros_like(phi), np.cos(phi), side * np.sin(phi)], axis=1)
    return points, normal, angle


def paint_ribs(th: Thorax, changes: Changes) -> None:
    """24 ribs as flat tubes with a dense cortex; a fracture is a step, a gap and a little callus."""
    a = th.anatomy
    broken = {(f[0], f[1]): f for f in changes.fractures}
    for number in range(1, 13):
        for right in (True, False):
            points, normal, angle = rib_curve(a, th.cage, right, number)
            th.ribs[right, number] = points
            rib = _flat_rib(points, normal, angle)
            height = a.rib_height * (0.8 if number in (1, 11, 12) else 1.0)
            if (right, number) in broken:
                rib = _break(th, rib, broken[right, number], height)
            _paint_rib(th, rib, height)


@dataclass
class _Rib:
    """A rib sampled every 2 mm: position, outward and upward unit vectors (N, 3), arc length, angle and weight (N,)."""

    points: Floats
    out: Floats
    up: Floats
    at: Floats
    angle: Floats
    weight: Floats


def _flat_rib(points: Floats, normal: Floats, angle: Floats) -> _Rib:
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, length[-1], int(length[-1] / 2.0) + 1)
    line, out = (np.stack([np.interp(at, length, v[:, k]) for k in range(3)], axis=1) for v in (points, normal))
    tangent = np.gradient(line, axis=0)
    up = np.cross(tangent, out)
    up *= np.sign(up[:, :1]) / (np.linalg.norm(up, axis=1, keepdims=True) + 1e-9)
    taper = np.clip(np.minimum(at / 12 + 0.5, (at[-1] - at) / 10 + 0.45), 0, 1)
    degrees = np.interp(at, length, angle)
    front = 1.0 - 0.5 * np.clip((degrees - 85) / 40, 0, 1)  # thinner and partly cartilage
    return _Rib(line, out, up, at, degrees, taper * front)


def _break(th: Thorax, rib: _Rib, fracture: tuple[bool, int, float, float, int], height: float) -> _Rib:
    """Moves the front fragment against the rear one near the site, opens a gap and adds callus around it."""
    right, number, degrees, shift, seed = fracture
    rng = stream(seed, "fracture")
    site = int(np.argmin(np.abs(rib.angle - degrees)))
    th.fracture_sites[right, number] = rib.points[site].copy()
    away = rib.at - rib.at[site]
    fade = smoothstep(np.asarray(1.15 - np.abs(away) / 34.0, np.float32))
    sign = -1.0 if rng.random() < 0.6 else 1.0
    step = np.where(away >= 0, 0.7, -0.3) * fade * shift * sign
    rib.points = rib.points + step[:, None] * rib.up + (0.4 * np.abs(step))[:, None] * rib.out
    gap = 1.5 + 0.35 * shift
    ends = np.clip(1.0 - np.abs(np.abs(away) - gap - 2.5) / 3.5, 0, 1)
    rib.weight = np.where(np.abs(away) < gap, 0.0, rib.weight * (1 + (0.6 + 0.15 * shift) * ends))
    callus = rib.points[np.abs(away) < 7 + gap]
    callus = callus[np.linspace(0, len(callus) - 1, 12).astype(int)]
    cloud = np.concatenate([callus + rng.normal(0, height * 0.3, callus.shape) for _ in range(6)])
    splat(th.density, th.grid, cloud, np.full(len(cloud), height * (0.9 + 0.35 * shift)))
    return rib


def _paint_rib(th: Thorax, rib: _Rib, height: float) -> None:
    step = rib.at[1] - rib.at[0]
    rise = np.array([-0.5, -0.28, 0.0, 0.28, 0.5]) * (height - 2)
    power = np.array([1.45, 0.8, 0.6, 0.8, 1.45])
    area = height * 6.5 / (len(rise) * 2)
    offsets = [(u, t, w) for u, w in zip(rise, power, strict=True) for t in (-1.7, 1.7)]
    cloud = np.concatenate([rib.points + u * rib.up + t * rib.out for u, t, _ in offsets])
    mass = np.concatenate([rib.weight * (w * area * step * 1.2 * th.anatomy.rib_density) for _, _, w in offsets])
    splat(th.density, th.grid, cloud, mass)


def paint_shoulder_girdle(th: Thorax) -> None:
    """Clavicles, shoulder blades and breastbone."""
    a, grid = th.anatomy, th.grid
    rng = stream(a.seed, "girdle")
    _, _, b, m = (float(v[0]) for v in th.cage.profile(np.array([0.84 * a.height])))
    front = m - b - 6
    bone = a.rib_density
    for right in (True, False):
        side = -1 if right else 1
        z0 = a.height * 0.84 + rng.uniform(-4, 4)
        wide = a.half_width + 26
        path = np.array(
            [
                [z0, front - 4, 16.0],
                [z0 + 7, front - 2, 55],
                [z0 + a.clavicle_rise * 0.7, front + 24, 95],
                [z0 + a.clavicle_rise, front + 46, wide],
            ]
        )
        path[:, 2] *= side
        curve = smooth_curve(path, 2.0)
        radius = 5.0 + 2.5 * np.clip(1 - np.abs(curve[:, 2]) / 40, 0, 1)
        ring = np.linspace(0, 2 * np.pi, 7)[:-1]
        around = [curve + radius[:, None] * 0.75 * np.array([np.cos(f), np.sin(f), 0]) for f in ring]
        cloud = np.concatenate([curve, *around])
        weight = np.repeat([0.5] + [1.1] * 6, len(curve)) * np.tile(radius**2, 7)
        splat(th.density, grid, cloud, weight * 2.0 * np.pi / 7 * 0.75 * bone)
        top = np.array([a.height * 0.86, m + b * 0.75, side * (a.half_width + 14)])
        corners = [top, top + np.array([-20.0, 26.0, -side * 62]), top + np.array([-0.56 * a.height, 20.0, -side * 34])]
        _splat_plate(th, corners, 2.6, 0.45 * bone)
        _splat_bar(th, corners[1], corners[2], 3.0, 0.2 * bone)
        _splat_bar(th, top, corners[2], 4.0, 0.25 * bone)
        _splat_bar(th, corners[1] + np.array([-18.0, 8.0, 0.0]), top + np.array([16, 4, side * 18]), 6.0, 0.4 * bone)
    box = grid.box(np.array([a.height * 0.22, -200, -17]), np.array([a.height * 0.86, 0, 17]))
    z, y, x = grid.open(box)
    _, _, depth, middle = th.cage.profile(z.ravel())
    plate = np.minimum(6.0 - np.abs(y - (middle - depth - 7)[:, None, None]), 16.0 - np.abs(x))
    blend(th.density, box, coverage(np.asarray(plate, np.float32), grid.step_mm), 1.05 + 0.22 * bone)


def _splat_plate(th: Thorax, corners: list[Floats], thick: float, excess: float) -> None:
    u = np.linspace(0, 1, 44)
    s, t = np.meshgrid(u, u, indexing="ij")
    keep = s + t <= 1
    a, b = corners[1] - corners[0], corners[2] - corners[0]
    points = corners[0] + s[keep][:, None] * a + t[keep][:, None] * b
    area = np.linalg.norm(np.cross(a, b)) / 2
    splat(th.density, th.grid, points, np.full(len(points), area / len(points) * thick * excess))


def _splat_bar(th: Thorax, p: Floats, q: Floats, radius: float, excess: float) -> None:
    line = resample(np.stack([p, q]), 2.0)
    shift = radius * 0.5
    ring = [(0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift)]
    cloud = np.concatenate([line + np.array([dz, dy, 0.0]) for dz, dy in ring])
    splat(th.density, th.grid, cloud, np.full(len(cloud), np.pi * radius**2 * 2.0 / 5 * excess))
