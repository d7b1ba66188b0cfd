"""Reports cleaned with the key of their images: who a report is about is looked up in the headers of the archive.

A table of reports rarely says who the patient is, and never how far his dates move. The archive does: its headers join
study UID, accession number and patient ID, and name the people whom the text may name. So the dates of a report move by
the same days as those of its study, and its identifiers become those of the cleaned copy.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from reports.deidentify import TextDeidentifier
from reports.sourced import CodedMeasurement, SourcedReport
from volumes.archive import ZIP_MARK, locations, read_bytes
from volumes.deidentify_keys import moved_date, shift_date
from volumes.deidentify_text import Identifiers, identifiers_of
from volumes.errors import VolumeError
from volumes.instance import Refusal, patient_key

_KEPT = frozenset({"status", "split", "view", "modality", "version"})
_CHANGED = frozenset(
    {"text", "accession", "study_uid", "patient_key", "source", "issued", "image", "notes", "other_keys", "performed",
     "measurements"}
)  # fmt: skip
_HEADER_TAGS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"]
_TOLD = "details are left out, since they may name the patient; ingest without --deidentify tells them"


@dataclass(frozen=True)
class Subject:
    """Whom a study is about, as its headers say."""

    patient: str = field(repr=False)  # see `volumes.deidentify_dataset.patient_of`
    patient_id: str = field(repr=False)
    words: frozenset[str] = field(default=frozenset(), repr=False)
    day: dt.date | None = field(default=None, repr=False)


@dataclass
class Subjects:
    """The people of an archive, found by what reports name: study UID, accession number, pseudonym of the patient."""

    by_study: dict[str, Subject] = field(default_factory=dict, repr=False)
    by_accession: dict[str, list[Subject]] = field(default_factory=dict, repr=False)
    by_patient: dict[str, Subject] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, archives: Iterable[Path | str]) -> Subjects:
        """Read the headers of an archive: whole for one file of every series, in part for the others."""
        found = cls()
        seen: set[str] = set()
        for location in locations(archives):
            if not isinstance(location, Refusal):
                header = _header(location, seen)
                if header is not None:
                    found.add(header)
        return found

    def add(self, header: Any) -> None:
        """Take what one header says."""
        from volumes.deidentify_dataset import identifiers_in, patient_of
        from volumes.deidentify_profile import Profile

        study, accession = _plain(header, "StudyInstanceUID"), _plain(header, "AccessionNumber")
        patient, patient_id = patient_of(header), _plain(header, "PatientID")
        before = self.by_study.get(study)
        words = frozenset(identifiers_in(header, Profile()).names) | (before.words if before else frozenset())
        one = Subject(patient, patient_id, words, _day(_plain(header, "StudyDate")))
        self.by_study[study] = one
        if accession:
            others = [s for s in self.by_accession.get(accession, []) if s.patient != patient]
            self.by_accession[accession] = [*others, one]
        if patient_id:
            known = self.by_patient.get(patient_key(patient_id))
            self.by_patient[patient_key(patient_id)] = replace(
                one, words=words | (known.words if known else frozenset())
            )

    def find(self, report: SourcedReport) -> Subject | None:
        """Whom a report is about; None when the archive does not say, or names two."""
        if report.study_uid in self.by_study:
            return self.by_study[report.study_uid]
        of_accession = self.by_accession.get(report.accession, []) if report.accession else []
        if len(of_accession) == 1:
            return of_accession[0]
        keys = [key for key in (report.patient_key, *report.other_keys) if key in self.by_patient]
        return self.by_patient[keys[0]] if keys and keys[0] else None

    def digest(self) -> str:
        """Changes when the archive names other studies or people."""
        lines = sorted(f"{uid}\x1f{s.patient}\x1f{s.day}\x1f{sorted(s.words)}" for uid, s in self.by_study.items())
        return hashlib.sha256("\x1e".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass
class ReportCleaner:
    """Cleans what `reports.sources.read_reports` gives. `counts` sums up what was replaced; no value is kept."""

    text: TextDeidentifier
    subjects: Subjects
    need_study: bool = True  # refuse what belongs to no study of the archive
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def mark(self) -> str:
        """Tells runs with another key, other options or another archive apart; gives nothing of the key away."""
        options = f"{self.text.dates} {self.text.style} {self.text.day_first} {self.need_study}"
        return f"{self.text.pseudonyms.fingerprint()} {options} {self.subjects.digest()}"

    def place(self, location: Path | str) -> str:
        """What stands for a location, whose folders and names can hold a patient's."""
        return f"report-{self.text.pseudonyms.digest('input', str(location)).hex()[:24]}"

    def all(self, found: Iterable[SourcedReport | Refusal]) -> Iterator[SourcedReport | Refusal]:
        """Clean every report; what cannot be cleaned becomes a refusal without its text."""
        for one in found:
            yield self.report(one) if isinstance(one, SourcedReport) else self.refusal(one)

    def refusal(self, refusal: Refusal) -> Refusal:
        """A refusal that says its reason and no more."""
        self.counts["refused"] += 1
        return Refusal(self.place(refusal.where), refusal.reason, f"{refusal.reason}: {_TOLD}", refusal.kind)

    def report(self, report: SourcedReport) -> SourcedReport | Refusal:
        """A report of the cleaned copy."""
        subject = self.subjects.find(report)
        where = self.place(report.source)
        if subject is None and self.need_study:
            self.counts["refused"] += 1
            message = (
                "the archive has no study with the report's identifiers, or several of different patients, so nobody"
                " knows how far its dates move. Give its archive in the same call"
            )
            return Refusal(where, "no-study", message)
        if subject is None:
            named = report.patient_key or report.study_uid or report.accession or report.source
            subject = Subject(named, "")
        try:
            cleaned = self._cleaned(report, subject, where)
        except VolumeError as error:
            self.counts["refused"] += 1
            return Refusal(where, error.reason, str(error))
        self.counts["reports"] += 1
        return cleaned

    def _cleaned(self, report: SourcedReport, subject: Subject, where: str) -> SourcedReport:
        _check_fields()
        pseudonyms = self.text.pseudonyms
        known = Identifiers()
        for word in (*subject.words, report.accession):
            known.add(word)
        cleaned = self.text.clean(report.text, subject.patient, known, subject.day)
        self.counts.update(cleaned.counts())
        key = patient_key(pseudonyms.identifier("patient", subject.patient)) if subject.patient_id else None
        if key is None and report.patient_key:
            key = patient_key(pseudonyms.identifier("patient", report.patient_key))
        return replace(
            report,
            text=cleaned.text,
            accession=pseudonyms.identifier("accession", report.accession),
            study_uid=pseudonyms.uid(report.study_uid),
            patient_key=key,
            other_keys=(),
            source=where,
            image="",
            issued=self._moved(report.issued, subject),
            performed=self._moved(report.performed, subject),
            split=self._short(report.split),
            view=self._short(report.view),
            notes=tuple(self._words(note, subject, known) for note in report.notes),
            measurements=tuple(self._measurement(m, subject, known) for m in report.measurements),
        )

    def _moved(self, stamp: str, subject: Subject) -> str:
        """ISO 8601 with its day moved; empty where dates do not stay."""
        if self.text.dates == "keep" or not stamp:
            return stamp
        parts = stamp[:10].split("-")
        if self.text.dates == "remove" or len(parts) != 3:
            return ""
        day = moved_date(parts[0], parts[1], parts[2], self.text.shift(subject.patient))
        return "" if day is None else f"{day:%Y-%m-%d}".zfill(10) + stamp[10:]

    def _short(self, value: str) -> str:
        """Names of splits and views are words; anything longer could be more."""
        return value if len(value) <= 16 and value.replace(" ", "").isalpha() else ""

    def _words(self, text: str, subject: Subject, known: Identifiers) -> str:
        return self.text.clean(text, subject.patient, known, subject.day).text if text else ""

    def _measurement(self, one: CodedMeasurement, subject: Subject, known: Identifiers) -> CodedMeasurement:
        def words(text: str) -> str:
            return self._words(text, subject, known)

        told = (words(one.name), words(one.finding), words(one.site), words(one.derivation))
        return replace(one, name=told[0], finding=told[1], site=told[2], derivation=told[3])


