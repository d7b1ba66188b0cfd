"""Label F1 in its variants: worked by hand, and equal to scikit-learn's."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from sklearn.metrics import classification_report, cohen_kappa_score, f1_score

from evaluation.finding_labels import BLANK, LabelTable, label_counts, label_f1
from evaluation.label_classes import class_f1
from reports.labels import label
from reports.schemes import CHEXPERT14

NAMES = ("Edema", "Fracture", "No Finding")
# Edema: hit, then uncertain against present, then present against uncertain; Fracture: denied against unmentioned.
DRAFTED = [
    {"Edema": 1, "Fracture": 0, "No Finding": None},
    {"Edema": -1, "Fracture": None, "No Finding": None},
    {"Edema": 1, "Fracture": 1, "No Finding": None},
    {"Edema": None, "Fracture": None, "No Finding": 1},
]
REFERENCE = [
    {"Edema": 1, "Fracture": None, "No Finding": None},
    {"Edema": 1, "Fracture": None, "No Finding": None},
    {"Edema": -1, "Fracture": None, "No Finding": None},
    {"Edema": None, "Fracture": None, "No Finding": 1},
]
PRED, REF = LabelTable.of(DRAFTED, NAMES), LabelTable.of(REFERENCE, NAMES)


def random_tables(n: int = 300, seed: int = 5) -> tuple[LabelTable, LabelTable]:
    generator = np.random.default_rng(seed)
    first, second = (generator.choice([1, 0, -1, BLANK], (n, 14), p=[0.2, 0.2, 0.1, 0.5]) for _ in range(2))
    first[:, 3], second[:, 3] = BLANK, BLANK  # a label that nobody ever gives
    second[:, 5] = BLANK  # one that is only ever extra
    first[:9], second[:9] = BLANK, BLANK  # reports without any label
    return LabelTable(CHEXPERT14, first.astype(np.int8)), LabelTable(CHEXPERT14, second.astype(np.int8))


def test_what_uncertain_counts_as_changes_the_number() -> None:
    # Positive: Edema 3 hits; Fracture 1 extra; No Finding 1 hit. 2*4 / (2*4 + 1).
    positive = label_f1(PRED, REF, "us")
    assert positive.micro == pytest.approx(8 / 9)
    assert positive.per_label == pytest.approx({"Edema": 1.0, "Fracture": 0.0, "No Finding": 1.0})
    # Negative: Edema 1 hit, 1 missed, 1 extra; Fracture 1 extra; No Finding 1 hit. 2*2 / (2*2 + 2 + 1).
    negative = label_f1(PRED, REF, "us", uncertain="negative")
    assert negative.micro == pytest.approx(4 / 7)
    # Left out: the third Edema is not asked. Edema 1 hit, 1 missed; Fracture 1 extra; No Finding 1 hit.
    out = label_f1(PRED, REF, "us", uncertain="left out")
    assert out.micro == pytest.approx(4 / 6)
    counts = label_counts(PRED, REF, "us", "left out")
    assert (counts.precision("micro"), counts.recall("micro")) == pytest.approx((2 / 3, 2 / 3))
    assert counts.extra[2].tolist() == [0, 1, 0]  # the third report's edema is not asked
    assert counts.missed[1].tolist() == [1, 0, 0]  # the second one's is
    assert "uncertain counted as positive" in positive.variant
    assert "uncertain counted as negative" in negative.variant
    assert out.n == 4


def test_no_finding_and_empty_labels_change_the_number() -> None:
    without = label_f1(PRED, REF, "us", no_finding=False)
    assert without.micro == pytest.approx(6 / 7)
    assert set(without.per_label) == {"Edema", "Fracture"}
    assert '2 labels, "No Finding" not included' in without.variant

    only = LabelTable.of([{"Edema": 1, "Fracture": None}], ("Edema", "Fracture"))
    assert label_f1(only, only, "us", empty="0").macro == 0.5
    assert label_f1(only, only, "us", empty="1").macro == 1.0
    assert label_f1(only, only, "us", empty="left out").macro == 1.0
    assert math.isnan(label_f1(only, only, "us", empty="left out").per_label["Fracture"])


def test_example_based_f1_of_reports_without_labels_is_what_was_asked_for() -> None:
    table = LabelTable.of([{"Edema": None}, {"Edema": 1}], ("Edema",))

    assert label_f1(table, table, "us", empty="0").example == 0.5  # CXRMate: fillna(0)
    assert label_f1(table, table, "us", empty="1").example == 1.0


def test_counts_of_a_study_are_averaged_over_its_reports() -> None:
    """Two images of one study, one right and one wrong, weigh as one study that is half right."""
    pred = LabelTable.of([{"Edema": 1}, {"Edema": None}, {"Edema": 1}], ("Edema",))
    ref = LabelTable.of([{"Edema": 1}] * 3, ("Edema",))
    counts = label_counts(pred, ref, "us", "negative")

    averaged = counts.averaged_over(["a", "a", "b"])

    assert averaged.n == 2
    assert averaged.hit.ravel().tolist() == [0.5, 1.0]
    assert averaged.missed.ravel().tolist() == [0.5, 0.0]
    assert averaged.f1("micro") == pytest.approx(2 * 1.5 / (2 * 1.5 + 0.5))  # 6/7; by report it is 4/5
    assert counts.f1("micro") == pytest.approx(4 / 5)
    assert averaged.f1("example") == pytest.approx((1 / 1.5 + 1) / 2)
    assert "averaged over the reports of a study" in averaged.variant


@pytest.mark.parametrize("uncertain", ["positive", "negative"])
@pytest.mark.parametrize("no_finding", [True, False])
@pytest.mark.parametrize("empty", ["0", "1"])
def test_averages_are_those_of_scikit_learn(uncertain: str, no_finding: bool, empty: str) -> None:
    pred, ref = random_tables()
    found = label_f1(pred, ref, "a seed", uncertain, no_finding, empty)  # type: ignore[arg-type]

    kept = [k for k, name in enumerate(CHEXPERT14) if no_finding or name != "No Finding"]
    said, true = (
        np.isin(table.codes[:, kept], [1, -1] if uncertain == "positive" else [1]).astype(int) for table in (pred, ref)
    )
    report = classification_report(true, said, output_dict=True, zero_division=float(empty))
    for ours, theirs in (("micro", "micro"), ("macro", "macro"), ("weighted", "weighted"), ("example", "samples")):
        assert getattr(found, ours) == pytest.approx(report[f"{theirs} avg"]["f1-score"], abs=1e-12), ours
    counts = label_counts(pred, ref, "a seed", uncertain, no_finding)  # type: ignore[arg-type]
    for measure in ("precision", "recall"):
        for ours, theirs in (("micro", "micro"), ("macro", "macro"), ("example", "samples")):
            value = getattr(counts, measure)(ours, empty)
            assert value == pytest.approx(report[f"{theirs} avg"][measure], abs=1e-12)


def test_each_class_and_kappa_are_those_of_scikit_learn() -> None:
    pred, ref = random_tables()
    found = class_f1(pred, ref, "a seed")

    for k in range(14):
        said, true = pred.codes[:, k], ref.codes[:, k]
        for which, code in (("positive", 1), ("negation", 0), ("uncertain", -1), ("blank", BLANK)):
            assert getattr(found, which)[k] == pytest.approx(f1_score(true == code, said == code, zero_division=0))
        assert found.mention[k] == pytest.approx(f1_score(true != BLANK, said != BLANK, zero_division=0))
        if k != 3:
            assert found.kappa[k] == pytest.approx(cohen_kappa_score(true, said))
    assert math.isnan(found.kappa[3])  # one class only
    assert found.accuracy == pytest.approx((pred.codes == ref.codes).mean())
    kept = [k for k, name in enumerate(CHEXPERT14) if name != "No Finding"]
    assert found.macro("negation") == pytest.approx(found.negation[kept].mean())
    assert found.macro("uncertain") == pytest.approx(found.uncertain[kept[:-1]].mean())  # nor devices
    assert found.macro("positive") == pytest.approx(found.positive.mean())


def test_classes_worked_by_hand() -> None:
    found = class_f1(PRED, REF, "us")

    # Edema, drafted 1 ? 1 -, reference 1 1 ? -: positive 1 hit of 2 and 2; uncertain 0; mention 3 of 3.
    assert found.positive[0] == 0.5
    assert found.uncertain[0] == 0.0
    assert found.mention[0] == 1.0
    assert found.weighted[0] == pytest.approx((2 * 0.5 + 1 * 0.0) / 3)
    assert found.three_class[0] == pytest.approx(0.25)  # positive and uncertain occur, negation does not
    # Kappa: agreed 2 of 4; by chance (2*2 + 1*1 + 1*1) / 16.
    assert found.kappa[0] == pytest.approx((0.5 - 6 / 16) / (1 - 6 / 16))
    assert found.macro("negation") == 0.0
    assert found.accuracy == pytest.approx(8 / 12)
    # Weights from another table: all positive there.
    given = class_f1(PRED, REF, "us", weighting=LabelTable.of([{"Edema": 1, "Fracture": 1, "No Finding": 1}], NAMES))
    assert given.weighted[0] == 0.5
    assert "weights from a given table" in given.variant


def test_labels_of_our_labeller_fit_in() -> None:
    texts = ["Small left pleural effusion. No pneumothorax.", "Möglich: naïve café. Lungs are clear."]
    table = LabelTable.of([label(text, "chexpert14") for text in texts], CHEXPERT14)

    assert label_f1(table, table, "the rules").micro == 1.0
    assert table.codes[0, CHEXPERT14.index("Pneumothorax")] == 0
    assert label_f1(table, table, "the rules").positives["Pleural Effusion"] == 1.0


def test_empty_one_report_and_nan_have_defined_results() -> None:
    nothing = LabelTable.of([], NAMES)
    assert math.isnan(label_f1(nothing, nothing, "us").example)
    assert label_f1(nothing, nothing, "us").micro == 0.0
    assert label_f1(nothing, nothing, "us").n == 0
    one = LabelTable.of([{"Edema": math.nan, "Fracture": 1.0, "No Finding": None}], NAMES)
    assert one.codes.tolist() == [[BLANK, 1, BLANK]]
    assert label_f1(one, one, "us").micro == 1.0
    assert math.isnan(class_f1(nothing, nothing, "us").accuracy)


def test_wrong_labels_are_refused_with_their_place() -> None:
    with pytest.raises(ValueError, match=r'report 1 has the label 2 for "Edema", expected 1 \(present\), 0 \(absent\)'):
        LabelTable.of([{"Edema": 1}, {"Edema": 2}], ["Edema"])
    with pytest.raises(ValueError, match='report 0 has no label "Fracture", expected one for each of 2 names'):
        LabelTable.of([{"Edema": 1}], ["Edema", "Fracture"])
    with pytest.raises(ValueError, match="have different labels"):
        label_f1(PRED, REF.without("Edema"), "us")
    with pytest.raises(ValueError, match="there are 4 drafts and 3 references"):
        label_f1(PRED, LabelTable.of(REFERENCE[:3], NAMES), "us")
    with pytest.raises(ValueError, match='uncertain is "maybe", expected one of positive'):
        label_f1(PRED, REF, "us", uncertain="maybe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there are 1 groups and 4 reports"):
        label_counts(PRED, REF, "us").averaged_over(["a"])


def test_a_hundred_thousand_reports_take_seconds() -> None:
    generator = np.random.default_rng(0)
    codes = generator.choice(np.array([1, 0, -1, BLANK], np.int8), (100_000, 14))
    table = LabelTable(CHEXPERT14, codes)

    start = time.perf_counter()
    found = label_f1(table, table, "a seed")

    assert found.micro == 1.0
    assert time.perf_counter() - start < 5
