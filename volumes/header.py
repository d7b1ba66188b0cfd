"""Headers: what a file says about its image, without the pixels. No patient name or ID leaves this file."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import warnings
import zlib
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from volumes.archive import ZIP_MARK, file_format, read_bytes
from volumes.elements import Elements, tags
from volumes.errors import VolumeError
from volumes.header_scan import PREAMBLE, scan, scan_file
from volumes.instance import InstanceHeader, conflict_digest, derived_uid, patient_key
from volumes.zips import MAX_ZIP_RATIO, regular_file

# diffusion weighting of Siemens, Philips and GE, and the creators of the blocks that hold it
PRIVATE_TAGS = (0x00190010, 0x0019100C, 0x0019100E, 0x20010010, 0x20011003, 0x00430010, 0x00431039)
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
    "DiffusionGradientOrientation",
    "InversionTime",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "FrameReferenceTime",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "PhotometricInterpretation",
    "ConcatenationUID",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
    *PRIVATE_TAGS,
    "FrameOfReferenceUID",
    "SpecificCharacterSet",
    "ImageComments",
    "PatientSex",
    "PatientBirthDate",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
    "NumberOfSeriesRelatedInstances",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
    "CurrentRequestedProcedureEvidenceSequence",
)
_WANTED = tags(_TAGS)
REFERRING = ("SEG", "RTSTRUCT", "SR", "PR", "KO")  # modalities whose `references` are read
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_REFERENCES = (
    "ReferencedSeriesSequence",
    "CurrentRequestedProcedureEvidenceSequence",
    "ReferencedFrameOfReferenceSequence",
    "RTReferencedStudySequence",
    "RTReferencedSeriesSequence",
)
_MOST_REFERENCES = 256
_FOREIGN = "neither DICOM nor a picture, NIfTI, NRRD or MetaImage file"
_INDEX = "a DICOMDIR index; the files that it lists are read themselves"
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage
_LARGEST = 2**31 - 1  # of an integer string, PS3.5 6.2
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_BYTES = 4096  # the transfer syntax stands in them
_PIECE_BYTES = 2**20
_RATIO_ASKED_BYTES = 64 * 2**20  # below it a blank image may pack as well as a bomb
_LONGEST_TEXT = 64  # longer than any short string that the standard allows here; guards the catalog against floods


def read_header(location: str, digests: bool = True) -> InstanceHeader:
    """The header of a file on disk or in a zip. Raises VolumeError when it is no image that is read here."""
    form = file_format(location)
    if form is not None:
        return _file_header(location, read_bytes(location))
    if digests or ZIP_MARK in location:
        data = read_bytes(location)
        return _from_bytes(location, data, digests)
    try:
        with open(location, "rb", buffering=0, opener=regular_file) as stream:
            told = os.fstat(stream.fileno())
            found = scan_file(stream, _WANTED, told.st_size)
            if found is None:
                stream.seek(0)
                dataset = open_dataset(_Whole(stream), stop_before_pixels=True, specific_tags=_TAGS)
                return _dicom_header(location, dataset, told.st_size, told.st_mtime)
            return _dicom_header(location, found, told.st_size, told.st_mtime)
    except OSError as error:
        raise VolumeError(f"the file cannot be read: {error.strerror or error}", "unreadable-file") from error


def _from_bytes(location: str, data: bytes, digests: bool) -> InstanceHeader:
    """The header of a whole file, with the digests of the file and of its pixel data element to the end."""
    found, pixels = _open_header(data)
    sha256 = hashlib.sha256(data).hexdigest() if digests else ""
    pixel_sha256 = hashlib.sha256(memoryview(data)[pixels:]).hexdigest() if digests else ""
    return _dicom_header(location, found, len(data), _mtime(location), sha256, pixel_sha256)


def _open_header(data: bytes) -> tuple[Elements | FileDataset, int]:
    """What the header of a whole file says, and where its pixel data element begins."""
    found = scan(data, _WANTED, len(data))
    if found is not None:
        return found, found.pixels
    stream = io.BytesIO(data)
    dataset = open_dataset(stream, stop_before_pixels=True, specific_tags=_TAGS)
    # pixels that are deflated together with the header have no place of their own: the whole file stands for them
    return dataset, 0 if _transfer_syntax(dataset) == _DEFLATED.decode() else stream.tell()


def pixels_at(data: bytes) -> int:
    """Offset of the pixel data element in a whole file: `pixel_sha256` is the digest from there to the end.

    0 in a file that is deflated as a whole, the end where there are no pixels.
    """
    return _open_header(data)[1]


def open_dataset(stream: BinaryIO, **options: Any) -> FileDataset:
    """Parse DICOM, also without preamble. Raises VolumeError ("not-dicom" or "damaged-dicom") and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are judged where they are used
        try:
            _check_deflated(stream)
            try:
                return pydicom.dcmread(stream, **options)
            except InvalidDicomError:
                stream.seek(0)
                dataset = pydicom.dcmread(stream, force=True, **options)
        except (VolumeError, MemoryError):
            raise
        except RecursionError as error:
            raise VolumeError("sequences are nested too deeply to be read", "damaged-dicom") from error
        except Exception as error:  # pydicom raises AttributeError, TypeError, struct.error and more on damaged files
            raise VolumeError(f"the DICOM header is damaged: {type(error).__name__}", "damaged-dicom") from error
        if not text(dataset, "SOPClassUID") or not text(dataset, "SOPInstanceUID"):  # `force` reads anything
            raise _foreign(dataset)
        return dataset


