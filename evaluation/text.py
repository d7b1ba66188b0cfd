"""Text metrics of generated reports by family, so that one call gives every number that a paper may have printed.

A family is one program that people score reports with; its numbers keep its tokens, constants and unit. The same name
in two families (ROUGE-L, BLEU) is two metrics, so names begin with the family and every score carries its variant.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from evaluation.bleu import coco_bleu, sacre_bleu, sentence_bleu
from evaluation.chrf import chrf
from evaluation.cider import cider_d
from evaluation.intervals import patient_bootstrap
from evaluation.meteor import nltk_meteor
from evaluation.meteor15 import meteor_15
from evaluation.ptb import PTB
from evaluation.rouge import coco_rouge_l, rouge_l_f1, rouge_n_f1
from evaluation.scorecard import Metric
from evaluation.text_pairs import TextScore, TokenPairs
from evaluation.tokenization import REPORT_METRIC, ROUGE_STEMS, V13A, WHITESPACE, Tokenizer

Texts = Sequence[str]
References = Sequence[str | Sequence[str]]


def caption_scores(hypotheses: Texts, references: References, tokenizer: Tokenizer = PTB) -> list[TextScore]:
    """BLEU-1 to 4, ROUGE-L and CIDEr-D as pycocoevalcap computes them, from one count of n-grams.

    For texts that were already cut by its tokenizer, pass `WHITESPACE`.
    Raises: ValueError and TypeError as TokenPairs.
    """
    pairs = TokenPairs(hypotheses, references, tokenizer)
    return [*coco_bleu(pairs), coco_rouge_l(pairs), cider_d(pairs)]


def _sacrebleu(hypotheses: Texts, references: References) -> list[TextScore]:
    return [
        sacre_bleu(TokenPairs(hypotheses, references, V13A)),
        chrf(hypotheses, references),
        chrf(hypotheses, references, words=True),
    ]


def _rouge_score(hypotheses: Texts, references: References) -> list[TextScore]:
    pairs = TokenPairs(hypotheses, references, ROUGE_STEMS)
    return [rouge_n_f1(pairs, 1), rouge_n_f1(pairs, 2), rouge_l_f1(pairs)]


def _nltk(hypotheses: Texts, references: References) -> list[TextScore]:
    return [nltk_meteor(TokenPairs(hypotheses, references, WHITESPACE))]


def _meteor_15(hypotheses: Texts, references: References) -> list[TextScore]:
    return [meteor_15(TokenPairs(hypotheses, references, PTB))]


def _report_metric(hypotheses: Texts, references: References) -> list[TextScore]:
    return [sentence_bleu(TokenPairs(hypotheses, references, REPORT_METRIC), 2, "epsilon")]


FAMILIES: dict[str, Callable[[Texts, References], list[TextScore]]] = {
    "pycocoevalcap": caption_scores,
    "sacrebleu": _sacrebleu,
    "rouge-score": _rouge_score,
    "nltk": _nltk,
    "METEOR 1.5": _meteor_15,
    "CXR-Report-Metric": _report_metric,
}
"""Everything that needs no model; BERTScore takes an encoder and is called by itself (bertscore.bert_score)."""


def text_scores(
    hypotheses: Texts, references: References, families: Sequence[str] = tuple(FAMILIES)
) -> list[TextScore]:
    """Scores of the families asked for, in their order.

    Raises: KeyError naming the known families for another name; ValueError and TypeError as TokenPairs.
    """
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        raise KeyError(f"there is no family of text metrics called {unknown[0]!r}: choose from {', '.join(FAMILIES)}")
    return [score for name in families for score in FAMILIES[name](hypotheses, references)]


def text_metrics(
    scores: Sequence[TextScore], data: str, patients: Sequence[Hashable] | None = None, resamples: int = 1000
) -> list[Metric]:
    """Scores as rows of the score card, `text.<family>.<metric>`, with 95% intervals over patients.

    `patients` (N,) says whose each pair is; each pair counts as a patient of its own when None.
    Raises: ValueError if numbers differ.
    """
    metrics = []
    for score in scores:
        groups: Sequence[Hashable] = range(score.n) if patients is None else patients
        if len(groups) != score.n:
            raise ValueError(f"{len(groups)} patients for {score.n} pairs of texts, expected one for each pair")
        interval = patient_bootstrap(score.over, groups, n=resamples)
        metrics.append(Metric.of(f"text.{score.name}", interval, score.variant, data))
    return metrics
