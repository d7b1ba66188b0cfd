"""Radiographs and pictures of them -> Film: bright means more attenuation, inverted at most once and said so."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from volumes.archive import read_bytes
from volumes.gray import LUMINANCE, gray, one_frame
from volumes.header import get, integer, numbers, text
from volumes.instance import InstanceHeader
from volumes.pixels import decode, modality_values
from volumes.planes import open_image
from volumes.transforms import MIRRORED
from volumes.volume import Film, SeriesError, Source, View, VolumeError

PICTURE_NOTE = (
    "a picture file: it does not say whether it is a radiograph, which view it shows, or how large a pixel is"
)
MAX_PICTURE_PIXELS = 2**28

_LATERAL = ("LL", "RL", "LATERAL", "LAT")
_VIEWS: dict[str, View] = {"PA": "PA", "AP": "AP", **dict.fromkeys(_LATERAL, "LATERAL")}


def film_view(header: InstanceHeader) -> View:
    """The view from ViewPosition, else the view code, else PatientOrientation (lateral or not)."""
    if header.view_position in _VIEWS:
        return _VIEWS[header.view_position]
    code = header.view_code.lower()
    if re.search(r"postero-?\s?anterior", code):
        return "PA"
    if re.search(r"antero-?\s?posterior", code):
        return "AP"
    if "lateral" in code and "decubitus" not in code:
        return "LATERAL"
    if header.patient_orientation and header.patient_orientation[0][:1] in ("A", "P"):
        return "LATERAL"
    return "unknown"


def read_film(header: InstanceHeader, frame: int | None = None) -> Film:
    """One Film from one DICOM instance, or one frame (from 0) of a cine run. Raises SeriesError with the reason."""
    try:
        return _read(header, frame)
    except VolumeError as error:
        raise SeriesError(f"instance {header.sop_uid} ({header.modality}): {error}", error.reason) from error


def _read(header: InstanceHeader, frame: int | None) -> Film:
    number, told = one_frame(header, frame)
    dataset = open_image(header)
    stored, changed = gray(dataset, decode(dataset), header, number)
    notes = [*header.notes, *told, *changed]
    values = modality_values(dataset, stored)
    padding = _padding(dataset, stored)
    values, told = _bright_means_attenuation(dataset, values)
    notes += told
    if padding is not None and not padding.all() and padding.any():
        values[padding] = values[~padding].min()
        notes.append(f"{int(padding.sum())} padding pixels set to the darkest value of the film")
    spacing, told = _detector_spacing(dataset)
    notes += told + _mirrored(header)
    if not math.isfinite(float(values.sum(dtype=np.float64))):
        raise VolumeError("the film holds values that are not finite numbers", "not-finite")
    pixels = torch.from_numpy(np.ascontiguousarray(values))
    return Film(pixels, spacing, film_view(header), "raw", _source(header), tuple(notes))


def _bright_means_attenuation(dataset: Dataset, values: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[str]]:
    """PhotometricInterpretation decides alone (PS3.3 C.7.6.3.1.2); tags that contradict it are noted, not obeyed."""
    photometric, notes = text(dataset, "PhotometricInterpretation"), []
    inverted = photometric == "MONOCHROME1"
    shape = text(dataset, "PresentationLUTShape")
    if (shape == "INVERSE") != inverted and shape in ("INVERSE", "IDENTITY"):
        notes.append(f"PresentationLUTShape {shape} contradicts {photometric}: PhotometricInterpretation was followed")
    sign = integer(dataset, "PixelIntensityRelationshipSign")
    if sign is not None and sign == (-1 if inverted else 1):
        notes.append(
            f"PixelIntensityRelationshipSign {sign} says that {photometric} shows bone dark: PhotometricInterpretation"
            " was followed"
        )
    if not inverted:
        return values, notes
    low, high = _stored_range(dataset)
    ends = modality_values(dataset, np.array([[low, high]])) if not get(dataset, "ModalityLUTSequence") else values
    values = float(ends.min()) + float(ends.max()) - values
    return values.astype(np.float32), [*notes, "MONOCHROME1 inverted once: bright now means more attenuation"]


def _stored_range(dataset: Dataset) -> tuple[int, int]:
    bits = integer(dataset, "BitsStored") or integer(dataset, "BitsAllocated") or 16
    if integer(dataset, "PixelRepresentation") == 1:
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def _padding(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    value = integer(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = integer(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    return np.asarray((stored >= low) & (stored <= high))


def _detector_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, list[str]]:
    """(row, column) mm at the detector. ImagerPixelSpacing is that; PixelSpacing may be calibrated to the patient."""
    imager, pixel = numbers(dataset, "ImagerPixelSpacing", 2), numbers(dataset, "PixelSpacing", 2)
    scanned = numbers(dataset, "NominalScannedPixelSpacing", 2)
    if imager and min(imager) > 0:
        if pixel and max(abs(a - b) for a, b in zip(imager, pixel, strict=True)) > 1e-4:
            told = (
                f"PixelSpacing {pixel[0]:.4f} mm is not ImagerPixelSpacing {imager[0]:.4f} mm: the detector's is kept"
            )
            return (imager[0], imager[1]), [told]
        return (imager[0], imager[1]), []
    if pixel and min(pixel) > 0:
        return (pixel[0], pixel[1]), ["PixelSpacing without ImagerPixelSpacing: taken as spacing at the detector"]
    if scanned and min(scanned) > 0:
        return (scanned[0], scanned[1]), ["spacing is that of the film scanner"]
    return None, ["no pixel spacing: lengths on this film are unknown"]


def _mirrored(header: InstanceHeader) -> list[str]:
    """A frontal film whose rows run towards the patient's right shows left and right exchanged."""
    if header.patient_orientation and header.patient_orientation[0][:1] == "R" and film_view(header) != "LATERAL":
        return [
            f"{MIRRORED} PatientOrientation {'/'.join(header.patient_orientation)} says that image left is the"
            " patient's left; expected rows that run towards L"
        ]
    return []


