"""Images that are nearly the same: one film sent twice with another window, size or compression.

A thumbnail of 32 x 32 ranks does not change with window, gamma or size. Its perceptual hash (signs of the low
frequencies of a cosine transform, as in pHash, Zauner 2010) finds candidates; the correlation of thumbnails decides.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SIDE = 32
LOW = 8  # frequencies in each direction
MOST_BITS = 12  # candidates differ in so many of 64 bits at most
# Of 298 real chest films, those of two patients reach 0.94 (44,000 pairs); one film with another window (5 to 95 % of
# its values), gamma 0.5, JPEG quality 30, half the size or noise keeps 0.98.
MIN_CORRELATION = 0.975
_BANDS = 4  # candidates agree in at least one of these groups of 16 bits but for a bit


def thumbnail(pixels: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    """Ranks (32, 32) of the mean brightness of equal parts of an image (H, W), or None for a nearly blank one."""
    from scipy.stats import rankdata

    if min(pixels.shape) < 8 or not np.isfinite(pixels).all():
        return None
    small = _shrunk(_shrunk(pixels.astype(np.float64), 0), 1)
    ranks = rankdata(np.round(small, 6), method="average").reshape(SIDE, SIDE)
    if len(np.unique(ranks)) < SIDE * SIDE // 8:
        return None
    return np.clip(np.rint((ranks - 1) / (SIDE * SIDE - 1) * 255), 0, 255).astype(np.uint8)


def perceptual_hash(small: NDArray[np.uint8]) -> int:
    """64 bits: which low frequencies of a thumbnail are above their median."""
    from scipy.fft import dctn

    low = dctn(small.astype(np.float64), norm="ortho")[:LOW, :LOW].ravel()
    low[0] = 0.0
    bits = low > np.median(low)
    return int("".join("1" if bit else "0" for bit in bits), 2)


def near_duplicates(db: sqlite3.Connection) -> Iterator[str]:
    """Pairs of series of different studies that look the same, in words; needs what `ingest_likeness` wrote.

    16 bytes of memory for each series; thumbnails are fetched for candidates only.
    """
    found = db.execute("SELECT rowid, digest FROM likenesses WHERE digest != '' ORDER BY study_uid, series_uid, part")
    pairs = [(row, int(digest, 16)) for row, digest in found]
    rows, hashes = np.array([row for row, _ in pairs], np.int64), np.array([value for _, value in pairs], np.uint64)
    query = (
        "SELECT study_uid, series_uid, patient_key, split, thumbnail FROM likenesses JOIN studies USING(study_uid)"
        " WHERE likenesses.rowid = ?"
    )
    for one, other in _candidates(hashes):
        first = db.execute(query, (int(rows[one]),)).fetchone()
        second = db.execute(query, (int(rows[other]),)).fetchone()
        if first is None or second is None or first[0] == second[0]:
            continue  # two reconstructions of one scan look the same
        alike = float(np.corrcoef(np.frombuffer(first[4], np.uint8), np.frombuffer(second[4], np.uint8))[0, 1])
        if alike >= MIN_CORRELATION:
            patients, splits = len({first[2], second[2]}), len({first[3], second[3]})
            yield (
                f"series {first[1]} and {second[1]} look the same (correlation {alike:.3f}): {patients} patient(s),"
                f" {splits} split(s), studies {first[0]},{second[0]}"
            )


def _shrunk(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Means of 32 equal parts along an axis, parts of pixels weighed."""
    total = np.insert(np.cumsum(values, axis=axis), 0, 0.0, axis=axis)
    edges = np.linspace(0, values.shape[axis], SIDE + 1)
    low = np.minimum(edges.astype(int), values.shape[axis] - 1)
    part = edges - low
    shape = [-1 if n == axis else 1 for n in range(values.ndim)]
    at = np.take(total, low, axis) + np.take(values, low, axis) * part.reshape(shape)
    return np.diff(at, axis=axis) / (values.shape[axis] / SIDE)


def _candidates(hashes: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """Pairs that differ in few bits: those that share one of four groups of 16 bits, or miss it by one bit."""
    found: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        key = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        buckets: dict[int, list[int]] = {}
        for index, value in enumerate(key.tolist()):
            buckets.setdefault(value, []).append(index)
        for value, members in buckets.items():
            near = [buckets.get(value ^ (1 << bit), []) for bit in range(16)]
            others = np.array(sorted(members + [index for group in near for index in group]), np.int64)
            for one in members:
                rest = others[np.searchsorted(others, one, "right") :]
                found.update(
                    (one, int(index)) for index in rest[np.bitwise_count(hashes[rest] ^ hashes[one]) <= MOST_BITS]
                )
    return sorted(found)
