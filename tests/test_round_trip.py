"""Facts survive the way through words: simulator -> report -> facts, and facts -> report -> facts."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.fact_writer import (
    CHANGES,
    LEVELS,
    PLACES,
    RIBS,
    SIDES,
    STATUSES,
    ZONES,
    FactError,
    is_counted,
    problem,
    write_fact,
    write_facts,
)
from reports.findings import LEXICON, Finding, find
from reports.grammar import Modality, WrittenReport, write_report
from reports.phrasing import more_phrases, phrases
from reports.sections import sentences
from reports.stated import Stated, stated_in
from volumes.cases import draw_lesions
from volumes.lesions import FINDINGS

FIELDS = ("name", "status", "side", "location", "severity", "size_mm", "change")
GOAL = 0.995
DIGEST = "09af1d4c6ef37b6d0384921187f93d8574bd6b0bfdef4d37d9d2821d9b9e8f8b"
"""Of 400 reports as they were before phrases and houses were added: what `medvlm simulate` writes has not changed."""


def simulated(seed: int, variety: bool = False) -> WrittenReport:
    """A report of a visit of the phantom hospital, half of them with a prior whose lesions are of other sizes."""
    rng = np.random.default_rng(seed)
    lesions = list(draw_lesions(rng))
    prior = None
    if rng.random() < 0.5:
        prior = [replace(x, size_mm=x.size_mm * float(rng.choice([0.5, 1, 2]))) for x in lesions if rng.random() < 0.8]
        prior += [x for x in draw_lesions(rng) if x.name not in {one.name for one in lesions}]
    modality: Modality = "ct" if seed % 3 == 0 else "xray"
    return write_report(
        lesions,
        modality=modality,
        views=1 + seed % 2,
        prior=prior,
        sex="MFO"[seed % 3],
        rng=rng,
        style=seed,
        variety=variety,
    )


@pytest.mark.parametrize("variety", [False, True])
def test_simulated_reports_give_the_truth_of_the_simulator(variety: bool) -> None:
    right: Counter[str] = Counter()
    total = 0
    extra = []
    for seed in range(1500):
        report = simulated(seed, variety)
        found = Counter(_key(f) for f in find(report.text) if f.name in FINDINGS)
        truth = Counter(_key(f) for f in report.facts if f.name in FINDINGS)
        total += truth.total()
        right["all"] += (found & truth).total()
        for at, field in enumerate(FIELDS):
            seen = Counter((key[-1], key[0], key[at]) for key in found.elements())
            right[field] += (seen & Counter((key[-1], key[0], key[at]) for key in truth.elements())).total()
        extra += [key for key in (found - truth).elements() if key[1] != "absent"]
    assert total > 12000
    assert all(right[field] / total >= GOAL for field in (*FIELDS, "all")), {f: n / total for f, n in right.items()}
    assert len(extra) / total < 1 - GOAL


def _key(finding: Finding) -> tuple:
    return (*(getattr(finding, field) for field in FIELDS), finding.sentence)


def test_variety_says_more_and_keeps_the_form() -> None:
    plain = {sentence.text for seed in range(300) for sentence in simulated(seed).sentences}
    more = {sentence.text for seed in range(300) for sentence in simulated(seed, True).sentences}
    assert len(more) > 1.1 * len(plain)
    for seed in range(200):
        report = simulated(seed, True)
        assert sentences(report.text) == [sentence.text for sentence in report.sentences], report.text
        assert not re.search(r"\{|\}|  | [.,]|\ba [aeiou]", " ".join(s.text for s in report.sentences))
    assert set(more_phrases()) == set(phrases()) | {"organ_labels"}


def test_reports_without_variety_are_what_they_were() -> None:
    digest = hashlib.sha256()
    for seed in range(400):
        rng = np.random.default_rng(seed)
        lesions = list(draw_lesions(rng))
        prior = list(draw_lesions(rng)) if seed % 3 == 0 else None
        modality: Modality = "ct" if seed % 2 else "xray"
        report = write_report(
            lesions,
            modality=modality,
            views=1 + seed % 2,
            prior=prior,
            sex="MFO"[seed % 3],
            age=30 + seed % 60,
            rng=rng,
            style=seed,
        )
        digest.update(report.text.encode())
    assert digest.hexdigest() == DIGEST


@st.composite
def facts(draw: st.DrawFn) -> Stated:
    """Any fact that can be stated."""
    name = draw(st.sampled_from(LEXICON))
    status = draw(st.sampled_from(STATUSES))
    absent = status == "absent"
    made = Stated(
        name,
        status,
        draw(st.sampled_from((None, *SIDES))),
        draw(st.sampled_from((None, None, *PLACES, *ZONES, *RIBS))),
        draw(st.sampled_from((None, *LEVELS))),
        None if absent else draw(st.sampled_from((None, None, 3.0, 4.5, 11.0, 27.0, 118.0))),
        draw(st.sampled_from((None, "resolved") if absent else (None, None, *CHANGES))),
        draw(st.sampled_from((None, "1", "2", "7", "several", "few"))) if is_counted(name) and not absent else None,
    )
    if problem(made):  # a fact without what makes it impossible
        made = made._replace(side=None, location=None)
    return made


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.lists(facts(), min_size=1, max_size=7), st.integers(0, 2**32), st.booleans())
def test_facts_to_report_to_facts_is_the_identity(wanted: list[Stated], seed: int, joined: bool) -> None:
    text = write_facts(wanted, np.random.default_rng(seed) if seed % 3 else None, joined)
    assert Counter(stated_in(text)) == Counter(wanted), text
    report = f"FINDINGS:\n{text}\n\nIMPRESSION:\n{text}"
    assert Counter(stated_in(report)) == Counter([*wanted, *wanted])


@pytest.mark.parametrize("name", LEXICON)
def test_every_name_can_be_written_in_every_status_and_wording(name: str) -> None:
    rng = np.random.default_rng(3)
    for status in STATUSES:
        for _ in range(6):
            fact = Stated(name, status)
            assert stated_in(write_fact(fact, rng)) == (fact,)


def test_findings_of_the_labeller_can_be_written() -> None:
    (found,) = find("A 12 mm nodule in the left upper lobe.")
    assert write_fact(found) == "There is a lung nodule in the left upper lobe, 12 mm in size."
    assert write_facts(find("No effusion, pneumothorax or consolidation."), joined=True) == (
        "No pleural effusion, pneumothorax or consolidation."
    )
    assert write_fact(Stated("pleural effusion", "present", "bilateral", severity="mild")) == (
        "There are small bilateral pleural effusions."
    )
    assert write_fact(Stated("lung nodule", "present", "right", "apex", number="3")) == (
        "There are three lung nodules at the right apex."
    )


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (Stated("gout", "present"), "the lexicon has no such finding"),
        (Stated("atelectasis", "present", "left", "middle lobe"), "the middle lobe is on the right only"),
        (Stated("cardiomegaly", "present", "left"), "has no side or place"),
        (Stated("lung nodule", "absent", size_mm=8.0), "what is absent has no size and no number"),
        (Stated("lung nodule", "present", change="resolved"), "resolved of what is absent"),
        (Stated("lung nodule", "perhaps"), "status is one of present, absent, uncertain"),
        (Stated("lung nodule", "present", size_mm=-1.0), "between 0.1 and 1000 mm"),
        (Stated("atelectasis", "present", number="2"), "of things that can be counted"),
        (Stated("fracture", "present", "left", "sixth rib"), "a fracture of a rib is a rib fracture"),
    ],
)
def test_facts_that_no_sentence_can_state(fact: Stated, reason: str) -> None:
    with pytest.raises(FactError, match=f"cannot be written: .*{reason}"):
        write_fact(fact)
