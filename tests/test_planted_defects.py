"""Planted defects: each raises its own flag and no other, and a clean evaluation raises none."""

from __future__ import annotations

import json
from collections import Counter
from html import escape

import pytest

from evaluation.evidence import CHECKS, examine
from evaluation.page import page
from evaluation.planted import DEFECTS, clean
from evaluation.scorecard import ScoreCard

SEEDS = 20


def test_twenty_clean_evaluations_raise_no_flag_and_every_check_is_made() -> None:
    """Each check may err once in a hundred at the edge of its margin: over 20 seeds and 11 checks at most about 2."""
    raised: Counter[str] = Counter()
    for seed in range(SEEDS):
        found = examine(clean(seed))
        raised.update(flag.name for flag in found.flags)
        assert [check.name for check in found.checks] == [name for name, *_ in CHECKS]
        assert not [check for check in found.checks if check.state == "not possible"]
    assert raised == {}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_raises_its_flag_and_no_other(defect: str) -> None:
    name, plant = DEFECTS[defect]
    for seed in (1, 2):
        found = examine(plant(seed, 400))
        assert [flag.name for flag in found.flags] == [name], [flag.found for flag in found.flags]
        flag = found.flags[0]
        assert flag.numbers["n"] > 0 or "of" in flag.found
        assert sum(check.state == "flagged" for check in found.checks) == 1


def test_a_shortcut_is_told_with_what_is_left_without_it() -> None:
    flag = examine(DEFECTS["a score that follows the tube"][1](1, 400)).flags[0]
    assert "pneumothorax follows tube" in flag.found
    assert flag.numbers["with"] > flag.numbers["conditional"] > flag.numbers["against"]
    assert flag.numbers["alone"] > 0.6


def test_a_gap_names_its_group_and_both_sides_with_n() -> None:
    flag = examine(DEFECTS["a quarter of the signal at one of three sites"][1](1, 400)).flags[0]
    assert "site C" in flag.found
    assert flag.found.count("n=") >= 2
    assert flag.numbers["rest"] - flag.numbers["group"] == pytest.approx(flag.numbers["loss"])
    assert flag.numbers["low"] > 0.05


@pytest.mark.parametrize("defect", ["one patient in training and test", "left and right exchanged"])
def test_a_flag_and_its_checks_stand_on_the_card(defect: str) -> None:
    found = examine(DEFECTS[defect][1](1, 400))
    card = ScoreCard("a card", "simulated studies", True, (), flags=found.flags, checks=found.checks)
    told = json.loads(card.to_json())
    assert [flag["name"] for flag in told["flags"]] == [DEFECTS[defect][0]]
    assert len(told["checks"]) == len(CHECKS)
    drawn = page(card)
    assert escape(found.flags[0].found) in drawn
    assert escape(found.flags[0].do) in drawn
