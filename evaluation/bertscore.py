"""BERTScore: every token matched with the most similar token of the other text, by the cosine of contextual vectors.

Source: Zhang et al. 2020, arXiv:1904.09675, with the arithmetic of the package bert_score. The encoder comes as a
function, because this package loads no models; the variant names it with the hash of its weights. Scores of different
encoders, layers, weightings or baselines are different metrics.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.text_pairs import Floats, TextScore, reference_lists

_AT_ONCE = 256  # pairs, so that the vectors of a hundred thousand reports are never in memory together


class Encoded(NamedTuple):
    """A text as an encoder sees it: its tokens (L,), their vectors (L, E), and which mark its ends (L,) of bool.

    End marks can be matched with, but carry no weight of their own, as in bert_score.
    """

    tokens: Sequence[Hashable]
    vectors: NDArray[np.floating]
    special: NDArray[np.bool_]


Embed = Callable[[Sequence[str]], Sequence[Encoded]]


@dataclass(frozen=True)
class Baseline:
    """Mean precision, recall and F1 of unrelated texts under one encoder: rescaling turns a score s into (s-b)/(1-b).

    `name` says where the three come from, and goes into the variant.
    """

    precision: float
    recall: float
    f1: float
    name: str


def bert_score(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    embed: Embed,
    encoder: str,
    idf: bool = False,
    baseline: Baseline | None = None,
) -> dict[str, TextScore]:
    """BERTScore precision, recall and F1, means over texts; of several references the best of each.

    `encoder` names model, layer and hash, and goes into the variant. With `idf`, rare tokens weigh more, by the
    references of this very set. An empty text scores 0 before rescaling.
    Raises: ValueError and TypeError as TokenPairs, or if vectors and tokens of a text differ in number.
    """
    given = reference_lists(hypotheses, references)
    weights = _document_weights([text for texts in given for text in texts], embed) if idf else None
    rows = np.zeros((len(given), 3))
    for start in range(0, len(given), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        rows[part] = _scores(hypotheses[part], given[part], embed, weights)
    if baseline is not None:
        floor = np.array([baseline.precision, baseline.recall, baseline.f1])
        rows = (rows - floor) / (1 - floor)
    weighted = f"idf of {sum(map(len, given))} references" if idf else "no idf"
    scale = f"rescaled by {baseline.name}" if baseline is not None else "not rescaled"
    variant = f"greedy cosine, mean; {encoder}, {weighted}, {scale}"
    names = ("precision", "recall", "f1")
    return {name: TextScore.mean(f"bertscore.{name}", variant, rows[:, at]) for at, name in enumerate(names)}


def _scores(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    embed: Embed,
    weights: dict[Hashable, float] | None,
) -> Floats:
    """(N, 3): best precision, recall and F1 over the references of each text, every text encoded once."""
    texts = list(dict.fromkeys([*hypotheses, *(text for texts in references for text in texts)]))
    encoded = dict(zip(texts, map(_unit, embed(texts)), strict=True))
    return np.array(
        [
            np.max([greedy_match(encoded[text], encoded[other], weights) for other in others], axis=0)
            for text, others in zip(hypotheses, references, strict=True)
        ]
    )


def greedy_match(
    hypothesis: Encoded, reference: Encoded, weights: dict[Hashable, float] | None = None
) -> tuple[float, float, float]:
    """Precision, recall and F1 of two texts whose vectors have unit length; `weights` by token, 1 for all when None.

    A text without tokens between its ends scores 0, as does one whose tokens carry no weight.
    """
    if hypothesis.special.all() or reference.special.all():
        return 0.0, 0.0, 0.0
    similarity = hypothesis.vectors @ reference.vectors.T  # (L, M)
    precision = _weighted(similarity.max(axis=1), hypothesis, weights)
    recall = _weighted(similarity.max(axis=0), reference, weights)
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def _weighted(best: NDArray[np.floating], text: Encoded, weights: dict[Hashable, float] | None) -> float:
    weight = np.array([1.0 if weights is None else weights[token] for token in text.tokens])
    weight[text.special] = 0.0
    return float((best * weight).sum() / weight.sum()) if weight.sum() else 0.0


def _document_weights(references: Sequence[str], embed: Embed) -> dict[Hashable, float]:
    """log((N + 1) / (df + 1)) of each token; of one that no reference holds, log(N + 1)."""
    seen: Counter[Hashable] = Counter()
    for start in range(0, len(references), _AT_ONCE):
        for encoded in embed(references[start : start + _AT_ONCE]):
            seen.update(set(encoded.tokens))
    documents = len(references)
    return _Weights({token: math.log((documents + 1) / (count + 1)) for token, count in seen.items()}, documents)


class _Weights(dict[Hashable, float]):
    """Weights by token, with one for tokens that were never seen."""

    def __init__(self, known: dict[Hashable, float], documents: int) -> None:
        super().__init__(known)
        self._unseen = math.log(documents + 1)

    def __missing__(self, token: Hashable) -> float:
        return self._unseen


def _unit(encoded: Encoded) -> Encoded:
    """The same text with vectors of unit length, in double precision."""
    vectors = np.asarray(encoded.vectors, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(encoded.tokens) or len(vectors) != len(encoded.special):
        raise ValueError(
            f"the encoder gave vectors {vectors.shape} for {len(encoded.tokens)} tokens and "
            f"{len(encoded.special)} marks, expected one row and one mark for each token"
        )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return Encoded(encoded.tokens, vectors / np.where(length > 0, length, 1), encoded.special)
