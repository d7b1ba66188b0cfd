"""What a protocol answers with: numbers with intervals, a verdict, and the rule that the verdict follows.

A protocol is a question to a model that an accuracy does not answer: does it look, does it follow the text, does it
mistake one thing for its look-alike? Each is a function over what a model gave under several conditions, so that any
model can be asked; `medvlm.protocols` runs them on this platform's models.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.influence import Estimate
from evaluation.labelled import numbered_patients
from evaluation.scorecard import Metric

Verdict = Literal["passed", "failed", "undecided"]
LEVEL = 0.95


@dataclass(frozen=True)
class Outcome:
    """One protocol's answer. The verdict looks at bounds, never at the value alone: too few studies are "undecided"."""

    protocol: str
    question: str
    metrics: tuple[Metric, ...]
    verdict: Verdict
    rule: str

    @property
    def n(self) -> int:
        """The largest n of its metrics."""
        return max((metric.n for metric in self.metrics), default=0)

    def get(self, name: str) -> Metric:
        """A metric by the last part of its name. Raises: KeyError naming those that are there."""
        for metric in self.metrics:
            if metric.name == f"protocol.{self.protocol}.{name}":
                return metric
        there = ", ".join(metric.name.removeprefix(f"protocol.{self.protocol}.") for metric in self.metrics)
        raise KeyError(f"protocol {self.protocol!r} has no metric {name!r}; it has {there}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        metrics = [metric.to_dict() for metric in self.metrics]
        return {
            "protocol": self.protocol,
            "question": self.question,
            "verdict": self.verdict,
            "rule": self.rule,
            "metrics": metrics,
        }

    def text(self) -> str:
        """For people: the verdict, its rule, and a line for each number."""
        lines = [f"{self.protocol}: {self.verdict}. {self.question} Rule: {self.rule}"]
        for m in self.metrics:
            lines.append(f"  {m.name:52s} {m.value:6.3f}  ({m.low:.3f} to {m.high:.3f}, n={m.n})")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class People:
    """Patients of the rows as numbers (N,), and how many there are."""

    numbers: NDArray[np.intp]
    count: int

    @classmethod
    def of(cls, patients: Sequence[Hashable], rows: int) -> People:
        """Raises: ValueError for no rows, or as many patients as there are not rows."""
        if rows == 0:
            raise ValueError("there are 0 rows, expected at least one study or pair: check the split and the filters")
        numbers = numbered_patients(patients, rows)
        return cls(numbers, int(numbers.max()) + 1)


def metric(protocol: str, name: str, found: Estimate, variant: str, data: str, within: bool = True) -> Metric:
    """A metric of a protocol; `within` cuts the interval to [0, 1], which a share and an AUROC cannot leave."""
    low, high = found.bounds(LEVEL)
    if within:
        low, high = max(0.0, low), min(1.0, high)  # nan stays nan: max and min return their first argument then
    if math.isnan(found.error):
        low = high = math.nan
    how = f"{variant}; 95% cluster-robust t, {found.smallest} patients in the smallest class"
    return Metric(f"protocol.{protocol}.{name}", found.value, low, high, found.n, how, data)


def judged(*rules: tuple[Metric, Literal["least", "most"], float]) -> Verdict:
    """passed when every bound keeps its rule, failed when one interval lies wholly beyond, else undecided.

    A rule is (metric, "least" or "most", value): "least" asks that the metric be at least that much.
    """
    kept = all(m.low >= edge if kind == "least" else m.high <= edge for m, kind, edge in rules)
    broken = any(m.high < edge if kind == "least" else m.low > edge for m, kind, edge in rules)
    return "failed" if broken else "passed" if kept else "undecided"


def columns_of(
    table: Sequence[Sequence[float]] | NDArray[np.float64], shape: tuple[int, ...], what: str
) -> NDArray[np.float64]:
    """An array of the shape. Raises: ValueError naming `what` for another shape or for numbers that are not finite."""
    found = np.asarray(table, dtype=np.float64)
    if found.shape != shape:
        raise ValueError(f"{what} have shape {found.shape}, expected {shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{what} hold {int((~np.isfinite(found)).sum())} values that are nan or infinite")
    return found
