"""What a report settles about a statement: a table of truth, side by side."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medvlm.statements import (
    ABSENT_FORMS,
    PRESENT_FORMS,
    ReportFacts,
    Statement,
    concept_statements,
    concepts,
)
from reports.findings import Finding, find
from reports.grammar import prompts

NAN = math.nan
YES, NO = "present", "absent"


def fact(status: str, side: str | None = None, location: str | None = None, name: str = "effusion") -> Finding:
    return Finding(name, status, side=side, location=location)  # type: ignore[arg-type]


# What the report states, what is asked, whether it is true.
TABLE = [
    ([fact(YES)], fact(YES), 1),
    ([fact(YES)], fact(NO), 0),
    ([fact(NO)], fact(YES), 0),
    ([fact(NO)], fact(NO), 1),
    # sides
    ([fact(YES, "left")], fact(YES), 1),
    ([fact(YES, "left")], fact(YES, "left"), 1),
    ([fact(YES, "left")], fact(YES, "right"), 0),
    ([fact(YES, "left")], fact(YES, "bilateral"), 0),
    ([fact(YES, "left")], fact(NO), 0),
    ([fact(YES)], fact(YES, "left"), NAN),
    ([fact(YES)], fact(YES, "bilateral"), NAN),
    ([fact(NO)], fact(YES, "left"), 0),
    # both sides
    ([fact(YES, "bilateral")], fact(YES), 1),
    ([fact(YES, "bilateral")], fact(YES, "left"), 1),
    ([fact(YES, "bilateral")], fact(YES, "right"), 1),
    ([fact(YES, "bilateral")], fact(YES, "bilateral"), 1),
    ([fact(YES, "left"), fact(YES, "right")], fact(YES, "right"), 1),
    ([fact(YES, "left"), fact(YES, "right")], fact(YES, "bilateral"), 1),
    ([fact(YES, "left"), fact(NO, "right")], fact(YES, "left"), 1),
    ([fact(YES, "left"), fact(NO, "right")], fact(YES, "right"), 0),
    ([fact(YES, "left"), fact(NO, "right")], fact(NO, "right"), 1),
    ([fact(YES, "left"), fact(NO, "right")], fact(NO, "left"), 0),
    ([fact(NO, "right")], fact(NO, "right"), 1),
    ([fact(NO, "right")], fact(YES, "right"), 0),
    ([fact(YES, "left"), fact(YES)], fact(YES, "right"), 0),  # the impression repeats the effusion, not its side
    ([fact(NO, "left"), fact(NO, "right")], fact(NO, "bilateral"), 1),
    ([fact(YES, "left")], fact(NO, "bilateral"), 0),
    # locations
    ([fact(YES, "left", "lower lobe")], fact(YES, "left", "lower lobe"), 1),
    ([fact(YES, "left", "lower lobe")], fact(YES, "left"), 1),
    ([fact(YES, "left", "lower lobe")], fact(YES, "left", "upper lobe"), 0),
    ([fact(YES, "left", "lower lobe")], fact(YES, "right", "lower lobe"), 0),
    ([fact(YES, "left")], fact(YES, "left", "lower lobe"), NAN),
    ([fact(YES, None, "lower lobe")], fact(YES, "left", "upper lobe"), 0),  # wherever it lies, not there
    ([fact(YES, "bilateral", "lower lobe")], fact(YES, "left", "lower lobe"), 1),
    ([fact(YES, "left", "upper lobe"), fact(YES, "right", "lower lobe")], fact(YES, "left", "lower lobe"), 0),
    # uncertain
    ([fact("uncertain")], fact(YES), NAN),
    ([fact("uncertain")], fact(NO), NAN),
    ([fact("uncertain")], fact("uncertain"), NAN),
    ([fact(YES)], fact("uncertain"), NAN),
    ([fact("uncertain"), fact(YES)], fact(YES), 1),
    ([fact("uncertain"), fact(YES)], fact(NO), 0),
    ([fact("uncertain"), fact(NO)], fact(YES), NAN),
    ([fact("uncertain", "right"), fact(YES, "left")], fact(YES, "left"), 1),
    ([fact("uncertain", "right"), fact(YES, "left")], fact(YES, "right"), NAN),
    # never mentioned: absent, as radiologists name what they see
    ([], fact(YES), 0),
    ([], fact(YES, "left"), 0),
    ([], fact(NO), 1),
    ([fact(YES, name="fracture")], fact(YES), 0),
]


def spelled(value: object) -> str:
    if isinstance(value, Finding):
        return " ".join(part for part in (value.side, value.location, value.status) if part)
    return " + ".join(spelled(item) for item in value) or "nothing" if isinstance(value, list) else str(value)


@pytest.mark.parametrize(("report", "asked", "answer"), TABLE, ids=spelled)
def test_the_table_of_truth(report: list[Finding], asked: Finding, answer: float) -> None:
    found = ReportFacts(report).settles((asked,))
    assert found == answer or (math.isnan(found) and math.isnan(answer))


def test_in_an_open_world_silence_settles_nothing() -> None:
    silent = ReportFacts([fact(YES, name="fracture")], open_world=True)
    assert math.isnan(silent.settles((fact(YES),)))
    assert math.isnan(silent.settles((fact(NO),)))
    assert silent.settles((fact(YES, name="fracture"),)) == 1


def test_a_statement_of_several_facts_is_as_true_as_its_worst() -> None:
    report = ReportFacts([fact(YES, "left"), fact("uncertain", name="pneumonia"), fact(NO, name="edema")])
    true, unknown, false = fact(YES, "left"), fact(YES, name="pneumonia"), fact(YES, name="edema")
    assert report.settles((true,)) == 1
    assert report.settles((true, false, unknown)) == 0
    assert report.settles((unknown, false)) == 0
    assert math.isnan(report.settles((true, unknown)))
    assert math.isnan(report.settles(()))  # a statement without a fact is settled by nothing


def test_a_report_agrees_with_its_own_sentences() -> None:
    sentences = (
        "There is a small left pleural effusion.",
        "Consolidation in the right lower lobe.",
        "No pneumothorax.",
        "The heart is enlarged.",
    )
    report = ReportFacts([f for sentence in sentences for f in find(sentence)])
    assert [report.settles(find(sentence)) for sentence in sentences] == [1, 1, 1, 1]
    assert report.settles(find("There is a right pleural effusion.")) == 0
    assert report.settles(find("There is a left pneumothorax.")) == 0


# ---- concepts


def test_concepts_are_what_enough_reports_state_as_present() -> None:
    reports = [
        (fact(YES, "left"), fact(YES, "left"), fact(NO, name="edema")),  # twice in one report counts once
        (fact(YES, "right"), fact("uncertain", name="pneumonia")),
        (fact(YES, "bilateral"), fact(YES, name="edema")),
        (fact(NO, "left"), fact(YES, name="edema"), fact(YES, "left", name="fracture")),
    ]
    assert concepts(reports, least=3) == {"effusion": (None, "left", "right")}
    assert concepts(reports, least=2) == {"edema": (None,), "effusion": (None, "left", "right")}
    assert list(concepts(reports, least=1)) == ["edema", "effusion", "fracture"]
    assert concepts(reports, least=1)["fracture"] == (None, "left")
    assert concepts(reports, least=5) == {}
    assert concepts([]) == {}


BANK: dict[str, tuple[str | None, ...]] = {
    "pleural effusion": (None, "left", "right"),
    "cardiomegaly": (None,),
    "atelectasis": (None, "left"),
}


def test_each_concept_is_stated_with_its_side_and_denied() -> None:
    made = concept_statements(BANK, np.random.default_rng(0))
    assert [(s.facts[0].name, s.facts[0].status) for s in made] == [
        ("pleural effusion", YES),
        ("pleural effusion", YES),
        ("pleural effusion", NO),
        ("cardiomegaly", YES),
        ("cardiomegaly", NO),
        ("atelectasis", YES),
        ("atelectasis", YES),
        ("atelectasis", NO),
    ]
    assert made[0].facts[0].side is None
    assert made[1].facts[0].side in ("left", "right")
    assert made[6].facts[0].side == "left"


def test_statements_say_what_their_facts_say() -> None:
    """Our own labeller reads every form of every concept back, with its side and its polarity."""
    rng = np.random.default_rng(1)
    seen: set[str] = set()
    for _ in range(60):
        for made in concept_statements(BANK, rng):
            read = find(made.text)
            got = {(f.name, f.status, f.side) for f in read}
            assert (made.facts[0].name, made.facts[0].status, made.facts[0].side) in got, made.text
            seen.add(made.text)
    assert {"Left pleural effusion.", "Right pleural effusion.", "There is cardiomegaly."} <= seen
    assert "There is a cardiomegaly." not in seen
    assert len(seen) > 3 * len(PRESENT_FORMS) + 2 * len(ABSENT_FORMS)


def test_draws_depend_on_the_generator_alone() -> None:
    first, second = (concept_statements(BANK, np.random.default_rng(5)) for _ in range(2))
    other = concept_statements(BANK, np.random.default_rng(6))
    assert first == second
    assert [s.text for s in first] != [s.text for s in other]
    assert all(isinstance(s, Statement) and s.text[0].isupper() and s.text.endswith(".") for s in first)


def test_prompts_of_a_finding_are_settled_as_asked() -> None:
    """The questions of zero-shot diagnosis, read as statements about a report that has the finding."""
    report = ReportFacts([fact(YES, "left", name="pleural effusion")])
    pair = prompts("pleural effusion", "left")
    assert {report.settles(find(text)) for text in pair.positive} == {1.0}
    assert {report.settles(find(text)) for text in prompts("pleural effusion").negative} == {0.0}
