"""Reading reports that are DICOM objects: Structured Reports and encapsulated PDF and CDA (PS3.3 A.35, A.45, C.17.3).

Of Structured Reports those that a radiologist writes or signs are taken: Basic Text, Enhanced, Comprehensive,
Comprehensive 3D and Extensible, among them measurement reports after TID 1500. Dose reports, CAD results and logs are
no reports of a study. Content by reference is not followed: what it points to is read where it stands.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

from pydicom.charset import convert_encodings, python_encoding
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from reports.attachment import attached_text
from reports.measurement_report import MAX_DEPTH as MAX_DEPTH
from reports.measurement_report import Content, read_content
from reports.sourced import (
    CodedMeasurement,
    ReportError,
    ReportStatus,
    SourcedReport,
    compact_time,
    joined,
    quoted,
    refuse,
    without_name,
)
from volumes.errors import VolumeError
from volumes.header import get, open_dataset, text
from volumes.instance import Refusal, patient_key

_SR = "1.2.840.10008.5.1.4.1.1.88."
_TEXT_CLASSES = frozenset(_SR + end for end in ("11", "22", "33", "34", "35"))
_OTHER_CLASSES = {
    _SR + "40": "a procedure log", _SR + "50": "a CAD result", _SR + "59": "a list of key objects",
    _SR + "65": "a CAD result", _SR + "67": "a dose report", _SR + "68": "a dose report", _SR + "70": "a CAD result",
    _SR + "73": "a dose report", _SR + "74": "a dose report", _SR + "75": "a dose report", _SR + "76": "a dose report",
}  # fmt: skip
_DOSE_TITLES = frozenset(("113701", "113500", "121058"))  # X-ray dose, radiopharmaceutical dose, procedure log
_ENCAPSULATED = {"1.2.840.10008.5.1.4.1.1.104.1": "application/pdf", "1.2.840.10008.5.1.4.1.1.104.2": "text/xml"}


def is_dicom(data: bytes) -> bool:
    """Whether the bytes start like a DICOM file (PS3.10: "DICM" after a preamble of 128 bytes)."""
    return data[128:132] == b"DICM"


def read_structured(data: bytes, source: str) -> Iterator[SourcedReport | Refusal]:
    """The report in one DICOM file; concept names become headings, numbers keep their unit."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks may quote the patient
            yield _read(open_dataset(io.BytesIO(data), stop_before_pixels=True), source)
    except ReportError as error:
        yield error.refusal(source)
    except VolumeError as error:
        reason = "damaged-dicom" if error.reason == "not-an-image" else error.reason
        yield refuse(source, reason, f"DICOM that cannot be read ({error})", "a DICOM SR", "Export the report again.")
    except RecursionError:
        yield refuse(source, "damaged-dicom", "sequences nested too deeply to be read", "a DICOM SR",
                     "Export the report again.")  # fmt: skip
    except MemoryError:
        raise
    except Exception as error:  # pydicom parses values when they are used, and raises anything on damaged ones
        yield refuse(source, "damaged-dicom", f"DICOM that cannot be read ({type(error).__name__})", "a DICOM SR",
                     "Export the report again.")  # fmt: skip


def _read(dataset: Dataset, source: str) -> SourcedReport:
    sop_class, modality = text(dataset, "SOPClassUID"), text(dataset, "Modality")
    notes: list[str] = []
    if sop_class in _ENCAPSULATED:
        found, body = Content(), _encapsulated(dataset, _ENCAPSULATED[sop_class])
    else:
        found = _content(dataset, sop_class, modality)
        body = _recoded(dataset, joined(found.sections), notes)
    name = get(dataset, "PatientName") or ""
    body, replaced = without_name(body, *(str(getattr(name, part, "")) for part in ("family_name", "given_name")))
    if replaced:
        notes.append(f"the patient's name was replaced {replaced} time(s)")
    if not body:
        raise ReportError("empty-report", "no TEXT, CODE or NUM item with a value", "text", "Export it again.")
    identity = text(dataset, "PatientID")
    read = SourcedReport(
        body,
        text(dataset, "AccessionNumber") or _of_request(dataset, "AccessionNumber"),
        _study_uid(dataset),
        patient_key(identity) if identity else None,
        _status(dataset),
        source,
        _time(dataset, "ContentDate", "ContentTime"),
        notes=tuple(notes),
        performed=_time(dataset, "StudyDate", "StudyTime"),
        measurements=_recoded_measurements(dataset, found.measurements),
    )
    if not read.can_be_placed:
        raise ReportError("no-link", "neither AccessionNumber nor StudyInstanceUID", "one of them", "Export it again.")
    return read


