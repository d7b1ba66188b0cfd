"""What a radiology report says: findings with status, side, place, size and change, by rules.

Every rule is a word list that can be read (`lexicon.yaml`) or a cue with a direction (`scope.py`); nothing is learnt,
so the same sentence always gives the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, cast

from reports.attributes import Attributes, read_attributes
from reports.lexicon import Mention, lexicon, names
from reports.scope import WITH, Scope, read_scope, status_of
from reports.sections import section_sentences

if TYPE_CHECKING:
    from volumes.volume import Region

Status = Literal["present", "absent", "uncertain"]
LEXICON: tuple[str, ...] = names()  # canonical finding names

_NOT_STATEMENTS = frozenset({"indication", "technique", "comparison"})  # "rule out pneumonia" is a question
_JOINT = re.compile(rf",\s|\s(?:and|or)\s|{WITH}|;")
_EITHER = re.compile(r",? or (?:\w+ ){0,2}")
_EXPLAINS = re.compile(
    r"\b(?:represent\w*|reflect\w*|suggest\w*|(?:consistent|compatible|keeping) with|(?:due|secondary|related) to)\b"
)
_ABNORMAL = re.compile(
    r"\b(?:enlarged|upper limits?|borderline|abnormal|prominent|not (?:normal|clear)|increased|otherwise|than normal)\b"
)


@dataclass(frozen=True)
class Finding:
    """One statement about one finding.

    `size_mm` in millimeters; `score` a probability in [0, 1]; `sentence` the index in
    `reports.sections.sentences(text)`; `by` names the maker: "stated" or "implied" (by a normal
    statement) for `find`, else an expert or a model.
    """

    name: str
    status: Status
    side: str | None = None
    location: str | None = None
    severity: str | None = None
    size_mm: float | None = None
    change: str | None = None
    region: Region | None = None
    score: float | None = None
    by: str = ""
    sentence: int | None = None


def find(text: str) -> tuple[Finding, ...]:
    """Findings stated in `text`, a sentence or a whole report, in the order of the text.

    Indication, technique and comparison state nothing. A normal statement ("the lungs are clear") rules out what
    `lexicon.yaml` lists for it, with `by="implied"`, unless the same report states the finding elsewhere.
    """
    found: list[Finding] = []
    for index, (section, sentence) in enumerate(section_sentences(text)):
        if section not in _NOT_STATEMENTS:
            found += [replace(finding, sentence=index) for finding in _read(sentence)]
    stated = {finding.name for finding in found if finding.by == "stated" and finding.status != "absent"}
    return tuple(finding for finding in found if finding.by != "implied" or finding.name not in stated)


def _read(sentence: str) -> list[Finding]:
    """The findings of one sentence, `sentence` index not set."""
    low = sentence.lower()
    mentions = lexicon().mentions(low)
    scope = read_scope(low, mentions)
    stated = list(_stated(low, mentions, scope))
    said = {finding.name for finding in stated}
    implied = [Finding(name, "absent", by="implied") for name in _ruled_out(low, mentions) if name not in said]
    return list(dict.fromkeys([*stated, *implied]))


def _stated(low: str, mentions: Sequence[Mention], scope: Scope) -> Iterator[Finding]:
    previous: Attributes | None = None
    for at, mention in enumerate(mentions):
        status, gone = status_of(mention, scope)
        if status == "skip":
            continue
        if status == "present" and (mention.hint or _is_alternative(low, mentions, at, scope)):
            status = "uncertain"
        read = _attributes(low, mentions, at, scope, previous if status != "absent" else None)
        previous = read
        for name in mention.names:
            absent = status == "absent"
            yield Finding(
                name,
                cast(Status, status),
                read.side if lexicon().entries[name].sided else None,
                read.location,
                read.severity,
                None if absent else read.size_mm,
                "resolved" if gone else None if absent else read.change,
                by="stated",
            )


def _is_alternative(low: str, mentions: Sequence[Mention], at: int, scope: Scope) -> bool:
    """ "Atelectasis or infiltrate": one of both, so neither is certain; "no change in A or B" states both."""
    if any(cue.kind == "pseudo" for cue in scope.cues):
        return False
    around = mentions[max(at - 1, 0) : at + 2]
    gaps = [low[one.stop : other.start] for one, other in pairwise(around)]
    return any(_EITHER.fullmatch(gap) for gap in gaps)


def _attributes(
    low: str, mentions: Sequence[Mention], at: int, scope: Scope, previous: Attributes | None
) -> Attributes:
    """Attributes of a mention: its clause, cut between neighbours at the last joint ("and", comma) that parts them."""
    mention = mentions[at]
    start, stop = scope.clause(mention.start)
    inherits = False
    if at > 0 and mentions[at - 1].stop > start:
        gap = low[mentions[at - 1].stop : mention.start]
        joints = list(_JOINT.finditer(gap))
        start = mentions[at - 1].stop + (joints[-1].end() if joints else len(gap))
        inherits = bool(joints)
    if at + 1 < len(mentions) and mentions[at + 1].start < stop:
        gap = low[mention.stop : mentions[at + 1].start]
        joints = list(_JOINT.finditer(gap))
        stop = mention.stop + (joints[-1].start() if joints else len(gap))
    after = low[mention.stop : max(stop, mention.stop)]
    read = read_attributes(low[start : mention.start], low[mention.start : mention.stop], after)
    if previous is None or read.side is not None:
        return read
    # "An opacity at the left base may represent pneumonia": both words mean one thing, in one place.
    if at > 0 and read.location is None and _EXPLAINS.search(low[mentions[at - 1].stop : mention.start]):
        return read._replace(side=previous.side, location=previous.location)
    # "Left effusion and adjacent atelectasis": the second shares the side that it does not name.
    if inherits:
        return read._replace(side=previous.side)
    return read


def _ruled_out(low: str, mentions: Sequence[Mention]) -> Iterator[str]:
    """Findings that a normal statement of this sentence excludes."""
    for normal in lexicon().normal:
        for subject in normal.subject.finditer(low):
            predicate = normal.predicate.search(low, subject.end())
            if predicate is not None:
                between = low[subject.end() : predicate.start()]
            else:
                predicate = normal.predicate.search(low[: subject.start()])
                between = low[predicate.end() : subject.start()] if predicate else ""
                if predicate is None or len(between.split()) > 1:
                    continue
            window = low[max(0, min(subject.start(), predicate.start()) - 20) : max(predicate.end(), subject.end())]
            broken = ";" in between or len(between) > 90 or _ABNORMAL.search(window.replace("not enlarged", ""))
            if not broken and not any(subject.start() < m.start < predicate.start() for m in mentions):
                yield from normal.rules_out
                break
