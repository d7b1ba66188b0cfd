"""Are the findings of a draft the findings of the reference? Errors that matter to a patient, each with its unit.

Everything here compares findings, not words. Where texts are compared, the labeller is an argument, so the number says
which labeller it rests on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from reports.findings import Finding

Sides = Mapping[str, Collection[str]]
"""Finding name -> sides it is on, out of "left" and "right" ("bilateral" counts as both); no sides: not said."""


@dataclass(frozen=True)
class FindingTable:
    """Which findings are present, drafted and in the reference: two tables (N reports, K findings) of bool."""

    names: tuple[str, ...]
    drafted: NDArray[np.bool_]
    reference: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        drafted: Sequence[Collection[str]],
        reference: Sequence[Collection[str]],
        names: Sequence[str] | None = None,
    ) -> FindingTable:
        """From sets of names of present findings, one set for each report. Names outside `names` are left out.

        Raises: ValueError if there are not as many drafts as references.
        """
        if len(drafted) != len(reference):
            raise ValueError(f"there are {len(drafted)} drafts and {len(reference)} references, expected as many")
        kept = tuple(names) if names is not None else tuple(sorted(set().union(*drafted, *reference)))
        tables = [np.array([[name in row for name in kept] for row in rows], bool) for rows in (drafted, reference)]
        shape = (len(drafted), len(kept))
        return cls(kept, tables[0].reshape(shape), tables[1].reshape(shape))

    def rows(self, rows: NDArray[np.intp]) -> FindingTable:
        """The table of these reports, repeated as often as they are named: one bootstrap resample."""
        return FindingTable(self.names, self.drafted[rows], self.reference[rows])

    def micro_f1(self) -> float:
        """2 TP / (2 TP + FP + FN) with counts pooled over reports and findings; nan if nothing is present anywhere."""
        return float(_f1(self.drafted, self.reference))

    def macro_f1(self) -> float:
        """Mean F1 over the findings that occur in a reference; nan if none does."""
        kept = self.reference.any(axis=0)
        scores = _f1(self.drafted[:, kept], self.reference[:, kept], axis=0)
        return float(np.mean(scores)) if kept.any() else math.nan

    def example_f1(self) -> float:
        """Mean over reports of each report's F1. A report with no finding on either side is right: it counts as 1."""
        scores = _f1(self.drafted, self.reference, axis=1)
        return float(np.where(np.isnan(scores), 1.0, scores).mean()) if len(scores) else math.nan

    def hallucination_rate(self) -> float:
        """Drafted present findings that the reference does not have / drafted present findings; nan if none drafted."""
        return _ratio((self.drafted & ~self.reference).sum(), self.drafted.sum())

    def omission_rate(self) -> float:
        """Reference findings that the draft does not have / reference findings; nan if the references have none."""
        return _ratio((self.reference & ~self.drafted).sum(), self.reference.sum())


@dataclass(frozen=True)
class FindingF1:
    """F1 of present findings. `not_in_reference` names findings that no reference has: they count in micro and example
    (as false positives) and not in macro."""

    micro: float
    macro: float
    example: float
    per_finding: dict[str, float]
    not_in_reference: tuple[str, ...]
    n: int
    variant: str = "present findings; macro over findings that a reference has; a report without any on both sides is 1"


def finding_f1(
    pred: Sequence[Collection[str]], ref: Sequence[Collection[str]], names: Sequence[str] | None = None
) -> FindingF1:
    """F1 of the sets of present findings, micro, macro and example-based, as FindingTable defines them.

    pred, ref: N sets of names, one for each report. The choice of what "uncertain" counts as is in the sets: name it.
    Source: the three averages of Nicolson et al. 2023 (CXRMate), arXiv:2307.09758; their macro takes all 14 labels.
    Raises: ValueError if there are not as many predictions as references.
    """
    table = FindingTable.of(pred, ref, names)
    per_finding = _f1(table.drafted, table.reference, axis=0)
    return FindingF1(
        table.micro_f1(),
        table.macro_f1(),
        table.example_f1(),
        dict(zip(table.names, per_finding.tolist(), strict=True)),
        tuple(name for k, name in enumerate(table.names) if not table.reference[:, k].any()),
        len(pred),
    )


