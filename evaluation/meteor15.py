"""METEOR 1.5 without its synonyms and paraphrases: exact words and Snowball stems, ranking parameters for English.

The full metric needs WordNet and a paraphrase table of 60 MB; what is left without them equals the original run with
`-l en -lower -m 'exact stem' -w '1.0 0.6'` on the same tokens, and is named so: it is lower than the full one, and
pycocoevalcap's `-norm` cuts once more, at hyphens.
Source: Denkowski and Lavie 2014, doi:10.3115/v1/W14-3348.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import Rows
from evaluation.stemming_snowball import snowball
from evaluation.text_pairs import Floats, TextScore, TokenPairs

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_STEM_WEIGHT = 0.6
_BEAM = 40
# English words above a relative frequency of one in a thousand: the function words of METEOR 1.5, which count a third
# of a content word.
_FREQUENT = """
the , . to of and a in that for " is on 's it with was as said at he by be from have has are his but an this
not i will ’ they ) -rrb- ( -lrb- who their had we which were been more or s its would about new one after you
: also up when there than $ all out her people she year two - can if last first “ over other ” into some what
so -- no time years could ? 't — '
"""
_FUNCTION_WORDS = frozenset(_FREQUENT.split())


class _Path(NamedTuple):
    """A partial alignment, read along the reference: what decides, where it stands, what it used, and its links."""

    exact: int
    chunks: int
    distance: int
    end: int  # place after the last linked word of the generated text, -1 after a gap
    used: int  # bits of the generated words in use
    links: tuple[object, ...]  # (links before, link) nested, so that paths share what they share


class _Link(NamedTuple):
    reference: int
    hypothesis: int
    exact: bool


def meteor_15(pairs: TokenPairs) -> TextScore:
    """METEOR 1.5 of a corpus, 0 to 1, from summed statistics; items are the scores of single texts.

    The best of several references counts. An empty text scores 0, two equal texts 1. Words in lower case.
    """
    stats = np.zeros((pairs.n, 9))
    for row, (hypothesis, references) in enumerate(zip(pairs.hypotheses, pairs.references, strict=True)):
        own = [word.lower() for word in hypothesis]
        found = np.stack([_statistics(own, [word.lower() for word in reference]) for reference in references])
        stats[row] = found[np.argmax(_scores(found))]
    summed = stats.copy()
    summed[_whole(stats), -1] = 0  # a text that matches as one chunk adds none to the sum of chunks

    def over(rows: Rows) -> float:
        return float(_scores(summed[rows].sum(0, keepdims=True))[0])

    variant = f"1.5 without -norm, corpus, exact and stem only, no synonyms or paraphrases; tokens: {pairs.tokenizer}"
    return TextScore("meteor_15.exact_stem", variant, over(np.arange(pairs.n)), _scores(stats), over)


def _scores(stats: Floats) -> Floats:
    """(N,): scores of rows of weighted lengths (2), weighted matches (2), lengths (2), matched words (2) and chunks."""
    own_size, their_size, own_found, their_found, _, _, own_hits, their_hits, chunks = stats.T
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = own_found / own_size, their_found / their_size
        mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        fragments = np.where(_whole(stats), 0.0, chunks / ((own_hits + their_hits) / 2))
        score = mean * (1 - _GAMMA * fragments**_BETA)
    return np.maximum(np.nan_to_num(score, nan=0.0), 0.0)


def _whole(stats: Floats) -> NDArray[np.bool_]:
    """(N,): every word of both texts is matched, in one chunk."""
    own_words, their_words, own_hits, their_hits, chunks = stats[:, 4:].T
    return np.asarray((own_hits == own_words) & (their_hits == their_words) & (chunks == 1))


def _statistics(own: list[str], theirs: list[str]) -> Floats:
    links, chunks = _align(own, theirs)
    own_weight = [1 - _DELTA if word in _FUNCTION_WORDS else _DELTA for word in own]
    their_weight = [1 - _DELTA if word in _FUNCTION_WORDS else _DELTA for word in theirs]
    worth = [1.0 if link.exact else _STEM_WEIGHT for link in links]
    own_found = sum(w * own_weight[link.hypothesis] for w, link in zip(worth, links, strict=True))
    their_found = sum(w * their_weight[link.reference] for w, link in zip(worth, links, strict=True))
    return np.array([sum(own_weight), sum(their_weight), own_found, their_found, len(own), len(theirs), len(links),
                     len(links), chunks])  # fmt: skip


def _align(own: list[str], theirs: list[str]) -> tuple[list[_Link], int]:
    """The alignment with most exact matches, then fewest chunks, then shortest distance that a beam search finds."""
    possible = _possible(own, theirs)
    fixed = _fixed(possible, len(own))
    start = _Path(0, 0, 0, -1, sum(1 << link.hypothesis for link in fixed.values()), ())
    paths = [start]
    for place, choices in enumerate(possible):
        paths.sort(key=lambda path: (-path.exact, path.chunks, path.distance))
        paths = _advanced(paths[:_BEAM], choices, fixed.get(place))
    paths.sort(key=lambda path: (-path.exact, path.chunks, path.distance))
    closed = [path._replace(chunks=path.chunks + (path.end != -1)) for path in paths[:_BEAM]]
    best = min(closed, key=lambda path: (-path.exact, path.chunks, path.distance))
    return _unnested(best.links), best.chunks


def _possible(own: list[str], theirs: list[str]) -> list[list[_Link]]:
    """For each word of the reference, the words of the generated text that may match it: exact ones, then stems."""
    places: dict[str, list[int]] = {}
    stems: dict[str, list[int]] = {}
    for place, word in enumerate(own):
        places.setdefault(word, []).append(place)
        stems.setdefault(snowball(word), []).append(place)
    found = []
    for at, word in enumerate(theirs):
        exact = [_Link(at, place, True) for place in places.get(word, ())]
        if own != theirs:  # the original looks for nothing but exact matches in equal texts
            exact += [_Link(at, place, False) for place in stems.get(snowball(word), ()) if own[place] != word]
        found.append(exact)
    return found


def _fixed(possible: list[list[_Link]], words: int) -> dict[int, _Link]:
    """Links that compete with no other, by place in the reference."""
    wanted = [0] * words
    for choices in possible:
        for link in choices:
            wanted[link.hypothesis] += 1
    return {
        place: choices[0]
        for place, choices in enumerate(possible)
        if len(choices) == 1 and wanted[choices[0].hypothesis] == 1
    }


def _advanced(paths: list[_Path], choices: list[_Link], fixed: _Link | None) -> list[_Path]:
    """Every path, one word of the reference further."""
    following = []
    for path in paths:
        if fixed is not None:
            far = path.distance + abs(fixed.reference - fixed.hypothesis)
            following.append(_linked(path, fixed, far))
            continue
        far = path.distance
        for link in choices:
            if not path.used >> link.hypothesis & 1:
                # the original adds a link's distance to the path that it leaves, not to the one that it makes
                following.append(_linked(path, link, far))
                far += abs(link.reference - link.hypothesis)
        following.append(path._replace(chunks=path.chunks + (path.end != -1), end=-1, distance=far))
    return following


def _linked(path: _Path, link: _Link, distance: int) -> _Path:
    new_chunk = path.end not in (-1, link.hypothesis)
    return _Path(
        path.exact + link.exact,
        path.chunks + new_chunk,
        distance,
        link.hypothesis + 1,
        path.used | 1 << link.hypothesis,
        (path.links, link),
    )


def _unnested(links: tuple[object, ...]) -> list[_Link]:
    found: list[_Link] = []
    rest: object = links
    while isinstance(rest, tuple) and len(rest) == 2:
        rest, link = rest
        if isinstance(link, _Link):
            found.append(link)
    return found[::-1]
