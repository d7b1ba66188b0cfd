"""In which order samples of shards are read: keyed by (seed, epoch) alone, dealt to ranks without loss or repeat.

Two levels, so that reading stays nearly sequential: shards are permuted, then `window` neighbours of that permutation
are pooled and their samples permuted. Two samples can share a batch when their shards share a window; which shards do
so changes with each epoch. With one window over all shards it is a plain permutation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from volumes.streams import stream
from volumes.volume import VolumeError


class ShardOrder:
    """Which sample stands at each position of an epoch.

    The order does not know of ranks, workers or batches: the same run on other machines sees the same samples in the
    same order, and a position is all that must be remembered to go on.

    Args:
        counts: Samples in each shard; sample numbers count through the shards in this order.
        seed: Keys every permutation.
        window: Shards whose samples are mixed; at any time only two windows are being read.
    """

    def __init__(self, counts: Sequence[int], seed: int, window: int = 16) -> None:
        if window < 1 or min(counts, default=0) < 0:
            raise VolumeError(f"shuffling needs a window of 1 shard or more, found {window}", "bad-window")
        self.counts, self.seed, self.window = np.asarray(counts, dtype=np.int64), seed, window
        self._first = np.concatenate([[0], np.cumsum(self.counts)])
        # One cache for each order, not one for all of them: an lru_cache on a method would keep every order alive.
        self._shards = lru_cache(maxsize=4)(self._permuted_shards)
        self._samples = lru_cache(maxsize=4)(self._permuted_window)

    def __len__(self) -> int:
        return int(self._first[-1])

    def __reduce__(self) -> tuple[object, ...]:
        return ShardOrder, (tuple(self.counts.tolist()), self.seed, self.window)

    def at(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Sample numbers at the positions [start, stop) of an epoch, each cut to the epoch's end."""
        start, stop = max(0, start), min(stop, len(self))
        if start >= stop:
            return np.empty(0, dtype=np.int64)
        _, edges = self._shards(epoch)
        first, last = (int(np.searchsorted(edges, place, side="right")) - 1 for place in (start, stop - 1))
        parts = []
        for number in range(first, last + 1):
            low, high = max(start - int(edges[number]), 0), stop - int(edges[number])
            parts.append(self._samples(epoch, number)[low:high])
        return np.concatenate(parts)

    def _permuted_shards(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The shards of an epoch in their order, and the position at which each window begins."""
        shards = stream("shards", self.seed, epoch).permutation(len(self.counts))
        sizes = np.add.reduceat(self.counts[shards], np.arange(0, len(shards), self.window))
        return shards, np.concatenate([[0], np.cumsum(sizes)])

    def _permuted_window(self, epoch: int, number: int) -> NDArray[np.int64]:
        shards, _ = self._shards(epoch)
        members = shards[number * self.window : (number + 1) * self.window]
        samples = np.concatenate([np.arange(self._first[s], self._first[s + 1]) for s in members])
        return stream("window", self.seed, epoch, number).permutation(samples)


def share(positions: range, rank: int, world: int) -> range:
    """The positions of one rank: dealt like cards, so every one goes to exactly one rank and loads differ by one.

    Raises VolumeError for a rank that is not one of `world`.
    """
    if not 0 <= rank < world:
        raise VolumeError(f"rank is {rank} of {world}; expected 0 to {world - 1}", "bad-rank")
    return positions[rank::world]
