"""From image tokens to the soft tokens that a language model reads."""

from __future__ import annotations

from collections.abc import Sequence

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
        statements: The texts of the bank; "Left X." and "Right X." are each other's rival.
        embed: Width E of image and text vectors.
        width: Width of the language model.
        queries: Free queries, Perceiver-style (Jaegle et al. 2021, arXiv:2103.03206).
        heads: Attention heads of the free queries.
        score_noise: Standard deviation of noise on the standardised scores while training: scores on training images
            are more certain than scores on new ones, and the writer must not learn to trust them blindly.
    """

    rivals: Tensor

    def __init__(
        self,
        statements: Sequence[str],
        embed: int = 128,
        width: int = 192,
        queries: int = 8,
        heads: int = 4,
        score_noise: float = 0.3,
    ) -> None:
        super().__init__()
        self.score_noise = score_noise
        # Each statement has directions of its own for its name and its scores; with shared ones the writer would have
        # to learn which score belongs to whom.
        self.name = nn.Parameter(torch.randn(len(statements), width) * 0.5)
        self.score = nn.Parameter(torch.randn(len(statements), 3, width) * 0.5)
        self.register_buffer("rivals", rivals(statements), persistent=False)
        self.scale = nn.BatchNorm1d(2 * len(statements), affine=False)  # a difference between sides is small but counts
        self.look = nn.Linear(embed, width)
        self.queries = nn.Parameter(torch.randn(queries, embed) * 0.02)
        self.attend = nn.MultiheadAttention(embed, heads, batch_first=True)
        self.project = nn.Sequential(nn.LayerNorm(embed), nn.Linear(embed, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, image: ImageTokens, bank: Tensor, objective: SentencePairs) -> Tensor:
        """Soft tokens of a batch of images, in the order of the bank, free queries last."""
        similar = similarity_attention(image.local, bank, objective.sharpness)
        odds = objective.logits(image, bank)  # (B, K)
        scores = self.scale(torch.cat([odds, odds - odds @ self.rivals.T], 1))  # (B, 2 K)
        if self.training and self.score_noise > 0:
            scores = scores + torch.randn_like(scores) * self.score_noise
        own, margin = scores.chunk(2, 1)
        weight = (similar.maps * objective.sharpness).softmax(-1)
        seen = torch.einsum("bkn,bne->bke", weight, F.normalize(image.local, dim=-1))
        score = torch.stack([own, margin, torch.tanh(2 * margin)], -1)
        stated = self.name + torch.einsum("bkf,kfw->bkw", score, self.score) + 0.3 * self.look(seen)
        free, _ = self.attend(
            self.queries.expand(len(image.local), -1, -1), image.local, image.local, need_weights=False
        )
        return self.norm(torch.cat([stated, self.project(free)], 1))


def rivals(statements: Sequence[str]) -> Tensor:
    """Matrix (K, K) that takes the scores of statements to those of their rivals: the other side, or itself."""
    place = {text.lower(): i for i, text in enumerate(statements)}
    matrix = torch.zeros(len(statements), len(statements))
    for i, text in enumerate(statements):
        side, _, rest = text.lower().partition(" ")
        other = {"left": f"right {rest}", "right": f"left {rest}"}.get(side, "")
        matrix[i, place.get(other, i)] = 1.0
    return matrix
