"""Search quality: is the right report among the first K? Duplicate reports are all right, or none is.

"Normal chest." occurs many times in every archive. Counting another copy of the same words as an error punishes a
perfect model, so a positive is any gallery item of the query's report group, and the gallery size is always quoted.
Graded and label-based measures of a ranking are in evaluation.ranking.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.item_scores import Floats

SamePatient = Literal["keep", "leave out", "leave out negatives"]
Codes = NDArray[np.int64]
Bools = NDArray[np.bool_]
_NONE = -1
_BLOCK_CELLS = 4_000_000


@dataclass(frozen=True)
class Retrieval:
    """Recall at each K, with what it depends on.

    `ranks` (Q,): place of the best positive, 1 = first; nan for a query without a positive (excluded, counted in
    `without_positive`). `chance` is the recall of a random order of this gallery. `relevant` and `candidates` (Q,):
    positives and items that each query was ranked against.
    """

    recall: dict[int, float]
    chance: dict[int, float]
    median_rank: float
    ranks: Floats
    queries: int
    gallery: int
    without_positive: int
    relevant: Codes
    candidates: Codes
    variant: str

    def hits(self, k: int) -> Floats:
        """1 or 0 for each query, nan for an excluded one: ready for patient_bootstrap."""
        return np.where(np.isnan(self.ranks), math.nan, (self.ranks <= k).astype(np.float64))

    @property
    def reciprocal_ranks(self) -> Floats:
        """1 / rank of the best positive for each query, nan for an excluded one: ready for patient_bootstrap."""
        return 1 / self.ranks

    @property
    def mean_reciprocal_rank(self) -> float:
        """Mean of 1 / rank of the best positive; nan without a query."""
        return float(np.nanmean(self.reciprocal_ranks)) if self.queries else math.nan

    @property
    def mean_rank(self) -> float:
        """Mean rank of the best positive; nan without a query."""
        return float(np.nanmean(self.ranks)) if self.queries else math.nan

    @property
    def open_clip_median_rank(self) -> float:
        """The median rank as open_clip prints it: rounded down where it lies between two ranks."""
        return math.floor(self.median_rank) if self.queries else math.nan

    @property
    def mean_relevant(self) -> float:
        """Mean number of positives of the queries that have one: above 1, duplicates make the task easier."""
        known = self.relevant[self.relevant > 0]
        return float(known.mean()) if known.size else math.nan


def recall_at_k(
    similarity: ArrayLike,
    query_groups: Sequence[Hashable],
    gallery_groups: Sequence[Hashable],
    ks: Sequence[int] = (1, 5, 10),
    own: Sequence[int | None] | None = None,
    patients: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    same_patient: SamePatient = "keep",
) -> Retrieval:
    """Share of queries with an item of their own group among the K most similar gallery items.

    Ties are counted against the model: a negative as similar as the best positive stands before it, so a constant
    similarity earns nothing. `own` gives each query's own place in the gallery when it searches its own archive (None:
    it is not there); that item is taken out before ranking. `patients` names the patient of each query and of each
    gallery item; another study of the query's patient is no fair negative and no fair hit, so `same_patient` can "leave
    out" all items of that patient, or only the "negatives" among them (when the query's own pair must stay).
    Shapes: similarity (Q, G), higher is closer; query_groups (Q,); gallery_groups (G,); own (Q,).
    Source: Recall@K of Radford et al. 2021, arXiv:2103.00020, with grouped positives.
    Raises: ValueError if shapes differ, a K is below 1, patients are missing, or the similarity holds nan.
    """
    table = np.asarray(similarity, dtype=np.float64)
    expected = (len(query_groups), len(gallery_groups))
    if table.shape != expected:
        raise ValueError(f"similarity has shape {table.shape}, expected {expected}: queries, then gallery")
    if np.isnan(table).any():
        raise ValueError(f"{np.isnan(table).sum()} of {table.size} similarities are nan, expected numbers")
    task = _Task(query_groups, gallery_groups, ks, own, patients, same_patient)
    return task.rank(lambda rows: table[rows])


def recall_of_embeddings(
    queries: ArrayLike,
    gallery: ArrayLike,
    query_groups: Sequence[Hashable],
    gallery_groups: Sequence[Hashable],
    ks: Sequence[int] = (1, 5, 10),
    own: Sequence[int | None] | None = None,
    patients: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    same_patient: SamePatient = "keep",
) -> Retrieval:
    """`recall_at_k` of the inner products of embeddings, some queries at a time: no table of all pairs is made.

    Shapes: queries (Q, E), gallery (G, E), float32 or float64; scale them to length 1 for cosine similarity.
    Raises: as recall_at_k.
    """
    searching, found = np.asarray(queries), np.asarray(gallery)
    if searching.ndim != 2 or found.ndim != 2 or searching.shape[1] != found.shape[1]:
        raise ValueError(f"embeddings have shapes {searching.shape} and {found.shape}, expected (Q, E) and (G, E)")
    if (len(searching), len(found)) != (len(query_groups), len(gallery_groups)):
        raise ValueError(
            f"there are {len(searching)} and {len(found)} embeddings, and {len(query_groups)} and"
            f" {len(gallery_groups)} groups, expected as many"
        )
    if np.isnan(searching).any() or np.isnan(found).any():
        raise ValueError("an embedding holds nan, expected numbers")
    task = _Task(query_groups, gallery_groups, ks, own, patients, same_patient)
    return task.rank(lambda rows: searching[rows] @ found.T)


class _Task:
    """Who may be found by whom, asked for some queries at a time."""

    def __init__(
        self,
        query_groups: Sequence[Hashable],
        gallery_groups: Sequence[Hashable],
        ks: Sequence[int],
        own: Sequence[int | None] | None,
        patients: tuple[Sequence[Hashable], Sequence[Hashable]] | None,
        same_patient: SamePatient,
    ) -> None:
        if min(ks, default=1) < 1:
            raise ValueError(f"K is {min(ks)}, expected at least 1")
        self.shape = (len(query_groups), len(gallery_groups))
        if own is not None and len(own) != self.shape[0]:
            raise ValueError(f"own has {len(own)} places, expected {self.shape[0]}: one for each query, or None")
        if same_patient != "keep" and patients is None:
            raise ValueError(f'same_patient is "{same_patient}" and no patients are given: name those of both sides')
        if patients is not None and (len(patients[0]), len(patients[1])) != self.shape:
            raise ValueError(
                f"there are {len(patients[0])} and {len(patients[1])} patients, expected {self.shape[0]} of queries and"
                f" {self.shape[1]} of the gallery"
            )
        self.ks, self.same_patient = tuple(ks), same_patient
        self.groups = _codes(query_groups, gallery_groups)
        self.patients = None if patients is None else _codes(*patients)
        self.own = np.asarray([_NONE if place is None else place for place in own or ()], dtype=np.int64)
        if self.own.size and not _NONE <= self.own.min() <= self.own.max() < max(self.shape[1], 1):
            raise ValueError(f"own has places {self.own.min()} to {self.own.max()}, expected 0 to {self.shape[1] - 1}")

    def rank(self, similarity_of: _Similarity) -> Retrieval:
        queries, gallery = self.shape
        step = max(1, _BLOCK_CELLS // max(gallery, 1))
        ranks, relevant, candidates = np.full(queries, math.nan), np.zeros(queries, int), np.zeros(queries, int)
        for start in range(0, queries, step):
            rows = slice(start, min(start + step, queries))
            positive, candidate = self.block(rows)
            ranks[rows] = _ranks(similarity_of(rows), positive, candidate)
            relevant[rows], candidates[rows] = positive.sum(1), candidate.sum(1)
        known = ranks[~np.isnan(ranks)]
        recall = {k: float((known <= k).mean()) if known.size else math.nan for k in self.ks}
        chance = {k: _chance(candidates, relevant, k) for k in self.ks}
        median = float(np.median(known)) if known.size else math.nan
        missing = int(np.isnan(ranks).sum())
        return Retrieval(
            recall, chance, median, ranks, int(known.size), gallery, missing, relevant, candidates, self.variant()
        )

    def block(self, rows: slice) -> tuple[Bools, Bools]:
        """Positives and candidates of some queries, (B, G) each."""
        positive = self.groups[0][rows, None] == self.groups[1][None]
        candidate = np.ones(positive.shape, bool)
        if self.patients is not None and self.same_patient != "keep":
            same = self.patients[0][rows, None] == self.patients[1][None]
            candidate &= ~same if self.same_patient == "leave out" else ~same | positive
        if self.own.size:
            place = self.own[rows]
            there = np.flatnonzero(place != _NONE)
            candidate[there, place[there]] = False
        return positive & candidate, candidate

    def variant(self) -> str:
        """Words for a metric's variant."""
        words = [f"gallery of {self.shape[1]}", "any item of the query's group is right", "ties against the model"]
        if self.same_patient != "keep":
            words.append("same patient left out" if self.same_patient == "leave out" else "same patient no negative")
        return ", ".join(words)