def _source(header: InstanceHeader) -> Source:
    return Source(
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        sop_uids=(header.sop_uid,),
        modality=header.modality,
        body_part=header.body_part,
        accession=header.accession,
        path=header.path,
    )


def read_picture(header: InstanceHeader) -> Film:
    """One Film from a PNG or JPEG of 8 or 16 bits; colour becomes luminance. Raises SeriesError with the reason."""
    data = read_bytes(header.path)
    notes = [*header.notes, PICTURE_NOTE]
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise SeriesError(
                    f"the picture has {image.width} x {image.height} pixels; at most {MAX_PICTURE_PIXELS} are read",
                    "too-large",
                )
            pixels, told = _grey(image)
    except SeriesError:
        raise
    except Exception as error:  # PIL raises SyntaxError, struct.error, zlib.error and more on damaged files
        raise SeriesError(
            f"the picture cannot be decoded: {type(error).__name__}; expected PNG or JPEG", "damaged-picture"
        ) from error
    return Film(torch.from_numpy(pixels), None, "unknown", "raw", _source(header), (*notes, *told))


def _grey(image: Image.Image) -> tuple[NDArray[np.float32], list[str]]:
    notes = []
    if image.getexif().get(0x0112, 1) != 1:
        notes.append("the picture carries an EXIF rotation, which was not applied")
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA"):
        alpha = np.asarray(image.getchannel("A"))
        if int(alpha.min()) < 255:
            notes.append(f"{int((alpha < 255).sum())} transparent pixels: transparency was ignored")
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    if image.mode in ("L", "I;16", "I;16B", "I;16L", "I", "F", "1"):
        return np.array(image).astype(np.float32), notes
    rgb = np.array(image.convert("RGB"))
    if np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 0], rgb[..., 2]):
        return rgb[..., 0].astype(np.float32), [*notes, "three equal colour channels: one was kept"]
    return rgb.astype(np.float32) @ LUMINANCE, [*notes, "colour picture turned into luminance (ITU-R BT.601)"]
