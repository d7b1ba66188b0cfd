"""The tables of texts in the catalog's database: reports, and the findings that were read out of them.

The images' tables belong to ``volumes.catalog``; ``medvlm.ingest`` joins the two. Nothing here commits: the caller
decides what one transaction is, so that a study and its reports appear together or not at all.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from reports.findings import Finding
from reports.sourced import CodedMeasurement

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS reports (
        report_id TEXT PRIMARY KEY, study_uid TEXT NOT NULL, accession TEXT NOT NULL DEFAULT '', text TEXT NOT NULL,
        findings TEXT NOT NULL DEFAULT '', impression TEXT NOT NULL DEFAULT '', status TEXT NOT NULL DEFAULT '',
        source TEXT NOT NULL DEFAULT '', matched_by TEXT NOT NULL DEFAULT '')""",
    "CREATE UNIQUE INDEX IF NOT EXISTS reports_by_study ON reports (study_uid)",
    """CREATE TABLE IF NOT EXISTS findings (
        report_id TEXT NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL, side TEXT,
        location TEXT, severity TEXT, size_mm REAL, change TEXT, sentence INTEGER, by TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (report_id, position))""",
    "CREATE INDEX IF NOT EXISTS findings_by_name ON findings (name, status)",
    # every version of every report; text is NULL where it is the text of the current report
    """CREATE TABLE IF NOT EXISTS report_versions (
        study_uid TEXT NOT NULL, position INTEGER NOT NULL, role TEXT NOT NULL, status TEXT NOT NULL,
        issued TEXT NOT NULL, text TEXT, accession TEXT NOT NULL, source TEXT NOT NULL, matched_by TEXT NOT NULL,
        certainty REAL NOT NULL, notes TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (study_uid, position))""",
    """CREATE TABLE IF NOT EXISTS report_measurements (
        study_uid TEXT NOT NULL, position INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL,
        value REAL NOT NULL, unit TEXT NOT NULL, finding TEXT NOT NULL, site TEXT NOT NULL, side TEXT NOT NULL,
        derivation TEXT NOT NULL, lesion INTEGER NOT NULL, PRIMARY KEY (study_uid, position, number))""",
)
_REPORT_COLUMNS = "report_id, study_uid, accession, text, findings, impression, status, source, matched_by"
_VERSION_COLUMNS = "role, status, issued, text, accession, source, matched_by, certainty, notes, version"
_MEASUREMENT_COLUMNS = "name, value, unit, finding, site, side, derivation, lesion"
_FINDING_COLUMNS = "name, status, side, location, severity, size_mm, change, sentence, by"


@dataclass(frozen=True)
class ReportRow:
    """One report of one study. ``findings`` and ``impression`` are the texts of these sections.

    ``matched_by`` says how the study was found ("study_uid", "accession", "table row"); ``source`` is a path, which
    may hold a patient's name: it is kept in the database and never printed.
    """

    report_id: str
    study_uid: str
    text: str
    findings: str = ""
    impression: str = ""
    accession: str = ""
    status: str = ""
    source: str = field(default="", repr=False)
    matched_by: str = ""


@dataclass(frozen=True)
class StoredVersion:
    """One version of a study's report: what became of it, and how it was joined to the study.

    `role` is "used" or "appended" for what the current text is made of, else "superseded", "duplicate", "withdrawn"
    (by another version, the "withdrawal") or "conflicting". `matched_by` and `certainty` are those of the match: 1
    divided by the number of studies that the first identifier of the rule left open. `notes` say in words what was
    repaired in the text or did not agree in the match.
    """

    role: str
    status: str
    issued: str = ""
    text: str = ""
    accession: str = ""
    source: str = field(default="", repr=False)
    matched_by: str = ""
    certainty: float = 1.0
    notes: tuple[str, ...] = ()
    version: int = 0
    measurements: tuple[CodedMeasurement, ...] = ()


def report_id(study_uid: str, text: str) -> str:
    """Stable name of a report: 16 hex digits of sha256 over the study and the text."""
    return hashlib.sha256(f"{study_uid}\x1f{text}".encode()).hexdigest()[:16]


