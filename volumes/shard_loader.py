"""Batches from shards for any training loop, with a state that resumes in the middle of an epoch exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from volumes.shard_order import ShardOrder, share
from volumes.shard_reader import ShardSet
from volumes.volume import VolumeError


class ShardBatch(NamedTuple):
    """Some samples. Shapes: numbers (B,), image (B, 1, *shape); `damaged` says what was left out."""

    numbers: Tensor
    image: Tensor
    meta: list[dict[str, Any]]
    damaged: list[str]


class ShardLoader:
    """One epoch each time it is iterated; position and epoch are all that it remembers.

    The state counts samples of all ranks together. So a run may go on with another number of workers, ranks or samples
    in a batch: every sample of the epoch still comes exactly once.

    Args:
        shards: What to read.
        batch_size: Samples in a batch of this rank. The last batches of an epoch may be smaller.
        seed: Keys the order of every epoch.
        rank: Which of `world` processes this is.
        world: Processes that share an epoch.
        workers: Reading processes of this rank.
        window: Shards whose samples are mixed.
        drop_last: Leave out the end of an epoch that does not fill a batch of every rank, as DDP needs.
        skip_damaged: Leave damaged samples out and count them in `damaged`; otherwise they are refused.
    """

    def __init__(
        self,
        shards: ShardSet,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        window: int = 16,
        drop_last: bool = False,
        skip_damaged: bool = False,
    ) -> None:
        share(range(0), rank, world)
        self.order = ShardOrder(shards.counts, seed, window)
        self.shards, self.batch_size, self.rank, self.world, self.workers = shards, batch_size, rank, world, workers
        self.drop_last, self.skip_damaged = drop_last, skip_damaged
        self.epoch, self.position = 0, 0
        self.damaged: list[str] = []

    def __iter__(self) -> Iterator[ShardBatch]:
        """What is left of the epoch; afterwards the next one begins. A batch counts as seen when it is handed out."""
        steps = self._steps()
        numbers = [self._numbers(step) for step in steps]
        reading = _Reading(self.shards, self.skip_damaged)
        ours = [one for one in numbers if len(one)]
        loader = DataLoader(reading, sampler=ours, batch_size=None, num_workers=self.workers, collate_fn=_as_it_is)
        batches = iter(loader)
        for step, mine in zip(steps, numbers, strict=True):
            batch = next(batches) if len(mine) else None
            self.position = step.stop
            if batch is not None:
                self.damaged += batch.damaged
                yield batch
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Where the run stands, the same on every rank. JSON-ready."""
        state = {"epoch": self.epoch, "position": self.position, "seed": self.order.seed, "window": self.order.window}
        return state | {"samples": len(self.order)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there. Raises VolumeError when the state is of another order."""
        mine = self.state_dict()
        differs = [key for key in ("seed", "window", "samples") if state.get(key) != mine[key]]
        if differs or not 0 <= state.get("position", -1) <= len(self.order):
            raise VolumeError(
                f"the state {state} is of another run: this one has {mine}; {', '.join(differs) or 'position'} cannot"
                " differ. Give the seed, window and shards of that run",
                "other-run",
            )
        self.epoch, self.position = state["epoch"], state["position"]

    def _steps(self) -> list[range]:
        """The positions of each step of all ranks together, from where the run stands."""
        size, n = self.batch_size * self.world, len(self.order)
        steps = [range(start, min(start + size, n)) for start in range(self.position, n, size)]
        return [step for step in steps if len(step) == size] if self.drop_last else steps

    def _numbers(self, step: range) -> np.ndarray:
        mine = share(step, self.rank, self.world)
        return self.order.at(self.epoch, step.start, step.stop)[mine.start - step.start :: self.world]


class _Reading(Dataset[ShardBatch]):
    """Batches by their sample numbers; the DataLoader hands those in and keeps their order whatever its workers do."""

    def __init__(self, shards: ShardSet, skip_damaged: bool) -> None:
        self.shards, self.skip_damaged = shards, skip_damaged

    def __getitem__(self, numbers: np.ndarray) -> ShardBatch:
        damaged: list[str] = []
        samples = list(self.shards.read(numbers, damaged if self.skip_damaged else None))
        shape = samples[0].image.shape if samples else (0,)
        image = np.stack([sample.image for sample in samples]) if samples else np.empty((0, *shape), np.float32)
        found = torch.tensor([sample.number for sample in samples], dtype=torch.int64)
        return ShardBatch(found, torch.from_numpy(image), [sample.meta for sample in samples], damaged)


def _as_it_is(batch: Any) -> Any:
    return batch