def _content(dataset: Dataset, sop_class: str, modality: str) -> Content:
    if modality != "SR" or "ContentSequence" not in dataset:
        raise ReportError("not-a-report", f"DICOM of modality {modality or 'nothing'}",
                          "modality SR with a content sequence, or an encapsulated PDF or CDA",
                          "Images belong to the archive, not to the reports.")  # fmt: skip
    titles = get(dataset, "ConceptNameCodeSequence") or []
    title = text(titles[0], "CodeValue") if titles else ""
    if sop_class not in _TEXT_CLASSES or title in _DOSE_TITLES:
        kind = _OTHER_CLASSES.get(sop_class) or ("a dose report or log" if title in _DOSE_TITLES else "another object")
        raise ReportError("not-a-report", f"{kind} of SOP class {sop_class or 'nothing'}",
                          "a Basic Text, Enhanced, Comprehensive or Extensible SR",
                          "It says nothing of what the images show.")  # fmt: skip
    return read_content(dataset)


def _encapsulated(dataset: Dataset, kind: str) -> str:
    """PS3.3 C.24.2: the document, padded to an even length, of the MIME type that the file states."""
    document = get(dataset, "EncapsulatedDocument")
    if not isinstance(document, bytes) or not document:
        raise ReportError("empty-report", "no encapsulated document", "a document", "Export the report again.")
    length = get(dataset, "EncapsulatedDocumentLength")
    if isinstance(length, int) and 0 < length <= len(document):
        document = document[:length]
    stated = text(dataset, "MIMETypeOfEncapsulatedDocument").lower()
    if stated and stated != kind and not (kind == "text/xml" and "xml" in stated):
        raise ReportError("unknown-attachment", f"an encapsulated document of type {quoted(stated)}", kind,
                          "Export the report as text.")  # fmt: skip
    return attached_text(document.rstrip(b"\0"), kind)


def _status(dataset: Dataset) -> ReportStatus:
    """Of the completion and preliminary flags. A document that names a predecessor replaces it (PS3.3 C.17.2.4)."""
    if text(dataset, "CompletionFlag") == "PARTIAL" or text(dataset, "PreliminaryFlag") == "PRELIMINARY":
        return "preliminary"
    return "corrected" if get(dataset, "PredecessorDocumentsSequence") else "final"


def _study_uid(dataset: Dataset) -> str:
    """The one study whose images are its evidence (PS3.3 C.17.2.3), else the study that the document is filed under."""
    own = text(dataset, "StudyInstanceUID")
    evidence = get(dataset, "CurrentRequestedProcedureEvidenceSequence") or []
    named = {uid for one in list(evidence)[:64] if (uid := text(one, "StudyInstanceUID"))}
    return own if own in named or len(named) != 1 else named.pop()


def _of_request(dataset: Dataset, name: str) -> str:
    """A value of the request that the report answers, where all requests agree."""
    values = {text(one, name) for one in list(get(dataset, "ReferencedRequestSequence") or [])[:64]} - {""}
    return values.pop() if len(values) == 1 else ""


def _time(dataset: Dataset, date: str, time: str) -> str:
    day, zone = text(dataset, date), text(dataset, "TimezoneOffsetFromUTC")
    hours = text(dataset, time).partition(".")[0]
    return compact_time(day + hours + (zone if hours else "")) or compact_time(day)


def _recoded(dataset: Dataset, body: str, notes: list[str]) -> str:
    """The text as it was meant where the file names no character set, or one that does not exist.

    The default is ASCII; other bytes come in as Latin-1. Bytes that are valid UTF-8 were not meant as Latin-1: no
    word is written so.
    """
    stated = get(dataset, "SpecificCharacterSet") or ""
    names = [str(name) for name in (stated if isinstance(stated, list | MultiValue) else [stated])]
    if body.isascii() or (any(names) and all(name in python_encoding for name in names)):
        return body
    found = f"the unknown SpecificCharacterSet {quoted(names[0])}" if any(names) else "no SpecificCharacterSet"
    try:
        body, used = body.encode("latin-1").decode("utf-8"), "utf8"
    except UnicodeError:
        used = convert_encodings(names)[0]
    name = {"iso8859": "ISO 8859-1", "utf8": "UTF-8"}.get(used, used)
    notes.append(f"{found}, although the text is not ASCII; read as {name}")
    return body


def _recoded_measurements(dataset: Dataset, found: tuple[CodedMeasurement, ...]) -> tuple[CodedMeasurement, ...]:
    """The words of measurements, recoded as the text is."""

    def meant(word: Any) -> Any:
        return _recoded(dataset, word, []) if isinstance(word, str) else word

    return tuple(CodedMeasurement(**{name: meant(value) for name, value in vars(one).items()}) for one in found)
