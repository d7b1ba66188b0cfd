"""Findings against each other: look-alikes that are taken for one another, and combinations that were never learned.

Sources: the over-call on look-alikes follows the hard negatives of MediConfusion, arXiv:2409.15477; compositional
splits follow Keysers et al. 2020, arXiv:1912.09713 (every part is known, the combination is new).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.influence import combine, rate_estimate
from evaluation.protocol_outcome import Outcome, People, judged, metric
from evaluation.score_table import ENOUGH, ScoreTable

OVERCALL = 0.10
"""How much more often a finding may be called where its look-alike is than where neither is."""
GAP = 0.10
"""Accuracy that may be lost on combinations that were never learned."""
LOOK_ALIKES: tuple[tuple[str, str], ...] = (
    ("consolidation", "atelectasis"),
    ("atelectasis", "consolidation"),
    ("consolidation", "pulmonary edema"),
    ("pulmonary edema", "consolidation"),
    ("pleural effusion", "atelectasis"),
    ("atelectasis", "pleural effusion"),
    ("pneumothorax", "emphysema"),
    ("emphysema", "pneumothorax"),
    ("lung nodule", "rib fracture"),
    ("lung mass", "consolidation"),
    ("central venous catheter", "endotracheal tube"),
)
"""(finding, what is taken for it) on chest images."""


def look_alike(
    names: Sequence[str],
    scores: ArrayLike,
    labels: ArrayLike,
    patients: Sequence[Hashable],
    data: str,
    thresholds: ArrayLike | float = 0.0,
    pairs: Sequence[tuple[str, str]] = LOOK_ALIKES,
) -> Outcome:
    """Is a finding called where only its look-alike is?

    overcall.<finding> for <twin>: among studies without the finding, the call rate where the twin is minus where it is
    not. overcall: the mean over pairs. apart.<...>: AUROC of the finding's score, studies with the finding only against
    studies with the twin only. Pairs with fewer than 10 patients in a cell are left out.
    Raises: ValueError if no pair is left, or shapes do not fit.
    """
    table = ScoreTable.of(names, scores, labels, patients)
    at = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), (len(table.names),))
    overcalls, details = [], []
    for finding, twin in pairs:
        if finding not in table.names or twin not in table.names:
            continue
        k, j = table.names.index(finding), table.names.index(twin)
        absent = table.labels[:, k] == 0
        alike, neither = absent & (table.labels[:, j] == 1), absent & (table.labels[:, j] == 0)
        alone = (table.labels[:, k] == 1) & (table.labels[:, j] == 0)
        if min(np.unique(table.patients[rows]).size for rows in (alike, neither, alone)) < ENOUGH:
            continue
        called = (table.scores[:, k] >= at[k]).astype(float)
        rates = [
            rate_estimate(np.where(rows, called, np.nan), table.patients, table.count) for rows in (alike, neither)
        ]
        excess = rates[0].minus_apart(rates[1])
        overcalls.append(excess)
        words = f"{finding} called for {twin}"
        details += [
            metric(
                "look_alike", f"overcall.{words}", excess, "call rate with the twin minus without", data, within=False
            ),
            metric("look_alike", f"apart.{words}", table.between(k, alone, alike), "AUROC, finding or twin only", data),
        ]
    if not overcalls:
        raise ValueError(f"none of {len(pairs)} pairs has {ENOUGH} patients in each cell: look-alikes cannot be judged")
    mean = metric("look_alike", "overcall", combine(overcalls), f"mean over {len(overcalls)} pairs", data, within=False)
    rule = (
        f"passed when, in the mean over pairs, look-alikes are called at most {OVERCALL:.0%} more often than others,"
        " failed when surely more."
    )
    question = "Is a finding called where only its look-alike is?"
    return Outcome("look_alike", question, (mean, *details), judged((mean, "most", OVERCALL)), rule)


@dataclass(frozen=True, eq=False)
class CompositionalSplit:
    """Rows to learn from, rows whose combination was never learned, rows whose combination was; and which are held."""

    learn: NDArray[np.intp]
    new: NDArray[np.intp]
    seen: NDArray[np.intp]
    held: tuple[tuple[str, ...], ...]


def compositional_split(
    parts: Sequence[tuple[str, ...]], patients: Sequence[Hashable], share: float = 0.2, seed: int = 0
) -> CompositionalSplit:
    """Hold out combinations, such as (nodule, left, upper lobe), whose every part stays in training.

    parts (N,) are the combination of each row. About `share` of the combinations are held out, and about `share` of the
    other patients are kept for comparison; a patient is on one side only, so rows of patients with a held-out
    combination are never learned from.
    Raises: ValueError if nothing can be held out, or tuples differ in length.
    """
    if len({len(part) for part in parts}) != 1 or not 0 < share < 1:
        raise ValueError(f"{len(parts)} rows with tuples of one length and a share in (0, 1) are expected, got {share}")
    people = People.of(patients, len(parts))
    kinds = sorted(set(parts))
    rng = np.random.default_rng(seed)
    held: list[tuple[str, ...]] = []
    for number in rng.permutation(len(kinds)).tolist():
        left = [kind for kind in kinds if kind not in held and kind != kinds[number]]
        known = all(any(kind[i] == part for kind in left) for i, part in enumerate(kinds[number]))
        if known and len(held) < max(1, round(share * len(kinds))):
            held.append(kinds[number])
    if not held:
        raise ValueError(f"{len(kinds)} combinations share no parts: none can be held out with its parts still known")
    new = np.array([part in set(held) for part in parts])
    touched = np.isin(people.numbers, people.numbers[new])
    free = np.unique(people.numbers[~touched])
    kept = rng.permutation(free)[: max(1, round(share * free.size))]
    compared = np.isin(people.numbers, kept)
    rows = np.arange(len(parts))
    learn = rows[~touched & ~compared]
    missing = {part for kind in held for part in kind} - {part for row in learn for part in parts[row]}
    if missing:
        raise ValueError(f"no row to learn from shows {sorted(missing)[:5]}: hold out a smaller share than {share:g}")
    return CompositionalSplit(learn, rows[new], rows[compared], tuple(sorted(held)))


def compositional_gap(right: ArrayLike, is_new: Sequence[bool], patients: Sequence[Hashable], data: str) -> Outcome:
    """Right (1) and wrong (0) answers (N,) on combinations that were learned and on new ones.

    seen, new: accuracy. gap: seen minus new. Raises: ValueError for other values, or rows of one kind only.
    """
    answers, fresh = np.asarray(right, dtype=np.float64), np.asarray(is_new, dtype=bool)
    if answers.shape != fresh.shape or answers.ndim != 1 or not np.isin(answers, (0, 1)).all():
        raise ValueError(f"answers {answers.shape} and is_new {fresh.shape} must be (N,), answers 0 or 1")
    people = People.of(patients, answers.size)
    if fresh.all() or not fresh.any():
        raise ValueError(f"{int(fresh.sum())} of {fresh.size} rows are new combinations, expected some of each")
    seen, new = (
        rate_estimate(np.where(rows, answers, np.nan), people.numbers, people.count) for rows in (~fresh, fresh)
    )
    gap = metric("compositional", "gap", seen.minus_apart(new), "seen minus new combinations", data, within=False)
    found = (
        gap,
        metric("compositional", "seen", seen, "combinations that were learned", data),
        metric("compositional", "new", new, "new combinations of known parts", data),
    )
    rule = f"passed when new combinations cost at most {GAP:g} of accuracy, failed when surely more."
    question = "Are known parts understood in combinations that were never learned?"
    return Outcome("compositional", question, found, judged((gap, "most", GAP)), rule)
