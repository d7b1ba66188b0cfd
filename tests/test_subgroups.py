"""Groups: a planted gap is found with its sign and size, and is never a difference in which findings a group has."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.classification import auroc
from evaluation.intervals import Interval
from evaluation.robustness import Condition, robustness_metrics
from evaluation.score_metrics import Labelled, call_metrics, exact_at_the_end
from evaluation.subgroups import age_band, draft_subgroup_metrics, group_masks, subgroup_metrics, worst_group

NAMES = ("effusion", "nodule")


def studies(n: int = 400, bad: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str], list[int]]:
    """Scores, labels, sexes and patients; scores of women lose `bad` of their signal."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 2)) < 0.4).astype(float)
    sex = ["female" if k % 2 else "male" for k in range(n)]
    signal = np.where(np.array(sex) == "female", 2.0 - bad, 2.0)[:, None]
    return labels * signal + rng.normal(size=(n, 2)), labels, sex, [k // 2 * 2 + k % 2 for k in range(n)]


def test_a_planted_gap_is_found_and_the_group_is_named() -> None:
    scores, labels, sex, patients = studies(bad=1.8)
    metrics = subgroup_metrics(scores, labels, NAMES, {"sex": sex}, patients, "test")
    found = {metric.name: metric for metric in metrics}
    rows = np.array(sex) == "female"
    own = np.mean([auroc(scores[rows, k], labels[rows, k]) for k in range(2)])
    others = np.mean([auroc(scores[~rows, k], labels[~rows, k]) for k in range(2)])
    assert found["subgroup.sex.female.auroc"].value == pytest.approx(own)
    assert found["subgroup.sex.female.gap"].value == pytest.approx(own - others)
    assert found["subgroup.sex.female.gap"].high < 0  # it is no chance
    assert found["subgroup.sex.female.gap"].n == 200
    assert "widened for 2 groups" in found["subgroup.sex.female.gap"].variant
    worst = worst_group(metrics)
    assert worst is not None
    assert worst.name == "subgroup.sex.female.gap"


def test_without_a_gap_the_intervals_hold_zero() -> None:
    misses = 0
    for seed in range(20):
        scores, labels, sex, patients = studies(200, seed=seed)
        gaps = subgroup_metrics(scores, labels, NAMES, {"sex": sex}, patients, "test", resamples=400)
        misses += any(m.low > 0 or m.high < 0 for m in gaps if m.name.endswith(".gap"))
    assert misses <= 4  # 5 % of 20 tables is 1; more than 4 has a chance below 1 in 300


def test_a_finding_that_one_group_lacks_is_left_out_of_the_gap() -> None:
    scores, labels, sex, patients = studies()
    scores[:, 1] = labels[:, 1]  # perfect on nodules, which women do not have
    labels[np.array(sex) == "female", 1] = 0
    metrics = {m.name: m for m in subgroup_metrics(scores, labels, NAMES, {"sex": sex}, patients, "test")}
    assert abs(metrics["subgroup.sex.male.gap"].value) < 0.1  # over effusions alone
    assert "macro over 1 of 2 findings" in metrics["subgroup.sex.male.gap"].variant


def test_small_groups_unknown_values_and_attributes_of_one_group_are_left_out() -> None:
    values = ["a"] * 30 + ["b"] * 30 + ["c"] * 5 + [""] * 10
    assert set(group_masks({"site": values, "view": ["PA"] * 75}, 75)) == {"site.a", "site.b"}
    assert list(group_masks({"scanner": ["v1.2"] * 30 + ["v2"] * 30}, 60)) == ["scanner.v1·2", "scanner.v2"]
    with pytest.raises(ValueError, match="site has 75 values for 80 studies, expected as many"):
        group_masks({"site": values}, 80)
    assert subgroup_metrics(np.zeros((4, 1)), np.zeros((4, 1)), ["x"], {}, [1, 2, 3, 4], "test") == []


def test_groups_of_drafts_are_compared_by_f1() -> None:
    both, said, true = np.array([1] * 40 + [0] * 40), np.ones(80), np.ones(80)
    groups = {"sex": ["male"] * 40 + ["female"] * 40}
    found = {m.name: m for m in draft_subgroup_metrics(both, said, true, groups, list(range(80)), "test", 200)}
    assert found["subgroup.sex.male.finding_f1"].value == 1
    assert found["subgroup.sex.female.gap"].value == -1


@pytest.mark.parametrize(
    ("years", "band"),
    [
        (0.5, "under 18 years"), (17.9, "under 18 years"), (18, "18 to 39 years"), (59.9, "40 to 59 years"),
        (80, "80 years and over"), (None, ""), (float("nan"), ""),
    ],
)  # fmt: skip
def test_age_bands(years: float | None, band: str) -> None:
    assert age_band(years) == band


def test_a_drop_is_paired_and_positive_when_the_input_gets_worse() -> None:
    scores, labels, _, patients = studies()
    noise = np.random.default_rng(1).normal(size=scores.shape)
    conditions = [Condition("dose", 1, "a little", scores), Condition("dose", 2, "a lot", scores + 5 * noise)]
    found = {m.name: m for m in robustness_metrics(scores, conditions, labels, NAMES, patients, "test")}
    assert found["robust.dose.1.drop"].value == found["robust.dose.1.drop"].high == 0  # the same scores: no difference
    assert found["robust.dose.2.drop"].low > 0.1
    whole, spoiled = found["robust.untouched.auroc"], found["robust.dose.2.auroc"]
    assert found["robust.dose.2.drop"].value == pytest.approx(whole.value - spoiled.value)
    assert found["robust.dose.2.drop"].variant.startswith("a lot; untouched minus spoiled")


def test_a_share_of_one_has_the_exact_interval_of_its_patients_not_one_to_one() -> None:
    labels = np.array([[1.0]] * 25 + [[0.0]] * 35)
    calls = labels == 1
    calls[30] = True  # one false alarm
    truth = Labelled(("tube",), labels, list(range(60)), "test")
    found = {m.name: m for m in call_metrics("x", calls, truth, "at 0.5")}
    sure = found["x.sensitivity.tube"]
    assert (sure.value, sure.high, sure.n) == (1.0, 1.0, 25)
    assert sure.low == pytest.approx(0.8628, abs=1e-4)  # Clopper-Pearson for 25 of 25
    assert "95% exact interval over 25 patients" in sure.variant
    assert found["x.specificity.tube"].value == pytest.approx(34 / 35)
    assert found["x.specificity.tube"].n == 35
    assert found["x.f1.micro"].value == pytest.approx(50 / 51)
    never = exact_at_the_end(Interval(0.0, 0.0, 0.0, 10, 10), 10)
    assert (never.low, never.high) == (0.0, pytest.approx(0.3085, abs=1e-4))
    as_it_is = Interval(0.5, 0.4, 0.6, 10, 10)
    assert exact_at_the_end(as_it_is, 10) is as_it_is
