"""Regions of a film for objectives that know the anatomy: the lung fields, and what a report says of each lung."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experts.card import ExpertError
from experts.lung_fields import find_lung_fields
from medvlm.statements import ReportFacts, Statement
from reports.findings import Finding

REGIONS = ("right", "left")
"""The lungs, by the patient's side; the right one is in the left half of a frontal film."""


class RegionText(NamedTuple):
    """What a report says of one region; `kin` is -1 where it does not settle it."""

    text: str
    kin: int


class LungRegions:
    """Masks of the lungs by the expert `film-thorax`, and what reports say of each.

    Args:
        bank: Findings that the model is asked for; those with sides belong to a lung.
    """

    def __init__(self, bank: dict[str, tuple[str | None, ...]]) -> None:
        self.names = [name for name, sides in bank.items() if len(sides) > 1]
        self._masks: dict[int, np.ndarray] = {}

    def masks(self, row: int, image: np.ndarray) -> np.ndarray:
        """Masks (2, H, W) in [0, 1] of one image (1, H, W); empty where the expert finds no lungs.

        Raises: ValueError for a volume.
        """
        if image.ndim != 3:
            raise ValueError(
                f"an image of shape {image.shape}: regions are the lung fields of films (1, H, W). For volumes choose"
                " an objective that wants neither `regions` nor `phrases`"
            )
        if row not in self._masks:
            self._masks[row] = _lungs(image[0])
        return self._masks[row].astype(np.float32)

    def describe(self, facts: Sequence[Finding]) -> list[RegionText]:
        """A sentence for each lung: its findings, or that there is none."""
        held = ReportFacts(facts)
        described = []
        for side in REGIONS:
            answers = [held.settles((Finding(name, "present", side=side),)) for name in self.names]
            there = [name for name, answer in zip(self.names, answers, strict=True) if answer == 1]
            text = f"{side} lung: {', '.join(there) if there else 'no finding'}."
            known = not np.isnan(answers).any()
            number = sum(2**bit for bit, name in enumerate(self.names) if name in there)
            described.append(RegionText(text[0].upper() + text[1:], number if known else -1))
        return described

    def targets(self, reports: Sequence[Sequence[Finding]], said: Sequence[Statement]) -> Tensor:
        """Whether each statement is true of each lung (B, 2, M); NaN where a report or the statement does not say.

        A statement settles a region only if it states one finding that has sides; an absence has no place.
        """
        held = [ReportFacts(facts) for facts in reports]
        target = torch.full((len(reports), len(REGIONS), len(said)), torch.nan)
        for column, statement in enumerate(said):
            fact = statement.facts[0] if len(statement.facts) == 1 else None
            if fact is None or fact.status != "present" or fact.name not in self.names:
                continue
            for r, side in enumerate(REGIONS):
                elsewhere = fact.side is not None and fact.side not in (side, "bilateral")
                for row, facts in enumerate(held):
                    here = facts.settles((Finding(fact.name, "present", side=side, location=fact.location),))
                    target[row, r, column] = 0.0 if elsewhere else here
        return target


def _lungs(image: np.ndarray) -> np.ndarray:
    """Masks (2, H, W) bool."""
    rows, columns = image.shape
    try:
        found = find_lung_fields(image)
    except ExpertError:
        return np.zeros((2, rows, columns), dtype=bool)
    best = found.pairs[0]
    both = np.stack([best.left.mask, best.right.mask])
    # Nearest pixel of the plane that the expert worked on.
    i = np.minimum(((np.arange(rows) + 0.5) * both.shape[1] / rows).astype(int), both.shape[1] - 1)
    j = np.minimum(((np.arange(columns) + 0.5) * both.shape[2] / columns).astype(int), both.shape[2] - 1)
    return both[:, i][:, :, j]
