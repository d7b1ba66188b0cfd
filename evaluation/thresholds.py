"""Calls at a threshold: where to put it, on which split, and what comes out.

A threshold that was chosen on the rows it is judged on makes them look better than new patients will. So a threshold
carries the split that it was chosen on, and choosing on the test split is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from evaluation.labelled import Floats, counts_at_thresholds, labelled_rows

Rule = Literal["f1", "youden", "sensitivity", "specificity"]


@dataclass(frozen=True)
class Threshold:
    """A finding is called present at score >= value. `reached` is the rule's value on the rows it was chosen on.

    `split` names those rows; `target` is the sensitivity or specificity that was asked for, nan for other rules.
    """

    value: float
    rule: Rule
    reached: float
    n: int
    positives: int
    split: str = "validation"
    target: float = math.nan

    def variant(self) -> str:
        """Words for a metric's variant: the rule, the target if there is one, and the rows behind it."""
        aim = "" if math.isnan(self.target) else f" >= {self.target:g}"
        return f"threshold by {self.rule}{aim} on {self.split} (n={self.n}, {self.positives} positive)"


def choose_threshold(
    scores: ArrayLike, labels: ArrayLike, rule: Rule = "youden", split: str = "validation", target: float = math.nan
) -> Threshold:
    """The threshold of a rule, from rows of a split that is not the test.

    "f1": the best F1. "youden": the best sensitivity + specificity - 1. "sensitivity": the best specificity among
    thresholds with at least the target sensitivity. "specificity": the best sensitivity among those with at least the
    target specificity. The threshold lies half-way between two neighbouring scores, so a rounding error does not flip
    the row that sits on it; ties go to the higher threshold.
    Shapes: scores, labels (N,). Source: Youden 1950, doi:10.1002/1097-0142(1950)3:1<32::aid-cncr2820030106>3.0.co;2-3.
    Raises: ValueError as auroc, if only one class is there, for the split "test", or for a target that is missing.
    """
    refuse_test_split(split, "a threshold")
    score, label = labelled_rows(scores, labels)
    positives, negatives = label.sum(), (1 - label).sum()
    if positives == 0 or negatives == 0:
        raise ValueError(
            f"{split} has {positives:.0f} positive and {negatives:.0f} negative rows, expected at least one of each:"
            f" no threshold can be chosen; use more {split} studies or leave this finding out"
        )
    true, called, values = counts_at_thresholds(score, label)
    # The point above every score, where nothing is called, is the only one of specificity 1 when a negative leads.
    true, called = np.append(0.0, true), np.append(0.0, called)
    values = np.append(np.nextafter(values[0], np.inf), values)
    sensitivity, specificity = true / positives, (negatives - called + true) / negatives
    worth, reached = _worth(rule, sensitivity, specificity, 2 * true / (called + positives), target)
    best = int(np.argmax(np.round(worth, 12)))  # argmax takes the first, and thresholds fall: the highest of equals
    below = values[best + 1] if best + 1 < len(values) else values[best]
    middle = float((values[best] + below) / 2)
    value = middle if middle > below else float(values[best])  # neighbours may have no number between them
    return Threshold(value, rule, float(reached[best]), len(label), int(positives), split, target)


def refuse_test_split(split: str, what: str) -> None:
    """Raises: ValueError if the split is called test, whatever the case: `what` must not be fitted there."""
    if split.strip().lower() in ("test", "testing", "held-out test"):
        raise ValueError(
            f'split is "{split}", expected "validation": {what} chosen on test studies flatters the test. Choose it on'
            " validation rows and apply it to the test"
        )