class _Whole(io.BufferedReader):
    """A file that takes no memory for bytes beyond its end, however many a damaged length asks for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _PIECE_BYTES:
            size = max(0, min(size, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def _check_deflated(stream: BinaryIO) -> None:
    """Inflate a deflated file piece by piece and forget it: pydicom would do so at once, whatever comes out."""
    start = stream.tell()
    data = stream.read(_META_BYTES)
    if _DEFLATED in data:
        at = PREAMBLE if data[128:PREAMBLE] == b"DICM" else 0
        while data[at : at + 2] == b"\x02\x00":  # the meta group is never deflated
            wide = data[at + 4 : at + 6] in (b"OB", b"OW", b"UN", b"UT", b"SQ")
            length = int.from_bytes(data[at + 8 : at + 12] if wide else data[at + 6 : at + 8], "little")
            at += (12 if wide else 8) + length
        packed, unpacked, inflater = len(data), 0, zlib.decompressobj(-zlib.MAX_WBITS)
        piece = data[at:]
        while piece and not inflater.eof:
            unpacked += len(inflater.decompress(piece, _PIECE_BYTES))
            if unpacked > _RATIO_ASKED_BYTES and unpacked > MAX_ZIP_RATIO * packed:
                raise VolumeError(
                    f"{packed} deflated bytes inflate to more than {unpacked}; at most {MAX_ZIP_RATIO}-fold is taken"
                    " for an image",
                    "deflate-bomb",
                )
            piece = inflater.unconsumed_tail
            if not piece:
                piece = stream.read(_PIECE_BYTES)
                packed += len(piece)
    stream.seek(start)


def _foreign(dataset: FileDataset | Elements) -> VolumeError:
    """The refusal of a file without the UIDs of an object; a DICOMDIR names what it is in its meta group only."""
    if isinstance(dataset, Elements):
        is_index = _DIRECTORY.encode() in dataset.data[:1024]
    else:
        is_index = text(getattr(dataset, "file_meta", None) or Dataset(), "MediaStorageSOPClassUID") == _DIRECTORY
    return VolumeError(_INDEX, "dicomdir") if is_index else VolumeError(_FOREIGN, "not-an-image")


def text(dataset: Dataset | Elements, name: str) -> str:
    """A text value, stripped and cut to 64 characters; empty when absent, damaged, or of several values."""
    if isinstance(dataset, Elements) and (quick := dataset.text(name)) is not None:
        return quick
    value = get(dataset, name)
    if value is None or isinstance(value, (bytes, Dataset, MultiValue, list, Items)):
        return ""
    shown = str(value).strip()[: 64 * _LONGEST_TEXT]  # a damaged length can make a value of the whole file
    return "".join(c for c in shown if c.isprintable())[:_LONGEST_TEXT]


def get(dataset: Dataset | Elements, name: str) -> Any:
    """The value of an element, or None when it is absent or cannot be parsed."""
    if isinstance(dataset, Elements):
        if name not in dataset:
            return None
        dataset = dataset.dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dataset.get(name)
        except Exception:  # a damaged value fails when it is first used, with any error
            return None


def numbers(dataset: Dataset | Elements, name: str, count: int) -> tuple[float, ...]:
    """`count` finite numbers, or () when there are not exactly so many."""
    if isinstance(dataset, Elements) and (quick := dataset.numbers(name, count)) is not None:
        return quick
    value = get(dataset, name)
    several = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    if len(several) != count:
        return ()
    try:
        found = tuple(float(v) for v in several)
    except (TypeError, ValueError):
        return ()
    return found if all(map(math.isfinite, found)) else ()


def items(dataset: Dataset | Elements, name: str) -> list[Dataset]:
    """The items of a sequence; empty when it is absent or no sequence."""
    value = get(dataset, name)
    return [one for one in value if isinstance(one, Dataset)] if isinstance(value, pydicom.Sequence) else []


def integer(dataset: Dataset | Elements, name: str) -> int | None:
    """A whole number, or None."""
    found = numbers(dataset, name, 1)
    return int(found[0]) if found else None


def texts(dataset: Dataset | Elements, name: str) -> tuple[str, ...]:
    """Up to 16 texts of at most 64 characters; empty when absent or damaged."""
    if isinstance(dataset, Elements) and (quick := dataset.texts(name)) is not None:
        return quick
    value = get(dataset, name)
    if value is None or isinstance(value, (bytes, Dataset, Items)):
        return ()
    items: Iterable[Any] = value if isinstance(value, (MultiValue, list)) else [value]
    return tuple(str(v).strip()[:_LONGEST_TEXT] for v in islice(items, 16))


def _dicom_header(
    location: str,
    dataset: FileDataset | Elements,
    size: int,
    mtime: float,
    sha256: str = "",
    pixel_sha256: str = "",
) -> InstanceHeader:
    sop_class = text(dataset, "SOPClassUID")
    if not sop_class and not (integer(dataset, "Rows") or text(dataset, "Modality")):  # real files lost their UIDs
        raise _foreign(dataset)
    if _is_directory(sop_class):
        raise VolumeError(_INDEX, "dicomdir")
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
    from volumes.occasion import occasion  # which reads elements with the functions above

    return InstanceHeader(
        path=location,
        format="dicom",
        study_uid=study_uid,
        series_uid=series_uid,
        sop_uid=sop_uid,
        patient_key=patient_key(patient_id or f"study {study_uid}"),
        modality=modality,
        sop_class=sop_class,
        accession=accession,
        date=date,
        body_part=text(dataset, "BodyPartExamined"),
        description=description,
        view_position=text(dataset, "ViewPosition").upper(),
        view_code=text(codes[0], "CodeMeaning") if codes else "",
        patient_orientation=texts(dataset, "PatientOrientation"),
        image_type=texts(dataset, "ImageType"),
        transfer_syntax=_transfer_syntax(dataset),
        rows=max(0, _whole(dataset, "Rows") or 0),
        columns=max(0, _whole(dataset, "Columns") or 0),
        frames=max(1, _whole(dataset, "NumberOfFrames") or 1),
        position=numbers(dataset, "ImagePositionPatient", 3),
        orientation=numbers(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=numbers(dataset, "PixelSpacing", 2),
        instance_number=_whole(dataset, "InstanceNumber"),
        acquisition=text(dataset, "AcquisitionNumber"),
        time_point=text(dataset, "TemporalPositionIdentifier"),
        echo=text(dataset, "EchoTime"),
        **occasion(_of_frames(dataset)),
        frame_of_reference=reference,
        simulated=text(dataset, "ImageComments").startswith("SIMULATED"),
        sex_digest=conflict_digest(patient_id, text(dataset, "PatientSex")),
        birth_digest=conflict_digest(patient_id, text(dataset, "PatientBirthDate")),
        study_series=_whole(dataset, "NumberOfStudyRelatedSeries"),
        study_instances=_whole(dataset, "NumberOfStudyRelatedInstances"),
        series_instances=_whole(dataset, "NumberOfSeriesRelatedInstances"),
        references=_references(dataset) if modality in REFERRING else (),
        size=size,
        mtime=mtime,
        sha256=sha256,
        pixel_sha256=pixel_sha256,
        notes=tuple(notes),
    )


def _whole(dataset: Dataset | Elements, name: str) -> int | None:
    """A whole number that a database can hold; what lies beyond the standard's 32 bits becomes their largest."""
    found = integer(dataset, name)
    return None if found is None else max(-_LARGEST, min(found, _LARGEST))


