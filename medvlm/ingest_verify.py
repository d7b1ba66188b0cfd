"""Decodes every pixel of a catalog once, in workers that may die, and keeps the digest of what came out."""

from __future__ import annotations

from itertools import islice

from tqdm import tqdm

from volumes.catalog import Catalog
from volumes.errors import VolumeError

_BATCH = 200
_NO_PIXELS = "no-pixels"


def verify_images(catalog: Catalog, workers: int) -> int:
    """Decode each image that was not decoded yet; returns how many were.

    What does not decode stays in the catalog, and the audit names it: a reader will refuse its series.
    """
    from volumes.verify import isolated

    unseen = (
        "FROM instances i WHERE is_image AND NOT EXISTS (SELECT 1 FROM verified v WHERE v.path = i.path)"
        " ORDER BY path, part"
    )
    total = catalog.connection.execute(f"SELECT COUNT(DISTINCT path) {unseen}").fetchone()[0]
    if not total:
        return 0
    bar = tqdm(desc="decode images", total=total, unit="file", disable=None)
    with bar, isolated(max(1, workers)) as pool:
        while waiting := catalog.connection.execute(f"SELECT DISTINCT path, study_uid {unseen} LIMIT 5000").fetchall():
            found = zip(waiting, pool.map(path for path, _ in waiting), strict=True)
            while batch := list(islice(found, _BATCH)):
                with catalog.transaction() as db:
                    catalog.forget_conclusion()
                    for (path, study), (_, told) in batch:
                        values: tuple[str, ...] = ("", "", "", "")
                        if isinstance(told, VolumeError):
                            values = ("", "", "", told.reason) if told.reason != _NO_PIXELS else values
                        else:
                            values = (told.sha256, " ".join(map(str, told.shape)), told.dtype, "")
                        db.execute("INSERT OR REPLACE INTO verified VALUES (?, ?, ?, ?, ?, ?)", (study, path, *values))
                bar.update(len(batch))
    return int(total)
