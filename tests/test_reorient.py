"""Turning axes moves no voxel."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch

from volumes.reorient import reorient
from volumes.volume import Source, Volume, VolumeError

LETTERS = ["".join(order) for three in product("RL", "AP", "IS") for order in permutations(three)]
AFFINE = torch.tensor([[0.2, 0.1, 0.5, -31], [-0.3, 0.8, -0.1, 17], [2.5, 0.1, 0.05, 43], [0, 0, 0, 1]]).double()


def volume() -> Volume:
    values = torch.arange(4 * 5 * 7, dtype=torch.float32).reshape(4, 5, 7)
    return Volume(values, AFFINE, "HU", Source("1", "2", ("3",), "CT"), ("a note",))


@pytest.mark.parametrize("letters", LETTERS)
def test_every_voxel_keeps_its_place(letters: str) -> None:
    turned = reorient(volume(), letters)

    assert turned.orientation == letters
    assert turned.notes == ("a note",)
    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in turned.shape], indexing="ij"), -1)
    back = volume().mm_to_index(turned.index_to_mm(index))
    torch.testing.assert_close(back, back.round(), atol=1e-9, rtol=0)
    assert torch.equal(volume().voxels[tuple(back.round().long().movedim(-1, 0))], turned.voxels)
    assert torch.equal(reorient(turned, volume().orientation).voxels, volume().voxels)


def test_all_48_were_asked() -> None:
    assert len(set(LETTERS)) == 48
    assert np.isclose(torch.linalg.det(AFFINE[:3, :3]).abs(), torch.linalg.det(reorient(volume()).affine[:3, :3]).abs())


@pytest.mark.parametrize("letters", ["SP", "SPP", "SPX", "SPLL", ""])
def test_other_words_are_refused(letters: str) -> None:
    with pytest.raises(VolumeError, match="expected three letters, one each of R or L, A or P, I or S"):
        reorient(volume(), letters)
