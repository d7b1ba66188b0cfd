"""Weights give the same intervals as resampled rows, in a fraction of the time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from evaluation.classification import auroc, average_precision, ece, macro_auroc
from evaluation.intervals import patient_bootstrap
from evaluation.jackknife import jackknife_interval, patient_jackknife, share_intervals, weighted_jackknife
from evaluation.weighted import (
    weighted_auroc,
    weighted_average_precision,
    weighted_bootstrap,
    weighted_calibration_error,
    weighted_difference,
    weighted_macro_auroc,
    weighted_mean,
    weighted_ratio,
)

NAMES = ["edema", "mass"]


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Tied probabilities (150, 2), labels with missing ones, and 50 patients with 1 to 7 studies."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((150, 2)) < [0.3, 0.1]).astype(float)
    said = np.clip(np.round(rng.beta(2, 4, (150, 2)) + 0.2 * labels, 2), 0, 1)
    labels[rng.random((150, 2)) < 0.1] = math.nan
    return said, labels, rng.integers(0, 50, 150).tolist()


SAID, LABELS, GROUPS = data()
CALLED = (SAID[:, 0] > 0.4).astype(float)


def f1(rows: np.ndarray) -> float:
    kept = rows[~np.isnan(LABELS[rows, 0])]
    hit = CALLED[kept] @ LABELS[kept, 0]
    return float(2 * hit / (CALLED[kept].sum() + LABELS[kept, 0].sum()))


KNOWN = ~np.isnan(LABELS[:, 0])
PRESENT = np.where(KNOWN, LABELS[:, 0], 0)
PAIRS: dict[str, tuple] = {
    "auroc": (weighted_auroc(SAID[:, 0], LABELS[:, 0]), lambda r: auroc(SAID[r, 0], LABELS[r, 0])),
    "ap": (weighted_average_precision(SAID[:, 1], LABELS[:, 1]), lambda r: average_precision(SAID[r, 1], LABELS[r, 1])),
    "ece": (weighted_calibration_error(SAID[:, 0], LABELS[:, 0], 10), lambda r: ece(SAID[r, 0], LABELS[r, 0], 10)),
    "macro": (weighted_macro_auroc(SAID, LABELS, NAMES), lambda r: macro_auroc(SAID[r], LABELS[r], NAMES).value),
    "f1": (weighted_ratio(2 * CALLED * PRESENT, KNOWN * (CALLED + PRESENT)), f1),
    "mean": (weighted_mean(LABELS[:, 0]), lambda r: float(np.nanmean(LABELS[r, 0]))),
}


@pytest.mark.parametrize("method", ["percentile", "bca", "expanded"])
@pytest.mark.parametrize("name", PAIRS)
def test_weights_give_what_rows_give(name: str, method) -> None:
    statistic, by_rows = PAIRS[name]
    fast = weighted_bootstrap({name: statistic}, GROUPS, n=80, seed=3, method=method)[name]
    slow = patient_bootstrap(by_rows, GROUPS, n=80, seed=3, method=method)

    assert fast.value == pytest.approx(slow.value, abs=1e-12)
    np.testing.assert_allclose([fast.low, fast.high], [slow.low, slow.high], atol=1e-12)
    assert (fast.n, fast.groups, fast.undefined) == (slow.n, slow.groups, slow.undefined)


@pytest.mark.parametrize("name", ["auroc", "f1"])
def test_the_jackknife_by_weights_is_the_jackknife_by_rows(name: str) -> None:
    statistic, by_rows = PAIRS[name]
    fast = weighted_jackknife({name: statistic}, GROUPS)[name]
    slow = patient_jackknife(lambda rows: {name: by_rows(rows)}, GROUPS)[name]

    np.testing.assert_allclose([fast.value, fast.low, fast.high], [slow.value, slow.low, slow.high], atol=1e-12)
    assert 0 < fast.low < fast.value < fast.high < 1


def test_the_jackknife_of_a_mean_is_its_t_interval() -> None:
    values = np.random.default_rng(1).normal(5, 2, 40)
    found = weighted_jackknife({"": weighted_mean(values)}, list(range(40)), scale="plain")[""]

    error = values.std(ddof=1) / math.sqrt(40)
    assert found.high - found.value == pytest.approx(2.02 * error, rel=0.02)
    assert found.method == "jackknife t, plain"


def test_what_the_jackknife_cannot_say() -> None:
    certain = weighted_jackknife({"": weighted_mean(np.ones(5))}, list("abcde"))[""]
    alone = weighted_jackknife({"": weighted_mean([0.2, 0.6])}, ["a", "a"])[""]
    rare = weighted_jackknife({"": weighted_auroc([0.9, 0.1, 0.2], [1, 0, 0])}, list("abc"), scale="plain")[""]

    assert (certain.value, alone.value, alone.groups) == (1.0, pytest.approx(0.4), 1)
    assert math.isnan(certain.low)
    assert math.isnan(alone.low)
    assert (rare.value, rare.undefined) == (1.0, 1)  # without the one positive there is no AUROC
    with pytest.raises(ValueError, match=r"the value is -0\.1, expected a share in \[0, 1\]; use the plain scale"):
        jackknife_interval(-0.1, np.array([0.1, -0.2]), 0.95, 2)
    with pytest.raises(ValueError, match="scale 'log', expected between 0 and 1, and logit or plain"):
        jackknife_interval(0.1, np.array([0.1, 0.2]), 0.95, 2, scale="log")
    with pytest.raises(ValueError, match="there are 0 rows"):
        weighted_jackknife({"": weighted_mean([])}, [])


def test_cards_print_the_jackknife_and_the_bootstrap_where_it_is_undefined() -> None:
    auroc_of = weighted_auroc(SAID[:, 0], LABELS[:, 0])
    perfect, still = weighted_auroc(LABELS[:, 0], LABELS[:, 0]), weighted_auroc(np.zeros(150), LABELS[:, 0])
    found = share_intervals({"some": auroc_of, "perfect": perfect, "still": still}, GROUPS)
    assert list(found) == ["some", "perfect", "still"]
    assert found["some"] == weighted_jackknife({"some": auroc_of}, GROUPS)["some"]
    assert found["some"].method == "jackknife t, logit"
    assert (found["perfect"].low, found["perfect"].high, found["perfect"].method) == (1, 1, "percentile")
    assert (found["still"].low, found["still"].high) == (0.5, 0.5)


def test_a_paired_difference_is_narrower_than_its_parts() -> None:
    rng = np.random.default_rng(2)
    first, labels = rng.normal(size=200) + np.repeat([0, 1], 100), np.repeat([0.0, 1.0], 100)
    one, other = weighted_auroc(first, labels), weighted_auroc(first + rng.normal(0, 0.1, 200), labels)
    found = weighted_bootstrap({"one": one, "gain": weighted_difference(one, other)}, list(range(200)), n=300)

    assert found["gain"].high - found["gain"].low < 0.3 * (found["one"].high - found["one"].low)


def test_edges_are_defined() -> None:
    empty = weighted_bootstrap({"": weighted_auroc([0.1, 0.2], [math.nan, math.nan])}, ["a", "b"], n=10)[""]
    one_class = weighted_bootstrap({"": weighted_average_precision([0.1, 0.2], [0, 0])}, ["a", "b"], n=10)[""]
    alone = weighted_bootstrap({"": weighted_mean([0.5])}, ["a"], n=10)[""]

    assert math.isnan(empty.value)
    assert math.isnan(one_class.value)
    assert (alone.value, alone.groups) == (0.5, 1)
    assert math.isnan(alone.low)
    with pytest.raises(ValueError, match="there are 0 rows, expected at least one study"):
        weighted_bootstrap({}, [])
    with pytest.raises(ValueError, match="above or below holds nan"):
        weighted_ratio([math.nan], [1])
    with pytest.raises(ValueError, match="1 of 1 scores are not finite"):
        weighted_auroc([math.inf], [1])
    with pytest.raises(ValueError, match="row 1 has no patient"):
        weighted_bootstrap({"": weighted_mean([1, 2])}, ["a", None])


def test_a_thousand_resamples_of_a_hundred_thousand_rows_in_bounded_memory() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(100_000) < 0.1).astype(float)
    scores = np.round(rng.normal(size=100_000) + labels, 2)
    groups = (np.arange(100_000) // 3).tolist()

    start = time.process_time()
    found = weighted_bootstrap({"": weighted_auroc(scores, labels)}, groups, n=100)[""]
    assert time.process_time() - start < 15
    assert found.low < found.value < found.high


def test_weights_are_faster_than_rows() -> None:
    def seconds(call: Callable[[], object]) -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    statistic, by_rows = PAIRS["auroc"]
    fast = min(seconds(lambda: weighted_bootstrap({"": statistic}, GROUPS, n=500)) for _ in range(3))
    slow = min(seconds(lambda: patient_bootstrap(by_rows, GROUPS, n=500)) for _ in range(3))

    assert fast < slow / 2
