"""Contrast with self-distillation: a part of an image should say what the whole says to a slow copy of the tower."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvlm.encoders import ImageTokens
from medvlm.objective_inputs import Extras, Slow, take
from medvlm.objectives import PairSigmoid
from medvlm.whole_batch import gather_rows, mean_of_all


class LocalToGlobal(PairSigmoid):
    """Sigmoid loss of pairs, and distillation from the slow tower's view of the whole to views of parts.

    After SILC, Naeem et al. 2023, arXiv:2310.13355, section 3.2, with centering and sharpening as in DINO, Caron et al.
    2021, arXiv:2104.14294, equations 1 to 4 (level L1). The slow head and the centre are part of the state.

    Args:
        embed: Width of the whole-image vector.
        prototypes: Outputs of the head.
        momentum: Share of the slow head that a step keeps.
        warm: Temperature of the trained head.
        cold: Temperature of the slow head.
        keep: Share of the centre that a step keeps.
        distill_weight: Weight of the distillation.
        scale: Initial logit scale of the pairs.
        bias: Initial bias of the pairs.
    """

    wants = ("slow", "crops")

    def __init__(
        self,
        embed: int,
        prototypes: int = 256,
        momentum: float = 0.996,
        warm: float = 0.1,
        cold: float = 0.04,
        keep: float = 0.9,
        distill_weight: float = 1.0,
        scale: float = 10.0,
        bias: float = -10.0,
    ) -> None:
        super().__init__(scale, bias)
        self.momentum, self.warm, self.cold, self.keep = momentum, warm, cold, keep
        self.distill_weight = distill_weight
        self.head = nn.Linear(embed, prototypes, bias=False)
        self.slow_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("center", torch.zeros(prototypes))
        self.center: Tensor

    def forward(
        self, image: ImageTokens, text: Tensor, target: Tensor, kin: Tensor, extras: Extras | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss () in nats and its parts; takes `extras.slow` and `extras.crops`; moves the slow head while training."""
        slow: Slow = take(extras, "slow", self)
        crops: Tensor = take(extras, "crops", self)
        pairs, parts = super().forward(image, text, target, kin)
        with torch.no_grad():
            if self.training:
                self.slow_head.weight.lerp_(self.head.weight, 1 - self.momentum)
            answer = self.slow_head(F.normalize(slow.whole.detach(), dim=-1))  # (B, K)
            wanted = ((answer - self.center) / self.cold).softmax(-1)
        said = (self.head(F.normalize(crops, dim=-1)) / self.warm).log_softmax(-1)  # (V, B, K)
        distill = mean_of_all(-(wanted * said).sum(-1).flatten())
        if self.training:
            self.center = self.keep * self.center + (1 - self.keep) * gather_rows(answer).mean(0)
        return pairs + self.distill_weight * distill, {**parts, "distill": distill.detach()}
