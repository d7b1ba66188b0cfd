"""Scores beside labels: the checks that every metric makes first, so that wrong input is refused in one voice.

Labels are 1 (present), 0 (absent) or nan (unknown: that row is left out for that finding). Anything else is refused, so
an "uncertain" -1 never becomes a negative by accident: the caller decides, and says so in the metric's variant.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def labelled_rows(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """Scores and labels (M,) of the rows whose label is known, from (N,).

    Raises: ValueError on unequal lengths, scores of known rows that are not finite, or labels other than 0, 1, nan.
    """
    score = np.asarray(scores, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    if score.ndim != 1 or score.shape != label.shape:
        raise ValueError(f"scores {score.shape} and labels {label.shape} must share one shape (N,)")
    refuse_strange_labels(label)
    return known_rows(score, label)


def labelled_probabilities(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """As labelled_rows, for probabilities. Raises: as labelled_rows, and ValueError outside [0, 1]."""
    probability, label = labelled_rows(probabilities, labels)
    if probability.size and (probability.min() < 0 or probability.max() > 1):
        raise ValueError(
            f"probabilities range from {probability.min():.3g} to {probability.max():.3g}, expected [0, 1]; pass"
            " probabilities, not logits"
        )
    return probability, label


def labelled_table(scores: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Scores and labels (N, K), a column a name; unknown labels stay in place as nan.

    Raises: ValueError on unequal shapes, names given twice, or labels other than 0, 1, nan.
    """
    score = np.asarray(scores, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    if score.ndim != 2 or score.shape != label.shape or score.shape[1] != len(names):
        raise ValueError(f"scores {score.shape} and labels {label.shape} must both be (N, {len(names)})")
    if len(set(names)) != len(names):
        raise ValueError(f"names {sorted(names)[:20]} hold one name twice, expected a name for each column")
    refuse_strange_labels(label)
    return score, label


def known_rows(score: Floats, label: Floats) -> tuple[Floats, Floats]:
    """The rows whose label is not nan. Raises: ValueError for a score among them that is not finite."""
    known = ~np.isnan(label)
    score, label = score[known], label[known]
    if not np.isfinite(score).all():
        raise ValueError(f"{(~np.isfinite(score)).sum()} of {score.size} scores are not finite, expected numbers")
    return score, label


def refuse_strange_labels(label: Floats) -> None:
    """Raises: ValueError for labels other than 1, 0 and nan."""
    strange = label[~np.isnan(label) & (label != 0) & (label != 1)]
    if strange.size:
        raise ValueError(
            f"labels hold {sorted(set(strange.tolist()))[:5]}, expected 1 (present), 0 (absent) or nan (unknown);"
            " decide first what an uncertain label counts as, and name it in the metric's variant"
        )


def counts_at_thresholds(score: Floats, label: Floats) -> tuple[Floats, Floats, Floats]:
    """True positives, calls and the threshold itself (T,), at each distinct score, highest first; labels are known."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # last row of each run of equal scores
    true = np.cumsum(label[order])[last]
    return true, (last + 1).astype(np.float64), ranked[last]


def numbered_patients(groups: Sequence[Hashable], rows: int) -> NDArray[np.intp]:
    """The number of each row's patient (N,), 0 to G - 1 in order of first appearance.

    Raises: ValueError if there are not as many groups as rows, or a group is None or nan: rows without a patient
    would be taken for one large patient, or for one patient each, and both are guesses.
    """
    if len(groups) != rows:
        raise ValueError(f"there are {len(groups)} groups for {rows} rows, expected the patient of each row")
    number: dict[Hashable, int] = {}
    found = np.empty(rows, dtype=np.intp)
    for row, patient in enumerate(groups):
        if patient is None or patient != patient:
            raise ValueError(
                f"row {row} has no patient ({patient!r}), expected a key; drop the row, or give it its own key"
            )
        found[row] = number.setdefault(patient, len(number))
    return found
