"""Writes radiographs and CT series as DICOM files that an archive accepts, for simulated patients and for tests.

Strict where the readers are tolerant: an attribute of type 1 is always there, an attribute of type 2 is there or empty,
UIDs lie under 2.25 (PS3.5 B.2). Little endian explicit, uncompressed. Checked with ``dciodvfy`` in the tests.
Sources: PS3.3 A.26 (DX), A.2 (CR), A.3 (CT); PS3.3 10.7 (which spacing means what); PS3.16 CID 4010 (views).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from volumes.volume import Volume, VolumeError

DX_STORAGE = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation
CR_STORAGE = "1.2.840.10008.5.1.4.1.1.1"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
AIR_OFFSET_HU = -1024.0  # the intercept of most CT scanners: stored 0 is -1024 HU
CT_STORED_MAX = 4095  # 12 bits, so that 3071 HU is the brightest value that can be stored

_VIEW_CODES = {
    "PA": ("272479007", "postero-anterior"),
    "AP": ("399348003", "antero-posterior"),
    "LATERAL": ("399067008", "lateral"),
}
_DEFAULT_ORIENTATION = {"PA": ("L", "F"), "AP": ("L", "F"), "LATERAL": ("P", "F")}
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")


@dataclass(frozen=True)
class StudyTags:
    """Who and when. Dates are ``YYYYMMDD``, times ``HHMMSS``, both may be empty; ``age`` in years."""

    study_uid: str
    patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)
    accession: str = ""
    birth_date: str = field(default="", repr=False)
    sex: str = ""
    age: int | None = None
    date: str = ""
    time: str = ""
    description: str = ""
    comments: str = ""


@dataclass(frozen=True)
class DeviceTags:
    """The machine that made the image."""

    manufacturer: str = ""
    model: str = ""
    station: str = ""
    institution: str = ""


@dataclass(frozen=True)
class FilmTags:
    """One radiograph.

    ``spacing_mm`` is (row, column) at the detector (Imager Pixel Spacing); with ``magnification`` (a number above 1)
    the calibrated spacing at the patient is written too, as Pixel Spacing with the calibration type GEOMETRY.
    ``window`` is (center, width) in stored values. ``patient_orientation`` says where the columns and the rows grow to.
    """

    study: StudyTags
    series_uid: str
    sop_uid: str
    view: str
    spacing_mm: tuple[float, float]
    window: tuple[float, float]
    device: DeviceTags = DeviceTags()
    photometric: str = "MONOCHROME2"
    storage: Literal["DX", "CR"] = "DX"
    bits_stored: int = 12
    series_number: int = 1
    instance_number: int = 1
    magnification: float | None = None
    patient_orientation: tuple[str, str] | None = None
    kvp: float | None = None


@dataclass(frozen=True)
class CtTags:
    """One CT series. ``window`` is (center, width) in HU; ``thickness_mm`` defaults to the distance of the slices."""

    study: StudyTags
    series_uid: str
    device: DeviceTags = DeviceTags()
    description: str = "Thorax"
    kernel: str = ""
    kvp: float | None = None
    thickness_mm: float | None = None
    window: tuple[float, float] = (40.0, 400.0)
    body_part: str = "CHEST"
    series_number: int = 1


def derived_uid(*parts: object) -> str:
    """UID under 2.25 made from the given parts alone: the same parts give the same UID (PS3.5 B.2)."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


_IMPLEMENTATION = derived_uid("medvlm", "volumes.dicom_writer", 1)


def write_film(path: Path | str, pixels: NDArray[np.uint16], tags: FilmTags) -> str:
    """Write one radiograph, pixels (H, W) uint16 in stored values; returns its SOP instance UID.

    Raises: VolumeError when pixels or tags cannot become a valid object (``bad-pixels``, ``bad-tags``).
    """
    _check_film(path, pixels, tags)
    ds = _patient_and_study(tags.study, tags.device)
    ds.SOPClassUID = DX_STORAGE if tags.storage == "DX" else CR_STORAGE
    ds.SOPInstanceUID = tags.sop_uid
    ds.Modality = tags.storage
    ds.SeriesInstanceUID = tags.series_uid
    ds.SeriesNumber = tags.series_number
    ds.InstanceNumber = tags.instance_number
    ds.SeriesDescription = f"Chest {tags.view}"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "LL" if tags.view == "LATERAL" else tags.view  # PS3.3 C.8.1.1: LL is the left lateral
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.PatientOrientation = list(tags.patient_orientation or _DEFAULT_ORIENTATION[tags.view])
    ds.ImagerPixelSpacing = [_decimal(v) for v in tags.spacing_mm]
    if tags.magnification is not None:
        ds.PixelSpacing = [_decimal(v / tags.magnification) for v in tags.spacing_mm]
        ds.PixelSpacingCalibrationType = "GEOMETRY"
        ds.PixelSpacingCalibrationDescription = "Geometric magnification"
    ds.KVP = "" if tags.kvp is None else _decimal(tags.kvp)
    ds.WindowCenter, ds.WindowWidth = _decimal(tags.window[0]), _decimal(tags.window[1])
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    if tags.storage == "DX":
        _add_dx(ds, tags)
    _add_pixels(ds, pixels, tags.photometric, tags.bits_stored)
    _save(path, ds)
    return tags.sop_uid


