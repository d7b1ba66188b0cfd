"""Reads archives and reports into one catalog, in three stages that each can be killed and called again.

    files    every file becomes a header or a refusal            medvlm/ingest_files.py
    studies  headers become studies, or are refused in words     medvlm/ingest_studies.py
    reports  reports are joined to studies, or are refused       medvlm/ingest_reports.py

What is repaired or refused is a row in the catalog. Summaries and messages carry UIDs, never a name or a path.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medvlm import ingest_files, ingest_reports, ingest_studies
from medvlm.film_table import FilmRow, is_film_table, read_film_table
from medvlm.ingest_studies import Stated
from reports.sourced import SourcedReport
from reports.tables import Columns
from volumes.archive import ZIP_MARK
from volumes.catalog import Catalog
from volumes.instance import Refusal
from volumes.volume import Unit, VolumeError

_WORST = 10
# the first are the worst: patients or studies may be mixed up, then images or reports are lost, then the rest
_GRAVE = (
    "several-patients",
    "other-patient",
    "duplicate-uid",
    "ambiguous-accession",
    "several-reports",
    "conflicting-report",
    "conflicting-row",
    "missing-slice",
    "truncated-file",
)
_UID = re.compile(r"[\d.]+")
_HARMLESS = ("not-an-image", "dicomdir", "unknown-format", "empty-report", "superseded", "duplicate-report")


@dataclass(frozen=True)
class Problem:
    """One kind of refusal or repair: how often, and one example without any path."""

    kind: str
    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class IngestSummary:
    """What the catalog holds after a call, what the call did, and the ten worst problems."""

    studies: int
    patients: int
    series: int
    images: int
    modalities: dict[str, int]
    splits: dict[str, int]
    reports_read: int
    reports_matched: int
    studies_without_report: int
    findings: int
    refusals: int
    repairs: int
    files_read: int
    files_unchanged: int
    files_gone: int
    problems: tuple[Problem, ...]
    audit: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "problems": [asdict(p) for p in self.problems], "audit": list(self.audit)}

    def text(self) -> str:
        """For people: a few lines of counts, then the problems, worst first."""
        modalities = ", ".join(f"{count} {name}" for name, count in sorted(self.modalities.items())) or "none"
        splits = ", ".join(f"{name} {count}" for name, count in self.splits.items())
        lines = [
            f"{self.studies} studies of {self.patients} patients ({modalities}):"
            f" {self.series} series, {self.images} images",
            f"{self.reports_matched} of {self.reports_read} reports joined a study;"
            f" {self.studies_without_report} studies have none; {self.findings} findings read",
            f"splits by patient: {splits}",
            f"files: {self.files_read} read, {self.files_unchanged} unchanged, {self.files_gone} gone",
            f"{self.refusals} refusals, {self.repairs} repairs (table refusals of the catalog)",
        ]
        lines += [f"  {p.kind} {p.reason} x {p.count}: {p.example}" for p in self.problems]
        if self.audit:
            lines.append(f"audit: {len(self.audit)} remarks")
            lines += [f"  {remark}" for remark in self.audit[:_WORST]]
        return "\n".join(lines)


def ingest(
    archives: Sequence[Path | str],
    reports: Sequence[Path | str],
    out: Path | str,
    workers: int = 2,
    resume: bool = True,
    columns: Columns | None = None,
    unit: Unit = "raw",
    modality: str = "",
    split_fractions: Sequence[float] = (0.8, 0.1, 0.1),
    split_seed: int = 0,
) -> IngestSummary:
    """Read archives and reports into a catalog; a second call reads only what is new or has changed.

    Args:
        archives: Folders, files or zips of DICOM, NIfTI, NRRD, PNG or JPEG; also CSV tables of films.
        reports: Folders or files of HL7 v2, FHIR, DICOM SR, CSV, JSON Lines or text. A CSV whose rows name image files
            that are there is a table of films: each row is a study, with or without text.
        out: The catalog, one database file.
        workers: Processes that read headers.
        resume: Continue a catalog that is there. When False, a catalog that is there is refused.
        columns: Names of the columns of tables; usual names are found by themselves.
        unit: Unit of NIfTI and NRRD files, which do not state it.
        modality: Modality of NIfTI and NRRD files, "CT" for example.
        split_fractions: Shares of the patients in train, validation and test.
        split_seed: Keys the assignment; the same seed gives the same split in every catalog.

    Raises: VolumeError when there is nothing to read ("nothing-given", "missing-path"), when the catalog is there and
    `resume` is False ("catalog-exists"), or when it is of another version ("bad-catalog").
    """
    roots, sources, out = _paths(archives), _paths(reports), Path(out)
    _check(roots, sources, out, resume)
    if out.is_file():
        Catalog.open(out).close()  # refuses another version and other files
    with Catalog.create(out) as catalog:
        ingest_files.create_ledger(catalog)
        ingest_studies.create_tables(catalog)
        ingest_reports.create_tables(catalog)
        run = catalog.start_run("ingest", json.dumps({"archives": len(roots), "reports": len(sources)}))
        tables = [p for p in dict.fromkeys((*roots, *sources)) if is_film_table(p, columns)]
        named = [place for table in tables for place in _keep_table(catalog, table, columns)]
        files = ingest_files.read_files(catalog, [p for p in roots if p not in tables], named, run, workers)
        ingest_studies.write_studies(catalog, Stated(unit, modality))
        ingest_reports.read_sources(catalog, [p for p in sources if p not in tables], columns)
        counts, told = ingest_reports.join_reports(catalog)
        _write_refusals(catalog, told)
        splits = catalog.assign_splits(split_fractions, split_seed)
        summary = _summary(catalog, files, counts, splits)
        catalog.finish_run(run, json.dumps(summary.to_dict()))
    return summary


def _paths(given: Sequence[Path | str]) -> list[Path]:
    """Absolute paths, so that the catalog can be used from any folder; each once."""
    return list(dict.fromkeys(Path(path).absolute() for path in given))


def _check(roots: Sequence[Path], sources: Sequence[Path], out: Path, resume: bool) -> None:
    if not roots and not sources:
        raise VolumeError("neither archives nor reports were given; name at least one folder or file", "nothing-given")
    missing = [path for path in (*roots, *sources) if not path.exists()]
    if missing:
        shown = ", ".join(path.name for path in missing)
        raise VolumeError(f"no such file or folder: {shown}; check the paths", "missing-path")
    if out.exists() and not resume:
        raise VolumeError(f"{out.name} is there already; continue it with resume, or name a new file", "catalog-exists")


def _keep_table(catalog: Catalog, table: Path, columns: Columns | None) -> list[str]:
    """Keep the rows of a table of films; returns the locations of the films."""
    rows: list[FilmRow] = []
    refusals: list[Refusal] = []
    for one in read_film_table(table, columns):
        if isinstance(one, Refusal):
            refusals.append(one)
        else:
            rows.append(one)
    refusals += ingest_studies.set_table_rows(catalog, str(table), rows)
    ingest_reports.keep_source(catalog, str(table), _texts(rows, refusals))
    return [row.location for row in rows]


def _texts(rows: Sequence[FilmRow], refusals: Sequence[Refusal]) -> Iterator[SourcedReport | Refusal]:
    yield from refusals
    for row in rows:
        if row.text:
            yield SourcedReport(row.text, image=row.location, source=row.source)


def _write_refusals(catalog: Catalog, told: Sequence[Refusal]) -> None:
    """Replace the refusals that belong to no study: of files, of table rows and of reports."""
    with catalog.transaction() as db:
        db.execute("DELETE FROM refusals WHERE study_uid = ''")
        query = "SELECT location, reason, message FROM ingest_files WHERE reason IS NOT NULL ORDER BY location"
        for place, reason, message in db.execute(query).fetchall():
            catalog.add_refusal(Refusal(place, reason, message))
        for refusal in told:
            catalog.add_refusal(refusal)


def _summary(
    catalog: Catalog, files: ingest_files.FileCounts, counts: ingest_reports.ReportCounts, splits: dict[str, int]
) -> IngestSummary:
    db = catalog.connection

    def number(query: str) -> int:
        return int(db.execute(query).fetchone()[0])

    studies = number("SELECT COUNT(*) FROM studies")
    return IngestSummary(
        studies=studies,
        patients=number("SELECT COUNT(DISTINCT patient_key) FROM studies"),
        series=number("SELECT COUNT(*) FROM series"),
        images=number("SELECT COUNT(*) FROM instances WHERE is_image"),
        modalities=dict(db.execute("SELECT modality, COUNT(*) FROM studies GROUP BY modality ORDER BY modality")),
        splits=splits,
        reports_read=counts.read,
        reports_matched=counts.matched,
        studies_without_report=studies - counts.matched,
        findings=number("SELECT COUNT(*) FROM findings"),
        refusals=number("SELECT COUNT(*) FROM refusals WHERE kind = 'refusal'"),
        repairs=number("SELECT COUNT(*) FROM refusals WHERE kind = 'repair'"),
        files_read=files.read,
        files_unchanged=files.unchanged,
        files_gone=files.gone,
        problems=_problems(db),
        audit=tuple(catalog.audit()),
    )


def _problems(db: sqlite3.Connection) -> tuple[Problem, ...]:
    """Kinds of refusals and repairs, worst first, with one example each that names no path."""
    query = "SELECT kind, reason, COUNT(*), MIN(rowid) FROM refusals GROUP BY kind, reason"
    found = []
    for kind, reason, count, first in db.execute(query).fetchall():
        where, message = db.execute("SELECT where_, message FROM refusals WHERE rowid = ?", (first,)).fetchone()
        found.append(Problem(kind, reason, count, without_path(message, where)))
    return tuple(sorted(found, key=_gravity)[:_WORST])


def _gravity(problem: Problem) -> tuple[int, int, int, str]:
    rank = _GRAVE.index(problem.reason) if problem.reason in _GRAVE else len(_GRAVE)
    rank += problem.reason in _HARMLESS
    return problem.kind == "repair", rank, -problem.count, problem.reason


def without_path(message: str, where: str) -> str:
    """A message without the location that it may repeat: folders, file names and zip members may hold a name."""
    archive, _, member = where.partition(ZIP_MARK)
    parts = [where, archive, member]
    for path in (Path(archive), Path(member)):
        parts += [str(path.parent), path.name]
    for part in sorted({p for p in parts if len(p) > 2 and not _UID.fullmatch(p)}, key=len, reverse=True):
        message = message.replace(part, "…")
    return message
