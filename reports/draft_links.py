"""To which patient, order and images a draft belongs, as the images say it. Nothing is made up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.draft import Draft
from reports.render_text import visible

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Links:
    """What joins a message to its study beside the study UID; empty where the images do not say it.

    `patient_id` and `issuer` are those of the DICOM header: a pseudonym if the archive was de-identified. `taken` is
    the date and time of the study in the scanner's local time, whose zone the images seldom state.
    """

    patient_id: str = ""
    issuer: str = ""
    accession: str = ""
    taken: dt.datetime | None = None
    has_time: bool = False


def refuse_other_study(draft: Draft, headers: Sequence[Dataset]) -> None:
    """Raises ValueError when a header is of another study than the draft."""
    others = {str(header.StudyInstanceUID) for header in headers} - {draft.study_uid}
    if others:
        raise ValueError(
            f"headers of study {', '.join(sorted(others))}; expected the study of the draft, {draft.study_uid}"
        )


def links_of(draft: Draft, headers: Sequence[Dataset]) -> Links:
    """Links from the headers of the images; empty ones without headers. Raises: ValueError for another study's."""
    refuse_other_study(draft, headers)
    if not headers:
        return Links()
    first = headers[0]
    taken, has_time = _study_time(str(first.get("StudyDate") or ""), str(first.get("StudyTime") or ""))
    return Links(
        visible(str(first.get("PatientID") or "")).strip(),
        visible(str(first.get("IssuerOfPatientID") or "")).strip(),
        visible(str(first.get("AccessionNumber") or "")).strip(),
        taken,
        has_time,
    )


def _study_time(date: str, time: str) -> tuple[dt.datetime | None, bool]:
    """DICOM DA and TM as a time without a zone, and whether the time of day is known."""
    for text, form, has_time in ((date + time[:6], "%Y%m%d%H%M%S", True), (date, "%Y%m%d", False)):
        try:
            return dt.datetime.strptime(text, form), has_time
        except ValueError:
            continue
    return None, False
