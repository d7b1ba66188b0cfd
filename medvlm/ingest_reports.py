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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
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
    fingerprint = _fingerprint(paths, columns)
    source = json.dumps(names)
    known = catalog.connection.execute("SELECT fingerprint FROM ingest_sources WHERE source = ?", (source,)).fetchone()
    if known is not None and known[0] == fingerprint:
        return
    found = tqdm(read_reports(paths, columns), desc="read reports", unit="report", disable=None)
    keep_source(catalog, source, found, fingerprint)
    with catalog.transaction() as db:  # an earlier call with fewer paths is part of this one
        for (other,) in db.execute("SELECT source FROM ingest_sources WHERE source LIKE '[%'").fetchall():
            if other != source and set(json.loads(other)) <= set(names):
                _drop(db, other)


def keep_source(catalog: Catalog, source: str, found: Iterable[SourcedReport | Refusal], fingerprint: str = "") -> None:
    """Replace what one source holds, in one transaction."""
    with catalog.transaction() as db:
        _drop(db, source)
        db.executemany(
            "INSERT INTO ingest_reports VALUES (?, ?, ?, ?)",
            (
                (source, place, isinstance(one, SourcedReport), json.dumps(asdict(one), ensure_ascii=False))
                for place, one in enumerate(found)
            ),
        )
        db.execute("INSERT INTO ingest_sources VALUES (?, ?)", (source, fingerprint))


def join_reports(catalog: Catalog) -> tuple[ReportCounts, list[Refusal]]:
    """Give every study its report, and return every refusal and repair that was met on the way."""
    counts, told = ReportCounts(), []
    by_study: dict[str, list[_Match]] = {}
    for one in _kept(catalog.connection):
        if isinstance(one, Refusal):
            told.append(one)
            continue
        counts.read += 1
        told += [Refusal(one.source, "repaired-report", note, "repair") for note in one.notes]
        match = _match(catalog.connection, one)
        if isinstance(match, Refusal):
            told.append(match)
        else:
            by_study.setdefault(match.study_uid, []).append(match)
    chosen: list[_Match] = []
    for matches in by_study.values():
        best, losers = _choose(matches)
        chosen += best
        told += losers
    counts.matched = len(chosen)
    _write(catalog, chosen)
    return counts, told


def _drop(db: sqlite3.Connection, source: str) -> None:
    for table in ("ingest_reports", "ingest_sources"):
        db.execute(f"DELETE FROM {table} WHERE source = ?", (source,))


def _kept(db: sqlite3.Connection) -> Iterator[SourcedReport | Refusal]:
    for is_report, content in db.execute("SELECT is_report, content FROM ingest_reports ORDER BY source, place"):
        stored = json.loads(content)
        if is_report:
            yield SourcedReport(**{**stored, "notes": tuple(stored["notes"])})
        else:
            yield Refusal(**stored)


def _fingerprint(paths: Sequence[Path], columns: Columns | None) -> str:
    """Digest of path, size and time of every file below the paths."""
    digest = hashlib.sha256(repr((FORMAT, columns)).encode())
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            try:
                found = os.stat(file)
            except OSError:
                continue  # the reader names it
            digest.update(f"{file}\x1f{found.st_size}\x1f{found.st_mtime_ns}\x1e".encode())
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


def _write(catalog: Catalog, chosen: Sequence[_Match]) -> None:
    """Make the reports of the catalog exactly these. Texts that are there already are not understood again."""
    store = ReportStore(catalog.connection)
    rows: Mapping[str, ReportRow] = {row.report_id: row for row in map(_report_row, chosen)}
    there = {row.report_id: row for row in store.all()}
    with catalog.transaction():
        for old in there.keys() - rows.keys():
            store.remove(old)
    new = [row for key, row in rows.items() if there.get(key) != row]
    bar = tqdm(total=len(new), desc="find in reports", unit="report", disable=None)
    for start in range(0, len(new), _BATCH):
        with catalog.transaction():
            for row in new[start : start + _BATCH]:
                found = store.findings(row.report_id) if row.report_id in there else find(row.text)
                store.add(row, found)
                bar.update()
    bar.close()


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
