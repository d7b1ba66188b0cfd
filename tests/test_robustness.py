"""The sample and the wordings with which a model's robustness is measured."""

from __future__ import annotations

import numpy as np
import pytest

from medvlm.data import Example
from medvlm.robustness import WORDINGS, sample
from medvlm.testset import TestSet
from reports.findings import find


def studies(n: int, each: int = 3) -> TestSet:
    """A test set of several studies for each patient, without images."""
    examples = tuple(Example(f"2.25.{k}", f"patient {k // each}", "", (), "PA", "", ()) for k in range(n))
    return TestSet(examples, np.zeros((n, 1, 2, 2)), ("x",), np.zeros((n, 1)), (), "test", True)


def test_a_sample_holds_whole_patients_and_is_the_same_every_time() -> None:
    test = studies(90)
    rows = sample(test, 40)
    assert 37 < len(rows) <= 40
    patients = [test.patients[row] for row in rows]
    assert all(patients.count(patient) == 3 for patient in patients)
    assert rows.tolist() == sample(test, 40).tolist() == sorted(rows)
    assert len(sample(test, None)) == len(sample(test, 500)) == 90


@pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: wording.title)
def test_every_wording_states_and_denies_the_finding(wording) -> None:
    for name, side in (("pleural effusion", "bilateral"), ("lung nodule", "left"), ("pulmonary edema", None)):
        pair = wording.ask(name, side)
        (said,), (denied,) = pair.positive, pair.negative
        assert [(fact.name, fact.status, fact.side) for fact in find(said)] == [(name, "present", side)], said
        assert [(fact.name, fact.status) for fact in find(denied)] == [(name, "absent")], denied
        assert "{" not in said + denied
