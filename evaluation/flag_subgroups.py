"""Flags on subgroups: is the model worse for some patients than for the rest, beyond a margin and beyond chance?

Every value of every attribute is held against the other patients whose value is known. Holm keeps the chance of any
false flag, over all groups and findings, below the stated level; the margin keeps differences that do not matter out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.flags import Flag
from evaluation.influence import Estimate, combine, holm_by_name, rate_estimate
from evaluation.score_table import ENOUGH, ScoreTable

ALPHA = 0.01
MARGIN = 0.05
"""A loss of AUROC or of sensitivity that matters."""
TOGETHER = 5
"""Patients of each class from which on a finding counts in the mean over findings."""


@dataclass(frozen=True, eq=False)
class Gap:
    """How much worse a group fares than the rest: `loss` = rest - group, with both, its n and Holm's p beyond the
    margin. `measure` is "AUROC" or "sensitivity"; `finding` is "" for the mean over `findings` findings."""

    attribute: str
    group: str
    measure: str
    finding: str
    findings: int
    inside: Estimate
    rest: Estimate
    loss: Estimate
    p: float

    def text(self) -> str:
        """One clause with the numbers."""
        what = self.finding or f"mean over {self.findings} findings"
        low, high = self.loss.bounds()
        return (
            f"{self.attribute} {self.group}: {self.measure} {self.inside.value:.2f} (n={self.inside.n}) against"
            f" {self.rest.value:.2f} in the rest (n={self.rest.n}), {what}, loss {self.loss.value:.2f}"
            f" ({low:.2f} to {high:.2f})"
        )


def subgroup_gaps(
    table: ScoreTable, groups: Mapping[str, Sequence[str]], thresholds: Mapping[str, float] | None = None
) -> list[Gap]:
    """All gaps that can be measured, with p-values adjusted within three families: mean AUROC, AUROC of a finding,
    and mean sensitivity at the given thresholds.

    groups: attribute -> value of each row, "" unknown. A finding is compared with at least 10 patients of each class
    inside and outside, and counts in the mean with at least 5.
    Raises: ValueError if an attribute has another number of rows.
    """
    families: dict[str, list[Gap]] = {"mean": [], "finding": [], "sensitivity": []}
    for attribute, values in groups.items():
        if len(values) != table.n:
            raise ValueError(f"attribute {attribute!r} has {len(values)} values, expected {table.n}, one a row")
        held = np.array([str(value) for value in values])
        for value in sorted(set(held.tolist()) - {""}):
            inside, rest = held == value, (held != value) & (held != "")
            columns = sorted(set(table.usable(inside, TOGETHER)) & set(table.usable(rest, TOGETHER)))
            if not columns:
                continue
            pairs = [(table.auroc(k, inside), table.auroc(k, rest)) for k in columns]
            families["mean"].append(_gap(attribute, value, "AUROC", "", pairs))
            families["finding"] += [
                _gap(attribute, value, "AUROC", table.names[k], [pair])
                for k, pair in zip(columns, pairs, strict=True)
                if min(part.smallest for part in pair) >= ENOUGH
            ]
            called = [k for k in columns if thresholds is not None and table.names[k] in thresholds]
            if called and thresholds is not None:
                shares = [_sensitivities(table, k, thresholds[table.names[k]], inside, rest) for k in called]
                families["sensitivity"].append(_gap(attribute, value, "sensitivity", "", shares))
    return [gap for family in families.values() for gap in _adjusted(family)]


def subgroup_flags(gaps: Sequence[Gap]) -> list[Flag]:
    """subgroup.gap: one flag, that names the group with the largest proven loss."""
    proven = sorted((gap for gap in gaps if gap.p < ALPHA / 3), key=lambda gap: -gap.loss.value)
    if not proven:
        return []
    worst = proven[0]
    others = {f"{gap.attribute} {gap.group}" for gap in proven} - {f"{worst.attribute} {worst.group}"}
    also = f"; also {', '.join(sorted(others)[:4])}" if others else ""
    low, high = worst.loss.bounds()
    return [
        Flag(
            "subgroup.gap",
            "serious",
            f"Worse in a group by more than {MARGIN:g}, chance excluded at {ALPHA:g} over {len(gaps)} comparisons:"
            f" {worst.text()}{also}.",
            "The mean over all patients hides that these patients are served worse.",
            "Look at how many such patients the model learned from and at their images; do not use it for them before.",
            {
                "n": worst.inside.n,
                "group": worst.inside.value,
                "rest": worst.rest.value,
                "loss": worst.loss.value,
                "low": low,
                "high": high,
                "p": worst.p,
                "comparisons": len(gaps),
            },
        )
    ]


def _gap(attribute: str, group: str, measure: str, finding: str, pairs: list[tuple[Estimate, Estimate]]) -> Gap:
    inside, rest = combine([pair[0] for pair in pairs]), combine([pair[1] for pair in pairs])
    return Gap(attribute, group, measure, finding, len(pairs), inside, rest, rest.minus_apart(inside), 1.0)


def _sensitivities(
    table: ScoreTable, k: int, threshold: float, inside: NDArray[np.bool_], rest: NDArray[np.bool_]
) -> tuple[Estimate, Estimate]:
    called = np.where(table.labels[:, k] == 1, (table.scores[:, k] >= threshold).astype(float), np.nan)
    first, second = (
        rate_estimate(np.where(rows, called, np.nan), table.patients, table.count) for rows in (inside, rest)
    )
    return first, second


def _adjusted(family: list[Gap]) -> list[Gap]:
    raw = {str(i): gap.loss.p_above(MARGIN) for i, gap in enumerate(family)}
    found = holm_by_name(raw)
    return [
        Gap(g.attribute, g.group, g.measure, g.finding, g.findings, g.inside, g.rest, g.loss, found[str(i)])
        for i, g in enumerate(family)
    ]


def too_small(table: ScoreTable, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Groups ("attribute value (n=...)") in which no finding has 5 patients of each class: nothing is known there."""
    small = []
    for attribute, values in groups.items():
        held = np.array([str(value) for value in values])
        for value in sorted(set(held.tolist()) - {""}):
            if not table.usable(held == value, TOGETHER):
                small.append(f"{attribute} {value} (n={int((held == value).sum())})")
    return small
