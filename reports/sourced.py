"""What every report reader gives: a report that can be joined to its study, or a refusal in words."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from volumes.instance import Refusal

ReportStatus = Literal["preliminary", "final", "corrected", "cancelled"]


@dataclass(frozen=True)
class SourcedReport:
    """One report and what joins it to an image: accession number, study UID, or the image file of a table row.

    `patient_key` is the pseudonym of `volumes.archive.patient_key`. `issued` is ISO 8601, comparable as text, empty
    when the source does not say. `source` is a location that may hold a patient's name: never printed. `notes` are the
    liberties taken while reading, in words.
    """

    text: str
    accession: str = ""
    study_uid: str = ""
    patient_key: str | None = None
    status: ReportStatus = "final"
    source: str = field(default="", repr=False)
    issued: str = ""
    image: str = ""
    split: str = ""
    view: str = ""
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What makes two reports revisions of one: the accession number, else the study UID, else nothing."""
        return self.accession or self.study_uid


def refuse(where: str, reason: str, found: str, expected: str, advice: str) -> Refusal:
    """A refusal whose message says what was found, what was expected and what to do. `where` stays out of the text."""
    return Refusal(where, reason, f"found {found}; expected {expected}. {advice}")


def comparable_time(stamp: str) -> str:
    """ISO 8601 to the second that sorts as text, in UTC where a zone is given; empty when `stamp` is not a time."""
    try:
        when = dt.datetime.fromisoformat(stamp)
    except ValueError:
        return ""
    if when.tzinfo is not None:
        when = when.astimezone(dt.UTC).replace(tzinfo=None)
    return when.isoformat(timespec="seconds")


def tidy(text: str) -> str:
    """Line ends as newlines, no trailing blanks, no blank lines at the ends and no more than one between lines."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def joined(sections: Sequence[tuple[str, str]]) -> str:
    """Sections as one text, each under its heading; a section without a heading stands alone."""
    parts = [f"{heading.upper()}: {body.strip()}" if heading else body.strip() for heading, body in sections]
    return tidy("\n\n".join(part for part in parts if part))


def without_name(text: str, family: str, given: str) -> tuple[str, int]:
    """The text with the patient's name replaced by [name], and how many times.

    Only the full name or a title before the family name is replaced: many family names are words of a report.
    """
    family, given = family.strip(), given.strip()
    if len(family) < 2:
        return text, 0
    last = re.escape(family)
    patterns = [rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Herr|Frau|Mme|M)\.?\s+{last}\b"]
    if given:
        first = re.escape(given.split()[0])
        patterns = [rf"\b{last}\s*[,^]\s*{first}\b", rf"\b{first}\s+(?:\w+\.?\s+)?{last}\b", *patterns]
    return re.subn("|".join(patterns), "[name]", text, flags=re.IGNORECASE)