def _of_frames(dataset: FileDataset | Elements) -> Dataset | Elements:
    """Functional groups are nested: pydicom reads them."""
    nested = isinstance(dataset, Elements) and "PerFrameFunctionalGroupsSequence" in dataset
    return dataset.dataset() if nested else dataset


def _references(dataset: Dataset | Elements) -> tuple[str, ...]:
    """Series that a mask, contour or report speaks of, sorted; at most 256."""
    found: set[str] = set()
    waiting = [(dataset.dataset() if isinstance(dataset, Elements) else dataset, 0)]
    while waiting and len(found) < _MOST_REFERENCES:
        item, depth = waiting.pop()
        uid = str(get(item, "SeriesInstanceUID") or "").strip(" \0") if depth else ""
        if uid and len(uid) <= 64 and _UID.fullmatch(uid):
            found.add(uid)
        for name in _REFERENCES if depth < len(_REFERENCES) else ():
            inner = get(item, name)
            if inner is not None and not isinstance(inner, (str, bytes)):
                waiting += [(one, depth + 1) for one in list(inner)[:_MOST_REFERENCES] if isinstance(one, Dataset)]
    return tuple(sorted(found))


@lru_cache(maxsize=256)
def _is_directory(sop_class: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return "Directory" in UID(sop_class).name


def _uid(dataset: Dataset | Elements, name: str, notes: list[str], parts: tuple[str, ...]) -> str:
    """A UID that is digits and dots, safe as a key and a folder name; else one derived from its text and `parts`."""
    quick = dataset.uid(name) if isinstance(dataset, Elements) else None
    value = get(dataset, name) if quick is None else quick
    raw = value.strip(" \0") if isinstance(value, str) else ""
    if len(raw) <= 64 and _UID.fullmatch(raw):
        return raw
    notes.append(f"{name} is {'not a valid UID' if raw else 'empty'}: one was derived from other tags of the header")
    return derived_uid(*parts, raw)


def _transfer_syntax(dataset: FileDataset | Elements) -> str:
    if isinstance(dataset, Elements):
        return dataset.syntax
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
