"""n-grams of many texts at once: every order is counted with one sort, so that the corpus metrics need no Python loop.

A text is a list of tokens (words or characters). Each n-gram gets a number, equal for equal n-grams and without
collisions: the number of the n-gram one shorter and the number of its last token are packed into one integer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class GramCounts:
    """How often each n-gram of one order occurs in each text.

    One entry for each n-gram of each text, (E,), sorted by n-gram, then text: `gram`, `text` and `count`. `totals` (T,)
    is the number of n-grams of each text, repeats included. `grams` is the number of different n-grams.
    """

    order: int
    gram: Ints
    text: Ints
    count: Ints
    totals: Ints
    grams: int


class TokenTable:
    """Texts as one row of token numbers (P,) with the number of each token's text (P,)."""

    def __init__(self, texts: Sequence[Sequence[Hashable]]) -> None:
        self.lengths: Ints = np.fromiter(map(len, texts), np.int64, len(texts))
        flat = list(chain.from_iterable(texts))
        vocabulary = {token: number for number, token in enumerate(dict.fromkeys(flat))}
        self.tokens: Ints = np.fromiter(map(vocabulary.__getitem__, flat), np.int64, len(flat))
        self._prepare(len(vocabulary))

    @classmethod
    def of_characters(cls, texts: Sequence[str]) -> TokenTable:
        """Texts as rows of code points, which is what a character metric counts."""
        table = cls.__new__(cls)
        table.lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        # surrogatepass: a lone surrogate is a character like another
        table.tokens = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
        table._prepare(int(table.tokens.max()) + 1 if len(table.tokens) else 0)
        return table

    def _prepare(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.text: Ints = np.repeat(np.arange(len(self.lengths)), self.lengths)
        ends = np.cumsum(self.lengths)
        self.left: Ints = np.repeat(ends, self.lengths) - np.arange(len(self.tokens))  # tokens to the end of the text

    def grams(self, orders: int) -> Iterator[GramCounts]:
        """Counts of order 1, then 2, up to `orders`."""
        number, size = np.zeros_like(self.tokens), 1  # the empty n-gram is the same everywhere
        for order in range(1, orders + 1):
            at = np.flatnonzero(self.left >= order)
            key = number[at] * self.vocabulary + self.tokens[at + order - 1]
            where, first = _sorted_groups(key, at, size * self.vocabulary, len(self.tokens))
            gram = np.cumsum(first) - 1
            text = self.text[where]
            begins = np.flatnonzero(new_groups(gram, text))
            number = np.zeros_like(self.tokens)
            number[where] = gram
            size = int(gram[-1]) + 1 if len(gram) else 0
            totals = np.maximum(self.lengths - order + 1, 0)
            counts = np.diff(np.concatenate([begins, [len(where)]]))
            yield GramCounts(order, gram[begins], text[begins], counts, totals, size)


def new_groups(first: Ints, second: Ints) -> NDArray[np.bool_]:
    """Where a new (first, second) begins in rows sorted by both, (E,)."""
    new = np.ones(len(first), dtype=bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return new


def _sorted_groups(key: Ints, at: Ints, keys: int, positions: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Positions (M,) sorted by key, then position, and where a new key begins (M,)."""
    bits = max(positions - 1, 0).bit_length()
    if keys.bit_length() + bits < 63:  # sorting the packed values is several times faster than sorting an index
        packed = (key << bits) | at
        packed.sort()
        where, key = packed & ((1 << bits) - 1), packed >> bits
    else:
        order = np.argsort(key, kind="stable")
        where, key = at[order], key[order]
    first = np.ones(len(key), dtype=bool)
    first[1:] = key[1:] != key[:-1]
    return where, first
