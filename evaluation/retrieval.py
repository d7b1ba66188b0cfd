"""Search quality: is the right report among the first K? Duplicate reports are all right, or none is.

"Normal chest." occurs many times in every archive. Counting another copy of the same words as an error punishes a
perfect model, so a positive is any gallery item of the query's report group, and the gallery size is always quoted.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Retrieval:
    """Recall at each K, with what it depends on.

    `ranks` (Q,): place of the best positive, 1 = first; nan for a query without a positive (excluded, counted in
    `without_positive`). `chance` is the recall of a random order of this gallery.
    """

    recall: dict[int, float]
    chance: dict[int, float]
    median_rank: float
    ranks: NDArray[np.float64]
    queries: int
    gallery: int
    without_positive: int

    def hits(self, k: int) -> NDArray[np.float64]:
        """1 or 0 for each query, nan for an excluded one: ready for patient_bootstrap."""
        return np.where(np.isnan(self.ranks), math.nan, (self.ranks <= k).astype(np.float64))


def recall_at_k(
    similarity: ArrayLike,
    query_groups: Sequence[Hashable],
    gallery_groups: Sequence[Hashable],
    ks: Sequence[int] = (1, 5, 10),
    own: Sequence[int | None] | None = None,
) -> Retrieval:
    """Share of queries with an item of their own group among the K most similar gallery items.

    Ties are counted against the model: a negative as similar as the best positive stands before it, so a constant
    similarity earns nothing. `own` gives each query's own place in the gallery when it searches its own archive (None:
    it is not there); that item is taken out before ranking.
    Shapes: similarity (Q, G), higher is closer; query_groups (Q,); gallery_groups (G,); own (Q,).
    Source: Recall@K of Radford et al. 2021, arXiv:2103.00020, with grouped positives.
    Raises: ValueError if shapes differ, a K is below 1, or the similarity holds nan.
    """
    table = np.array(similarity, dtype=np.float64)
    expected = (len(query_groups), len(gallery_groups))
    if table.shape != expected:
        raise ValueError(f"similarity has shape {table.shape}, expected {expected}: queries, then gallery")
    if min(ks, default=1) < 1:
        raise ValueError(f"K is {min(ks)}, expected at least 1")
    if np.isnan(table).any():
        raise ValueError(f"{np.isnan(table).sum()} of {table.size} similarities are nan, expected numbers")
    positive = _same_group(query_groups, gallery_groups)
    candidate = np.ones(expected, bool)
    for row, place in enumerate(own or ()):
        if place is not None:
            candidate[row, place] = False
    positive &= candidate
    ranks = _ranks(table, positive, candidate)
    known = ranks[~np.isnan(ranks)]
    recall = {k: float((known <= k).mean()) if known.size else math.nan for k in ks}
    chance = {k: _chance(positive, candidate, k) for k in ks}
    median = float(np.median(known)) if known.size else math.nan
    return Retrieval(recall, chance, median, ranks, int(known.size), expected[1], int(np.isnan(ranks).sum()))


def _same_group(query_groups: Sequence[Hashable], gallery_groups: Sequence[Hashable]) -> NDArray[np.bool_]:
    places: dict[Hashable, list[int]] = {}
    for place, group in enumerate(gallery_groups):
        places.setdefault(group, []).append(place)
    positive = np.zeros((len(query_groups), len(gallery_groups)), bool)
    for row, group in enumerate(query_groups):
        positive[row, places.get(group, [])] = True
    return positive


def _ranks(
    table: NDArray[np.float64], positive: NDArray[np.bool_], candidate: NDArray[np.bool_]
) -> NDArray[np.float64]:
    best = np.where(positive, table, -np.inf).max(axis=1, initial=-np.inf)
    before = (table >= best[:, None]) & candidate & ~positive
    return np.where(positive.any(axis=1), 1.0 + before.sum(axis=1), math.nan)


def _chance(positive: NDArray[np.bool_], candidate: NDArray[np.bool_], k: int) -> float:
    """Mean over queries of 1 - C(G - m, k) / C(G, k): at least one of m positives among k random items of G."""
    shares = []
    for items, right in zip(candidate.sum(axis=1).tolist(), positive.sum(axis=1).tolist(), strict=True):
        if right:
            drawn = min(k, items)
            shares.append(1 - math.comb(items - right, drawn) / math.comb(items, drawn))
    return float(np.mean(shares)) if shares else math.nan
