"""Many findings with missing labels: a missing label takes out its own cell and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics

from evaluation.multilabel import call_table, choose_thresholds, micro_auroc, multilabel_scores

NAMES = ["edema", "mass", "hernia"]


def table(seed: int, rows: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((rows, 3)) < [0.5, 0.2, 0.05]).astype(float)
    return labels + rng.normal(size=(rows, 3)), labels


@pytest.mark.parametrize("zero_division", [0.0, 1.0])
def test_complete_tables_agree_with_scikit_learn(zero_division: float) -> None:
    scores, labels = table(1)
    labels[:, 2], calls = 0, (scores > 0.6).astype(float)
    calls[:, 2] = 0
    found = multilabel_scores(calls, labels, NAMES, zero_division)

    for ours, average in ((found.micro, "micro"), (found.macro, "macro"), (found.weighted, "weighted")):
        assert ours == pytest.approx(metrics.f1_score(labels, calls, average=average, zero_division=zero_division))
    assert found.example == pytest.approx(
        metrics.f1_score(labels, calls, average="samples", zero_division=zero_division)
    )
    assert found.subset == pytest.approx(metrics.accuracy_score(labels, calls))
    assert found.hamming == pytest.approx(metrics.hamming_loss(labels, calls))
    assert found.undefined == ("hernia",)


def test_a_missing_label_takes_out_its_own_cell() -> None:
    labels = np.array([[1, 0, math.nan], [0, math.nan, 1], [math.nan, math.nan, math.nan]])
    calls = np.array([[1, 1, 1], [0, 1, 1], [1, 1, 1]])

    found = multilabel_scores(calls, labels, NAMES)

    assert (found.n, found.cells) == (2, 4)
    assert found.per_label["edema"] == 1.0
    assert found.per_label["mass"] == 0.0
    assert found.micro == pytest.approx(4 / 5)  # two hits, one false call
    assert (found.subset, found.hamming) == (0.5, 0.25)
    assert found.example == pytest.approx((2 / 3 + 1) / 2)


def test_a_finding_that_never_occurs_is_dropped_and_named() -> None:
    found = multilabel_scores([[1, 0], [0, 0]], [[1, 0], [1, 0]], ["edema", "hernia"])

    assert found.macro == found.per_label["edema"] == pytest.approx(2 / 3)
    assert math.isnan(found.per_label["hernia"])
    assert found.variant() == "2 findings, 4 known labels; without calls or positives: hernia"


def test_thresholds_come_from_validation_and_are_applied_to_the_test() -> None:
    scores, labels = table(2, 400)
    labels[:, 2] = 0
    chosen, left = choose_thresholds(scores, labels, NAMES)

    assert left == ("hernia",)
    assert chosen["edema"].split == "validation"
    calls = call_table(table(3)[0][:, :2], chosen, NAMES[:2])
    assert multilabel_scores(calls, table(3)[1][:, :2], NAMES[:2]).macro > 0.4
    with pytest.raises(KeyError, match=r"no threshold for \['hernia'\]"):
        call_table(scores, chosen, NAMES)
    with pytest.raises(ValueError, match="chosen on test studies flatters"):
        choose_thresholds(scores, labels, NAMES, split="test")


def test_pooled_ranking_is_another_number_than_the_mean() -> None:
    labels = np.array([[1, 0], [1, 0], [0, 0], [1, 1]])
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.1], [0.8, 0.3]])

    assert micro_auroc(scores, labels, ["a", "b"]) == pytest.approx(
        metrics.roc_auc_score(labels.ravel(), scores.ravel())
    )


def test_empty_and_wrong_tables() -> None:
    nothing = multilabel_scores(np.empty((0, 2)), np.empty((0, 2)), ["a", "b"])

    assert nothing.n == nothing.cells == 0
    assert all(math.isnan(v) for v in (nothing.micro, nothing.macro, nothing.example, nothing.subset, nothing.hamming))
    with pytest.raises(ValueError, match="1 calls are nan where the label is known"):
        multilabel_scores([[math.nan]], [[1]], ["a"])
    with pytest.raises(ValueError, match="hold one name twice"):
        multilabel_scores([[1, 0]], [[1, 0]], ["a", "a"])
    with pytest.raises(ValueError, match=r"labels hold \[0.5\]"):
        multilabel_scores([[0.5]], [[1]], ["a"])
