"""Flags on shortcuts: does a score follow a tube, a marker or a scanner rather than the finding?

A model that does not look at the marker ranks studies equally well whether the marker goes with the finding (marked
positives against unmarked negatives) or against it (unmarked positives against marked negatives). One that leans on
the marker is better in the first and worse in the second; the difference is how much it leans. Pairs that are equal in
the marker give the conditional AUROC: what is left without the shortcut.

Source: the aligned and conflicting groups of Sagawa et al. 2020, arXiv:1911.08731; the conditional AUROC is that of
Janes and Pepe 2009, doi:10.1093/biomet/asp002, for a discrete covariate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.flags import Flag
from evaluation.influence import Estimate, auroc_estimate, combine, holm_by_name, how_many
from evaluation.score_table import ENOUGH, ScoreTable

ALPHA = 0.01
MARGIN = 0.10
"""A difference of AUROC between studies where the marker goes with the finding and studies where it goes against."""
TELLING = 0.8
"""AUROC of the marker alone from which on a test without conflicting studies cannot tell it from the finding."""


Marker = Sequence[str] | Sequence[bool] | Sequence[bool | None]
"""A value for each row: True, False or None (unknown), or a word ("" unknown)."""


@dataclass(frozen=True, eq=False)
class Leaning:
    """How a finding's score leans on a marker: AUROC where both go together (`with_it`), where they go against each
    other (`against`), their difference, the conditional AUROC, the marker's own AUROC, what the marker does to
    negatives (P(score with marker > score without)), and Holm's two-sided p."""

    finding: str
    marker: str
    alone: Estimate
    with_it: Estimate
    against: Estimate
    difference: Estimate
    conditional: float
    negatives: Estimate
    p: float


def leanings(table: ScoreTable, markers: Mapping[str, Marker]) -> list[Leaning]:
    """Every finding on every marker that has 10 patients in each of the four cells (finding x marker).

    markers: name -> value of each row: True, False or None, or words, each of them a marker of its own.
    Raises: ValueError if a marker has another number of rows.
    """
    found = []
    for name, rows in indicators(table, markers).items():
        for k in _others(table, name):
            cells = _cells(table, k, rows)
            if min(_patients(table, cell) for cell in cells.values()) < ENOUGH:
                continue
            with_it = table.between(k, cells["p1"], cells["n0"])
            against = table.between(k, cells["p0"], cells["n1"])
            alone = auroc_estimate(rows == 1, _known(table, k, rows), table.patients, table.count)
            negatives = table.between(k, cells["n1"], cells["n0"])
            same = [table.between(k, cells["p1"], cells["n1"]), table.between(k, cells["p0"], cells["n0"])]
            pairs = [cells["p1"].sum() * cells["n1"].sum(), cells["p0"].sum() * cells["n0"].sum()]
            conditional = combine(same, [float(count / sum(pairs)) for count in pairs]).value
            found.append(
                Leaning(
                    table.names[k],
                    name,
                    alone,
                    with_it,
                    against,
                    with_it.minus_apart(against),
                    conditional,
                    negatives,
                    1.0,
                )
            )
    adjusted = holm_by_name({str(i): _two_sided(item) for i, item in enumerate(found)})
    return [
        Leaning(
            f.finding,
            f.marker,
            f.alone,
            f.with_it,
            f.against,
            f.difference,
            f.conditional,
            f.negatives,
            adjusted[str(i)],
        )
        for i, f in enumerate(found)
    ]


def shortcut_flags(table: ScoreTable, markers: Mapping[str, Marker]) -> list[Flag]:
    """shortcut.used: a score leans on a marker by more than the margin. shortcut.inseparable: the marker alone tells
    the finding, and too few studies show one without the other."""
    found = leanings(table, markers)
    used = sorted((item for item in found if item.p < ALPHA), key=lambda item: -abs(item.difference.value))
    flags = []
    if used:
        flags.append(_used(used, len(found)))
    bound = _inseparable(table, markers)
    if bound:
        flags.append(
            Flag(
                "shortcut.inseparable",
                "warning",
                f"A marker alone tells the finding, and fewer than {ENOUGH} patients show one without the other:"
                f" {'; '.join(bound[:3])}.",
                "On these studies nobody can know whether the model sees the finding or the marker.",
                "Add studies with the marker and without the finding, and the reverse, before trusting the number.",
                {"n": table.n, "pairs": len(bound)},
            )
        )
    return flags


