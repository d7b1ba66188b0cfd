"""What a radiology report says: findings with status, side, place, size and change, by rules.

Every rule is a word list that can be read (`lexicon.yaml`) or a cue with a direction (`scope.py`); nothing is learnt,
so the same sentence always gives the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, cast

from reports.certainty import STRENGTH, Hedge, hedge_of
from reports.coordination import attributes_of, is_alternative
from reports.lexicon import Lexicon, Mention, names
from reports.lexicon import lexicon as standard_lexicon
from reports.normal_statements import ruled_out
from reports.scope import Scope, read_scope, status_of
from reports.sections import section_sentences
from reports.templates import as_prose, with_subject
from reports.word_index import word_starts

if TYPE_CHECKING:
    from volumes.volume import Region

Status = Literal["present", "absent", "uncertain"]
LEXICON: tuple[str, ...] = names()  # canonical finding names

_NOT_STATEMENTS = frozenset(
    {"indication", "technique", "comparison", "provenance", "signature"}
)  # "rule out pneumonia" asks
_DETAILS = ("side", "location", "severity", "size_mm", "change")
_LONG = 1000  # characters; longer sentences are read each time, so that what is kept stays small


@dataclass(frozen=True)
class Finding:
    """One statement about one finding.

    `size_mm` in millimeters; `score` a probability in [0, 1]; `sentence` the index in
    `reports.sections.sentences(text)`; `by` names the maker: "stated" or "implied" (by a normal
    statement) for `find`, else an expert or a model. What a reading leaves to be looked up, and no part of the fact:
    `hedge` how sure an uncertain statement is, `words` how the text names the finding.
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
    hedge: Hedge | None = field(default=None, compare=False)
    words: tuple[str, ...] = field(default=(), compare=False)


def find(text: str, lexicon: Lexicon | None = None) -> tuple[Finding, ...]:
    """Findings stated in `text`, a sentence or a whole report, in the order of the text.

    Indication, technique and comparison state nothing. A normal statement ("the lungs are clear") rules out what
    `lexicon.yaml` lists for it, with `by="implied"`, unless the same report states the finding elsewhere. Another
    lexicon than the platform's own is made by `reports.lexicon.lexicon(extra="hospital.yaml")`.
    """
    book = standard_lexicon() if lexicon is None else lexicon
    found: list[Finding] = []
    for index, (section, sentence) in enumerate(section_sentences(text)):
        if section not in _NOT_STATEMENTS:
            read = read_sentence if len(sentence) <= _LONG else read_sentence.__wrapped__
            found += [_numbered(finding, index) for finding in read(sentence, book)]
    stated = {finding.name for finding in found if finding.by == "stated" and finding.status != "absent"}
    return tuple(finding for finding in found if finding.by != "implied" or finding.name not in stated)


@lru_cache(maxsize=4096)
def read_sentence(sentence: str, book: Lexicon) -> tuple[Finding, ...]:
    """The findings of one sentence, without its number. Reports repeat sentences, so the last ones read are kept."""
    low = as_prose(sentence.lower())
    starts = word_starts(low)
    mentions = book.mentions(low, starts)
    if (whole := with_subject(low, mentions)) != low:
        low, starts = whole, word_starts(whole)
        mentions = book.mentions(low, starts)
    stated = _stated(low, mentions, book, starts) if mentions else []
    said = {finding.name for finding in stated}
    implied = [
        Finding(name, "absent", by="implied") for name in ruled_out(low, mentions, book, starts) if name not in said
    ]
    return tuple(_merged([*stated, *implied]))


def _numbered(finding: Finding, index: int) -> Finding:
    """`dataclasses.replace(finding, sentence=index)`, which is four times slower and asked for every finding."""
    copied = object.__new__(Finding)
    copied.__dict__.update(finding.__dict__, sentence=index)
    return copied


def _merged(findings: Sequence[Finding]) -> Sequence[Finding]:
    """Equal statements of one sentence once, with all words for them and their firmest hedge; "advanced fibrosis with
    honeycombing" says nothing new with the second word."""
    if len(findings) < 2 or len({finding.name for finding in findings}) == len(findings):
        return findings
    kept: dict[Finding, Finding] = {}
    for one in findings:
        if (first := kept.get(one)) is not None:
            firm = max(first.hedge, one.hedge, key=lambda hedge: STRENGTH[hedge])
            one = replace(first, words=first.words + one.words, hedge=firm)
        kept[one] = one
    merged = list(kept.values())
    for one in kept.values():
        fuller = next((at for at, other in enumerate(merged) if _says_more(other, one)), None)
        if fuller is not None:
            merged[fuller] = replace(merged[fuller], words=merged[fuller].words + one.words)
            merged.remove(one)
    return merged


def _says_more(other: Finding, one: Finding) -> bool:
    """Whether `other` states all that `one` does and more. A denial without a place is the wider one, so it stays."""
    if one is other or one.status == "absent" or (one.name, one.status, one.by) != (other.name, other.status, other.by):
        return False
    pairs = [(getattr(one, name), getattr(other, name)) for name in _DETAILS]
    return all(mine is None or mine == theirs for mine, theirs in pairs) and pairs != [(a, a) for a, _ in pairs]


def _stated(low: str, mentions: Sequence[Mention], book: Lexicon, starts: list[int]) -> list[Finding]:
    scope = read_scope(low, mentions, starts)
    statuses, gone = _statuses(low, mentions, scope)
    found = []
    for mention, status, resolved, parts in zip(
        mentions, statuses, gone, attributes_of(low, mentions, scope, statuses), strict=True
    ):
        if status == "skip":
            continue
        absent = status == "absent"
        hedge = hedge_of(low[slice(*scope.clause(mention.start))]) if status == "uncertain" else None
        words = (low[mention.start : mention.stop],)
        for name in mention.names:
            sided = book.entries[name].sided
            found += [
                Finding(
                    name,
                    cast(Status, status),
                    read.side if sided else None,
                    read.location,
                    read.severity,
                    None if absent else read.size_mm,
                    "resolved" if resolved else None if absent else read.change,
                    by="stated",
                    hedge=hedge,
                    words=words,
                )
                for read in (parts if sided else parts[:1])
            ]
    return found


def _statuses(low: str, mentions: Sequence[Mention], scope: Scope) -> tuple[list[str], list[bool]]:
    """Of each mention: present, absent, uncertain or skip, and whether it was there and has gone."""
    statuses, gone = [], []
    for at, mention in enumerate(mentions):
        status, resolved = status_of(mention, scope)
        if status == "present" and (mention.hint or (len(mentions) > 1 and is_alternative(low, mentions, at, scope))):
            status = "uncertain"
        statuses.append(status)
        gone.append(resolved)
    return statuses, gone
