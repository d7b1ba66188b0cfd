"""Paints findings into a chest, each only where its own soft edge reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volumes.anatomy import FLATNESS
from volumes.lesions import SEVERITIES, STRENGTH, Lesion, Side, place, rib_number
from volumes.painting import Array, Box, ball, blend, clouds, coverage, smooth_curve, smoothstep, splat
from volumes.streams import stream
from volumes.thorax import Thorax

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Patch:
    """Where a lesion is: covered fraction (0 to 1) of the voxels of `box`."""

    box: Box
    cover: Array


def _sides(lesion: Lesion) -> tuple[Side, ...]:
    return ("right", "left") if lesion.side in ("bilateral", None) else (lesion.side,)


def _wall_distance(th: Thorax, box: Box, right: bool) -> Array:
    """Distance in mm from the side wall of the chest for the voxels of `box`; negative outside."""
    z, y, x = th.grid.open(box)
    c, w, b, m = (v[:, None, None].astype(np.float32) for v in th.cage.profile(z.ravel()))
    scaled = np.abs(x) / np.float32(th.cage.side_scale(right))
    r = (np.abs((scaled - c) / w) ** FLATNESS + np.abs((y - m) / b) ** FLATNESS) ** np.float32(1 / FLATNESS)
    return np.asarray((1 - r) * np.minimum(w, b), np.float32)


def _effusion(th: Thorax, lesion: Lesion) -> list[Patch]:
    patches = []
    for side in _sides(lesion):
        right = side == "right"
        size = lesion.size_mm * (1.0 if lesion.side != "bilateral" or right else 0.8)
        box = th.lung_box(right)
        level = th.cage.sulcus_z(right) + size
        top = th.grid.box(np.array([-1e4, -1e4, -1e4]), np.array([level + 62 + 0.2 * size, 1e4, 1e4]))[0]
        box = (slice(box[0].start, max(min(box[0].stop, top.stop), box[0].start)), box[1], box[2])
        z = th.grid.open(box)[0]
        climb = np.clip(1 - _wall_distance(th, box, right) / np.float32(20 + 0.25 * size), 0, 1)
        climb **= 2
        climb *= np.float32(10 + 0.45 * min(size, 110))
        cover = coverage((np.float32(level) + climb - z) * np.float32(0.7), th.grid.step_mm)
        cover *= th.aerated(box)
        blend(th.density, box, cover, 1.015)
        patches.append(Patch(box, cover))
    return patches


def _pneumothorax(th: Thorax, lesion: Lesion) -> list[Patch]:
    right = lesion.side != "left"
    box = th.lung_box(right)
    height = th.anatomy.height
    low = height * (0.52 - 0.012 * min(lesion.size_mm, 45))
    start = th.grid.box(np.array([low - 4, 0, 0]), np.array([1e4, 1, 1]))[0].start
    box = (slice(max(box[0].start, start), box[0].stop), box[1], box[2])
    z = th.grid.open(box)[0]
    t = smoothstep(np.asarray((z - low) / (0.34 * height), np.float32))
    rim = np.float32(lesion.size_mm) * t
    y, x = th.grid.open(box)[1:]
    c, w, b, m = (v[:, None, None].astype(np.float32) for v in th.cage.profile(z.ravel()))
    # the collapsed lung keeps its medial border: its middle moves by half the rim, its half width shrinks by as much
    half, deep = np.maximum(w - rim / 2, 2.0), np.maximum(b - 0.2 * rim, 2.0)
    scaled = np.abs(x) / np.float32(th.cage.side_scale(right))
    r = (np.abs((scaled - c + rim / 2) / half) ** FLATNESS + np.abs((y - m) / deep) ** FLATNESS) ** np.float32(
        1 / FLATNESS
    )
    edge = np.minimum((1 - r) * np.minimum(half, deep), (np.float32(height) - 0.9 * rim - z) * np.float32(0.85))
    # the medial border stays attached
    medial = (c - rim / 2 - scaled) / half
    edge = edge + np.clip((50 - np.abs(x)) * 0.5, 0, 40) + 80 * np.clip(medial - 0.3, 0, 1)
    lung = th.lung[box]
    line = np.clip(1.5 - np.abs(edge - 1.0) / 1.3, 0, 1) * (rim > 1.5) * lung
    cover = coverage(np.asarray(-edge, np.float32), th.grid.step_mm)
    cover *= lung * (rim > 1.0)
    blend(th.density, box, cover, 0.0)
    # the lung behind the line has lost air
    th.density[box] += lung * (1 - cover) * np.clip(rim / 40, 0, 1) * np.float32(0.16)
    th.density[box] += np.asarray(line * (1 - cover) * np.float32(0.8), np.float32)
    return [Patch(box, cover)]


def _consolidation(th: Thorax, lesion: Lesion) -> list[Patch]:
    patches = []
    for side in _sides(lesion):
        rng = stream(lesion.seed, "consolidation", side)
        r = lesion.size_mm / 2
        center = place(th.cage, lesion, side, min(0.35 * r, 14))
        semi = r * np.array([rng.uniform(0.7, 0.95), rng.uniform(1.0, 1.4), 1.0])
        box = th.grid.box(center - 1.3 * semi, center + 1.3 * semi, 2.0)
        z, y, x = th.grid.open(box)
        away = np.sqrt(
            ((z - center[0]) / semi[0]) ** 2 + ((y - center[1]) / semi[1]) ** 2 + ((x - center[2]) / semi[2]) ** 2
        )
        field = 1.0 - away + 0.20 * np.clip(clouds(box, lesion.seed), -2, 2) * np.clip(1.25 - away, 0, 1)
        cover = smoothstep(np.asarray(field / 0.30, np.float32)) * th.lung[box]
        air = _bronchogram(th, box, side == "right")
        cover *= np.float32(STRENGTH[lesion.severity]) * (1 - 0.6 * air)
        blend(th.density, box, cover, 1.03)
        patches.append(Patch(box, cover))
    return patches


def _bronchogram(th: Thorax, box: Box, right: bool) -> Array:
    """Air-filled branches beside the vessels, as a covered fraction."""
    points, radius = th.trees[right]
    keep = radius > 1.1
    small = th.grid.part(box)
    air = np.zeros(small.shape, np.float32)
    splat(
        air,
        small,
        points[keep] + np.array([1.5, 3.0, 4.5 * (1 if right else -1)]),
        np.pi * (radius[keep] * 0.9) ** 2 * 2.2,
    )
    return np.clip(air, 0, 1, out=air)


def _atelectasis(th: Thorax, lesion: Lesion) -> list[Patch]:
    patches = []
    for side in _sides(lesion):
        right = side == "right"
        rng = stream(lesion.seed, "atelectasis", side)
        center = place(th.cage, lesion, side, 9.0)
        if lesion.location in ("base", "lower lobe"):
            floor = float(th.cage.diaphragm(np.array(center[2]), np.array(center[1])))
            center[0] = floor + rng.uniform(18, 36)
        half = lesion.size_mm / 2
        thick = {"tiny": 2.0, "mild": 4.5, "moderate": 6.5, "severe": 8.0}[lesion.severity]
        tilt_x, tilt_y = rng.uniform(-0.35, 0.35), rng.uniform(-0.07, 0.07)
        rise = half * (abs(tilt_x) + abs(tilt_y)) + 2 * thick + 5
        reach = np.array([rise, half, half])
        box = th.grid.box(center - reach, center + reach, 3.0)
        z, y, x = th.grid.open(box)
        dx, dy = x - np.float32(center[2]), y - np.float32(center[1])
        wave = 2.2 * np.sin(dx / np.float32(13.0) + rng.uniform(0, 6)) * 0.5
        plane = np.abs(z - np.float32(center[0]) - tilt_x * dx - tilt_y * dy - wave)
        edge = np.clip((1 - (dx / half) ** 2 - (dy / (0.9 * half)) ** 2) * 2.5, 0, 1)
        cover = coverage(np.asarray(thick * (0.5 + 0.5 * edge) - plane, np.float32), th.grid.step_mm)
        cover *= (edge * th.lung[box] * np.float32(0.7 + 0.3 * STRENGTH[lesion.severity])).astype(np.float32)
        blend(th.density, box, cover, 1.04)
        patches.append(Patch(box, cover))
        if lesion.severity == "severe" and lesion.location in ("base", "lower lobe"):
            patches.append(_raised_diaphragm(th, right, rng.uniform(20, 38)))
    return patches


def _raised_diaphragm(th: Thorax, right: bool, rise_mm: float) -> Patch:
    """Loss of volume: the hemidiaphragm stands higher, most in its middle."""
    box = th.lung_box(right)
    top = th.grid.box(np.array([-1e4, 0, 0]), np.array([max(th.cage.dome) + rise_mm + 4, 1, 1]))[0]
    box = (slice(box[0].start, top.stop), box[1], box[2])
    z, y, x = th.grid.open(box)
    floor = th.cage.diaphragm(x[0], y[0])[None]
    bump = rise_mm * np.clip(1.15 - (np.minimum(np.abs(floor - max(th.cage.dome)), 60) / 60), 0.25, 1)
    bump = bump * smoothstep(np.asarray(np.abs(x) / 45.0, np.float32))  # none in the midline
    cover = coverage(np.asarray((floor + bump - z) * 0.85, np.float32), th.grid.step_mm)
    cover *= th.aerated(box)
    blend(th.density, box, cover, 1.05)
    return Patch(box, cover)


def _nodule(th: Thorax, lesion: Lesion) -> list[Patch]:
    side: Side = "left" if lesion.side == "left" else "right"
    center = place(th.cage, lesion, side, lesion.size_mm / 2 + 3)
    box, depth = ball(th.grid, center, lesion.size_mm / 2)
    cover = coverage(depth, th.grid.step_mm)
    blend(th.density, box, cover, 1.5)  # partly calcified, else a film of this resolution would not show it
    return [Patch(box, cover)]


def _mass(th: Thorax, lesion: Lesion) -> list[Patch]:
    side: Side = "left" if lesion.side == "left" else "right"
    rng = stream(lesion.seed, "mass")
    r = lesion.size_mm / 2
    center = place(th.cage, lesion, side, min(0.6 * r, 18))
    box, depth = ball(th.grid, center, r)
    core = 0.78 * r - (r - depth)
    z, y, x = th.grid.open(box)
    for _ in range(6):
        away = rng.normal(0, 1, 3)
        lobe = r * rng.uniform(0.36, 0.5)
        at = center + away / np.linalg.norm(away) * (r - lobe)
        d = np.sqrt((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2)
        np.maximum(core, lobe - d, out=core)
    inside = np.clip(th.cage_mask(box, side == "right"), 0, 1)
    cover = coverage(np.asarray(core, np.float32), th.grid.step_mm) * inside
    cover *= np.float32(0.72 if lesion.severity == "tiny" else 1.0)
    blend(th.density, box, cover, 1.04)
    return [Patch(box, cover)]


def _edema(th: Thorax, lesion: Lesion) -> list[Patch]:
    strength = (0.17, 0.27, 0.38, 0.50)[SEVERITIES.index(lesion.severity)]
    patches = []
    for right in (True, False):
        box = th.lung_box(right)
        z, y, x = th.grid.open(box)
        h = th.hila[right]
        away = ((z - h[0] + 8) / 1.15) ** 2 + (y - h[1]) ** 2 + (x - h[2]) ** 2
        near = smoothstep(np.asarray(1.25 - np.sqrt(away) / np.float32(lesion.size_mm), np.float32))
        near *= np.clip(1 + 0.38 * clouds(box, lesion.seed), 0.2, 2.2)
        near *= np.float32(strength)
        near *= th.lung[box]
        blend(th.density, box, np.clip(near, 0, 0.9, out=near), 1.0)
        _kerley(th, lesion, right)
        patches.append(Patch(box, th.lung[box]))
    return patches


def _kerley(th: Thorax, lesion: Lesion, right: bool) -> None:
    """Short lines across the lateral base: thickened septa (Kerley B)."""
    rng = stream(lesion.seed, "kerley", right)
    count = (3, 6, 9, 12)[SEVERITIES.index(lesion.severity)]
    z = th.cage.sulcus_z(right) + 26 + np.arange(count) * rng.uniform(6.5, 9.0) + rng.uniform(-1.5, 1.5, count)
    c, w, _, middle = th.cage.profile(z)
    edge = (c + w) * th.cage.side_scale(right) - 2
    for k in range(count):
        x = np.arange(0.0, rng.uniform(11, 20), 1.2)
        across = np.arange(-12.0, 12.1, 2.4)
        grid_x, grid_y = np.meshgrid(x, across)
        points = np.stack(
            [z[k] + 0.12 * grid_x, middle[k] + grid_y, (edge[k] - grid_x) * (-1 if right else 1)], -1
        ).reshape(-1, 3)
        index = th.grid.nearest(points)
        share = th.lung[index[:, 0], index[:, 1], index[:, 2]]
        splat(th.density, th.grid, points, 0.8 * 1.2 * 2.4 * 1.3 * share)


def _fracture(th: Thorax, lesion: Lesion) -> list[Patch]:
    wanted = (lesion.side == "right", rib_number(lesion))
    site = th.fracture_sites[wanted]
    if lesion.size_mm > 2:  # blood under the pleura bulges into the lung
        inward = site * np.array([1.0, 0.96, 0.96])
        box, depth = ball(th.grid, inward, 7.0 + 0.9 * lesion.size_mm)
        blend(th.density, box, coverage(depth * np.float32(0.6), th.grid.step_mm) * th.lung[box], 1.04)
    box, depth = ball(th.grid, site, 14.0)
    return [Patch(box, coverage(depth, th.grid.step_mm))]


def _line(th: Thorax, path: Floats, width_mm: float, excess: float) -> Patch:
    """A thin dense line along a path (N, 3); `excess` is density above water times cross-section in mm2."""
    box = th.grid.box(path.min(0), path.max(0), width_mm + 2 * th.grid.step_mm)
    small = th.grid.part(box)
    local = np.zeros(small.shape, np.float32)
    if 0 in local.shape:
        return Patch(box, local)
    curve = smooth_curve(path, 1.0)
    step = float(np.linalg.norm(np.diff(curve, axis=0), axis=1).mean())
    splat(local, small, curve, np.full(len(curve), excess * step))
    th.density[box] += local
    return Patch(box, np.asarray(np.clip(local * 6, 0, 1), np.float32))


def _tube(th: Thorax, lesion: Lesion) -> list[Patch]:
    tip_z = th.carina[0] + lesion.size_mm
    curve = smooth_curve(th.trachea, 3.0)
    above = curve[curve[:, 0] >= tip_z]
    force = STRENGTH[lesion.severity]
    stripe = above + np.array([0.0, -3.0, 1.0])
    wall = [_line(th, above + np.array([0.0, 0.0, dx]), 2.0, 30.0 * force) for dx in (-4.4, 4.4)]
    return [_line(th, stripe, 2.0, 170.0 * force), *wall]


def _catheter(th: Thorax, lesion: Lesion) -> list[Patch]:
    a = th.anatomy
    rng = stream(lesion.seed, "catheter")
    h, m = a.height, float(th.cage.profile(np.array([0.7 * a.height]))[3][0])
    tip = np.array([th.carina[0] - lesion.size_mm, m - 30, -21.0 + rng.uniform(-3, 2)])
    cava = np.array([[h * 0.80, m - 26, -23.0], [(h * 0.8 + tip[0]) / 2, m - 29, -22.0], tip])
    if lesion.side == "left":
        lead = np.array(
            [
                [h * 0.80 + 4, m - 42, a.half_width * 0.85],
                [h * 0.87, m - 50, 72.0],
                [h * 0.86, m - 44, 34.0],
                [h * 0.825, m - 36, 4.0],
            ]
        )
    elif rng.random() < 0.55:
        lead = np.array([[h + 52, m - 22, -34.0], [h + 20, m - 24, -30.0], [h * 0.93, m - 25, -27.0]])
    else:
        lead = np.array(
            [[h * 0.80 + 4, m - 42, -a.half_width * 0.85], [h * 0.88, m - 50, -72.0], [h * 0.885, m - 40, -40.0]]
        )
    return [_line(th, np.concatenate([lead, cava]), 2.0, 110.0 * STRENGTH[lesion.severity])]


def _heart(th: Thorax, lesion: Lesion) -> list[Patch]:
    if th.heart_box is None or th.heart is None:
        raise ValueError(f"{lesion.name}: this chest has no heart; expected one painted by paint_heart")
    return [Patch(th.heart_box, th.heart)]


def _emphysema(th: Thorax, lesion: Lesion) -> list[Patch]:
    """Bullae near the apices; the hyperinflation itself is a change of the anatomy."""
    rng = stream(lesion.seed, "bullae")
    count = (1, 3, 5, 8)[SEVERITIES.index(lesion.severity)]
    for k in range(count):
        side: Side = "right" if rng.random() < 0.5 else "left"
        size = lesion.size_mm * (1.0 if k == 0 else rng.uniform(0.4, 0.9))
        where = Lesion(
            "emphysema", side, "apex" if rng.random() < 0.5 else "upper lobe", lesion.severity, size, lesion.seed + k
        )
        center = place(th.cage, where, side, 0.4 * size)
        box, depth = ball(th.grid, center, size / 2 + 1.5)
        wall = np.clip(1 - np.abs(depth - 1.5) / 1.5, 0, 1) * th.lung[box]
        cover = coverage(depth - np.float32(1.5), th.grid.step_mm) * th.lung[box]
        blend(th.density, box, cover, 0.02)
        th.density[box] += np.asarray(0.35 * wall * (1 - cover), np.float32)
    return [Patch(th.lung_box(right), th.lung[th.lung_box(right)]) for right in (True, False)]


_PAINTERS: dict[str, Callable[[Thorax, Lesion], list[Patch]]] = {
    "cardiomegaly": _heart,
    "emphysema": _emphysema,
    "pulmonary edema": _edema,
    "consolidation": _consolidation,
    "atelectasis": _atelectasis,
    "lung mass": _mass,
    "lung nodule": _nodule,
    "pneumothorax": _pneumothorax,
    "pleural effusion": _effusion,
    "rib fracture": _fracture,
    "endotracheal tube": _tube,
    "central venous catheter": _catheter,
}


def paint_lesions(th: Thorax, lesions: tuple[Lesion, ...]) -> dict[int, list[Patch]]:
    """Paints all lesions in a fixed order (air and fluid over lung disease, devices last); patches by lesion index."""
    order = {name: rank for rank, name in enumerate(_PAINTERS)}
    patches = {}
    for index in sorted(range(len(lesions)), key=lambda i: (order[lesions[i].name], lesions[i].seed)):
        patches[index] = _PAINTERS[lesions[index].name](th, lesions[index])
    return patches