def _used(used: Sequence[Leaning], comparisons: int) -> Flag:
    worst = used[0]
    low, high = worst.difference.bounds()
    also = f"; also {', '.join(f'{i.finding} on {i.marker}' for i in used[1:4])}" if len(used) > 1 else ""
    best, least = sorted((worst.with_it, worst.against), key=lambda estimate: -estimate.value)
    return Flag(
        "shortcut.used",
        "serious",
        f"The score of {worst.finding} follows {worst.marker}: AUROC {best.value:.2f} (n={best.n}) where that helps,"
        f" {least.value:.2f} (n={least.n}) where it misleads, {worst.conditional:.2f} among equals; {worst.marker}"
        f" alone {worst.alone.value:.2f} (n={worst.alone.n}); chance excluded at {ALPHA:g} over {comparisons}"
        f" comparisons{also}.",
        "Where the marker and the finding part, as in patients before treatment or at another site, the model fails.",
        f"Judge the model by the studies without {worst.marker}; train with both kinds, or mask the marker.",
        {
            "n": worst.with_it.n + worst.against.n,
            "with": worst.with_it.value,
            "against": worst.against.value,
            "difference": worst.difference.value,
            "low": low,
            "high": high,
            "conditional": worst.conditional,
            "negatives": worst.negatives.value,
            "alone": worst.alone.value,
            "p": worst.p,
        },
    )


def indicators(table: ScoreTable, markers: Mapping[str, Marker]) -> dict[str, NDArray[np.float64]]:
    """Markers as columns (N,) of 1, 0 and nan (unknown); a word becomes a column "name word". Of two words only the
    first becomes one: the other says the same."""
    columns: dict[str, NDArray[np.float64]] = {}
    for name, values in markers.items():
        if len(values) != table.n:
            raise ValueError(f"marker {name!r} has {len(values)} values, expected {table.n}, one a row")
        if all(value is None or isinstance(value, bool | np.bool_) for value in values):
            columns[name] = np.array([np.nan if value is None else float(value) for value in values])
            continue
        words = np.array([str(value) for value in values])
        kinds = sorted(set(words.tolist()) - {""})
        for kind in kinds[:1] if len(kinds) == 2 else kinds if len(kinds) > 2 else []:
            columns[f"{name} {kind}"] = np.where(words == "", np.nan, (words == kind).astype(float))
    return columns


def _inseparable(table: ScoreTable, markers: Mapping[str, Marker]) -> list[str]:
    bound = []
    for name, rows in indicators(table, markers).items():
        for k in set(table.usable()) & set(_others(table, name)):
            cells = {cell: _patients(table, mask) for cell, mask in _cells(table, k, rows).items()}
            alone = auroc_estimate(rows == 1, _known(table, k, rows), table.patients, table.count)
            together = min(cells["p1"], cells["n0"]) >= ENOUGH > min(cells["p0"], cells["n1"])
            apart = min(cells["p0"], cells["n1"]) >= ENOUGH > min(cells["p1"], cells["n0"])
            if (together and alone.p_above(TELLING) < ALPHA) or (apart and alone.p_below(1 - TELLING) < ALPHA):
                bound.append(f"{table.names[k]} and {name} (AUROC of the marker {alone.value:.2f}, n={alone.n})")
    return bound


def _cells(table: ScoreTable, k: int, rows: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    label = table.labels[:, k]
    return {f"{'np'[int(y)]}{m}": (label == y) & (rows == m) for y in (0, 1) for m in (0, 1)}


def _others(table: ScoreTable, marker: str) -> list[int]:
    """All findings but the one that the marker is: a labelled device may be both."""
    return [k for k, name in enumerate(table.names) if name != marker]


def _patients(table: ScoreTable, rows: NDArray[np.bool_]) -> int:
    return how_many(table.patients[rows], table.count)


def _known(table: ScoreTable, k: int, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(rows), np.nan, table.labels[:, k])


def _two_sided(found: Leaning) -> float:
    """Both must hold: the difference is beyond the margin, and the marker moves studies without the finding too. A
    group whose positives are merely seen less well shows the first alone."""
    up = max(found.difference.p_above(MARGIN), found.negatives.p_above(0.5))
    down = max(found.difference.p_below(-MARGIN), found.negatives.p_below(0.5))
    return min(1.0, 2 * min(up, down))
