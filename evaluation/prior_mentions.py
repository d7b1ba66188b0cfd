"""How often reports speak of an earlier study, and how often they do so of one that does not exist.

A model that sees one study can only invent "unchanged": Ramesh et al. 2022, CXR-PRO, arXiv:2210.06340.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from evaluation.clinical import Rate

_SECTIONS = frozenset({"indication", "technique", "comparison", "provenance", "signature"})  # hold no findings


def prior_mentions(texts: Sequence[str], mentions: Callable[[str], bool] | None = None) -> list[int]:
    """Sentences of each text that speak of an earlier study, without the sections that hold no findings.

    mentions: says so of one sentence; else the rules of `reports.prior_free`.
    """
    from reports.prior_free import mentions_prior
    from reports.sections import section_sentences

    asks = mentions_prior if mentions is None else mentions
    return [
        sum(section not in _SECTIONS and asks(sentence) for section, sentence in section_sentences(text))
        for text in texts
    ]


def prior_mention_rate(
    texts: Sequence[str], has_prior: Sequence[bool] | None = None, mentions: Callable[[str], bool] | None = None
) -> Rate:
    """Share of the texts with a sentence about an earlier study.

    has_prior (N,): only texts without an earlier study are counted, so every mention is an invention; else all are.
    nan where none is counted. Raises: ValueError if has_prior is not as long as texts.
    """
    if has_prior is not None and len(has_prior) != len(texts):
        raise ValueError(f"there are {len(texts)} texts and {len(has_prior)} entries of has_prior, expected as many")
    kept = [text for at, text in enumerate(texts) if has_prior is None or not has_prior[at]]
    count = sum(found > 0 for found in prior_mentions(kept, mentions))
    unit = "reports" if has_prior is None else "reports of studies without an earlier one"
    return Rate(count / len(kept) if kept else math.nan, count, len(kept), unit)
