"""Writing shards so that whoever is killed, resumed, or writes at the same time leaves the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from volumes.shard_store import Store
from volumes.shards import (
    FORMAT,
    MANIFEST,
    PLAN,
    VERSION,
    Planned,
    Prepared,
    Refused,
    ShardJob,
    ShardPlan,
    canonical,
    index_name,
    shard_name,
)
from volumes.volume import VolumeError

_TAR_BLOCK, _TAR_RECORD = 512, 10240  # POSIX.1-1988 (ustar): headers and data in blocks, files in whole records


def claim(store: Store, plan: ShardPlan) -> None:
    """Note what the folder is for. Raises VolumeError when it holds another plan, or something else."""
    mine, held = plan.to_dict(), store.sizes()
    if PLAN not in held:
        others = sorted(name for name in held if not name.startswith("."))
        if others:
            raise VolumeError(
                f"{store.url}: is not empty and holds no shards, but {', '.join(others[:3])}; give another folder",
                "other-plan",
            )
        with store.writing(PLAN) as stream:
            stream.write(canonical(mine))
    theirs = _json(store, PLAN)
    differs = [key for key in mine if theirs.get(key) != mine[key]]
    if differs:
        was, now = ({key: values.get(key) for key in differs} for values in (theirs, mine))
        raise VolumeError(
            f"{store.url}: holds shards of another plan; then {json.dumps(was)}, now {json.dumps(now)}. Give another"
            " folder, or delete this one",
            "other-plan",
        )


def is_written(store: Store, job: ShardJob, sizes: dict[str, int]) -> bool:
    """Whether a shard is there and whole: its index says of which plan it is, how long, and what its sha256 is.

    `sizes` are those of the store, listed once for many shards.
    """
    shard, index = shard_name(job.number), index_name(job.number)
    if index not in sizes or shard not in sizes:
        return False
    try:
        held = _json(store, index)
    except VolumeError:
        return False
    ours = held.get("plan_sha256") == job.plan_sha256 and held.get("bytes") == sizes[shard]
    return ours and held.get("sha256") == store.sha256(shard)


def write_shard(store: Store, job: ShardJob, images: Iterable[Prepared | Refused]) -> dict[str, Any]:
    """Write one shard and its index; returns the index. `images` come in the order of `job.planned`."""
    samples: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    with store.writing(shard_name(job.number)) as stream:
        tee = _Hashed(stream)
        for planned, image in zip(job.planned, images, strict=True):
            if isinstance(image, Refused):
                refused.append({"study_uid": planned.study_uid, "source": planned.source, "reason": image.reason})
                continue
            samples.append(_write_sample(tee, planned, image, job.dtype))
        end = tee.written
        tee.write(b"\0" * (-(end + 2 * _TAR_BLOCK) % _TAR_RECORD + 2 * _TAR_BLOCK))
    index = {
        "format": FORMAT,
        "version": VERSION,
        "shard": job.number,
        "plan_sha256": job.plan_sha256,
        "bytes": tee.written,
        "sha256": tee.digest.hexdigest(),
        "end": end,  # of the last sample; zeros follow
        "samples": samples,
        "refused": refused,
    }
    with store.writing(index_name(job.number)) as stream:
        stream.write(canonical(index))
    return index


def write_manifest(store: Store, plan: ShardPlan) -> dict[str, Any]:
    """Write the manifest when every shard is there; returns it. Raises VolumeError for shards that are missing."""
    sizes = store.sizes()
    absent = [index_name(n) for n in range(plan.n_shards) if index_name(n) not in sizes]
    if absent:
        raise VolumeError(
            f"{store.url}: {len(absent)} of {plan.n_shards} shards are not written, such as {absent[0]}; write them"
            " before the manifest",
            "missing-shard",
        )
    shards = []
    for job in plan.jobs:
        text = store.read(index_name(job.number))
        index = json.loads(text)
        if index["plan_sha256"] != job.plan_sha256:
            raise VolumeError(
                f"{store.url}: {index_name(job.number)} is of the plan {index['plan_sha256'][:16]}, not of"
                f" {job.plan_sha256[:16]}: two writers had different catalogs. Delete the folder and write again",
                "other-plan",
            )
        shards.append(
            {
                "name": shard_name(job.number),
                "bytes": index["bytes"],
                "samples": len(index["samples"]),
                "refused": len(index["refused"]),
                "sha256": index["sha256"],
                "index_sha256": hashlib.sha256(text).hexdigest(),
            }
        )
    manifest = plan.to_dict() | {"samples": sum(one["samples"] for one in shards), "shards": shards}
    manifest["sha256"] = hashlib.sha256(canonical(manifest)).hexdigest()
    with store.writing(MANIFEST) as stream:
        stream.write(canonical(manifest))
    return manifest


def _write_sample(tee: _Hashed, planned: Planned, prepared: Prepared, dtype: str) -> dict[str, Any]:
    tee.mark()
    start = tee.written
    array = io.BytesIO()
    pixels = np.ascontiguousarray(prepared.image, dtype=np.dtype(dtype).newbyteorder("<"))
    np.lib.format.write_array(array, pixels, version=(1, 0), allow_pickle=False)
    place = [_write_member(tee, f"{planned.key}.npy", array.getvalue())]
    meta = planned.meta | {"notes": list(prepared.notes)}
    place.append(_write_member(tee, f"{planned.key}.json", canonical(meta)))
    return {
        "study_uid": planned.study_uid,
        "source": planned.source,
        "start": start,
        "stop": tee.written,
        "image": place[0],  # first byte after the tar header, and length
        "meta": place[1],
        "sha256": tee.since_mark.hexdigest(),  # of all bytes from start to stop, tar headers and padding included
    }


def _write_member(tee: _Hashed, name: str, data: bytes) -> tuple[int, int]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tee.write(info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
    start = tee.written
    tee.write(data)
    tee.write(b"\0" * (-len(data) % _TAR_BLOCK))
    return start, len(data)


class _Hashed:
    """Counts and hashes what passes through: the whole file, and what came since the last mark."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.written = stream, 0
        self.digest, self.since_mark = hashlib.sha256(), hashlib.sha256()

    def mark(self) -> None:
        self.since_mark = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.stream.write(data)
        self.digest.update(data)
        self.since_mark.update(data)
        self.written += len(data)


def _json(store: Store, name: str) -> dict[str, Any]:
    try:
        values = json.loads(store.read(name))
    except ValueError as error:
        raise VolumeError(f"{store.url}/{name}: not JSON: {error}", "damaged-index") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT or values.get("version") != VERSION:
        raise VolumeError(f"{store.url}/{name}: not a file of {FORMAT} {VERSION}", "damaged-index")
    return values
