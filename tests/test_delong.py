"""DeLong by midranks equals DeLong by definition; with patients as clusters it keeps its level where rows do not."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from evaluation.classification import auroc
from evaluation.delong import auroc_covariance, delong_interval, delong_test


def by_definition(scores: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The covariance (M, M) with every positive against every negative."""
    parts = []
    for score in scores:
        pairs = np.sign(score[labels == 1][:, None] - score[labels == 0]) / 2 + 0.5
        parts.append((pairs.mean(1), pairs.mean(0)))
    positive, negative = (np.cov(np.stack([part[k] for part in parts])) for k in (0, 1))
    return np.atleast_2d(positive / parts[0][0].size + negative / parts[0][1].size)


@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("seed", range(3))
def test_midranks_equal_the_definition(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(70) < 0.4).astype(float)
    scores = [np.round(rng.normal(size=70) + shift * labels, decimals) for shift in (1, 0.5, 0)]

    areas, covariance = auroc_covariance(scores, labels)

    np.testing.assert_allclose(covariance, by_definition(scores, labels), atol=1e-14)
    np.testing.assert_allclose(areas, [auroc(score, labels) for score in scores])
    _, alone = auroc_covariance(scores, labels, groups=rng.permutation(70).tolist())
    np.testing.assert_allclose(alone, covariance, atol=1e-14)  # one study a patient: Obuchowski's form is DeLong's


def test_clusters_by_hand() -> None:
    # Two patients hold both classes: every negative of patient a lies below all positives, b's lies above one.
    scores, labels = np.array([3.0, 1.0, 2.0, 2.5]), np.array([1.0, 0, 1, 0])
    groups = ["a", "a", "b", "b"]
    areas, covariance = auroc_covariance([scores], labels, groups)

    # Positives beat 1 and 1/2 of the negatives; negatives are beaten by 1 and 1/2 of the positives; the area is 3/4.
    positive = negative = 2 / (2 - 1) * (0.25**2 + 0.25**2) / 2**2
    cross = 2 / (2 - 1) * (0.25 * 0.25 + 0.25 * 0.25) / (2 * 2)
    assert areas[0] == 0.75
    assert covariance[0, 0] == pytest.approx(positive + negative + 2 * cross)


def clustered(rng: np.random.Generator, patients: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Two equally good scores; label, and most of what both see, belong to the patient."""
    size = rng.integers(1, 8, patients)
    who = np.repeat(np.arange(patients), size)
    label = (rng.random(patients) < 0.4).astype(float)[who]
    parts = 0.8 * rng.normal(size=(2, patients))[:, who] + 0.6 * rng.normal(size=(2, who.size))
    return label + parts[0], label + parts[1], label, who.tolist()


def test_clusters_keep_the_level_where_rows_do_not() -> None:
    rng = np.random.default_rng(0)
    naive, held = [], []
    for _ in range(600):
        first, second, label, who = clustered(rng)
        naive.append(delong_test(first, second, label).p < 0.05)
        held.append(delong_test(first, second, label, who).p < 0.05)

    assert np.mean(naive) > 0.15
    assert 0.03 <= np.mean(held) <= 0.075  # the 99 % range of a fair 5 % in 600 draws is 2.9 to 7.5 %


def test_the_test_finds_a_difference_and_its_sign() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0.0, 1.0], 200)
    good, poor = rng.normal(size=400) + 1.5 * labels, rng.normal(size=400) + 0.5 * labels
    found = delong_test(good, poor, labels)

    assert found.p < 1e-4
    assert found.difference.low > 0
    assert found.difference.value == pytest.approx(found.first - found.second)
    assert delong_test(poor, good, labels).difference.high < 0
    assert (found.difference.n, found.difference.groups) == (400, 400)


def test_intervals_stay_inside_and_unknown_labels_are_left_out() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0.0, 1.0, math.nan], [30, 5, 10])
    scores = rng.normal(size=45) + np.nan_to_num(labels)
    scores[-1] = math.nan
    logit, plain = delong_interval(scores, labels), delong_interval(scores, labels, on_logit=False)

    assert 0 < logit.low < logit.value < logit.high < 1
    assert plain.high <= 1
    assert logit.n == 35
    assert logit.method == "DeLong, normal, logit"


def test_equal_rankings_have_no_difference() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(40) < 0.5).astype(float)
    scores = rng.normal(size=40)
    found = delong_test(scores, np.exp(scores), labels)

    assert (found.difference.value, found.difference.low, found.p) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("scores", "labels", "groups"),
    [([], [], None), ([0.1], [1], None), ([0.1, 0.2], [1, 1], None), ([0.1, 0.9, 0.3], [0, 1, 0], list("aba"))],
)
def test_too_little_has_no_interval(scores, labels, groups) -> None:
    found = delong_interval(scores, labels, groups)
    compared = delong_test(scores, scores, labels, groups)

    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(compared.p)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scores \[\(1,\), \(2,\)\] and labels \(2,\) must share one shape"):
        delong_test([0.1], [0.1, 0.2], [0, 1])
    with pytest.raises(ValueError, match="there are 1 groups for 2 rows"):
        delong_interval([0.1, 0.2], [0, 1], ["a"])
    with pytest.raises(ValueError, match="level is 95"):
        delong_interval([0.1, 0.2], [0, 1], level=95)
    with pytest.raises(ValueError, match="labels hold"):
        delong_interval([0.1, 0.2], [0, -1])


def test_a_hundred_thousand_rows_are_quick() -> None:
    rng = np.random.default_rng(4)
    labels = (rng.random(100_000) < 0.1).astype(float)
    scores = rng.normal(size=100_000) + labels

    start = time.process_time()
    found = delong_interval(scores, labels, (np.arange(100_000) // 2).tolist())
    assert time.process_time() - start < 5
    assert found.high - found.low < 0.02
