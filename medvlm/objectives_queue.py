"""Contrast with a memory: many negatives for a small batch, from towers that follow the trained ones slowly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medvlm.encoders import ImageTokens
from medvlm.objective_inputs import Extras, Slow, take
from medvlm.objectives import WholePairs
from medvlm.whole_batch import gather_rows, mean_of_all, share_of


class MomentumQueue(WholePairs):
    """InfoNCE against the slow vectors of this batch and of the batches before it.

    After MoCo, He et al. 2020, arXiv:1911.05722, between images and texts as in ALBEF, Li et al. 2021,
    arXiv:2107.07651, section 3.2, with its soft pseudo-targets (level L1). Queue and place in it are part of the state,
    so that a resumed run meets the same negatives.

    Args:
        embed: Width of the vectors.
        length: Pairs that the queue holds.
        temperature: Initial temperature.
        softness: Share of the target that the slow towers' own answer has; ALBEF takes 0.4.
    """

    wants = ("slow",)

    def __init__(self, embed: int, length: int = 4096, temperature: float = 0.07, softness: float = 0.4) -> None:
        super().__init__(1 / temperature)
        if length < 1 or not 0 <= softness <= 1:
            raise ValueError(f"length is {length}, softness {softness}; expected 1 or more, and a share in [0, 1]")
        self.softness = softness
        self.register_buffer("images", torch.zeros(length, embed))
        self.register_buffer("texts", torch.zeros(length, embed))
        self.register_buffer("seen", torch.tensor(0))
        self.images: Tensor
        self.texts: Tensor
        self.seen: Tensor

    def forward(
        self, image: ImageTokens, text: Tensor, target: Tensor, kin: Tensor, extras: Extras | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss () in nats and its parts; takes `extras.slow`, and keeps it for the steps to come while training."""
        slow: Slow = take(extras, "slow", self)
        place = share_of(len(text), text)
        slow_image, slow_text = (F.normalize(gather_rows(x.detach()), dim=-1) for x in slow)
        filled = min(int(self.seen), len(self.images))
        loss = (
            self._one_way(image.whole, slow.whole, slow_text, self.texts[:filled], place.start)
            + self._one_way(text, slow.text, slow_image, self.images[:filled], place.start)
        ) / 2
        if self.training:
            self._keep(slow_image, slow_text)
        return loss, {"queue_nce": loss.detach(), "queued": self.seen.clamp(max=len(self.images)).float()}

    def _one_way(self, fast: Tensor, slow: Tensor, batch: Tensor, queue: Tensor, start: int) -> Tensor:
        """Cross-entropy of own rows against the batch of all processes and the queue."""
        held = torch.cat([batch, queue])
        own = torch.arange(start, start + len(fast), device=fast.device)
        target = F.one_hot(own, len(held)).to(fast)
        with torch.no_grad():
            answer = (F.normalize(slow, dim=-1) @ held.T * self.scale).softmax(1)
            target = (1 - self.softness) * target + self.softness * answer
        logits = F.normalize(fast, dim=-1) @ held.T * self.scale
        return mean_of_all(-(target * logits.log_softmax(1)).sum(1))

    @torch.no_grad()
    def _keep(self, image: Tensor, text: Tensor) -> None:
        """Write over the oldest. A batch longer than the queue leaves its last rows."""
        length = len(self.images)
        first = int(self.seen) + max(0, len(image) - length)
        rows = (torch.arange(min(len(image), length), device=image.device) + first) % length
        self.images[rows], self.texts[rows] = image[-length:], text[-length:]
        self.seen += len(image)
