"""What the grammar writes is true of the lesions, and the labeller reads back every statement of it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from reports.findings import Finding, find
from reports.grammar import DESCRIPTORS, SECTIONS, WrittenReport, prompts, write_report
from reports.phrasing import phrases, reported_mm
from reports.sections import sentences, split_sections
from volumes.cases import draw_lesions
from volumes.lesions import FINDINGS

REPORTS = 2000
PLACES = ("upper lobe", "lower lobe", "apex", "base", "hilum", None)


@dataclass(frozen=True)
class Sketch:
    """A lesion with any side and place, also such as the phantom never draws."""

    name: str
    side: str | None = None
    location: str | None = None
    severity: str = "mild"
    size_mm: float = 12.0
    ratio: float | None = None


def sketch(name: str, rng: np.random.Generator) -> Sketch:
    side = str(rng.choice(["left", "right", "bilateral"]))
    location = PLACES[int(rng.integers(len(PLACES)))]
    if name in ("cardiomegaly", "pulmonary edema", "endotracheal tube"):
        return Sketch(name, None, None, _severity(rng), float(rng.uniform(20, 60)), 0.57)
    if name == "rib fracture":
        location = str(rng.choice(["third rib", "sixth rib", "ninth rib"]))
    elif name not in ("consolidation", "atelectasis", "lung nodule", "lung mass", "pneumothorax"):
        location = None
    return Sketch(name, side, location, _severity(rng), float(rng.uniform(3, 70)))


def _severity(rng: np.random.Generator) -> str:
    return str(rng.choice(["tiny", "mild", "moderate", "severe"]))


def draw(seed: int) -> tuple[list, list | None, WrittenReport]:
    """Lesions, prior and report: half from the phantom's own cases, half from any lesions at all."""
    rng = np.random.default_rng(seed)
    lesions: list = (
        list(draw_lesions(rng))
        if seed % 2
        else [sketch(n, rng) for n in rng.permutation(FINDINGS)[: rng.integers(0, 7)]]
    )
    prior = None
    if rng.random() < 0.5:
        prior = [replace(x, size_mm=x.size_mm * float(rng.choice([0.5, 1, 2]))) for x in lesions if rng.random() < 0.7]
        prior += [sketch(n, rng) for n in rng.permutation(FINDINGS)[:2] if n not in {x.name for x in lesions}]
    modality = "ct" if seed % 3 == 0 else "xray"
    report = write_report(
        lesions, modality=modality, views=1 + seed % 2, prior=prior, sex="MFO"[seed % 3], age=63, rng=rng, style=seed
    )
    return lesions, prior, report


@pytest.fixture(scope="module")
def written() -> list[tuple[list, tuple[Finding, ...], WrittenReport]]:
    """(lesions, what the labeller found, report) of thousands of draws."""
    drawn = [draw(seed) for seed in range(REPORTS)]
    return [(lesions, find(report.text), report) for lesions, _, report in drawn]


def by_sentence(findings: Iterable[Finding], names: set[str]) -> dict[int | None, set[tuple]]:
    table: dict[int | None, set[tuple]] = defaultdict(set)
    for f in findings:
        if f.name in names:
            table[f.sentence].add((f.name, f.status, f.side, f.location, f.size_mm, f.change))
    return table


def test_the_labeller_reads_every_fact_exactly(written: list) -> None:
    for _, found, report in written:
        names = {fact.name for fact in report.facts} | set(FINDINGS)
        assert by_sentence(found, names) == by_sentence(report.facts, names), report.text


def test_every_lesion_is_stated_alone_in_findings_with_its_side_and_size(written: list) -> None:
    for lesions, found, report in written:
        linked = [s.lesions for s in report.sentences if s.section == "findings" and s.lesions]
        assert Counter(i for indices in linked for i in indices) == Counter(range(len(lesions))), report.text
        assert all(len(indices) == 1 for indices in linked)
        for finding in found:
            linked_to = report.sentences[finding.sentence or 0].lesions
            if linked_to and finding.name in FINDINGS:
                lesion = lesions[linked_to[0]]
                assert finding.name == lesion.name
                assert finding.status in (("present", "uncertain") if lesion.severity == "tiny" else ("present",))
                assert finding.severity in (None, lesion.severity)
                assert finding.size_mm in (None, reported_mm(lesion.size_mm))
                if lesion.name in ("lung nodule", "lung mass"):
                    assert finding.size_mm == reported_mm(lesion.size_mm)


def test_nothing_absent_is_stated_and_hedges_cover_half_of_the_barely_visible(written: list) -> None:
    hedged = tiny = 0
    for lesions, found, report in written:
        names = {lesion.name for lesion in lesions}
        stated = {f.name for f in found if f.status != "absent" and f.name in FINDINGS}
        assert stated == names
        for section, _, indices in report.sentences:
            for index in indices:
                if section == "findings" and lesions[index].severity == "tiny" and "tube" not in lesions[index].name:
                    tiny += lesions[index].name != "central venous catheter"
        hedged += sum(
            fact.status == "uncertain" and report.sentences[fact.sentence or 0].section == "findings"
            for fact in report.facts
        )
    assert 0.4 < hedged / tiny < 0.6


