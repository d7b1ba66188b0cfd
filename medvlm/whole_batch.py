"""One loss over the batch of all processes, exact in its value and in its gradient.

The rule that every objective keeps: each process returns the loss of the whole batch, and gradients whose mean over the
processes, which is what DDP takes, is the gradient of that loss. In one process all of this passes through unchanged.
Batch normalisation in a tower is not part of it: each process takes its own statistics unless trainer.sync_batchnorm is
set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Share(NamedTuple):
    """Which rows of the whole batch this process holds: `[start, start + own)` of `total`."""

    start: int
    own: int
    total: int


def processes() -> int:
    """Processes that train together; 1 where nothing is distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def share_of(rows: int, like: Tensor) -> Share:
    """The place of this process's rows when those of all processes stand in the order of their ranks."""
    sizes = _sizes(rows, like)
    rank = dist.get_rank() if len(sizes) > 1 else 0
    return Share(sum(sizes[:rank]), rows, sum(sizes))


def gather_rows(x: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks, with gradients to each; they may hold unequal numbers.

    Shapes: (n, ...) -> (n of all, ...). Source: the gather of Radford et al. 2021, arXiv:2103.00020, section 2.5.
    """
    return x if processes() == 1 else _Gather.apply(x)


def sum_of_all(x: Tensor) -> Tensor:
    """Sum over processes of tensors of one shape, with gradients to each."""
    return x if processes() == 1 else _Sum.apply(x)


def mean_of_all(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over the values of all processes, with weights if given; 0 where there is none, and differentiable.

    Shapes: values (n,), weight (n,) without gradient -> ().
    """
    weight = torch.ones_like(values) if weight is None else weight.to(values)
    total = sum_of_all(torch.stack([(values * weight).sum(), weight.sum()]))
    return total[0] / total[1].clamp(min=1e-12)


def longest_of_all(length: int, like: Tensor) -> int:
    """The greatest of one number of each process."""
    if processes() == 1:
        return length
    held = torch.tensor(length, device=like.device)
    dist.all_reduce(held, op=dist.ReduceOp.MAX)
    return int(held)


def _sizes(rows: int, like: Tensor) -> list[int]:
    if processes() == 1:
        return [rows]
    held = torch.tensor([rows], device=like.device)
    sizes = [torch.empty_like(held) for _ in range(processes())]
    dist.all_gather(sizes, held)
    return [int(size) for size in sizes]


class _Gather(torch.autograd.Function):
    """All rows forward; backward the sum of what every process's loss says about the own rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        sizes = _sizes(len(x), x)
        rank, most = dist.get_rank(), max(sizes)
        ctx.rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        # Collectives want one shape: shorter shares are filled up, and cut again behind.
        filled = x.detach().new_zeros(most, *x.shape[1:])
        filled[: len(x)] = x.detach()
        parts = [torch.empty_like(filled) for _ in sizes]
        dist.all_gather(parts, filled)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.rows]


class _Sum(torch.autograd.Function):
    """Sum forward, sum of the gradients backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total
