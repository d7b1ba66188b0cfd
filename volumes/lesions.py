"""The twelve findings of the phantom: what each is, how large, and where in the lung it lies.

A place follows from the anatomy and the lesion's own seed: adding or removing one leaves the others where they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from volumes.anatomy import Cage
from volumes.streams import stream
from volumes.thorax import Changes

Side = Literal["left", "right", "bilateral"]
Severity = Literal["tiny", "mild", "moderate", "severe"]
Floats = NDArray[np.float64]

FINDINGS: tuple[str, ...] = (
    "cardiomegaly",
    "pleural effusion",
    "pneumothorax",
    "consolidation",
    "atelectasis",
    "lung nodule",
    "lung mass",
    "pulmonary edema",
    "rib fracture",
    "endotracheal tube",
    "central venous catheter",
    "emphysema",
)
FOCAL: tuple[str, ...] = (
    "pleural effusion",
    "pneumothorax",
    "consolidation",
    "atelectasis",
    "lung nodule",
    "lung mass",
    "rib fracture",
)
SEVERITIES: tuple[Severity, ...] = ("tiny", "mild", "moderate", "severe")
RIBS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

# Ranges of size_mm for tiny, mild, moderate and severe; what size_mm measures stands behind each line.
SIZES_MM: dict[str, tuple[tuple[float, float], ...]] = {
    "cardiomegaly": ((0, 0), (0, 0), (0, 0), (0, 0)),  # width of the heart, follows from the ratio
    "pleural effusion": ((10, 18), (24, 42), (44, 85), (90, 150)),  # fluid above the lateral costophrenic angle
    "pneumothorax": ((6, 10), (13, 20), (21, 36), (37, 58)),  # widest distance between chest wall and lung
    "consolidation": ((24, 32), (44, 60), (60, 85), (85, 118)),  # longest diameter
    "atelectasis": ((26, 36), (38, 58), (60, 85), (86, 110)),  # length of the band
    "lung nodule": ((6, 8), (11, 16), (16, 23), (23, 29.5)),  # diameter
    "lung mass": ((31, 34), (38, 50), (50, 66), (66, 84)),  # longest diameter
    "pulmonary edema": ((45, 60), (62, 80), (82, 105), (106, 130)),  # reach of the haze from each hilum
    "rib fracture": ((1.5, 2.5), (5.0, 8.0), (8.0, 12.0), (12.0, 16.0)),  # displacement of the fragments
    "endotracheal tube": ((20, 60), (20, 60), (20, 60), (20, 60)),  # height of the tip above the carina
    "central venous catheter": ((5, 55), (5, 55), (5, 55), (5, 55)),  # depth of the tip below the carina
    "emphysema": ((8, 14), (14, 24), (24, 36), (36, 50)),  # diameter of the largest bulla
}
RATIOS = ((0.51, 0.53), (0.54, 0.57), (0.575, 0.63), (0.635, 0.70))  # cardiothoracic ratio of an enlarged heart
STRENGTH: dict[str, float] = {"tiny": 0.5, "mild": 0.75, "moderate": 0.95, "severe": 1.0}


@dataclass(frozen=True)
class Lesion:
    """One finding of one visit. `side` is the patient's side. `size_mm` means what `SIZES_MM` says for its name.

    `ratio` is the cardiothoracic ratio of cardiomegaly, None for the rest. `seed` keys shape and exact place.
    """

    name: str
    side: Side | None
    location: str | None
    severity: Severity
    size_mm: float
    seed: int
    ratio: float | None = None

    def __post_init__(self) -> None:
        if self.name not in FINDINGS:
            raise ValueError(f"lesion {self.name!r} is not one of the phantom's findings: {', '.join(FINDINGS)}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity {self.severity!r} is not one of {', '.join(SEVERITIES)}")
        if not self.size_mm > 0:
            raise ValueError(f"{self.name} of {self.size_mm} mm: expected a size above 0 mm")


def changes_of(lesions: tuple[Lesion, ...]) -> Changes:
    """What these lesions change in the anatomy itself."""
    ratio, inflation, gain = None, 0.0, 1.0
    fractures = []
    for lesion in lesions:
        if lesion.name == "cardiomegaly":
            ratio = lesion.ratio
        elif lesion.name == "emphysema":
            inflation = (0.3, 0.55, 0.8, 1.05)[SEVERITIES.index(lesion.severity)]
        elif lesion.name == "pulmonary edema":
            gain = (1.25, 1.5, 1.8, 2.1)[SEVERITIES.index(lesion.severity)]
        elif lesion.name == "rib fracture":
            fractures.append(
                (lesion.side == "right", rib_number(lesion), rib_angle(lesion), lesion.size_mm, lesion.seed)
            )
    return Changes(ratio, inflation, gain, tuple(fractures))


def rib_number(lesion: Lesion) -> int:
    word = (lesion.location or "sixth rib").split()[0]
    if word not in RIBS:
        raise ValueError(f"rib fracture at {lesion.location!r}: expected one of first rib to tenth rib")
    return RIBS.index(word) + 1


def rib_angle(lesion: Lesion) -> float:
    return float(stream(lesion.seed, "rib angle").uniform(30, 80))


# Heights as fractions of the lung, front-to-back as fractions of its half depth, and the reach outwards.
_PLACES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "apex": ((0.80, 0.90), (-0.1, 0.3)),
    "upper lobe": ((0.55, 0.78), (-0.5, 0.45)),
    "middle lobe": ((0.18, 0.40), (-0.8, -0.25)),
    "lingula": ((0.18, 0.40), (-0.8, -0.25)),
    "lower lobe": ((0.15, 0.44), (0.05, 0.65)),
    "base": ((0.05, 0.18), (-0.2, 0.5)),
    "hilum": ((0.45, 0.6), (-0.2, 0.3)),
}


def place(cage: Cage, lesion: Lesion, side: Side, margin_mm: float) -> Floats:
    """Center (z, y, x) in mm of a lesion inside the lung, at least `margin_mm` from its border where there is room."""
    location = lesion.location or "lower lobe"
    if location not in _PLACES:
        raise ValueError(f"{lesion.name} at {location!r}: expected one of {', '.join(_PLACES)}")
    heights, backs = _PLACES[location]
    rng = stream(lesion.seed, "place", location, side)
    n = 96
    z = rng.uniform(*heights, n) * cage.anatomy.height
    c, w, b, middle = cage.profile(z)
    y = middle + rng.uniform(*backs, n) * b
    inner = 46.0 + 0.5 * margin_mm
    outer = np.maximum((c + w) * 0.93 - margin_mm * 0.6, inner + 4)
    share = rng.uniform(0, 1, n) * (0.25 if location == "hilum" else 1.0)
    x = inner + share * (outer - inner)
    if side == "left":  # keep out of even a large heart
        x = np.where(
            (z < 0.5 * cage.anatomy.height) & (y < middle + 22), np.maximum(x, 0.66 * cage.anatomy.half_width), x
        )
        x = np.where(z < 0.5 * cage.anatomy.height, np.maximum(x, 0.44 * cage.anatomy.half_width), x)
    points = np.stack([z, y, x * (-1 if side == "right" else 1)], axis=1)
    depth = cage.depth(points)
    good = np.flatnonzero(depth >= margin_mm)
    return points[good[0]] if len(good) else points[int(np.argmax(depth))]
