"""Porter's second stemmer for English, in the revision that METEOR 1.5 carries.

Source: Porter 2001, the English stemmer of Snowball, snowballstem.org.
"""

from __future__ import annotations

from functools import lru_cache

_VOWELS = "aeiouy"
_SPECIAL = {
    "skis": "ski", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "idly": "idl", "gently": "gentl",
    "ugly": "ugli", "early": "earli", "only": "onli", "singly": "singl",
}  # fmt: skip
_KEPT = frozenset(("sky", "news", "howe", "atlas", "cosmos", "bias", "andes"))
_KEPT_AFTER_PLURAL = frozenset(("inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"))
_STEP2 = {
    "ational": "ate", "ation": "ate", "ator": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "abli": "able",
    "entli": "ent", "izer": "ize", "ization": "ize", "alism": "al", "aliti": "al", "alli": "al", "fulness": "ful",
    "ousli": "ous", "ousness": "ous", "iveness": "ive", "iviti": "ive", "biliti": "ble", "bli": "ble", "ogi": "og",
    "fulli": "ful", "lessli": "less", "li": "",
}  # fmt: skip
_STEP3 = {
    "ational": "ate", "tional": "tion", "alize": "al", "icate": "ic", "iciti": "ic", "ical": "ic", "ful": "",
    "ness": "", "ative": "",
}  # fmt: skip
_STEP4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ism", "ate", "iti", "ous",
    "ive", "ize", "ion",
)  # fmt: skip
_LONGEST = 7


@lru_cache(1 << 16)
def snowball(word: str) -> str:
    """The Snowball stem of a word in lower case."""
    if word in _SPECIAL:
        return _SPECIAL[word]
    if word in _KEPT or len(word) < 3:
        return word
    word = _consonant_y(word.removeprefix("'"))
    first, second = _regions(word)
    word = _step1a(_without_apostrophe(word))
    if word in _KEPT_AFTER_PLURAL:
        return word
    word = _step1c(_step1b(word, first))
    word = _step3(_step2(word, first), first, second)
    return _step5(_step4(word, second), first, second).replace("Y", "y")


def _consonant_y(word: str) -> str:
    """A y that begins the word or follows a vowel is a consonant, written Y."""
    letters = list(word)
    for at, letter in enumerate(letters):
        if letter == "y" and (at == 0 or letters[at - 1] in _VOWELS):
            letters[at] = "Y"
    return "".join(letters)


def _after_vowel_consonant(word: str, start: int) -> int:
    for at in range(start + 1, len(word)):
        if word[at] not in _VOWELS and word[at - 1] in _VOWELS:
            return at + 1
    return len(word)


def _regions(word: str) -> tuple[int, int]:
    """Where R1 and R2 begin."""
    first = next((len(head) for head in ("gener", "commun", "arsen") if word.startswith(head)), None)
    if first is None:
        first = _after_vowel_consonant(word, 0)
    return first, _after_vowel_consonant(word, first)


def _without_apostrophe(word: str) -> str:
    for suffix in ("'s'", "'s", "'"):
        if word.endswith(suffix):
            return word[: -len(suffix)]
    return word


def _step1a(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and any(letter in _VOWELS for letter in word[:-2]):
        return word[:-1]
    return word


def _step1b(word: str, first: int) -> str:
    for suffix in ("eedly", "eed"):
        if word.endswith(suffix):
            return word[: len(word) - len(suffix)] + "ee" if len(word) - len(suffix) >= first else word
    for suffix in ("ingly", "edly", "ing", "ed"):
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            return _mended(stem, first) if any(letter in _VOWELS for letter in stem) else word
    return word


def _mended(stem: str, first: int) -> str:
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if stem.endswith(("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt")):
        return stem[:-1]
    return stem + "e" if len(stem) <= first and _ends_short(stem) else stem


def _ends_short(stem: str) -> bool:
    """A short syllable at the end: consonant, vowel, consonant other than w, x, Y; or a word like "at"."""
    if len(stem) == 2:
        return stem[0] in _VOWELS and stem[1] not in _VOWELS
    return (
        len(stem) > 2
        and stem[-3] not in _VOWELS
        and stem[-2] in _VOWELS
        and stem[-1] not in _VOWELS
        and stem[-1] not in "wxY"
    )


def _step1c(word: str) -> str:
    return word[:-1] + "i" if len(word) > 2 and word[-1] in "yY" and word[-2] not in _VOWELS else word


def _longest(word: str, suffixes: dict[str, str]) -> str | None:
    return next((word[-n:] for n in range(min(_LONGEST, len(word)), 1, -1) if word[-n:] in suffixes), None)


def _step2(word: str, first: int) -> str:
    suffix = _longest(word, _STEP2)
    if suffix is None or len(word) - len(suffix) < first:
        return word
    stem = word[: -len(suffix)]
    if (suffix == "ogi" and not stem.endswith("l")) or (suffix == "li" and stem[-1:] not in tuple("cdeghkmnrt")):
        return word
    return stem + _STEP2[suffix]


def _step3(word: str, first: int, second: int) -> str:
    suffix = _longest(word, _STEP3)
    if suffix is None or len(word) - len(suffix) < (second if suffix == "ative" else first):
        return word
    return word[: -len(suffix)] + _STEP3[suffix]


def _step4(word: str, second: int) -> str:
    suffix = _longest(word, dict.fromkeys(_STEP4, ""))
    if suffix is None or len(word) - len(suffix) < second:
        return word
    stem = word[: -len(suffix)]
    return word if suffix == "ion" and not stem.endswith(("s", "t")) else stem


def _step5(word: str, first: int, second: int) -> str:
    stem = word[:-1]
    if word.endswith("e"):
        return stem if len(stem) >= second or (len(stem) >= first and not _ends_short(stem)) else word
    return stem if word.endswith("ll") and len(stem) >= second else word