def write_ct(folder: Path | str, volume: Volume, tags: CtTags) -> tuple[str, ...]:
    """Write a volume in HU as one CT image per index k, ``1.dcm`` first; returns the SOP instance UIDs in that order.

    Values are rounded to whole HU and clipped to [-1024, 3071], as scanners with 12 bits do.
    Raises: VolumeError when the unit is not HU (``bad-unit``) or the axes are not orthogonal (``bad-affine``).
    """
    folder = Path(folder)
    if volume.unit != "HU":
        raise VolumeError(f"CT images need the unit HU, the volume has {volume.unit!r}: convert it first", "bad-unit")
    step = volume.affine.numpy()[:3, :3]
    lengths = np.linalg.norm(step, axis=0)
    axes = step / lengths
    skew = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if skew > 1e-4:
        raise VolumeError(
            f"axes of the volume deviate from a right angle by {skew:.4f} (cosine): resample first", "bad-affine"
        )
    folder.mkdir(parents=True, exist_ok=True)
    stored = np.clip(np.rint(volume.voxels.numpy() - AIR_OFFSET_HU), 0, CT_STORED_MAX).astype(np.uint16)
    ds = _ct_series(volume, tags, axes, lengths)
    uids = tuple(derived_uid(tags.series_uid, k) for k in range(stored.shape[0]))
    for k, sop_uid in enumerate(uids):
        position = volume.affine.numpy()[:3, 3] + k * step[:, 0]
        ds.SOPInstanceUID = sop_uid
        ds.InstanceNumber = k + 1
        ds.ImagePositionPatient = [_decimal(v) for v in position]
        ds.SliceLocation = _decimal(position[2])
        _add_pixels(ds, stored[k], "MONOCHROME2", 12)
        _save(folder / f"{k + 1}.dcm", ds)
    return uids


def _ct_series(volume: Volume, tags: CtTags, axes: NDArray[np.float64], lengths: NDArray[np.float64]) -> Dataset:
    """All attributes that the slices of one series share. ``axes`` and ``lengths`` (mm) are ordered k, j, i."""
    ds = _patient_and_study(tags.study, tags.device)
    ds.SOPClassUID = CT_STORAGE
    ds.Modality = "CT"
    ds.SeriesInstanceUID = tags.series_uid
    ds.SeriesNumber = tags.series_number
    ds.SeriesDescription = _short(tags.description, 64)
    ds.BodyPartExamined = tags.body_part
    ds.PatientPosition = "HFS"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.AcquisitionNumber = 1
    ds.FrameOfReferenceUID = derived_uid(tags.study.study_uid, "frame of reference")
    ds.PositionReferenceIndicator = ""
    # rows run along i and columns along j: the affine's last and middle column
    ds.ImageOrientationPatient = [_decimal(v) for v in (*axes[:, 2], *axes[:, 1])]
    ds.PixelSpacing = [_decimal(lengths[1]), _decimal(lengths[2])]
    ds.SliceThickness = _decimal(tags.thickness_mm if tags.thickness_mm is not None else float(lengths[0]))
    ds.SpacingBetweenSlices = _decimal(lengths[0])
    ds.KVP = "" if tags.kvp is None else _decimal(tags.kvp)
    ds.ConvolutionKernel = tags.kernel
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = _decimal(AIR_OFFSET_HU), "1", "HU"
    ds.WindowCenter, ds.WindowWidth = _decimal(tags.window[0]), _decimal(tags.window[1])
    return ds


