"""The tables of texts in the catalog's database: reports, and the findings that were read out of them.

The images' tables belong to ``volumes.catalog``; ``medvlm.ingest`` joins the two. Nothing here commits: the caller
decides what one transaction is, so that a study and its reports appear together or not at all.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reports.findings import Finding

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
)
_REPORT_COLUMNS = "report_id, study_uid, accession, text, findings, impression, status, source, matched_by"
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


def report_id(study_uid: str, text: str) -> str:
    """Stable name of a report: 16 hex digits of sha256 over the study and the text."""
    return hashlib.sha256(f"{study_uid}\x1f{text}".encode()).hexdigest()[:16]


class ReportStore:
    """Reports and findings in an open SQLite connection; creates its two tables when they are missing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        for statement in _SCHEMA:  # not executescript: that would commit the caller's transaction
            connection.execute(statement)

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
