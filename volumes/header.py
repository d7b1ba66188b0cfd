"""Headers: what a file says about its image, without the pixels. No patient name or ID leaves this file."""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID

from volumes.archive import ZIP_MARK, file_format, read_bytes
from volumes.instance import InstanceHeader, derived_uid, patient_key
from volumes.volume import VolumeError

_TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "AccessionNumber",
    "StudyDate",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "SeriesNumber",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "InstanceNumber",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoTime",
    "DiffusionBValue",
    "FrameOfReferenceUID",
    "SpecificCharacterSet",
    "ImageComments",
)
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_LONGEST_TEXT = 64  # longer than any short string that the standard allows here; guards the catalog against floods


def read_header(location: str, digests: bool = True) -> InstanceHeader:
    """The header of a file on disk or in a zip. Raises VolumeError when it is no image that is read here."""
    form = file_format(location)
    if form is not None:
        return _file_header(location, read_bytes(location))
    if digests or ZIP_MARK in location:
        data = read_bytes(location)
        return _dicom_header(location, io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest() if digests else "")
    path = Path(location)
    try:
        with path.open("rb") as stream:
            return _dicom_header(location, stream, path.stat().st_size, "")
    except OSError as error:
        raise VolumeError(f"the file cannot be read: {error.strerror or error}", "unreadable-file") from error


def open_dataset(stream: BinaryIO, **options: Any) -> FileDataset:
    """Parse DICOM, also without preamble. Raises VolumeError ("not-dicom" or "damaged-dicom") and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are judged where they are used
        try:
            try:
                return pydicom.dcmread(stream, **options)
            except InvalidDicomError:
                stream.seek(0)
                dataset = pydicom.dcmread(stream, force=True, **options)
        except RecursionError as error:
            raise VolumeError("sequences are nested too deeply to be read", "damaged-dicom") from error
        except Exception as error:  # pydicom raises AttributeError, TypeError, struct.error and more on damaged files
            raise VolumeError(f"the DICOM header is damaged: {type(error).__name__}", "damaged-dicom") from error
        if not text(dataset, "SOPClassUID") or not text(dataset, "SOPInstanceUID"):  # `force` reads anything
            raise VolumeError("neither DICOM nor a picture, NIfTI or NRRD file", "not-an-image")
        return dataset


def text(dataset: Dataset, name: str) -> str:
    """A text value, stripped and cut to 64 characters; empty when absent, damaged, or of several values."""
    value = get(dataset, name)
    if value is None or isinstance(value, (bytes, Dataset, MultiValue, list)):
        return ""
    return "".join(c for c in str(value).strip() if c.isprintable())[:_LONGEST_TEXT]


def get(dataset: Dataset, name: str) -> Any:
    """The value of an element, or None when it is absent or cannot be parsed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dataset.get(name)
        except Exception:  # a damaged value fails when it is first used, with any error
            return None


def numbers(dataset: Dataset, name: str, count: int) -> tuple[float, ...]:
    """`count` finite numbers, or () when there are not exactly so many."""
    value = get(dataset, name)
    try:
        found = tuple(float(v) for v in (value if isinstance(value, (MultiValue, list, tuple)) else [value]))
    except (TypeError, ValueError):
        return ()
    return found if len(found) == count and all(map(math.isfinite, found)) else ()


def integer(dataset: Dataset, name: str) -> int | None:
    """A whole number, or None."""
    found = numbers(dataset, name, 1)
    return int(found[0]) if found else None


def _texts(dataset: Dataset, name: str) -> tuple[str, ...]:
    value = get(dataset, name)
    if value is None or isinstance(value, (bytes, Dataset)):
        return ()
    items: Iterable[Any] = value if isinstance(value, (MultiValue, list)) else [value]
    return tuple(str(v).strip()[:_LONGEST_TEXT] for v in items)[:16]


