"""Sentences that call a whole chest normal: what they deny without naming it, so that it can be checked."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reports.findings import Finding

DEVICES = frozenset({"endotracheal tube", "central venous catheter", "chest tube", "feeding tube", "pacemaker"})
"""Not abnormalities: a normal chest may hold them."""

ACUTE = frozenset({"pleural effusion", "pneumothorax", "consolidation", "pneumonia", "pulmonary edema"})
"""What "no acute cardiopulmonary abnormality" denies; an old nodule or a large heart does not contradict it."""

_WHERE = r"(?:cardio-?(?:pulmonary|thoracic)|cardiac|(?:intra-?)?thoracic|pulmonary|pleural|chest|radiographic|or|and)"
_WHAT = r"(?:abnormalit(?:y|ies)|disease|process(?:es)?|findings?|patholog(?:y|ies))"
_DENIES = re.compile(
    rf"\bno (?:(?:radiographic )?evidence (?:of|for) )?(?:an? )?(?P<acute>acute |active )?(?:significant )?"
    rf"(?:{_WHERE}[ /]*)*{_WHAT}\b",
    re.IGNORECASE,
)
_STUDY = r"(?:chest|study|exam\w*|radiograph\w*|x-?ray|film|ct|scan)"
_NORMAL = re.compile(
    rf"^\W*(?:\d+\.\s*)?(?:normal|unremarkable|negative)(?: [\w-]+){{0,3}} {_STUDY}"
    rf"|\b{_STUDY} (?:is|within) (?:normal|unremarkable|negative)\b",
    re.IGNORECASE,
)


def implied_findings(text: str, names: Iterable[str]) -> tuple[Finding, ...]:
    """The findings of `names` that a sentence without named findings denies; () when it denies nothing as a whole."""
    denies = _DENIES.search(text)
    if denies is None and _NORMAL.search(text) is None:
        return ()
    acute_only = denies is not None and denies["acute"] is not None
    chosen = (name for name in names if name not in DEVICES and (name in ACUTE or not acute_only))
    return tuple(Finding(name, "absent", by="implied") for name in chosen)