class _Similarity(Protocol):
    def __call__(self, rows: slice, /) -> NDArray[np.floating]:
        """Similarities of some queries, (B, G)."""


def _codes(first: Sequence[Hashable], second: Sequence[Hashable]) -> tuple[Codes, Codes]:
    """A number for each group, the same on both sides."""
    numbers: dict[Hashable, int] = {}
    coded = [[numbers.setdefault(group, len(numbers)) for group in side] for side in (first, second)]
    return np.asarray(coded[0], dtype=np.int64), np.asarray(coded[1], dtype=np.int64)


def _ranks(table: NDArray[np.floating], positive: Bools, candidate: Bools) -> Floats:
    best = np.where(positive, table, -np.inf).max(axis=1, initial=-np.inf)
    before = (table >= best[:, None]) & candidate & ~positive
    return np.where(positive.any(axis=1), 1.0 + before.sum(axis=1), math.nan)


def _chance(candidates: Codes, relevant: Codes, k: int) -> float:
    """Mean over queries of 1 - C(G - m, k) / C(G, k): at least one of m positives among k random items of G."""
    counted: dict[tuple[int, int], float] = {}
    shares = []
    for items, right in zip(candidates.tolist(), relevant.tolist(), strict=True):
        if right:
            if (items, right) not in counted:
                counted[items, right] = 1 - _none_drawn(items, right, min(k, items))
            shares.append(counted[items, right])
    return float(np.mean(shares)) if shares else math.nan


def _none_drawn(items: int, right: int, drawn: int) -> float:
    """C(items - right, drawn) / C(items, drawn), as a product: the binomials of an archive have thousands of digits."""
    small, other = min(right, drawn), max(right, drawn)
    return math.prod(max(items - other - step, 0) / (items - step) for step in range(small))
