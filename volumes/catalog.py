"""The catalog: one SQLite file that names every study, series, file, repair and refusal of an archive.

It stores pseudonyms and UIDs, never a patient's name or ID. It stores file paths, because studies are read again from
them, and folder names may hold a name: keep the file as confidential as the archive.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from volumes.archive import read_location
from volumes.audit import audit
from volumes.catalog_file import create_file, open_file
from volumes.errors import StudyError, VolumeError
from volumes.instance import InstanceHeader, Refusal
from volumes.splits import SPLITS, split_of
from volumes.study import Series, Study, group_studies
from volumes.study_audit import facts, remarks

if TYPE_CHECKING:
    from volumes.volume import Film, Unit, Volume

_COUNTED = ("patients", "studies", "series", "instances", "refusals", "remarks", "facts", "reports", "findings",
            "report_versions", "report_measurements")  # fmt: skip


@dataclass(frozen=True)
class StudyRow:
    """One study of the catalog; `split` is None until splits are assigned."""

    study_uid: str
    patient_key: str
    accession: str
    modality: str
    date: str
    split: str | None
    simulated: bool  # every image of it says so


@dataclass(frozen=True)
class SeriesRow:
    """One series (or part of one) with the locations of its files, in the order of the archive."""

    study_uid: str
    series_uid: str
    part: str
    modality: str
    kind: str
    view: str
    body_part: str
    unit: Unit
    n_instances: int
    paths: tuple[str, ...] = field(repr=False)
    sop_uids: tuple[str, ...] = field(repr=False)

    def read(self) -> Volume | Film:
        """The image, as `Series.read` gives it. Raises StudyError when a file is gone, SeriesError when it is bad."""
        return read_series(self.paths, self.series_uid, self.unit, self.modality, self.part)


class Catalog:
    """One open catalog. Open one per process; several processes may read and write at once (WAL, 30 s patience)."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self.connection = path, connection

    @classmethod
    def create(cls, path: Path | str) -> Catalog:
        """Make a catalog, or open the one that is there, also of an older version. The folder is made when absent.

        Raises VolumeError when another file is there or when nothing can be written there.
        """
        return cls(Path(path), create_file(Path(path)))

    @classmethod
    def open(cls, path: Path | str) -> Catalog:
        """Open a catalog. Raises VolumeError when there is none or it is of another version."""
        if not Path(path).is_file():
            raise VolumeError(f"{path}: no catalog there; `medvlm ingest` makes one", "no-catalog")
        return cls(Path(path), open_file(Path(path)))

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what was committed stays."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: commits at the end, rolls back on any error (or when the process dies)."""
        if self.connection.in_transaction:  # joined by the outer one
            yield self.connection
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException:
            with suppress(sqlite3.OperationalError):  # a full disk has rolled back by itself
                self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def forget_conclusion(self) -> None:
        """Forget what the last ingest concluded, because something has changed; in the caller's transaction."""
        self.connection.execute("DELETE FROM conclusion")

    def add_study(self, study: Study, patient_key: str | None = None) -> None:
        """Write one study in one transaction. Doing it again changes nothing; new files of a known study are added.

        `patient_key` replaces the study's own when a table of patients came with the archive.
        Raises StudyError when the catalog has the study under another patient.
        """
        key = patient_key or study.patient_key
        with self.transaction() as db:
            self.forget_conclusion()
            known = db.execute("SELECT patient_key FROM studies WHERE study_uid = ?", (study.study_uid,)).fetchone()
            if known is not None and known[0] != key:
                raise StudyError(
                    f"study {study.study_uid} is in the catalog under the patient {known[0]}, now {key}; one study"
                    " belongs to one patient. Check the archive for a mix-up",
                    "several-patients",
                )
            db.execute("INSERT OR IGNORE INTO patients(patient_key) VALUES (?)", (key,))
            db.execute(
                "INSERT INTO studies SELECT ?, ?, ?, ?, ?, ?, split FROM patients WHERE patient_key = ?"
                " ON CONFLICT(study_uid) DO UPDATE SET accession = excluded.accession, modality = excluded.modality,"
                " date = excluded.date, simulated = excluded.simulated",
                (
                    study.study_uid,
                    key,
                    study.accession,
                    study_modality(study.series),
                    study.date,
                    study.simulated,
                    key,
                ),
            )
            held = {(h.path,) for one in study.series for h in one.instances} | {(h.path,) for h in study.objects}
            db.executemany("DELETE FROM instances WHERE path = ?", sorted(held))  # a new file may rename the parts
            for series in study.series:
                _write_series(db, series)
            _write_instances(db, study.study_uid, "", "", study.objects, is_image=False)
            db.execute(  # parts that a new file has renamed
                "DELETE FROM series WHERE study_uid = ? AND NOT EXISTS (SELECT 1 FROM instances i WHERE"
                " i.study_uid = series.study_uid AND i.series_uid = series.series_uid AND i.part = series.part)",
                (study.study_uid,),
            )
            for refusal in study.refusals:
                _write_refusal(db, refusal, study.study_uid)
            _write_audit(db, study)

    def add_refusal(self, refusal: Refusal, study_uid: str = "") -> None:
        """Write one refusal or repair; the same one twice is kept once."""
        with self.transaction() as db:
            self.forget_conclusion()
            _write_refusal(db, refusal, study_uid)

    def refusals(self, kind: str | None = None) -> list[Refusal]:
        """Every refusal and repair, in the order they were met."""
        rows = self.connection.execute(
            "SELECT where_, reason, message, kind FROM refusals WHERE ? IN ('', kind) ORDER BY rowid", (kind or "",)
        )
        return [Refusal(*row) for row in rows]

    def has_instance(self, header_path: str, size: int, mtime: float) -> bool:
        """Whether this very file (by place, size and time) is in the catalog: lets ingest resume cheaply."""
        query = "SELECT 1 FROM instances WHERE path = ? AND size = ? AND mtime = ?"
        return self.connection.execute(query, (header_path, size, mtime)).fetchone() is not None

    def studies(self, split: str | None = None, modality: str | None = None) -> list[StudyRow]:
        """Studies, sorted by UID, of one split and modality ("xray", "ct", "mr" ...) when given."""
        rows = self.connection.execute(
            "SELECT study_uid, patient_key, accession, modality, date, split, simulated FROM studies"
            " WHERE (? IS NULL OR split = ?) AND (? IS NULL OR modality = ?) ORDER BY study_uid",
            (split, split, modality, modality),
        )
        return [
            StudyRow(uid, key, number, kind, date, part, bool(made))
            for uid, key, number, kind, date, part, made in rows
        ]

    def series(self, study_uid: str) -> list[SeriesRow]:
        """Series of a study with the locations of their files. Raises StudyError for an unknown study."""
        self._known(study_uid)
        rows = self.connection.execute(
            "SELECT study_uid, series_uid, part, modality, kind, view, body_part, unit, n_instances FROM series"
            " WHERE study_uid = ? ORDER BY rowid",
            (study_uid,),
        ).fetchall()
        found = []
        for row in rows:
            files = self.connection.execute(
                "SELECT path, sop_uid FROM instances WHERE study_uid = ? AND series_uid = ? AND part = ? AND is_image"
                " ORDER BY place, path",
                row[:3],
            ).fetchall()
            values = (*row, tuple(f[0] for f in files), tuple(f[1] for f in files))
            found.append(SeriesRow(*values))
        return found

    def study(self, study_uid: str) -> Study:
        """The study, its headers read again from the archive. Raises StudyError when a file is gone or has changed."""
        self._known(study_uid)
        headers: list[InstanceHeader] = []
        for path, sop_uid, pixels in self.connection.execute(
            "SELECT path, sop_uid, pixel_sha256 FROM instances WHERE study_uid = ? GROUP BY path ORDER BY MIN(rowid)",
            (study_uid,),
        ).fetchall():
            header = read_location(path, digests=False)
            if isinstance(header, Refusal) or header.sop_uid != sop_uid or header.study_uid != study_uid:
                found = header.message if isinstance(header, Refusal) else f"instance {header.sop_uid}"
                raise StudyError(
                    f"study {study_uid}: a file that the catalog names no longer holds instance {sop_uid}; found:"
                    f" {found}. Ingest the archive again",
                    "archive-changed",
                )
            headers.append(replace(header, pixel_sha256=pixels))  # so that reading notices pixels that changed
        stated = self.connection.execute(
            "SELECT unit, modality FROM series WHERE study_uid = ? AND unit != 'raw'", (study_uid,)
        ).fetchone()
        unit: Unit = stated[0] if stated else "raw"
        return group_studies(headers, unit=unit, modality=stated[1] if stated else "")[0]

    def assign_splits(self, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0) -> dict[str, int]:
        """Put every patient into train, validation or test by a keyed hash of the patient; counts of studies.

        The same patient and seed give the same split in every catalog and after every later ingest.
        """
        if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            raise VolumeError(
                f"split fractions are {tuple(fractions)}; expected three that add up to 1, for {', '.join(SPLITS)}",
                "bad-fractions",
            )
        with self.transaction() as db:
            after = ""
            while rows := db.execute(
                "SELECT patient_key, split FROM patients WHERE patient_key > ? ORDER BY patient_key LIMIT 10000",
                (after,),
            ).fetchall():
                after = rows[-1][0]
                told = [(split_of(key, fractions, seed), key, split) for key, split in rows]
                changed = [(now, key) for now, key, before in told if now != before]
                db.executemany("UPDATE patients SET split = ? WHERE patient_key = ?", changed)
            here = "(SELECT split FROM patients p WHERE p.patient_key = studies.patient_key)"
            if db.execute(f"UPDATE studies SET split = {here} WHERE split IS NOT {here}").rowcount:
                self.forget_conclusion()
            counts = dict(db.execute("SELECT split, COUNT(*) FROM studies GROUP BY split").fetchall())
        return {name: counts.get(name, 0) for name in SPLITS}

    def audit(self) -> list[str]:
        """What would make a score wrong or is missing, the worst first (see `volumes.audit`); empty means a pass."""
        return [remark.message for remark in audit(self.connection)]

    def content_digest(self) -> str:
        """64 hex digits that are equal for two catalogs with the same content, in whatever order it was written.

        The sum of sha256 over all rows of the tables of images, reports, refusals and remarks, modulo 2^256. Runs and
        the ledger of ingest take no part: they hold times and row numbers.
        """
        total = 0
        there = {row[0] for row in self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in _COUNTED:
            for row in self.connection.execute(f"SELECT * FROM {table}") if table in there else ():
                total += int.from_bytes(hashlib.sha256(f"{table} {row!r}".encode()).digest(), "big")
        return f"{total % 2**256:064x}"

    def start_run(self, command: str, detail: str = "") -> int:
        """Note that a command began; returns its run_id."""
        with self.transaction() as db:
            cursor = db.execute(
                "INSERT INTO runs(started, command, detail) VALUES (datetime('now'), ?, ?)", (command, detail)
            )
        return int(cursor.lastrowid or 0)

    def finish_run(self, run_id: int, detail: str = "") -> None:
        """Note that a command ended; a run without an end was interrupted."""
        with self.transaction() as db:
            db.execute("UPDATE runs SET finished = datetime('now'), detail = ? WHERE run_id = ?", (detail, run_id))

    def _known(self, study_uid: str) -> None:
        if self.connection.execute("SELECT 1 FROM studies WHERE study_uid = ?", (study_uid,)).fetchone() is None:
            raise StudyError(f"study {study_uid} is not in the catalog", "no-study")


def read_series(
    paths: Sequence[str], series_uid: str = "", unit: Unit = "raw", modality: str = "", part: str = ""
) -> Volume | Film:
    """The image of one series from the locations of its files, as the catalog lists them.

    `part` names the image among those of one multi-frame file; it must be given only where a file holds several.

    Raises StudyError when a file is gone or belongs to another series, SeriesError when the image cannot be read.
    """
    headers = []
    for path in paths:
        header = read_location(path, digests=False)
        if isinstance(header, Refusal) or series_uid not in ("", header.series_uid):
            found = header.message if isinstance(header, Refusal) else f"series {header.series_uid}"
            raise StudyError(
                f"a file of series {series_uid} has changed; found: {found}. Ingest again", "archive-changed"
            )
        headers.append(header)
    series = [one for study in group_studies(headers, unit=unit, modality=modality) for one in study.series]
    if len(series) > 1 and part:
        series = [one for one in series if one.part == part]
    if len(series) != 1:
        raise StudyError(
            f"series {series_uid}: {len(paths)} files hold {len(series)} images; expected one", "several-series"
        )
    return series[0].read()


def study_modality(series: Iterable[Series]) -> str:
    """The word that the catalog files a study under: "xray" for films, else the modality of most images, lower case."""
    from volumes.transforms import FILM_MODALITIES  # loads torch, which a catalog does without

    counts: dict[str, int] = {}
    for one in series:
        word = "xray" if one.modality in FILM_MODALITIES else one.modality.lower() or "unknown"
        counts[word] = counts.get(word, 0) + one.n_instances
    return max(counts, key=lambda word: counts[word]) if counts else "none"


def _write_audit(db: sqlite3.Connection, study: Study) -> None:
    uid = study.study_uid
    db.execute("DELETE FROM remarks WHERE study_uid = ?", (uid,))
    db.executemany("INSERT INTO remarks VALUES (?, ?, ?)", [(uid, r.kind, r.message) for r in remarks(study)])
    db.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?, ?)", [(uid, f.name, f.value) for f in facts(study)])


def _write_series(db: sqlite3.Connection, series: Series) -> None:
    _write_instances(db, series.study_uid, series.series_uid, series.part, series.instances, is_image=True)
    count = db.execute(
        "SELECT COUNT(*) FROM instances WHERE study_uid = ? AND series_uid = ? AND part = ?",
        (series.study_uid, series.series_uid, series.part),
    ).fetchone()[0]
    db.execute(
        "INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            series.study_uid,
            series.series_uid,
            series.part,
            series.modality,
            series.kind,
            series.view,
            series.body_part,
            series.unit,
            count,
        ),
    )


def _write_instances(
    db: sqlite3.Connection, study: str, series: str, part: str, headers: Sequence[InstanceHeader], is_image: bool
) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (h.path, study, series, part, h.sop_uid, h.size, h.mtime, h.sha256, h.pixel_sha256, is_image, place)
            for place, h in enumerate(headers)
        ],
    )


def _write_refusal(db: sqlite3.Connection, refusal: Refusal, study_uid: str) -> None:
    db.execute(
        "INSERT OR IGNORE INTO refusals VALUES (?, ?, ?, ?, ?)",
        (refusal.where, refusal.kind, refusal.reason, refusal.message, study_uid),
    )
