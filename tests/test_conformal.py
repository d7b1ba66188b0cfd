"""Conformal sets keep their promise over draws of patients, by class when asked, and not when patients are mixed up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.conformal import (
    conformal_quantile,
    control_risk,
    fit_conformal,
    missed_share,
    set_coverage,
)


def rows(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident probabilities of a finding with prevalence 0.1."""
    label = (rng.random(n) < 0.1).astype(float)
    return 1 / (1 + np.exp(-3 * (rng.normal(size=n) + 2 * label - 1.5))), label


def test_the_quantile_by_hand() -> None:
    assert conformal_quantile(np.arange(1, 10), 0.1) == 9  # ceil(10 x 0.9) = 9
    assert conformal_quantile(np.arange(1, 20), 0.1) == 18
    assert conformal_quantile(np.arange(1, 9), 0.1) == math.inf
    assert conformal_quantile([], 0.5) == math.inf


def test_coverage_is_promised_over_draws_of_calibration_and_test() -> None:
    rng = np.random.default_rng(0)
    whole, present, present_by_class = [], [], []
    for _ in range(400):
        said, label = rows(99, rng)
        new, truth = rows(200, rng)
        plain = set_coverage(fit_conformal(said, label, 0.1).sets(new), truth)
        by_class = set_coverage(fit_conformal(said, label, 0.1, by_class=True).sets(new), truth)
        whole.append(plain.covered)
        present.append(plain.by_class[1])
        present_by_class.append(by_class.by_class[1])

    # With 99 rows and no ties the coverage is exactly 90 % in the mean; 400 draws know it to about half a percent.
    assert np.mean(whole) == pytest.approx(0.9, abs=0.008)
    assert np.nanmean(present) < 0.8  # the rare class pays
    assert 0.89 < np.nanmean(present_by_class) <= 1


def test_patients_with_many_studies_break_the_promise_unless_one_study_is_kept() -> None:
    rng = np.random.default_rng(1)
    naive, kept = [], []
    for _ in range(600):
        who = np.repeat(np.arange(40), np.r_[np.ones(30, int), np.full(10, 30)])
        # patients who are seen often are the easy ones: their studies flood the calibration
        hard = np.where(np.arange(40) < 30, 0.55, 0.05)
        said = np.clip(1 - rng.beta(2, 2 / hard[who] - 2), 0, 1)
        table = np.column_stack([1 - said, said])
        who_new = rng.integers(0, 40, 60)
        new = 1 - rng.beta(2, 2 / hard[who_new] - 2)
        truth = np.ones(60)
        for found, patients in ((naive, None), (kept, who.tolist())):
            sets = fit_conformal(table, np.ones(who.size), 0.1, patients=patients, seed=len(kept))
            found.append(set_coverage(sets.sets(new), truth).covered)

    assert np.mean(naive) < 0.6
    assert np.mean(kept) == pytest.approx(0.9, abs=0.02)


def test_risk_control_keeps_the_mean_loss_of_new_patients() -> None:
    rng = np.random.default_rng(2)
    lost, chosen = [], []
    for _ in range(300):
        labels = (rng.random((300, 4)) < 0.3).astype(float)
        scores = labels * 0.6 + rng.random((300, 4))
        found = control_risk(missed_share(scores[:100], labels[:100]), np.linspace(0, 1.6, 81), alpha=0.1)
        assert found.threshold is not None
        lost.append(missed_share(scores[100:], labels[100:])(found.threshold).mean())
        chosen.append(found.threshold)

    assert 0.07 < np.mean(lost) <= 0.1
    assert np.std(chosen) > 0


def test_risk_control_counts_patients_and_may_find_nothing() -> None:
    losses = np.array([0.0, 0.2, 0.2])

    one = control_risk(lambda threshold: losses * threshold, [0.5, 1.0], 0.5, patients=["a", "b", "b"])
    none = control_risk(lambda threshold: losses, [0.5], 0.1)

    assert (one.threshold, one.patients) == (1.0, 2)
    assert one.risk == pytest.approx(0.1)
    assert none.threshold is None
    with pytest.raises(ValueError, match=r"the risk falls from 0\.1333 to 0 at threshold 1"):
        control_risk(lambda threshold: losses * (threshold < 1), [0.5, 1.0], 0.5)


def test_sets_and_their_summary_by_hand() -> None:
    found = fit_conformal([[0.6, 0.3, 0.1]] * 9, [0] * 8 + [1], alpha=0.2)

    assert found.quantiles == (pytest.approx(0.4),) * 3
    assert found.sets([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [0.61, 0.6, 0.6]]).tolist() == [
        [True, False, False],
        [False, False, False],
        [True, True, True],
    ]
    summary = set_coverage([[1, 0], [1, 1], [0, 0], [1, 0]], [0, 1, 0, math.nan])
    assert (summary.covered, summary.size, summary.single, summary.empty, summary.n) == (
        pytest.approx(2 / 3), 1.0, pytest.approx(1 / 3), pytest.approx(1 / 3), 3
    )  # fmt: skip
    assert summary.by_class == (0.5, 1.0)
    assert "class-conditional" in fit_conformal([0.2, 0.3], [0, 1], by_class=True).variant()


def test_too_few_rows_put_every_label_in_the_set() -> None:
    found = fit_conformal([0.9], [1], 0.1)

    assert found.quantiles == (math.inf, math.inf)
    assert found.sets([0.5]).all()
    assert fit_conformal([], [], 0.1).sets([0.5]).all()
    assert math.isnan(set_coverage(np.empty((0, 2)), []).covered)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_conformal([0.5], [1], split="test"), "a conformal quantile chosen on test studies"),
        (lambda: control_risk(lambda t: [0], [1], split="test"), "a risk threshold chosen on test studies"),
        (lambda: fit_conformal([0.5], [1], alpha=0), "alpha is 0, expected between 0 and 1"),
        (lambda: fit_conformal([1.5], [1]), "finite and in"),
        (lambda: fit_conformal([0.5], [2]), "classes hold other values than 0 to 1 and nan"),
        (lambda: fit_conformal([0.5], [1, 0]), r"classes \(2,\) must have one entry for each of 1 rows"),
        (lambda: fit_conformal([0.5], [1]).sets([[0.1, 0.2, 0.7]]), "have 3 classes, expected 2"),
        (lambda: control_risk(lambda t: [2.0], [1]), "losses range to 2, expected from 0 to 1"),
        (lambda: conformal_quantile([math.nan], 0.1), "scores hold nan"),
    ],
)
def test_wrong_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
