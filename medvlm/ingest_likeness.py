"""Looks at one image of every series for `volumes.likeness`, in workers that may die: this decodes pixels."""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from volumes.archive import read_location
from volumes.catalog import Catalog
from volumes.instance import InstanceHeader
from volumes.likeness import perceptual_hash, thumbnail
from volumes.study import Series, group_studies
from volumes.volume import Film, Unit, VolumeError

Asked = tuple[tuple[str, ...], Unit, str]  # locations of the files of a series, and what the caller said of them
_SECONDS = 30.0
_MEMORY_BYTES = 4 * 2**30
_BATCH = 200


def look_at_series(catalog: Catalog, workers: int) -> int:
    """Keep the thumbnail of every series that has none yet; returns how many were looked at.

    What cannot be decoded is kept without one: reading the series will say why.
    """
    from volumes.isolation import Workers

    query = (
        "SELECT study_uid, series_uid, part, unit, modality FROM series s WHERE kind IN ('film', 'volume') AND NOT"
        " EXISTS (SELECT 1 FROM likenesses l WHERE l.study_uid = s.study_uid AND l.series_uid = s.series_uid"
        " AND l.part = s.part) ORDER BY study_uid, series_uid, part"
    )
    waiting = catalog.connection.execute(query).fetchall()
    if not waiting:
        return 0
    paths = "SELECT path FROM instances WHERE study_uid = ? AND series_uid = ? AND part = ? AND is_image ORDER BY place"
    asked = (
        (tuple(row[0] for row in catalog.connection.execute(paths, key).fetchall()), unit, modality)
        for *key, unit, modality in waiting
    )
    bar = tqdm(desc="look at images", total=len(waiting), unit="series", disable=None)
    with bar, Workers(likeness, max(1, workers), _SECONDS, _MEMORY_BYTES, chunk=4) as pool:
        found = zip(waiting, pool.map(asked), strict=True)
        while batch := list(islice(found, _BATCH)):
            with catalog.transaction() as db:
                catalog.forget_conclusion()
                for row, (_, told) in batch:
                    kept = ("", b"") if isinstance(told, VolumeError) else told
                    db.execute("INSERT OR REPLACE INTO likenesses VALUES (?, ?, ?, ?, ?)", (*row[:3], *kept))
            bar.update(len(batch))
    return len(waiting)


def likeness(asked: Asked) -> tuple[str, bytes]:
    """Hash and thumbnail of one series; both empty for a blank image. Raises VolumeError when it cannot be read."""
    locations, unit, modality = asked
    headers = [h for h in map(_header, locations) if isinstance(h, InstanceHeader)]
    series = [one for study in group_studies(headers, unit=unit, modality=modality) for one in study.series]
    if len(series) != 1:
        raise VolumeError(f"{len(locations)} files hold {len(series)} images; expected one", "several-series")
    small = thumbnail(_one_image(series[0]))
    return ("", b"") if small is None else (f"{perceptual_hash(small):016x}", small.tobytes())


def _header(location: str) -> object:
    return read_location(location, digests=False)


def _one_image(series: Series) -> NDArray[np.float32]:
    """The film, or the slice in the middle of the volume."""
    slices = [h for h in series.instances if len(h.position) == 3 and len(h.orientation) == 6]
    if series.kind == "volume" and series.format == "dicom" and len(slices) == len(series.instances) > 1:
        normal = np.cross(slices[0].orientation[:3], slices[0].orientation[3:])
        slices.sort(key=lambda h: float(np.dot(h.position, normal)))
        from volumes.planes import read_plane

        middle = slices[len(slices) // 2]
        out = np.empty((middle.rows, middle.columns), np.float32)
        read_plane(middle, out)
        return out
    image = series.read()
    if isinstance(image, Film):
        return image.pixels.numpy()
    return image.voxels[image.voxels.shape[0] // 2].numpy()
