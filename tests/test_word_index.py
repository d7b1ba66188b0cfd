from __future__ import annotations

import random
import re

import pytest

from reports.lexicon import lexicon
from reports.word_index import WordIndex, beginnings

PATTERNS = [
    ("a", r"(?:pleural )?effusions?"),
    ("b", r"pleural \w+"),
    ("c", r"[lr] lung|lungs?"),
    ("d", r"(?<!no )nodul(?:e|ar)s?"),
    ("e", r"x-?rays?|\d+ mm"),
    ("f", r"(?:very )*large|\w+ly (?=enlarged)"),
]


def test_beginnings_are_the_first_letters_of_every_match() -> None:
    assert beginnings(r"effusions?|empyema") == {"eff", "emp"}
    assert beginnings(r"(?:pleural )?effusion") == {"ple", "eff"}
    assert beginnings(r"[lr] lung") == {"l l", "r l"}
    assert "" in beginnings(r"\w+ly")
    assert beginnings(r"x-?ray") == {"x-r", "xra"}


def test_the_index_answers_as_one_alternation_does() -> None:
    slow = re.compile("|".join(rf"\b(?P<{name}>(?:{pattern})\b)" for name, pattern in PATTERNS))
    index = WordIndex(PATTERNS)
    words = [
        "pleural",
        "effusion",
        "effusions",
        "r",
        "l",
        "lung",
        "no",
        "nodule",
        "nodulars",
        "x-ray",
        "5",
        "mm",
        "very",
    ]
    words += ["large", "mildly", "enlarged", ","]
    draw = random.Random(4)
    for _ in range(500):
        text = " ".join(draw.choices(words, k=12))
        expected = [(m.span(), m.lastgroup) for m in slow.finditer(text)]
        assert [(m.span(), m.lastgroup) for m in index.finditer(text)] == expected, text


def test_a_broken_expression_is_refused() -> None:
    with pytest.raises(re.error):
        WordIndex([("a", "(effusion")])


def test_the_lexicon_is_found_by_its_first_letters() -> None:
    named = [mention.names for mention in lexicon().mentions("no pneumothorax; cardiomegaly")]
    assert named == [("pneumothorax",), ("cardiomegaly",)]