def _dicom_header(location: str, stream: BinaryIO, size: int, sha256: str) -> InstanceHeader:
    dataset = open_dataset(stream, stop_before_pixels=True, specific_tags=_TAGS)
    pixel_sha256 = ""
    if sha256 and isinstance(stream, io.BytesIO):
        pixel_sha256 = hashlib.sha256(stream.getbuffer()[stream.tell() :]).hexdigest()
    sop_class = UID(text(dataset, "SOPClassUID"))
    if "Directory" in sop_class.name:
        raise VolumeError("a DICOMDIR index; the files that it lists are read themselves", "dicomdir")
    notes: list[str] = []
    patient_id, modality = text(dataset, "PatientID"), text(dataset, "Modality")
    date, accession = text(dataset, "StudyDate"), text(dataset, "AccessionNumber")
    reference, description = text(dataset, "FrameOfReferenceUID"), text(dataset, "SeriesDescription")
    study_uid = _uid(dataset, "StudyInstanceUID", notes, ("study", patient_id, date, accession, reference))
    number = text(dataset, "SeriesNumber")
    series_uid = _uid(dataset, "SeriesInstanceUID", notes, ("series", study_uid, modality, number, description))
    sop_uid = _uid(dataset, "SOPInstanceUID", notes, ("instance", series_uid, text(dataset, "InstanceNumber")))
    if not patient_id:
        notes.append("PatientID is empty: the study counts as a patient of its own")
    codes = get(dataset, "ViewCodeSequence")
    return InstanceHeader(
        path=location,
        format="dicom",
        study_uid=study_uid,
        series_uid=series_uid,
        sop_uid=sop_uid,
        patient_key=patient_key(patient_id or f"study {study_uid}"),
        modality=modality,
        sop_class=str(sop_class),
        accession=accession,
        date=date,
        body_part=text(dataset, "BodyPartExamined"),
        description=description,
        view_position=text(dataset, "ViewPosition").upper(),
        view_code=text(codes[0], "CodeMeaning") if codes else "",
        patient_orientation=_texts(dataset, "PatientOrientation"),
        image_type=_texts(dataset, "ImageType"),
        transfer_syntax=_transfer_syntax(dataset),
        rows=integer(dataset, "Rows") or 0,
        columns=integer(dataset, "Columns") or 0,
        frames=integer(dataset, "NumberOfFrames") or 1,
        position=numbers(dataset, "ImagePositionPatient", 3),
        orientation=numbers(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=numbers(dataset, "PixelSpacing", 2),
        instance_number=integer(dataset, "InstanceNumber"),
        acquisition=text(dataset, "AcquisitionNumber"),
        time_point=text(dataset, "TemporalPositionIdentifier"),
        echo=text(dataset, "EchoTime"),
        b_value=text(dataset, "DiffusionBValue"),
        frame_of_reference=reference,
        simulated=text(dataset, "ImageComments").startswith("SIMULATED"),
        size=size,
        mtime=_mtime(location),
        sha256=sha256,
        pixel_sha256=pixel_sha256,
        notes=tuple(notes),
    )


def _uid(dataset: Dataset, name: str, notes: list[str], parts: tuple[str, ...]) -> str:
    """A UID that is digits and dots, safe as a key and a folder name; else one derived from its text and `parts`."""
    raw = str(get(dataset, name) or "").strip(" \0")
    if len(raw) <= 64 and _UID.fullmatch(raw):
        return raw
    notes.append(f"{name} is {'not a valid UID' if raw else 'empty'}: one was derived from other tags of the header")
    return derived_uid(*parts, raw)


def _transfer_syntax(dataset: FileDataset) -> str:
    return text(dataset.file_meta, "TransferSyntaxUID") if getattr(dataset, "file_meta", None) else ""


def _mtime(location: str) -> float:
    try:
        return Path(location.partition(ZIP_MARK)[0]).stat().st_mtime
    except OSError:
        return 0.0


def _file_header(location: str, data: bytes) -> InstanceHeader:
    """NIfTI, NRRD and pictures name neither patient nor study: all UIDs come from the content."""
    form = file_format(location)
    if form is None or not data:
        raise VolumeError("the file is empty", "empty-file")
    digest = hashlib.sha256(data).hexdigest()
    study_uid = derived_uid("study", digest)
    return InstanceHeader(
        path=location,
        format=form,
        study_uid=study_uid,
        series_uid=derived_uid("series", digest),
        sop_uid=derived_uid("instance", digest),
        patient_key=patient_key(f"study {study_uid}"),
        modality="SC" if form == "picture" else "",
        size=len(data),
        mtime=_mtime(location),
        sha256=digest,
        pixel_sha256=digest,
        notes=("the file names no patient: it counts as a patient of its own; UIDs come from its content",),
    )
