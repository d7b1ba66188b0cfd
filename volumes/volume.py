"""What an image is here: voxels or pixels, where they lie in the patient, and which unit they carry.

Positions are patient LPS millimetres as in DICOM (PS3.3 C.7.6.2.1.1): x grows to the patient's left, y to the back,
z to the head. Volume indices are always in the order (k, j, i) of the tensor (D, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from volumes.errors import SeriesError as SeriesError
from volumes.errors import StudyError as StudyError
from volumes.errors import VolumeError as VolumeError

Unit = Literal["HU", "SUV", "1", "raw"]
View = Literal["PA", "AP", "LATERAL", "unknown"]

_TOWARDS = (("L", "R"), ("P", "A"), ("S", "I"))  # the letter when x, y, z grows, and when it falls


@dataclass(frozen=True)
class Source:
    """Where an image came from. `path` may hold a patient's name (folders do), so it is never logged or printed."""

    study_uid: str
    series_uid: str
    sop_uids: tuple[str, ...]
    modality: str
    body_part: str = ""
    accession: str = ""
    path: str = field(default="", repr=False)


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels (D, H, W) float32 with an affine (4, 4) float64 from the index (k, j, i, 1) to LPS millimetres.

    The affine may be sheared (gantry tilt). `notes` are the repairs made while reading, in words.
    """

    voxels: Tensor
    affine: Tensor
    unit: Unit
    source: Source
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or self.voxels.dtype != torch.float32:
            raise VolumeError(
                f"voxels are {self.voxels.dtype} of shape {tuple(self.voxels.shape)}; expected float32 (D, H, W)",
                "bad-voxels",
            )
        if tuple(self.affine.shape) != (4, 4) or self.affine.dtype != torch.float64:
            raise VolumeError(
                f"affine is {self.affine.dtype} of shape {tuple(self.affine.shape)}; expected float64 (4, 4)",
                "bad-affine",
            )
        if not bool(torch.isfinite(self.affine).all()) or abs(float(torch.linalg.det(self.affine[:3, :3]))) < 1e-9:
            raise VolumeError("affine is singular or not finite: the voxels have no place in the patient", "bad-affine")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W) in voxels."""
        d, h, w = self.voxels.shape
        return int(d), int(h), int(w)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Length in mm of one index step along k, j, i (along the slanted axis when the affine is sheared)."""
        dk, dj, di = torch.linalg.vector_norm(self.affine[:3, :3], dim=0).tolist()
        return dk, dj, di

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml, exact also for a sheared affine."""
        return abs(float(torch.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def orientation(self) -> str:
        """Three letters: where k, j and i grow to (R/L, A/P, I/S), nearest axis; axial head-up reading is "SPL"."""
        letters = []
        free = [0, 1, 2]
        directions = self.affine[:3, :3] / torch.linalg.vector_norm(self.affine[:3, :3], dim=0)
        for column in range(3):
            axis = max(free, key=lambda a: abs(float(directions[a, column])))
            free.remove(axis)
            letters.append(_TOWARDS[axis][0 if float(directions[axis, column]) >= 0 else 1])
        return "".join(letters)

    def index_to_mm(self, kji: Sequence[float] | Tensor) -> Tensor:
        """Index (..., 3) in the order k, j, i -> (..., 3) LPS mm, float64. Whole numbers are voxel centers."""
        index = torch.as_tensor(kji, dtype=torch.float64)
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def mm_to_index(self, xyz: Sequence[float] | Tensor) -> Tensor:
        """LPS mm (..., 3) -> index (..., 3) in the order k, j, i, float64 (not rounded)."""
        point = torch.as_tensor(xyz, dtype=torch.float64)
        inverse = torch.linalg.inv(self.affine[:3, :3])
        return (point - self.affine[:3, 3]) @ inverse.T


@dataclass(frozen=True, eq=False)
class Film:
    """A projection (H, W) float32 where bright means more attenuation (the sense of MONOCHROME2).

    `spacing_mm` is (row, column) at the detector, or None when the file does not say: then nothing may be measured.
    """

    pixels: Tensor
    spacing_mm: tuple[float, float] | None
    view: View
    unit: Unit
    source: Source
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != torch.float32:
            raise VolumeError(
                f"pixels are {self.pixels.dtype} of shape {tuple(self.pixels.shape)}; expected float32 (H, W)",
                "bad-pixels",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self.pixels.shape
        return int(height), int(width)


@dataclass(frozen=True)
class Region:
    """A box in one image: index box, half-open; film (row, col), volume (k, j, i).

    `start_mm`/`stop_mm`: film (row, col) mm from the image corner at the detector; volume LPS corners (min, max).
    """

    series_uid: str
    sop_uid: str
    start: tuple[float, ...]
    stop: tuple[float, ...]
    start_mm: tuple[float, ...] | None = None
    stop_mm: tuple[float, ...] | None = None
    score: float = 1.0

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop) or len(self.start) not in (2, 3):
            raise VolumeError(f"region from {self.start} to {self.stop}: expected two or three indices", "bad-region")
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise VolumeError(f"region stops at {self.stop} before it starts at {self.start}", "bad-region")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `Region.from_dict` is the exact inverse."""
        return {
            "series_uid": self.series_uid,
            "sop_uid": self.sop_uid,
            "start": list(self.start),
            "stop": list(self.stop),
            "start_mm": None if self.start_mm is None else list(self.start_mm),
            "stop_mm": None if self.stop_mm is None else list(self.stop_mm),
            "score": self.score,
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Region:
        """The inverse of `to_dict`; missing mm and score take their defaults."""

        def numbers(value: Any) -> tuple[float, ...] | None:
            return None if value is None else tuple(float(v) for v in value)

        start, stop = numbers(d["start"]), numbers(d["stop"])
        if start is None or stop is None:
            raise VolumeError("region without start or stop: expected two index corners", "bad-region")
        return cls(
            str(d["series_uid"]),
            str(d["sop_uid"]),
            start,
            stop,
            numbers(d.get("start_mm")),
            numbers(d.get("stop_mm")),
            float(d.get("score", 1.0)),
        )


def film_region(film: Film, box: Sequence[float], score: float = 1.0) -> Region:
    """Region of a film from (row0, col0, row1, col1) in pixels, half-open; mm only when the film has a spacing."""
    row0, col0, row1, col1 = (float(v) for v in box)
    start_mm = stop_mm = None
    if film.spacing_mm is not None:
        dr, dc = film.spacing_mm
        start_mm, stop_mm = (row0 * dr, col0 * dc), (row1 * dr, col1 * dc)
    sop = film.source.sop_uids[0] if film.source.sop_uids else ""
    return Region(film.source.series_uid, sop, (row0, col0), (row1, col1), start_mm, stop_mm, score)


def volume_region(volume: Volume, start: Sequence[float], stop: Sequence[float], score: float = 1.0) -> Region:
    """Region of a volume from half-open (k, j, i) corners; mm corners enclose the outer faces of all its voxels."""
    low = [float(v) for v in start]
    high = [float(v) for v in stop]
    faces = [torch.tensor([a, b], dtype=torch.float64) - 0.5 for a, b in zip(low, high, strict=True)]
    mm = volume.index_to_mm(torch.cartesian_prod(*faces))
    start_mm = tuple(float(v) for v in mm.amin(0))
    stop_mm = tuple(float(v) for v in mm.amax(0))
    return Region(volume.source.series_uid, "", tuple(low), tuple(high), start_mm, stop_mm, score)
