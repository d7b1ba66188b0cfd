"""What is known of one file of an archive: its header, or why it was not taken. No pixels, no patient name."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Literal

Format = Literal["dicom", "nifti", "nrrd", "metaimage", "picture"]


@dataclass(frozen=True)
class Refusal:
    """What was not taken (`refusal`) or taken with a change (`repair`), where, and why, for machines and people."""

    where: str = field(repr=False)  # a location; may hold a patient's name, so it is kept out of logs
    reason: str
    message: str
    kind: Literal["refusal", "repair"] = "refusal"


@dataclass(frozen=True)
class InstanceHeader:
    """What is known of one image file without its pixels. Empty text, None or 0 mean that the file does not say."""

    path: str = field(repr=False)
    format: Format
    study_uid: str
    series_uid: str
    sop_uid: str
    patient_key: str
    modality: str
    sop_class: str = ""
    accession: str = ""
    date: str = ""  # YYYYMMDD
    body_part: str = ""
    description: str = ""
    view_position: str = ""
    view_code: str = ""
    patient_orientation: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    transfer_syntax: str = ""
    rows: int = 0
    columns: int = 0
    frames: int = 1
    position: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    pixel_spacing: tuple[float, ...] = ()
    instance_number: int | None = None
    acquisition: str = ""
    time_point: str = ""
    echo: str = ""
    b_value: str = ""
    direction: str = ""  # of the diffusion gradient
    inversion: str = ""  # inversion time, ms
    phase: str = ""  # percent of the cardiac cycle, else trigger time in ms, else the time of a PET frame in ms
    acquired: str = ""  # when: YYYYMMDDHHMMSS.ffffff, or as much of it as the file says
    photometric: str = ""
    concatenation: str = ""  # UID shared by the files into which one multi-frame image was cut
    concatenation_number: int | None = None
    concatenation_total: int | None = None
    stacks: tuple[str, ...] = ()  # of a multi-frame file that holds several images: the frames of each, from 0
    frame_of_reference: str = ""
    simulated: bool = False  # the file itself says that no patient was imaged (Image Comments begin with SIMULATED)
    sex_digest: str = ""  # four hex digits keyed by the PatientID: enough to see that two files disagree, no more
    birth_digest: str = ""  # the same of the birth date
    study_series: int | None = None  # how many series the study should have, as the file says (0020,1206)
    study_instances: int | None = None  # (0020,1208)
    series_instances: int | None = None  # (0020,1209)
    references: tuple[str, ...] = ()  # series that a report, mask or contour speaks of; empty for images
    size: int = 0
    mtime: float = 0.0
    sha256: str = ""  # of the file; empty when the archive was walked without digests
    pixel_sha256: str = ""  # of the encoded pixel data, to find one image under two names
    notes: tuple[str, ...] = ()


def patient_key(patient_id: str) -> str:
    """Pseudonym of a patient: the first 12 hex digits of sha256 of the PatientID, the same at every ingest.

    Whoever can list all possible IDs can find the one behind a key: a catalog stays as confidential as its archive.
    """
    return hashlib.sha256(patient_id.strip().encode()).hexdigest()[:12]


def conflict_digest(patient_id: str, value: str) -> str:
    """Four hex digits of HMAC-SHA256(PatientID, value): tells that two values differ (once in 65536 it does not), and
    is too short to find the value behind it. Empty for an empty value.
    """
    if not value:
        return ""
    return hmac.new(patient_id.encode(), value.strip().upper().encode(), hashlib.sha256).hexdigest()[:4]


def derived_uid(*parts: str | bytes) -> str:
    """A UID under 2.25 made from content, for files that bring none: the same content gives the same UID."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return f"2.25.{int.from_bytes(digest.digest()[:16], 'big')}"
