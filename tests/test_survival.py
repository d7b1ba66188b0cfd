"""C-index and Brier score with censoring: by hand, by all pairs, and against lifelines and scikit-survival."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from evaluation.survival import (
    Censoring,
    harrell_concordance,
    integrated_brier,
    kaplan_meier,
    survival_brier,
    uno_concordance,
)


def cohort(seed: int, n: int = 300, steps: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times and risks with many ties, about half of the patients censored."""
    rng = np.random.default_rng(seed)
    risk = np.round(rng.normal(size=n), 1)
    event, censored = rng.exponential(np.exp(-0.7 * risk)), rng.exponential(1.5, n)
    return np.ceil(np.minimum(event, censored) * steps) / steps, (event <= censored).astype(float), risk


def all_pairs(times: np.ndarray, events: np.ndarray, risks: np.ndarray) -> tuple[int, int, int]:
    later = (times > times[:, None]) | ((times == times[:, None]) & (events == 0))
    compared = (events[:, None] == 1) & later
    np.fill_diagonal(compared, False)
    right, tied = compared & (risks < risks[:, None]), compared & (risks == risks[:, None])
    return int(right.sum()), int(tied.sum()), int(compared.sum())


def test_by_hand() -> None:
    # Events at 1 and 3, censored at 2 and 3. The first is before all: risks 4 > 3, 4 > 1, 4 = 4. The second only before
    # the one censored at the same time: 1 < 4.
    found = harrell_concordance([1, 2, 3, 3], [1, 0, 1, 0], [4, 3, 1, 4])

    assert (found.right, found.tied, found.comparable) == (2, 1, 4)
    assert found.value == pytest.approx(2.5 / 4)
    assert (found.n, found.events) == (4, 2)


@pytest.mark.parametrize("n", [2, 5, 130, 700])  # below and above where the counting divides
@pytest.mark.parametrize("steps", [1, 30, 100000])
def test_dividing_counts_what_all_pairs_count(n: int, steps: int) -> None:
    times, events, risks = cohort(n, n, steps)
    found = harrell_concordance(times, events, risks)

    assert (found.right, found.tied, found.comparable) == all_pairs(times, events, risks)


@pytest.mark.parametrize("seed", range(3))
def test_lifelines_counts_alike(seed: int) -> None:
    theirs = pytest.importorskip("lifelines.utils", reason="lifelines is not installed")
    times, events, risks = cohort(seed)

    assert harrell_concordance(times, events, risks).value == pytest.approx(
        theirs.concordance_index(times, -risks, events), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(3))
def test_scikit_survival_counts_alike(seed: int) -> None:
    metrics = pytest.importorskip("sksurv.metrics", reason="scikit-survival (GPL) is not installed")
    util = pytest.importorskip("sksurv.util")
    times, events, risks = cohort(seed)
    outcome = util.Surv.from_arrays(events == 1, times)
    value, right, wrong, tied, _ = metrics.concordance_index_censored(events == 1, times, risks)
    ours = harrell_concordance(times, events, risks, "within 1e-8")
    assert ours.value == pytest.approx(value, abs=1e-12)
    assert (ours.right, ours.comparable - ours.right - ours.tied, ours.tied) == (right, wrong, tied)

    censoring, horizon = Censoring.fit(times, events), float(np.quantile(times, 0.8))
    assert uno_concordance(times, events, risks, censoring, horizon).value == pytest.approx(
        metrics.concordance_index_ipcw(outcome, outcome, risks, tau=horizon)[0], abs=1e-12
    )
    at = np.quantile(times, [0.2, 0.4, 0.7])
    said = np.exp(-np.exp(risks)[:, None] * at)
    np.testing.assert_allclose(
        survival_brier(times, events, said, at, censoring), metrics.brier_score(outcome, outcome, said, at)[1]
    )
    assert integrated_brier(times, events, said, at, censoring) == pytest.approx(
        metrics.integrated_brier_score(outcome, outcome, said, at)
    )


def test_ties_of_risk_are_named() -> None:
    times, events, risks = [1, 2], [1, 1], [0.5 + 1e-9, 0.5]

    assert harrell_concordance(times, events, risks).value == 1.0
    assert harrell_concordance(times, events, risks, "within 1e-8").value == 0.5
    assert harrell_concordance(times, events, risks).variant == "Harrell, ties of risk exact"


