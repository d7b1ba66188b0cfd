"""What a drafted sentence rests on, and whether a reader can follow it there.

A region outside the image, a passage without an id or a measurement without a unit only looks like evidence, so it is
dropped with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from reports.passage import Passage
from volumes.volume import Region

EvidenceKind = Literal["region", "measurement", "passage", "image-support", "header"]

MAX_OVERHANG = 0.5
"""Pixels or voxels a box may reach over the border: centers at whole numbers put the outer face half a step out."""


@dataclass(frozen=True)
class Evidence:
    """One ground of a sentence.

    `value` carries its `unit` (mm, ml, HU, nat, or "1" for a ratio or a probability); `by` names the maker (the model,
    an expert, a knowledge source, the header).
    """

    kind: EvidenceKind
    text: str
    region: Region | None = None
    value: float | None = None
    unit: str | None = None
    passage: Passage | None = None
    by: str = ""


@dataclass(frozen=True)
class ImageExtent:
    """How large an image is, and where its middle lies, to check places against.

    `shape` is (rows, columns) or (k, j, i). `midline` splits the patient's sides: a column for a frontal film (half of
    the columns when None), LPS x in mm for a volume (sides unknown when None).
    """

    shape: tuple[int, ...]
    view: str = "unknown"
    midline: float | None = None


def unfollowable(evidence: Evidence, extents: Mapping[str, ImageExtent]) -> str | None:
    """Why a reader could not follow this evidence, or None. `extents` by SOP or series UID; empty means not checked."""
    if evidence.region is not None:
        problem = region_problem(evidence.region, extents)
        if problem is not None:
            return problem
    if evidence.kind == "region" and evidence.region is None:
        return "region evidence without a region"
    if evidence.kind == "measurement":
        if evidence.value is None or not math.isfinite(evidence.value):
            return f"measurement without a finite value ({evidence.value})"
        if not evidence.unit:
            return f"measurement of {evidence.value:g} without a unit"
    if evidence.kind == "passage":
        if evidence.passage is None:
            return "passage evidence without a passage"
        if not evidence.passage.passage_id:
            return "passage without an id"
        if not evidence.passage.text.strip():
            return f"passage {evidence.passage.passage_id} without text"
    return None


def region_problem(region: Region, extents: Mapping[str, ImageExtent]) -> str | None:
    """Why a region does not lie in an image of the study, or None."""
    if not all(math.isfinite(value) for value in (*region.start, *region.stop)):
        return "region with a corner that is not finite"
    if any(stop <= start for start, stop in zip(region.start, region.stop, strict=True)):
        return f"empty region from {_corner(region.start)} to {_corner(region.stop)}"
    if not extents:
        return None
    extent = extent_of(region, extents)
    if extent is None:
        return "region in an image that is not part of this study"
    if len(extent.shape) != len(region.start):
        return f"region with {len(region.start)} indices in an image with {len(extent.shape)}"
    inside = all(
        start >= -MAX_OVERHANG and stop <= size + MAX_OVERHANG
        for start, stop, size in zip(region.start, region.stop, extent.shape, strict=True)
    )
    if inside:
        return None
    shape = " x ".join(str(size) for size in extent.shape)
    return f"region from {_corner(region.start)} to {_corner(region.stop)} outside the image of {shape}"


def extent_of(region: Region, extents: Mapping[str, ImageExtent]) -> ImageExtent | None:
    """The image a region points into: by SOP instance first, then by series."""
    return extents.get(region.sop_uid) or extents.get(region.series_uid)


def side_of(region: Region, extents: Mapping[str, ImageExtent], majority: float = 0.8) -> str | None:
    """The patient's side on which at least `majority` of the box lies, or None when that cannot be said.

    Frontal films are shown with the patient's right at the left of the image; LPS x grows to the patient's left.
    """
    extent = extent_of(region, extents)
    if extent is None:
        return None
    if len(extent.shape) == 2:
        if extent.view.upper() not in {"PA", "AP"}:
            return None
        low, high = region.start[1], region.stop[1]
        midline = extent.shape[1] / 2 if extent.midline is None else extent.midline
    else:
        if extent.midline is None or region.start_mm is None or region.stop_mm is None:
            return None
        low, high, midline = region.start_mm[0], region.stop_mm[0], extent.midline
    if high <= low:
        return None
    left = min(max((high - midline) / (high - low), 0.0), 1.0)  # share of the box beyond the midline
    if left >= majority:
        return "left"
    return "right" if left <= 1 - majority else None


def _corner(corner: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in corner) + ")"
