"""CIDEr-D: agreement with the references, rare n-grams weighted more.

Source: Vedantam, Zitnick and Parikh 2015, arXiv:1411.5726, in the form of pycocoevalcap's class Cider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.ngrams import GramCounts, Ints, TokenTable, new_groups
from evaluation.text_pairs import Floats, TextScore, TokenPairs
from evaluation.tokenization import WHITESPACE, Tokenizer

_ORDERS = 4
_SIGMA = 6.0


def cider_d(pairs: TokenPairs) -> TextScore:
    """CIDEr-D with document frequencies of the evaluated set, 0 to 10, mean over texts; tokens of `PTB`.

    The number depends on the set it is computed over: a document is one pair, counted by its references. It is 0 for a
    set of one pair, and resampling keeps the frequencies of the whole set.
    """
    items = _items(pairs, pairs.counts, None, pairs.n)
    variant = f"frequencies of the {pairs.n} evaluated pairs; tokens: {pairs.tokenizer}"
    return TextScore.mean("coco.cider_d", variant, items)


def cider_d_with(pairs: TokenPairs, corpus: Sequence[str], tokenizer: Tokenizer = WHITESPACE) -> TextScore:
    """CIDEr-D with document frequencies of another corpus, such as the training reports; so two sets can be compared.

    The tokenizer is the one that the pairs were cut with.
    Raises: ValueError if the corpus is empty or the tokenizer another one.
    """
    if not len(corpus):
        raise ValueError("the corpus holds 0 texts, expected at least one to count document frequencies in")
    if tokenizer.name != pairs.tokenizer:
        raise ValueError(
            f"the pairs were cut by {pairs.tokenizer!r}, the corpus by {tokenizer.name!r}: use one tokenizer"
        )
    texts = [text for own, others in zip(pairs.hypotheses, pairs.references, strict=True) for text in (own, *others)]
    counts = list(TokenTable([*texts, *map(tokenizer.cut, corpus)]).grams(_ORDERS))
    items = _items(pairs, counts, len(texts), len(corpus))
    return TextScore.mean("coco.cider_d", f"frequencies of a corpus of {len(corpus)}; tokens: {pairs.tokenizer}", items)


def _items(pairs: TokenPairs, counts: list[GramCounts], corpus_from: int | None, documents: int) -> Floats:
    """(N,): the score of each pair, given the counts of its texts, those of a corpus after them."""
    total = np.zeros(pairs.n)
    bigrams = counts[1].totals[: len(pairs.pair_of)]
    gap = (bigrams[pairs.starts][pairs.pair_of] - bigrams).astype(np.float64)
    fits = np.exp(-(gap**2) / (2 * _SIGMA**2))  # (T,): how well each text's length fits the generated one's
    for found in counts:
        frequency = _frequencies(found, pairs, corpus_from)
        weight = found.count * (math.log(documents) - np.log(np.maximum(frequency, 1))[found.gram])
        mine = found.text < len(pairs.pair_of)
        total += _similarity(pairs, found.gram[mine], found.text[mine], weight[mine], fits)
    references = pairs.width - 1
    return np.asarray(total / (_ORDERS * references) * 10, dtype=np.float64)


def _frequencies(found: GramCounts, pairs: TokenPairs, corpus_from: int | None) -> Ints:
    """(G,): documents that hold each n-gram. A document is a text of the corpus, else the references of one pair."""
    if corpus_from is not None:
        return np.bincount(found.gram[found.text >= corpus_from], minlength=found.grams)
    pair = pairs.pair_of[found.text]
    reference = found.text != pairs.starts[pair]
    gram, pair = found.gram[reference], pair[reference]
    return np.bincount(gram[new_groups(gram, pair)], minlength=found.grams)


def _similarity(pairs: TokenPairs, gram: Ints, text: Ints, weight: Floats, fits: Floats) -> Floats:
    """(N,): sum over references of the clipped cosine of one order times the fit of lengths."""
    if not len(gram):
        return np.zeros(pairs.n)
    texts = len(pairs.pair_of)
    norm = np.sqrt(np.bincount(text, weight**2, texts))
    pair = pairs.pair_of[text]
    own = text == pairs.starts[pair]
    theirs = _weight_in_own(gram, pair, own, weight)
    product = np.bincount(text, np.where(own, 0.0, np.minimum(theirs, weight) * weight), texts)
    scale = norm * norm[pairs.starts][pairs.pair_of]
    cosine = np.divide(product, scale, out=product.copy(), where=scale != 0)
    return np.asarray(np.bincount(pairs.pair_of, cosine * fits, pairs.n), dtype=np.float64)


def _weight_in_own(gram: Ints, pair: Ints, own: NDArray[np.bool_], weight: Floats) -> Floats:
    """(E,): for each entry, the weight of its n-gram in the generated text of its pair, 0 where it is not there."""
    new = new_groups(gram, pair)
    begins = np.flatnonzero(new)
    return np.asarray(np.where(own[begins], weight[begins], 0.0)[np.cumsum(new) - 1], dtype=np.float64)
