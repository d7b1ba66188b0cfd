"""BLEU in the forms that reports are scored with; the same texts give different numbers, so each names its variant.

Source: Papineni et al. 2002, doi:10.3115/1073083.1073135; the forms are those of pycocoevalcap, sacrebleu and nltk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from evaluation.intervals import Rows
from evaluation.ngrams import Ints
from evaluation.text_pairs import Floats, TextScore, TokenPairs

Smoothing = Literal["none", "floor", "add-k", "exp"]
SentenceSmoothing = Literal["none", "epsilon", "add-one", "nist"]
_TINY, _SMALL = 1e-15, 1e-9  # pycocoevalcap's guards against dividing by zero, which show on short texts
_EPSILON = 0.1  # of Chen and Cherry 2014
_SMALLEST = 2.2250738585072014e-308  # the smallest normal float, which nltk puts in the place of a precision of 0


@dataclass(frozen=True)
class BleuCounts:
    """What BLEU needs of each pair: clipped matches and n-grams by order (N, K), and lengths in tokens (N,)."""

    correct: Ints
    guess: Ints
    length: Ints
    reference_length: Ints


def bleu_counts(pairs: TokenPairs, orders: int = 4) -> BleuCounts:
    """Count matches, clipped by the reference that has an n-gram most often, and take the closest reference length."""
    correct = np.zeros((pairs.n, orders), dtype=np.int64)
    for order in range(1, orders + 1):
        found = pairs.matches(order)
        both = np.minimum(found.hypothesis, found.reference)
        correct[:, order - 1] = np.bincount(found.pair, both, pairs.n)
    length, reference_length = pairs.lengths
    guess = np.maximum(length[:, None] - np.arange(orders), 0)
    return BleuCounts(correct, guess, length, reference_length)


def coco_bleu(pairs: TokenPairs) -> list[TextScore]:
    """BLEU-1 to BLEU-4 of a corpus as pycocoevalcap computes them, 0 to 1; items are its scores of single texts.

    Its tokens are those of `PTB`; an empty generated text scores 0.
    """
    counts = bleu_counts(pairs)
    items = _coco(counts.correct, counts.guess, counts.length, counts.reference_length)
    variant = f"corpus, pycocoevalcap's constants, closest reference length; tokens: {pairs.tokenizer}"
    scores = []
    for order in range(1, 5):
        over = _corpus(counts, partial(_coco_order, order))
        scores.append(TextScore(f"coco.bleu_{order}", variant, over(np.arange(pairs.n)), items[:, order - 1], over))
    return scores


def _coco_order(order: int, correct: Ints, guess: Ints, length: Ints, reference_length: Ints) -> float:
    return float(_coco(correct, guess, length, reference_length)[0, order - 1])


def _coco(correct: Ints, guess: Ints, length: Ints, reference_length: Ints) -> Floats:
    """(N, 4): BLEU-1 to BLEU-4 of each row of counts."""
    orders = np.arange(1, correct.shape[1] + 1)
    score = np.cumprod((correct + _TINY) / (guess + _SMALL), axis=1) ** (1 / orders)
    ratio = (length + _TINY) / (reference_length + _SMALL)
    # an empty text has a ratio of 1e-15 over something: its penalty is 0 to any precision
    penalty = np.exp(np.minimum(1 - 1 / ratio, 0.0))
    return np.asarray(score * penalty[:, None], dtype=np.float64)


def sacre_bleu(
    pairs: TokenPairs, smoothing: Smoothing = "exp", value: float | None = None, effective_order: bool = False
) -> TextScore:
    """BLEU-4 of a corpus as sacrebleu computes it, 0 to 100; items are sentence BLEU with effective order.

    Its tokens are those of `V13A` (case kept) or `V13A_LOWER`. `value` is the constant of `floor` (0.1 when left out)
    and `add-k` (1). Source: Post 2018, arXiv:1804.08771.
    """
    counts = bleu_counts(pairs)
    constant = {"floor": 0.1, "add-k": 1.0}.get(smoothing, 0.0) if value is None else value

    def corpus(correct: Ints, guess: Ints, length: Ints, reference_length: Ints) -> float:
        lengths = (int(length[0]), int(reference_length[0]))
        return _sacre(correct[0].tolist(), guess[0].tolist(), lengths, smoothing, constant, effective_order)

    lengths = zip(counts.length.tolist(), counts.reference_length.tolist(), strict=True)
    rows = zip(counts.correct.tolist(), counts.guess.tolist(), lengths, strict=True)
    items = np.array([_sacre(hits, of, size, smoothing, constant, True) for hits, of, size in rows])
    over = _corpus(counts, corpus)
    note = f"{smoothing}[{constant:.2f}]" if smoothing in ("floor", "add-k") else smoothing
    order = "yes" if effective_order else "no"
    variant = f"corpus, sacrebleu, 0 to 100, smooth:{note}, eff:{order}; tokens: {pairs.tokenizer}"
    return TextScore("sacrebleu.bleu", variant, over(np.arange(pairs.n)), items, over)


def _sacre(
    correct: list[int], total: list[int], lengths: tuple[int, int], smoothing: Smoothing, constant: float, eff: bool
) -> float:
    length, reference = lengths
    if not any(correct):
        return 0.0
    penalty = 1.0
    if length < reference:
        penalty = math.exp(1 - reference / length) if length else 0.0
    precisions = [0.0] * len(correct)
    halving, orders = 1.0, len(correct)
    for at, (hits, of) in enumerate(zip(correct, total, strict=True)):
        added = constant if smoothing == "add-k" and at else 0.0
        found, tried = hits + added, of + added
        if tried == 0:
            break
        if eff:
            orders = at + 1
        if found:
            precisions[at] = 100 * found / tried
        elif smoothing == "exp":
            halving *= 2
            precisions[at] = 100 / (halving * tried)
        elif smoothing == "floor":
            precisions[at] = 100 * constant / tried
    if min(precisions[:orders]) == 0:
        return 0.0
    return penalty * math.exp(sum(map(math.log, precisions[:orders])) / orders)


def sentence_bleu(pairs: TokenPairs, order: int = 4, smoothing: SentenceSmoothing = "epsilon") -> TextScore:
    """Mean over texts of sentence BLEU up to `order` with equal weights, 0 to 1, as nltk computes it.

    The smoothings are methods 0 to 3 of Chen and Cherry 2014, doi:10.3115/v1/W14-3346, in nltk's form: none (a text
    without a match at some order scores 0), epsilon (0.1 in the place of 0 matches), add-one (matches and n-grams,
    above order 1), nist (1/2, 1/4, … in the place of 0 matches). A text without a common word scores 0.
    CXR-Report-Metric prints order 2 of fast_bleu on the tokens of `REPORT_METRIC`; fast_bleu puts epsilon unasked.
    Raises: ValueError if the order is not 1 to 4.
    """
    if order not in (1, 2, 3, 4):
        raise ValueError(f"order is {order}, expected 1 to 4")
    counts = bleu_counts(pairs, order)
    items = _sentences(counts, smoothing)
    variant = f"mean of sentence BLEU, nltk, smoothing {smoothing}; tokens: {pairs.tokenizer}"
    return TextScore.mean(f"nltk.sentence_bleu_{order}", variant, items)


def _sentences(counts: BleuCounts, smoothing: SentenceSmoothing) -> Floats:
    correct, guess = counts.correct.astype(np.float64), np.maximum(counts.guess, 1).astype(np.float64)
    none = correct == 0
    if smoothing == "add-one":
        correct[:, 1:], guess[:, 1:] = correct[:, 1:] + 1, guess[:, 1:] + 1
    precision = correct / guess
    if smoothing == "none":
        precision[none] = _SMALLEST
    elif smoothing == "epsilon":
        precision[none] = _EPSILON / guess[none]
    elif smoothing == "nist":
        precision[none] = (1 / (2.0 ** np.cumsum(none, axis=1) * guess))[none]
    length, reference = counts.length.astype(np.float64), counts.reference_length
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty = np.where(length > reference, 1.0, np.exp(1 - reference / length))
    logs = np.log(np.maximum(precision, _SMALLEST)).mean(axis=1)
    # without a common word nothing is left, whatever the smoothing; an empty text has no penalty that is a number
    return np.where(counts.correct[:, 0] > 0, penalty * np.exp(logs), 0.0)


def _corpus(counts: BleuCounts, score: Callable[[Ints, Ints, Ints, Ints], float]) -> Callable[[Rows], float]:
    """The score of the summed counts of some rows."""

    def over(rows: Rows) -> float:
        return score(
            counts.correct[rows].sum(0, keepdims=True),
            counts.guess[rows].sum(0, keepdims=True),
            counts.length[rows].sum(keepdims=True),
            counts.reference_length[rows].sum(keepdims=True),
        )

    return over