def test_uno_does_not_move_with_the_censoring_where_harrell_does() -> None:
    rng = np.random.default_rng(1)
    harrell, uno = {}, {}
    for rate in (0.1, 1.2):
        values = []
        for _ in range(8):
            risk = rng.normal(size=3000)
            # Risk matters early and not late, so dropping late pairs flatters the model.
            early = rng.exponential(np.exp(-1.5 * risk))
            event = np.where(early < 0.7, early, 0.7 + rng.exponential(1.0, 3000))
            censored = rng.exponential(1 / rate, 3000)
            times, events = np.minimum(event, censored), (event <= censored).astype(float)
            fitted = Censoring.fit(times, events)
            values.append(
                (
                    harrell_concordance(np.minimum(times, 1.5), events * (times < 1.5), risk).value,
                    uno_concordance(times, events, risk, fitted, horizon=1.5).value,
                )
            )
        harrell[rate], uno[rate] = np.mean(values, axis=0)

    assert abs(harrell[1.2] - harrell[0.1]) > 0.02
    assert abs(uno[1.2] - uno[0.1]) < 0.01


def test_weights_at_and_before_the_event_differ_only_on_shared_times() -> None:
    times, events, risks = cohort(2, steps=5)
    censoring = Censoring.fit(times, events)
    at, before = (uno_concordance(times, events, risks, censoring, 1.0, weight_before=w).value for w in (False, True))
    assert abs(at - before) > 1e-4

    spread = times + np.arange(times.size) * 1e-6
    censoring = Censoring.fit(spread, events)
    at, before = (uno_concordance(spread, events, risks, censoring, 1.0, weight_before=w).value for w in (False, True))
    assert at == before


def test_kaplan_meier_by_hand() -> None:
    times, alive = kaplan_meier([1, 2, 2, 3, 4], [1, 1, 0, 0, 1])

    assert times.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(alive, [4 / 5, 4 / 5 * 3 / 4, 3 / 5, 0])
    censoring = Censoring.fit([1, 2, 2, 3, 4], [1, 1, 0, 0, 1])
    np.testing.assert_allclose(censoring.free, [1, 1 - 1 / 3, 2 / 3 * 1 / 2, 1 / 3])
    np.testing.assert_allclose(censoring.at([0.5, 2, 2.5, 3]), [1, 2 / 3, 2 / 3, 1 / 3])
    np.testing.assert_allclose(censoring.at([2, 3], before=True), [1, 2 / 3])


def test_brier_without_censoring_is_the_plain_one() -> None:
    times, said = np.array([1.0, 2, 3, 4]), np.array([[0.9], [0.2], [0.7], [0.6]])
    found = survival_brier(times, np.ones(4), said, [2.5], Censoring.fit(times, np.ones(4)))

    assert found[0] == pytest.approx((0.9**2 + 0.2**2 + 0.3**2 + 0.4**2) / 4)


def test_too_little_is_defined() -> None:
    nothing, censored = harrell_concordance([], [], []), harrell_concordance([1, 2], [0, 0], [1, 2])

    assert math.isnan(nothing.value)
    assert math.isnan(censored.value)
    assert censored.comparable == 0
    assert math.isnan(harrell_concordance([1.0], [1], [0.5]).value)
    assert kaplan_meier([], [])[0].size == 0
    fitted = Censoring.fit([1.0, 2.0], [1, 0])
    assert math.isnan(survival_brier([], [], np.empty((0, 1)), [1.0], fitted)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: harrell_concordance([1, math.nan], [1, 1], [1, 2]), "1 of 2 times are not finite"),
        (lambda: harrell_concordance([1, 2], [1, 2], [1, 2]), r"events 1 \(seen\) or 0 \(censored\)"),
        (lambda: harrell_concordance([-1, 2], [1, 0], [1, 2]), "times must be 0 or more"),
        (lambda: harrell_concordance([1], [1], [1, 2]), r"must share one shape \(N,\)"),
        (lambda: harrell_concordance([1, 2], [1, 1], [1, 2], "none"), "ties is 'none', expected exact"),
        (lambda: Censoring.fit([], []), "there are 0 patients"),
        (lambda: Censoring.fit([1, 2], [0, 1]).at([3]), "time 3 is beyond the last patient"),
        (
            lambda: uno_concordance([1, 2], [1, 1], [1, 2], Censoring.fit([1, 2], [1, 0]), weight_before=False),
            "uncensored is 0 at 2, the time of an event",
        ),
        (
            lambda: survival_brier([1], [1], [[0.5, 0.5]], [1.0], Censoring.fit([1], [1])),
            r"survival has shape \(1, 2\), expected \(1, 1\)",
        ),
        (lambda: survival_brier([1], [1], [[1.5]], [1.0], Censoring.fit([1], [1])), "outside"),
        (lambda: integrated_brier([1], [1], [[0.5]], [1.0], Censoring.fit([1], [1])), "at least two, ascending"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_hundred_thousand_patients_are_quick() -> None:
    times, events, risks = cohort(3, 100_000, 1000)

    start = time.process_time()
    found = harrell_concordance(times, events, risks)
    assert time.process_time() - start < 10
    assert 0.6 < found.value < 0.8
