"""Cutting a text into the tokens that a text metric counts: each published metric has its own way, named here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Tokenizer:
    """A named way to cut a text; the name becomes part of a metric's variant."""

    name: str
    cut: Callable[[str], list[str]]


_13A_SYMBOLS = re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])")
_13A_AFTER = re.compile(r"([^0-9])([\.,])")
_13A_BEFORE = re.compile(r"([\.,])([^0-9])")
_13A_DASH = re.compile(r"([0-9])(-)")


def cut_13a(text: str) -> list[str]:
    """The tokens of mteval-v13a, the default of sacrebleu: punctuation apart, numbers whole, case kept.

    Source: Post 2018, arXiv:1804.08771, whose Python form this equals.
    """
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in text:
        text = text.replace("&quot;", '"').replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    text = _13A_SYMBOLS.sub(r" \1 ", f" {text} ")
    text = _13A_AFTER.sub(r"\1 \2 ", text)
    text = _13A_BEFORE.sub(r" \1 \2", text)
    return _13A_DASH.sub(r"\1 \2 ", text).split()


def cut_lower_13a(text: str) -> list[str]:
    """As `cut_13a`, of the text in lower case."""
    return cut_13a(text.lower())


_NOT_WORD = re.compile(r"[^a-z0-9]+")


def cut_rouge(text: str) -> list[str]:
    """Runs of a to z and 0 to 9 of the text in lower case, as rouge-score counts them; other letters split."""
    return _NOT_WORD.sub(" ", text.lower()).split()


def cut_rouge_stemmed(text: str) -> list[str]:
    """As `cut_rouge`, words of more than three letters replaced by their Porter stem."""
    from evaluation.stemming import porter

    return [porter(word) if len(word) > 3 else word for word in cut_rouge(text)]


def cut_report_metric(text: str) -> list[str]:
    """The tokens of CXR-Report-Metric's BLEU-2: lower case, a space before each full stop, cut at single spaces.

    Two spaces in a row give an empty token, which is counted, as in the original.
    """
    return text.lower().replace(".", " .").split(" ")


WHITESPACE = Tokenizer("white space", str.split)
V13A = Tokenizer("13a", cut_13a)
V13A_LOWER = Tokenizer("13a lower case", cut_lower_13a)
ROUGE_WORDS = Tokenizer("a-z0-9", cut_rouge)
ROUGE_STEMS = Tokenizer("a-z0-9 Porter-stemmed", cut_rouge_stemmed)
REPORT_METRIC = Tokenizer("CXR-Report-Metric", cut_report_metric)
