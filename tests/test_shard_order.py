"""The order of samples: a permutation for every epoch, dealt to ranks without loss or repeat, and well mixed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumes.shard_order import ShardOrder, share
from volumes.volume import VolumeError

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(COUNTS, st.integers(0, 2**40), st.integers(1, 14), st.integers(0, 5), st.data())
def test_every_epoch_is_a_permutation_and_any_piece_of_it_can_be_asked_for(counts, seed, window, epoch, data) -> None:
    order = ShardOrder(counts, seed, window)
    n = sum(counts)
    whole = order.at(epoch, 0, n).tolist()
    assert len(order) == n
    assert sorted(whole) == list(range(n))
    start, stop = (data.draw(st.integers(-3, n + 3)) for _ in range(2))
    assert ShardOrder(counts, seed, window).at(epoch, start, stop).tolist() == whole[max(0, start) : max(0, stop)]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 9))
def test_ranks_share_positions_without_loss_or_repeat(start, length, world) -> None:
    parts = [share(range(start, start + length), rank, world) for rank in range(world)]
    assert sorted(place for part in parts for place in part) == list(range(start, start + length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_rank_that_does_not_exist_is_refused() -> None:
    with pytest.raises(VolumeError, match=r"rank is 2 of 2; expected 0 to 1"):
        share(range(9), 2, 2)
    with pytest.raises(VolumeError, match=r"shuffling needs a window of 1 shard or more, found 0"):
        ShardOrder([1], 0, 0)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    counts = [7, 5, 6, 8, 3]
    np.random.seed(1)
    first = ShardOrder(counts, 4, 2).at(3, 0, 29).tolist()
    np.random.seed(2)
    again = pickle.loads(pickle.dumps(ShardOrder(counts, 4, 2)))
    again.at(9, 0, 5)
    assert again.at(3, 0, 29).tolist() == first
    assert ShardOrder(counts, 5, 2).at(3, 0, 29).tolist() != first
    assert again.at(4, 0, 29).tolist() != first
    # A changed order would change every run that is resumed with a newer version.
    assert ShardOrder([2, 3, 2], 7, 2).at(0, 0, 7).tolist() == [3, 4, 5, 2, 6, 0, 1]


def test_reading_stays_within_a_window_of_shards() -> None:
    """Of 40 shards at most 2 x 4 are touched by 100 samples in a row, and each shard is opened once per epoch."""
    order = ShardOrder([50] * 40, 1, window=4)
    shards = order.at(0, 0, 2000) // 50
    for start in range(0, 1900, 37):
        assert len(set(shards[start : start + 100].tolist())) <= 8
    blocks = [sorted(set(shards[start : start + 200].tolist())) for start in range(0, 2000, 200)]
    assert sorted(shard for block in blocks for shard in block) == list(range(40))


def test_how_well_it_mixes() -> None:
    """Statistics over 200 epochs of 24 shards of 30 samples, window 6; a fair shuffle is known for each of them."""
    order, n = ShardOrder([30] * 24, 11, window=6), 720
    epochs = np.stack([order.at(epoch, 0, n) for epoch in range(200)])
    place = np.argsort(epochs, axis=1)  # where each sample stands
    # Anywhere in the epoch with the same probability: mean of the place of every sample.
    error = np.abs(place.mean(0) - (n - 1) / 2) / (n / np.sqrt(12 * 200))
    assert error.max() < 4.5
    # Successive epochs have nothing to do with each other.
    same = [np.corrcoef(place[e], place[e + 1])[0, 1] for e in range(199)]
    assert abs(np.mean(same)) < 4.5 * np.std(same) / np.sqrt(199)
    # A neighbour comes from the same shard as often as within a pool of six: (30 - 1) / (180 - 1).
    together = (epochs[:, 1:] // 30 == epochs[:, :-1] // 30).mean()
    assert together == pytest.approx(29 / 179, abs=0.01)
    # One window over everything is a plain permutation: (30 - 1) / (720 - 1).
    plain = np.stack([ShardOrder([30] * 24, 11, window=24).at(epoch, 0, n) for epoch in range(50)])
    assert (plain[:, 1:] // 30 == plain[:, :-1] // 30).mean() == pytest.approx(29 / 719, abs=0.01)
