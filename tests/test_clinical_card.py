"""Clinical numbers with intervals: values by hand, n and what each rests on."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from evaluation.clinical_card import clinical_metrics, label_metrics
from evaluation.finding_labels import BLANK, LabelTable
from evaluation.scorecard import Metric
from reports.findings import find
from reports.labels import label
from reports.schemes import CHEXPERT14

DRAFTS = [
    "Small left pleural effusion, increased since the prior exam. 8 mm nodule in the right upper lobe.",
    "Large right pneumothorax. Cardiomegaly.",
    "No pneumothorax.",
    "Unchanged left pleural effusion.",
]
REFERENCES = [
    "Moderate right pleural effusion, increased since the prior exam. 5 mm nodule in the right upper lobe.",
    "Large right pneumothorax.",
    "Edema. No pneumothorax.",
    "New left pleural effusion. No pneumothorax.",
]
PATIENTS = ["a", "b", "c", "c"]


def measured(**more: object) -> dict[str, Metric]:
    drafted, reference = ([find(text) for text in texts] for texts in (DRAFTS, REFERENCES))
    found = clinical_metrics("draft", drafted, reference, PATIENTS, "made up", "our rules", **more)  # type: ignore[arg-type]
    return {metric.name: metric for metric in found}


def test_values_by_hand() -> None:
    found = measured(texts=DRAFTS, has_prior=[True, False, False, False])

    # drafted: effusion, nodule; pneumothorax, cardiomegaly; -; effusion. reference: the same less cardiomegaly, edema.
    assert found["draft.finding_f1.micro"].value == pytest.approx(2 * 4 / (5 + 5))
    assert found["draft.hallucination_rate"].value == pytest.approx(1 / 5)
    assert found["draft.omission_rate"].value == pytest.approx(1 / 5)
    assert found["draft.contradiction_rate"].value == 0.0
    assert found["draft.laterality_error"].value == pytest.approx(1 / 4)
    assert found["draft.size_error_mm"].value == pytest.approx(3.0)
    assert found["draft.change_accuracy"].value == pytest.approx(1 / 2)
    assert found["draft.severity_accuracy"].value == pytest.approx(1 / 2)
    assert found["draft.location_accuracy"].value == 1.0
    assert found["draft.prior_mention_rate"].value == pytest.approx(2 / 4)
    assert found["draft.invented_prior_rate"].value == pytest.approx(1 / 3)
    assert found["draft.prior_mention_rate"].n == 4
    assert found["draft.invented_prior_rate"].n == 3
    assert {"draft.graph_f1.simple", "draft.graph_f1.partial", "draft.graph_f1.complete"} <= set(found)


def test_every_number_says_what_it_rests_on() -> None:
    found = measured()

    assert found["draft.finding_f1.micro"].n == found["draft.omission_rate"].n == 4  # reports
    assert found["draft.size_error_mm"].n == 1  # findings
    assert found["draft.size_error_mm"].variant.startswith("over 1 findings with a size in both")
    assert math.isnan(found["draft.size_error_mm"].low)  # one patient says nothing about the next
    assert found["draft.contradiction_rate"].n == 5
    assert "facts by our rules; uncertain counted as absent" in found["draft.finding_f1.macro"].variant
    assert "95% bootstrap over 3 patients" in found["draft.omission_rate"].variant
    assert found["draft.omission_rate"].low <= found["draft.omission_rate"].value <= found["draft.omission_rate"].high
    assert "draft.prior_mention_rate" not in found


def test_findings_that_do_not_count_are_left_out_and_nothing_is_nan() -> None:
    found = measured(names=["pulmonary edema", "pneumothorax"])

    assert found["draft.finding_f1.micro"].value == pytest.approx(2 / 3)
    assert math.isnan(found["draft.size_error_mm"].value)
    assert found["draft.size_error_mm"].variant.startswith("over 0 findings")


def test_a_perfect_draft_is_perfect() -> None:
    facts = [find(text) for text in [*REFERENCES[:3], ""]]  # the empty report has no graph and is no error
    found = {m.name: m.value for m in clinical_metrics("x", facts, facts, PATIENTS, "made up", "our rules")}

    for name in ("finding_f1.micro", "graph_f1.complete", "change_accuracy", "location_accuracy"):
        assert found[f"x.{name}"] == 1.0
    for name in ("hallucination_rate", "omission_rate", "contradiction_rate", "laterality_error", "size_error_mm"):
        assert found[f"x.{name}"] == 0.0


def test_labels_in_four_variants() -> None:
    pred, ref = (LabelTable.of([label(t, "chexpert14") for t in texts], CHEXPERT14) for texts in (DRAFTS, REFERENCES))
    found = {m.name: m for m in label_metrics("draft.chexpert_f1", pred, ref, PATIENTS, "made up", "our rules", 50)}

    assert len(found) == 4 * 3
    metric = found["draft.chexpert_f1.uncertain_negative.without_no_finding.micro"]
    assert metric.variant.startswith("labels by our rules; uncertain counted as negative; 13 labels")
    assert metric.n == 4


def test_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="there are 1 drafts, 2 references and 2 patients"):
        clinical_metrics("x", [()], [(), ()], ["a", "b"], "d", "us")
    with pytest.raises(ValueError, match="texts and has_prior are not as many as the 2 references"):
        clinical_metrics("x", [(), ()], [(), ()], ["a", "b"], "d", "us", texts=["a"])
    with pytest.raises(ValueError, match="there are 0 rows, expected at least one study"):
        clinical_metrics("x", [], [], [], "d", "us")
    table = LabelTable(("Edema",), np.full((2, 1), BLANK, np.int8))
    with pytest.raises(ValueError, match="there are 1 patients and 2 references"):
        label_metrics("x", table, table, ["a"], "d", "us")


@pytest.mark.slow
def test_a_hundred_thousand_reports_are_paired_and_counted_in_bounded_time() -> None:
    drafted = [find(text) for text in DRAFTS] * 25_000
    reference = [find(text) for text in REFERENCES] * 25_000

    start = time.perf_counter()
    found = clinical_metrics("x", drafted, reference, list(range(100_000)), "made up", "our rules", resamples=3)

    assert found[0].n == 100_000
    assert time.perf_counter() - start < 60
