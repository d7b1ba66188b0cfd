"""What every report reader gives: a report that can be joined to its study, or a refusal in words."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from volumes.instance import Refusal, patient_key

ReportStatus = Literal["preliminary", "final", "corrected", "addendum", "cancelled"]
"""`corrected` replaces what was issued before it, `addendum` is added to it, `cancelled` withdraws it."""

MAX_CHARACTERS = 1_000_000
"""Longest text that is taken for a report: about five hundred pages. What is longer is another kind of file."""


@dataclass(frozen=True)
class CodedMeasurement:
    """One number that a structured report states with its unit (PS3.16 TID 1500, C-CDA Quantity Measurement).

    `unit` is a UCUM code ("mm", "cm3", "[hnsf'U]"), empty for a pure number. `derivation` is "Mean", "Maximum" and
    so on. `group` numbers the lesion or region that several numbers belong to, from 1; 0 for none.
    """

    name: str
    value: float
    unit: str = ""
    finding: str = ""
    site: str = ""
    side: str = ""
    derivation: str = ""
    group: int = 0


@dataclass(frozen=True)
class SourcedReport:
    """One version of one report, and what joins it to an image.

    That is a study UID, an accession number or the image file of a table row; else patient, modality and time.
    `patient_key` is the pseudonym of `volumes.instance.patient_key`, `other_keys` those of further identifiers of the
    same person. `issued` (of this version) and `performed` (of the examination) are ISO 8601, comparable as text,
    empty when the source does not say. `modality` is a DICOM code. `version` is the source's own number, 0 for none.
    `source` is a location that may hold a patient's name: never printed. `notes` are the liberties taken while
    reading, in words.
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
    other_keys: tuple[str, ...] = ()
    modality: str = ""
    performed: str = ""
    version: int = 0
    measurements: tuple[CodedMeasurement, ...] = ()

    @property
    def key(self) -> str:
        """What makes two reports revisions of one: the accession number, else the study UID, else nothing."""
        return self.accession or self.study_uid

    @property
    def can_be_placed(self) -> bool:
        """Whether anything here could join it to a study."""
        by_patient = self.patient_key and self.modality and (self.performed or self.issued)
        return bool(self.accession or self.study_uid or self.image or by_patient)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `from_json` undoes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SourcedReport:
        """The report that `to_json` wrote, also of a version of this class with fewer fields."""
        lists = {name: tuple(stored[name]) for name in ("notes", "other_keys") if name in stored}
        measured = tuple(CodedMeasurement(**one) for one in stored.get("measurements", ()))
        return cls(**{**stored, **lists, "measurements": measured})


class ReportError(ValueError):
    """A report cannot be read. Carries what a refusal needs."""

    def __init__(self, reason: str, found: str, expected: str, advice: str) -> None:
        super().__init__(f"found {found}; expected {expected}. {advice}")
        self.reason = reason

    def refusal(self, where: str) -> Refusal:
        """What the catalog keeps of it."""
        return Refusal(where, self.reason, str(self))


def pseudonyms(identities: Iterable[str]) -> tuple[str, ...]:
    """Pseudonyms of a person's identifiers in their order, each once; what no system could have issued is left out."""
    good = (one.strip() for one in identities if len(one) <= 256 and not re.search(r"[\ud800-\udfff\x00]", one))
    return tuple(dict.fromkeys(patient_key(one) for one in good if one))


def quoted(value: object) -> str:
    """What was found, for a message: at most 40 characters of it."""
    text = str(value)
    return repr(text if len(text) <= 40 else text[:40] + "…")


def refuse(where: str, reason: str, found: str, expected: str, advice: str) -> Refusal:
    """A refusal whose message says what was found, what was expected and what to do. `where` stays out of the text."""
    return Refusal(where, reason, f"found {found}; expected {expected}. {advice}")


def comparable_time(stamp: str) -> str:
    """ISO 8601 to the second that sorts as text, in UTC where a zone is given; empty when `stamp` is not a time."""
    try:
        when = dt.datetime.fromisoformat(stamp)
        if when.tzinfo is not None:
            when = when.astimezone(dt.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return ""
    return when.isoformat(timespec="seconds")


def compact_time(stamp: str) -> str:
    """The time YYYY[MM[DD[HH[MM[SS[.S]]]]]][+ZZZZ] of HL7 and DICOM as `comparable_time` gives it.

    Empty without a day: "some time in 2024" orders nothing.
    """
    match = re.match(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(?:(\d\d)(\d\d)?)?)?(?:\.\d{1,9})?([+-]\d{4})?", stamp.strip()[:40])
    if match is None:
        return ""
    year, month, day, hour, minute, second, zone = match.groups(default="00")
    offset = f"{zone[:3]}:{zone[3:]}" if len(zone) == 5 else ""
    return comparable_time(f"{year}-{month}-{day}T{hour}:{minute}:{second}{offset}")


def check_length(text: str) -> str:
    """The text itself. Raises ReportError ("too-long") when no report is that long."""
    if len(text) > MAX_CHARACTERS:
        raise ReportError(
            "too-long", f"a text of {len(text)} characters", f"at most {MAX_CHARACTERS}",
            "This is no report of one study; split the file into its reports.",
        )  # fmt: skip
    return text


def tidy(text: str) -> str:
    """Line ends as newlines, no trailing blanks, no blank lines at the ends and no more than one between lines.

    Raises: ReportError ("too-long").
    """
    check_length(text)
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
    if not 2 <= len(family) <= 64 or len(given) > 256:  # no name
        return text, 0
    last = re.escape(family)
    patterns = [rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Herr|Frau|Mme|M)\.?\s+{last}\b"]
    if given:
        first = re.escape(given.split()[0])
        patterns = [rf"\b{last}\s*[,^]\s*{first}\b", rf"\b{first}\s+(?:\w+\.?\s+)?{last}\b", *patterns]
    return re.subn("|".join(patterns), "[name]", text, flags=re.IGNORECASE)
