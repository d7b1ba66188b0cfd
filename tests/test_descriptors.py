"""The descriptor bank covers the lexicon, and every number and sign in it names a work that can be looked up."""

from __future__ import annotations

import copy
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from reports.descriptors import DescriptorBank, bank, bibliography, code_of, read_bank
from reports.grammar import DESCRIPTORS
from reports.injection import looks_like_instructions
from reports.knowledge import Glossary, KnowledgeError, look_up
from reports.lexicon import names
from reports.ontology_files import read_ontology

GIVEN: dict[str, Any] = json.loads((resources.files("reports") / "descriptors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", names())
def test_every_finding_of_the_lexicon_has_signs_and_sources(name: str) -> None:
    entry = bank()[name]
    assert 4 <= len(entry.descriptors) <= 6
    assert entry.film
    assert entry.ct
    assert entry.mimics
    assert set(entry.sources) <= set(bibliography())
    assert {threshold.source for threshold in entry.thresholds} <= set(bibliography())
    for said in (entry.descriptors, entry.film, entry.ct, entry.locations, entry.false_positives):
        assert len(set(said)) == len(said) > 0


def test_the_bank_holds_nothing_that_the_lexicon_does_not() -> None:
    assert set(bank()) == set(names())
    assert {name: entry.descriptors for name, entry in bank().items()} == DESCRIPTORS


def test_descriptors_are_short_phrases_for_prompts() -> None:
    for name, entry in bank().items():
        for phrase in entry.descriptors:
            assert 2 <= len(phrase.split()) <= 9, (name, phrase)
            assert phrase[-1] not in ".;:", (name, phrase)
            # "There are no ..." is put before each, so none may deny anything itself
            assert not phrase.lower().startswith(("no ", "without ")), (name, phrase)


def test_no_descriptor_belongs_to_two_findings() -> None:
    owners: dict[str, set[str]] = {}
    for name, entry in bank().items():
        for phrase in entry.descriptors:
            owners.setdefault(phrase, set()).add(name)
    shared = {phrase: found for phrase, found in owners.items() if len(found) > 1}
    assert shared == {"air bronchograms": {"consolidation", "pneumonia"}}


def test_every_work_is_used_and_says_what_it_supports() -> None:
    used = {key for entry in bank().values() for key in entry.sources}
    used |= {threshold.source for entry in bank().values() for threshold in entry.thresholds}
    assert used == set(bibliography())
    assert all(len(work.citation) > 30 and work.supports for work in bibliography().values())
    assert all(work.url.startswith("https://") for work in bibliography().values() if work.url)


def test_size_thresholds_that_the_field_agrees_on() -> None:
    said = {(name, str(threshold)) for name, entry in bank().items() for threshold in entry.thresholds}
    assert ("lung nodule", "diameter of a nodule <= 30 mm") in said
    assert ("lung mass", "diameter > 30 mm") in said
    assert ("cardiomegaly", "cardiothoracic ratio on an upright PA film of an adult > 0.5") in said
    assert ("lymphadenopathy", "short axis of a mediastinal node that is enlarged > 10 mm") in said


def test_codes() -> None:
    assert code_of("pneumothorax", "snomed") == "36118008"
    assert code_of("pleural effusion", "icd10") == "J90"
    assert code_of("infiltrate", "radlex") is None
    assert code_of("no such finding", "radlex") is None
    with pytest.raises(ValueError, match="system is 'loinc', expected one of radlex, snomed, icd10"):
        code_of("pneumonia", "loinc")


def test_radlex_codes_name_what_radlex_says(real_data: Path) -> None:
    radlex = read_ontology(real_data / "knowledge" / "radlex_cache_used_by_templates.json")
    generic = {"lung mass": "mass", "cavitary lesion": "cavitary", "chest tube": "thoracostomy tube", "lung nodule":
               "pulmonary nodule", "feeding tube": "nasogastric tube", "lung opacity": "opacity",
               "arterial wall calcification": "calcification"}  # fmt: skip
    checked = 0
    for name, entry in bank().items():
        term = radlex.find(entry.codes.get("radlex", ""))
        if term is not None:
            checked += 1
            assert term.name.casefold() == generic.get(name, name)
    assert checked > 10


def test_glossary_and_bank_name_the_same_codes() -> None:
    for passage in Glossary().passages():
        code = code_of(passage.title, "radlex")
        if code and passage.section:
            assert passage.section == f"RadLex {code}", passage.title


def test_the_bank_is_a_source_of_passages() -> None:
    passages = DescriptorBank().passages()
    assert len({passage.passage_id for passage in passages}) == len(bank())
    assert not any(looks_like_instructions(passage.text) for passage in passages)
    (first, *_) = look_up([DescriptorBank()], "pneumothorax")
    assert first.title == "pneumothorax"
    assert "Hansell" in first.source


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.update(descriptors=["one", "two"]), "cardiomegaly has 2 descriptors, expected at least 4"),
        (lambda e: e.update(sources=["nobody"]), "names the source 'nobody', which is not in the bibliography"),
        (lambda e: e.update(film=[]), r"cardiomegaly: film holds \[\], expected a list of words"),
        (lambda e: e.update(follow_up=" "), "cardiomegaly: follow_up is empty, expected words"),
        (lambda e: e.update(mimics="x"), "cardiomegaly: mimics holds a str, expected a list"),
        (lambda e: e.update(codes={"loinc": "1"}), "has a code of 'loinc', expected radlex, snomed, icd10"),
        (lambda e: e["thresholds"][0].update(unit="cm"), "has a threshold of '>' 0.5 'cm'; expected one of"),
        (lambda e: e.update(finding="pneumothorax"), "pneumothorax stands twice, expected once"),
    ],
)
def test_a_wrong_bank_names_the_finding_and_the_field(change: Any, message: str) -> None:
    given = copy.deepcopy(GIVEN)
    change(given["findings"][0])
    with pytest.raises(KnowledgeError, match=message):
        read_bank(given)
