"""Third stage of ingest: read the reports and join each to its study, or say why not. Nothing is picked silently.

A report goes to the study that it names by UID; else to the one study with its accession number (of several, the one of
its patient); else, in a table of films, to the study of the row's file. A study has one report at most: of several, a
corrected one counts before a final one and that before a preliminary one, then the latest; equals are all refused.
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

from tqdm import tqdm

from reports.findings import find
from reports.sections import split_sections
from reports.sourced import SourcedReport
from reports.sources import read_reports
from reports.store import ReportRow, ReportStore, report_id
from reports.tables import Columns
from volumes.catalog import Catalog
from volumes.instance import Refusal

FORMAT = "1"  # raise it when reports are read or labelled in another way: then all are read again
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS ingest_sources(source TEXT PRIMARY KEY, fingerprint TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS ingest_reports(
        source TEXT NOT NULL, place INTEGER NOT NULL, is_report INTEGER NOT NULL, content TEXT NOT NULL,
        PRIMARY KEY(source, place))""",
)
_PASSING = (  # filled and read within one call
    """CREATE TEMP TABLE IF NOT EXISTS matches(
        study_uid TEXT NOT NULL, number INTEGER PRIMARY KEY, source TEXT NOT NULL, place INTEGER NOT NULL,
        by TEXT NOT NULL)""",
    """CREATE TEMP TABLE IF NOT EXISTS chosen(
        report_id TEXT PRIMARY KEY, source TEXT NOT NULL, place INTEGER NOT NULL, study_uid TEXT NOT NULL,
        by TEXT NOT NULL) WITHOUT ROWID""",
)
_NEXT_CHOSEN = """
    SELECT c.report_id, c.study_uid, c.by, r.content FROM chosen c JOIN ingest_reports r USING(source, place)
    WHERE c.report_id > ? ORDER BY c.report_id LIMIT ?"""
_RANK = {"preliminary": 0, "final": 1, "corrected": 2}
_BATCH = 100  # reports per transaction; understanding a text takes milliseconds


@dataclass
class ReportCounts:
    """How many reports the sources hold, and how many of them joined a study."""

    read: int = 0
    matched: int = 0


@dataclass(frozen=True)
class _Match:
    report: SourcedReport
    study_uid: str
    by: str
    number: int = 0  # in the order of all reports


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
            db.execute("INSERT OR REPLACE INTO ingest_state VALUES ('report format', ?)", (FORMAT,))


def read_sources(catalog: Catalog, paths: Sequence[Path], columns: Columns | None) -> None:
    """Keep what the paths hold. They are read again when a file below them has changed since the last call.

    Versions of one report may lie in several files, so a changed file means that all of them are read.
    """
    if not paths:
        return
    names = sorted(map(str, paths))
    now = fingerprint(paths, columns)
    source = json.dumps(names)
    if is_kept(catalog, source, now):
        return
    found = tqdm(read_reports(paths, columns), desc="read reports", unit="report", disable=None)
    keep_source(catalog, source, found, now)
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
                (source, place, isinstance(one, SourcedReport), json.dumps(asdict(one), ensure_ascii=False))
                for place, one in enumerate(found)
            ),
        )
        db.execute("INSERT INTO ingest_sources VALUES (?, ?)", (source, fingerprint))


def join_reports(catalog: Catalog, first: Iterable[Refusal] = ()) -> ReportCounts:
    """Give every study its report, and write the refusals that belong to no study: `first`, then those of reports.

    Goes through the reports twice, so that one study's reports are in memory at a time and not those of all.
    """
    db, counts = catalog.connection, ReportCounts()
    with catalog.transaction():
        db.execute("DELETE FROM refusals WHERE study_uid = ''")
        for refusal in first:
            catalog.add_refusal(refusal)
        _match_all(catalog, counts)
        db.execute("DELETE FROM chosen")
        for matches in _by_study(db):
            best, losers = _choose(matches)
            for refusal in losers:
                catalog.add_refusal(refusal)
            for match in best:
                key = report_id(match.study_uid, match.report.text)
                db.execute(
                    "INSERT INTO chosen SELECT ?, source, place, study_uid, by FROM matches WHERE number = ?",
                    (key, match.number),
                )
                counts.matched += 1
    _write(catalog)
    return counts


def _match_all(catalog: Catalog, counts: ReportCounts) -> None:
    """Find the study of every report; those that have none become refusals at once."""
    db = catalog.connection
    for statement in _PASSING:
        db.execute(statement)
    db.execute("DELETE FROM matches")
    for number, (source, place, one) in enumerate(_kept(db)):
        if isinstance(one, Refusal):
            catalog.add_refusal(one)
            continue
        counts.read += 1
        for note in one.notes:
            catalog.add_refusal(Refusal(one.source, "repaired-report", note, "repair"))
        match = _match(db, one)
        if isinstance(match, Refusal):
            catalog.add_refusal(match)
        else:
            db.execute("INSERT INTO matches VALUES (?, ?, ?, ?, ?)", (match.study_uid, number, source, place, match.by))


def _by_study(db: sqlite3.Connection) -> Iterator[list[_Match]]:
    """All reports of one study, study after study."""
    query = (
        "SELECT m.study_uid, m.number, m.by, r.content FROM matches m JOIN ingest_reports r USING(source, place)"
        " ORDER BY m.study_uid, m.number"
    )
    rows = ((study, _Match(_report(content), study, by, number)) for study, number, by, content in db.execute(query))
    for _, group in groupby(rows, key=itemgetter(0)):
        yield [match for _, match in group]


def _drop(db: sqlite3.Connection, source: str) -> None:
    for table in ("ingest_reports", "ingest_sources"):
        db.execute(f"DELETE FROM {table} WHERE source = ?", (source,))


