"""The phantom hospital's door: seeded patients with known findings, rendered as CT, volume and radiographs, and edited.

One latent state (anatomy, lesions, scanner) gives every image, so that the truth is exact. An edit changes one lesion;
pixels and voxels that the lesion does not reach keep their bits. Everything drawn here is simulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from volumes.anatomy import STEP_MM, Anatomy, Cage, sample_anatomy
from volumes.body import paint_thorax
from volumes.brushes import Patch, paint_lesions
from volumes.cases import draw_lesion, draw_lesions, earlier
from volumes.lesions import FINDINGS, FOCAL, SEVERITIES, Lesion, Side, changes_of
from volumes.painting import Array, Grid
from volumes.projection import WATER_PER_MM, View, integrate, integrate_box, upsample_matrix
from volumes.scanner import SCANNERS, Scanner, ct_kernel, expose
from volumes.streams import stream, subseed
from volumes.thorax import Thorax
from volumes.volume import Source, Volume

__all__ = [
    "FINDINGS",
    "FOCAL",
    "SCANNERS",
    "SEVERITIES",
    "Anatomy",
    "Lesion",
    "PatientState",
    "Rendered",
    "RenderedCT",
    "RenderedFilm",
    "Scanner",
    "draw_lesion",
    "insert",
    "move",
    "remove",
    "render_ct",
    "render_films",
    "render_volume",
    "sample_patient",
]

RAY_MM = 2.1  # distance of the rays at the detector; the scanner's matrix is interpolated from them
MERGE = 3  # neighboring planes that share one magnification: an error below 0.3 mm at the border of the film
MIN_BOX_MM = 25.0


@dataclass(frozen=True)
class PatientState:
    """Everything that determines the images of one visit. `days` counts from the first visit."""

    patient_index: int
    visit: int
    sex: Literal["F", "M"]
    age: int
    anatomy: Anatomy
    lesions: tuple[Lesion, ...]
    scanner: Scanner
    days: int
    seed: int


@dataclass(frozen=True, eq=False)
class Rendered:
    """The latent chest in HU and, by index of the lesion, its mask (D, H, W) on the same grid."""

    volume: Volume
    masks: dict[int, Tensor]


@dataclass(frozen=True, eq=False)
class RenderedFilm:
    """A radiograph as a machine stores it: `pixels` (H, W), spacing in mm (row, column) at the detector.

    `masks` (H, W) and `boxes` (row0, col0, row1, col1; half-open) by index of the lesion; a lesion outside the film has
    a mask without a pixel and no box.
    """

    pixels: NDArray[np.uint16]
    spacing_mm: tuple[float, float]
    view: Literal["PA", "LATERAL"]
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    window: tuple[float, float]
    bits: int
    masks: dict[int, NDArray[np.bool_]]
    boxes: dict[int, tuple[int, int, int, int]]


@dataclass(frozen=True, eq=False)
class RenderedCT:
    """A CT series on the scanner's grid in HU, with kernel and noise, and the masks on the same grid."""

    volume: Volume
    masks: dict[int, Tensor]
    kernel: str


def sample_patient(seed: int, index: int, visits: int = 1) -> tuple[PatientState, ...]:
    """The visits of patient `index`, oldest first; the same for the same arguments in any order of calls.

    The last visit has the same lesions whether or not an earlier one is asked for.
    """
    if visits not in (1, 2):
        raise ValueError(f"sample_patient: visits is {visits}; expected 1 or 2")
    anatomy = sample_anatomy(seed, index)
    now = _measured(anatomy, draw_lesions(stream(seed, index, "lesions")))
    gap = int(stream(seed, index, "days").choice([1, 2, 3, 7, 14, 30, 60, 90, 180, 365]))
    rng = stream(seed, index, "scanner")
    usual, other = (SCANNERS[int(rng.integers(len(SCANNERS)))] for _ in range(2))
    states = []
    for visit in range(visits):
        last = visit == visits - 1
        lesions = now if last else _measured(anatomy, earlier(now, seed, index))
        scanner = other if not last and rng.random() < 0.35 else usual
        days = gap * visit
        states.append(PatientState(index, visit, anatomy.sex, anatomy.age, anatomy, lesions, scanner, days, seed))
    return tuple(states)


