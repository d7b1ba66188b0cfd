"""METEOR in nltk's form of the metric of 2007: words matched as they are, by stem, and by synonyms where given.

Source: Lavie and Agarwal 2007, https://aclanthology.org/W07-0734, with nltk's parameters alpha 0.9, beta 3, gamma 0.5
and its greedy matching from the end. METEOR 1.5 gives other numbers: see meteor15.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np

from evaluation.stemming import porter
from evaluation.text_pairs import TextScore, TokenPairs

_ALPHA, _BETA, _GAMMA = 0.9, 3.0, 0.5
Synonyms = Callable[[str], Iterable[str]]
"""Words that may stand for a word, all of its senses pooled; WordNet's lemma names without an underscore, in nltk."""

_Words = list[tuple[int, str]]
_Links = list[tuple[int, int]]


def nltk_meteor(pairs: TokenPairs, synonyms: Synonyms | None = None) -> TextScore:
    """METEOR as nltk computes it, 0 to 1, the best of several references, mean over texts; words in lower case.

    Without `synonyms` it is the number that nltk gives when WordNet knows no word, and the variant says so; WordNet is
    not shipped. An empty text scores 0. A perfect match scores less than 1: one chunk still costs its penalty.
    """
    items = np.zeros(pairs.n)
    for row, (hypothesis, references) in enumerate(zip(pairs.hypotheses, pairs.references, strict=True)):
        own = [word.lower() for word in hypothesis]
        items[row] = max(_score(own, [word.lower() for word in reference], synonyms) for reference in references)
    modules = "exact and Porter stem, no WordNet" if synonyms is None else "exact, Porter stem and given synonyms"
    variant = f"nltk, alpha 0.9 beta 3 gamma 0.5, {modules}, mean; tokens: {pairs.tokenizer}"
    return TextScore.mean("nltk.meteor", variant, items)


def _score(hypothesis: Sequence[str], reference: Sequence[str], synonyms: Synonyms | None) -> float:
    links, own, theirs = _match(list(enumerate(hypothesis)), list(enumerate(reference)))
    more, own, theirs = _match(_stemmed(own), _stemmed(theirs))
    links += more
    if synonyms is not None:
        links += _match_synonyms(own, theirs, synonyms)
    if not links:
        return 0.0
    links.sort()
    precision, recall = len(links) / len(hypothesis), len(links) / len(reference)
    mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    return (1 - _GAMMA * (_chunks(links) / len(links)) ** _BETA) * mean


def _stemmed(words: _Words) -> _Words:
    return [(place, porter(word)) for place, word in words]


def _match(own: _Words, theirs: _Words) -> tuple[_Links, _Words, _Words]:
    """Equal words linked, the last with the last; and what is left of both."""
    places: dict[str, list[int]] = {}
    for place, word in theirs:
        places.setdefault(word, []).append(place)
    links, left = [], []
    for place, word in reversed(own):
        found = places.get(word)
        if found:
            links.append((place, found.pop()))
        else:
            left.append((place, word))
    used = {place for _, place in links}
    return links, left[::-1], [pair for pair in theirs if pair[0] not in used]


def _match_synonyms(own: _Words, theirs: _Words, synonyms: Synonyms) -> _Links:
    """Each word, from the end, linked with the last free word that may stand for it; words are stems here."""
    places: dict[str, list[int]] = {}
    for place, word in theirs:
        places.setdefault(word, []).append(place)
    links = []
    for place, word in reversed(own):
        free = [places[other] for other in {word, *synonyms(word)} if places.get(other)]
        if free:
            links.append((place, max(free, key=lambda found: found[-1]).pop()))
    return links


def _chunks(links: _Links) -> int:
    """Runs of links that are neighbours in both texts."""
    return 1 + sum((after[0] != before[0] + 1) or (after[1] != before[1] + 1) for before, after in pairwise(links))
