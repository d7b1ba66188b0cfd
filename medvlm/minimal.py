"""Minimal reports: the facts of a report in one fixed order and wording, for a small writer to learn from."""

from __future__ import annotations

from collections.abc import Sequence

from reports.findings import Finding

ALWAYS_SAID = ("cardiomegaly", "pulmonary edema", "consolidation", "pleural effusion", "pneumothorax")
"""What a reader expects to be told is absent."""

_WORDS = {"tiny": "tiny", "mild": "mild", "moderate": "moderate", "severe": "severe"}


def minimal_report(facts: Sequence[Finding], names: Sequence[str]) -> str:
    """FINDINGS and IMPRESSION that state what is present or uncertain, and deny the rest of `ALWAYS_SAID`.

    Sides are kept, because a wrong one harms; sizes, places and comparisons are left out, because a writer that does
    not measure and sees no prior could only invent them. Names come in the order of `names`; others are left out.
    """
    said = [sentence for name in names for sentence in _stated(name, facts)]
    open_names = {fact.name for fact in facts if fact.status != "absent"}
    absent = [name for name in ALWAYS_SAID if name in names and name not in open_names]
    denied = [f"No {_join(absent)}."] if absent else []
    impression = said or ["No acute cardiopulmonary abnormality."]
    return f"FINDINGS: {' '.join(said + denied)} IMPRESSION: {' '.join(impression)}"


def _stated(name: str, facts: Sequence[Finding]) -> list[str]:
    """One sentence for each side on which the finding is present, or uncertain and nowhere present."""
    for status, lead in (("present", ""), ("uncertain", "possible ")):
        found = [fact for fact in facts if fact.name == name and fact.status == status]
        if found:
            sides: dict[str | None, Finding] = {}
            for fact in found:
                if sides.get(fact.side) is None or (fact.severity and not sides[fact.side].severity):
                    sides[fact.side] = fact
            if len(sides) > 1:
                sides.pop(None, None)  # the impression often repeats a finding without its side
            order = sorted(sides, key=lambda side: (str(side) != "right", str(side)))
            return [_sentence(lead, sides[side]) for side in order]
    return []


def _sentence(lead: str, fact: Finding) -> str:
    words = [lead.strip(), _WORDS.get(fact.severity or "", ""), fact.side or "", fact.name]
    text = " ".join(word for word in words if word)
    return f"{text[0].upper()}{text[1:]}."


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
