"""What is wrong in a draft: findings, sides, and the sentences that say so."""

from __future__ import annotations

from evaluation.case_errors import Errors, body, errors_of, marked, missed_in

NAMES = ("pleural effusion", "pneumothorax", "cardiomegaly")


def test_missed_invented_and_swapped_are_told_apart() -> None:
    said = {"pleural effusion": {"right"}, "cardiomegaly": set(), "rib fracture": {"left"}}
    true = {"pleural effusion": {"left"}, "pneumothorax": {"left"}}
    found = errors_of(said, true, NAMES)  # rib fracture is not asked about
    assert found == Errors(("pneumothorax",), ("cardiomegaly",), ("pleural effusion",))
    assert found.count == 3


def test_a_side_that_one_of_them_does_not_say_or_that_both_share_is_not_wrong() -> None:
    for said, true in (({"left"}, set()), (set(), {"left"}), ({"left", "right"}, {"left"})):
        assert not errors_of({"pneumothorax": said}, {"pneumothorax": true}, NAMES).count


def test_sentences_that_state_deny_or_hold_the_error_are_marked() -> None:
    wrong = Errors(("pneumothorax",), ("cardiomegaly",), ())
    draft = "FINDINGS: The heart is enlarged. No pneumothorax. No pleural effusion. IMPRESSION: Cardiomegaly."
    rows = dict(marked(draft, wrong))
    assert rows["The heart is enlarged."] == rows["Cardiomegaly."] == "cardiomegaly"
    assert rows["No pneumothorax."] == "pneumothorax"  # denied although it is there
    assert rows["No pleural effusion."] == ""
    reference = dict(missed_in("FINDINGS: Left pneumothorax. Normal heart.", wrong))
    assert reference == {"Left pneumothorax.": "pneumothorax", "Normal heart.": ""}


def test_a_text_without_sections_is_read_whole_and_an_empty_one_is_empty() -> None:
    assert body("Left pneumothorax. Clear otherwise.") == ("Left pneumothorax.", "Clear otherwise.")
    assert body("") == ()
