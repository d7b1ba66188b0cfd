"""From image tokens to the soft tokens that a language model reads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvlm.encoders import ImageTokens
from medvlm.objectives import SentencePairs, similarity_attention


class StatementConnector(nn.Module):
    """One soft token for each statement of a bank, and a few free queries over the image.

    A statement's token holds what its place in the image looks like and how well it fits there, so the writer can read
    "left pleural effusion: fits, and looks like this" instead of having to find it among hundreds of patches.

    Shapes: image tokens (B, N, E), bank (K, E) -> soft tokens (B, K + queries, width).

    Args:
        statements: Number of statements K in the bank.
        embed: Width E of image and text vectors.
        width: Width of the language model.
        queries: Free queries, Perceiver-style (Jaegle et al. 2021, arXiv:2103.03206).
        heads: Attention heads of the free queries.
        score_noise: Standard deviation of noise on the log-odds while training: scores on training images are more
            certain than scores on new ones, and the writer must not learn to trust them blindly.
    """

    def __init__(
        self,
        statements: int,
        embed: int = 128,
        width: int = 192,
        queries: int = 8,
        heads: int = 4,
        score_noise: float = 0.7,
    ) -> None:
        super().__init__()
        self.score_noise = score_noise
        self.name = nn.Parameter(torch.randn(statements, width) * 0.02)
        self.look = nn.Linear(embed, width)
        self.score = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.queries = nn.Parameter(torch.randn(queries, embed) * 0.02)
        self.attend = nn.MultiheadAttention(embed, heads, batch_first=True)
        self.project = nn.Sequential(nn.LayerNorm(embed), nn.Linear(embed, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, image: ImageTokens, bank: Tensor, objective: SentencePairs) -> Tensor:
        """Soft tokens of a batch of images, in the order of the bank, free queries last."""
        similar = similarity_attention(image.local, bank, objective.sharpness)
        odds = objective.logits(image, bank)  # (B, K)
        if self.training and self.score_noise > 0:
            odds = odds + torch.randn_like(odds) * self.score_noise
        weight = (similar.maps * objective.sharpness).softmax(-1)
        seen = torch.einsum("bkn,bne->bke", weight, F.normalize(image.local, dim=-1))
        score = torch.stack([odds / 4, odds.sigmoid(), (odds > 0).to(odds.dtype)], -1)
        stated = self.name + self.look(seen) + self.score(score)
        free, _ = self.attend(
            self.queries.expand(len(image.local), -1, -1), image.local, image.local, need_weights=False
        )
        return self.norm(torch.cat([stated, self.project(free)], 1))
