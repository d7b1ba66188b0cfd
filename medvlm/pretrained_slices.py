"""A film's tower on a volume: every slice looked at by itself."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvlm.encoders import ImageTokens


class SliceTower(nn.Module):
    """An image tower of films that looks at each axial slice of a volume; the whole is the mean over slices.

    The mean of unit vectors, so that no slice counts more than another. What lies between slices is not seen.

    Shapes: image (B, 1, D, S, S) in [0, 1] -> local (B, D * n, E), whole (B, E); the grid is (D, rows, columns).

    Args:
        tower: The tower of films.
        chunk: Slices that are looked at together.
    """

    def __init__(self, tower: nn.Module, chunk: int = 16) -> None:
        super().__init__()
        self.tower, self.chunk = tower, chunk

    @property
    def channels(self) -> dict[str, Any] | None:
        """How the grey slices become colour, for preprocess.json."""
        return getattr(self.tower, "channels", None)

    def forward(self, image: Tensor, view: Tensor | None = None) -> ImageTokens:
        """Tokens of a batch; `view` is not used."""
        batch, depth = image.shape[0], image.shape[2]
        slices = image.transpose(1, 2).flatten(0, 1)  # (B * D, 1, S, S)
        parts = [self.tower(part, None) for part in slices.split(self.chunk)]
        local = torch.cat([part.local for part in parts]).unflatten(0, (batch, depth)).flatten(1, 2)
        whole = F.normalize(torch.cat([part.whole for part in parts]), dim=-1).unflatten(0, (batch, depth)).mean(1)
        return ImageTokens(local, whole, (depth, *parts[0].grid))