def finding_f1_from_texts(
    pred: Sequence[str],
    ref: Sequence[str],
    labeller: Callable[[str], Collection[str]],
    names: Sequence[str] | None = None,
) -> FindingF1:
    """finding_f1 after a labeller has turned each text into its set of present findings. Raises: as finding_f1."""
    return finding_f1([labeller(text) for text in pred], [labeller(text) for text in ref], names)


@dataclass(frozen=True)
class Rate:
    """A pooled ratio with its counts; `unit` says what one count is."""

    value: float
    count: int
    of: int
    unit: str


def hallucination_rate(pred: Sequence[Collection[str]], ref: Sequence[Collection[str]]) -> Rate:
    """Share of the findings a draft calls present that the reference does not have.

    pred, ref: N sets of names. Pooled over reports, so a long draft weighs more; nan if no finding was drafted.
    Raises: ValueError if there are not as many predictions as references.
    """
    table = FindingTable.of(pred, ref)
    wrong = int((table.drafted & ~table.reference).sum())
    return Rate(table.hallucination_rate(), wrong, int(table.drafted.sum()), "findings drafted as present")


def omission_rate(pred: Sequence[Collection[str]], ref: Sequence[Collection[str]]) -> Rate:
    """Share of the findings present in the reference that the draft does not call present.

    pred, ref: N sets of names. Pooled over reports; nan if the references hold no finding.
    Raises: as hallucination_rate.
    """
    table = FindingTable.of(pred, ref)
    missed = int((table.reference & ~table.drafted).sum())
    return Rate(table.omission_rate(), missed, int(table.reference.sum()), "findings present in the reference")


def laterality_error(pred: Sequence[Sides], ref: Sequence[Sides], variant: Literal["any", "swap"] = "any") -> Rate:
    """Share of findings that draft and reference both have, both with a side, where the sides differ.

    "any": the sides are not the same, so "bilateral" for a left finding is an error. "swap": no side in common, the
    error that can harm a patient most. A finding without a side on either hand is not counted, nor is a missed one.
    Raises: ValueError if lengths differ, or a side is none of left, right, bilateral.
    """
    pairs = laterality_pairs(pred, ref, variant)
    wrong = int(sum(count for count, _ in pairs))
    total = int(sum(of for _, of in pairs))
    return Rate(_ratio(wrong, total), wrong, total, "findings with a side in both")


def laterality_pairs(
    pred: Sequence[Sides], ref: Sequence[Sides], variant: Literal["any", "swap"] = "any"
) -> list[tuple[int, int]]:
    """For each report: findings on a wrong side, findings compared. The sums over a resample give its rate."""
    if len(pred) != len(ref):
        raise ValueError(f"there are {len(pred)} drafts and {len(ref)} references, expected as many")
    pairs = []
    for drafted, reference in zip(pred, ref, strict=True):
        wrong = compared = 0
        for name in drafted.keys() & reference.keys():
            said, true = side_set(drafted[name]), side_set(reference[name])
            if said and true:
                compared += 1
                wrong += (said != true) if variant == "any" else said.isdisjoint(true)
        pairs.append((wrong, compared))
    return pairs


def present(findings: Iterable[Finding]) -> set[str]:
    """Names of the findings with status "present"; uncertain ones are left out."""
    return {finding.name for finding in findings if finding.status == "present"}


def sides(findings: Iterable[Finding]) -> dict[str, set[str]]:
    """Sides of each present finding; a finding mentioned on the left and on the right is on both."""
    found: dict[str, set[str]] = {}
    for finding in findings:
        if finding.status == "present":
            found.setdefault(finding.name, set()).update(side_set([finding.side] if finding.side else []))
    return found


def side_set(said: Collection[str]) -> set[str]:
    """The sides as left and right: "bilateral" is both. Raises: ValueError for any other word."""
    # A bare string is a collection of its letters: take it as the one side it names.
    words = {said} if isinstance(said, str) else set(said)
    strange = words - {"left", "right", "bilateral"}
    if strange:
        raise ValueError(f"side {sorted(strange)} is not known, expected left, right or bilateral")
    return (words - {"bilateral"}) | ({"left", "right"} if "bilateral" in words else set())


def _f1(drafted: NDArray[np.bool_], reference: NDArray[np.bool_], axis: int | None = None) -> NDArray[np.float64]:
    both = (drafted & reference).sum(axis=axis)
    total = drafted.sum(axis=axis) + reference.sum(axis=axis)  # 2 TP + FP + FN
    return np.where(total > 0, 2 * both / np.maximum(total, 1), math.nan)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
