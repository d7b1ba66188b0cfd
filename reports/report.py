"""A report as it is kept: its text, its sections, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass

from reports.sections import sentences, split_sections


@dataclass(frozen=True)
class Report:
    """One report. `source` says how it arrived ("hl7", "fhir", "csv", ...), never a patient or a path."""

    text: str
    sections: dict[str, str]
    study_uid: str = ""
    accession: str = ""
    source: str = ""

    @classmethod
    def parse(cls, text: str, study_uid: str = "", accession: str = "", source: str = "") -> Report:
        """Split `text` into its sections (see `reports.sections.split_sections`)."""
        return cls(text, split_sections(text), study_uid, accession, source)

    @property
    def sentences(self) -> list[str]:
        """All sentences in the order of the text; the index is `Finding.sentence`."""
        return sentences(self.text)
