"""Pairwise losses whose matrix of similarities never exists: exact, tile by tile, computed again on the way back.

At 32,768 pairs one such matrix takes 4.3 GB and the dense loss needs several; a tile of 2048 x 2048 takes 17 MB.
Written for unit vectors and for the batch of all processes: each holds its own images and all texts, so no product of
two rows is computed twice anywhere.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from medvlm.whole_batch import Share, gather_rows, processes, share_of

TILE = 2048
"""Rows and columns of a tile."""
_LEAST = 1e-25  # below it, sums of exponentials of 32 bits may have lost terms to underflow


def tiled_info_nce(image: Tensor, text: Tensor, scale: Tensor, tile: int = TILE) -> Tensor:
    """Symmetric InfoNCE over the pairs of all processes, equal to the dense one up to rounding.

    Shapes: image, text (B, E) unit vectors, of this process; scale (). Returns (), nats.
    Source: Radford et al. 2021, arXiv:2103.00020, figure 3; tiles as in Dao et al. 2022, arXiv:2205.14135, and Cheng
    et al. 2024 (Inf-CL), arXiv:2410.17243 (level L1).
    Raises: ValueError if the two differ in shape, or the tile is empty.
    """
    _refuse(image, text, tile)
    share = share_of(len(image), image)
    return _InfoNCE.apply(image, gather_rows(text), scale, share, tile)


def tiled_sigmoid(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, tile: int = TILE) -> Tensor:
    """Sigmoid loss over all image-text pairs of all processes, equal to the dense one up to rounding.

    The gradient of a pair depends on that pair alone, so it is taken in the same walk over the tiles: no more work
    than the dense loss does.

    Shapes: image, text (B, E) unit vectors, of this process; scale, bias (). Returns (), nats per image.
    Source: Zhai et al. 2023, arXiv:2303.15343, algorithm 1 and section 3.3 (level L1).
    Raises: ValueError if the two differ in shape, or the tile is empty.
    """
    _refuse(image, text, tile)
    share = share_of(len(image), image)
    return _Sigmoid.apply(image, gather_rows(text), scale, bias, share, tile)


def _refuse(image: Tensor, text: Tensor, tile: int) -> None:
    if image.shape != text.shape:
        raise ValueError(f"image {tuple(image.shape)} and text {tuple(text.shape)} must share one shape (B, E)")
    if tile < 1:
        raise ValueError(f"tile is {tile}; expected the rows of a tile, 1 or more, such as {TILE}")


def _tiles(rows: int, columns: int, tile: int) -> list[tuple[slice, slice]]:
    return [
        (slice(i, min(i + tile, rows)), slice(j, min(j + tile, columns)))
        for i in range(0, rows, tile)
        for j in range(0, columns, tile)
    ]


def _own(rows: slice, columns: slice, start: int) -> tuple[Tensor, Tensor]:
    """Where in a tile the pairs lie: row i of this process belongs to column start + i."""
    first = max(rows.start, columns.start - start)
    last = min(rows.stop, columns.stop - start)
    own = torch.arange(first, max(first, last))
    return own - rows.start, own + start - columns.start


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, scale: Tensor, share: Share, tile: int) -> Tensor:
        by_row = image.new_full((len(image),), -torch.inf)
        by_column = image.new_full((len(text),), -torch.inf)
        for rows, columns in _tiles(len(image), len(text), tile):
            row, column = _log_sums(image[rows] @ text[columns].T * scale)
            by_row[rows] = torch.logaddexp(by_row[rows], row)
            by_column[columns] = torch.logaddexp(by_column[columns], column)
        if processes() > 1:  # a column runs through the rows of every process
            by_column = gather_rows(by_column[None]).logsumexp(0)
        own = (image * text[share.start : share.start + share.own]).sum(1) * scale
        columns_of_mine = by_column[share.start : share.start + share.own]
        loss = (by_row + columns_of_mine - 2 * own).sum() / (2 * share.total)
        if processes() > 1:
            dist.all_reduce(loss)
        ctx.save_for_backward(image, text, scale, by_row, by_column)
        ctx.share, ctx.tile = share, tile
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        image, text, scale, by_row, by_column = ctx.saved_tensors
        share: Share = ctx.share
        d_image, d_text = torch.zeros_like(image), torch.zeros_like(text)
        for rows, columns in _tiles(len(image), len(text), ctx.tile):
            logits = image[rows] @ text[columns].T
            logits.mul_(scale)
            pull = torch.sub(logits, by_row[rows, None]).exp_()
            pull.add_(logits.sub_(by_column[None, columns]).exp_())
            at, of = _own(rows, columns, share.start)
            pull[at, of] -= 2
            d_image[rows].addmm_(pull, text[columns])
            d_text[columns].addmm_(pull.T, image[rows])
        factor = _all(grads[0]) / (2 * share.total)
        d_scale = (image * d_image).sum() * factor
        return d_image.mul_(factor * scale), d_text.mul_(factor * scale), d_scale, None, None


def _log_sums(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of the rows and of the columns of a tile, from one exponential where 32 bits allow. Overwrites it."""
    most = logits.max()
    powers = torch.sub(logits, most).exp_()
    row, column = powers.sum(1), powers.sum(0)
    if min(float(row.min()), float(column.min())) < _LEAST:  # a row far below the others
        return logits.logsumexp(1), logits.logsumexp(0)
    return row.log_().add_(most), column.log_().add_(most)


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, share: Share, tile: int) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        d_image, d_text = torch.zeros_like(image), torch.zeros_like(text)
        loss, d_bias = image.new_zeros(()), image.new_zeros(())
        for rows, columns in _tiles(len(image), len(text), tile):
            logits = image[rows] @ text[columns].T
            logits.mul_(scale).add_(bias)
            at, of = _own(rows, columns, share.start)
            # Every pair as if it were wrong; the right ones differ from that by their logit, and by 1 in the gradient.
            loss += F.softplus(logits).sum() - logits[at, of].sum()
            if wanted:
                pull = logits.sigmoid_()
                pull[at, of] -= 1
                d_bias += pull.sum()
                d_image[rows].addmm_(pull, text[columns])
                d_text[columns].addmm_(pull.T, image[rows])
        if processes() > 1:
            dist.all_reduce(loss)
        ctx.save_for_backward(image, scale, d_image, d_text, d_bias)
        ctx.total = share.total
        return loss / share.total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        image, scale, d_image, d_text, d_bias = ctx.saved_tensors
        factor = _all(grads[0]) / ctx.total
        d_scale = (image * d_image).sum() * factor
        return d_image * (factor * scale), d_text * (factor * scale), d_scale, d_bias * factor, None, None


def _all(grad: Tensor) -> Tensor:
    """What all processes ask of the loss that they share."""
    if processes() == 1:
        return grad
    total = grad.clone()
    dist.all_reduce(total)
    return total
