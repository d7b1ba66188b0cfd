"""Reads archives and reports into one catalog, in three stages that each can be killed and called again.

    files    every file becomes a header or a refusal            medvlm/ingest_files.py
    studies  headers become studies, or are refused in words     medvlm/ingest_studies.py
    reports  reports are joined to studies, or are refused       medvlm/ingest_reports.py

What is repaired or refused is a row in the catalog. Summaries and messages carry UIDs, never a name or a path.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from medvlm import ingest_files, ingest_ledger, ingest_reports, ingest_studies
from medvlm.film_table import FilmRow, is_film_table, read_film_table
from medvlm.ingest_engine import Engine, Name, engine_of
from medvlm.ingest_lock import sole_writer
from medvlm.ingest_read import missing_by_index
from medvlm.ingest_studies import Stated
from medvlm.ingest_summary import FileCounts, IngestSummary, Problem, summarize
from medvlm.ingest_summary import without_path as without_path
from reports.sourced import SourcedReport
from reports.tables import Columns
from volumes.catalog import Catalog
from volumes.catalog_file import explained
from volumes.errors import VolumeError
from volumes.instance import Refusal
from volumes.isolation import Workers

if TYPE_CHECKING:
    from medvlm.report_cleaning import ReportCleaner
    from volumes.volume import Unit

# a write-ahead log of 64 MiB and a page cache of 128 MiB: written for a million rows, harmless for ten
_FOR_BULK = ("PRAGMA wal_autocheckpoint = 16384", "PRAGMA cache_size = -131072")


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
    engine: Name | Engine = "local",
    near_duplicates: bool = False,
    verify: bool = False,
    cleaner: ReportCleaner | None = None,
) -> IngestSummary:
    """Read archives and reports into a catalog; a second call reads only what is new or has changed.

    Args:
        archives: Folders, files or zips of DICOM, NIfTI, NRRD, PNG or JPEG; also CSV tables of films.
        reports: Folders, zips or files of HL7 v2, FHIR, DICOM SR and encapsulated documents, C-CDA, CSV, JSON Lines,
            Parquet, text, HTML, RTF or PDF, packed by gzip or not. A CSV whose rows name image files
            that are there is a table of films: each row is a study, with or without text.
        out: The catalog, one database file.
        workers: Processes that read files, each file bounded to 5 s and 1 GiB. With 0 this process reads, unbounded.
        resume: Continue a catalog that is there. When False, a catalog that is there is refused.
        columns: Names of the columns of tables; usual names are found by themselves.
        unit: Unit of NIfTI and NRRD files, which do not state it.
        modality: Modality of NIfTI and NRRD files, "CT" for example.
        split_fractions: Shares of the patients in train, validation and test.
        split_seed: Keys the assignment; the same seed gives the same split in every catalog.
        engine: Where files are read: "local", or "ray" for a Ray cluster (see `RayEngine`).
        near_duplicates: Also look for images that are nearly the same; this decodes one image of every series.
        verify: Also decode every pixel once, name what does not decode, and keep the digest of the rest.
        cleaner: De-identifies reports as they are read, for archives that were de-identified (`ingest_deidentify`).

    Raises: VolumeError when there is nothing to read ("nothing-given", "missing-path"), when the catalog is there and
    `resume` is False ("catalog-exists"), or when it is of another version ("bad-catalog"); when another ingest is
    writing to it ("catalog-busy"); when it cannot be written ("not-writable", "disk-full").
    """
    roots, sources, out = _paths(archives), _paths(reports), Path(out)
    _check(roots, sources, out, resume)
    reader = engine_of(engine, workers)
    form = [ingest_studies.FORM, ingest_reports.FORMAT]
    request = json.dumps(
        [*form, str(Stated(unit, modality)), list(split_fractions), split_seed, near_duplicates, verify]
    )
    try:
        with sole_writer(out), Catalog.create(out) as catalog:
            for pragma in _FOR_BULK:
                catalog.connection.execute(pragma)
            ingest_files.create_ledger(catalog)
            ingest_studies.create_tables(catalog)
            ingest_reports.create_tables(catalog)
            run = catalog.start_run("ingest", json.dumps({"archives": len(roots), "reports": len(sources)}))
            tables = [p for p in dict.fromkeys((*roots, *sources)) if is_film_table(p, columns)]
            named = [place for table in tables for place in _keep_table(catalog, table, columns)]
            files = ingest_files.read_files(catalog, [p for p in roots if p not in tables], named, reader)
            ingest_reports.read_sources(catalog, [p for p in sources if p not in tables], columns, cleaner)
            summary = _concluded(catalog, request, files)
            if summary is None:
                ingest_studies.write_studies(catalog, Stated(unit, modality))
                ingest_reports.join_reports(catalog, _file_refusals(catalog, workers))
                catalog.assign_splits(split_fractions, split_seed)
                if near_duplicates:
                    from medvlm.ingest_likeness import look_at_series  # decodes, hence loads torch

                    look_at_series(catalog, workers)
                if verify:
                    from medvlm.ingest_verify import verify_images

                    verify_images(catalog, workers)
                summary = summarize(catalog, files)
                _conclude(catalog, request, summary)
            catalog.finish_run(run, json.dumps(summary.to_dict()))
    except sqlite3.OperationalError as error:
        raise explained(Path(out.name), error) from error
    return summary


def _concluded(catalog: Catalog, request: str, files: FileCounts) -> IngestSummary | None:
    """What the last call concluded, when it asked the same and nothing has changed since."""
    query = "SELECT summary FROM conclusion WHERE request = ?"
    row = catalog.connection.execute(query, (request,)).fetchone()
    if row is None:
        return None
    stored = json.loads(row[0])
    if stored.keys() != {field.name for field in fields(IngestSummary)}:
        return None  # written by another version
    stored["problems"] = tuple(Problem(**problem) for problem in stored["problems"])
    stored["audit"] = tuple(stored["audit"])
    stored.update(files_read=files.read, files_unchanged=files.unchanged, files_gone=files.gone)
    return IngestSummary(**stored)


def _conclude(catalog: Catalog, request: str, summary: IngestSummary) -> None:
    with catalog.transaction() as db:
        catalog.forget_conclusion()
        db.execute("INSERT INTO conclusion VALUES (?, ?)", (request, json.dumps(summary.to_dict())))


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
    fingerprint = ingest_reports.fingerprint([table], columns)
    if ingest_reports.is_kept(catalog, str(table), fingerprint):
        query = "SELECT location FROM ingest_rows WHERE table_ = ? ORDER BY location"
        return [row[0] for row in catalog.connection.execute(query, (str(table),))]
    rows: list[FilmRow] = []
    refusals: list[Refusal] = []
    for one in read_film_table(table, columns):
        if isinstance(one, Refusal):
            refusals.append(one)
        else:
            rows.append(one)
    refusals += ingest_studies.set_table_rows(catalog, str(table), rows)
    ingest_reports.keep_source(catalog, str(table), _texts(rows, refusals), fingerprint)
    return [row.location for row in rows]


def _texts(rows: Sequence[FilmRow], refusals: Sequence[Refusal]) -> Iterator[SourcedReport | Refusal]:
    yield from refusals
    for row in rows:
        if row.text:
            yield SourcedReport(row.text, image=row.location, source=row.source)


def _file_refusals(catalog: Catalog, workers: int) -> Iterator[Refusal]:
    """Refusals of files, as the ledger has them, and of those that a DICOMDIR lists and that are not there."""
    indexes: list[str] = []
    for refusal in ingest_ledger.refusals(catalog.connection):
        yield refusal
        if refusal.reason == "dicomdir":
            indexes.append(refusal.where)
    if not workers:
        yield from (refusal for where in indexes for refusal in missing_by_index(where))
    elif indexes:
        with Workers(missing_by_index, 1) as pool:
            for where, found in pool.map(indexes):
                yield from [Refusal(where, found.reason, str(found))] if isinstance(found, VolumeError) else found