@dataclass(frozen=True)
class Decision:
    """Counts of present/absent calls at one threshold, and the usual ratios (nan where the denominator is 0)."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def n(self) -> int:
        """All rows."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    @property
    def sensitivity(self) -> float:
        """True positives / all present."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """True negatives / all absent."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> float:
        """True positives / all called present; the positive predictive value at this set's prevalence."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def negative_predictive_value(self) -> float:
        """True negatives / all called absent, at this set's prevalence."""
        return _ratio(self.true_negative, self.true_negative + self.false_negative)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def accuracy(self) -> float:
        """Right calls / all rows. At a prevalence of 5% a model that always says no has 0.95."""
        return _ratio(self.true_positive + self.true_negative, self.n)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity; nan with one class."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def matthews(self) -> float:
        """Matthews correlation in [-1, 1]; nan with one class, 0 when all calls are the same."""
        present, absent = self.true_positive + self.false_negative, self.true_negative + self.false_positive
        yes, no = self.true_positive + self.false_positive, self.true_negative + self.false_negative
        if present == 0 or absent == 0:
            return math.nan
        if yes == 0 or no == 0:
            return 0.0
        agreement = self.true_positive * self.true_negative - self.false_positive * self.false_negative
        return agreement / math.sqrt(float(present) * absent * yes * no)


def decide(scores: ArrayLike, labels: ArrayLike, threshold: float | Threshold) -> Decision:
    """Count calls at score >= threshold. Shapes: scores, labels (N,).

    Raises: as auroc, and ValueError for a threshold that is nan.
    """
    score, label = labelled_rows(scores, labels)
    value = threshold.value if isinstance(threshold, Threshold) else float(threshold)
    if math.isnan(value):
        raise ValueError("threshold is nan, expected a number: no row can be called with it")
    called = score >= value
    present = label == 1
    return Decision(
        int((called & present).sum()),
        int((called & ~present).sum()),
        int((~called & present).sum()),
        int((~called & ~present).sum()),
    )


def sensitivity_on_own_curve(scores: ArrayLike, labels: ArrayLike, specificity: float) -> float:
    """The highest sensitivity among all thresholds with at least that specificity, on these very rows.

    The reading of torchmetrics' BinarySensitivityAtSpecificity. The threshold is the best of these rows, so on a test
    set the number is optimistic: name it "own curve". The honest number is decide(test rows,
    choose_threshold(validation rows, "specificity", target=...)). Shapes: (N,). nan with one class. Raises: as auroc; a
    target outside [0, 1].
    """
    return _on_own_curve(scores, labels, specificity, "specificity")


def specificity_on_own_curve(scores: ArrayLike, labels: ArrayLike, sensitivity: float) -> float:
    """The highest specificity among all thresholds with at least that sensitivity; see sensitivity_on_own_curve."""
    return _on_own_curve(scores, labels, sensitivity, "sensitivity")


def _on_own_curve(
    scores: ArrayLike, labels: ArrayLike, target: float, held: Literal["sensitivity", "specificity"]
) -> float:
    score, label = labelled_rows(scores, labels)
    positives, negatives = label.sum(), (1 - label).sum()
    _check_target(held, target)
    if positives == 0 or negatives == 0:
        return math.nan
    true, called, _ = counts_at_thresholds(score, label)
    true, called = np.append(0.0, true), np.append(0.0, called)
    sensitivity, specificity = true / positives, (negatives - called + true) / negatives
    fixed, free = (specificity, sensitivity) if held == "specificity" else (sensitivity, specificity)
    return float(free[fixed >= target - 1e-12].max())


def _worth(rule: Rule, sensitivity: Floats, specificity: Floats, f1: Floats, target: float) -> tuple[Floats, Floats]:
    """(what is maximised, what is reported as reached) at every threshold."""
    if rule == "f1":
        return f1, f1
    if rule == "youden":
        return sensitivity + specificity - 1, sensitivity + specificity - 1
    if rule not in ("sensitivity", "specificity"):
        raise ValueError(f"rule is {rule!r}, expected f1, youden, sensitivity or specificity")
    _check_target(rule, target)
    fixed, free = (sensitivity, specificity) if rule == "sensitivity" else (specificity, sensitivity)
    return np.where(fixed >= target - 1e-12, free, -np.inf), fixed


def _check_target(rule: str, target: float) -> None:
    if not 0 <= target <= 1:  # nan is not
        raise ValueError(f"target {rule} is {target}, expected a share from 0 to 1")


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
