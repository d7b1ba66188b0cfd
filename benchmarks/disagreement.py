"""Who is right where two readers differ, from evidence: the headers, the refusal, what the other reader said.

Every rule looks at numbers before it speaks; what no rule covers is UNEXPLAINED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from header_judge import HeaderPlane, Verdict, judge_slices
from numpy.typing import NDArray
from other_readers import Other

SAME, ROUNDING, WE, THEY, BOTH, OPEN = "same", "rounding", "we are right", "they are right", "scope", "UNEXPLAINED"
FILM = "film"  # stands where a volume has its notes: a film has no affine
SAME_MM = 1e-3
SLICE_MM = 0.5
JPEG_BASELINE = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")


@dataclass(frozen=True)
class Evidence:
    """What the files say by themselves."""

    planes: Sequence[HeaderPlane]
    centres: NDArray[np.float64]  # of the slices of a mosaic, from its protocol
    known: Mapping[str, str]  # of the first header; empty for a NIfTI or NRRD file
    parts: int  # images that we made of the series


@dataclass(frozen=True)
class Pair:
    """All that is known of one series and one other reader."""

    reader: str
    ours: Other | None
    refusal: str
    theirs: Other | None
    turned: Other | None
    said: str
    voxels: float | None  # largest difference
    affine: float | None  # largest distance of corners, mm
    mine: Verdict | None
    other: Verdict | None
    evidence: Evidence

    @property
    def known(self) -> Mapping[str, str]:
        """What the first header says."""
        return self.evidence.known


def explain(pair: Pair) -> tuple[str, str]:
    """(verdict, why)."""
    if pair.theirs is None:
        return _unread(pair)
    if pair.ours is None:
        return _refused(pair)
    if pair.ours.said == FILM:
        return _film(pair)
    same_place = pair.affine is not None and pair.affine <= SAME_MM
    if same_place and pair.voxels == 0:
        return SAME, ""
    if same_place and pair.voxels is not None and _is_rounding(pair):
        return ROUNDING, "equal but for the rounding of 32-bit floats"
    return _placed(pair)


def _is_rounding(pair: Pair) -> bool:
    assert pair.ours is not None
    assert pair.voxels is not None
    scale = float(np.abs(pair.ours.voxels).max())
    return pair.voxels <= 4 * 2.0**-24 * max(scale, 1e-30)


def _unread(pair: Pair) -> tuple[str, str]:
    told = pair.said or "it wrote nothing"
    if pair.ours is None:
        return BOTH, f"neither reads it: we refuse ({_reason(pair)}); {pair.reader}: {told[:120]}"
    if pair.mine is not None and pair.mine.right:
        return WE, f"{pair.reader} does not read it ({told[:120]}); ours equals the headers"
    if pair.mine is None:
        return BOTH, f"{pair.reader} does not read it ({told[:120]})"
    return OPEN, f"{pair.reader}: {told[:120]}; ours {_told(pair.mine)}"


def _reason(pair: Pair) -> str:
    return pair.refusal.partition(":")[0]


def _told(verdict: Verdict) -> str:
    if verdict.absent:
        return f"leaves out {verdict.absent} of {verdict.count} planes of the headers"
    values = "" if verdict.off_value < 1e-6 else f" and values {verdict.off_value:.1%} off"
    return f"places planes {verdict.off_mm:.2g} mm off the headers{values}"


_REFUSALS = {
    "transfer-syntax": "we name the codec that is missing here; the other reader brings its own",
    "unsupported-modality": "we read no images of this modality, and say so",
    "multi-frame": "a cine run: we ask which frame",
    "not-grey": "colour or complex voxels: we refuse, the other reader's first component was looked at",
}


def _refused(pair: Pair) -> tuple[str, str]:
    """We refused and they gave a volume: right where their volume does not follow the headers."""
    reason = _reason(pair)
    if reason in _REFUSALS:
        return BOTH, f"{reason}: {_REFUSALS[reason]}"
    if reason == "no-position" and not len(pair.evidence.planes):
        return WE, "no-position: the header has no position, orientation or spacing: every affine for it is made up"
    if reason == "capture" and int(pair.known["SamplesPerPixel"] or 1) > 1:
        return BOTH, "capture: a colour picture of a result, not measured voxels; theirs is its first channel"
    if pair.other is not None and not pair.other.right:
        return WE, f"{reason}: {pair.reader} {_told(pair.other)}"
    places = int(pair.known.get("places", "0"))
    if reason == "single-slice" and places == 1:
        return WE, f"single-slice: {pair.known['files']} images at one place without SliceThickness have no depth"
    return OPEN, pair.refusal[:200]


def _film(pair: Pair) -> tuple[str, str]:
    """Films have no place: pixels only."""
    assert pair.ours is not None
    assert pair.theirs is not None
    if int(pair.known["SamplesPerPixel"] or 1) > 1:
        return BOTH, "a colour image: ours is its luminance, theirs the channels"
    if pair.voxels == 0 or (pair.voxels is not None and _is_rounding(pair)):
        return (SAME if pair.voxels == 0 else ROUNDING), ""
    if pair.turned is not None and pair.turned.voxels.shape == pair.ours.voxels.shape and pair.voxels is not None:
        theirs, ours = pair.turned.voxels.astype(np.float64), pair.ours.voxels.astype(np.float64)
        total = ours + theirs
        if np.ptp(total) == 0 and pair.known["PhotometricInterpretation"] == "MONOCHROME1":
            return BOTH, "MONOCHROME1: ours is inverted once, so that bright is attenuation; theirs is as stored"
        offset = theirs - ours
        if np.ptp(offset) == 0:
            return BOTH, f"inverted about another end of the range: the constant {offset.flat[0]:g} lies between them"
    return OPEN, f"pixels differ by up to {pair.voxels}"


def _placed(pair: Pair) -> tuple[str, str]:
    """Both gave a volume and they differ: the headers decide."""
    if not pair.known:
        return _file(pair)
    if len(pair.evidence.centres):
        return _mosaic(pair)
    if pair.mine is None or pair.other is None:
        return OPEN, "the headers could not be read by pydicom alone"
    if pair.mine.right and not pair.other.right:
        return WE, f"{pair.reader} {_told(pair.other)}, ours {pair.mine.off_mm:.1g} mm{_cause(pair)}"
    if pair.other.right and not pair.mine.right:
        return THEY, f"ours {_told(pair.mine)}"
    if pair.mine.right and pair.other.right and pair.voxels is not None and (pair.voxels == 0 or _is_rounding(pair)):
        return _depth(pair)
    return OPEN, f"ours {_told(pair.mine)}; {pair.reader} {_told(pair.other)}"


def _cause(pair: Pair) -> str:
    assert pair.ours is not None
    assert pair.theirs is not None
    if "sheared" in pair.ours.said:
        return "; a tilted gantry: its volume has square corners, the scan has not"
    if pair.known["syntax"] in JPEG_BASELINE:
        return "; its own JPEG decoder is off: libjpeg and ffmpeg's decoder agree within one level"
    if pair.evidence.parts > 1 and pair.theirs.voxels.shape[0] > pair.ours.voxels.shape[0]:
        return f"; it stacks {pair.evidence.parts} time points or kinds of image on top of each other"
    return ""


def _depth(pair: Pair) -> tuple[str, str]:
    """Voxels and places agree, the affine does not: a single slice, or positions rounded to 32-bit floats."""
    assert pair.ours is not None
    assert pair.turned is not None
    assert pair.affine is not None
    assert pair.other is not None
    if pair.ours.voxels.shape[0] == 1:
        depths = [float(np.linalg.norm(one.affine[:3, 0])) for one in (pair.ours, pair.turned)]
        return (
            BOTH,
            f"one slice has no distance to a next one: ours is as deep as SliceThickness"
            f" ({pair.known['SliceThickness']} mm), theirs {depths[1]:g} mm (SpacingBetweenSlices"
            f" {pair.known['SpacingBetweenSlices'] or 'absent'})",
        )
    return ROUNDING, f"both follow the headers; {pair.reader} {pair.other.off_mm:.2g} mm off, ours {_off(pair.mine)}"


def _off(verdict: Verdict | None) -> str:
    return "unknown" if verdict is None else f"{verdict.off_mm:.2g} mm"


def _mosaic(pair: Pair) -> tuple[str, str]:
    """The protocol inside the file names the centre of every slice."""
    assert pair.ours is not None
    assert pair.theirs is not None
    if pair.theirs.voxels.shape[0] == 1:
        return WE, f"{pair.reader} reads the mosaic as one picture of {pair.theirs.voxels.shape[1]} rows"
    ours, theirs = (
        judge_slices(pair.evidence.centres, one.voxels.shape, one.affine) for one in (pair.ours, pair.theirs)
    )
    told = (
        f"the protocol has {len(pair.evidence.centres)} slices; {pair.reader} places {pair.theirs.voxels.shape[0]}, up"
        f" to {theirs:.0f} mm off along their normal, ours {pair.ours.voxels.shape[0]} and {ours:.2g} mm"
    )
    if ours < SLICE_MM <= theirs:
        return WE, told
    return (THEY if theirs < SLICE_MM <= ours else OPEN), told


def _file(pair: Pair) -> tuple[str, str]:
    return OPEN, f"voxels {pair.voxels}, corners {pair.affine}"
