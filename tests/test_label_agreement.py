from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.label_agreement import label_agreement
from reports.certainty import hedge_of


def table(*columns: list[int]) -> np.ndarray:
    return np.array(columns, dtype=bool).T


def test_counts_precision_recall_and_f1_by_hand() -> None:
    gold = table([1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0])
    read = table([1, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0])
    scores = label_agreement(read, gold, ["a", "b", "c"], resamples=50)
    one = scores.labels["a"]
    assert (one.hit, one.extra, one.missed) == (2, 1, 1)
    assert one.precision.value == pytest.approx(2 / 3)
    assert one.recall.value == pytest.approx(2 / 3)
    assert scores.labels["b"].f1.value == 0
    assert math.isnan(scores.labels["b"].recall.value)
    assert scores.micro.value == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    assert scores.macro.value == pytest.approx((2 / 3 + 0) / 2)  # nobody has b
    assert one.f1.low <= one.f1.value <= one.f1.high


def test_intervals_resample_patients_where_they_are_known() -> None:
    generator = np.random.default_rng(0)
    gold = np.repeat(generator.random((40, 1)) < 0.5, 10, axis=0)
    read = gold ^ np.repeat(generator.random((40, 1)) < 0.2, 10, axis=0)
    reports = label_agreement(read, gold, ["a"], resamples=200).labels["a"].f1
    patients = label_agreement(read, gold, ["a"], np.repeat(np.arange(40), 10).tolist(), 200).labels["a"].f1
    assert reports.value == patients.value
    assert patients.high - patients.low > 2 * (reports.high - reports.low)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2, 1\) and \(2, 1\), expected both \(reports, 2\)"):
        label_agreement(np.zeros((2, 1), bool), np.zeros((2, 1), bool), ["a", "b"])
    with pytest.raises(ValueError, match="with a report"):
        label_agreement(np.zeros((0, 1), bool), np.zeros((0, 1), bool), ["a"])


@pytest.mark.parametrize(
    ("clause", "hedge"),
    [
        ("probable small effusion", "probable"),
        ("most likely atelectasis", "probable"),
        ("highly suspicious for malignancy", "probable"),
        ("favoring atelectasis over pneumonia", "probable"),
        ("atelectasis versus scar", "alternative"),
        ("atelectasis and/or infiltrate", "alternative"),
        ("may represent atelectasis versus scar", "possible"),
        ("probable effusion or possible thickening", "possible"),
        ("unlikely to be pneumonia", "possible"),
        ("less likely pneumonia", "possible"),
        ("suggestive of edema", "possible"),
        ("effusion?", "possible"),
        ("blunting of the angle", "possible"),
    ],
)
def test_a_hedge_has_a_strength(clause: str, hedge: str) -> None:
    assert hedge_of(clause) == hedge
