"""Calibration measures by name: by hand, against their peers, and on probabilities that are honest by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn import calibration, metrics

from evaluation.reliability import (
    adaptive_ece,
    brier,
    brier_parts,
    brier_skill,
    calibration_line,
    ece,
    max_calibration_error,
    reliability_bins,
    root_mean_square_calibration_error,
    spiegelhalter,
    top_label_ece,
)


def honest(seed: int, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    said = rng.beta(1, 3, n)
    return said, (rng.random(n) < said).astype(float)


def test_skill_is_against_always_saying_the_prevalence() -> None:
    said, labels = honest(1)

    assert brier_skill(said, labels) == pytest.approx(metrics.d2_brier_score(labels, said))
    assert brier_skill(np.full(4, 0.5), [1, 0, 1, 0]) == 0.0
    assert brier_skill([1, 0], [1, 0]) == 1.0
    assert brier_skill([0.2, 0.2], [1, 0], prevalence=0.2) == 0.0
    assert math.isnan(brier_skill([0.2, 0.2], [0, 0]))


@pytest.mark.parametrize(("binning", "strategy"), [("width", "uniform"), ("quantile", "quantile")])
def test_tables_agree_with_scikit_learn(binning, strategy: str) -> None:
    said, labels = honest(2, 500)
    table = reliability_bins(said, labels, 12, binning)
    found, mean = calibration.calibration_curve(labels, said, n_bins=12, strategy=strategy)

    np.testing.assert_allclose([b.found for b in table], found)
    np.testing.assert_allclose([b.said for b in table], mean)
    assert sum(b.n for b in table) == 500


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_errors_agree_with_torchmetrics(norm) -> None:
    import torch

    functional = pytest.importorskip("torchmetrics.functional.classification", reason="torchmetrics is not installed")
    said, labels = honest(3, 700)
    ours = {
        "l1": ece(said, labels),
        "l2": root_mean_square_calibration_error(said, labels),
        "max": max_calibration_error(said, labels),
    }[norm]
    theirs = functional.binary_calibration_error(torch.from_numpy(said), torch.from_numpy(labels).long(), 15, norm)

    assert ours == pytest.approx(float(theirs), abs=1e-9)


def test_members_of_the_family_by_hand() -> None:
    # Bin 0 to 0.5: said 0.2, found 0.5 (2 rows). Bin 0.5 to 1: said 0.9, found 1 (2 rows).
    said, labels = [0.1, 0.3, 0.8, 1.0], [0, 1, 1, 1]

    assert max_calibration_error(said, labels, 2) == pytest.approx(0.3)
    assert root_mean_square_calibration_error(said, labels, 2) == pytest.approx(math.sqrt((0.09 + 0.01) / 2))
    assert adaptive_ece(said, labels, 2) == pytest.approx(0.2)
    # Confidence of the calls: 0.9 right, 0.7 wrong, 0.8 right, 1.0 right: all in one bin of [0.5, 1].
    assert top_label_ece(said, labels, 2) == pytest.approx(abs(0.75 - 0.85))


def test_a_rare_finding_shows_why_the_two_eces_differ() -> None:
    labels = np.repeat([1.0, 0.0], [5, 95])

    assert ece(np.full(100, 0.05), labels) == pytest.approx(0, abs=1e-12)
    assert ece(np.full(100, 0.45), labels) == pytest.approx(0.4)
    assert top_label_ece(np.full(100, 0.45), labels) == pytest.approx(0.4)
    assert top_label_ece(np.repeat([0.9, 0.45, 0.0], [5, 5, 90]), labels) < 0.05


def test_debiasing_takes_out_what_noise_adds() -> None:
    plain, debiased = [], []
    for seed in range(40):
        said, labels = honest(seed, 300)
        plain.append(root_mean_square_calibration_error(said, labels, binning="mass"))
        debiased.append(root_mean_square_calibration_error(said, labels, binning="mass", debiased=True))

    assert np.mean(plain) > 0.08
    assert np.mean(np.square(debiased)) < 0.2 * np.mean(np.square(plain))
    assert math.isnan(root_mean_square_calibration_error([0.2], [1], debiased=True))


@pytest.mark.parametrize("binning", ["width", "mass", "quantile"])
def test_the_parts_of_brier_add_up(binning) -> None:
    said, labels = honest(5, 800)
    parts = brier_parts(said, labels, 10, binning)

    assert parts.reliability - parts.resolution + parts.uncertainty + parts.within == pytest.approx(brier(said, labels))
    assert abs(parts.within) < 0.003
    assert parts.reliability < 0.01 < parts.resolution


def test_the_line_is_recovered_and_overconfidence_has_a_slope_below_one() -> None:
    said, labels = honest(6, 40000)

    line = calibration_line(expit(2 * logit(np.clip(said, 1e-6, 1 - 1e-6)) + 0.5), labels)

    assert line.slope == pytest.approx(0.5, abs=0.02)
    assert line.intercept == pytest.approx(-0.25, abs=0.03)
    honest_line = calibration_line(said, labels)
    assert (honest_line.slope, honest_line.in_the_large) == (pytest.approx(1, abs=0.03), pytest.approx(0, abs=0.03))


def test_a_separated_set_has_no_line() -> None:
    found = calibration_line([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])

    assert math.isnan(found.slope)
    assert math.isfinite(found.in_the_large)
    assert math.isnan(calibration_line([0.3, 0.3], [0, 1]).slope)
    assert math.isnan(calibration_line([0.3, 0.4], [1, 1]).in_the_large)


def test_spiegelhalter_keeps_its_level_and_finds_overconfidence() -> None:
    alarms = sum(spiegelhalter(*honest(seed, 400))[1] < 0.05 for seed in range(400))
    said, labels = honest(7, 2000)

    assert 8 <= alarms <= 34  # 20 expected of 400; the 99.9 % range of a fair 5 %
    assert spiegelhalter(said**2, labels)[1] < 1e-6
    assert math.isnan(spiegelhalter([0.5, 0.0], [1, 0])[0])


def test_nothing_has_a_defined_result() -> None:
    for measure in (brier, brier_skill, ece, adaptive_ece, top_label_ece, max_calibration_error):
        assert math.isnan(measure([], []))
        assert math.isnan(measure([0.3], [math.nan]))
    assert brier_parts([], []).n == 0
    assert reliability_bins([], []) == ()
    assert math.isnan(calibration_line([], []).slope)
    assert ece([0.25], [1]) == 0.75


def test_strange_input_is_refused() -> None:
    with pytest.raises(ValueError, match="binning is 'equal', expected width, mass or quantile"):
        ece([0.1], [1], binning="equal")
    with pytest.raises(ValueError, match="prevalence is 2, expected a share"):
        brier_skill([0.1, 0.2], [1, 0], prevalence=2)
