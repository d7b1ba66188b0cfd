"""Measures on a test set whose numbers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medvlm.data import Example
from medvlm.measures import above_baseline
from medvlm.testset import TestSet

NAMES = ("pleural effusion", "cardiomegaly", "lung nodule")


def hospital(labels: np.ndarray, severities: list[str | None]) -> TestSet:
    """A test set of one study for each patient, without images."""
    examples = tuple(Example(f"2.25.{n}", f"patient {n}", f"2.25.{n}.1", (), "PA", "", ()) for n in range(len(labels)))
    truth = tuple(
        {"findings": [] if severity is None else [{"name": "pleural effusion", "severity": severity}]}
        for severity in severities
    )
    return TestSet(examples, np.zeros((len(labels), 1, 2, 2)), NAMES, labels, truth, "six patients", True)


def test_the_gain_over_a_baseline_is_the_difference_of_two_aurocs_on_the_same_studies() -> None:
    labels = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=float)
    test = hospital(labels, ["severe", "severe", "tiny", None, None, None])
    odds = np.array([[3, 0, 9], [2, 0, 1], [1, 0, 8], [0, 0, 2], [-1, 0, 7], [-2, 0, 0]], dtype=float)
    baseline = odds.copy()
    baseline[:, 2] *= -1  # the nodules all wrong
    baseline[2, 0] = -1.5  # the tiny effusion below two of the three studies without one
    found = {m.name: m for m in above_baseline(odds, baseline, test, "over")}
    assert set(found) == {"over.focal", "over.pleural effusion", "over.lung nodule", "over.small pleural effusion"}
    assert found["over.lung nodule"].value == pytest.approx(1.0)
    assert found["over.pleural effusion"].value == pytest.approx(1 - 7 / 9)
    assert found["over.small pleural effusion"].value == pytest.approx(1 - 1 / 3)
    assert found["over.small pleural effusion"].n == 4
    assert found["over.focal"].value == pytest.approx((1.0 + 2 / 9) / 2)
    assert found["over.lung nodule"].low == pytest.approx(1.0)
