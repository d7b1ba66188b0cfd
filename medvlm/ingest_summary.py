"""What a catalog holds, in counts and in its ten worst problems. It carries UIDs, never a name or a path."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volumes import audit
from volumes.archive import ZIP_MARK
from volumes.catalog import Catalog
from volumes.splits import SPLITS

_WORST = 10
# the first are the worst: patients or studies may be mixed up, then images or reports are lost, then the rest
_GRAVE = (
    "several-patients",
    "other-patient",
    "duplicate-uid",
    "ambiguous-accession",
    "ambiguous-time",
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
    reports_refused: int
    studies_without_report: int
    findings: int
    refusals: int
    repairs: int
    files_read: int
    files_unchanged: int
    files_gone: int
    problems: tuple[Problem, ...]
    audit: tuple[str, ...]
    audit_counts: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "problems": [asdict(p) for p in self.problems], "audit": list(self.audit)}

    def text(self) -> str:
        """For people: a few lines of counts, then the problems, worst first."""
        modalities = ", ".join(f"{count} {name}" for name, count in sorted(self.modalities.items())) or "none"
        splits = ", ".join(f"{name} {count}" for name, count in self.splits.items())
        refused = f", {self.reports_refused} were refused" if self.reports_refused else ""
        lines = [
            f"{self.studies} studies of {self.patients} patients ({modalities}):"
            f" {self.series} series, {self.images} images",
            f"{self.reports_matched} of {self.reports_read} reports joined a study{refused};"
            f" {self.studies_without_report} studies have none; {self.findings} findings read",
            f"splits by patient: {splits}",
            f"files: {self.files_read} read, {self.files_unchanged} unchanged, {self.files_gone} gone",
            f"{self.refusals} refusals, {self.repairs} repairs (table refusals of the catalog)",
        ]
        lines += [f"  {p.kind} {p.reason} x {p.count}: {p.example}" for p in self.problems]
        if self.audit:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.audit_counts.items())
            lines.append(f"audit: {kinds}")
            lines += [f"  {remark}" for remark in self.audit[:_WORST]]
        return "\n".join(lines)


@dataclass
class FileCounts:
    """How many files were opened in this call, were known from an earlier one, and are gone since then."""

    read: int = 0
    unchanged: int = 0
    gone: int = 0


def summarize(catalog: Catalog, files: FileCounts | None = None) -> IngestSummary:
    """What the catalog holds now, with what a call did; without `files`, no call was made."""
    db, files = catalog.connection, files or FileCounts()
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def number(query: str, table: str) -> int:
        return int(db.execute(query).fetchone()[0]) if table in tables else 0

    studies = number("SELECT COUNT(*) FROM studies", "studies")
    matched = number("SELECT COUNT(*) FROM reports", "reports")
    splits = dict(db.execute("SELECT split, COUNT(*) FROM studies GROUP BY split").fetchall())
    return IngestSummary(
        studies=studies,
        patients=number("SELECT COUNT(DISTINCT patient_key) FROM studies", "studies"),
        series=number("SELECT COUNT(*) FROM series", "series"),
        images=number("SELECT COUNT(DISTINCT path) FROM instances WHERE is_image", "instances"),
        modalities=dict(db.execute("SELECT modality, COUNT(*) FROM studies GROUP BY modality ORDER BY modality")),
        splits={name: splits.get(name, 0) for name in SPLITS},
        reports_read=number("SELECT COUNT(*) FROM ingest_reports WHERE is_report", "ingest_reports"),
        reports_matched=matched,
        reports_refused=number(
            "SELECT COALESCE(SUM(value), 0) FROM ingest_state WHERE key = 'reports refused'", "ingest_state"
        ),
        studies_without_report=studies - matched,
        findings=number("SELECT COUNT(*) FROM findings", "findings"),
        refusals=number("SELECT COUNT(*) FROM refusals WHERE kind = 'refusal'", "refusals"),
        repairs=number("SELECT COUNT(*) FROM refusals WHERE kind = 'repair'", "refusals"),
        files_read=files.read,
        files_unchanged=files.unchanged,
        files_gone=files.gone,
        problems=_problems(db),
        audit=tuple(catalog.audit()),
        audit_counts=audit.counts(db),
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
