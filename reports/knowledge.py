"""Knowledge a draft may cite: passages with their source, version and licence, and a search that may return nothing.

The search is Okapi BM25 (Robertson and Zaragoza 2009, doi:10.1561/1500000019) by bm25s, behind a gate: BM25 ranks, it
does not say whether the best passage is relevant at all, and a citation beside the point is worse than none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import bm25s

from reports.findings import Finding
from reports.json_lines import JsonLines
from reports.knowledge_files import KnowledgeFolder, open_knowledge
from reports.passage import KnowledgeError, KnowledgeSource, Passage

__all__ = [
    "Glossary",
    "JsonLines",
    "KnowledgeError",
    "KnowledgeFolder",
    "KnowledgeSource",
    "Passage",
    "look_up",
    "open_knowledge",
]

MIN_COVERAGE = 0.75
"""Share of the query's information (sum of IDF) that a passage must contain to be returned."""

MIN_TITLE_SHARE = 0.45
"""Share of the query's information in the title and the headings from which a passage is about it."""

MIN_DENSITY = 0.03
"""Share of a passage's words that are words of the query, from which it is about it whatever its title."""

_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")
_STOPWORDS = frozenset(
    _WORD.findall(
        "a an and any are as at be been but by can could did do does for from had has have how i if in into is it its"
        " me may might my of on or our should so than that the their them then there these they this those to was we"
        " were what when where which who why will with would you your about tell explain describe mean means show give"
        " please"
    )
)


@dataclass(frozen=True)
class Glossary:
    """The built-in glossary of chest findings (`reports/glossary.json`), in our own words after named sources."""

    name: str = "glossary"

    def passages(self) -> tuple[Passage, ...]:
        return _glossary()[0]

    def concept(self, name: str) -> Passage | None:
        """The entry with exactly this name or synonym (case and hyphens do not matter), or None."""
        return _glossary()[1].get(_key(name))

    @property
    def version(self) -> str:
        return str(_glossary_json()["version"])


@lru_cache(maxsize=1)
def _glossary_json() -> dict[str, Any]:
    return dict(json.loads((resources.files("reports") / "glossary.json").read_text(encoding="utf-8")))


@lru_cache(maxsize=1)
def _glossary() -> tuple[tuple[Passage, ...], dict[str, Passage]]:
    """Every entry as a passage, and the passages by every name they answer to."""
    data = _glossary_json()
    sources: dict[str, dict[str, str]] = data["sources"]
    passages: list[Passage] = []
    by_name: dict[str, Passage] = {}
    for entry in data["entries"]:
        source = sources[entry["source"]]
        passage = Passage(
            text=entry["definition"],
            title=entry["name"],
            section=f"RadLex {entry['radlex']}" if entry.get("radlex") else "",
            source=f"medvlm glossary, after {source['title']}",
            url=source["url"],
            version=str(data["version"]),
            licence=data["licence"],
            passage_id="glossary:" + _key(entry["name"]).replace(" ", "-"),
        )
        passages.append(passage)
        for name in (entry["name"], *entry.get("synonyms", ())):
            by_name.setdefault(_key(name), passage)
    return tuple(passages), by_name


def look_up(
    sources: Sequence[KnowledgeSource], query: Finding | str, k: int = 3, min_coverage: float = MIN_COVERAGE
) -> list[Passage]:
    """At most `k` passages for a finding or a question, best first; an empty list rather than noise.

    A glossary entry with exactly the name of the finding comes first. Any other passage must contain words that carry
    at least `min_coverage` of the query's IDF, words that no passage knows counting against it, and be about them: in
    its title, or by saying them often.
    """
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1 passage")
    text = query.name if isinstance(query, Finding) else query
    exact = [p for s in sources if isinstance(s, Glossary) for p in [s.concept(text)] if p is not None]
    found = [*exact, *(p for p in _index(tuple(sources)).search(text, k, min_coverage) if p not in exact)]
    return found[:k]


class _Index:
    """BM25 over title, section and text of all passages of some sources."""

    def __init__(self, sources: tuple[KnowledgeSource, ...]) -> None:
        self.passages = [passage for source in sources for passage in source.passages()]
        # the title is repeated: a passage named after the query is about it, one that mentions it may not be
        self.words = [_stems(f"{p.title} {p.title} {p.section} {p.text}") for p in self.passages]
        self.titles = [frozenset(_stems(f"{p.title} {p.section}")) for p in self.passages]
        self.sets = [frozenset(words) for words in self.words]
        self.frequency: dict[str, int] = {}
        for words in self.sets:
            for word in words:
                self.frequency[word] = self.frequency.get(word, 0) + 1
        self.engine = bm25s.BM25()
        if self.frequency:
            self.engine.index(self.words, show_progress=False)

    def search(self, query: str, k: int, min_coverage: float) -> list[Passage]:
        words = list(dict.fromkeys(_stems(query)))
        known = [word for word in words if word in self.frequency]
        if not known:
            return []
        deep = min(len(self.passages), max(50, 5 * k))
        order, scores = self.engine.retrieve([known], k=deep, show_progress=False)
        hits = [int(i) for i, score in zip(order[0], scores[0], strict=True) if score > 0]
        return [self.passages[i] for i in hits if self._relevant(i, words, min_coverage)][:k]

    def _relevant(self, i: int, words: list[str], min_coverage: float) -> bool:
        total = sum(self._idf(word) for word in words)
        covered = sum(self._idf(word) for word in words if word in self.sets[i])
        if total <= 0 or covered / total < min_coverage:
            return False
        # a long passage mentions many things in passing: its title, or how often it says the words, shows its topic
        in_title = sum(self._idf(word) for word in words if word in self.titles[i])
        said = sum(self.words[i].count(word) for word in words)
        return in_title / total >= MIN_TITLE_SHARE or said / len(self.words[i]) >= MIN_DENSITY

    def _idf(self, word: str) -> float:
        """Lucene's IDF in nats, never negative; largest for a word that no passage knows."""
        df = self.frequency.get(word, 0)
        return math.log(1 + (len(self.passages) - df + 0.5) / (df + 0.5))


@lru_cache(maxsize=8)
def _index(sources: tuple[KnowledgeSource, ...]) -> _Index:
    return _Index(sources)


def _stems(text: str) -> list[str]:
    """Lower-case words without stop words and plural endings."""
    return [_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOPWORDS]


def _stem(word: str) -> str:
    for ending, kept in (("ies", "y"), ("sses", "ss"), ("ses", "s"), ("s", "")):
        if len(word) > 4 and word.endswith(ending) and not word.endswith(("ss", "us", "is")):
            return word[: -len(ending)] + kept
    return word


def _key(name: str) -> str:
    return " ".join(re.sub(r"[-_/]", " ", name.lower()).split())