def _check_fields() -> None:
    """A field that was added to reports and has no rule here would leave with them. Raises VolumeError."""
    without = {f.name for f in fields(SourcedReport)} - _KEPT - _CHANGED
    if without:
        raise VolumeError(f"fields of a report without a rule: {', '.join(sorted(without))}; add one", "no-rule")


def _header(location: str, seen: set[str]) -> Any | None:
    """The header of one file where its series is new; None for others, and for what is no DICOM."""
    from volumes.header import open_dataset

    try:
        if ZIP_MARK in location:
            stream: Any = io.BytesIO(read_bytes(location))
            header = open_dataset(stream, stop_before_pixels=True)
            return header if _is_new(header, seen) else None
        with Path(location).open("rb") as stream:
            if not _is_new(open_dataset(stream, stop_before_pixels=True, specific_tags=_HEADER_TAGS), seen):
                return None
            stream.seek(0)
            return open_dataset(stream, stop_before_pixels=True)
    except (VolumeError, OSError):
        return None  # the cleaning of the archive says why


def _is_new(header: Any, seen: set[str]) -> bool:
    series = f"{_plain(header, 'StudyInstanceUID')} {_plain(header, 'SeriesInstanceUID')}"
    new = series not in seen
    seen.add(series)
    return new


def _plain(header: Any, name: str) -> str:
    try:
        value = header.get(name)
    except Exception:  # a damaged value fails with any error
        return ""
    return "" if value is None else str(value).strip("\0 ")


def _day(value: str) -> dt.date | None:
    moved = shift_date(value, dt.timedelta())
    return dt.date(int(moved[:4]), int(moved[4:6]), int(moved[6:8])) if moved else None


def known_words(values: Sequence[str]) -> Identifiers:
    """Identifiers from the cells of a row that name somebody."""
    return identifiers_of(value for value in values if value)
