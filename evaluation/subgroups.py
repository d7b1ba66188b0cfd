"""How a model does on parts of a test set: sex, age, site, scanner, view; which group fares worst, and by how much."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from evaluation.intervals import Interval
from evaluation.labelled import labelled_table
from evaluation.robustness import both_classes, macro_over
from evaluation.scorecard import Metric
from evaluation.weighted import weighted_bootstrap, weighted_difference, weighted_ratio

FEWEST_STUDIES = 20
"""Smaller groups are counted and not measured."""
FEWEST_PER_CLASS = 3
"""A finding counts for a group when it has this many positives and negatives both inside it and outside."""
AGE_BANDS = (0, 18, 40, 60, 80)
"""Lower edges in years."""


def age_band(years: float | None) -> str:
    """The band of an age, such as "40 to 59 years"; "" where the age is unknown."""
    if years is None or math.isnan(years):
        return ""
    place = max(k for k, low in enumerate(AGE_BANDS) if years >= low)
    if place == 0:
        return f"under {AGE_BANDS[1]} years"
    if place == len(AGE_BANDS) - 1:
        return f"{AGE_BANDS[-1]} years and over"
    return f"{AGE_BANDS[place]} to {AGE_BANDS[place + 1] - 1} years"


def dotted(group: str) -> str:
    """A group's name as part of a metric's name: dots would read as levels."""
    return group.replace(".", "·")


def subgroup_metrics(
    scores: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    patients: Sequence[Hashable],
    data: str,
    resamples: int = 2000,
) -> list[Metric]:
    """`subgroup.ATTRIBUTE.GROUP.auroc` and `.gap`: macro AUROC in the group, and that minus the one of all others.

    A group is compared with the rest over the findings that both can be measured on, so a gap is never a difference in
    which findings a group happens to have. Intervals of gaps are widened for the number of groups (Bonferroni), so that
    all of them hold at once with 95 %. Attributes with one group are left out; so are groups of fewer than 20 studies.
    Shapes: scores, labels (N, K); each attribute (N,) with "" for unknown. Raises: ValueError on unequal shapes.
    """
    score, label = labelled_table(scores, labels, names)
    masks = group_masks(groups, len(score))
    shared = {key: _shared_findings(label, inside) for key, inside in masks.items()}
    masks = {key: inside for key, inside in masks.items() if shared[key]}
    own = {key: macro_over(score, label, names, shared[key], inside) for key, inside in masks.items()}
    gaps = {
        key: weighted_difference(own[key], macro_over(score, label, names, shared[key], ~inside))
        for key, inside in masks.items()
    }
    values = weighted_bootstrap(own, patients, n=resamples)
    differences = weighted_bootstrap(gaps, patients, n=resamples, level=1 - 0.05 / max(len(masks), 1))
    metrics = []
    for key, inside in masks.items():
        over = f"macro over {len(shared[key])} of {len(names)} findings"
        how = f"{over}; group minus all others; interval widened for {len(masks)} groups"
        metrics.append(Metric.of(f"subgroup.{key}.auroc", _counted(values[key], inside, patients), over, data))
        metrics.append(Metric.of(f"subgroup.{key}.gap", _counted(differences[key], inside, patients), how, data))
    return metrics


def group_masks(groups: Mapping[str, Sequence[str]], n: int) -> dict[str, np.ndarray]:
    """ "ATTRIBUTE.GROUP" to the rows (N,) bool of the groups that are large enough, of attributes with two or more.

    Raises: ValueError where an attribute has not one value for each study.
    """
    found = {}
    for attribute, values in groups.items():
        if len(values) != n:
            raise ValueError(f"{attribute} has {len(values)} values for {n} studies, expected as many")
        told = np.array(values, dtype=object)
        members = {value: told == value for value in sorted({value for value in values if value})}
        if len(members) < 2:
            continue
        for value, inside in members.items():
            if inside.sum() >= FEWEST_STUDIES and (~inside).sum() >= FEWEST_STUDIES:
                found[f"{dotted(attribute)}.{dotted(value)}"] = inside
    return found


def draft_subgroup_metrics(
    both: ArrayLike,
    drafted: ArrayLike,
    reference: ArrayLike,
    groups: Mapping[str, Sequence[str]],
    patients: Sequence[Hashable],
    data: str,
    resamples: int = 2000,
) -> list[Metric]:
    """`subgroup.ATTRIBUTE.GROUP.finding_f1` and `.gap` of drafts: micro F1 in the group, and that minus all others.

    both, drafted, reference (N,): findings present in both, in the draft, in the reference of each study. Intervals of
    gaps are widened as in subgroup_metrics.
    """
    common, said, true = (np.asarray(counts, dtype=np.float64) for counts in (both, drafted, reference))
    masks = group_masks(groups, len(common))
    own = {key: weighted_ratio(2 * common * inside, (said + true) * inside) for key, inside in masks.items()}
    rest = {key: weighted_ratio(2 * common * ~inside, (said + true) * ~inside) for key, inside in masks.items()}
    if not masks:
        return []
    values = weighted_bootstrap(own, patients, n=resamples)
    gaps = {key: weighted_difference(own[key], rest[key]) for key in masks}
    differences = weighted_bootstrap(gaps, patients, n=resamples, level=1 - 0.05 / len(masks))
    metrics = []
    for key, inside in masks.items():
        how = f"micro F1 of findings, group minus all others; interval widened for {len(masks)} groups"
        over = "micro F1 of the findings of drafts, uncertain counted as absent"
        metrics.append(Metric.of(f"subgroup.{key}.finding_f1", _counted(values[key], inside, patients), over, data))
        metrics.append(Metric.of(f"subgroup.{key}.gap", _counted(differences[key], inside, patients), how, data))
    return metrics


def subgroup_number(metrics: Sequence[Metric]) -> str:
    """What the groups are compared by, for people."""
    by_draft = any(m.name.startswith("subgroup.") and m.name.endswith(".finding_f1") for m in metrics)
    return "F1" if by_draft else "AUROC"


def worst_group(metrics: Sequence[Metric]) -> Metric | None:
    """The `.gap` of the group that lies farthest below all others; None without groups."""
    gaps = [m for m in metrics if m.name.startswith("subgroup.") and m.name.endswith(".gap") and m.value == m.value]
    return min(gaps, key=lambda metric: metric.value, default=None)


def _shared_findings(label: np.ndarray, inside: np.ndarray) -> list[int]:
    others = both_classes(label[~inside], FEWEST_PER_CLASS)
    return [k for k in both_classes(label[inside], FEWEST_PER_CLASS) if k in others]


def _counted(found: Interval, inside: np.ndarray, patients: Sequence[Hashable]) -> Interval:
    """The interval with the studies and patients of the group as its n."""
    members = {patients[row] for row in np.flatnonzero(inside).tolist()}
    return replace(found, n=int(inside.sum()), groups=len(members))
