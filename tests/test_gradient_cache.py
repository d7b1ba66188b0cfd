"""Chunks encoded twice give the gradients of the whole batch, dropout included; batch statistics are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medvlm.encoders import ImageTokens
from medvlm.gradient_cache import GradientCache, refuse_batch_statistics
from medvlm.objectives import PairInfoNCE


class Tower(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 16), nn.GELU(), nn.Dropout(dropout), nn.LayerNorm(16), nn.Linear(16, 4)
        )
        self.objective = PairInfoNCE(temperature=0.2)

    def loss(self, image: Tensor, text: Tensor) -> Tensor:
        none = torch.zeros(0)
        return self.objective(ImageTokens(image[:, None], image, (1,)), text, none, none)[0]


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def cached(tower: Tower, image: Tensor, text: Tensor, size: int) -> Tensor:
    chunks = [
        (lambda rows=rows: (tower.layers(image[rows]), tower.layers(text[rows])))
        for rows in torch.arange(len(image)).split(size)
    ]
    cache = GradientCache(chunks, tower)
    loss = tower.loss(*cache.vectors())
    loss.backward()
    cache.backward()
    return loss.detach()


@pytest.mark.parametrize("size", [1, 3, 8, 20])
def test_gradients_are_those_of_the_whole_batch(size: int) -> None:
    tower, image, text = Tower(), torch.randn(10, 5), torch.randn(10, 5)
    whole = tower.loss(tower.layers(image), tower.layers(text))
    whole.backward()
    expected = gradients(tower)
    tower.zero_grad()
    loss = cached(tower, image, text, size)
    assert loss.item() == pytest.approx(whole.item(), abs=1e-6)
    found = gradients(tower)
    assert found.keys() == expected.keys()
    assert "objective.log_scale" in found
    for name, grad in expected.items():
        assert float(grad.abs().max()) > 1e-5, name
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6)


def test_accumulating_chunks_without_the_cache_is_another_gradient() -> None:
    """What ordinary accumulation gives: each chunk contrasts with itself only."""
    tower, image, text = Tower(), torch.randn(10, 5), torch.randn(10, 5)
    tower.loss(tower.layers(image), tower.layers(text)).backward()
    expected = gradients(tower)["layers.0.weight"]
    tower.zero_grad()
    for rows in torch.arange(10).split(5):
        (tower.loss(tower.layers(image[rows]), tower.layers(text[rows])) / 2).backward()
    assert float((gradients(tower)["layers.0.weight"] - expected).norm() / expected.norm()) > 0.05


def test_dropout_falls_twice_the_same_and_the_random_state_goes_on_as_if_once() -> None:
    tower, image, text = Tower(dropout=0.5), torch.randn(6, 5), torch.randn(6, 5)
    torch.manual_seed(11)
    pairs = [(tower.layers(image[rows]), tower.layers(text[rows])) for rows in torch.arange(6).split(2)]
    whole = tower.loss(*(torch.cat(parts) for parts in zip(*pairs, strict=True)))
    whole.backward()
    after = torch.rand(3)
    expected = gradients(tower)
    tower.zero_grad()
    torch.manual_seed(11)
    loss = cached(tower, image, text, 2)
    assert torch.equal(torch.rand(3), after)
    assert loss.item() == pytest.approx(whole.item(), abs=1e-6)
    for name, grad in gradients(tower).items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)


def test_vectors_that_the_loss_does_not_use_cost_no_second_pass() -> None:
    layer = nn.Linear(3, 2)
    cache = GradientCache([lambda: (layer(torch.ones(2, 3)), torch.ones(2))], layer)
    used, _ = cache.vectors()
    used.sum().backward()
    cache.backward()
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [2, 2]


def test_batch_normalisation_in_training_is_refused_by_name() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="1 layers normalise by the statistics of a batch, the first of them 1;"):
        GradientCache([lambda: (module(torch.randn(2, 3)),)], module)
    module[1].eval()
    refuse_batch_statistics(module)  # running statistics are the same for every chunk


def test_no_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="no chunk to encode: 0 given, expected at least 1"):
        GradientCache([], nn.Linear(2, 2))
