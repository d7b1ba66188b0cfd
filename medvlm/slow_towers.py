"""Copies of both towers that follow them slowly, for objectives with a queue or with self-distillation."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from medvlm.objective_inputs import Slow


class SlowTowers(nn.Module):
    """An exponential moving average of the towers, never trained itself. It is part of the state of a run.

    After the momentum encoder of MoCo, He et al. 2020, arXiv:1911.05722, equation 2.

    Args:
        image: The image tower to follow.
        text: The text tower to follow.
        momentum: Share that a step keeps, in [0, 1).
    """

    def __init__(self, image: nn.Module, text: nn.Module, momentum: float) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; expected a share in [0, 1), such as 0.995")
        self.momentum = momentum
        self.image = copy.deepcopy(image).requires_grad_(False)
        self.text = copy.deepcopy(text).requires_grad_(False)

    @torch.no_grad()
    def follow(self, image: nn.Module, text: nn.Module) -> None:
        """One step towards the towers."""
        for slow, fast in ((self.image, image), (self.text, text)):
            for mine, theirs in zip(slow.parameters(), fast.parameters(), strict=True):
                mine.lerp_(theirs, 1 - self.momentum)

    @torch.no_grad()
    def forward(self, image: Tensor, view: Tensor, ids: Tensor, mask: Tensor) -> Slow:
        """Whole images (B, E) and texts (M, E), without a graph."""
        return Slow(self.image(image, view).whole, self.text(ids, mask))
