"""chrF and chrF++: F2 of character n-grams, in chrF++ of words and word pairs too; as sacrebleu computes them.

Sources: Popović 2015, doi:10.18653/v1/W15-3049; Popović 2017, doi:10.18653/v1/W17-4770.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.intervals import Rows
from evaluation.ngrams import Ints, TokenTable
from evaluation.text_pairs import Floats, TextScore, common_counts, reference_lists

_CHARACTERS, _WORDS = 6, 2
_BETA = 2
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_AT_ONCE = 1000  # pairs; the counts of all characters of a hundred thousand reports would not fit in memory


def chrf(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], words: bool = False) -> TextScore:
    """chrF of a corpus, or chrF++ with `words`, 0 to 100; case kept, no white space. Items are scores of single texts.

    Of several references the one with the best score counts. Two empty texts score 0.
    Raises: ValueError and TypeError as TokenPairs.
    """
    given = reference_lists(hypotheses, references)
    parts = [
        _best(hypotheses[start : start + _AT_ONCE], given[start : start + _AT_ONCE], words)
        for start in range(0, len(given), _AT_ONCE)
    ]
    counts = np.concatenate(parts)

    def over(rows: Rows) -> float:
        return float(_f_score(counts[rows].sum(0, keepdims=True))[0])

    name, orders = (
        ("sacrebleu.chrf++", "characters 1 to 6, words 1 to 2") if words else ("sacrebleu.chrf", "characters 1 to 6")
    )
    variant = f"corpus, sacrebleu, 0 to 100, {orders}, beta 2, case kept, effective order"
    return TextScore(name, variant, over(np.arange(len(counts))), _f_score(counts), over)


def _best(hypotheses: Sequence[str], references: Sequence[Sequence[str]], words: bool) -> Ints:
    """(N, K, 3): n-grams of the generated text, of its best reference, and common ones, for each of K orders."""
    texts = [text for own, others in zip(hypotheses, references, strict=True) for text in (own, *others)]
    width = np.fromiter((1 + len(others) for others in references), np.int64, len(references))
    starts = np.cumsum(width) - width
    pair_of = np.repeat(np.arange(len(width)), width)
    orders = list(TokenTable.of_characters(["".join(text.split()) for text in texts]).grams(_CHARACTERS))
    if words:
        orders += TokenTable([_words(text) for text in texts]).grams(_WORDS)
    common = np.stack([common_counts(counts, pair_of, starts) for counts in orders], axis=1)  # (T, K)
    total = np.stack([counts.totals for counts in orders], axis=1)
    # n-grams of the generated text do not count where the reference has none of that order
    own = np.where(total > 0, total[starts][pair_of], 0)
    counts = np.stack([own, total, common], axis=2)
    score = _f_score(counts)
    score[starts] = -1.0  # the generated text is not its own reference
    best = np.maximum.reduceat(score, starts)
    candidates = np.flatnonzero((score == best[pair_of]) & (score >= 0))
    return np.asarray(counts[candidates[np.unique(pair_of[candidates], return_index=True)[1]]], dtype=np.int64)


def _f_score(counts: Ints) -> Floats:
    """(N,): the score of each row of counts (N, K, 3); precision and recall are averaged over orders that both have."""
    own, reference, common = (counts[..., at].astype(np.float64) for at in range(3))
    known = (own > 0) & (reference > 0)
    orders = np.maximum(known.sum(-1), 1)
    precision = np.divide(common, own, out=np.zeros_like(common), where=known).sum(-1) / orders
    recall = np.divide(common, reference, out=np.zeros_like(common), where=known).sum(-1) / orders
    bottom = _BETA**2 * precision + recall
    return 100 * np.divide((1 + _BETA**2) * precision * recall, bottom, out=np.zeros_like(bottom), where=bottom > 0)


def _words(text: str) -> list[str]:
    """Words with one punctuation mark taken off, the last before the first: "(hi)" becomes "(hi" and ")"."""
    found: list[str] = []
    for word in text.split():
        if len(word) > 1 and word[-1] in _PUNCTUATION:
            found += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in _PUNCTUATION:
            found += [word[0], word[1:]]
        else:
            found.append(word)
    return found
