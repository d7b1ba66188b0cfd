"""Batches from shards: exact resume with any number of workers and ranks, damaged samples refused or counted."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from written_shards import FILM, image_of, plan, write

from volumes.shard_loader import ShardLoader
from volumes.shard_reader import ShardSet
from volumes.shards import index_name, shard_name
from volumes.volume import VolumeError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    write(tmp_path_factory.mktemp("loader") / "shards", plan(n=60, per_shard=7))
    return tmp_path_factory.getbasetemp() / "loader0" / "shards"


@pytest.fixture(scope="module")
def shards(folder: Path) -> ShardSet:
    return ShardSet.open(folder, FILM)


def numbers(batches) -> list[list[int]]:
    return [batch.numbers.tolist() for batch in batches]


def test_an_epoch_shows_every_sample_once_with_its_image_and_text(shards: ShardSet) -> None:
    loader = ShardLoader(shards, 8, seed=3, window=2)
    batches = list(loader)
    assert sorted(n for batch in numbers(batches) for n in batch) == list(range(59))
    for batch in batches:
        assert batch.image.dtype == torch.float32
        assert batch.image.shape == (len(batch.numbers), 1, 12, 12)
        for image, meta in zip(batch.image, batch.meta, strict=True):
            assert np.array_equal(image, image_of(meta["study_uid"]))
    assert loader.state_dict() | {"epoch": 1, "position": 0} == loader.state_dict()
    assert numbers(loader) != numbers(batches)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_run_resumes_in_the_middle_of_an_epoch_with_any_number_of_workers(shards: ShardSet, workers: int) -> None:
    whole = ShardLoader(shards, 8, seed=3, window=2)
    expected = numbers(whole) + numbers(whole)
    first, seen = ShardLoader(shards, 8, seed=3, window=2, workers=2 if workers != 1 else 0), []
    for batch in first:
        seen.append(batch.numbers.tolist())
        if len(seen) == 3:
            break  # the process dies here; what its workers had read ahead is lost
    state = json.loads(json.dumps(first.state_dict()))
    assert state["position"] == 24
    second = ShardLoader(shards, 8, seed=3, window=2, workers=workers)
    second.load_state_dict(state)
    seen += numbers(second)
    seen += numbers(second)
    assert seen == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_ranks_share_an_epoch_also_when_their_number_changes_within_it(
    shards: ShardSet, batch: int, world: int, steps: int, later_batch: int, later_world: int, drop_last: bool
) -> None:
    """Samples of all ranks before and after a change of ranks and batch: none twice, none lost, the same order."""

    def loaders(batch: int, world: int, state: dict[str, int] | None = None) -> list[ShardLoader]:
        made = [ShardLoader(shards, batch, 5, rank, world, window=2, drop_last=drop_last) for rank in range(world)]
        for loader in made if state else []:
            loader.load_state_dict(state or {})
        return made

    seen: list[int] = []
    first = loaders(batch, world)
    running = [iter(loader) for loader in first]
    for _ in range(min(steps, 59 // (batch * world))):
        seen += interleaved([next(one).numbers.tolist() for one in running])
    states = [loader.state_dict() for loader in first]
    assert all(state == states[0] for state in states)
    rest = [numbers(loader) for loader in loaders(later_batch, later_world, states[0])]
    for step in range(max(map(len, rest))):
        seen += interleaved([part[step] for part in rest if step < len(part)])
    expected = first[0].order.at(0, 0, 59).tolist()
    assert seen == expected[: len(seen)]
    assert len(seen) == 59 or (drop_last and 59 - len(seen) < later_batch * later_world)


def interleaved(parts: list[list[int]]) -> list[int]:
    """The global order of what ranks hold: position p is with rank p % world."""
    return [part[place] for place in range(max(map(len, parts))) for part in parts if place < len(part)]


def test_a_state_of_another_order_is_refused(shards: ShardSet) -> None:
    loader = ShardLoader(shards, 8, seed=3, window=2)
    for other in (ShardLoader(shards, 8, seed=4, window=2), ShardLoader(shards, 8, seed=3, window=3)):
        with pytest.raises(VolumeError, match=r"is of another run: this one has .*; (seed|window) cannot differ"):
            loader.load_state_dict(other.state_dict())
    with pytest.raises(VolumeError, match=r"position cannot differ"):
        loader.load_state_dict(loader.state_dict() | {"position": 60})
    with pytest.raises(VolumeError, match=r"rank is 3 of 3; expected 0 to 2"):
        ShardLoader(shards, 8, rank=3, world=3)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_sample_stops_the_run_or_is_left_out_and_counted(tmp_path: Path, workers: int) -> None:
    write(tmp_path / "s", plan())
    path, span = tmp_path / "s" / shard_name(2), json.loads((tmp_path / "s" / index_name(2)).read_text())["samples"][0]
    data = bytearray(path.read_bytes())
    data[span["image"][0] + 300] ^= 32
    path.write_bytes(data)
    shards = ShardSet.open(tmp_path / "s")
    with pytest.raises(VolumeError, match=rf"sample {span['study_uid']} is damaged"):
        list(ShardLoader(shards, 4, workers=workers))
    loader = ShardLoader(shards, 1, workers=workers, skip_damaged=True)
    assert sum(len(batch.numbers) for batch in loader) == 21
    assert len(loader.damaged) == 1
    assert span["study_uid"] in loader.damaged[0]


def _rank(rank: int, world: int, port: int, folder: str, out: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    shards = ShardSet.open(folder)
    seen = torch.zeros(len(shards), dtype=torch.int64)
    sums = torch.zeros(1, dtype=torch.float64)
    for batch in ShardLoader(shards, 4, seed=2, rank=rank, world=world, workers=rank, window=2):
        seen[batch.numbers] += 1
        sums += batch.image.double().sum()
    torch.distributed.all_reduce(seen)
    torch.distributed.all_reduce(sums)
    if rank == 0:
        Path(out).write_text(json.dumps({"seen": seen.tolist(), "sum": float(sums)}))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_of_a_group_see_every_sample_once(folder: Path, shards: ShardSet, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (2, port, str(folder), str(tmp_path / "out")), nprocs=2)
    found = json.loads((tmp_path / "out").read_text())
    assert found["seen"] == [1] * 59
    assert found["sum"] == pytest.approx(sum(float(s.image.astype(float).sum()) for s in shards.read(range(59))))
