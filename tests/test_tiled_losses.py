"""Losses taken tile by tile: the dense ones in value and gradient, without their memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medvlm.objectives import info_nce, pair_sigmoid
from medvlm.tiled_losses import _log_sums, tiled_info_nce, tiled_sigmoid

Loss = Callable[..., Tensor]


def dense_info_nce(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    return info_nce(image, text, scale.log())


def dense_sigmoid(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return pair_sigmoid(image @ text.T * scale + bias)


def run(loss: Loss, scale: float, rows: int = 11, bias: float | None = None, **options: int) -> list[Tensor]:
    """The loss of one fixed batch, and its gradients by image, text, scale and bias."""
    g = torch.Generator().manual_seed(3)
    image, text = (torch.randn(rows, 6, generator=g).double().requires_grad_() for _ in range(2))
    numbers = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (scale, bias) if v is not None]
    value = loss(F.normalize(image, dim=1), F.normalize(text, dim=1), *numbers, **options)
    (value * 3).backward()
    return [value.detach(), *(x.grad for x in (image, text, *numbers) if x.grad is not None)]


@pytest.mark.parametrize("tile", [1, 4, 11, 64])
@pytest.mark.parametrize("scale", [1.0, 14.0, 100.0])
def test_info_nce_in_tiles_is_the_dense_one(tile: int, scale: float) -> None:
    dense, tiled = run(dense_info_nce, scale), run(tiled_info_nce, scale, tile=tile)
    assert len(dense) == len(tiled) == 4
    for one, other in zip(dense, tiled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tile", [1, 4, 11, 64])
@pytest.mark.parametrize("bias", [0.0, -10.0])
def test_the_sigmoid_in_tiles_is_the_dense_one(tile: int, bias: float) -> None:
    dense, tiled = run(dense_sigmoid, 10.0, bias=bias), run(tiled_sigmoid, 10.0, bias=bias, tile=tile)
    assert len(dense) == len(tiled) == 5
    for one, other in zip(dense, tiled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_two_orthogonal_pairs_in_tiles_of_one_cost_what_the_formula_says() -> None:
    pairs, scale = torch.eye(2), torch.tensor(2.0)
    assert float(tiled_info_nce(pairs, pairs, scale, 1)) == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-6)
    # each image: its own text at logit 2 - 1 = 1, the other at 0 - 1
    expected = math.log1p(math.exp(-1)) + math.log1p(math.exp(-1))
    assert float(tiled_sigmoid(pairs, pairs, scale, torch.tensor(-1.0), 1)) == pytest.approx(expected, abs=1e-6)


def test_a_row_far_below_the_others_of_its_tile_is_not_lost_in_32_bits() -> None:
    logits = torch.tensor([[100.0, 99.0], [-100.0, -101.0]])
    row, column = _log_sums(logits.clone())
    assert row.tolist() == pytest.approx([100 + math.log1p(math.exp(-1)), -100 + math.log1p(math.exp(-1))], abs=1e-4)
    assert column.tolist() == pytest.approx([100, 99], abs=1e-4)


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_32_bits_stay_near_64(scale: float) -> None:
    g = torch.Generator().manual_seed(5)
    image = F.normalize(torch.randn(300, 16, generator=g), dim=1)
    text = F.normalize(image + 0.5 * torch.randn(300, 16, generator=g), dim=1)
    low = tiled_info_nce(image, text, torch.tensor(scale), 128)
    high = dense_info_nce(image.double(), text.double(), torch.tensor(scale).double())
    assert float(low) == pytest.approx(float(high), rel=2e-6)


@pytest.mark.parametrize(("loss", "numbers"), [(tiled_info_nce, 1), (tiled_sigmoid, 2)])
def test_shapes_and_tiles_that_cannot_be_are_refused(loss: Loss, numbers: int) -> None:
    rest = [torch.tensor(1.0)] * numbers
    with pytest.raises(ValueError, match=r"image \(3, 4\) and text \(2, 4\) must share one shape \(B, E\)"):
        loss(torch.zeros(3, 4), torch.zeros(2, 4), *rest)
    with pytest.raises(ValueError, match="tile is 0; expected the rows of a tile, 1 or more, such as 2048"):
        loss(torch.zeros(3, 4), torch.zeros(3, 4), *rest, 0)


def test_a_second_derivative_is_refused() -> None:
    image = F.normalize(torch.randn(4, 3), dim=1).requires_grad_()
    (slope,) = torch.autograd.grad(tiled_info_nce(image, image.detach(), torch.tensor(2.0)), image, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        slope.sum().backward()
