"""Image towers: from a preprocessed image to tokens that keep their place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.networks.blocks import ResidualUnit
from torch import Tensor, nn

VIEWS = ("PA", "AP", "LATERAL", "unknown")


BAND_PIXELS = (5, 15)
"""Widths of the two box blurs, in pixels, whose differences are given to a tower beside the image itself."""


def bands(image: Tensor) -> Tensor:
    """The image and two bands of its local contrast: fine (edges, lines) and middle (nodules).

    A lesion changes a film by a few percent of its range, the anatomy by all of it; the bands bring both to one scale,
    so that a small tower need not learn to subtract first.

    Shapes: (B, 1, *shape) in [0, 1] -> (B, 3, *shape), about unit variance each.
    Source: the Laplacian pyramid of Burt and Adelson 1983, doi:10.1109/TCOM.1983.1095851, with box filters.
    """
    blur = F.avg_pool2d if image.ndim == 4 else F.avg_pool3d
    smooth = [image, *(blur(image, n, stride=1, padding=n // 2, count_include_pad=False) for n in BAND_PIXELS)]
    contrast = [(smooth[i] - smooth[i + 1]) * gain for i, gain in enumerate((20.0, 12.0))]
    return torch.cat([(image - 0.5) * 3, *contrast], 1)


class ImageTokens(NamedTuple):
    """Tokens of a batch of images. Shapes: local (B, N, E), whole (B, E); N = product of `grid`, row-major."""

    local: Tensor
    whole: Tensor
    grid: tuple[int, ...]


@dataclass(frozen=True)
class TokenGrid:
    """Where a token lies in the contract's image.

    `shape` is the size of the preprocessed image, `grid` the number of tokens along each axis. Token (r, c) covers the
    pixels `[r * s, (r + 1) * s)` with s = shape / grid.
    """

    shape: tuple[int, ...]
    grid: tuple[int, ...]

    def box(self, index: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Half-open box (start, stop) of one token, in pixels of the preprocessed image."""
        step = tuple(size / n for size, n in zip(self.shape, self.grid, strict=True))
        start = tuple(i * s for i, s in zip(index, step, strict=True))
        stop = tuple((i + 1) * s for i, s in zip(index, step, strict=True))
        return start, stop


class HybridTower(nn.Module):
    """Convolutional stages, then Transformer layers on the coarsest grid, merged back into the finer one.

    Convolutions learn local texture from few films; attention sees both lungs at once; the merge keeps the stride at
    `2 ** len(widths)` / 2, so that a token stays as small as the lesions it must find. Works on films (`dims` 2) and on
    volumes (`dims` 3).

    Shapes: image (B, 1, *shape) in [0, 1] -> local (B, N, embed), whole (B, embed), neither normalised.

    Args:
        dims: 2 for films, 3 for volumes.
        shape: Size of the preprocessed image; each side divisible by `2 ** len(widths)`.
        widths: Channels of the stages, each of which halves the grid.
        depth: Transformer layers on the coarsest grid.
        heads: Attention heads.
        embed: Width of the tokens that meet the text.
        units: Residual convolutions in each stage but the first.
    """

    def __init__(
        self,
        dims: int = 2,
        shape: tuple[int, ...] = (160, 160),
        widths: tuple[int, ...] = (24, 48, 96, 128),
        depth: int = 2,
        heads: int = 4,
        embed: int = 128,
        units: int = 2,
    ) -> None:
        super().__init__()
        shape, widths = tuple(shape), tuple(widths)
        stride = 2 ** len(widths)
        if len(shape) != dims or any(size % stride for size in shape):
            raise ValueError(
                f"shape {shape}: expected {dims} sizes, each divisible by {stride} (2 to the number of stages,"
                f" {len(widths)}). Change `shape` or `widths` in the recipe."
            )
        self.dims, self.shape, self.embed = dims, shape, embed
        self.grid = tuple(2 * size // stride for size in shape)
        channels = (1 + len(BAND_PIXELS), *widths)
        self.stages = nn.ModuleList(
            ResidualUnit(
                dims, channels[i], channels[i + 1], strides=2, subunits=1 if i == 0 else units, norm="batch", act="relu"
            )
            for i in range(len(widths))
        )
        coarse = tuple(size // stride for size in shape)
        self.position = nn.Parameter(torch.randn(1, math.prod(coarse), widths[-1]) * 0.02)
        self.view = nn.Embedding(len(VIEWS), widths[-1])
        nn.init.normal_(self.view.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            widths[-1], heads, 2 * widths[-1], dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.attention = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.fine_position = nn.Parameter(torch.randn(1, embed, *self.grid) * 0.02)
        convolution = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.from_fine = convolution(widths[-2], embed, 1)
        self.from_coarse = convolution(widths[-1], embed, 1)
        self.local = nn.Sequential(nn.LayerNorm(embed), nn.Linear(embed, embed), nn.GELU(), nn.Linear(embed, embed))
        self.center = nn.BatchNorm1d(embed, affine=False)  # tokens that point apart from the first step on
        self.whole = nn.Sequential(nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], embed))

    def forward(self, image: Tensor, view: Tensor | None = None) -> ImageTokens:
        """Tokens of a batch; `view` (B,) holds indices into VIEWS and may be left out for volumes."""
        fine = coarse = bands(image)
        for stage in self.stages:
            fine, coarse = coarse, stage(coarse)
        tokens = coarse.flatten(2).transpose(1, 2) + self.position  # (B, n, C)
        if view is not None:
            tokens = tokens + self.view(view)[:, None]
        tokens = self.attention(tokens)
        context = tokens.transpose(1, 2).reshape(coarse.shape)
        mode = "bilinear" if self.dims == 2 else "trilinear"
        context = F.interpolate(
            self.from_coarse(context), size=fine.shape[2:], mode=mode, align_corners=False
        )
        merged = self.from_fine(fine) + context + self.fine_position
        local = self.local(merged.flatten(2).transpose(1, 2))
        local = self.center(local.flatten(0, 1)).view_as(local)
        return ImageTokens(local, self.whole(tokens.mean(1)), self.grid)
