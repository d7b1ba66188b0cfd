"""Does a 95 % interval hold the truth 95 times in 100? Simulated hospitals whose truth is known, patients as clusters.

python benchmarks/coverage.py [--out docs/coverage.md] [--repeats 600] [--patients 30 100 300]

Each simulated test set has patients with 1 to 10 studies. A patient's finding is chronic (the label is the patient's),
and so is a part of what a model sees: scores are `distance` x label + patient part + study part, with variances
`shared` and 1 - `shared`. The truth of each statistic follows from that, by formula or, for average precision, from a
million studies of as many patients. Rows as patients is what resampling studies does: the naive interval.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.classification import average_precision
from evaluation.delong import delong_interval, delong_test
from evaluation.intervals import Interval, Method, clustered_mean, interval
from evaluation.jackknife import Scale, jackknife_interval
from evaluation.weighted import (
    Weighted,
    patient_draws,
    weighted_auroc,
    weighted_average_precision,
    weighted_difference,
    weighted_mean,
    weighted_ratio,
    without_each_patient,
)

Floats = NDArray[np.float64]
FIRST, SECOND, SHARED, PREVALENCE, CUT, RIGHT, ALIKE = 1.5, 1.1, 0.7, 0.3, 0.8, 0.8, 0.4
"""Distances of both models, the patients' share of the variance, prevalence, threshold; share of right answers and
ICC."""
RESAMPLES = 500
BOOTSTRAPS: tuple[tuple[Method, str], ...] = (("bca", "BCa"), ("expanded", "expanded"))
STATISTICS = ("share of right answers", "AUROC", "average precision", "F1 at a threshold", "difference of two AUROCs")


@dataclass(frozen=True)
class TestSet:
    """Rows (R,): patient, label, the scores of two models, and whether an answer was right."""

    patient: NDArray[np.intp]
    label: Floats
    first: Floats
    second: Floats
    right: Floats


def draw(patients: int, rng: np.random.Generator, studies: int | None = None) -> TestSet:
    """A test set; `studies` of each patient, or 1 to 10 by a geometric law (mean about 3)."""
    size = np.full(patients, studies) if studies else np.minimum(rng.geometric(0.3, patients), 10)
    patient = np.repeat(np.arange(patients), size)
    label = (rng.random(patients) < PREVALENCE).astype(float)[patient]
    own = rng.normal(size=(2, patients))
    own[1] = 0.6 * own[0] + 0.8 * own[1]  # both models find the same patients hard

    def score(distance: float, part: Floats) -> Floats:
        noise = rng.normal(size=patient.size)
        return distance * label + math.sqrt(SHARED) * part[patient] + math.sqrt(1 - SHARED) * noise

    total = 1 / ALIKE - 1  # of a beta law with that correlation between answers of one patient
    chance = rng.beta(RIGHT * total, (1 - RIGHT) * total, patients)[patient]
    right = (rng.random(patient.size) < chance).astype(float)
    return TestSet(patient, label, score(FIRST, own[0]), score(SECOND, own[1]), right)


def truths() -> dict[str, float]:
    """The true value of each statistic."""
    hit, false = PREVALENCE * norm.sf(CUT - FIRST), (1 - PREVALENCE) * norm.sf(CUT)
    area = {distance: float(norm.cdf(distance / math.sqrt(2))) for distance in (FIRST, SECOND)}
    many = draw(1_000_000, np.random.default_rng(0), studies=1)
    values = (
        RIGHT,
        area[FIRST],
        average_precision(many.first, many.label),
        float(2 * hit / (hit + false + PREVALENCE)),
        area[FIRST] - area[SECOND],
    )
    return dict(zip(STATISTICS, values, strict=True))


def statistics(data: TestSet) -> dict[str, Weighted]:
    """The five statistics of a test set."""
    called = (data.first >= CUT).astype(float)
    first, second = weighted_auroc(data.first, data.label), weighted_auroc(data.second, data.label)
    values = (
        weighted_mean(data.right),
        first,
        weighted_average_precision(data.first, data.label),
        weighted_ratio(2 * called * data.label, called + data.label),
        weighted_difference(first, second),
    )
    return dict(zip(STATISTICS, values, strict=True))


def intervals_of(data: TestSet, seed: int) -> dict[tuple[str, str], Interval]:
    """Intervals by (statistic, method) of one test set."""
    found: dict[tuple[str, str], Interval] = {}
    rows = np.arange(data.patient.size)
    every = statistics(data)
    whole = {name: float(one(np.ones((1, rows.size)))[0]) for name, one in every.items()}
    for number, kind in ((rows, "studies"), (data.patient, "patients")):
        blocks = [{name: one(block) for name, one in every.items()} for block in patient_draws(number, RESAMPLES, seed)]
        without = list(without_each_patient(number)) if kind == "patients" else []
        for name, one in every.items():
            drawn = np.concatenate([block[name] for block in blocks])
            people = int(number.max()) + 1
            found[name, f"{kind}, percentile"] = interval(whole[name], drawn, np.empty(0), 0.95, rows.size, people)
            if without:
                left = np.concatenate([one(block) for block in without])
                for method, shown in BOOTSTRAPS:
                    made = interval(whole[name], drawn, left, 0.95, rows.size, people, method)
                    found[name, f"{kind}, {shown}"] = made
                scale: Scale = "plain" if name == STATISTICS[4] else "logit"
                found[name, f"{kind}, jackknife"] = jackknife_interval(whole[name], left, 0.95, rows.size, scale)
    key = data.patient.tolist()
    found[STATISTICS[0], "studies, formula"] = clustered_mean(data.right, rows.tolist())
    found[STATISTICS[0], "patients, formula"] = clustered_mean(data.right, key)
    for kind, groups in (("studies", None), ("patients", key)):
        found[STATISTICS[1], f"{kind}, formula"] = delong_interval(data.first, data.label, groups)
        found[STATISTICS[4], f"{kind}, formula"] = delong_test(data.first, data.second, data.label, groups).difference
    return found


@dataclass(frozen=True)
class Cell:
    """How many of n intervals held the truth, their mean width, and how many could not be made."""

    held: int
    width: float
    n: int
    undefined: int

    @property
    def coverage(self) -> float:
        """Share that held the truth."""
        return self.held / self.n if self.n else math.nan


def simulate(patients: int, repeats: int, seed: int, truth: Mapping[str, float]) -> dict[tuple[str, str], Cell]:
    """Coverage by (statistic, method) of test sets with that many patients."""
    made: dict[tuple[str, str], list[Interval]] = {}
    for number in range(repeats):
        rng = np.random.default_rng([seed, patients, number])
        for key, one in intervals_of(draw(patients, rng), number).items():
            made.setdefault(key, []).append(one)
    cells = {}
    for key, found in made.items():
        known = [one for one in found if math.isfinite(one.low)]
        held = sum(one.low <= truth[key[0]] <= one.high for one in known)
        width = float(np.mean([one.high - one.low for one in known])) if known else math.nan
        cells[key] = Cell(held, width, len(known), len(found) - len(known))
    return cells


def _pooled(parts: Sequence[dict[tuple[str, str], Cell]]) -> dict[tuple[str, str], Cell]:
    pooled = {}
    for key in parts[0]:
        some = [part[key] for part in parts]
        n = sum(one.n for one in some)
        width = sum(one.width * one.n for one in some if one.n) / n if n else math.nan
        pooled[key] = Cell(sum(one.held for one in some), width, n, sum(one.undefined for one in some))
    return pooled


METHODS = (
    "studies, percentile",
    "studies, formula",
    "patients, percentile",
    "patients, BCa",
    "patients, expanded",
    "patients, jackknife",
    "patients, formula",
)


def table(results: Mapping[int, Mapping[tuple[str, str], Cell]], truth: Mapping[str, float]) -> str:
    """Markdown: coverage in % of each method with its 95 % simulation interval, and the mean width."""
    repeats = max(cell.n + cell.undefined for cell in next(iter(results.values())).values())
    lines = [
        "# Coverage of the intervals",
        "",
        "Written by `python benchmarks/coverage.py --out docs/coverage.md`; do not edit. Simulated test sets whose",
        "truth is known: patients with 1 to 10 studies (mean about 3), a chronic finding of prevalence",
        f"{PREVALENCE:g}, and {SHARED:.0%} of a score's variance shared by the studies of a patient (answers:",
        f"correlation {ALIKE:g}).",
        "",
        f"Each cell: how many of {repeats} nominal 95 % intervals hold the truth, the 95 % range of that share in",
        f"brackets, and the mean width. {RESAMPLES} resamples for each bootstrap.",
        "",
        "- studies: rows resampled or counted as if each were a patient of its own, which is the naive way;",
        "- percentile, BCa, expanded: the methods of `evaluation.intervals` and `evaluation.weighted`;",
        "- jackknife: `evaluation.jackknife`, on the logit scale but for the difference;",
        "- formula: the cluster-robust t interval for a share; DeLong's for AUROCs, over patients Obuchowski's form.",
        "",
        "## All cells",
        "",
        "| method | lowest coverage | highest |",
        "| --- | --- | --- |",
        *_ranges(results),
    ]
    for patients, cells in results.items():
        lines += ["", f"## {patients} patients", "", "| statistic | truth | " + " | ".join(METHODS) + " |"]
        lines.append("| --- " * (2 + len(METHODS)) + "|")
        for name in STATISTICS:
            shown = [_shown(cells.get((name, method))) for method in METHODS]
            lines.append(f"| {name} | {truth[name]:.3f} | " + " | ".join(shown) + " |")
    return "\n".join([*lines, ""])


def _ranges(results: Mapping[int, Mapping[tuple[str, str], Cell]]) -> list[str]:
    lines = []
    for method in METHODS:
        shares = [c.coverage for cells in results.values() for key, c in cells.items() if key[1] == method and c.n]
        if shares:
            lines.append(f"| {method} | {min(shares):.1%} | {max(shares):.1%} |")
    return lines


def _shown(cell: Cell | None) -> str:
    if cell is None or not cell.n:
        return "–"
    low, high = binomtest(cell.held, cell.n).proportion_ci()
    left = f", {cell.undefined} undefined" if cell.undefined else ""
    return f"{cell.coverage:.1%} ({low:.1%} to {high:.1%}); {cell.width:.3f}{left}"


def failures(results: Mapping[int, Mapping[tuple[str, str], Cell]]) -> list[str]:
    """Cells against what is claimed: the jackknife over patients holds 93 to 97 %, and the naive way does not."""
    return [
        f"{name}, {method}, {patients} patients: {cell.coverage:.1%}"
        for patients, cells in results.items()
        for (name, method), cell in cells.items()
        if method == "patients, jackknife" or method.startswith("studies")
        if (method == "patients, jackknife") != (0.93 <= cell.coverage <= 0.97)
    ]


def main() -> int:
    """Print or write the table; 1 if the jackknife over patients misses 93 to 97 %, or the naive way does not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=600)
    parser.add_argument("--patients", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    call = parser.parse_args()
    truth, results = truths(), {}
    share = [len(part) for part in np.array_split(np.arange(call.repeats), call.workers)]
    with ProcessPoolExecutor(call.workers) as pool:
        for patients in call.patients:
            seeds = [call.seed + 1000 * worker for worker in range(call.workers)]
            parts = pool.map(simulate, [patients] * call.workers, share, seeds, [truth] * call.workers)
            results[patients] = _pooled(list(parts))
    text = table(results, truth)
    if call.out is None:
        print(text)
    else:
        call.out.write_text(text, encoding="utf-8")
    wrong = failures(results)
    print(f"against expectation: {wrong}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
