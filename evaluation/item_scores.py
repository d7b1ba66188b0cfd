"""A metric that is a mean over items (maps, masks, questions): each item's number, and why items are missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import patient_bootstrap
from evaluation.scorecard import Metric

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ItemScores:
    """One number for each item, in the caller's order. `variant` says which of the computations of that name this is.

    `items` (R,): nan for an item that is left out, so that `patient_bootstrap(score.items, patients)` gives the
    interval. `excluded` counts the items left out by reason.
    """

    name: str
    variant: str
    items: Floats
    excluded: Mapping[str, int] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of items with a number."""
        return int((~np.isnan(self.items)).sum())

    @property
    def value(self) -> float:
        """Mean over the items with a number; nan without any."""
        return float(np.nanmean(self.items)) if self.n else math.nan

    @property
    def median(self) -> float:
        """Median over the items with a number; nan without any."""
        return float(np.nanmedian(self.items)) if self.n else math.nan

    def metric(self, name: str, patients: Sequence[Hashable], data: str, draws: int = 1000, seed: int = 0) -> Metric:
        """The mean as a number of a score card, with its interval over patients and what was left out.

        Shapes: patients (R,), the patient of each item.
        Raises: ValueError if there are no items, numbers differ, or an item is infinite.
        """
        endless = int(np.isinf(self.items).sum())
        if endless:
            raise ValueError(
                f"{self.name}: {endless} of {len(self.items)} items are infinite, expected numbers: a mean of them"
                " says nothing; choose another rule for empty masks, or report the median"
            )
        found = patient_bootstrap(self.items, patients, draws, seed)
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.excluded.items())
        return Metric.of(name, found, f"{self.variant}; left out: {reasons}" if reasons else self.variant, data)

    @classmethod
    def of(cls, name: str, variant: str, items: Iterable[float | str]) -> ItemScores:
        """From numbers, and words in the place of those that are missing: the words are the reasons, counted."""
        given = list(items)
        reasons = Counter(item for item in given if isinstance(item, str))
        numbers = [math.nan if isinstance(item, str) else float(item) for item in given]
        return cls(name, variant, np.asarray(numbers, dtype=np.float64), dict(reasons))


def same_length(first: int, second: int, what: str) -> None:
    """Refuse two lists that should be beside each other and are not. Raises: ValueError."""
    if first != second:
        raise ValueError(f"there are {first} and {second} {what}, expected as many of each")
