"""Pairs of a generated text and its references, cut into tokens once, and what a text metric answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import Rows
from evaluation.ngrams import GramCounts, Ints, TokenTable, new_groups
from evaluation.tokenization import WHITESPACE, Tokenizer

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TextScore:
    """One text metric over a set. `variant` says which of the computations that share its name this is.

    `value` is the published number of the set; `items` (N,) the number of each pair, in the same unit. `over` maps row
    numbers to the number of those rows, so that `patient_bootstrap(score.over, patients)` gives its interval: a corpus
    metric sums counts and is not the mean of its items.
    """

    name: str
    variant: str
    value: float
    items: Floats
    over: Callable[[Rows], float]

    @property
    def n(self) -> int:
        """Number of pairs."""
        return len(self.items)

    @classmethod
    def mean(cls, name: str, variant: str, items: Floats) -> TextScore:
        """A metric whose number for a set is the mean over pairs."""
        return cls(name, variant, float(items.mean()), items, lambda rows: float(items[rows].mean()))


class Matches(NamedTuple):
    """n-grams of one order by pair: every n-gram of a pair once, (R,), sorted by n-gram, then pair.

    `hypothesis` counts it in the generated text, `reference` in the reference that has it most often.
    """

    pair: Ints
    hypothesis: Ints
    reference: Ints


class TokenPairs:
    """N generated texts with one or more references each, as tokens of one tokenizer.

    Raises: ValueError if there are no pairs, numbers differ, or a text has no reference; TypeError for what is no text.
    """

    def __init__(
        self, hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], tokenizer: Tokenizer = WHITESPACE
    ) -> None:
        given = reference_lists(hypotheses, references)
        cut = tokenizer.cut
        self.tokenizer = tokenizer.name
        self.n = len(given)
        self.hypotheses = [cut(text) for text in hypotheses]
        self.references = [[cut(text) for text in texts] for texts in given]

    @cached_property
    def counts(self) -> list[GramCounts]:
        """Orders 1 to 4 over all texts, those of one pair beside each other: the generated one, then its references."""
        texts = [text for pair, references in zip(self.hypotheses, self.references, strict=True)
                 for text in (pair, *references)]  # fmt: skip
        return list(TokenTable(texts).grams(4))

    @cached_property
    def width(self) -> Ints:
        """Texts of each pair, (N,): one, and its references."""
        return np.fromiter((1 + len(references) for references in self.references), np.int64, self.n)

    @cached_property
    def starts(self) -> Ints:
        """Number of each pair's generated text among all texts, (N,); its references follow."""
        return np.cumsum(self.width) - self.width

    @cached_property
    def pair_of(self) -> Ints:
        """The pair that a text belongs to, (T,)."""
        return np.repeat(np.arange(self.n), self.width)

    def matches(self, order: int) -> Matches:
        """The n-grams of one order, 1 to 4, counted in both texts of each pair."""
        counts = self.counts[order - 1]
        return pair_counts(counts, self.pair_of, self.starts)

    @cached_property
    def lengths(self) -> tuple[Ints, Ints]:
        """Tokens of the generated text, and of the reference that is closest in length, or the shorter of two, (N,)."""
        own = np.fromiter(map(len, self.hypotheses), np.int64, self.n)
        closest = [
            min((abs(len(text) - length), len(text)) for text in texts)[1]
            for length, texts in zip(own.tolist(), self.references, strict=True)
        ]
        return own, np.array(closest, dtype=np.int64)


def reference_lists(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> list[Sequence[str]]:
    """One list of references for each generated text, which are checked.

    Raises: ValueError if there are no pairs, numbers differ, or a text has no reference; TypeError for what is no text.
    """
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise TypeError("one text was given, expected lists of texts: put it in a list")
    if len(hypotheses) != len(references) or not len(hypotheses):
        raise ValueError(
            f"{len(hypotheses)} generated texts and {len(references)} references, expected as many, at least one"
        )
    given = [[texts] if isinstance(texts, str) else texts for texts in references]
    for row, (text, texts) in enumerate(zip(hypotheses, given, strict=True)):
        if not isinstance(text, str):
            raise TypeError(f"generated text {row} is {_kind(text)}, expected text: leave such rows out, or use ''")
        if isinstance(texts, float) or texts is None or not all(isinstance(one, str) for one in texts):
            raise TypeError(f"the reference of text {row} is {_kind(texts)}, expected text or a list of texts")
        if not len(texts):
            raise ValueError(f"text {row} has 0 references, expected at least one")
    return given


def pair_counts(counts: GramCounts, pair_of: Ints, starts: Ints) -> Matches:
    """Entries of single texts joined into entries of pairs; the largest count of several references is kept."""
    if not len(counts.gram):
        return Matches(counts.gram, counts.gram, counts.gram)
    pair = pair_of[counts.text]
    own = counts.text == starts[pair]
    begins = np.flatnonzero(new_groups(counts.gram, pair))
    reference = np.maximum.reduceat(np.where(own, 0, counts.count), begins)
    hypothesis = np.where(own[begins], counts.count[begins], 0)  # the generated text comes first within its pair
    return Matches(pair[begins], hypothesis, reference)


def common_counts(counts: GramCounts, pair_of: Ints, starts: Ints) -> Ints:
    """n-grams that each text shares with the generated text of its pair, counted at most as often as in both, (T,).

    The entry of the generated text itself is 0.
    """
    pair = pair_of[counts.text]
    own = counts.text == starts[pair]
    new = new_groups(counts.gram, pair)
    begins = np.flatnonzero(new)
    theirs = np.where(own[begins], counts.count[begins], 0)[np.cumsum(new) - 1]
    both = np.where(own, 0, np.minimum(theirs, counts.count))
    return np.bincount(counts.text, both, len(counts.totals)).astype(np.int64)


def harmonic(precision: Floats, recall: Floats, beta: float = 1.0) -> Floats:
    """F-measure of arrays, recall weighted beta times as much as precision; 0 where both are 0."""
    bottom = recall + beta**2 * precision
    return np.divide((1 + beta**2) * precision * recall, bottom, out=np.zeros_like(bottom), where=bottom > 0)


def _kind(value: object) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return f"of type {type(value).__name__}"
