"""Whom a test set holds: how many studies and patients, in which groups, with which findings."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Share:
    """One line of the table: studies that belong to it, of those for which it is known."""

    of: str  # "sex", "age", "scanner", "finding" ...
    name: str
    studies: int
    known: int
    patients: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "of": self.of,
            "name": self.name,
            "studies": self.studies,
            "known": self.known,
            "patients": self.patients,
        }


@dataclass(frozen=True)
class Population:
    """Who was measured on. `shares` are in the order in which the page shows them."""

    studies: int
    patients: int
    shares: tuple[Share, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"studies": self.studies, "patients": self.patients, "shares": [one.to_dict() for one in self.shares]}


def population(
    patients: Sequence[Hashable],
    groups: Mapping[str, Sequence[str]],
    labels: ArrayLike,
    names: Sequence[str],
) -> Population:
    """Count studies and patients by attribute and finding; labels (N, K) with nan unknown, groups "" unknown."""
    label = np.asarray(labels, dtype=np.float64).reshape(len(patients), len(names))
    shares = []
    for attribute, values in groups.items():
        known = sum(1 for value in values if value)
        for value in sorted({value for value in values if value}):
            rows = [row for row, own in enumerate(values) if own == value]
            shares.append(Share(attribute, value, len(rows), known, len({patients[row] for row in rows})))
    for k, name in enumerate(names):
        rows = np.flatnonzero(label[:, k] == 1).tolist()
        known = int((~np.isnan(label[:, k])).sum())
        shares.append(Share("finding", name, len(rows), known, len({patients[row] for row in rows})))
    return Population(len(patients), len(set(patients)), tuple(shares))
