"""Whether a regular expression from a hospital's lexicon is safe to run on every sentence."""

from __future__ import annotations

import re
import time
import warnings

MAX_LENGTH = 2000
_SLOW_S = 0.05  # for one text of at most `_LENGTHS[-1]` characters; an honest expression needs microseconds
_LENGTHS = (8, 12, 14, 16, 18, 20, 22, 24, 26, 28, 64, 512)
_LITERAL = re.compile(r"(?<![\\\w])[a-z]{2,}")
_PUMPS = ("a", "a ", "1", " ", "a,", "ab", "-")


def pattern_fault(pattern: str) -> str | None:
    """What is wrong with an expression, or None: it compiles, captures nothing, needs a word and is fast.

    An expression whose time grows without bound (as of `(a+)+b`) is found by running it on texts of growing length that
    are made to fail late, and is given up at the first that is slow, so that the check itself ends.
    """
    if len(pattern) > MAX_LENGTH:
        return f"{len(pattern)} characters, expected at most {MAX_LENGTH}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError, FutureWarning, DeprecationWarning) as error:
        return f"no regular expression ({error}); write plain words under `words` instead"
    if compiled.groups:
        return "it has a capturing group ( ); write (?: ) instead"
    if compiled.match("") or compiled.search(""):
        return "it matches where nothing stands; every expression needs a word"
    if pattern != pattern.lower() and re.search(r"(?<!\\)[A-Z]", pattern):
        return "it has a capital letter, and sentences are compared in lower case"
    slow = _slowest(compiled, pattern)
    return None if slow is None else f"it needs {slow[0]:.2f} s for {slow[1]} characters; nested repeats do that"


def _slowest(compiled: re.Pattern[str], pattern: str) -> tuple[float, int] | None:
    """(seconds, characters) of the first text that takes too long."""
    literals = list(dict.fromkeys(_LITERAL.findall(pattern)))[:5]
    starts = ["", *(f"{word} " for word in literals), *literals]
    pumps = [*_PUMPS, *literals, *(f"{word} " for word in literals)]
    for length in _LENGTHS:
        for start in starts:
            for pump in pumps:
                text = start + (pump * (length // len(pump) + 1))[:length] + "\x00"
                begun = time.perf_counter()
                compiled.search(text)
                took = time.perf_counter() - begun
                if took > _SLOW_S and _again(compiled, text) > _SLOW_S:
                    return took, len(text)
    return None


def _again(compiled: re.Pattern[str], text: str) -> float:
    """The second time of two: the first may have been slow because the machine was busy."""
    begun = time.perf_counter()
    compiled.search(text)
    return time.perf_counter() - begun
