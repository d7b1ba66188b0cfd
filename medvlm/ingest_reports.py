"""Third stage of ingest: read the reports and join each to its study, or say why not. Nothing is picked silently.

How a study is found is said in `medvlm.report_matching`, and which of several versions counts in `reports.versions`. A
study has one current report at most; every version that was joined to it stays in its history, with its status, its
times, and the rule and certainty of its match.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from medvlm.report_matching import Match
from medvlm.report_matching import match as _match
from reports.findings import find
from reports.sections import split_sections
from reports.sourced import SourcedReport
from reports.sources import read_reports
from reports.store import ReportRow, ReportStore, StoredVersion, report_id
from reports.tables import Columns
from reports.versions import Current, remarks, settle
from volumes.catalog import Catalog
from volumes.instance import Refusal

if TYPE_CHECKING:
    from medvlm.report_cleaning import ReportCleaner

FORMAT = "2"  # raise it when reports are read or labelled in another way: then all are read again
REFUSED = "reports refused"  # how many report versions and files of reports were, in the state of the catalog
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS ingest_sources(source TEXT PRIMARY KEY, fingerprint TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS ingest_reports(
        source TEXT NOT NULL, place INTEGER NOT NULL, is_report INTEGER NOT NULL, content TEXT NOT NULL,
        PRIMARY KEY(source, place))""",
)
_PASSING = (  # filled and read within one call
    """CREATE TEMP TABLE IF NOT EXISTS matches(
        study_uid TEXT NOT NULL, number INTEGER PRIMARY KEY, source TEXT NOT NULL, place INTEGER NOT NULL,
        match TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS temp.matches_by_study ON matches(study_uid, number)",
    "CREATE TEMP TABLE IF NOT EXISTS settled(study_uid TEXT PRIMARY KEY, report_id TEXT NOT NULL) WITHOUT ROWID",
)
_OF_STUDIES = """
    SELECT m.study_uid, m.match, r.content FROM matches m JOIN ingest_reports r USING(source, place)
    WHERE m.study_uid > ? AND m.study_uid <= ? ORDER BY m.study_uid, m.number"""
_BATCH = 100  # studies per transaction; understanding a text takes milliseconds


@dataclass
class ReportCounts:
    """How many reports the sources hold, how many studies have one now, and how many reports were refused."""

    read: int = 0
    matched: int = 0
    refused: int = 0


@dataclass(frozen=True)
class _Joined:
    """The versions of one study's report, and the match of each."""

    study_uid: str
    current: Current
    matches: dict[int, Match]  # by the identity of the version's report

    def row(self) -> ReportRow | None:
        """The report that stands now."""
        if self.current.report is None:
            return None
        used = next(v.report for v in self.current.versions if v.role == "used")
        return _report_row(self.study_uid, self.current.report, self.matches[id(used)].by)

    def history(self) -> tuple[StoredVersion, ...]:
        """Every version, as the store keeps it."""
        found = []
        for version in self.current.versions:
            report, match = version.report, self.matches[id(version.report)]
            stored = StoredVersion(
                version.role,
                report.status,
                report.issued,
                report.text,
                report.accession,
                report.source,
                match.by,
                match.certainty,
                (*match.notes, *report.notes),
                report.version,
                report.measurements,
            )
            found.append(stored)
        return tuple(found)


def create_tables(catalog: Catalog) -> None:
    """Make the tables of this stage; forget everything when they were written by another version."""
    for statement in _SCHEMA:
        catalog.connection.execute(statement)
    store = ReportStore(catalog.connection)
    with catalog.transaction() as db:
        row = db.execute("SELECT value FROM ingest_state WHERE key = 'report format'").fetchone()
        if row is None or row[0] != FORMAT:
            db.execute("DELETE FROM ingest_sources")
            for report in list(store.all()):
                store.remove(report.report_id)
            store.forget_history()
            db.execute("INSERT OR REPLACE INTO ingest_state VALUES ('report format', ?)", (FORMAT,))


def read_sources(
    catalog: Catalog, paths: Sequence[Path], columns: Columns | None, cleaner: ReportCleaner | None = None
) -> None:
    """Keep what the paths hold. They are read again when a file below them has changed since the last call.

    Versions of one report may lie in several files, so a changed file means that all of them are read. With a
    `cleaner` nothing is kept but what it gives, not even where the reports lay.
    """
    if not paths:
        return
    names = sorted(cleaner.place(path) if cleaner else str(path) for path in paths)
    now = fingerprint(paths, columns) + (f" {cleaner.mark}" if cleaner else "")
    source = json.dumps(names)
    if is_kept(catalog, source, now):
        return
    found = tqdm(read_reports(paths, columns), desc="read reports", unit="report", disable=None)
    keep_source(catalog, source, cleaner.all(found) if cleaner else found, now)
    with catalog.transaction() as db:  # an earlier call with fewer paths is part of this one
        for (other,) in db.execute("SELECT source FROM ingest_sources WHERE source LIKE '[%'").fetchall():
            if other != source and set(json.loads(other)) <= set(names):
                _drop(db, other)


def is_kept(catalog: Catalog, source: str, fingerprint: str) -> bool:
    """Whether a source was read when it was as it is now."""
    query = "SELECT 1 FROM ingest_sources WHERE source = ? AND fingerprint = ?"
    return catalog.connection.execute(query, (source, fingerprint)).fetchone() is not None


def keep_source(catalog: Catalog, source: str, found: Iterable[SourcedReport | Refusal], fingerprint: str = "") -> None:
    """Replace what one source holds, in one transaction."""
    with catalog.transaction() as db:
        catalog.forget_conclusion()
        _drop(db, source)
        db.executemany(
            "INSERT INTO ingest_reports VALUES (?, ?, ?, ?)",
            (
                (source, place, isinstance(one, SourcedReport), json.dumps(asdict(one)))
                for place, one in enumerate(found)
            ),
        )
        db.execute("INSERT INTO ingest_sources VALUES (?, ?)", (source, fingerprint))


def join_reports(catalog: Catalog, first: Iterable[Refusal] = ()) -> ReportCounts:
    """Give every study its report, and write the refusals that belong to no study: `first`, then those of reports.

    Goes through the reports twice, so that a few studies' reports are in memory at a time and not those of all.
    """
    db, counts = catalog.connection, ReportCounts()
    with catalog.transaction():
        db.execute("DELETE FROM refusals WHERE study_uid = ''")
        for refusal in first:
            catalog.add_refusal(refusal)
        _match_all(catalog, counts)
        db.execute("DELETE FROM settled")
        for joined in _joined(db, "", "\U0010ffff"):
            for refusal in remarks(joined.current, f"study {joined.study_uid}"):
                _refuse(catalog, refusal, counts)
            text = joined.current.report
            key = "" if text is None else report_id(joined.study_uid, text.text)
            db.execute("INSERT INTO settled VALUES (?, ?)", (joined.study_uid, key))
            counts.matched += text is not None
        db.execute("INSERT OR REPLACE INTO ingest_state VALUES (?, ?)", (REFUSED, str(counts.refused)))
    _write(catalog)
    return counts


def _refuse(catalog: Catalog, refusal: Refusal, counts: ReportCounts) -> None:
    counts.refused += refusal.kind == "refusal"
    catalog.add_refusal(refusal)


def _match_all(catalog: Catalog, counts: ReportCounts) -> None:
    """Find the study of every report; those that have none become refusals at once."""
    db = catalog.connection
    for statement in _PASSING:
        db.execute(statement)
    db.execute("DELETE FROM matches")
    for number, (source, place, one) in enumerate(_kept(db)):
        if isinstance(one, Refusal):
            _refuse(catalog, one, counts)
            continue
        counts.read += 1
        for note in one.notes:
            catalog.add_refusal(Refusal(one.source, "repaired-report", note, "repair"))
        match = _match(db, one)
        if isinstance(match, Refusal):
            _refuse(catalog, match, counts)
        else:
            told = json.dumps(asdict(match))
            db.execute("INSERT INTO matches VALUES (?, ?, ?, ?, ?)", (match.study_uid, number, source, place, told))


def _joined(db: sqlite3.Connection, after: str, until: str) -> Iterator[_Joined]:
    """Studies after one UID up to another with all their reports, settled."""
    for study_uid, rows in groupby(db.execute(_OF_STUDIES, (after, until)), key=itemgetter(0)):
        reports: list[SourcedReport] = []
        matches: dict[int, Match] = {}
        for _, told, content in rows:
            report, stored = _report(content), json.loads(told)
            reports.append(report)
            matches[id(report)] = Match(**{**stored, "notes": tuple(stored["notes"])})
        yield _Joined(study_uid, settle(reports), matches)


def _drop(db: sqlite3.Connection, source: str) -> None:
    for table in ("ingest_reports", "ingest_sources"):
        db.execute(f"DELETE FROM {table} WHERE source = ?", (source,))


def _kept(db: sqlite3.Connection) -> Iterator[tuple[str, int, SourcedReport | Refusal]]:
    """Every kept report or refusal, with where it is kept."""
    query = "SELECT source, place, is_report, content FROM ingest_reports ORDER BY source, place"
    for source, place, is_report, content in db.execute(query):
        yield source, place, _report(content) if is_report else Refusal(**json.loads(content))


def _report(content: str) -> SourcedReport:
    return SourcedReport.from_json(json.loads(content))


def fingerprint(paths: Sequence[Path], columns: Columns | None) -> str:
    """Digest of path, size and time of every file below the paths."""
    digest = hashlib.sha256(repr((FORMAT, columns)).encode())
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            try:
                found = os.stat(file)
            except OSError:
                continue  # the reader names it
            digest.update(f"{file}\x1f{found.st_size}\x1f{found.st_mtime_ns}\x1f{found.st_ctime_ns}\x1e".encode())
    return digest.hexdigest()


def _write(catalog: Catalog) -> None:
    """Make the reports of the catalog the settled ones. Texts that are there already are not understood again."""
    db, store = catalog.connection, ReportStore(catalog.connection)
    with catalog.transaction():
        gone = "SELECT report_id FROM reports WHERE report_id NOT IN (SELECT report_id FROM settled)"
        for (old,) in db.execute(gone).fetchall():
            store.remove(old)
        gone = "SELECT DISTINCT study_uid FROM report_versions WHERE study_uid NOT IN (SELECT study_uid FROM settled)"
        for (old,) in db.execute(gone).fetchall():
            store.forget_history(old)
    total = db.execute("SELECT COUNT(*) FROM settled").fetchone()[0]
    after = ""
    with tqdm(desc="find in reports", total=total, unit="report", disable=None) as bar:
        while batch := db.execute(
            "SELECT study_uid FROM settled WHERE study_uid > ? ORDER BY study_uid LIMIT ?", (after, _BATCH)
        ).fetchall():
            with catalog.transaction():
                for joined in list(_joined(db, after, batch[-1][0])):
                    _write_study(store, joined)
            after = batch[-1][0]
            bar.update(len(batch))


def _write_study(store: ReportStore, joined: _Joined) -> None:
    row, there = joined.row(), store.get(joined.study_uid)
    if row is not None and row != there:
        known = there is not None and there.report_id == row.report_id
        store.add(row, store.findings(row.report_id) if known else find(row.text))
    history = joined.history()
    if history != store.history(joined.study_uid):
        store.set_history(joined.study_uid, history)


def _report_row(study_uid: str, report: SourcedReport, by: str) -> ReportRow:
    sections = split_sections(report.text)
    return ReportRow(
        report_id(study_uid, report.text),
        study_uid,
        report.text,
        sections.get("findings", ""),
        sections.get("impression", ""),
        report.accession,
        report.status,
        report.source,
        by,
    )