def test_sentences_are_those_of_the_text_and_short(written: list) -> None:
    words: set[str] = set()
    for _, _, report in written:
        assert sentences(report.text) == [sentence.text for sentence in report.sentences]
        assert split_sections(report.text) == report.sections
        assert set(report.sections) == set(SECTIONS)
        for sentence in report.sentences:
            parts = sentence.text.split()
            assert len(parts) <= 30
            assert not re.search(r"\{|\}|  | [.,]|\ba [aeiou]", sentence.text), sentence.text
            words |= {word.strip(".,").lower() for word in parts if not any(c.isdigit() for c in word)}
    assert len(words) < 600


def test_common_absent_findings_are_nearly_always_denied(written: list) -> None:
    for name in ("pleural effusion", "pneumothorax", "consolidation", "cardiomegaly"):
        free = [report for lesions, _, report in written if name not in {lesion.name for lesion in lesions}]
        denied = sum(any(f.name == name and f.status == "absent" for f in report.facts) for report in free)
        assert denied / len(free) > 0.9, name


def test_change_against_the_prior() -> None:
    old = [
        Sketch("pleural effusion", "left", size_mm=20),
        Sketch("pneumothorax", "right", "apex"),
        Sketch("lung nodule", "left", "apex", size_mm=8),
    ]
    new = [
        Sketch("pleural effusion", "left", size_mm=40),
        Sketch("lung nodule", "left", "apex", size_mm=8),
        Sketch("atelectasis", "right", "base"),
    ]
    said: dict[tuple[str, str], set] = defaultdict(set)
    for seed in range(60):
        report = write_report(new, prior=old, rng=np.random.default_rng(seed), style=seed)
        for fact in report.facts:
            if fact.change:
                said[(fact.name, fact.status)].add(fact.change)
    assert said == {
        ("pleural effusion", "present"): {"increased"},
        ("lung nodule", "present"): {"unchanged"},
        ("atelectasis", "present"): {"new"},
        ("pneumothorax", "absent"): {"resolved"},
    }
    alone = write_report(new, rng=np.random.default_rng(0))
    assert all(fact.change is None for fact in alone.facts)


def test_equal_draws_give_equal_reports_and_styles_differ() -> None:
    lesions = [Sketch("pleural effusion", "left"), Sketch("lung mass", "right", "hilum", "severe", 61.0)]
    texts = {write_report(lesions, rng=np.random.default_rng(5), style=style).text for style in range(8)}
    assert len(texts) == 8
    again = write_report(lesions, rng=np.random.default_rng(5), style=3)
    assert again == write_report(lesions, rng=np.random.default_rng(5), style=3)


def test_ct_and_radiograph_have_their_own_words() -> None:
    ct = write_report([], modality="ct", rng=np.random.default_rng(0)).sections["technique"]
    film = write_report([], modality="xray", views=1, rng=np.random.default_rng(0)).sections["technique"]
    assert "CT" in ct
    assert "frontal" in film.lower()
    with pytest.raises(ValueError, match='modality is "mr"; a report can be written for "xray" or "ct"'):
        write_report([], modality="mr", rng=np.random.default_rng(0))  # type: ignore[arg-type]


def test_at_least_five_ways_to_say_each_finding() -> None:
    for name in FINDINGS:
        forms = phrases()["findings"][name]
        assert len(forms["any"]) >= 5, name


@pytest.mark.parametrize("name", FINDINGS)
@pytest.mark.parametrize("side", [None, "left", "right", "bilateral"])
def test_prompts_say_what_they_ask(name: str, side: str | None) -> None:
    pair = prompts(name, side)
    assert len(pair.positive) >= 3
    assert len(pair.negative) >= 3
    sided = side if name not in ("cardiomegaly", "endotracheal tube") else None
    for text, status in [*((t, "present") for t in pair.positive), *((t, "absent") for t in pair.negative)]:
        (finding,) = [f for f in find(text) if f.name == name]
        assert finding.status == status, text
        extra = text in phrases()["prompts"]["extra"].get(name, {}).get("positive", ())
        assert finding.side == (None if extra else sided), text


def test_prompts_for_a_finding_outside_the_grammar() -> None:
    pair = prompts("hiatal hernia")
    assert pair.positive[0] == "There is a hiatal hernia."
    assert pair.negative[1] == "No hiatal hernia."
    assert prompts("pneumoperitoneum").positive[0] == "There is pneumoperitoneum."


def test_descriptors_for_every_finding() -> None:
    assert set(FINDINGS) <= set(DESCRIPTORS)
    for name, descriptors in DESCRIPTORS.items():
        assert 3 <= len(descriptors) <= 6, name
