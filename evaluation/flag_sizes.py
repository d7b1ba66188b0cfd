"""Flags on the numbers themselves: findings that cannot be measured, and scores that are no ranking at all."""

from __future__ import annotations

import numpy as np

from evaluation.flags import Flag
from evaluation.influence import holm_by_name
from evaluation.score_table import ENOUGH, ScoreTable

ALPHA = 0.01
"""Chance that a check raises its flag where nothing is wrong, at the edge of its margin; Holm within a check."""
TOO_PERFECT = 20
"""Patients of each class from which on an AUROC of exactly 1 is doubted."""


def size_flags(table: ScoreTable) -> list[Flag]:
    """labels.one_class: no patient with, or none without, a finding that is scored. labels.few: fewer than 10 of one
    kind."""
    counts = {name: table.classes(k) for k, name in enumerate(table.names)}
    single = [name for name, found in counts.items() if min(found) == 0]
    few = [name for name, found in counts.items() if 0 < min(found) < ENOUGH]
    flags = []
    if single:
        flags.append(
            Flag(
                "labels.one_class",
                "serious",
                f"{len(single)} of {len(counts)} findings have one class only: {_counted(single, counts)}.",
                "No ranking can be measured without both classes, and a mean over findings silently leaves these out.",
                "Take these findings off the card, or add studies of the missing class.",
                {"n": table.n, "findings": len(single)},
            )
        )
    if few:
        flags.append(
            Flag(
                "labels.few",
                "warning",
                f"{len(few)} of {len(counts)} findings have fewer than {ENOUGH} patients of one class:"
                f" {_counted(few, counts)}.",
                "One patient more moves such a number by several hundredths, and intervals of so few are too short.",
                "Read these findings as anecdotes; do not compare models on them.",
                {"n": table.n, "findings": len(few), "fewest": min(min(counts[name]) for name in few)},
            )
        )
    return flags


def score_flags(table: ScoreTable) -> list[Flag]:
    """scores.constant: one score for everybody. scores.inverted: AUROC below 0.5. scores.perfect: exactly 1."""
    both = [k for k in range(len(table.names)) if min(table.classes(k)) > 0]
    found = {table.names[k]: table.auroc(k) for k in both}
    known = {table.names[k]: table.scores[~np.isnan(table.labels[:, k]), k] for k in both}
    constant = [name for name, score in known.items() if score.size > 1 and np.ptp(score) == 0]
    below = holm_by_name({name: estimate.p_below(0.5) for name, estimate in found.items() if name not in constant})
    inverted = [name for name, p in below.items() if p < ALPHA]
    perfect = [name for name, e in found.items() if e.value == 1 and e.smallest >= TOO_PERFECT]
    flags = []
    if constant:
        flags.append(
            Flag(
                "scores.constant",
                "serious",
                f"The score is the same for all {table.n} studies: {_listed(constant)}.",
                "Such a score cannot tell one patient from another; its AUROC of 0.5 comes from ties alone.",
                "Look for a score that was overwritten, saturated, or filled in for a missing answer.",
                {"n": table.n, "findings": len(constant)},
            )
        )
    if inverted:
        values = ", ".join(f"{name} {found[name].value:.2f} (n={found[name].n})" for name in inverted[:5])
        flags.append(
            Flag(
                "scores.inverted",
                "serious",
                f"The AUROC is below 0.5, chance excluded at {ALPHA:g} over {len(below)} findings: {values}.",
                "The finding is called where it is absent: a sign, a label or a column is swapped.",
                "Check the order of the columns and the meaning of 1 before any number is used.",
                {"n": table.n, "findings": len(inverted), "lowest": min(found[name].value for name in inverted)},
            )
        )
    if perfect:
        flags.append(
            Flag(
                "scores.perfect",
                "note",
                f"The AUROC is exactly 1: {_listed(perfect)} (n={min(found[name].n for name in perfect)} or more).",
                "No reader and no model ranks every pair of real studies right; more often the label is in the input.",
                "Look for the label in the file names, the report given to the model, or burned into the image.",
                {"n": table.n, "findings": len(perfect)},
            )
        )
    return flags


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _counted(names: list[str], counts: dict[str, tuple[int, int]]) -> str:
    return _listed([f"{name} ({counts[name][0]} patients with it, {counts[name][1]} without)" for name in names])
