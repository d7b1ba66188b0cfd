"""Pixels of one DICOM object without burned-in text (PS3.15 E.3.1), or a reason why it must not leave the house.

Objects that are known to carry text, screen captures and ultrasound without regions, leave only when OCR has read
them. Pixels that need no change keep their very bytes, compressed or not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from volumes.deidentify_codestream import strip_comments
from volumes.deidentify_ocr import find_words
from volumes.deidentify_pixels import Box, Lettering, find_lettering
from volumes.header import get, integer, text
from volumes.pixels import decode
from volumes.volume import VolumeError

_NO_PICTURE = frozenset(["SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "REG", "M3D"])
_MANY_FRAMES = 64
_SECONDARY = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.7(\.\d)?")
_VIDEO = ("1.2.840.10008.1.2.4.10",)  # MPEG-2, H.264 and H.265 lie at .100 to .108


@dataclass(frozen=True)
class PixelCleaning:
    """What happened to the pixels: whether they were looked at, and the areas that were blanked in every frame."""

    checked: bool
    boxes: tuple[Box, ...] = ()
    outside_regions: bool = False
    comments: int = 0
    hidden_bits: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.boxes) or self.outside_regions


def clean_pixels(source: FileDataset, cleaned: FileDataset, *, look: bool = True, ocr: bool = False) -> PixelCleaning:
    """Blank burned-in text of `source` in `cleaned`, in place; without `look` only hidden bytes are taken away.

    Raises: VolumeError when text must be expected and cannot be looked for (`screen-capture`, `burned-in-text`,
    `ultrasound-without-regions`, `video`, `slide-label`), or when the pixels cannot be decoded to look at them.
    """
    if "PixelData" not in cleaned:
        return PixelCleaning(checked=False)
    native = not UID(cleaned.file_meta.TransferSyntaxUID).is_encapsulated
    comments = 0 if native else _strip(source, cleaned)
    hidden = _trim(source, cleaned) if native else False
    if not look or text(source, "Modality") in _NO_PICTURE or (integer(source, "BitsAllocated") or 0) == 1:
        return PixelCleaning(False, (), False, comments, hidden)
    _refuse_unseen(source, ocr)
    frames = _frames(source)
    regions = _regions(source, frames.shape[1:3])
    shown = frames if regions is None else frames * regions.reshape((1, *regions.shape) + (1,) * (frames.ndim - 3))
    boxes = _boxes(shown, ocr)
    if not boxes and regions is None and text(source, "BurnedInAnnotation").upper() == "YES" and not ocr:
        raise VolumeError(
            "BurnedInAnnotation is YES, and no text was found to blank; quarantined. With the extra `ocr` it is read",
            "burned-in-text",
        )
    mask = Lettering(boxes).mask(frames.shape[1:3])
    if regions is not None:
        mask |= ~regions
    if mask.any():
        _blank(source, cleaned, frames, mask, native)
    cleaned.BurnedInAnnotation = "NO"
    return PixelCleaning(True, boxes, regions is not None and not regions.all(), comments, hidden)


def _refuse_unseen(source: FileDataset, ocr: bool) -> None:
    syntax = str(source.file_meta.get("TransferSyntaxUID", "")) if getattr(source, "file_meta", None) else ""
    image_type = "\\".join(str(v) for v in (get(source, "ImageType") or ())).upper()
    modality, sop_class = text(source, "Modality"), text(source, "SOPClassUID")
    if syntax.startswith(_VIDEO):
        raise VolumeError("text in a video cannot be looked for; quarantined", "video")
    if modality == "SM" and "LABEL" in image_type:
        raise VolumeError("a picture of a slide's label shows the patient's name; quarantined", "slide-label")
    if ocr:
        return
    if _SECONDARY.fullmatch(sop_class) or any(w in image_type for w in ("SCREEN SAVE", "DOSE_INFO", "DOSE REPORT")):
        raise VolumeError(
            "a screen capture mostly shows the patient's name, and only OCR can tell that all of it was found;"
            " quarantined. Install the extra `ocr` and ask for it (--ocr)",
            "screen-capture",
        )
    if modality in ("US", "IVUS") and not get(source, "SequenceOfUltrasoundRegions"):
        raise VolumeError(
            "ultrasound that does not say where its regions are mostly shows the patient's name beside them;"
            " quarantined. Install the extra `ocr` and ask for it (--ocr)",
            "ultrasound-without-regions",
        )


def _frames(source: FileDataset) -> NDArray[Any]:
    """Stored values as (frames, rows, columns) or (frames, rows, columns, samples)."""
    found = decode(source)
    colour = (integer(source, "SamplesPerPixel") or 1) > 1
    return found[None] if found.ndim == (3 if colour else 2) else found


def _boxes(frames: NDArray[Any], ocr: bool) -> tuple[Box, ...]:
    """Areas of text in any frame. Of long loops every few frames are looked at, and what stays the same in all."""
    looked = list(frames)
    if len(frames) > _MANY_FRAMES:
        looked = [*frames[:: -(-len(frames) // _MANY_FRAMES)], frames.min(axis=0), frames.max(axis=0)]
    boxes = {box for frame in looked for box in find_lettering(frame).boxes}
    if ocr:
        boxes |= {
            box for frame in ([looked[0], *looked[-2:]] if len(looked) > 3 else looked) for box in find_words(frame)
        }
    return tuple(sorted(boxes))


def _regions(source: FileDataset, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """True inside the calibrated regions of an ultrasound image (PS3.3 C.8.5.5), None where none are stated."""
    items = get(source, "SequenceOfUltrasoundRegions")
    if not items:
        return None
    inside = np.zeros(shape, dtype=bool)
    for item in items:
        corners = [integer(item, f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if None in corners:
            continue
        left, top, right, bottom = (max(0, int(c or 0)) for c in corners)
        inside[top : bottom + 1, left : right + 1] = True
    return inside


def _blank(
    source: FileDataset, cleaned: FileDataset, frames: NDArray[Any], mask: NDArray[np.bool_], native: bool
) -> None:
    """Set the pixels under the mask to the darkest value that is shown in each frame."""
    bright = text(source, "PhotometricInterpretation") == "MONOCHROME1"
    values = frames.copy()
    for frame in values:
        if frame.ndim == 3:
            frame[mask] = 0
        else:
            frame[mask] = frame.max() if bright else frame.min()
    element = cleaned["PixelData"]
    if values.ndim == 4 and (native or cleaned.PhotometricInterpretation != "RGB"):
        cleaned.PhotometricInterpretation = "RGB"  # decoded colour is RGB, whatever it was stored as
    if values.ndim == 4:
        cleaned.PlanarConfiguration = 0
    cleaned.BitsAllocated = values.dtype.itemsize * 8
    if native and not cleaned.file_meta.TransferSyntaxUID.is_little_endian:
        values = values.astype(values.dtype.newbyteorder(">"))
    data = values.tobytes()
    cleaned.add_new(element.tag, "OB" if values.dtype.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2))
    if not native:
        cleaned.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        cleaned["PixelData"].is_undefined_length = False
        for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if name in cleaned:
                del cleaned[name]


def _strip(source: FileDataset, cleaned: FileDataset) -> int:
    try:
        return strip_comments(cleaned, integer(source, "NumberOfFrames") or 1)
    except Exception as error:  # damaged fragments fail in many ways
        raise VolumeError(
            f"the compressed pixel data cannot be taken apart: {type(error).__name__}; quarantined", "damaged-pixels"
        ) from error


def _trim(source: FileDataset, cleaned: FileDataset) -> bool:
    """Cut bytes after the last pixel, and clear bits that no pixel uses: overlays and worse were hidden there."""
    rows, columns = integer(source, "Rows"), integer(source, "Columns")
    allocated, stored = integer(source, "BitsAllocated"), integer(source, "BitsStored")
    samples, frames = integer(source, "SamplesPerPixel") or 1, integer(source, "NumberOfFrames") or 1
    if not (rows and columns and allocated and stored) or allocated % 8:
        return False
    data: bytes = cleaned.PixelData
    pixels = rows * columns * samples * frames
    if text(source, "PhotometricInterpretation") == "YBR_FULL_422":
        pixels = pixels * 2 // 3
    needed = pixels * allocated // 8
    hidden = len(data) > needed + needed % 2
    if hidden:
        data = data[:needed] + b"\0" * (needed % 2)
    if allocated == 16 and stored < 16 and integer(source, "HighBit") == stored - 1 and len(data) % 2 == 0:
        little = cleaned.file_meta.TransferSyntaxUID.is_little_endian
        words = np.frombuffer(data, dtype="<u2" if little else ">u2")
        mask = (1 << stored) - 1
        clean = words & mask
        if integer(source, "PixelRepresentation"):
            clean = np.where(clean >> (stored - 1), clean | (0xFFFF & ~mask), clean).astype(words.dtype)
        if (clean != words).any():
            data, hidden = clean.astype(words.dtype).tobytes(), True
    if hidden:
        cleaned["PixelData"].value = data
    return hidden