class ReportStore:
    """Reports, their versions and findings in an open SQLite connection; creates its tables when they are missing.

    A catalog on a disk that cannot be written, of a version without a history, has none.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        for statement in _SCHEMA:  # not executescript: that would commit the caller's transaction
            try:
                connection.execute(statement)
            except sqlite3.OperationalError as error:
                if "readonly" not in str(error):
                    raise

    def add(self, row: ReportRow, found: Sequence[Finding] = ()) -> None:
        """Add one report with its findings, in the caller's transaction.

        Raises: sqlite3.IntegrityError when the study has another report already: which one counts is the caller's
        decision, and must be written down.
        """
        self.remove(row.report_id)
        self.connection.execute(
            f"INSERT INTO reports ({_REPORT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.report_id,
                row.study_uid,
                row.accession,
                row.text,
                row.findings,
                row.impression,
                row.status,
                row.source,
                row.matched_by,
            ),
        )
        self.connection.executemany(
            f"INSERT INTO findings (report_id, position, {_FINDING_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    row.report_id,
                    n,
                    f.name,
                    f.status,
                    f.side,
                    f.location,
                    f.severity,
                    f.size_mm,
                    f.change,
                    f.sentence,
                    f.by,
                )
                for n, f in enumerate(found)
            ],
        )

    def get(self, study_uid: str) -> ReportRow | None:
        """The report of one study, or None. There is never a second one: see `add`."""
        return next(self._rows("WHERE study_uid = ?", (study_uid,)), None)

    def all(self) -> Iterator[ReportRow]:
        """Every report, ordered by study and report_id."""
        return self._rows("", ())

    def findings(self, report_id: str) -> tuple[Finding, ...]:
        """Findings of one report in the order of the text."""
        cursor = self.connection.execute(
            f"SELECT {_FINDING_COLUMNS} FROM findings WHERE report_id = ? ORDER BY position", (report_id,)
        )
        return tuple(_finding(row) for row in cursor)

    def remove(self, report_id: str) -> None:
        """Remove one report and its findings; nothing happens when it is not there."""
        self.connection.execute("DELETE FROM findings WHERE report_id = ?", (report_id,))
        self.connection.execute("DELETE FROM reports WHERE report_id = ?", (report_id,))

    def history(self, study_uid: str) -> tuple[StoredVersion, ...]:
        """All versions of a study's report in their order (time, then kind), also where none of them stands."""
        measured: dict[int, list[CodedMeasurement]] = {}
        query = (
            f"SELECT position, {_MEASUREMENT_COLUMNS} FROM report_measurements WHERE study_uid = ? ORDER BY 1, number"
        )
        for position, *values in self._select(query, study_uid):
            measured.setdefault(position, []).append(CodedMeasurement(*values))
        now = self.get(study_uid)
        found = []
        query = f"SELECT position, {_VERSION_COLUMNS} FROM report_versions WHERE study_uid = ? ORDER BY position"
        for position, role, status, issued, text, accession, source, by, certainty, notes, version in self._select(
            query, study_uid
        ):
            whole = now.text if text is None and now is not None else text or ""
            numbers = tuple(measured.get(position, ()))
            told = tuple(json.loads(notes))
            found.append(
                StoredVersion(role, status, issued, whole, accession, source, by, certainty, told, version, numbers)
            )
        return tuple(found)

    def measurements(self, study_uid: str) -> tuple[CodedMeasurement, ...]:
        """The numbers that the current report of a study states in coded form."""
        return tuple(
            one
            for version in self.history(study_uid)
            if version.role in ("used", "appended")
            for one in version.measurements
        )

    def set_history(self, study_uid: str, versions: Sequence[StoredVersion]) -> None:
        """Replace what is kept of a study's versions, after its current report was added; the caller commits."""
        self.forget_history(study_uid)
        now = self.get(study_uid)
        marks = ", ".join("?" * 12)
        for position, one in enumerate(versions):
            text = None if now is not None and one.text == now.text else one.text
            values = (one.role, one.status, one.issued, text, one.accession, one.source, one.matched_by, one.certainty)
            told = json.dumps(one.notes, ensure_ascii=False)
            self.connection.execute(
                f"INSERT INTO report_versions (study_uid, position, {_VERSION_COLUMNS}) VALUES ({marks})",
                (study_uid, position, *values, told, one.version),
            )
            self.connection.executemany(
                f"INSERT INTO report_measurements (study_uid, position, number, {_MEASUREMENT_COLUMNS})"
                f" VALUES ({', '.join('?' * 11)})",
                [(study_uid, position, number, *astuple(two)) for number, two in enumerate(one.measurements)],
            )

    def forget_history(self, study_uid: str | None = None) -> None:
        """Drop the versions of one study, or of all."""
        for table in ("report_versions", "report_measurements"):
            if study_uid is None:
                self.connection.execute(f"DELETE FROM {table}")
            else:
                self.connection.execute(f"DELETE FROM {table} WHERE study_uid = ?", (study_uid,))

    def _select(self, query: str, *values: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self.connection.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise

    def counts(self) -> Mapping[str, int]:
        """Number of reports (one per study at most) and of findings."""
        return {
            table: self.connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
            for table in ("reports", "findings")
        }

    def _rows(self, where: str, values: tuple[str, ...]) -> Iterator[ReportRow]:
        cursor = self.connection.execute(
            f"SELECT {_REPORT_COLUMNS} FROM reports {where} ORDER BY study_uid, report_id", values
        )
        for uid, study, accession, text, findings, impression, status, source, matched_by in cursor.fetchall():
            yield ReportRow(uid, study, text, findings, impression, accession, status, source, matched_by)


def _finding(row: Sequence[object]) -> Finding:
    name, status, side, location, severity, size_mm, change, sentence, by = row
    return Finding(
        name=str(name),
        status=status,  # type: ignore[arg-type]  # written by `add`, which takes a Finding
        side=None if side is None else str(side),
        location=None if location is None else str(location),
        severity=None if severity is None else str(severity),
        size_mm=None if size_mm is None else float(str(size_mm)),
        change=None if change is None else str(change),
        sentence=None if sentence is None else int(str(sentence)),
        by=str(by),
    )
