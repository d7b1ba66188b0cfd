"""Hand-written sentences, each with every fact that it states (`sentence_cases.yaml` says how facts are written)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import yaml

from reports.findings import LEXICON, Finding, find

_STATUS = {"+": "present", "-": "absent", "?": "uncertain"}
_SIDES = ("left", "right", "bilateral")
_SEVERITIES = ("tiny", "mild", "moderate", "severe")
_CHANGES = ("new", "increased", "decreased", "unchanged", "resolved")
_NOT_JUDGED = {"lymph nodes"}  # a name that only the CT-RATE scheme uses

Fact = tuple[str, str, str | None, str | None, str | None, float | None, str | None]


class Case(NamedTuple):
    group: str
    part: str
    say: str
    facts: frozenset[Fact]
    ruled_out: frozenset[str]


@cache
def normal_statements() -> dict[str, frozenset[str]]:
    book = yaml.safe_load(resources.files("reports").joinpath("lexicon.yaml").read_text(encoding="utf-8"))
    return {name: frozenset(given["rules_out"]) for name, given in book["normal"].items()}


def fact(written: str) -> Fact:
    """ "+ lung nodule: left, 6 mm" as (name, status, side, location, severity, mm, change)."""
    name, _, rest = written[2:].partition(":")
    side = location = severity = change = None
    size = None
    for word in filter(None, map(str.strip, rest.split(","))):
        if word in _SIDES:
            side = word
        elif word in _SEVERITIES:
            severity = word
        elif word in _CHANGES:
            change = word
        elif match := re.fullmatch(r"([\d.]+) mm", word):
            size = float(match[1])
        else:
            location = word
    assert name in LEXICON, f"{written!r}: no finding {name!r} in the lexicon"
    return (name, _STATUS[written[0]], side, location, severity, size, change)


@cache
def cases() -> tuple[Case, ...]:
    book = yaml.safe_load((Path(__file__).parent / "sentence_cases.yaml").read_text(encoding="utf-8"))
    read = []
    for group, given in book["cases"].items():
        for case in given:
            facts = frozenset(fact(written) for written in case["facts"] if written[0] != "=")
            normal = [normal_statements()[written[2:]] for written in case["facts"] if written[0] == "="]
            stated = {name for name, *_ in facts}
            read.append(Case(group, case["part"], case["say"], facts, frozenset().union(*normal) - stated))
    return tuple(read)


def answered(say: str) -> tuple[frozenset[Fact], frozenset[str]]:
    found = [finding for finding in find(say) if finding.name not in _NOT_JUDGED]
    return frozenset(_as_fact(f) for f in found if f.by == "stated"), frozenset(
        f.name for f in found if f.by == "implied"
    )


def _as_fact(f: Finding) -> Fact:
    return (f.name, f.status, f.side, f.location, f.severity, f.size_mm, f.change)


def failures(part: str | None = None) -> Iterator[str]:
    """Cases that are not answered exactly, each with what was expected and found."""
    for case in cases():
        if part not in (None, case.part):
            continue
        facts, ruled_out = answered(case.say)
        if (facts, ruled_out) != (case.facts, case.ruled_out):
            missed, extra = sorted(map(str, case.facts - facts)), sorted(map(str, facts - case.facts))
            implied = "" if ruled_out == case.ruled_out else f", ruled out {sorted(ruled_out)}"
            yield f"[{case.group}] {case.say}\n    missed {missed}\n    wrong {extra}{implied}"


def test_no_two_sentences_are_alike() -> None:
    assert len(cases()) >= 420
    plain = [" ".join(re.findall(r"[a-z0-9.]+", case.say.lower())) for case in cases()]
    assert len(set(plain)) == len(plain)
    assert {case.part for case in cases()} == {"tune", "held", "later"}


def test_the_sentences_are_read_exactly() -> None:
    wrong = list(failures())
    accuracy = 1 - len(wrong) / len(cases())
    assert accuracy >= 0.97, f"accuracy {accuracy:.3f} of {len(cases())} sentences:\n" + "\n".join(wrong)


def test_every_kind_of_sentence_is_read() -> None:
    groups: dict[str, list[bool]] = {}
    for case in cases():
        groups.setdefault(case.group, []).append(answered(case.say) == (case.facts, case.ruled_out))
    assert {group: sum(right) / len(right) for group, right in groups.items() if sum(right) < 0.9 * len(right)} == {}
