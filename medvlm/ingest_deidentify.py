"""`medvlm ingest --deidentify`: clean the archive and its reports first, then read only what is clean."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from volumes.errors import VolumeError

if TYPE_CHECKING:
    from medvlm.report_cleaning import ReportCleaner


def clean_copy(
    archives: Sequence[Path], reports: Sequence[Path], catalog: Path, key: Path | None, workers: int
) -> tuple[Path, ReportCleaner | None]:
    """Write a de-identified copy of the archives beside the catalog (CATALOG_deidentified).

    Returns its folder and, where there are reports, what cleans them as they are read: with the same key, so that they
    join the studies of the copy and their dates move with them. A second call cleans only files that are new or have
    changed.

    Raises: VolumeError ("no-key") without a key file, since then tomorrow's files would belong to other patients than
    today's; ("reports-not-clean") for a table that names its films by file, since the copy has other files.
    """
    from volumes.deidentify import Options, deidentify

    if key is None:
        raise VolumeError(
            "--deidentify needs --key FILE, the secret that pseudonyms come from (made when absent): without it a"
            " patient would get another pseudonym at every call",
            "no-key",
        )
    _refuse_film_tables([*archives, *reports])
    audit = deidentify(archives, catalog.with_name(f"{catalog.stem}_deidentified"), Options(key=key, workers=workers))
    print(audit.text(), file=sys.stderr)
    return audit.folder, cleaner_of(archives, key) if reports else None


def cleaner_of(archives: Sequence[Path], key: Path) -> ReportCleaner:
    """What cleans the reports of an archive with the key that cleaned its images."""
    from medvlm.report_cleaning import ReportCleaner, Subjects
    from reports.deidentify import TextDeidentifier
    from volumes.deidentify_keys import Pseudonyms, read_key

    return ReportCleaner(TextDeidentifier(Pseudonyms(read_key(key))), Subjects.of(archives))


def _refuse_film_tables(paths: Sequence[Path]) -> None:
    from medvlm.film_table import is_film_table

    tables = [path for path in paths if is_film_table(path)]
    if tables:
        raise VolumeError(
            f"--deidentify gives films other file names, and {len(tables)} table(s) of --reports name films by file,"
            " so their rows could not be joined. Name studies in the table by accession number or study UID, clean it"
            " alone by `medvlm deidentify --reports`, or leave it out",
            "reports-not-clean",
        )
