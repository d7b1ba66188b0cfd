"""Batches larger than memory: encode in chunks, take the loss of all of them at once, encode again for the gradient.

The loss sees the vectors of the whole batch, so every pair of it counts, while the activations of one chunk at a time
are held. After GradCache, Gao et al. 2021, arXiv:2101.06983, section 3.2 (level L1).

    cache = GradientCache(chunks, module)     pass 1: vectors of all chunks, without a graph
    loss = objective(*cache.vectors())        the loss and its graph down to the vectors
    loss.backward()
    cache.backward()                          pass 2: each chunk again, with dropout as it fell before

Batch normalisation is refused while it takes its statistics from the batch: a chunk has others than the whole batch,
so the result would be another one. Use group or layer normalisation, or set those layers to `eval()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Encode = Callable[[], tuple[Tensor, ...]]
"""Encodes one chunk: tensors whose first axis runs over its rows."""


class GradientCache:
    """The vectors of a batch as leaves of a graph, and the way back from them into the towers.

    Args:
        chunks: One function for each chunk; each is called twice and must do the same both times, up to dropout.
        module: What the functions call, looked through for layers that would not do the same.

    Raises:
        ValueError: No chunk, or batch normalisation in training mode, by the names of the layers.
    """

    def __init__(self, chunks: Sequence[Encode], module: nn.Module) -> None:
        if not chunks:
            raise ValueError("no chunk to encode: 0 given, expected at least 1")
        refuse_batch_statistics(module)
        self._chunks = list(chunks)
        self._device = next((p.device for p in module.parameters()), torch.device("cpu"))
        self._random: list[list[Tensor]] = []
        kind = self._device.type
        self._precision = (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        self._leaves: list[tuple[Tensor, ...]] = []
        with torch.no_grad():
            for encode in self._chunks:
                self._random.append(_random_state(self._device))
                self._leaves.append(tuple(x.detach().requires_grad_() for x in encode()))

    def vectors(self) -> tuple[Tensor, ...]:
        """What the chunks gave, as if one call had encoded all rows."""
        return tuple(torch.cat(parts) for parts in zip(*self._leaves, strict=True))

    def backward(self) -> None:
        """Encode again and go on with the gradients that `loss.backward()` left at the vectors.

        The random state afterwards is the one from before.
        """
        after = _random_state(self._device)
        enabled, dtype = self._precision  # as in the first pass, which may have stood in a context of mixed precision
        for encode, state, leaves in zip(self._chunks, self._random, self._leaves, strict=True):
            _set_random_state(state, self._device)
            with torch.autocast(self._device.type, dtype=dtype, enabled=enabled):
                again = encode()
            reached = [(found, leaf.grad) for found, leaf in zip(again, leaves, strict=True) if leaf.grad is not None]
            wanted = [(found, grad) for found, grad in reached if found.requires_grad]
            if wanted:
                torch.autograd.backward([found for found, _ in wanted], [grad for _, grad in wanted])
        _set_random_state(after, self._device)


def refuse_batch_statistics(module: nn.Module) -> None:
    """Raise ValueError when a layer normalises by the statistics of the batch it is given."""
    found = [
        name or type(layer).__name__
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None)
    ]
    if found:
        raise ValueError(
            f"gradient caching: {len(found)} layers normalise by the statistics of a batch, the first of them"
            f" {', '.join(found[:3])}; a chunk has others than the whole batch, so its gradients would be wrong."
            " Choose towers with group or layer normalisation, set those layers to eval(), or do without chunks."
        )


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def _set_random_state(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
