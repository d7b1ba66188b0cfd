"""Classification, calibration, tests and survival beside scikit-learn, SciPy, statsmodels, lifelines and their kin.

    python benchmarks/equality.py --statistics

The scores are simulated: ties on purpose, patients with several studies, censored times with ties. Where no package has
a method (DeLong, BCa over patients), the original is a slow form of our own, written as the definition reads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation import (
    classification,
    comparison,
    delong,
    equivalence,
    intervals,
    mcnemar,
    multilabel,
    multiplicity,
    reliability,
    survival,
    thresholds,
    weighted,
)
from evaluation import power as sizes

Floats = NDArray[np.float64]
TOLERANCE = 1e-6
N = 2000
DISTRIBUTIONS = {
    "lifelines": "lifelines",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "sksurv": "scikit-survival",
    "statsmodels": "statsmodels",
    "torchmetrics": "torchmetrics",
}


class Row(NamedTuple):
    """One comparison; `name` is "metric | original"; None where the original is not installed."""

    name: str
    n: int
    ours: float
    original: float | None
    difference: float | None


def main() -> Iterator[Row]:
    """Every comparison; the largest difference of arrays counts."""
    rng = np.random.default_rng(20)
    labels = (rng.random(N) < 0.25).astype(float)
    scores = np.round(rng.normal(size=N) + labels, 1)  # about 80 distinct values: nearly every score is tied
    yield from _ranking(scores, labels)
    yield from _reliability(rng)
    yield from _multilabel(rng)
    yield from _resampling(rng)
    yield from _tests(rng, scores, labels)
    yield from _survival(rng)


def _row(name: str, n: int, ours: Any, package: str, original: Callable[[], Any]) -> Row:
    """One comparison; of arrays, the entry where they differ most. `name` ends in the original, in parentheses."""
    metric, _, whose = name.removesuffix(")").rpartition(" (")
    mine = np.atleast_1d(np.asarray(ours, dtype=np.float64))
    if find_spec(package) is None:
        return Row(f"{metric} | {whose}", n, float(mine[0]), None, None)
    if package in DISTRIBUTIONS:
        whose = f"{whose} {version(DISTRIBUTIONS[package])}"
    theirs = np.atleast_1d(np.asarray(original(), dtype=np.float64))
    if theirs.shape != mine.shape:
        raise ValueError(f"{metric}: ours has shape {mine.shape}, the original {theirs.shape}")
    worst = int(np.argmax(np.abs(mine - theirs)))
    return Row(f"{metric} | {whose}", n, float(mine[worst]), float(theirs[worst]), float(np.abs(mine - theirs).max()))


def _ranking(scores: Floats, labels: Floats) -> Iterator[Row]:
    from sklearn import metrics

    def sk(name: str, ours: Any, original: Callable[[], Any]) -> Row:
        return _row(f"{name} (scikit-learn)", N, ours, "sklearn", original)

    yield sk("AUROC", classification.auroc(scores, labels), lambda: metrics.roc_auc_score(labels, scores))
    for rate in (0.1, 0.33):
        ours = classification.partial_auroc(scores, labels, rate)
        yield sk(
            f"partial AUROC, FPR <= {rate}, McClish", ours, _later(metrics.roc_auc_score, labels, scores, max_fpr=rate)
        )
    ours = classification.average_precision(scores, labels)
    yield sk("average precision, steps", ours, lambda: metrics.average_precision_score(labels, scores))
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    ours = classification.trapezoid_average_precision(scores, labels)
    yield sk("average precision, trapezoids", ours, lambda: metrics.auc(recall, precision))
    chosen = thresholds.choose_threshold(scores, labels, "f1")
    made = thresholds.decide(scores, labels, chosen)
    called = (scores >= chosen.value).astype(float)
    yield sk("F1 at a threshold", made.f1, lambda: metrics.f1_score(labels, called))
    yield sk("precision", made.precision, lambda: metrics.precision_score(labels, called))
    yield sk("sensitivity", made.sensitivity, lambda: metrics.recall_score(labels, called))
    yield sk("balanced accuracy", made.balanced_accuracy, lambda: metrics.balanced_accuracy_score(labels, called))
    yield sk("Matthews correlation", made.matthews, lambda: metrics.matthews_corrcoef(labels, called))
    for target in (0.8, 0.95):
        ours = thresholds.sensitivity_on_own_curve(scores, labels, target)
        yield _row(
            f"sensitivity at specificity {target}, own curve (torchmetrics)", N, ours, "torchmetrics",
            _later(_torchmetrics_sensitivity, scores, labels, target),
        )  # fmt: skip


def _torchmetrics_sensitivity(scores: Floats, labels: Floats, target: float) -> float:
    import torch
    from torchmetrics.functional.classification import binary_sensitivity_at_specificity

    # Scores outside [0, 1] would be put through a sigmoid in single precision, which ties what is not tied.
    ranks = (np.argsort(np.argsort(np.unique(scores)))[np.unique(scores, return_inverse=True)[1]] + 1) / 1024
    value, _ = binary_sensitivity_at_specificity(torch.from_numpy(ranks), torch.from_numpy(labels).long(), target)
    return float(value)


def _reliability(rng: np.random.Generator) -> Iterator[Row]:
    from sklearn import calibration, metrics

    said = rng.beta(1, 3, N)
    labels = (rng.random(N) < said**1.3).astype(float)
    yield _row("Brier score (scikit-learn)", N, reliability.brier(said, labels), "sklearn",
               lambda: metrics.brier_score_loss(labels, said))  # fmt: skip
    ours = reliability.brier_skill(said, labels)
    yield _row(
        "Brier skill (scikit-learn d2_brier_score)", N, ours, "sklearn", lambda: metrics.d2_brier_score(labels, said)
    )
    kinds: tuple[tuple[reliability.Binning, str], ...] = (("width", "uniform"), ("quantile", "quantile"))
    for binning, strategy in kinds:
        table = reliability.reliability_bins(said, labels, 15, binning)
        found, mean = calibration.calibration_curve(labels, said, n_bins=15, strategy=strategy)
        yield _row(f"reliability table, {binning}, M=15: found (scikit-learn)", N, [b.found for b in table], "sklearn",
                   _later(np.asarray, found))  # fmt: skip
        yield _row(f"reliability table, {binning}, M=15: said (scikit-learn)", N, [b.said for b in table], "sklearn",
                   _later(np.asarray, mean))  # fmt: skip
    for norm_name, ours in (
        ("l1", reliability.ece(said, labels)),
        ("max", reliability.max_calibration_error(said, labels)),
        ("l2", reliability.root_mean_square_calibration_error(said, labels)),
    ):
        yield _row(f"calibration error {norm_name}, equal width, M=15 (torchmetrics)", N, ours, "torchmetrics",
                   _later(_torchmetrics_calibration, said, labels, norm_name))  # fmt: skip
    line = reliability.calibration_line(said, labels)
    yield _row("calibration intercept and slope (statsmodels Logit)", N, [line.intercept, line.slope], "statsmodels",
               lambda: _logit(said, labels))  # fmt: skip


def _torchmetrics_calibration(said: Floats, labels: Floats, norm_name: Any) -> float:
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    return float(
        binary_calibration_error(torch.from_numpy(said), torch.from_numpy(labels).long(), n_bins=15, norm=norm_name)
    )


def _logit(said: Floats, labels: Floats) -> Floats:
    import statsmodels.api as sm

    x = np.log(np.clip(said, 1e-6, 1 - 1e-6)) - np.log1p(-np.clip(said, 1e-6, 1 - 1e-6))
    return np.asarray(sm.Logit(labels, sm.add_constant(x)).fit(disp=0, tol=1e-12).params)


def _multilabel(rng: np.random.Generator) -> Iterator[Row]:
    from sklearn import metrics

    labels = (rng.random((N, 8)) < np.linspace(0.02, 0.4, 8)).astype(float)
    calls = np.where(rng.random((N, 8)) < 0.8, labels, 1 - labels)
    found = multilabel.multilabel_scores(calls, labels, [str(k) for k in range(8)], zero_division=0.0)
    averages = (("micro", "micro"), ("macro", "macro"), ("weighted", "weighted"), ("example", "samples"))
    for name, average in averages:
        original = _later(metrics.f1_score, labels, calls, average=average, zero_division=0.0)
        yield _row(f"multi-label F1, {name} (scikit-learn)", N, getattr(found, name), "sklearn", original)
    yield _row("multi-label Hamming loss (scikit-learn)", N, found.hamming, "sklearn",
               lambda: metrics.hamming_loss(labels, calls))  # fmt: skip
    yield _row("multi-label exact match (scikit-learn)", N, found.subset, "sklearn",
               lambda: metrics.accuracy_score(labels, calls))  # fmt: skip


def _resampling(rng: np.random.Generator) -> Iterator[Row]:
    from scipy import stats

    values = rng.gamma(2, 1, 300)
    alone = list(range(300))
    names: tuple[tuple[intervals.Method, str], ...] = (("percentile", "percentile"), ("bca", "BCa"))
    for method, theirs in names:
        found = intervals.patient_bootstrap(values, alone, n=2000, seed=7, method=method)

        def original(theirs: str = theirs) -> list[float]:
            drawn = stats.bootstrap(
                (values,), np.mean, n_resamples=2000, method=theirs, rng=np.random.default_rng(7), vectorized=True
            )
            return [drawn.confidence_interval.low, drawn.confidence_interval.high]

        yield _row(
            f"bootstrap of a mean, {theirs}, one row a patient (SciPy)", 300, [found.low, found.high], "scipy", original
        )
    patients = rng.integers(0, 60, 300)
    clustered = intervals.clustered_mean(values, patients.tolist(), degrees="patients")
    yield _row("cluster-robust t interval of a mean (statsmodels OLS)", 300, [clustered.low, clustered.high],
               "statsmodels", lambda: _ols(values, patients))  # fmt: skip
    labels = (rng.random(300) < 0.3).astype(float)
    scores = np.round(values + labels, 1)
    key = patients.tolist()
    slow = intervals.patient_bootstrap(lambda r: classification.auroc(scores[r], labels[r]), key, n=300, method="bca")
    fast = weighted.weighted_bootstrap({"a": weighted.weighted_auroc(scores, labels)}, key, n=300, method="bca")["a"]
    name = "AUROC, BCa over patients: weights against resampled rows (our slow form)"
    yield _row(name, 300, [fast.low, fast.high], "numpy", lambda: [slow.low, slow.high])


def _ols(values: Floats, patients: NDArray[np.intp]) -> Floats:
    import statsmodels.api as sm

    groups = np.unique(patients, return_inverse=True)[1]
    fit = sm.OLS(values, np.ones(values.size)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    return np.asarray(fit.conf_int()[0])


def _tests(rng: np.random.Generator, scores: Floats, labels: Floats) -> Iterator[Row]:
    first = (rng.random(400) < 0.8).astype(float)
    second = np.where(rng.random(400) < 0.85, first, 1 - first)
    table = [[np.sum((first == a) & (second == b)) for b in (1, 0)] for a in (1, 0)]
    forms: tuple[tuple[mcnemar.Form, dict[str, bool]], ...] = (
        ("exact", {"exact": True}),
        ("chi2", {"exact": False, "correction": False}),
        ("chi2 corrected", {"exact": False, "correction": True}),
    )
    for form, options in forms:
        ours = mcnemar.mcnemar(first, second, form).p
        yield _row(f"McNemar p, {form} (statsmodels)", 400, ours, "statsmodels", _later(_mcnemar, table, **options))
    other = np.round(scores + rng.normal(size=N), 1)
    fast, slow = delong.delong_test(scores, other, labels), _slow_delong(scores, other, labels)
    yield _row("DeLong error of a difference: midranks against the definition (our slow form)", N, fast.error, "numpy",
               lambda: slow)  # fmt: skip
    p = rng.beta(0.5, 5, 40)
    for name, adjust, method in (
        ("Bonferroni", multiplicity.bonferroni, "bonferroni"),
        ("Holm", multiplicity.holm, "holm"),
        ("Hochberg", multiplicity.hochberg, "simes-hochberg"),
        ("Benjamini-Hochberg", multiplicity.benjamini_hochberg, "fdr_bh"),
        ("Benjamini-Yekutieli", multiplicity.benjamini_yekutieli, "fdr_by"),
    ):
        yield _row(f"adjusted p, {name} (statsmodels)", 40, adjust(p), "statsmodels", _later(_multipletests, p, method))
    new, old = rng.normal(0.1, 1, 80), rng.normal(0, 1, 80)
    tost = equivalence.equivalence_of_means(new, old, list(range(80)), 0.5)
    yield _row("equivalence of paired means, TOST p (statsmodels)", 80, tost.p, "statsmodels", lambda: _tost(new, old))
    flips = comparison.sign_flip_test(new[:12], old[:12], list(range(12)))
    yield _row("sign flips over patients, exact p (SciPy)", 12, flips.p, "scipy", lambda: _flips(new[:12], old[:12]))
    ours = sizes.normal_power(0.3, 0.1)
    yield _row("power of a z-test (statsmodels)", 100, ours, "statsmodels", lambda: _power(0.3))
    # statsmodels' solver stops 1e-6 short of the power that it is asked for, so its power at our answer is compared
    smallest = sizes.minimal_detectable_difference(0.1)
    yield _row(
        "power at our minimal detectable difference (statsmodels)", 100, 0.8, "statsmodels", lambda: _power(smallest)
    )


def _mcnemar(table: list[list[int]], **options: bool) -> float:
    from statsmodels.stats.contingency_tables import mcnemar as theirs

    return float(theirs(table, **options).pvalue)


def _multipletests(p: Floats, method: str) -> Floats:
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p, method=method)[1])


def _tost(new: Floats, old: Floats) -> float:
    from statsmodels.stats.weightstats import ttost_paired

    return float(ttost_paired(new, old, -0.5, 0.5)[0])


def _flips(new: Floats, old: Floats) -> float:
    from scipy import stats

    return float(
        stats.permutation_test((new, old), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples").pvalue
    )


def _power(difference: float) -> float:
    from statsmodels.stats.power import NormalIndPower

    return float(NormalIndPower().power(difference, 100, 0.05, ratio=0))


def _slow_delong(first: Floats, second: Floats, labels: Floats) -> float:
    """DeLong's variance as it is written: every positive against every negative."""
    parts = []
    for score in (first, second):
        pairs = np.sign(score[labels == 1][:, None] - score[labels == 0][None]) / 2 + 0.5
        parts.append((pairs.mean(1), pairs.mean(0)))
    positive, negative = np.cov(parts[0][0], parts[1][0]), np.cov(parts[0][1], parts[1][1])
    covariance = positive / parts[0][0].size + negative / parts[0][1].size
    return float(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))


