"""Contrastive pretraining: pull each image towards what is true of it."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from medvlm.data import Pairs
from medvlm.encoders import full_precision


def warm_cosine(optimizer: torch.optim.Optimizer, warmup: int, total: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then a cosine down to 2 % of the learning rate."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def decayed(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay; biases, norms, scales and embeddings of one dimension do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


class Contrastive(lightning.LightningModule):
    """Towers and objective are handed in; this only connects them.

    Args:
        image: Image tower, see `medvlm.encoders.HybridTower`.
        text: Text tower, see `medvlm.language.SentenceTower`.
        objective: See `medvlm.objectives`; its `needs` says whether it takes sentences or whole reports.
        lr: Highest learning rate.
        weight_decay: AdamW decay of matrices.
        warmup: Steps of linear warm-up.
        seed: Keys any randomness inside the step (dropout).
        mixed_until: Share of the steps after which the image tower leaves the trainer's mixed precision for 32 bits:
            the rounding of 8 bits tells when the learning rate is small (LOG.md).
    """

    def __init__(
        self,
        image: nn.Module,
        text: nn.Module,
        objective: nn.Module,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        warmup: int = 50,
        seed: int = 0,
        mixed_until: float = 1.0,
    ) -> None:
        super().__init__()
        self.mixed_until = mixed_until
        self.image, self.text, self.objective = image, text, objective
        self.lr, self.weight_decay, self.warmup, self.seed = lr, weight_decay, warmup, seed

    def training_step(self, batch: Pairs) -> Tensor:
        """One step; its randomness is keyed by (seed, step), so a resumed run repeats it exactly."""
        torch.manual_seed(hash((self.seed, batch.step)) % 2**63)
        late = batch.step >= self.mixed_until * self.trainer.max_steps
        with full_precision(batch.image) if late else nullcontext():
            tokens = self.image(batch.image, batch.view)
        with full_precision(batch.image):
            loss, parts = self.objective(tokens, self.text(batch.ids, batch.mask), batch.target, batch.kin)
        size = len(batch.image)
        self.log("train/loss", loss, batch_size=size, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in parts.items()}, batch_size=size)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine, stepped by batch."""
        optimizer = torch.optim.AdamW(decayed(self, self.weight_decay), lr=self.lr, betas=(0.9, 0.98))
        schedule = warm_cosine(optimizer, self.warmup, int(self.trainer.max_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
