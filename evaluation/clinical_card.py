"""Clinical numbers of drafts against references with patient-level intervals, ready for the score card.

Everything is a pooled ratio or an average of reports, so one set of resamples serves all of it and the numbers can be
read side by side.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.clinical import FindingTable, laterality_pairs, present, sides
from evaluation.fact_graph import fact_graph
from evaluation.fact_pairs import Pair, contradicted, pair_facts
from evaluation.finding_labels import NO_FINDING, LabelTable, Uncertain, label_counts
from evaluation.intervals import Interval, patient_bootstrap_many
from evaluation.prior_mentions import prior_mentions
from evaluation.radgraph import LEVELS, report_f1
from evaluation.scorecard import Metric

if TYPE_CHECKING:
    from reports.findings import Finding

Rows = NDArray[np.intp]


class Pooled(NamedTuple):
    """A ratio by report: what is summed above and below the line, (N,) each, and what one count below is."""

    above: NDArray[np.float64]
    below: NDArray[np.float64]
    unit: str
    by_report: bool = True
    """Whether n is the number of reports; else the number of what is below the line (pairs of findings)."""

    def over(self, rows: Rows) -> float:
        """The ratio over these reports; nan where there is nothing below the line."""
        below = self.below[rows].sum()
        return float(self.above[rows].sum() / below) if below else math.nan


def clinical_metrics(
    name: str,
    drafted: Sequence[Sequence[Finding]],
    reference: Sequence[Sequence[Finding]],
    patients: Sequence[Hashable],
    data: str,
    by: str,
    names: Sequence[str] | None = None,
    texts: Sequence[str] | None = None,
    has_prior: Sequence[bool] | None = None,
    resamples: int = 500,
) -> list[Metric]:
    """Finding F1, hallucinations, omissions, contradictions, laterality, sizes, changes, severities, graphs, priors.

    drafted, reference: the facts of N reports each; `by` says who read them. names: findings that count, else all that
    occur. texts: the drafts in words, for how often they speak of an earlier study; has_prior (N,): whether there is
    one. Uncertain findings count as absent. n counts reports, and what is counted for numbers about pairs of findings;
    these are nan where there is none, and have no interval where all are of one patient. Reports without a fact on
    either side are left out of the F1 of graphs, where RadGraph's own arithmetic counts them as 0.
    Raises: ValueError if lengths differ or there is no report.
    """
    if len(drafted) != len(reference) or len(patients) != len(reference):
        counts = f"{len(drafted)} drafts, {len(reference)} references and {len(patients)} patients"
        raise ValueError(f"there are {counts}, expected as many")
    if names is not None:
        kept = frozenset(names)
        drafted = [[fact for fact in facts if fact.name in kept] for facts in drafted]
        reference = [[fact for fact in facts if fact.name in kept] for facts in reference]
    table = FindingTable.of([present(facts) for facts in drafted], [present(facts) for facts in reference], names)
    ratios = _ratios(drafted, reference)
    if texts is not None:
        if {len(texts), len(texts if has_prior is None else has_prior)} != {len(reference)}:
            raise ValueError(f"texts and has_prior are not as many as the {len(reference)} references")
        ratios |= _priors(texts, has_prior)

    def statistic(rows: Rows) -> dict[str, float]:
        part = table.rows(rows)
        averages = {"micro": part.micro_f1(), "macro": part.macro_f1(), "example": part.example_f1()}
        return {f"finding_f1.{average}": value for average, value in averages.items()} | {
            key: ratio.over(rows) for key, ratio in ratios.items()
        }

    drawn = patient_bootstrap_many(statistic, patients, n=resamples)
    how = f"facts by {by}; uncertain counted as absent"
    return [
        Metric.of(f"{name}.{key}", *_rests_on(ratios.get(key), value, patients, how), data)
        for key, value in drawn.items()
    ]


def label_metrics(
    name: str,
    pred: LabelTable,
    ref: LabelTable,
    patients: Sequence[Hashable],
    data: str,
    by: str,
    resamples: int = 500,
) -> list[Metric]:
    """F1 of labels in each variant: uncertain as positive and as negative, with and without "No Finding"; 0/0 is 0.

    Raises: ValueError if lengths or labels differ or there is no report.
    """
    if len(patients) != len(ref.codes):
        raise ValueError(f"there are {len(patients)} patients and {len(ref.codes)} references, expected as many")
    ways: tuple[Uncertain, ...] = ("positive", "negative")
    counts = {
        f"uncertain_{uncertain}{'' if no_finding else '.without_no_finding'}": label_counts(
            pred, ref, by, uncertain, no_finding
        )
        for uncertain in ways
        for no_finding in ((True, False) if NO_FINDING in ref.names else (True,))
    }

    def statistic(rows: Rows) -> dict[str, float]:
        parts = {key: one.rows(rows) for key, one in counts.items()}
        return {
            f"{key}.{average}": value
            for key, part in parts.items()
            for average, value in (
                ("micro", part.f1("micro")),
                ("macro", part.f1("macro")),
                ("example", part.f1("example")),
            )
        }

    drawn = patient_bootstrap_many(statistic, patients, n=resamples)
    return [
        Metric.of(f"{name}.{key}", value, f"{counts[key.rsplit('.', 1)[0]].variant}; 0/0 is 0", data)
        for key, value in drawn.items()
    ]


def _rests_on(ratio: Pooled | None, value: Interval, patients: Sequence[Hashable], how: str) -> tuple[Interval, str]:
    """The interval with its n, and the variant; no bounds where one patient alone has what is counted."""
    if ratio is None:
        return value, how
    counted = int(ratio.below.sum())
    if len({patients[row] for row in np.flatnonzero(ratio.below).tolist()}) < 2:
        value = replace(value, low=math.nan, high=math.nan)
    if not ratio.by_report:
        value = replace(value, n=counted)
    return value, f"over {counted} {ratio.unit}; {how}"


def _ratios(drafted: Sequence[Sequence[Finding]], reference: Sequence[Sequence[Finding]]) -> dict[str, Pooled]:
    said, true = [present(facts) for facts in drafted], [present(facts) for facts in reference]
    wrong = np.array(laterality_pairs([sides(f) for f in drafted], [sides(f) for f in reference]), float).reshape(-1, 2)
    pairs = pair_facts(drafted, reference)
    mentioned = _counts(said)
    return {
        "hallucination_rate": Pooled(
            _counts([a - b for a, b in zip(said, true, strict=True)]), mentioned, "findings drafted as present"
        ),
        "omission_rate": Pooled(
            _counts([b - a for a, b in zip(said, true, strict=True)]), _counts(true), "findings in the references"
        ),
        "contradiction_rate": Pooled(
            _counts([contradicted(a, b) for a, b in zip(drafted, reference, strict=True)]),
            mentioned,
            "findings drafted as present",
            False,
        ),
        "laterality_error": Pooled(wrong[:, 0], wrong[:, 1], "findings with a side in both"),
        **_pair_ratios(pairs, len(reference)),
        **_graph_ratios(drafted, reference),
    }


def _graph_ratios(drafted: Sequence[Sequence[Finding]], reference: Sequence[Sequence[Finding]]) -> dict[str, Pooled]:
    scores = np.zeros((len(reference), len(LEVELS)))
    stated = np.zeros(len(reference))
    for row, (said, true) in enumerate(zip(drafted, reference, strict=True)):
        pair = fact_graph(said), fact_graph(true)  # not kept: graphs of many reports are large
        stated[row] = any(graph.entities for graph in pair)
        scores[row] = [report_f1(*pair, level) for level in LEVELS]
    return {
        f"graph_f1.{level}": Pooled(scores[:, at], stated, "reports with a fact", False)
        for at, level in enumerate(LEVELS)
    }


def _pair_ratios(pairs: Sequence[Pair], n: int) -> dict[str, Pooled]:
    sized = [
        (p.report, abs(p.drafted.size_mm - p.reference.size_mm))
        for p in pairs
        if p.drafted.size_mm and p.reference.size_mm
    ]
    found = {"size_error_mm": _pooled(sized, n, "findings with a size in both, mean absolute error in mm")}
    for what in ("change", "severity", "location"):
        told = [
            (pair.report, float(getattr(pair.drafted, what) == getattr(pair.reference, what)))
            for pair in pairs
            if getattr(pair.drafted, what) is not None and getattr(pair.reference, what) is not None
        ]
        found[f"{what}_accuracy"] = _pooled(told, n, f"findings with a {what} in both")
    return found


def _pooled(values: Sequence[tuple[int, float]], n: int, unit: str) -> Pooled:
    reports = np.array([report for report, _ in values], np.intp)
    above = np.bincount(reports, weights=[value for _, value in values] if values else None, minlength=n)
    return Pooled(np.asarray(above, float), np.asarray(np.bincount(reports, minlength=n), float), unit, False)


def _priors(texts: Sequence[str], has_prior: Sequence[bool] | None) -> Mapping[str, Pooled]:
    mentioned = np.array([found > 0 for found in prior_mentions(texts)], float)
    rates = {"prior_mention_rate": Pooled(mentioned, np.ones(len(texts)), "reports")}
    if has_prior is not None:
        without = np.array([not known for known in has_prior], float)
        unit = "reports of studies without an earlier one"
        rates["invented_prior_rate"] = Pooled(mentioned * without, without, unit, False)
    return rates


def _counts(sets: Sequence[frozenset[str] | set[str]]) -> NDArray[np.float64]:
    return np.array([len(found) for found in sets], float)
