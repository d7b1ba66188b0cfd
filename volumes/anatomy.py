"""The latent thorax of one simulated patient: the numbers that describe it and the curves that follow from them.

Patient frame in mm: x to the patient's left, y to the back, z to the head; z = 0 at the top of the right hemidiaphragm.
Sizes follow adult radiographic ranges (cardiothoracic ratio up to 0.5, aortic knob about 3 cm, vertebra about 2.3 cm);
they are plausible, not measured on a population.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from volumes.painting import Grid
from volumes.streams import stream, subseed

FLATNESS = 2.3  # exponent of the superellipse that is the cross-section of the thoracic cavity
STEP_MM = 2.5
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Anatomy:
    """What stays the same over all visits of a patient. Lengths in mm, densities relative to water."""

    seed: int
    sex: Literal["F", "M"]
    age: int
    half_width: float  # of the thoracic cavity at its base
    half_depth: float
    height: float  # from the right hemidiaphragm to the apex
    asymmetry: float  # right lung wider where positive
    muscle: float
    fat: float
    left_dome: float  # height of the left hemidiaphragm, mostly below 0
    sulcus: float  # depth of the costophrenic angle below the dome
    kyphosis: float
    scoliosis: float
    heart_ratio: float  # heart width over thoracic width
    heart_shift: float
    heart_turn: float  # degrees by which the long axis points down
    pedicle: float  # half width of the upper mediastinum
    aorta: float  # radius
    arch: float  # height of the aortic arch as a fraction of the lung
    lung_density: float
    rib_drop: float
    rib_density: float
    rib_height: float
    breast: float
    bubble: float
    clavicle_rise: float
    shoulder: float
    offset: tuple[float, float, float]  # where the scanner's origin lies, (x, y, z)


def sample_anatomy(seed: int, index: int) -> Anatomy:
    """The anatomy of patient `index`; adults of very different build."""
    rng = stream(seed, index, "anatomy")
    u = rng.uniform
    female = bool(rng.random() < 0.5)
    scale = (0.93 if female else 1.03) * float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.13))
    plump = float(np.clip(rng.gamma(2.0, 0.25), 0.03, 1.6))
    age = int(np.clip(rng.normal(58, 17), 19, 95))
    inspiration = float(np.clip(rng.normal(1.0, 0.08), 0.78, 1.15))
    return Anatomy(
        seed=subseed(seed, index, "anatomy"),
        sex="F" if female else "M",
        age=age,
        half_width=u(127, 146) * scale,
        half_depth=u(82, 104) * scale,
        height=u(205, 238) * scale * inspiration,
        asymmetry=u(-0.03, 0.05),
        muscle=u(14, 24) * (0.85 if female else 1.1),
        fat=4 + 26 * plump,
        left_dome=u(-22, 2),
        sulcus=u(42, 68),
        kyphosis=u(4, 16) + 0.25 * max(age - 60, 0),
        scoliosis=rng.normal(0, 5.0),
        heart_ratio=float(np.clip(rng.normal(0.435, 0.028), 0.36, 0.485)),
        heart_shift=u(-7, 8),
        heart_turn=u(18, 48) + 10 * (1 - plump),
        pedicle=u(22, 32) * scale,
        aorta=u(11, 14) + 0.05 * max(age - 45, 0),
        arch=u(0.66, 0.76),
        lung_density=float(np.clip(rng.normal(0.16, 0.025), 0.11, 0.23)),
        rib_drop=u(0.8, 1.25),
        rib_density=u(0.50, 0.80) * (1.0 if age < 65 else 0.85),
        rib_height=u(10.0, 13.0) * scale,
        breast=u(0.5, 1.3) * (0.6 + plump) if female else 0.0,
        bubble=u(0, 26),
        clavicle_rise=u(8, 30),
        shoulder=u(0.25, 0.55),
        offset=(u(-14, 14), u(-220, -120), u(-900, 200)),
    )


@dataclass(frozen=True)
class Cage:
    """The curves of the thoracic cavity; `inflation` (0 to 1) hyperinflates it as emphysema does."""

    anatomy: Anatomy
    inflation: float = 0.0

    @property
    def dome(self) -> tuple[float, float]:
        """Heights of the right and left hemidiaphragm."""
        low = -26.0 * self.inflation
        return low, self.anatomy.left_dome + low

    @property
    def half_depth(self) -> float:
        return self.anatomy.half_depth * (1 + 0.13 * self.inflation)

    def profile(self, z: NDArray[np.floating]) -> tuple[Floats, Floats, Floats, Floats]:
        """Per height: center of each half in |x|, its half width, the half depth and the y of the middle, all in mm."""
        a = self.anatomy
        t = np.clip(np.asarray(z, float) / a.height, 0.0, 1.05)
        outer = a.half_width * (1.0 - 0.27 * t**2.2)
        s = np.clip((t - 0.4) / 0.6, 0, 1)
        center = 0.39 * a.half_width * s * s * (3 - 2 * s)
        close = np.sqrt(np.clip(1.0 - np.clip((t - 0.52) / 0.48, 0, None) ** 2.6, 0.0, 1.0))
        close_depth = np.sqrt(np.clip(1.0 - np.clip((t - 0.45) / 0.55, 0, None) ** 2.4, 0.0, 1.0))
        width = np.maximum((outer - center) * close, 0.5)
        depth = np.maximum(self.half_depth * (1.0 - 0.22 * t) * close_depth, 0.5)
        middle = 16.0 * t + a.kyphosis * 4 * t * (1 - t) - 0.06 * self.half_depth * self.inflation
        return center, width, depth, middle

    def spine_x(self, z: NDArray[np.floating]) -> Floats:
        """Sideways bend of the spine in mm."""
        return self.anatomy.scoliosis * np.sin(np.asarray(z, float) / self.anatomy.height * np.pi * 1.2)

    def spine_y(self, z: NDArray[np.floating]) -> Floats:
        """Middle of the vertebral bodies."""
        t = np.clip(np.asarray(z, float) / self.anatomy.height, -0.3, 1.3)
        a = self.anatomy
        return (
            self.half_depth * (0.86 - 0.16 * np.clip(t, 0, 1.2) ** 2)
            + 12 * t
            + a.kyphosis * 4 * np.clip(t * (1 - t), -0.1, 1)
            - 8
        )

    def diaphragm(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Height of the diaphragm over points, broadcast over `x` and `y`."""
        a = self.anatomy
        x, y = np.asarray(x, float), np.asarray(y, float)
        right, left = self.dome
        top = right + (left - right) * (0.5 + 0.5 * np.tanh(x / 22.0))
        flat = 1.0 - 0.62 * self.inflation
        out = (np.abs(x) - 0.46 * a.half_width) / (0.58 * a.half_width)
        out = np.where(out < 0, out * 0.45, out)
        back = (y + 0.25 * self.half_depth) / self.half_depth
        back = np.where(back < 0, back * 0.9, back * 0.98)
        crus = np.clip(np.abs(x) / (0.5 * a.half_width), 0, 1)  # medially the diaphragm stays high in the back
        fall = np.abs(out) ** 2.4 * 0.9 + np.abs(back) ** 2.3 * (0.1 + 0.9 * crus * crus * (3 - 2 * crus))
        return top - a.sulcus * flat * 1.35 * np.tanh(fall / 1.35)

    def sulcus_z(self, right: bool) -> float:
        """Height of the lateral costophrenic angle."""
        x = self.side_scale(right) * self.anatomy.half_width * (-1 if right else 1)
        _, _, _, middle = self.profile(np.array([-20.0]))
        return float(self.diaphragm(np.array(x), middle)[0])

    def side_scale(self, right: bool) -> float:
        """Stretch of one half of the chest."""
        return 1 + self.anatomy.asymmetry * (0.5 if right else -0.5)

    def depth(self, points: NDArray[np.floating]) -> Floats:
        """Approximate depth in mm of points (N, 3), (z, y, x), below the border of the lungs; negative outside."""
        z, y, x = points.T
        c, w, b, m = self.profile(z)
        scaled = np.abs(x) / np.where(x < 0, self.side_scale(True), self.side_scale(False))
        r = (np.abs((scaled - c) / w) ** FLATNESS + np.abs((y - m) / b) ** FLATNESS) ** (1 / FLATNESS)
        wall = (1 - r) * np.minimum(w, b)
        return np.minimum(np.minimum(wall, 0.85 * (z - self.diaphragm(x, y))), 0.8 * (self.anatomy.height - z))

    def grid(self, step_mm: float = STEP_MM) -> Grid:
        """A grid that holds the chest from below the costophrenic angles to the neck."""
        a = self.anatomy
        bottom = -a.sulcus - 46.0
        top = a.height + 62.0
        half_x = min(a.half_width + a.muscle + a.fat + 22.0, 205.0)
        front = -self.half_depth - a.muscle - a.fat - 26.0
        rear = self.half_depth + a.muscle + a.fat + 50.0 + a.kyphosis
        counts = [int(np.ceil(length / step_mm / 2)) * 2 for length in (top - bottom, rear - front, 2 * half_x)]
        return Grid((bottom, front, -(counts[2] - 1) / 2 * step_mm), (counts[0], counts[1], counts[2]), step_mm)


def vertebra_mm(anatomy: Anatomy) -> float:
    """Height of a vertebra with its disc: ten of them span the lung in full inspiration."""
    return float(np.clip(anatomy.height / 9.6, 19.5, 26.0))
