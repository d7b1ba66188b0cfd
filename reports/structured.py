"""Reading the text of DICOM Structured Reports (Basic Text, Enhanced, Comprehensive): PS3.3 A.35, C.17.3."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from reports.sourced import ReportStatus, SourcedReport, comparable_time, joined, refuse, without_name
from volumes.instance import Refusal, patient_key

MAX_DEPTH = 32
"""Levels of nested content; a file that nests deeper is broken or hostile."""


def is_dicom(data: bytes) -> bool:
    """Whether the bytes start like a DICOM file (PS3.10: "DICM" after a preamble of 128 bytes)."""
    return data[128:132] == b"DICM"


def read_structured(data: bytes, source: str) -> Iterator[SourcedReport | Refusal]:
    """The report in one DICOM SR file; concept names become headings, numbers keep their unit."""
    try:
        sr = pydicom.dcmread(io.BytesIO(data))
        yield _read(sr, source)
    except (InvalidDicomError, OSError, ValueError, TypeError, AttributeError, KeyError, EOFError) as error:
        yield refuse(source, "damaged-dicom", f"DICOM that cannot be read ({type(error).__name__}: {error})",
                     "a DICOM SR", "Export the report again.")  # fmt: skip


def _read(sr: Dataset, source: str) -> SourcedReport | Refusal:
    if sr.get("Modality") != "SR" or "ContentSequence" not in sr:
        found = f"DICOM of modality {sr.get('Modality', '') or 'nothing'}"
        advice = "Images belong to the archive, not to the reports."
        return refuse(source, "not-a-report", found, "modality SR with a content sequence", advice)
    sections = [(heading, "\n".join(lines)) for heading, lines in _sections(sr, "", 0)]
    name = sr.get("PatientName", "")
    text, replaced = without_name(
        joined(sections), str(getattr(name, "family_name", "")), str(getattr(name, "given_name", ""))
    )
    if not text:
        return refuse(source, "empty-report", "no TEXT, CODE or NUM item with a value", "text", "Export it again.")
    accession, study_uid = str(sr.get("AccessionNumber", "") or ""), str(sr.get("StudyInstanceUID", "") or "")
    if not accession and not study_uid:
        return refuse(
            source, "no-link", "neither AccessionNumber nor StudyInstanceUID", "one of them", "Export it again."
        )
    notes = [f"the patient's name was replaced {replaced} time(s)"] if replaced else []
    if "SpecificCharacterSet" not in sr and not text.isascii():
        notes.append("no SpecificCharacterSet, although the text is not ASCII; read as ISO 8859-1")
    partial = sr.get("CompletionFlag") == "PARTIAL" or sr.get("PreliminaryFlag") == "PRELIMINARY"
    status: ReportStatus = "preliminary" if partial else "final"
    date, time = str(sr.get("ContentDate", "") or ""), str(sr.get("ContentTime", "") or "")[:6]
    key = patient_key(str(sr.PatientID)) if sr.get("PatientID") else None
    issued = comparable_time(f"{date}T{time}") if time else comparable_time(date)
    return SourcedReport(text, accession, study_uid, key, status, source, issued, notes=tuple(notes))


def _sections(item: Dataset, heading: str, depth: int) -> list[tuple[str, list[str]]]:
    """(heading, lines) in reading order; a container names the section of the items in it."""
    if depth > MAX_DEPTH:
        raise ValueError(f"content nested deeper than {MAX_DEPTH} levels")
    found: list[tuple[str, list[str]]] = []
    for child in item.get("ContentSequence", []):
        if child.get("RelationshipType") not in {None, "CONTAINS", "HAS PROPERTIES", "INFERRED FROM"}:
            continue  # observers, languages and the like: context, not findings; may hold names
        concept = _meaning(child, "ConceptNameCodeSequence")
        kind = child.get("ValueType")
        if kind == "CONTAINER":
            found += _sections(child, concept or heading, depth + 1)
            continue
        line = _value(child, str(kind or ""))
        if line:
            title = concept if kind == "TEXT" and not heading else heading
            if kind in {"CODE", "NUM"} and concept:
                line = f"{concept}: {line}"
            if found and found[-1][0] == title:
                found[-1][1].append(line)
            else:
                found.append((title, [line]))
        found += _sections(child, heading, depth + 1)
    return found


def _value(item: Dataset, kind: str) -> str:
    if kind == "TEXT":
        return re.sub(r"<br\s*/?>", "\n", str(item.get("TextValue", "") or "")).strip()  # some systems write HTML
    if kind == "CODE":
        return _meaning(item, "ConceptCodeSequence")
    if kind == "NUM":
        measured = item.get("MeasuredValueSequence") or []
        if measured:
            unit = measured[0].get("MeasurementUnitsCodeSequence") or []
            return f"{measured[0].get('NumericValue', '')} {unit[0].get('CodeValue', '') if unit else ''}".strip()
    return ""


def _meaning(item: Dataset, keyword: str) -> str:
    codes = item.get(keyword) or []
    return str(codes[0].get("CodeMeaning", "") or "") if codes else ""
