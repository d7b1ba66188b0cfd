"""What a chest CT says without any training: body, lungs, heart width and fluid behind the lungs, in HU and mm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from scipy import ndimage

from experts.card import ExpertError, Opinion
from experts.ct_effusion import FLUID_HU, Rim, rims
from experts.ct_grid import Grid, working_grid
from experts.ct_heart import HeartLevel, widths
from experts.ct_lungs import AIR_HU, Chest, find_chest
from experts.measure import Mask, Measurement, hu_stats, ratio, volume_ml
from reports.findings import Finding, Status
from volumes.volume import Film, Volume

NAME = "ct-body"
_LIMIT = 0.5
"""Cardiothoracic ratio above which a heart is called large; on CT this is a convention, not a law of nature."""


_LARGEST_ERROR = 0.08


class CtBody:
    """Lung volumes, cardiothoracic ratio and effusion-like fluid of one chest CT in HU."""

    def look(self, image: Volume | Film) -> Opinion:
        """Measure a chest CT. Raises: ExpertError for another modality or unit, or if no lungs are covered."""
        if not isinstance(image, Volume):
            raise ExpertError("this is a film; expected a chest CT volume", "wrong-kind")
        if image.unit != "HU" or image.source.modality != "CT":
            raise ExpertError(
                f"this is {image.source.modality or 'an unknown modality'} in unit {image.unit!r}; expected CT in HU:"
                " thresholds mean nothing on other numbers",
                "wrong-unit" if image.source.modality == "CT" else "wrong-modality",
            )
        grid = working_grid(image)
        chest = find_chest(grid)
        fluid = rims(grid, chest)
        findings = [found for side, rim in fluid.items() if (found := _effusion(grid, side, rim)) is not None]
        measured = [*_extent(grid, chest), *_fluid(grid, fluid)]
        notes = list(chest.notes)
        notes += [
            f"whether there is fluid around the {side} lung was not decided: {rim.ml:.0f} ml may be fluid, and the lung"
            f" {'fills' if rim.lung_fills_chest else 'does not fill'} its side of the chest"
            for side, rim in fluid.items()
            if rim.status is None
        ]
        if chest.cut:
            notes.append(
                f"the scan ends inside the lungs at the {' and the '.join(chest.cut)}: lung volumes and the"
                " cardiothoracic ratio were not measured, and fluid may lie outside the scan"
            )
            # What was not scanned cannot be called absent.
            findings = [finding for finding in findings if finding.status != "absent"]
        else:
            measured += _lungs(grid, chest)
            heart, reason = _heart_level(grid, chest, fluid.values())
            if heart is None:
                notes.append(f"the cardiothoracic ratio was not measured: {reason}")
            else:
                findings.append(_heart_finding(grid, heart))
                measured += _heart(grid, heart)
        return Opinion(tuple(findings), tuple(measured), tuple(notes))


def _extent(grid: Grid, chest: Chest) -> list[Measurement]:
    columns = np.flatnonzero(chest.body[chest.lungs.any(axis=(1, 2))].any(axis=(0, 1)))
    step = grid.spacing_mm[2]
    how = "widest left-right extent of the body in the slices that show lung; arms beside the body count"
    region = grid.region(chest.body)
    return [Measurement("body width", len(columns) * step, "mm", step * math.sqrt(2 / 12), region, NAME, how)]


def _lungs(grid: Grid, chest: Chest) -> list[Measurement]:
    found = []
    sides: tuple[tuple[str, Mask], ...] = (("right", chest.right), ("left", chest.left))
    for side, lung in sides:
        if lung.any():
            ml, spread = volume_ml(lung, grid.affine)
            # Moving the outline by a quarter voxel everywhere is what the choice of threshold may do.
            surface = float((lung.sum() - ndimage.binary_erosion(lung).sum()) * grid.voxel_ml)
            how = f"voxels below {AIR_HU:.0f} HU inside the body without windpipe; aerated lung only"
            error = math.hypot(spread, surface / 4)
            found.append(Measurement(f"{side} lung volume", ml, "ml", error, grid.region(lung), NAME, how))
    stats = hu_stats(grid.hu, chest.lungs)
    how = f"mean over {stats.n} voxels; 5% to 95%: {stats.low:.0f} to {stats.high:.0f} HU; depends on inspiration"
    error = stats.sd / math.sqrt(max(stats.n / 27, 1))
    found.append(Measurement("lung attenuation", stats.mean, "HU", error, grid.region(chest.lungs), NAME, how))
    return found


def _heart_level(grid: Grid, chest: Chest, fluid: Iterable[Rim]) -> tuple[HeartLevel | None, str]:
    if any(rim.status == "present" or not rim.lung_fills_chest for rim in fluid):
        return None, "fluid or solid lung may touch the heart"
    found = widths(grid, chest) if chest.left.any() and chest.right.any() else None
    if found is None:
        return None, "no slice shows the heart between two lungs, above the diaphragm"
    error = _ratio(grid, found)[1]
    if error > _LARGEST_ERROR:
        return None, f"its uncertainty is {error:.2f}, expected at most {_LARGEST_ERROR}: slices differ too much"
    return found, ""


def _heart(grid: Grid, found: HeartLevel) -> list[Measurement]:
    value, error = _ratio(grid, found)
    step = grid.spacing_mm[2]
    heart_error = math.hypot(step * math.sqrt(2), found.spread_mm)
    heart, thorax = grid.region(found.heart), grid.region(found.thorax)
    how = "greatest width of soft tissue between the lungs, vessels removed, above the right diaphragm"
    return [
        Measurement("cardiothoracic ratio", value, "1", error, heart, NAME, f"{how}; over the widest inner thorax"),
        Measurement("heart width", found.heart_mm, "mm", heart_error, heart, NAME, how),
        Measurement(
            "thorax width", found.thorax_mm, "mm", step * math.sqrt(2), thorax, NAME, "outer lung to outer lung"
        ),
    ]


def _ratio(grid: Grid, found: HeartLevel) -> tuple[float, float]:
    """A border lies within one step of the working grid on either side; neighbouring slices show the rest."""
    step = grid.spacing_mm[2] * math.sqrt(2)
    return ratio(found.heart_mm, math.hypot(step, found.spread_mm), found.thorax_mm, step)


def _heart_finding(grid: Grid, found: HeartLevel) -> Finding:
    value, error = _ratio(grid, found)
    status: Status = "uncertain"
    if abs(value - _LIMIT) > error:
        status = "present" if value > _LIMIT else "absent"
    return Finding("cardiomegaly", status, region=grid.region(found.heart), by=NAME)


def _fluid(grid: Grid, fluid: Mapping[Literal["left", "right"], Rim]) -> list[Measurement]:
    span = f"{FLUID_HU[0]:.0f} to {FLUID_HU[1]:.0f} HU"
    how = f"voxels of {span} behind or beside the lung, inside the ribs; assumes a patient on the back"
    found = []
    for side, rim in fluid.items():
        if rim.status in ("present", "uncertain"):
            region = grid.region(rim.mask)
            at = f"{how}; mean {rim.mean_hu:.0f} HU"
            found.append(
                Measurement(f"{side} pleural fluid depth", rim.depth_mm, "mm", grid.spacing_mm[1], region, NAME, at)
            )
            error = volume_ml(rim.mask, grid.affine)[1]
            found.append(Measurement(f"{side} pleural fluid volume", rim.ml, "ml", error, region, NAME, at))
    return found


def _effusion(grid: Grid, side: str, rim: Rim) -> Finding | None:
    if rim.status is None:
        return None
    if rim.status == "absent":
        return Finding("pleural effusion", "absent", side=side, by=NAME)
    return Finding(
        "pleural effusion", rim.status, side=side, size_mm=round(rim.depth_mm, 1), region=grid.region(rim.mask), by=NAME
    )