def _measured(anatomy: Anatomy, lesions: tuple[Lesion, ...]) -> tuple[Lesion, ...]:
    """Fills in the sizes that follow from the anatomy: the width of an enlarged heart."""
    cage = Cage(anatomy)
    inner = anatomy.half_width * (cage.side_scale(True) + cage.side_scale(False))
    return tuple(replace(n, size_mm=round(n.ratio * inner, 1)) if n.ratio is not None else n for n in lesions)


def remove(state: PatientState, name: str) -> PatientState:
    """The same visit without any lesion called `name`."""
    if all(lesion.name != name for lesion in state.lesions):
        have = ", ".join(sorted({lesion.name for lesion in state.lesions})) or "none"
        raise ValueError(f"remove: this patient has no {name!r}; the findings are: {have}")
    return replace(state, lesions=tuple(lesion for lesion in state.lesions if lesion.name != name))


def insert(state: PatientState, lesion: Lesion) -> PatientState:
    """The same visit with one more lesion, at the end of the list."""
    return replace(state, lesions=state.lesions + _measured(state.anatomy, (lesion,)))


def move(state: PatientState, name: str, side: Side | None = None, location: str | None = None) -> PatientState:
    """The same visit with the first lesion called `name` on another side or at another location."""
    for k, lesion in enumerate(state.lesions):
        if lesion.name == name:
            moved = replace(lesion, side=side or lesion.side, location=location or lesion.location)
            return replace(state, lesions=(*state.lesions[:k], moved, *state.lesions[k + 1 :]))
    raise ValueError(f"move: this patient has no {name!r}")


def _paint(state: PatientState, step_mm: float = STEP_MM) -> tuple[Thorax, dict[int, list[Patch]]]:
    thorax = paint_thorax(state.anatomy, changes_of(state.lesions), step_mm)
    patches = paint_lesions(thorax, state.lesions)
    np.maximum(thorax.density, 0, out=thorax.density)
    return thorax, patches


def _mask(patches: list[Patch], grid: Grid) -> NDArray[np.bool_]:
    mask = np.zeros(grid.shape, bool)
    for patch in patches:
        if patch.cover.size:
            mask[patch.box] |= patch.cover > 0.45 * float(patch.cover.max())
    return mask


def _affine(grid: Grid, anatomy: Anatomy) -> Tensor:
    """From (k, j, i) to LPS mm; the scanner's origin is not the patient's."""
    affine = torch.zeros((4, 4), dtype=torch.float64)
    affine[2, 0] = affine[1, 1] = affine[0, 2] = grid.step_mm
    z, y, x = grid.start_mm
    offset = anatomy.offset
    affine[:, 3] = torch.tensor([x + offset[0], y + offset[1], z + offset[2], 1.0], dtype=torch.float64)
    return affine


def _source(state: PatientState, modality: str) -> Source:
    study = f"2.25.{subseed(state.seed, state.patient_index, state.visit, 'study')}"
    series = f"2.25.{subseed(state.seed, state.patient_index, state.visit, modality)}"
    return Source(study, series, (), modality, "CHEST")


def render_volume(state: PatientState, step_mm: float = STEP_MM) -> Rendered:
    """The latent chest in HU on its own cubic grid (about 2.5 mm), axes (S, P, L), without noise."""
    thorax, patches = _paint(state, step_mm)
    hu = (thorax.density - np.float32(1.0)) * np.float32(1000.0)
    volume = Volume(torch.from_numpy(hu), _affine(thorax.grid, state.anatomy), "HU", _source(state, "CT"))
    return Rendered(volume, {k: torch.from_numpy(_mask(p, thorax.grid)) for k, p in patches.items()})


def render_films(state: PatientState) -> tuple[RenderedFilm, RenderedFilm]:
    """PA and lateral radiographs of a visit, by rays through the same chest."""
    thorax, patches = _paint(state)
    return _film(state, thorax, patches, "PA"), _film(state, thorax, patches, "LATERAL")