def _patient_and_study(study: StudyTags, device: DeviceTags) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    ds.InstanceCreationDate, ds.InstanceCreationTime = study.date, study.time
    for name in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{name}Date", study.date)
        setattr(ds, f"{name}Time", study.time)
    ds.AccessionNumber = _short(study.accession, 16)
    ds.Manufacturer = _short(device.manufacturer, 64)
    ds.ManufacturerModelName = _short(device.model, 64)
    ds.InstitutionName = _short(device.institution, 64)
    ds.StationName = _short(device.station, 16)
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = _short(study.description, 64)
    ds.PatientName = study.patient_name
    ds.PatientID = _short(study.patient_id, 64)
    ds.PatientBirthDate = study.birth_date
    ds.PatientSex = study.sex
    if study.age is not None:
        ds.PatientAge = f"{study.age:03d}Y"
    ds.StudyInstanceUID = study.study_uid
    ds.StudyID = _short(study.accession, 16)
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    if study.comments:
        ds.ImageComments = study.comments
    return ds


def _add_dx(ds: Dataset, tags: FilmTags) -> None:
    """Modules that DX has and CR has not: series, anatomy, image, detector, positioning (PS3.3 C.8.11)."""
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageLaterality = "U"  # the chest is not a paired body part
    ds.AnatomicRegionSequence = [_code("816094009", "Chest")]
    view = _code(*_VIEW_CODES[tags.view])
    view.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [view]
    ds.PositionerType = ""
    ds.DetectorType = "SCINTILLATOR"
    if tags.magnification is not None:
        ds.EstimatedRadiographicMagnificationFactor = _decimal(tags.magnification)
    ds.PixelIntensityRelationship = "LOG"
    inverse = tags.photometric == "MONOCHROME1"
    # both photometric senses show much attenuation bright; the sign relates stored values to the beam's intensity
    ds.PixelIntensityRelationshipSign = 1 if inverse else -1
    ds.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    ds.AcquisitionContextSequence = []


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def _add_pixels(ds: Dataset, stored: NDArray[np.uint16], photometric: str, bits: int) -> None:
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = photometric
    ds.Rows, ds.Columns = (int(n) for n in stored.shape)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, 0
    data = np.ascontiguousarray(stored, dtype="<u2").tobytes()
    ds.add_new("PixelData", "OW", data)


def _save(path: Path | str, ds: Dataset) -> None:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION
    meta.ImplementationVersionName = "MEDVLM"
    ds.file_meta = meta
    pydicom.dcmwrite(path, ds, enforce_file_format=True)


def _check_film(path: Path | str, pixels: NDArray[np.uint16], tags: FilmTags) -> None:
    problems = []
    if pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise VolumeError(
            f"{Path(path).name}: pixels are {pixels.dtype} of shape {pixels.shape}; expected uint16 (H, W)",
            "bad-pixels",
        )
    if not 6 <= tags.bits_stored <= 16:
        problems.append(f"bits_stored is {tags.bits_stored}; expected 6 to 16")
    elif pixels.size == 0 or int(pixels.max()) >= 2**tags.bits_stored:
        raise VolumeError(
            f"{Path(path).name}: shape {pixels.shape}, largest value {pixels.max(initial=0)}; expected pixels below "
            f"{2**tags.bits_stored} ({tags.bits_stored} bits)",
            "bad-pixels",
        )
    if tags.view not in _VIEW_CODES:
        problems.append(f"view is {tags.view!r}; expected one of {', '.join(_VIEW_CODES)}")
    if tags.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        problems.append(f"photometric is {tags.photometric!r}; expected MONOCHROME1 or MONOCHROME2")
    if min(tags.spacing_mm) <= 0:
        problems.append(f"spacing is {tags.spacing_mm} mm; expected positive numbers")
    if tags.window[1] < 1:
        problems.append(f"window width is {tags.window[1]}; expected at least 1")
    if tags.magnification is not None and tags.magnification < 1:
        problems.append(f"magnification is {tags.magnification}; expected at least 1")
    problems += _bad_uids((tags.study.study_uid, tags.series_uid, tags.sop_uid))
    if problems:
        raise VolumeError(f"{Path(path).name}: {'; '.join(problems)}", "bad-tags")


def _bad_uids(uids: Sequence[str]) -> list[str]:
    return [
        f"UID {uid!r} is not valid (digits and dots, at most 64)"
        for uid in uids
        if len(uid) > 64 or not _UID.fullmatch(uid)
    ]


def _short(text: str, limit: int) -> str:
    if len(text) > limit:
        raise VolumeError(f"a text has {len(text)} characters; its attribute holds at most {limit}", "bad-tags")
    return text


def _decimal(value: float) -> str:
    """Decimal string of at most 16 characters (PS3.5 6.2, DS)."""
    number = float(value) + 0.0  # no minus zero
    for digits in range(12, 5, -1):
        text = f"{number:.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{number:.6g}"
