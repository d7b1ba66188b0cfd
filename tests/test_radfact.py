"""RadFact's shares on judged phrases, by hand, and in the numbers of its own test."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from evaluation.radfact import Phrase, one_way, radfact, read_judgements

HERE, THERE = (0.1, 0.1, 0.2, 0.2), (0.3, 0.3, 0.4, 0.4)


def test_one_report_by_hand() -> None:
    phrases = [
        Phrase(True),
        Phrase(True, (HERE,), (HERE,)),
        Phrase(True, (THERE,), (HERE,)),
        Phrase(False),
        Phrase(False, (HERE,)),
    ]
    found = one_way(phrases)

    assert (found.entailed, found.spatial, found.grounding) == pytest.approx((3 / 5, 1 / 3, 1 / 2))
    assert (found.phrases, found.boxed) == (5, 3)


def test_a_pair_in_the_numbers_of_the_original_s_test() -> None:
    """Generated: a dog with two boxes of which the reference has one; a bird without a box where the reference has."""
    last = (0.5, 0.5, 0.6, 0.6)
    generated = [
        Phrase(True, (HERE,), (HERE,)),
        Phrase(True, (THERE, last), (THERE,)),
        Phrase(True, None, (last,)),
        Phrase(False),
    ]
    reference = [
        Phrase(True, (HERE,), (HERE,)),
        Phrase(True, (THERE,), (THERE, last)),
        Phrase(True, (last,), ()),
        Phrase(False),
    ]
    found = radfact([generated], [reference], "a judge")

    assert found.logical_f1 == 0.75
    assert (found.spatial_precision, found.grounding_precision) == (0.5, 0.5)
    assert (found.spatial_recall, found.grounding_recall) == pytest.approx((2 / 3, 2 / 3))
    assert found.spatial_f1 == pytest.approx(0.5714285714285715)
    assert found.name == "RadFact arithmetic on judgements by a judge"
    assert (found.n, found.invalid) == (1, 0)


@pytest.mark.parametrize(
    ("boxes", "evidence", "there"),
    [
        (((0.0, 0.0, 0.5, 0.5),), ((0.0, 0.0, 0.25, 0.5),), False),  # exactly half is not more than half
        (((0.0, 0.0, 0.5, 0.5),), ((0.0, 0.0, 0.26, 0.5),), True),
        (((0.0, 0.0, 0.5, 0.5),), ((0.0, 0.0, 1.0, 1.0),), True),  # a box in a wide one: precision, not overlap
        (((0.0, 0.0, 0.5, 0.5),), (), False),
        (((0.5, 0.5, 0.5001, 0.5001),), ((0.0, 0.0, 1.0, 1.0),), False),  # no pixel
        (((0.0, 0.0, 0.5, 0.5), (0.0, 0.0, 0.5, 0.5)), ((0.0, 0.0, 0.3, 0.5),), True),  # the union counts once
    ],
)
def test_a_place_is_entailed_by_more_than_half_of_its_pixels(
    boxes: tuple[tuple[float, float, float, float], ...],
    evidence: tuple[tuple[float, float, float, float], ...],
    there: bool,
) -> None:
    assert Phrase(True, boxes, evidence).in_place() is there
    assert Phrase(False, boxes, evidence).in_place() is False


def test_means_leave_out_reports_without_phrases_or_boxes_and_say_so() -> None:
    found = radfact(
        [[], [Phrase(True), Phrase(False)], [Phrase(False, (HERE,))], None],
        [[Phrase(False)], [Phrase(True)], [Phrase(True)], [Phrase(True)]],
        "a judge",
    )

    assert found.logical_precision == pytest.approx((1 / 2 + 0) / 2)  # the first generated nothing
    assert found.logical_recall == pytest.approx((0 + 1 + 1) / 3)
    assert found.reports["logical_precision"] == 2
    assert found.reports["logical_recall"] == 3
    assert found.spatial_precision == 0.0
    assert math.isnan(found.grounding_precision)
    assert (found.n, found.invalid) == (3, 1)
    assert found.per_report["logical_recall"].tolist() == [0.0, 1.0, 1.0]


def test_f1_of_two_zeros_and_of_nothing_is_undefined() -> None:
    assert math.isnan(radfact([[Phrase(False)]], [[Phrase(False)]], "x").logical_f1)
    assert math.isnan(radfact([], [], "x").logical_precision)
    with pytest.raises(ValueError, match="there are 1 drafts and 0 references"):
        radfact([[]], [], "x")
    with pytest.raises(ValueError, match="an empty list of boxes, expected None"):
        Phrase(True, ())
    with pytest.raises(ValueError, match=r"the box \(0.1, 0.1, 1.2, 0.2\) is not within the image"):
        Phrase(True, ((0.1, 0.1, 1.2, 0.2),))


def test_judgements_are_read_in_the_original_s_form(tmp_path: Path) -> None:
    box = dict(zip(("x_min", "y_min", "x_max", "y_max"), HERE, strict=True))
    sample = {
        "study_id": "1",
        "scores": {"logical_precision": 1.0},
        "candidate_phrases": [
            {"text": "a", "status": "entailment", "boxes": [box], "evidence": [{"text": "b", "boxes": [box]}]}
        ],
        "reference_phrases": [{"text": "b", "status": "not_entailment", "boxes": None, "evidence": []}],
    }
    failed = {"study_id": "2", "scores": None, "candidate_phrases": [], "reference_phrases": []}
    path = tmp_path / "judged.json"
    path.write_text(json.dumps([sample, failed]))

    generated, reference = read_judgements(path)

    assert generated == [[Phrase(True, (HERE,), (HERE,))], None]
    assert reference == [[Phrase(False)], None]
    path.write_text(json.dumps([sample, {"candidate_phrases": [{"text": "no status"}], "reference_phrases": []}]))
    with pytest.raises(ValueError, match=r"judged\.json, entry 1: KeyError\('status'\)"):
        read_judgements(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="holds a dict, expected a list of per-sample results"):
        read_judgements(path)
    path.write_text("[")
    with pytest.raises(ValueError, match=r"judged\.json is not JSON"):
        read_judgements(path)
