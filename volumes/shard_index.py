"""What the manifest and the indexes of shards say, compared with their digests before anything of it is believed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumes.shard_store import Store
from volumes.shards import FORMAT, MANIFEST, VERSION, canonical, index_name, shard_name
from volumes.volume import VolumeError


@dataclass(frozen=True)
class Index:
    """Where the samples of one shard lie; one row for each sample."""

    uids: tuple[str, ...]
    sources: tuple[str, ...]
    spans: NDArray[np.int64]  # (n, 6): start, stop, image start, image bytes, meta start, meta bytes
    digests: tuple[bytes, ...]
    checked: NDArray[np.int64]  # (n,): CRC-32 of a sample whose sha256 was right, -1 before that
    end: int
    refused: tuple[tuple[str, str, str], ...]


def read_manifest(store: Store) -> dict[str, Any]:
    """The manifest. Raises VolumeError when there is none, or one that is damaged, foreign or of another version."""
    try:
        text = store.read(MANIFEST)
    except VolumeError as error:
        raise VolumeError(
            f"{store.url}: no {MANIFEST} there; `medvlm shard` writes it when every shard is written", "no-shards"
        ) from error
    try:
        manifest = json.loads(text)
        stated = manifest.pop("sha256")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise VolumeError(f"{store.url}/{MANIFEST}: damaged: not a manifest of shards", "damaged-manifest") from error
    found = hashlib.sha256(canonical(manifest)).hexdigest()
    if found != stated or text != canonical(manifest | {"sha256": stated}):
        raise VolumeError(
            f"{store.url}/{MANIFEST}: damaged: sha256 is {found}, expected {stated}. Run `medvlm shard` again: it keeps"
            " the shards that are whole",
            "damaged-manifest",
        )
    if (manifest["format"], manifest["version"]) != (FORMAT, VERSION):
        raise VolumeError(
            f"{store.url}: holds {manifest['format']} {manifest['version']}; this version reads {FORMAT} {VERSION}",
            "other-version",
        )
    names = [shard["name"] for shard in manifest["shards"]]
    if names != [shard_name(number) for number in range(len(names))]:  # a name could lead out of the folder
        raise VolumeError(
            f"{store.url}/{MANIFEST}: names shards {names[:3]}; expected {shard_name(0)} and so on", "bad-shard"
        )
    return dict(manifest)


def compare_sizes(store: Store, manifest: dict[str, Any]) -> None:
    """Raise VolumeError for shards that are missing or cut off; costs one listing of the folder."""
    sizes = store.sizes()
    wrong = [
        f"{shard['name']} has {sizes[shard['name']]} of {shard['bytes']} bytes"
        if shard["name"] in sizes
        else f"{shard['name']} is missing"
        for shard in manifest["shards"]
        if sizes.get(shard["name"]) != shard["bytes"]
    ]
    if wrong:
        raise VolumeError(
            f"{store.url}: {len(wrong)} of {len(manifest['shards'])} shards are not whole: {', '.join(wrong[:3])}. Copy"
            " them again, or run `medvlm shard` again: it writes only these",
            "damaged-shard",
        )


def read_index(store: Store, shard: int, told: dict[str, Any]) -> Index:
    """The index of a shard of which the manifest `told`. Raises VolumeError when it is damaged or cannot be true."""
    name = index_name(shard)
    text = store.read(name)
    found = hashlib.sha256(text).hexdigest()
    if found != told["index_sha256"]:
        raise VolumeError(
            f"{store.url}/{name}: damaged: sha256 is {found}, expected {told['index_sha256']}. Delete it and run"
            " `medvlm shard` again",
            "damaged-index",
        )
    index = _parse(json.loads(text))
    if len(index.uids) != told["samples"] or not _is_possible(index, told["bytes"]):
        raise VolumeError(
            f"{store.url}/{name}: {len(index.uids)} samples in places that a shard of {told['bytes']} bytes and"
            f" {told['samples']} samples cannot have; it was not written by this program",
            "bad-shard",
        )
    return index


def _is_possible(index: Index, size: int) -> bool:
    """Whether samples follow each other, members lie inside their samples, and all of it inside the file."""
    start, stop, image, n_image, meta, n_meta = index.spans.T
    edges = np.concatenate([[0], index.spans[:, :2].ravel(), [index.end, size]])
    members = (
        (start <= image) & (n_image >= 0) & (image + n_image <= meta) & (n_meta >= 0) & (meta + n_meta <= stop)
    ).all()
    return bool(members and (np.diff(edges) >= 0).all())


def _parse(index: dict[str, Any]) -> Index:
    samples = index["samples"]
    spans = [[s["start"], s["stop"], *s["image"], *s["meta"]] for s in samples]
    return Index(
        tuple(s["study_uid"] for s in samples),
        tuple(s["source"] for s in samples),
        np.array(spans, dtype=np.int64).reshape(-1, 6),
        tuple(bytes.fromhex(s["sha256"]) for s in samples),
        np.full(len(samples), -1, dtype=np.int64),
        int(index["end"]),
        tuple((one["study_uid"], one["reason"], one["source"]) for one in index["refused"]),
    )
