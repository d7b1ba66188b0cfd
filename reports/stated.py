"""What a text states, in a form by which two texts can be compared: the facts of `find`, and how many of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from reports.findings import Finding, find
from reports.lexicon import lexicon
from reports.sections import section_sentences

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SINGLE = ("single", "solitary", "one")
SEVERAL = ("multiple", "several", "numerous", "many", "innumerable")
FEW = ("few",)
_COUNT = re.compile(rf"\b(?:{'|'.join((*NUMBERS, *SINGLE, *SEVERAL, *FEW))})\b")
_NOT_A_COUNT = re.compile(
    r"\s*(?:of\b|has\b|is\b|are\b|views?\b|or\b|to\b|-|cm\b|mm\b|days?\b|weeks?\b|months?\b|years?\b)"
)
_RANGE = re.compile(r"(?:\b(?:or|to)|-|large|small|the|this|each|larger|smaller)\s*$")
_PART = re.compile(r"[,;:]|\b(?:and|or|with|without|but)\b")


class Stated(NamedTuple):
    """One statement about one finding, as a value: equal facts are equal wherever they stand."""

    name: str
    status: str
    side: str | None = None
    location: str | None = None
    severity: str | None = None
    size_mm: float | None = None
    change: str | None = None
    number: str | None = None
    """How many there are, where the text says so: "1", "2", ..., "few" or "several"."""

    def __str__(self) -> str:
        words = (self.number, self.severity, self.side, self.location, self.name)
        size = f"{self.size_mm:g} mm" if self.size_mm else ""
        return " ".join(word for word in (self.status, *words, size, self.change) if word)


def stated_in(text: str) -> tuple[Stated, ...]:
    """The facts of a sentence or a report, in the order of the text."""
    facts = find(text)
    counts: dict[int, list[tuple[tuple[str, ...], str]]] = {}
    if facts and _COUNT.search(text.lower()):
        counts = {i: list(counted(s)) for i, (_, s) in enumerate(section_sentences(text)) if _COUNT.search(s.lower())}
    return tuple(_with_count(fact, counts.get(fact.sentence or 0, [])) for fact in facts)


def _with_count(fact: Finding, counts: list[tuple[tuple[str, ...], str]]) -> Stated:
    said = next((count for names, count in counts if fact.name in names), None) if fact.status != "absent" else None
    return Stated(fact.name, fact.status, fact.side, fact.location, fact.severity, fact.size_mm, fact.change, said)


def counted(sentence: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """(finding names, count) of each mention of a sentence that says how many there are."""
    for names, count, _, _ in count_words(sentence):
        yield names, count


def count_words(sentence: str) -> Iterator[tuple[tuple[str, ...], str, int, int]]:
    """As `counted`, with the place of the word in the sentence."""
    low = sentence.lower()
    end = 0
    for mention in lexicon().mentions(low):
        start = max([end, *(part.end() for part in _PART.finditer(low, end, mention.start))])
        words = [
            m
            for m in _COUNT.finditer(low, start, mention.start)
            if not _NOT_A_COUNT.match(low, m.end()) and not (m[0] in NUMBERS and _RANGE.search(low[: m.start()]))
        ]
        if words:
            yield mention.names, count_of(words[-1].group()), words[-1].start(), words[-1].end()
        end = mention.stop


def count_of(word: str) -> str:
    """The count that a word states: "solitary" is "1", "numerous" is "several"."""
    if word in SINGLE:
        return "1"
    return "several" if word in SEVERAL else word if word in FEW else str(NUMBERS.index(word) + 1)


class Change(NamedTuple):
    """One fact before and after; None where it is not stated."""

    before: Stated | None
    after: Stated | None


def difference(before: Sequence[Stated], after: Sequence[Stated]) -> tuple[Change, ...]:
    """Facts that are not in both texts equally often; a lost and a gained fact of one name make one change."""
    lost, gained = Counter(before) - Counter(after), Counter(after) - Counter(before)
    left_over = list(gained.elements())
    changes = []
    for fact in lost.elements():
        same = [other for other in left_over if other.name == fact.name]
        best = max(same, key=lambda other: sum(a == b for a, b in zip(fact, other, strict=True)), default=None)
        if best is not None:
            left_over.remove(best)
        changes.append(Change(fact, best))
    return (*changes, *(Change(None, fact) for fact in left_over))


_DENIES_CHANGE = re.compile(
    r"\b(?:no|without|not)(?: (?:any|significant(?:ly)?|substantial(?:ly)?|appreciabl[ey]|definite|evident|interval"
    r"|obvious|relevant|gross|major|marked|real|show|been))* (?:changed?|changes|difference|increase|decrease"
    r"|progression|worsening|improvement)\b",
    re.IGNORECASE,
)
_GUARD = re.compile(
    r"\b(?:(?P<left>left|l[ul]l|lingul\w*)|(?P<right>right|r[uml]l)|(?P<both>bilateral\w*|both|bibasilar|bibasal|biapical)"
    r"|(?P<denial>no|not|without|nor|neither|never|absen\w+|absence|negative|denie[sd]|resol(?:ved|ution)"
    r"|no longer|removed|removal|excluded?|free)"
    r"|(?P<hedge>possibl[ey]|probabl[ey]|may|might|could|cannot|questionable|suspicious|suspected|likely|versus|vs))\b",
    re.IGNORECASE,
)


_SIZES = re.compile(
    r"(?P<numbers>\d+(?:\.\d+)?(?:(?: ?(?:mm|cm))? ?(?:x|×|by) ?\d+(?:\.\d+)?){0,2})[ -]?(?P<unit>mm|cm)\b",
    re.IGNORECASE,
)


def guard_words(text: str) -> Counter[str]:
    """Sides, denials and hedges by kind, and every extent ("8 mm"), also of what no lexicon names.

    A second check beside the facts: a rewrite that keeps the facts may still change what they do not hold.
    """
    bare = re.sub(r"\bno longer\b", "absent", _DENIES_CHANGE.sub(" ", text), flags=re.IGNORECASE)
    words = Counter(str(match.lastgroup) for match in _GUARD.finditer(bare))
    words.update("no change" for _ in _DENIES_CHANGE.finditer(text))
    for match in _SIZES.finditer(text):
        scale = 10 if match["unit"].lower() == "cm" else 1
        words.update(f"{float(number) * scale:g} mm" for number in re.findall(r"\d+(?:\.\d+)?", match["numbers"]))
    return words


def without_change(facts: Iterable[Stated]) -> tuple[Stated, ...]:
    """The same facts without their comparison to a prior."""
    return tuple(fact._replace(change=None) for fact in facts)