def film_view(state: PatientState, grid: Grid, name: Literal["PA", "LATERAL"]) -> View:
    """Beam and detector of one film, with the small errors of positioning of a real one.

    For PA the source is behind the patient and columns run from the patient's right to the left; for the lateral the
    left side is at the detector and columns run from front to back.
    """
    rng = stream(state.seed, state.patient_index, state.visit, "position", name)
    a, spacing = state.anatomy, state.scanner.spacing_mm
    turn, tilt = np.deg2rad(rng.normal(0, 2.2, 2).clip(-6, 6))
    top, bottom = a.height + 38 + rng.uniform(-6, 16), -a.sulcus - 38 - rng.uniform(0, 24)
    wide = 2 * a.half_width + 50 if name == "PA" else 2 * (a.half_depth + a.fat + a.muscle) + 52
    matrix = _collimated(state.scanner, (1.08 * (top - bottom), 1.08 * (wide + rng.uniform(0, 30))))
    center_z = (top + bottom) / 2 + rng.normal(0, 4)
    source_z = center_z + 1800.0 * np.tan(tilt) + rng.normal(0, 10)
    center = rng.normal(0, 6.0) + (0 if name == "PA" else 8)
    focus = (source_z, center + 1800.0 * np.tan(turn))
    if name == "PA":
        return View("PA", 1, grid.start_mm[1] - 20.0, 1.0, focus, (center_z, center), matrix, spacing)
    last = grid.start_mm[2] + grid.step_mm * (grid.shape[2] - 1)
    return View("LATERAL", 2, last + 20.0, -1.0, focus, (center_z, center), matrix, spacing)


def _collimated(scanner: Scanner, field_mm: tuple[float, float]) -> tuple[int, int]:
    """The part of the scanner's matrix (rows, columns) that the radiographer opens for this patient."""
    rows, columns = (
        min(full, max(int(np.ceil(mm / step)), 160))
        for full, mm, step in zip(scanner.matrix, field_mm, scanner.spacing_mm, strict=True)
    )
    return rows, columns


def _film(
    state: PatientState, thorax: Thorax, patches: Mapping[int, list[Patch]], name: Literal["PA", "LATERAL"]
) -> RenderedFilm:
    scanner, grid = state.scanner, thorax.grid
    view = film_view(state, grid, name)
    native = _native(view)
    rays = integrate(thorax.density, grid, view, MERGE, native)
    attenuation = np.maximum(_to_matrix(rays, view), 0) * np.float32(WATER_PER_MM)
    key = (state.seed, state.patient_index, state.visit, name)
    pixels = expose(attenuation, scanner, _exposure_center(state.anatomy, name), key)
    masks = {k: _film_mask(p, grid, view) for k, p in patches.items()}
    boxes = {k: _film_box(m, view, state.lesions[k]) for k, m in masks.items() if m.any()}
    return RenderedFilm(
        pixels, scanner.spacing_mm, name, scanner.photometric, scanner.window, scanner.bits, masks, boxes
    )


def _exposure_center(anatomy: Anatomy, name: str) -> float:
    """Attenuation shown as middle gray: follows the build of the patient, never the findings."""
    wall = 2 * (anatomy.muscle + 0.9 * anatomy.fat) + 22
    if name == "PA":
        return WATER_PER_MM * (wall + 2 * anatomy.half_depth * 0.2) + 0.98
    return WATER_PER_MM * (wall + 2 * anatomy.half_width * 0.2) + 1.6


def _native(view: View) -> tuple[int, int]:
    """Number of rays (rows, columns) that are followed through the chest."""
    rows, columns = (int(np.ceil(n * step / RAY_MM)) for n, step in zip(view.matrix, view.spacing_mm, strict=True))
    return rows, columns


def _to_matrix(rays: Array, view: View) -> Array:
    rows, columns = (upsample_matrix(size, native) for size, native in zip(view.matrix, rays.shape, strict=True))
    return np.asarray(rows @ rays @ columns.T, np.float32)


def _film_mask(patches: list[Patch], grid: Grid, view: View) -> NDArray[np.bool_]:
    """Pixels whose rays run through enough of the lesion: a third of its thickest, at most 3 mm."""
    native = _native(view)
    thick = np.zeros(native, np.float32)
    for patch in patches:
        if patch.cover.size:
            solid = (patch.cover > 0.35 * float(patch.cover.max())).astype(np.float32)
            thick += integrate_box(solid, patch.box, grid, view, 3 if solid.size < 60_000 else 6, native)
    wide = _to_matrix(thick, view)
    return np.asarray(wide > min(3.0, 0.34 * float(wide.max()) + 1e-3), bool)


def _film_box(mask: NDArray[np.bool_], view: View, lesion: Lesion) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1]
    if lesion.name == "rib fracture":
        for a in (0, 1):
            short = MIN_BOX_MM / view.spacing_mm[a] - (box[a + 2] - box[a])
            if short > 0:
                grow = int(np.ceil(short / 2))
                box[a], box[a + 2] = max(box[a] - grow, 0), min(box[a + 2] + grow, view.matrix[a])
    return box[0], box[1], box[2], box[3]


