"""Pictures of slices with the outlines of masks and boxes -> DICOM Secondary Capture (RGB), each marked as a draft.

The picture is the windowed slice, pixel for pixel; a strip below it, never over it, says that it is a draft for review.
A narrow slice gets a black margin on its right, so that the words fit.
The object refers to the image that it was derived from and carries the patient's name as that image does.
Source: PS3.3 A.8.1; General Image's Source Image and Derivation attributes (PS3.3 C.7.6.1, C.12.4).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from volumes.header import text
from volumes.instance import InstanceHeader, derived_uid
from volumes.masks import Mask
from volumes.segment_writer import frame_places, quiet, source_header, source_slices
from volumes.volume import Region, Volume, VolumeError

DRAFT = "DRAFT - FOR REVIEW"
# Okabe and Ito's colours, told apart with every kind of colour vision.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_STRIP, _WORDS = 14, 116  # rows of the strip below the picture, and the columns that its words take


def write_overlays(
    folder: Path | str,
    image: Volume,
    instances: Sequence[InstanceHeader],
    *,
    masks: Mapping[str, Mask | Tensor] | None = None,
    boxes: Sequence[Region] = (),
    slices: Sequence[int] | None = None,
    window: tuple[float, float] | None = None,
    maker: str = "medvlm",
) -> list[Path]:
    """One file per slice k in `folder`, named by number; by default every slice that a mask or box touches.

    `window` is (centre, width) in the unit of the volume; without it HU get 40/400 and other units their 1st to 99th
    percentile. `boxes` are regions of this volume (half-open k, j, i). Needs single-frame sources.
    """
    masks = masks or {}
    if len(instances) != image.shape[0]:
        raise VolumeError(
            f"the volume has {image.shape[0]} slices and {len(instances)} source files; an overlay refers to one file"
            " per slice",
            "other-grid",
        )
    sources = [source_header(header) for header in instances]
    by_slice = dict(zip(source_slices(sources, image), sources, strict=True))
    chosen = _touched(masks, boxes, image) if slices is None else list(slices)
    if not chosen or not all(0 <= k < image.shape[0] for k in chosen):
        raise VolumeError(
            f"slices {chosen[:8]} were asked for of {image.shape[0]}; expected one or more of 0 to {image.shape[0] - 1}"
            " (an empty mask and no box touch none)",
            "no-slices",
        )
    low, high = _limits(image, window)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {k: _picture(image, k, masks, boxes, (low, high)) for k in chosen}
    digest = hashlib.sha256(b"".join(p.tobytes() for p in pictures.values()))
    series_uid = derived_uid("overlay series", image.source.series_uid, digest.hexdigest())
    paths = []
    for number, (k, pixels) in enumerate(pictures.items(), 1):
        told = _told(masks, boxes, (low, high), image)
        paths.append(folder / f"overlay_{k:04d}.dcm")
        with quiet():
            captured = _capture(pixels, by_slice[k], series_uid, number, told, maker)
            captured.save_as(paths[-1], enforce_file_format=True)
    return paths


def _touched(masks: Mapping[str, Mask | Tensor], boxes: Sequence[Region], image: Volume) -> list[int]:
    found: set[int] = set()
    for mask in masks.values():
        found |= set(np.flatnonzero(_voxels(mask, image).any(axis=(1, 2))).tolist())
    for box in boxes:
        found |= set(range(max(0, math.ceil(box.start[0])), min(image.shape[0], math.ceil(box.stop[0]))))
    return sorted(found)


def _voxels(mask: Mask | Tensor, image: Volume) -> NDArray[np.bool_]:
    voxels = mask.voxels if isinstance(mask, Mask) else mask
    if tuple(voxels.shape) != image.shape:
        raise VolumeError(f"a mask has the shape {tuple(voxels.shape)}, its image {image.shape}", "other-grid")
    found: NDArray[np.bool_] = voxels.numpy().astype(np.bool_)
    return found


def _limits(image: Volume, window: tuple[float, float] | None) -> tuple[float, float]:
    if window is None and image.unit == "HU":
        window = (40.0, 400.0)
    if window is not None:
        if window[1] <= 0:
            raise VolumeError(f"the window has the width {window[1]:g}; expected a positive number", "bad-window")
        return window[0] - window[1] / 2, window[0] + window[1] / 2
    sample = image.voxels.numpy().ravel()
    sample = sample[:: max(1, sample.size // 2**18)]
    low, high = (float(v) for v in np.percentile(sample, (1, 99)))
    return low, high if high > low else low + 1.0


def _picture(
    image: Volume,
    k: int,
    masks: Mapping[str, Mask | Tensor],
    boxes: Sequence[Region],
    limits: tuple[float, float],
) -> NDArray[np.uint8]:
    """RGB (rows + strip, columns, 3): grey slice, one-pixel outlines, the strip; wider where the words need it."""
    low, high = limits
    grey = np.clip((image.voxels[k].numpy() - low) / (high - low), 0, 1) * 255
    picture = np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
    for number, mask in enumerate(masks.values()):
        picture[outline(_voxels(mask, image)[k])] = COLOURS[number % len(COLOURS)]
    height, width = picture.shape[:2]
    canvas = np.zeros((height + _STRIP, max(width, _WORDS), 3), dtype=np.uint8)
    canvas[:height, :width] = picture
    drawn = Image.fromarray(canvas)
    pen = ImageDraw.Draw(drawn)
    for number, box in enumerate(boxes, len(masks)):
        if box.start[0] <= k < box.stop[0]:
            corners = (box.start[2], box.start[1], box.stop[2] - 1, box.stop[1] - 1)
            pen.rectangle([round(c) for c in corners], outline=COLOURS[number % len(COLOURS)])
    pen.rectangle((0, height, canvas.shape[1], height + _STRIP), fill=(0, 0, 0))
    pen.text((2, height + 1), DRAFT, fill=(255, 255, 255), font=ImageFont.load_default(10))
    return np.asarray(drawn)


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels (H, W) of a mask that have a neighbour (of four) outside it; the image's edge counts as outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _told(
    masks: Mapping[str, Mask | Tensor], boxes: Sequence[Region], limits: tuple[float, float], image: Volume
) -> str:
    what = ", ".join([*masks, *([f"{len(boxes)} boxes"] if boxes else [])])
    return f"{DRAFT}. Window {limits[0]:g} to {limits[1]:g} {image.unit}; outlined: {what}"[:1024]


def _capture(pixels: NDArray[np.uint8], source: Any, series_uid: str, number: int, told: str, maker: str) -> Any:
    import highdicom as hd
    from pydicom.dataset import Dataset

    (_, down, right), *_ = frame_places(source)
    captured = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=source,
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=series_uid,
        series_number=1001,
        sop_instance_uid=derived_uid("overlay", series_uid, str(number)),
        instance_number=number,
        manufacturer=maker,
        pixel_spacing=(round(float(np.linalg.norm(down)), 6), round(float(np.linalg.norm(right)), 6)),
        patient_orientation=(_letters(right)[0], _letters(down)[0]),  # highdicom knows single letters only
        series_description="Overlay, draft for review",
    )
    captured.Laterality = text(source, "Laterality")  # type 2C: there, though it may be empty
    captured.PatientOrientation = [_letters(right), _letters(down)]
    captured.BurnedInAnnotation = "NO"  # the strip names no patient
    captured.ImageType = ["DERIVED", "SECONDARY", "OVERLAY"]
    captured.DerivationDescription = told
    captured.ImageComments = f"{DRAFT}: made by a program, not a diagnosis"
    reference = Dataset()
    reference.ReferencedSOPClassUID = text(source, "SOPClassUID")
    reference.ReferencedSOPInstanceUID = text(source, "SOPInstanceUID")
    captured.SourceImageSequence = [reference]
    return captured


def _letters(direction: NDArray[np.float64]) -> str:
    """PatientOrientation of a direction in LPS: letters of its components, the largest first (PS3.3 C.7.6.1.1.1)."""
    unit = direction / np.linalg.norm(direction)
    names = (("L", "R"), ("P", "A"), ("H", "F"))
    order = sorted(range(3), key=lambda a: -abs(float(unit[a])))
    return "".join(names[a][0 if unit[a] > 0 else 1] for a in order if abs(float(unit[a])) > 0.1)
