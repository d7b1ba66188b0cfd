"""Bringing answers to questions into one form, as published scorings of VQA do; each has its own way, named here."""

from __future__ import annotations

import re
import string
from functools import cache

_ARTICLES = frozenset(("a", "an", "the"))
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(value) for value, word in enumerate(_DIGITS)}
_SYMBOLS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_FULL_STOPS_REMOVED = 32
# Words whose apostrophe people leave out. A word with two or three of them is known with any one left out.
_APOSTROPHES = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def vqa_words(text: str) -> str:
    """The form in which the VQA challenge compares answers, and with it LLaVA-Med and the baselines of VQA-RAD.

    Lower case; symbols become a space, or nothing where one stands beside a space somewhere in the text; full stops go
    unless a digit follows, but only the first 32 (a flag in the place of a count in the original); zero to ten become
    digits, and so does "none"; articles go; apostrophes come back ("dont"). An answer of articles only is empty.
    Source: Antol et al. 2015, arXiv:1505.00468, whose code the medical scorings took over.
    """
    beside_number = _COMMA_IN_NUMBER.search(text) is not None
    out = text
    for symbol in _SYMBOLS:
        tight = beside_number or f"{symbol} " in text or f" {symbol}" in text
        out = out.replace(symbol, "" if tight else " ")
    out = _FULL_STOP.sub("", out, count=_FULL_STOPS_REMOVED)
    known = _apostrophes()
    words = (_NUMBERS.get(word, word) for word in out.lower().split())
    return " ".join(known.get(word, word) for word in words if word not in _ARTICLES).replace(",", "")


def mevf_words(text: str) -> str:
    """As `vqa_words`, and "x ray" becomes "xray": the form of answers in the VQA-RAD baselines (MEVF) and after them.

    Source: Nguyen et al. 2019, arXiv:1909.11867.
    """
    return vqa_words(text).replace("x ray", "xray")


def squad_words(text: str) -> str:
    """Lower case without punctuation, articles and extra spaces. Source: Rajpurkar et al. 2016, arXiv:1606.05250."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def letters_only(text: str) -> str:
    """Lower case of the letters a to z and of spaces; digits and all else go. Source: PathVQA's evaluation script."""
    return re.sub("[^a-zA-Z ]", "", text).lower()


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@cache
def _apostrophes() -> dict[str, str]:
    known = {"somebody'd": "somebodyd"}  # the one entry of the original that takes an apostrophe away
    for word in _APOSTROPHES.split():
        for place in (index for index, letter in enumerate(word) if letter == "'"):
            known[word[:place] + word[place + 1 :]] = word
    return known
