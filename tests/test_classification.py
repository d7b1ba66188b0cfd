"""Scores against labels, compared with scikit-learn where it has the same definition, and by hand where it has not."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from sklearn import metrics

from evaluation.classification import (
    auroc,
    average_precision,
    brier,
    choose_threshold,
    decide,
    ece,
    interpolated_average_precision,
    macro_auroc,
    macro_average_precision,
    partial_auroc,
    reliability_bins,
    roc_points,
    trapezoid_average_precision,
)


@pytest.mark.parametrize("decimals", [0, 1, 6])  # 0: nearly all scores are tied
@pytest.mark.parametrize("seed", range(5))
def test_ranking_metrics_agree_with_scikit_learn(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(80) < 0.3).astype(int)
    scores = np.round(rng.normal(size=80) + labels, decimals)

    assert auroc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(
        metrics.average_precision_score(labels, scores), abs=1e-12
    )
    false, true = roc_points(scores, labels)
    their_false, their_true, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, their_false)
    np.testing.assert_allclose(true, their_true)


def test_brier_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels, probabilities = (rng.random(50) < 0.4).astype(int), rng.random(50)

    assert brier(probabilities, labels) == pytest.approx(metrics.brier_score_loss(labels, probabilities))


def test_one_class_has_no_auroc() -> None:
    assert math.isnan(auroc([0.1, 0.9], [1, 1]))
    assert math.isnan(auroc([0.1, 0.9], [0, 0]))
    assert math.isnan(average_precision([0.1, 0.9], [0, 0]))
    assert roc_points([0.1, 0.9], [1, 1])[0].size == 0


def test_unknown_labels_are_left_out_with_their_scores() -> None:
    assert auroc([0.9, 0.1, math.nan], [1, 0, math.nan]) == 1.0
    assert brier([0.9, 0.1, 0.5], [1, 0, math.nan]) == pytest.approx(0.01)


def test_macro_names_the_findings_it_dropped() -> None:
    labels = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1]])
    scores = np.array([[0.9, 0.3, 0.8], [0.1, 0.2, 0.6], [0.8, 0.5, 0.9]])

    found = macro_auroc(scores, labels, ["edema", "hernia", "mass"])

    assert found.dropped == ("hernia",)
    assert found.per_label["edema"] == 1.0
    assert found.per_label["mass"] == 0.5
    assert found.value == 0.75
    assert math.isnan(macro_auroc(scores[:, 1:2], labels[:, 1:2], ["hernia"]).value)


def test_ece_by_hand() -> None:
    # Bin 0.0 to 0.5: said 0.2, found 0.5. Bin 0.5 to 1.0: said 0.9, found 1. Two rows each.
    probabilities, labels = [0.1, 0.3, 0.8, 1.0], [0, 1, 1, 1]

    assert ece(probabilities, labels, bins=2) == pytest.approx(0.5 * 0.3 + 0.5 * 0.1)


def test_a_calibrated_model_has_a_small_ece_and_an_overconfident_one_has_not() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(20000)
    labels = (rng.random(20000) < probabilities).astype(float)

    for binning in ("width", "mass"):
        assert ece(probabilities, labels, binning=binning) < 0.02
        assert ece(np.round(probabilities), labels, binning=binning) == pytest.approx(0.25, abs=0.02)


def test_bins_of_equal_mass_hold_equally_many_rows_and_never_split_equal_probabilities() -> None:
    probabilities = np.concatenate([np.linspace(0, 0.1, 90), np.full(10, 0.9)])

    sizes = [one.n for one in reliability_bins(probabilities, np.zeros(100), bins=10, binning="mass")]

    assert sum(sizes) == 100
    assert sizes == [10] * 10
    assert [one.n for one in reliability_bins(np.full(7, 0.5), np.ones(7), 5, "mass")] == [7]


def test_the_last_bin_holds_its_upper_edge() -> None:
    (one,) = reliability_bins([1.0], [1], bins=15)

    assert (one.low, one.high, one.said, one.n) == (pytest.approx(14 / 15), 1.0, 1.0, 1)


def test_thresholds_by_hand() -> None:
    scores, labels = [0.9, 0.8, 0.7, 0.3, 0.2, 0.1], [1, 1, 0, 1, 0, 0]

    best_f1 = choose_threshold(scores, labels, "f1")
    best_youden = choose_threshold(scores, labels, "youden")

    assert best_f1.reached == pytest.approx(6 / 7)  # calling four present: 3 hits, 1 false alarm
    assert best_f1.value == pytest.approx(0.25)
    assert best_youden.reached == pytest.approx(2 / 3)
    assert best_youden.value == pytest.approx(0.75)  # of two equal ones, the higher
    assert decide(scores, labels, best_f1.value).f1 == pytest.approx(best_f1.reached)


def test_a_decision_counts_and_divides() -> None:
    found = decide([0.9, 0.8, 0.4, 0.1, 0.6], [1, 0, 1, 0, 1], 0.5)

    assert (found.true_positive, found.false_positive, found.false_negative, found.true_negative) == (2, 1, 1, 1)
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.specificity == 0.5
    assert math.isnan(decide([0.2], [0], 0.5).sensitivity)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auroc([0.1, 0.2], [1, -1]), r"labels hold \[-1.0\], expected 1 \(present\), 0"),
        (lambda: auroc([0.1, math.nan], [1, 0]), "1 of 2 scores are not finite"),
        (lambda: auroc([0.1], [1, 0]), r"scores \(1,\) and labels \(2,\) must share one shape"),
        (lambda: brier([3.0, -2.0], [1, 0]), r"probabilities range from -2 to 3, expected \[0, 1\]"),
        (lambda: ece([0.5], [1], bins=0), "bins is 0, expected at least 1"),
        (lambda: choose_threshold([0.1, 0.2], [0, 0]), "0 positive and 2 negative rows"),
        (lambda: macro_auroc([[0.1]], [[1]], ["a", "b"]), r"must both be \(N, 2\)"),
    ],
)
def test_wrong_input_is_refused_with_what_was_found(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("rate", [0.05, 0.2, 1.0])
def test_partial_auroc_agrees_with_scikit_learn(decimals: int, rate: float) -> None:
    rng = np.random.default_rng(4)
    labels = (rng.random(90) < 0.3).astype(int)
    scores = np.round(rng.normal(size=90) + labels, decimals)

    assert partial_auroc(scores, labels, rate) == pytest.approx(metrics.roc_auc_score(labels, scores, max_fpr=rate))


def test_partial_auroc_by_hand() -> None:
    scores, labels = [4, 3, 2, 1], [1, 0, 1, 0]  # the curve: up to 1/2, right to 1/2, up to 1, right to 1

    assert partial_auroc(scores, labels, 0.5, standardised=False) == pytest.approx(0.25)
    assert partial_auroc(scores, labels, 0.25, standardised=False) == pytest.approx(0.125)
    assert partial_auroc([2, 1], [1, 0], 0.1) == pytest.approx(1.0)
    assert partial_auroc([1, 1], [1, 0], 0.1) == pytest.approx(0.5)
    assert math.isnan(partial_auroc([1.0], [1], 0.1))


def test_each_average_precision_has_its_own_name() -> None:
    # Ranked: 1 0 1 1 0, so precision 1, 1/2, 2/3, 3/4, 3/5 at recall 1/3, 1/3, 2/3, 1, 1.
    scores, labels = [5, 4, 3, 2, 1], [1, 0, 1, 1, 0]

    assert average_precision(scores, labels) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert interpolated_average_precision(scores, labels) == pytest.approx((1 + 3 / 4 + 3 / 4) / 3)
    assert interpolated_average_precision(scores, labels, 11) == pytest.approx((4 * 1 + 7 * 3 / 4) / 11)
    assert interpolated_average_precision(scores, labels, 101) == pytest.approx((34 * 1 + 67 * 3 / 4) / 101)
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    assert trapezoid_average_precision(scores, labels) == pytest.approx(metrics.auc(recall, precision))


def test_interpolated_precision_counts_a_recall_that_rounding_moved() -> None:
    # 10 positives first: recall 0.3 is 3 / 10 in floating point, and must count for the point 0.3.
    assert interpolated_average_precision(np.arange(20, 0, -1), [1] * 10 + [0] * 10, 11) == 1.0


def test_a_hundred_thousand_rows_are_quick() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(100_000) < 0.1).astype(float)
    scores = np.round(rng.normal(size=100_000) + labels, 3)

    start = time.process_time()
    values = (auroc(scores, labels), average_precision(scores, labels), partial_auroc(scores, labels, 0.1))
    assert time.process_time() - start < 5
    assert 0.5 < values[2] < values[0] < 1


def test_macro_average_precision_and_empty_tables() -> None:
    found = macro_average_precision([[0.9, 0.1], [0.2, 0.3]], [[1, 0], [0, 0]], ["mass", "hernia"])

    assert (found.value, found.dropped) == (1.0, ("hernia",))
    assert math.isnan(macro_auroc(np.empty((0, 1)), np.empty((0, 1)), ["mass"]).value)
    for ranking in (auroc, average_precision, interpolated_average_precision, trapezoid_average_precision):
        assert math.isnan(ranking([], []))
        assert math.isnan(ranking([0.4], [math.nan]))
    with pytest.raises(ValueError, match="max_false_positive_rate is 0, expected above 0"):
        partial_auroc([0.1], [1], 0)
    with pytest.raises(ValueError, match="points is 1, expected at least 2"):
        interpolated_average_precision([0.1], [1], 1)
