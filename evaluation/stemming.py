"""English stems: Porter's of 1980 with nltk's extensions (rouge-score, nltk METEOR), and his second (METEOR 1.5).

Sources: Porter 1980, doi:10.1108/eb046814; Porter 2001, the English stemmer of Snowball, snowballstem.org. Both take a
word in lower case and answer with a key that is equal for words of one family; it need not be a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import pairwise

_CACHED = 1 << 16  # words of reports come again and again
_IRREGULAR = {
    "sky": "sky", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news",
    "innings": "inning", "inning": "inning", "outings": "outing", "outing": "outing", "cannings": "canning",
    "canning": "canning", "howe": "howe", "proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
}  # fmt: skip
_STEP2 = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"),
)  # fmt: skip
_STEP3 = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
)  # fmt: skip
_STEP4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


@lru_cache(_CACHED)
def porter(word: str) -> str:
    """Porter's stem with nltk's extensions, the mode that rouge-score uses."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = _step1c(_step1b(_step1a(word)))
    word = _step2(word)
    word = _replaced(word, _STEP3, lambda stem: _measure(stem) > 0)
    word = _step4(word)
    return _step5(word)


def _consonants(word: str) -> list[bool]:
    flags: list[bool] = []
    for letter in word:
        after_consonant = bool(flags) and flags[-1]
        flags.append(letter not in "aeiou" and not (letter == "y" and after_consonant))
    return flags


def _measure(stem: str) -> int:
    """Number of vowel-consonant steps, Porter's m."""
    flags = _consonants(stem)
    return sum(not before and after for before, after in pairwise(flags))


def _ends_short(stem: str) -> bool:
    """Porter's *o: the end is consonant, vowel, consonant other than w, x, y; nltk adds words like "at"."""
    flags = _consonants(stem)
    if len(stem) == 2:
        return flags == [False, True]
    return flags[-3:] == [True, False, True] and stem[-1] not in "wxy"


def _replaced(word: str, rules: Iterable[tuple[str, str]], allowed: Callable[[str], bool]) -> str:
    """The first suffix that fits decides, whether its stem allows a change or not."""
    for suffix, replacement in rules:
        if word.endswith(suffix):
            stem = word[: len(word) - len(suffix)]
            return stem + replacement if allowed(stem) else word
    return word


def _step1a(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _step1b(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        stem = word[: -len(suffix)]
        if word.endswith(suffix) and not all(_consonants(stem)):
            return _mended(stem)
    return word


def _mended(stem: str) -> str:
    """What is left after -ed or -ing, made to look like a word again."""
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if len(stem) > 1 and stem[-1] == stem[-2] and _consonants(stem)[-1]:
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _ends_short(stem) else stem


def _step1c(word: str) -> str:
    stem = word[:-1]
    return stem + "i" if word.endswith("y") and len(stem) > 1 and _consonants(stem)[-1] else word


def _step2(word: str) -> str:
    while word.endswith("alli") and _measure(word[:-4]) > 0:
        word = word[:-2]  # then the rules are tried on what is left
    for suffix, _ in _STEP2:
        if word.endswith(suffix):
            return _replaced(word, _STEP2, lambda stem: _measure(stem) > 0)
    return word[:-1] if word.endswith("logi") and _measure(word[:-3]) > 0 else word


def _step4(word: str) -> str:
    for suffix in _STEP4:
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            fits = _measure(stem) > 1 and (suffix != "ion" or stem[-1] in "st")
            return stem if fits else word
    return word


def _step5(word: str) -> str:
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _ends_short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
