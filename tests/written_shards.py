"""Shards written for a test: random images that are neither symmetric nor alike, under a small contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from volumes.shard_store import Store
from volumes.shard_writer import claim, write_manifest, write_shard
from volumes.shards import Contract, Planned, Prepared, Refused, ShardJob, ShardPlan, image_shape
from volumes.transforms import FilmContract, VolumeContract

FILM = FilmContract(size=12)
VOLUME = VolumeContract(shape_dhw=(3, 5, 7), spacing_mm=(4.0, 3.0, 2.0))
REFUSED = "1.2.826.3"
"""The study whose image cannot be read."""


def image_of(uid: str, contract: Contract = FILM) -> np.ndarray:
    """The image of a study, the same each time."""
    return np.random.default_rng(list(uid.encode())).random(image_shape(contract)).astype(np.float32)


def plan(
    n: int = 23,
    per_shard: int = 5,
    contract: Contract = FILM,
    dtype: str = "float32",
    source: Callable[[int], str] = lambda number: f"{number:064x}",
) -> ShardPlan:
    """Studies 1.2.826.0 and so on; `source` gives the digest of what each was made from."""
    planned = tuple(
        Planned(
            f"1.2.826.{number}",
            source(number),
            {"study_uid": f"1.2.826.{number}", "patient_key": f"p{number // 2}", "text": "Kein Befund, außer Übung."},
        )
        for number in range(n)
    )
    return ShardPlan(planned, contract, "train", per_shard, dtype)


def prepared(job: ShardJob, contract: Contract = FILM) -> list[Prepared | Refused]:
    """The images of a shard; one of them is refused."""
    return [
        Refused("archive-changed")
        if one.study_uid == REFUSED
        else Prepared(image_of(one.study_uid, contract), ("a repair",))
        for one in job.planned
    ]


def write(url: Path | str, wanted: ShardPlan) -> Store:
    """Write a whole plan."""
    store = Store(url)
    claim(store, wanted)
    for job in wanted.jobs:
        write_shard(store, job, prepared(job, wanted.contract))
    write_manifest(store, wanted)
    return store
