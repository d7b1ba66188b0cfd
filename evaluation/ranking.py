"""Quality of a whole ranking: average precision, NDCG, R-precision, and CT-CLIP's label overlap, which it calls MAP.

Ties are counted against the model: of equally similar items the least relevant stands first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.item_scores import Floats, ItemScores

Gain = Literal["linear", "exponential"]


def mean_average_precision(
    similarity: ArrayLike, relevant: ArrayLike, k: int | None = None, candidate: ArrayLike | None = None
) -> ItemScores:
    """Average precision of each query's ranking, whose mean is MAP: the mean precision at its right items.

    With `k`, only the first k items count, and the sum is divided by min(k, right items), so that a perfect ranking
    scores 1. `candidate` (Q, G) leaves items out of a query's gallery. A query without a right item is left out.
    Shapes: similarity, relevant (Q, G), relevant 1 or 0.
    Source: Manning et al. 2008, Introduction to Information Retrieval, section 8.4.
    Raises: ValueError if shapes differ, k is below 1, or a similarity is nan.
    """
    table, right, allowed = _checked(similarity, relevant, candidate, k)
    found: list[float | str] = []
    for scores, gains, kept in zip(table, right > 0, allowed, strict=True):
        ordered = _ordered(scores[kept], gains[kept].astype(np.float64))[:k] > 0
        total = int(gains[kept].sum())
        if not total:
            found.append("no relevant item")
            continue
        precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
        found.append(float(precision[ordered].sum() / min(total, k or total)))
    depth = "whole ranking" if k is None else f"first {k}, divided by min({k}, relevant items)"
    return ItemScores.of("mean_average_precision", f"gallery of {table.shape[1]}, {depth}", found)


def ndcg(
    similarity: ArrayLike,
    relevance: ArrayLike,
    k: int | None = None,
    gain: Gain = "linear",
    candidate: ArrayLike | None = None,
) -> ItemScores:
    """Normalised discounted cumulative gain of each query's ranking, in [0, 1].

    The item at place i adds gain / log2(i + 1); the sum is divided by that of the best order. "linear": the gain is the
    relevance (Jarvelin and Kekalainen 2002, scikit-learn). "exponential": 2 ** relevance - 1 (Burges et al. 2005). They
    agree for relevance 0 and 1. A query without anything relevant is left out.
    Shapes: similarity, relevance (Q, G), relevance 0 or more. Source: doi:10.1145/582415.582418.
    Raises: ValueError if shapes differ, k is below 1, a relevance is below 0, or a number is nan.
    """
    table, grades, allowed = _checked(similarity, relevance, candidate, k)
    gains = grades if gain == "linear" else np.exp2(grades) - 1
    found: list[float | str] = []
    for scores, values, kept in zip(table, gains, allowed, strict=True):
        ordered = _ordered(scores[kept], values[kept])[:k]
        best = np.sort(values[kept])[::-1][:k]
        discount = 1 / np.log2(np.arange(2, len(best) + 2))
        found.append(float(ordered @ discount / (best @ discount)) if best.sum() > 0 else "no relevant item")
    depth = "whole ranking" if k is None else f"first {k}"
    return ItemScores.of("ndcg", f"{gain} gain, gallery of {table.shape[1]}, {depth}", found)


def r_precision(similarity: ArrayLike, relevant: ArrayLike, candidate: ArrayLike | None = None) -> ItemScores:
    """Share of right items among the first R, R being the number of right items; a query without one is left out.

    Shapes: similarity, relevant (Q, G), relevant 1 or 0. Raises: ValueError if shapes differ or a similarity is nan.
    """
    table, right, allowed = _checked(similarity, relevant, candidate, None)
    found: list[float | str] = []
    for scores, gains, kept in zip(table, right > 0, allowed, strict=True):
        total = int(gains[kept].sum())
        ordered = _ordered(scores[kept], gains[kept].astype(np.float64))
        found.append(float(ordered[:total].mean()) if total else "no relevant item")
    return ItemScores.of("r_precision", f"gallery of {table.shape[1]}", found)


def label_overlap_at_k(
    similarity: ArrayLike, query_labels: ArrayLike, gallery_labels: ArrayLike, ks: Sequence[int] = (1, 5, 10, 50)
) -> dict[int, ItemScores]:
    """CT-CLIP's volume-to-volume "MAP@K": mean Jaccard index of the labels of a query and of its K nearest items.

    It is no average precision. Labels absent in both are ignored; gallery items without any label are left out, queries
    without any are not and score 0. As published the query stands in its own gallery, where it finds itself with 1:
    `similarity` decides, so take the query out by a similarity of -inf. Equal similarities keep the gallery's order.
    Shapes: similarity (Q, G), labels (Q, L) and (G, L) of 0 and 1.
    Source: Hamamci et al. 2024, arXiv:2403.17834, and its code, which see `as_ct_clip_prints`.
    Raises: ValueError if shapes differ, a K is below 1, a similarity or label is nan, or no gallery item has a label.
    """
    table = np.asarray(similarity, dtype=np.float64)
    asked, there = np.asarray(query_labels, dtype=np.float64), np.asarray(gallery_labels, dtype=np.float64)
    if table.shape != (len(asked), len(there)) or asked.shape[1:] != there.shape[1:] or asked.ndim != 2:
        raise ValueError(f"similarity has shape {table.shape} and labels {asked.shape} and {there.shape}, expected"
                         " (Q, G), (Q, L), (G, L)")  # fmt: skip
    if np.isnan(table).any() or not (np.isin(asked, (0, 1)).all() and np.isin(there, (0, 1)).all()):
        raise ValueError("a similarity is nan, or a label is neither 0 nor 1")
    if min(ks, default=1) < 1:
        raise ValueError(f"K is {min(ks)}, expected at least 1")
    kept = there.sum(1) > 0
    if not kept.any():
        raise ValueError("no gallery item has a label, expected at least one")
    common = asked @ there[kept].T
    union = asked.sum(1)[:, None] + there[kept].sum(1)[None] - common
    order = np.argsort(-table[:, kept], axis=1, kind="stable")
    ranked = np.take_along_axis(common / union, order, 1)
    variant = f"mean Jaccard index of labels, gallery of {int(kept.sum())} labelled items"
    return {k: ItemScores("label_overlap", f"{variant}, first {k}", ranked[:, :k].mean(1)) for k in ks}


def label_overlap_chance(query_labels: ArrayLike, gallery_labels: ArrayLike) -> float:
    """What `label_overlap_at_k` gives for a random order of the gallery, whatever K: the mean Jaccard of all pairs."""
    asked, there = np.asarray(query_labels, dtype=np.float64), np.asarray(gallery_labels, dtype=np.float64)
    everything = label_overlap_at_k(np.zeros((len(asked), len(there))), asked, there, (len(there),))
    return everything[len(there)].value


def as_ct_clip_prints(scores: dict[int, ItemScores]) -> dict[int, float]:
    """The numbers that CT-CLIP's script prints: its list of queries is never emptied between one K and the next.

    So its second number is the mean of those for the first two K, and so on; only the first is the one for its K.
    """
    seen: list[Floats] = []
    printed = {}
    for k, score in scores.items():
        seen.append(score.items)
        printed[k] = float(np.mean(np.concatenate(seen)))
    return printed


def _checked(
    similarity: ArrayLike, relevance: ArrayLike, candidate: ArrayLike | None, k: int | None
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    table, grades = np.asarray(similarity, dtype=np.float64), np.asarray(relevance, dtype=np.float64)
    allowed = np.ones(table.shape, bool) if candidate is None else np.asarray(candidate, bool)
    if table.ndim != 2 or table.shape != grades.shape or table.shape != allowed.shape:
        raise ValueError(f"similarity has shape {table.shape}, relevance {grades.shape} and candidates {allowed.shape},"
                         " expected (Q, G) for all")  # fmt: skip
    if np.isnan(table).any() or np.isnan(grades).any():
        raise ValueError(f"{int((np.isnan(table) | np.isnan(grades)).sum())} of {table.size} cells hold nan")
    if (grades < 0).any():
        raise ValueError(f"the smallest relevance is {grades.min():g}, expected 0 or more")
    if k is not None and k < 1:
        raise ValueError(f"k is {k}, expected at least 1, or None for the whole ranking")
    return table, grades, allowed


def _ordered(scores: Floats, gains: Floats) -> Floats:
    """Gains by falling score; of equal scores the smallest gain first."""
    return gains[np.lexsort((gains, -scores))]
