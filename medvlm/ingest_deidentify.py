"""`medvlm ingest --deidentify`: clean the archive first, then read the copy only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from volumes.errors import VolumeError


def clean_copy(
    archives: Sequence[Path], reports: Sequence[Path], catalog: Path, key: Path | None, workers: int
) -> Path:
    """Write a de-identified copy of the archives beside the catalog (CATALOG_deidentified) and return its folder.

    A second call cleans only files that are new or have changed.
    Raises: VolumeError ("no-key") without a key file, since then tomorrow's files would belong to other patients than
    today's; ("reports-not-clean") with reports in messages or tables: nothing cleans those, and they name their studies
    by identifiers that the copy does not have. DICOM SR inside the archive are cleaned with it.
    """
    from volumes.deidentify import Options, deidentify

    if key is None:
        raise VolumeError(
            "--deidentify needs --key FILE, the secret that pseudonyms come from (made when absent): without it a"
            " patient would get another pseudonym at every call",
            "no-key",
        )
    if reports:
        raise VolumeError(
            f"--deidentify cleans DICOM, NIfTI, NRRD and pictures; the {len(reports)} path(s) of --reports hold text"
            " that it cannot clean, and studies named by their old identifiers. Leave --reports out, or --deidentify",
            "reports-not-clean",
        )
    audit = deidentify(archives, catalog.with_name(f"{catalog.stem}_deidentified"), Options(key=key, workers=workers))
    print(audit.text(), file=sys.stderr)
    return audit.folder