def render_ct(state: PatientState) -> RenderedCT:
    """The CT of a visit on the scanner's grid: resampled, filtered by the kernel, with keyed noise, in whole HU."""
    thorax, patches = _paint(state)
    scanner, grid = state.scanner, thorax.grid
    rng = stream(state.seed, state.patient_index, state.visit, "ct position")
    shape, affine, to_grid = _ct_grid(state, grid, rng)
    hu = torch.from_numpy((thorax.density - np.float32(1.0)) * np.float32(1000.0))
    values = _resample(hu, to_grid, shape, -1000.0)
    noise = stream(state.seed, state.patient_index, state.visit, "ct noise").standard_normal(shape, dtype=np.float32)
    finished = ct_kernel(values, noise, scanner)
    volume = Volume(torch.from_numpy(finished), affine, "HU", _source(state, "CT"))
    masks = {}
    for k, patch in patches.items():
        solid = torch.from_numpy(_mask(patch, grid).astype(np.float32))
        masks[k] = torch.from_numpy(_resample(solid, to_grid, shape, 0.0) >= 0.5)
    return RenderedCT(volume, masks, scanner.ct_kernel)


def _ct_grid(
    state: PatientState, grid: Grid, rng: np.random.Generator
) -> tuple[tuple[int, int, int], Tensor, NDArray[np.float64]]:
    """Shape (slices, rows, columns), affine to LPS mm, and the matrix (3, 4) from CT index to index of the grid."""
    scanner = state.scanner
    length = grid.step_mm * (grid.shape[0] - 1) - 30
    slices = int(length / scanner.ct_slice_mm)
    shape = (slices, scanner.ct_matrix, scanner.ct_matrix)
    pixel = max(scanner.ct_pixel_mm, (grid.shape[2] * grid.step_mm + 16) / scanner.ct_matrix)
    turn, roll = np.deg2rad(rng.normal(0, 2.0, 2).clip(-5, 5))
    step = np.array([scanner.ct_slice_mm, pixel, pixel])
    middle = np.array([grid.start_mm[a] + grid.step_mm * (grid.shape[a] - 1) / 2 for a in range(3)])
    middle += np.array([4.0, rng.uniform(-6, 6), rng.uniform(-6, 6)])
    # the patient lies a little turned about the long axis (y, x) and about the front-to-back axis (z, x)
    c, s, cr, sr = np.cos(turn), np.sin(turn), np.cos(roll), np.sin(roll)
    turned = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[cr, 0, -sr], [0, 1, 0], [sr, 0, cr]])
    half = (np.array(shape) - 1) / 2
    to_mm = np.concatenate([turned * step, (middle - turned @ (step * half))[:, None]], axis=1)
    to_grid = to_mm / grid.step_mm
    to_grid[:, 3] -= np.array(grid.start_mm) / grid.step_mm
    affine = torch.zeros((4, 4), dtype=torch.float64)
    affine[2, 0], affine[1, 1], affine[0, 2] = step[0], step[1], step[2]
    origin = (middle - step * half)[::-1] + np.array(state.anatomy.offset)
    affine[:3, 3] = torch.from_numpy(origin.copy())
    affine[3, 3] = 1.0
    return shape, affine, to_grid


def _resample(field: Tensor, to_grid: NDArray[np.float64], shape: tuple[int, int, int], outside: float) -> Array:
    """Linear interpolation of `field` (nz, ny, nx) at the CT voxels; `outside` beyond its border."""
    size = np.array(field.shape, float)
    # grid_sample wants (x, y, z) scaled to [-1, 1] over the centers, from indices in the same reversed order
    scale = 2.0 / (size - 1)
    half = (np.array(shape) - 1) / 2
    theta = np.zeros((3, 4))
    theta[:, :3] = (to_grid[:, :3] * scale[:, None] * half[None, :])[::-1, ::-1]
    theta[:, 3] = ((to_grid[:, 3] + to_grid[:, :3] @ half) * scale - 1)[::-1]
    points = torch.nn.functional.affine_grid(
        torch.from_numpy(theta.copy())[None].float(), [1, 1, *shape], align_corners=True
    )
    shifted = (field - outside)[None, None]
    values = torch.nn.functional.grid_sample(shifted, points, mode="bilinear", padding_mode="zeros", align_corners=True)
    return np.asarray(values[0, 0].numpy() + np.float32(outside), np.float32)
