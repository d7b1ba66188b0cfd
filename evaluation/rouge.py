"""ROUGE in the two forms that reports are scored with: pycocoevalcap's (recall weighted more, no stemming) and
rouge-score's (F1, Porter-stemmed).

Source: Lin 2004, https://aclanthology.org/W04-1013.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from evaluation.text_pairs import Floats, TextScore, TokenPairs, common_counts, harmonic

_COCO_BETA = 1.2


def longest_common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, in tokens.

    One machine operation handles a whole row of the usual table: bit i of a Python integer is column i.
    Source: Hyyrö 2004, Bit-parallel LCS-length computation revisited.
    """
    places: dict[Hashable, int] = {}
    bit = 1
    for token in first:
        places[token] = places.get(token, 0) | bit
        bit <<= 1
    row = bit - 1
    for token in second:
        hits = places.get(token)
        if hits:
            hits &= row
            row = (row + hits) | (row - hits)
    return len(first) - (row & (bit - 1)).bit_count()


def coco_rouge_l(pairs: TokenPairs) -> TextScore:
    """ROUGE-L as pycocoevalcap computes it, 0 to 1: recall weighted 1.2 times, no stemming, mean over texts.

    Of several references the best precision and the best recall are taken, even from different ones. Its tokens are
    those of `PTB`. An empty text counts as one empty token: two empty texts score 1, an empty one against words 0.
    """
    precision, recall = _best_lcs(pairs)
    variant = f"beta 1.2, no stemming, pycocoevalcap, mean; tokens: {pairs.tokenizer}"
    return TextScore.mean("coco.rouge_l", variant, harmonic(precision, recall, _COCO_BETA))


def _best_lcs(pairs: TokenPairs) -> tuple[Floats, Floats]:
    precision, recall = np.zeros(pairs.n), np.zeros(pairs.n)
    for row, (hypothesis, references) in enumerate(zip(pairs.hypotheses, pairs.references, strict=True)):
        own = hypothesis or [""]
        for reference in references:
            wanted = reference or [""]
            common = longest_common_subsequence(wanted, own)
            precision[row] = max(precision[row], common / len(own))
            recall[row] = max(recall[row], common / len(wanted))
    return precision, recall


def rouge_l_f1(pairs: TokenPairs) -> TextScore:
    """ROUGE-L as rouge-score computes it, 0 to 1: F1, of several references the best, mean over texts.

    Its tokens are those of `ROUGE_STEMS`, or of `ROUGE_WORDS` without stemming. An empty text scores 0, also against
    an empty reference.
    """
    items = np.zeros(pairs.n)
    for row, (hypothesis, references) in enumerate(zip(pairs.hypotheses, pairs.references, strict=True)):
        for reference in references:
            if hypothesis and reference:  # F1 of common/|h| and common/|r|
                common = longest_common_subsequence(reference, hypothesis)
                items[row] = max(items[row], 2 * common / (len(hypothesis) + len(reference)))
    return TextScore.mean("rouge_score.rouge_l", f"F1, rouge-score, mean; tokens: {pairs.tokenizer}", items)


def rouge_n_f1(pairs: TokenPairs, order: int) -> TextScore:
    """ROUGE-1 or ROUGE-2 as rouge-score computes it, 0 to 1: F1 of clipped counts, the best reference, mean over texts.

    Raises: ValueError if the order is not 1 to 4.
    """
    if order not in (1, 2, 3, 4):
        raise ValueError(f"order is {order}, expected 1 to 4")
    counts = pairs.counts[order - 1]
    common = common_counts(counts, pairs.pair_of, pairs.starts)
    total = counts.totals[pairs.starts][pairs.pair_of] + counts.totals
    f1 = np.divide(2 * common, total, out=np.zeros(len(total)), where=total > 0)
    variant = f"F1, rouge-score, mean; tokens: {pairs.tokenizer}"
    return TextScore.mean(f"rouge_score.rouge_{order}", variant, np.maximum.reduceat(f1, pairs.starts))