def _kept(db: sqlite3.Connection) -> Iterator[tuple[str, int, SourcedReport | Refusal]]:
    """Every kept report or refusal, with where it is kept."""
    query = "SELECT source, place, is_report, content FROM ingest_reports ORDER BY source, place"
    for source, place, is_report, content in db.execute(query):
        yield source, place, _report(content) if is_report else Refusal(**json.loads(content))


def _report(content: str) -> SourcedReport:
    stored = json.loads(content)
    return SourcedReport(**{**stored, "notes": tuple(stored["notes"])})


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


def _match(db: sqlite3.Connection, report: SourcedReport) -> _Match | Refusal:
    named = _studies(db, "study_uid = ?", report.study_uid) if report.study_uid else []
    by = "study_uid"
    if not named and report.accession:
        named, by = _studies(db, "accession = ?", report.accession), "accession"
        if len(named) > 1 and report.patient_key is not None:
            of_patient = [row for row in named if row[1] == report.patient_key]
            named, by = (of_patient, "accession and patient") if len(of_patient) == 1 else (named, by)
    if not named and report.image:
        named = _studies(db, "study_uid = (SELECT study_uid FROM instances WHERE path = ?)", report.image)
        by = "table row"
    what = f"report with accession {report.accession or 'none'} and study UID {report.study_uid or 'none'}"
    if not named:
        return _unmatched(db, report, what)
    if len(named) > 1:
        uids = ", ".join(sorted(row[0] for row in named))
        message = f"{what}: {len(named)} studies have this accession number: {uids}. Give the report a study UID"
        return Refusal(report.source, "ambiguous-accession", message)
    study_uid, patient, _ = named[0]
    if report.patient_key is not None and report.patient_key != patient:
        message = (
            f"{what}: the report is about the patient {report.patient_key}, study {study_uid} is of {patient}"
            " (pseudonyms). Check both for a mix-up"
        )
        return Refusal(report.source, "other-patient", message)
    return _Match(report, study_uid, by)


def _studies(db: sqlite3.Connection, where: str, value: str) -> list[tuple[str, str, str]]:
    return db.execute(f"SELECT study_uid, patient_key, accession FROM studies WHERE {where}", (value,)).fetchall()


def _unmatched(db: sqlite3.Connection, report: SourcedReport, what: str) -> Refusal:
    if report.image and not report.study_uid and not report.accession:
        message = "the film of this table row is not in the catalog: it was refused or not ingested"
        return Refusal(report.source, "study-refused", message)
    query = "SELECT reason FROM refusals WHERE study_uid = ? AND study_uid != '' AND kind = 'refusal'"
    refused = db.execute(query, (report.study_uid,)).fetchone()
    if refused is not None:
        return Refusal(report.source, "study-refused", f"{what}: its study was refused ({refused[0]})")
    message = f"{what}: no study of the catalog has either; ingest the archive that holds it, or drop the report"
    return Refusal(report.source, "no-study", message)


def _choose(matches: Sequence[_Match]) -> tuple[list[_Match], list[Refusal]]:
    """The report that counts (one or none) and a refusal or repair for every other."""
    study, told = matches[0].study_uid, []
    different: dict[str, _Match] = {}
    for match in matches:
        if match.report.text in different:
            message = f"study {study}: the same text arrived before; one is kept"
            told.append(Refusal(match.report.source, "duplicate-report", message, "repair"))
        different.setdefault(match.report.text, match)
    live = [m for m in different.values() if m.report.status != "cancelled"]
    told += [
        Refusal(m.report.source, "withdrawn", f"study {study}: the report was cancelled")
        for m in different.values()
        if m.report.status == "cancelled"
    ]
    if not live:
        return [], told
    best = max(_weight(m) for m in live)
    first = [m for m in live if _weight(m) == best]
    if len(first) > 1:
        status = first[0].report.status
        message = f"study {study}: {len(first)} {status} reports with different texts; mark the right one as corrected"
        return [], told + [Refusal(m.report.source, "several-reports", message) for m in first]
    message = f"study {study}: replaced by a {first[0].report.status} report"
    told += [Refusal(m.report.source, "superseded", message, "repair") for m in live if m is not first[0]]
    return first, told


def _weight(match: _Match) -> tuple[int, str]:
    return _RANK.get(match.report.status, -1), match.report.issued


def _write(catalog: Catalog) -> None:
    """Make the reports of the catalog the chosen ones. Texts that are there already are not understood again."""
    db, store = catalog.connection, ReportStore(catalog.connection)
    with catalog.transaction():
        gone = "SELECT report_id FROM reports WHERE report_id NOT IN (SELECT report_id FROM chosen)"
        for (old,) in db.execute(gone).fetchall():
            store.remove(old)
    total = db.execute("SELECT COUNT(*) FROM chosen").fetchone()[0]
    after = ""
    with tqdm(desc="find in reports", total=total, unit="report", disable=None) as bar:
        while batch := db.execute(_NEXT_CHOSEN, (after, _BATCH)).fetchall():
            with catalog.transaction():
                for key, study, by, content in batch:
                    row, there = _report_row(_Match(_report(content), study, by)), store.get(study)
                    if row != there:
                        store.add(row, store.findings(key) if there and there.report_id == key else find(row.text))
            after = batch[-1][0]
            bar.update(len(batch))


def _report_row(match: _Match) -> ReportRow:
    report, sections = match.report, split_sections(match.report.text)
    return ReportRow(
        report_id(match.study_uid, report.text),
        match.study_uid,
        report.text,
        sections.get("findings", ""),
        sections.get("impression", ""),
        report.accession,
        report.status,
        report.source,
        match.by,
    )
