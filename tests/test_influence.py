"""Estimates with influences: equal to the slow definitions, honest where patients repeat, careful where few are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from evaluation.classification import auroc
from evaluation.delong import delong_interval
from evaluation.influence import auroc_estimate, combine, holm_by_name, rate_estimate
from evaluation.score_table import ScoreTable


def drawn(rng: np.random.Generator, people: int, signal: float = 1.2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels and patients of one to three studies each."""
    patient = np.repeat(np.arange(people), rng.integers(1, 4, people))
    label = (rng.random(people) < 0.25)[patient].astype(float)
    score = signal * label + 0.7 * rng.normal(size=people)[patient] + 0.7 * rng.normal(size=len(patient))
    return score, label, patient


def test_the_value_is_the_auroc_and_the_error_that_of_clustered_delong() -> None:
    score, label, patient = drawn(np.random.default_rng(1), 200)
    score = np.round(score, 1)  # with ties
    found = auroc_estimate(score, label, patient, 200)
    assert found.value == pytest.approx(auroc(score, label), abs=1e-12)
    other = delong_interval(score, label, patient.tolist(), on_logit=False)
    assert found.bounds() == pytest.approx((other.low, other.high), abs=0.004)  # other degrees of freedom
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)


def test_intervals_hold_their_level_where_patients_repeat_and_rows_alone_do_not() -> None:
    rng = np.random.default_rng(2)
    truth = float(norm.cdf(1.2 / np.sqrt(2 * (0.49 + 0.49))))
    held = naive = 0
    for _ in range(300):
        score, label, patient = drawn(rng, 120)
        low, high = auroc_estimate(score, label, patient, 120).bounds()
        held += low <= truth <= high
        low, high = auroc_estimate(score, label, np.arange(len(score)), len(score)).bounds()
        naive += low <= truth <= high
    assert 0.91 <= held / 300 <= 0.98
    assert naive / 300 < 0.90


def test_a_perfect_ranking_of_few_is_not_certain() -> None:
    score, label = np.arange(20.0), np.repeat([0.0, 1.0], 10)
    found = auroc_estimate(score, label, np.arange(20), 20)
    assert found.value == 1
    assert 0.75 < found.bounds()[0] < 0.95


@pytest.mark.parametrize("hits", [0, 1])
def test_a_share_of_nobody_or_everybody_is_not_certain(hits: int) -> None:
    found = rate_estimate(np.full(20, float(hits)), np.arange(20), 20)
    low, high = found.bounds()
    assert high - low > 0.1
    assert found.n == found.smallest == 20


def test_what_two_estimates_share_cancels() -> None:
    score, label, patient = drawn(np.random.default_rng(3), 150)
    rng = np.random.default_rng(4)
    one, two = (auroc_estimate(score + 0.05 * rng.normal(size=score.size), label, patient, 150) for _ in range(2))
    gain = one - two
    assert gain.error < one.error
    assert gain.n == one.n
    same = one - one
    assert same.bounds() == (0, 0)
    assert same.p_above(0) == same.p_below(0) == 1
    assert same.p_above(-0.1) == 0
    assert one.minus_apart(two).n == 2 * one.n


def test_one_class_one_patient_and_no_value_have_defined_results() -> None:
    single = auroc_estimate([0.1, 0.2], [1, 1], [0, 1], 2)
    assert np.isnan(single.value)
    assert np.isnan(single.error)
    assert single.p_above(0) == single.p_below(1) == 1
    lonely = auroc_estimate([0.1, 0.2], [0, 1], [0, 0], 1)
    assert lonely.value == 1
    assert np.isnan(lonely.bounds()).all()
    assert rate_estimate([np.nan], [0], 1).n == 0
    with pytest.raises(ValueError, match="0 estimates, expected at least 1"):
        combine([])


def test_holm_by_hand() -> None:
    assert holm_by_name({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm_by_name({}) == {}


def test_a_table_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"1 scores are not finite, the first in row 1 of 'b'"):
        ScoreTable.of(["a", "b"], [[0, 1], [1, np.nan]], [[0, 1], [1, 0]], ["p", "q"])
    assert ScoreTable.of(["a"], [[0], [np.nan]], [[0], [np.nan]], ["p", "q"]).n == 2
    with pytest.raises(ValueError, match="there are 0 rows"):
        ScoreTable.of(["a"], np.empty((0, 1)), np.empty((0, 1)), [])
    with pytest.raises(ValueError, match=r"row 1 has no patient"):
        ScoreTable.of(["a"], [[0], [1]], [[0], [1]], ["p", None])
    table = ScoreTable.of(["a"], [[0], [1]], [[0], [1]], ["p", "q"])
    with pytest.raises(ValueError, match=r"blank have shape \(1, 2\), expected \(2, 1\)"):
        table.with_scores([[1, 2]], "blank")
