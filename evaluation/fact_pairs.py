"""The findings that draft and reference share, one by one: is the size right, the side, the change, the severity?

A finding is paired with one of the same name that both call present; among several of a name, those agree best that lie
on the same side and place and are nearest in size. What has no partner is a hallucination or an omission, and counted
as such in `evaluation.clinical`, not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.clinical import Rate, side_set

if TYPE_CHECKING:
    from reports.findings import Finding

LEVELS = ("tiny", "mild", "moderate", "severe")
REVERSED = frozenset({("increased", "decreased"), ("decreased", "increased"), ("new", "decreased")})
_WRONG_SIDE, _WRONG_PLACE, _UNSAID = 4.0, 2.0, 1.0  # a side outweighs a place, a place outweighs any size


class Pair(NamedTuple):
    """A finding of the draft and the one of the reference that it is taken to be."""

    report: int
    drafted: Finding
    reference: Finding


def pair_facts(drafted: Sequence[Sequence[Finding]], reference: Sequence[Sequence[Finding]]) -> list[Pair]:
    """Pairs of present findings of one name, report by report, in the order of the reference.

    Each finding is in one pair at most; the assignment of least disagreement is taken (Kuhn 1955, by
    scipy.optimize.linear_sum_assignment). Raises: ValueError if there are not as many drafts as references.
    """
    if len(drafted) != len(reference):
        raise ValueError(f"there are {len(drafted)} drafts and {len(reference)} references, expected as many")
    pairs = []
    for report, (said, true) in enumerate(zip(drafted, reference, strict=True)):
        by_name: dict[str, tuple[list[Finding], list[Finding]]] = {}
        for which, facts in enumerate((said, true)):
            for fact in facts:
                if fact.status == "present":
                    by_name.setdefault(fact.name, ([], []))[which].append(fact)
        for ours, theirs in by_name.values():
            pairs += [Pair(report, ours[i], theirs[j]) for i, j in _assigned(ours, theirs)]
    return pairs


def _assigned(ours: Sequence[Finding], theirs: Sequence[Finding]) -> list[tuple[int, int]]:
    if not ours or not theirs:
        return []
    if len(ours) == len(theirs) == 1:
        return [(0, 0)]
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment([[_disagreement(a, b) for b in theirs] for a in ours])
    return sorted(zip(rows.tolist(), columns.tolist(), strict=True), key=lambda pair: pair[1])


def _disagreement(a: Finding, b: Finding) -> float:
    cost = 0.0
    if a.side != b.side:
        cost += _WRONG_SIDE if a.side and b.side and side_set(a.side).isdisjoint(side_set(b.side)) else _UNSAID
    if a.location != b.location:
        cost += _WRONG_PLACE if a.location and b.location else _UNSAID / 2
    if a.size_mm and b.size_mm:
        cost += min(1.0, abs(math.log(a.size_mm / b.size_mm))) / 2
    return cost


@dataclass(frozen=True)
class SizeErrors:
    """Drafted minus stated size, mm, of pairs with a size in both; nan where there is no such pair.

    `without_size` counts pairs whose reference has a size and whose draft has none.
    """

    errors_mm: NDArray[np.float64]
    stated_mm: NDArray[np.float64]
    reports: NDArray[np.intp]
    without_size: int

    @property
    def n(self) -> int:
        """Pairs with a size in both."""
        return len(self.errors_mm)

    def mean_absolute_mm(self) -> float:
        """Mean of |error|, mm."""
        return float(np.abs(self.errors_mm).mean()) if self.n else math.nan

    def median_absolute_mm(self) -> float:
        """Median of |error|, mm."""
        return float(np.median(np.abs(self.errors_mm))) if self.n else math.nan

    def bias_mm(self) -> float:
        """Mean of the error, mm: positive where drafts call things too large."""
        return float(self.errors_mm.mean()) if self.n else math.nan

    def within(self, mm: float = 2.0) -> float:
        """Share of |error| <= mm; two millimetres count as a change of a nodule (MacMahon et al. 2017)."""
        return float((np.abs(self.errors_mm) <= mm).mean()) if self.n else math.nan

    def mean_relative(self) -> float:
        """Mean of |error| / stated size."""
        return float((np.abs(self.errors_mm) / self.stated_mm).mean()) if self.n else math.nan


def size_errors(pairs: Sequence[Pair]) -> SizeErrors:
    """Errors of size over pairs. A stated size of 0 or below, or not a number, is refused: ValueError."""
    errors, stated, reports, without = [], [], [], 0
    for pair in pairs:
        true, said = pair.reference.size_mm, pair.drafted.size_mm
        for size in (true, said):
            if size is not None and not (math.isfinite(size) and size > 0):
                raise ValueError(f"a {pair.reference.name} has the size {size} mm, expected a positive number")
        if true is not None and said is not None:
            errors.append(said - true)
            stated.append(true)
            reports.append(pair.report)
        elif true is not None:
            without += 1
    return SizeErrors(np.array(errors, float), np.array(stated, float), np.array(reports, np.intp), without)


Among = Literal["stated in both", "stated in the reference"]


def accuracy(pairs: Sequence[Pair], what: str, among: Among = "stated in both") -> Rate:
    """Share of pairs whose `what` ("change", "severity", "location") is the same in both.

    among: which pairs are counted; "stated in the reference" makes silence of the draft an error. nan without any.
    """
    return _rate(pairs, what, among, lambda said, true: said == true, f"pairs with a {what} {among}")


def severity_within_one(pairs: Sequence[Pair]) -> Rate:
    """Share of pairs with a severity in both that differ by one level at most (tiny, mild, moderate, severe)."""
    return _rate(
        pairs,
        "severity",
        "stated in both",
        lambda said, true: abs(LEVELS.index(said) - LEVELS.index(true)) <= 1,
        "pairs with a severity stated in both",
    )


def reversed_change(pairs: Sequence[Pair]) -> Rate:
    """Share of pairs with a change in both where the draft says the opposite: larger for smaller, smaller for new."""
    return _rate(
        pairs,
        "change",
        "stated in both",
        lambda said, true: (said, true) in REVERSED or (true, said) in REVERSED,
        "pairs with a change stated in both",
    )


def change_table(pairs: Sequence[Pair]) -> dict[tuple[str, str], int]:
    """(in the reference, in the draft) -> pairs, "not stated" among them: where changes are confused."""
    counts: dict[tuple[str, str], int] = {}
    for pair in pairs:
        key = (pair.reference.change or "not stated", pair.drafted.change or "not stated")
        counts[key] = counts.get(key, 0) + 1
    return counts


def contradictions(drafted: Sequence[Sequence[Finding]], reference: Sequence[Sequence[Finding]]) -> Rate:
    """Share of the findings drafted as present that the reference denies in words, on no side states and never hedges.

    Stronger than a hallucination, which includes what the reference does not mention; absence that follows from a
    normal statement only ("implied") is no denial here. Raises: as `pair_facts`.
    """
    if len(drafted) != len(reference):
        raise ValueError(f"there are {len(drafted)} drafts and {len(reference)} references, expected as many")
    wrong = sum(len(contradicted(ours, theirs)) for ours, theirs in zip(drafted, reference, strict=True))
    said = sum(len({fact.name for fact in ours if fact.status == "present"}) for ours in drafted)
    return Rate(wrong / said if said else math.nan, wrong, said, "findings drafted as present")


def contradicted(drafted: Sequence[Finding], reference: Sequence[Finding]) -> set[str]:
    """Names that a draft calls present and its reference denies, as `contradictions` counts them."""
    denied = {fact.name for fact in reference if fact.status == "absent" and fact.by != "implied"}
    granted = {fact.name for fact in reference if fact.status != "absent"}
    return {fact.name for fact in drafted if fact.status == "present"} & (denied - granted)


def _rate(pairs: Sequence[Pair], what: str, among: Among, right: Callable[[str, str], bool], unit: str) -> Rate:
    if what not in ("change", "severity", "location"):
        raise ValueError(f'what is "{what}", expected change, severity or location')
    counted = hits = 0
    for pair in pairs:
        said, true = getattr(pair.drafted, what), getattr(pair.reference, what)
        if true is None or (said is None and among == "stated in both"):
            continue
        counted += 1
        hits += said is not None and right(said, true)
    return Rate(hits / counted if counted else math.nan, hits, counted, unit)