def _survival(rng: np.random.Generator) -> Iterator[Row]:
    n = 600
    risk = np.round(rng.normal(size=n), 1)
    event_time, censored = rng.exponential(np.exp(-0.7 * risk)), rng.exponential(2, n)
    times = np.ceil(np.minimum(event_time, censored) * 20) / 20 + 0.05  # ties of times, and of events with censorings
    events = (event_time <= censored).astype(float)
    ours: Any = survival.harrell_concordance(times, events, risk).value
    yield _row(
        "C-index, Harrell, exact ties (lifelines)", n, ours, "lifelines", lambda: _lifelines(times, events, risk)
    )
    ours = survival.harrell_concordance(times, events, risk, "within 1e-8")
    mine = [ours.value, ours.right, ours.comparable - ours.right - ours.tied, ours.tied]
    yield _row("C-index and pair counts, Harrell, ties within 1e-8 (scikit-survival)", n, mine, "sksurv",
               lambda: _sksurv("harrell", times, events, risk))  # fmt: skip
    censoring = survival.Censoring.fit(times, events)
    horizon = float(np.quantile(times, 0.8))
    ours = survival.uno_concordance(times, events, risk, censoring, horizon).value
    yield _row("C-index, Uno, G at the event (scikit-survival)", n, ours, "sksurv",
               lambda: _sksurv("uno", times, events, risk, horizon))  # fmt: skip
    at = np.quantile(times, [0.1, 0.25, 0.5, 0.75])
    said = np.exp(-np.exp(0.7 * risk)[:, None] * at)
    ours = survival.survival_brier(times, events, said, at, censoring)
    yield _row("survival Brier scores (scikit-survival)", n, ours, "sksurv",
               lambda: _sksurv("brier", times, events, said, at))  # fmt: skip
    ours = survival.integrated_brier(times, events, said, at, censoring)
    yield _row("integrated Brier score (scikit-survival)", n, ours, "sksurv",
               lambda: _sksurv("ibs", times, events, said, at))  # fmt: skip
    distinct, alive = survival.kaplan_meier(times, events)
    yield _row("Kaplan-Meier (lifelines)", n, alive, "lifelines", lambda: _lifelines_curve(times, events, distinct))


def _lifelines(times: Floats, events: Floats, risk: Floats) -> float:
    from lifelines.utils import concordance_index

    return float(concordance_index(times, -risk, events))


def _lifelines_curve(times: Floats, events: Floats, at: Floats) -> Floats:
    from lifelines import KaplanMeierFitter

    return np.asarray(KaplanMeierFitter().fit(times, events).survival_function_at_times(at))


def _sksurv(what: str, times: Floats, events: Floats, said: Floats, extra: Any = None) -> Any:
    from sksurv import metrics
    from sksurv.util import Surv

    outcome = Surv.from_arrays(events == 1, times)
    if what == "harrell":
        return metrics.concordance_index_censored(events == 1, times, said)[:4]
    if what == "uno":
        return metrics.concordance_index_ipcw(outcome, outcome, said, tau=extra)[0]
    if what == "brier":
        return metrics.brier_score(outcome, outcome, said, extra)[1]
    return metrics.integrated_brier_score(outcome, outcome, said, extra)


def _later(function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[], Any]:
    return lambda: function(*arguments, **options)


def differing(found: Sequence[Row]) -> list[str]:
    """Names of rows that differ by more than the tolerance."""
    return [row.name for row in found if row.difference is not None and not row.difference <= TOLERANCE]
