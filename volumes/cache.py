"""Decoded volumes on disk, so that an epoch reads pixels and not DICOM; patches without decoding the whole.

An entry is stale when a file behind it changed, or the preparation, or a library that reads; damaged when a byte is not
what was written. Both are found before use, said, and made anew. Chunks are compressed by blosc2 and carry a CRC-32,
which finds every flipped byte; the header carries a SHA-256. Nothing is unpickled. No path and no patient is stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import secrets
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from isal import isal_zlib
from numpy.typing import NDArray

from volumes.archive import ZIP_MARK
from volumes.errors import VolumeError
from volumes.study import Series
from volumes.volume import Source, Volume

CHUNK = (32, 64, 128)  # 512 kB of int16: a 96^3 patch touches some 15 of the 224 chunks of a CT
_MAGIC = b"volcache1\n"
_LIBRARIES = ("blosc2", "numpy", "pydicom", "nibabel", "simpleitk", "pyjpegls", "pylibjpeg-openjpeg", "pylibjpeg-rle")
_LEFT_OVER_SECONDS = 3600.0  # a temporary file so old belongs to a writer that is dead
_FEW = 32  # fewer chunks are decoded one after the other
_SUFFIX = ".volume"
_log = logging.getLogger(__name__)

Index = tuple[slice, slice, slice]


class _UnusableError(Exception):
    """An entry that is stale or damaged: why."""


@dataclass(frozen=True)
class _Entry:
    """The header of one file, verified, and where its chunks lie."""

    told: dict[str, Any]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    checksums: NDArray[np.uint32]

    @property
    def shape(self) -> tuple[int, int, int]:
        d, h, w = self.told["shape"]
        return d, h, w


class VolumeCache:
    """Volumes of series, kept in `folder` up to `limit_bytes`; the least recently used go first.

    `prepare` is what is done to a volume before it is kept, and `contract` names it: another name, another entry. A
    cache may be used by many processes at once.
    """

    def __init__(
        self,
        folder: Path | str,
        limit_bytes: int,
        prepare: Callable[[Volume], Volume] | None = None,
        contract: str = "",
    ) -> None:
        if prepare is not None and not contract:
            raise VolumeError("a cache of prepared volumes needs a contract that names the preparation", "no-contract")
        try:
            import blosc2
        except ImportError as error:
            raise VolumeError(
                'a cache of volumes needs blosc2: `pip install "medvlm-platform[cache]"`', "missing-extra"
            ) from error
        self._blosc2 = blosc2
        blosc2.set_releasegil(True)  # else threads would wait for one another
        self.folder, self.limit_bytes, self.prepare, self.contract = Path(folder), limit_bytes, prepare, contract
        self.rebuilt: Counter[str] = Counter()  # why entries were made anew
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, series: Series) -> Volume:
        """The volume of a series, from the cache or into it. Raises SeriesError when the series cannot be read."""
        return self._with(series, lambda path, entry: self._read(path, entry, _whole(entry.shape)))

    def patch(self, series: Series, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Volume:
        """Part of the volume: voxels [start, start + shape) with its own affine. Only the chunks touched are decoded.

        Raises VolumeError when the patch does not lie in the volume.
        """
        index: Index = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))  # type: ignore[assignment]

        def read(path: Path, entry: _Entry) -> Volume:
            if any(s < 0 or n < 1 or s + n > size for s, n, size in zip(start, shape, entry.shape, strict=True)):
                raise VolumeError(
                    f"the patch of {shape} voxels at {start} leaves the volume of {entry.shape}", "outside-volume"
                )
            return self._read(path, entry, index)

        return self._with(series, read)

    def _with(self, series: Series, read: Callable[[Path, _Entry], Volume]) -> Volume:
        path, identity = self.folder / (_name(series, self.contract) + _SUFFIX), _identity(series)
        for attempt in (1, 2):
            try:
                found = read(path, self._open(path, identity))
            except FileNotFoundError:
                pass
            except _UnusableError as why:
                self.rebuilt[str(why)] += 1
                _log.warning("cached volume %s is made anew: %s", path.name[:12], why)
            else:
                with contextlib.suppress(FileNotFoundError):  # another process has evicted it meanwhile
                    os.utime(path)  # the time of the last use
                paths = {header.sop_uid: header.path for header in reversed(series.instances)}
                where = paths.get(found.source.sop_uids[0], series.instances[0].path)
                return replace(found, source=replace(found.source, path=where))
            if attempt == 1:
                self._write(path, series, identity)
        raise VolumeError("a cached volume was damaged as soon as it was written: check the disk", "damaged-cache")

    def _open(self, path: Path, identity: str) -> _Entry:
        with path.open("rb") as stream:
            prefix = stream.read(len(_MAGIC) + 8)
            if len(prefix) < len(_MAGIC) + 8 or not prefix.startswith(_MAGIC):
                raise _UnusableError("its header is damaged")
            size, count = struct.unpack_from("<II", prefix, len(_MAGIC))
            if (size + 12 * count) > os.fstat(stream.fileno()).st_size:
                raise _UnusableError("its header is damaged")
            body = stream.read(size + 8 * count)
            if hashlib.sha256(prefix + body).digest() != stream.read(32):
                raise _UnusableError("its header is damaged")
            first, end = stream.tell(), os.fstat(stream.fileno()).st_size
        told = json.loads(body[:size])
        table = np.frombuffer(body, "<u4", offset=size).reshape(count, 2)
        lengths = table[:, 0].astype(np.int64)
        starts = first + np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        if int(first + lengths.sum()) != end:
            raise _UnusableError("it is truncated")
        if told["identity"] != identity:
            raise _UnusableError("a file of the series, or a library that reads it, has changed since")
        return _Entry(told, starts, lengths, table[:, 1])

    def _read(self, path: Path, entry: _Entry, index: Index) -> Volume:
        out = np.empty([part.stop - part.start for part in index], np.float32)
        dtype = np.dtype(entry.told["dtype"])
        descriptor = os.open(path, os.O_RDONLY)

        def place(job: tuple[int, Index]) -> None:
            number, chunk = job
            packed = os.pread(descriptor, int(entry.lengths[number]), int(entry.starts[number]))
            if isal_zlib.crc32(packed) != int(entry.checksums[number]) or len(packed) != entry.lengths[number]:
                raise _UnusableError("its voxels are damaged")
            shape = tuple(part.stop - part.start for part in chunk)
            values = np.empty(shape, dtype)
            self._blosc2.decompress2(packed, dst=values, nthreads=1)
            inner, outer = _overlap(chunk, index)
            out[outer] = values[inner]

        jobs = list(_touched(entry.shape, index))
        try:
            _each(place, jobs)
        finally:
            os.close(descriptor)
        affine = torch.tensor(entry.told["affine"], dtype=torch.float64)
        corner = torch.tensor([float(part.start) for part in index], dtype=torch.float64)
        affine[:3, 3] += affine[:3, :3] @ corner
        source = Source(**{**entry.told["source"], "sop_uids": tuple(entry.told["source"]["sop_uids"])})
        return Volume(torch.from_numpy(out), affine, entry.told["unit"], source, tuple(entry.told["notes"]))

    def _write(self, path: Path, series: Series, identity: str) -> None:
        volume = series.read()
        if not isinstance(volume, Volume):
            raise VolumeError(f"series {series.series_uid} is a film; volumes are cached here", "not-a-volume")
        if self.prepare is not None:
            volume = self.prepare(volume)
        values = _narrow(volume.voxels.numpy())
        chunks = [self._pack(values[chunk]) for _, chunk in _touched(volume.shape, _whole(volume.shape))]
        source = {name: value for name, value in volume.source.__dict__.items() if name != "path"}
        told = {
            "identity": identity,
            "shape": volume.shape,
            "dtype": values.dtype.str,
            "affine": volume.affine.tolist(),
            "unit": volume.unit,
            "source": source,
            "notes": volume.notes,
        }
        body = json.dumps(told).encode()
        table = np.array([(len(one), isal_zlib.crc32(one)) for one in chunks], "<u4").tobytes()
        head = _MAGIC + struct.pack("<II", len(body), len(chunks)) + body + table
        self._store(path, [head, hashlib.sha256(head).digest(), *chunks])
        self._evict(keep=path)

    def _pack(self, values: NDArray[Any]) -> bytes:
        packed: bytes = self._blosc2.compress2(
            np.ascontiguousarray(values),
            typesize=values.dtype.itemsize,
            clevel=3,
            codec=self._blosc2.Codec.ZSTD,
            filters=[self._blosc2.Filter.SHUFFLE],
            filters_meta=[0],
            nthreads=1,
        )
        return packed

    def _store(self, path: Path, parts: list[bytes]) -> None:
        """Whole or not at all, also when the power fails: written aside, synced, renamed, and the folder synced."""
        aside = self.folder / f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        try:
            with aside.open("xb") as stream:
                stream.writelines(parts)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _evict(self, keep: Path) -> None:
        """Drop what was used longest ago until the limit holds, and what dead writers left."""
        held: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            try:
                told = path.stat()
            except FileNotFoundError:  # another process was quicker
                continue
            if path.suffix == ".tmp" and time.time() - told.st_mtime > _LEFT_OVER_SECONDS:
                path.unlink(missing_ok=True)
            elif path.suffix == _SUFFIX:
                held.append((told.st_mtime, told.st_size, path))
        total = sum(size for _, size, _ in held)
        for _, size, path in sorted(held):
            if total <= self.limit_bytes:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size


def _name(series: Series, contract: str) -> str:
    parts = json.dumps([series.study_uid, series.series_uid, series.part, contract])
    return hashlib.sha256(parts.encode()).hexdigest()[:40]


def _identity(series: Series) -> str:
    """Digest of the content of the files, wherever they lie, and of the libraries that read them.

    A file counts by its SHA-256 where that is known and its size and time are still those of then; else by these two.
    """
    files = []
    for header in series.instances:
        try:
            told = os.stat(header.path.partition(ZIP_MARK)[0])
        except OSError:
            raise VolumeError(f"instance {header.sop_uid}: the file is gone", "unreadable-file") from None
        same = ZIP_MARK in header.path or told.st_size == header.size
        known = header.sha256 if same and told.st_mtime == header.mtime else ""
        files.append([header.sop_uid, known or f"{told.st_size} bytes at {told.st_mtime_ns}"])
    versions = [_version(name) for name in _LIBRARIES]
    parts = json.dumps([sorted(files), series.unit, versions, CHUNK])
    return hashlib.sha256(parts.encode()).hexdigest()


@lru_cache(maxsize=32)
def _version(name: str) -> str:
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return name


def _narrow(voxels: NDArray[np.float32]) -> NDArray[Any]:
    """The same values as int16 where not a bit is lost, as in every CT; else as they are."""
    if float(voxels.min()) < -32768 or float(voxels.max()) > 32767:
        return voxels
    with np.errstate(invalid="ignore"):
        small = voxels.astype(np.int16)
    same = np.array_equal(small.astype(np.float32).view(np.uint32), np.ascontiguousarray(voxels).view(np.uint32))
    return small if same else voxels


def _whole(shape: tuple[int, ...]) -> Index:
    d, h, w = shape
    return slice(0, d), slice(0, h), slice(0, w)


def _touched(shape: tuple[int, ...], index: Index) -> Iterator[tuple[int, Index]]:
    """(number, place) of each chunk that an index needs, in the order in which chunks are stored."""
    counts = [-(-size // step) for size, step in zip(shape, CHUNK, strict=True)]
    ranges = [range(part.start // step, -(-part.stop // step)) for part, step in zip(index, CHUNK, strict=True)]
    for k, j, i in itertools.product(*ranges):
        corner = [n * step for n, step in zip((k, j, i), CHUNK, strict=True)]
        a, b, c = (slice(at, min(at + step, n)) for at, step, n in zip(corner, CHUNK, shape, strict=True))
        yield (k * counts[1] + j) * counts[2] + i, (a, b, c)


def _overlap(chunk: Index, index: Index) -> tuple[Index, Index]:
    """Where the two meet: within the chunk, and within what is asked for."""
    inner, outer = [], []
    for have, want in zip(chunk, index, strict=True):
        low, high = max(have.start, want.start), min(have.stop, want.stop)
        inner.append(slice(low - have.start, high - have.start))
        outer.append(slice(low - want.start, high - want.start))
    return (inner[0], inner[1], inner[2]), (outer[0], outer[1], outer[2])


def _each(place: Callable[[tuple[int, Index]], None], jobs: list[tuple[int, Index]]) -> None:
    workers = min(os.cpu_count() or 1, 4) if len(jobs) > _FEW else 1
    if workers == 1:
        for job in jobs:
            place(job)
        return

    def some(share: list[tuple[int, Index]]) -> None:
        for job in share:
            place(job)

    with ThreadPoolExecutor(workers) as pool:  # in shares: handing over single chunks would cost as much as reading
        list(pool.map(some, [jobs[n :: 2 * workers] for n in range(2 * workers)]))
