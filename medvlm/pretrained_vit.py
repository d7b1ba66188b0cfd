"""The Vision Transformer of timm, as open_clip uses it, with timm's names of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvlm.encoders import ImageTokens
from medvlm.pretrained_clip import ColourTower


class Attention(nn.Module):
    """Self-attention with one matrix for queries, keys and values. Shapes: (B, N, C) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, N, C) -> the same."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, h, N, C/h)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with GELU between them. Shapes: (..., C) -> the same."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., C) -> the same."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """One layer, norms first. Shapes: (B, N, C) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, N, C) -> the same."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Patches to vectors. Shapes: (B, 3, S, S) -> (B, g * g, C)."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, 3, S, S) -> (B, g * g, C)."""
        return self.proj(x).flatten(2).transpose(1, 2)


class Trunk(nn.Module):
    """Dosovitskiy et al. 2021, arXiv:2010.11929. Shapes: (B, 3, S, S) -> (B, 1 + g * g, C), the class token first."""

    def __init__(self, width: int, depth: int, heads: int, patch: int, size: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + (size // patch) ** 2, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, 3, S, S) -> (B, 1 + g * g, C)."""
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class TimmImage(ColourTower):
    """A ViT of timm with a linear head without bias, as open_clip uses it; the class token is the whole image.

    Patches go through the head that the class token goes through.

    Shapes: image (B, 1, S, S) in [0, 1] -> local (B, g * g, E), whole (B, E), not normalised.

    Args:
        width: Hidden size.
        depth: Layers.
        heads: Attention heads.
        patch: Side of a patch in pixels.
        size: Side of the image in pixels.
        embed: Width of the vectors that meet the text.
        mean: Subtracted from each colour channel.
        std: What each channel is divided by.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        size: int,
        embed: int,
        mean: list[float],
        std: list[float],
    ) -> None:
        super().__init__(mean, std)
        self.embed, self.grid = embed, (size // patch, size // patch)
        self.trunk = Trunk(width, depth, heads, patch, size)
        self.head = nn.Sequential()
        self.head.add_module("proj", nn.Linear(width, embed, bias=False))

    def forward(self, image: Tensor, view: Tensor | None = None) -> ImageTokens:
        """Tokens of a batch; `view` is not used."""
        tokens = self.head(self.trunk(self.colour(image)))
        return ImageTokens(tokens[:, 1:], tokens[:, 0], self.grid)
