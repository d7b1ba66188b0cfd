"""Which option did the model choose? Published parsers disagree on the same reply; each has its name.

`options` map a letter to its text, in order. A parser answers with a letter, or None where it finds none, or several.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

import numpy as np

from evaluation.item_scores import Floats, ItemScores, same_length

Options = Mapping[str, str]
Parser = Callable[[str, Options], str | None]
_SAID = re.compile(r"(?:[Aa]nswer|[Oo]ption|[Cc]hoice)(?:\s+is)?\s*:?\s*[(\[*]*([A-Z])(?![\w'])")
_ALONE = re.compile(r"^[\s(\[\"'*]*([A-Za-z])[\s)\].,:;\"'*]*$")
_FIRST = re.compile(r"^[\s(\[\"'*]*([A-Z])\s*[).:\]]")
_WORD = re.compile(r"\w+")
_BRACKETS = re.compile(r"[(\[]([A-Z])[)\]]")


def option_letter(reply: str, options: Options) -> str | None:
    """Our own parser: what a reader would take the reply to say, and None where a reader would not know.

    In this order: the reply is one letter; it says "the answer is B" or "option B" (the last such place counts, those
    before it may be reasoning); it begins with "B." or "(B)"; it holds one letter in brackets (with several, a reader
    would not know); it holds the text of one option and of no other, as whole words. Letters that are no option are
    ignored.
    """
    alone = _ALONE.match(reply)
    if alone and alone.group(1).upper() in options:
        return alone.group(1).upper()
    said = [letter for letter in _SAID.findall(reply) if letter in options]
    if said:
        return str(said[-1])
    bracketed = {letter for letter in _BRACKETS.findall(reply) if letter in options}
    words = set(_WORD.findall(reply))
    if len(bracketed) > 1 or (len(words) > 1 and words <= options.keys()):
        return None
    first = _FIRST.match(reply)
    if first and first.group(1) in options:
        return first.group(1)
    return str(bracketed.pop()) if bracketed else _named(reply, options)


def _named(reply: str, options: Options) -> str | None:
    """The one option whose text is in the reply; a text inside a longer one that is there too does not count."""
    lowered = reply.lower()
    there = {
        letter: text.lower().strip()
        for letter, text in options.items()
        if text.strip() and re.search(rf"(?<!\w){re.escape(text.lower().strip())}(?!\w)", lowered)
    }
    longest = [
        letter for letter, text in there.items() if not any(text != other and text in other for other in there.values())
    ]
    return longest[0] if len(longest) == 1 else None


def mmmu_letter(reply: str, options: Options) -> str | None:
    """MMMU's parser: "(B)" anywhere, else " B ", else (more than five words) an option's text; the last one counts.

    Letters are looked for as words, so the article of "A mass is seen" is option A. The original guesses at random
    where it finds nothing; here that is None.
    Source: Yue et al. 2024, arXiv:2311.16502, eval_utils.
    """
    for symbol in ",.!?;:'":
        reply = reply.strip(symbol)
    padded = f" {reply} "
    bracketed = {letter: padded.rfind(f"({letter})") for letter in options}
    if max(bracketed.values(), default=-1) >= 0:
        return max(bracketed, key=lambda letter: bracketed[letter])
    words = {letter: padded.rfind(f" {letter} ") for letter in options}
    if max(words.values(), default=-1) >= 0:
        return max(words, key=lambda letter: words[letter])
    if len(padded.split()) <= 5:
        return None
    places = {letter: padded.lower().rfind(text.lower()) for letter, text in options.items()}
    return max(places, key=lambda letter: places[letter]) if max(places.values(), default=-1) >= 0 else None


def mediconfusion_letter(reply: str, options: Options) -> str | None:
    """MediConfusion's parser: one piece between spaces is "B", "B:", "B." or the like, and no other letter's is.

    Source: Sepehri et al. 2024, arXiv:2409.15477.
    """
    pieces = reply.split(" ")
    forms = ("{0}", "{0}:", ".{0}", ".{0}:", "{0}.", '{0}")', "{0}\n", "\n{0}")
    found = [letter for letter in options if any(form.format(letter) in pieces for form in forms)]
    return found[0] if len(found) == 1 else None


def nearest_option(reply: str, options: Options) -> str | None:
    """PMC-VQA's way: the option whose text is most similar to the reply by difflib's ratio; None if nothing is shared.

    Of equal ratios the first option counts. A long, right explanation can be closest to a wrong, long option.
    Source: Zhang et al. 2023, arXiv:2305.10415, MedVInT's test code.
    """
    ratios = {letter: SequenceMatcher(None, text, reply).ratio() for letter, text in options.items()}
    best = max(ratios, key=lambda letter: ratios[letter], default=None)
    return best if best is not None and ratios[best] > 0 else None


def m3d_letter(reply: str, options: Options) -> str | None:
    """M3D's way asks only whether the true letter and a full stop are in the reply; this is the first letter that is.

    A reply that lists "A. ... B. ..." is right whatever is true: use `m3d_right` for the published number.
    """
    return next((letter for letter in options if f"{letter}." in reply), None)


def m3d_right(replies: Sequence[str], answers: Sequence[str]) -> ItemScores:
    """M3D's closed accuracy: the true letter and a full stop are somewhere in the reply.

    Source: Bai et al. 2024, arXiv:2404.00578, eval_vqa.
    """
    same_length(len(replies), len(answers), "replies and answers")
    right = [float(f"{answer}." in reply) for reply, answer in zip(replies, answers, strict=True)]
    return ItemScores.of("m3d_right", "M3D: letter and full stop anywhere in the reply", right)


PARSERS: dict[str, Parser] = {
    "reader": option_letter,
    "mmmu": mmmu_letter,
    "mediconfusion": mediconfusion_letter,
    "nearest": nearest_option,
    "m3d": m3d_letter,
}


@dataclass(frozen=True)
class Choices:
    """`letters` (N,) as parsed, None where nothing was; `unparsed` counts those; `chance` is that of guessing."""

    accuracy: ItemScores
    letters: list[str | None]
    unparsed: int
    chance: float


def choice_accuracy(
    replies: Sequence[str],
    options: Sequence[Options],
    answers: Sequence[str],
    parser: str = "reader",
    unparsed: Literal["wrong", "guess"] = "wrong",
) -> Choices:
    """Share of questions whose parsed letter is the true one.

    A reply without a letter is "wrong", or worth a "guess": 1 / number of options, which is what MMMU's random choice
    gives on average.
    Raises: ValueError if lengths differ, the parser is unknown, or a true answer is not among its options.
    """
    same_length(len(replies), len(answers), "replies and answers")
    same_length(len(replies), len(options), "replies and lists of options")
    if parser not in PARSERS:
        raise ValueError(f"parser {parser!r} is unknown, expected one of: {', '.join(PARSERS)}")
    letters: list[str | None] = []
    found: list[float | str] = []
    for row, (reply, given, answer) in enumerate(zip(replies, options, answers, strict=True)):
        if answer not in given:
            raise ValueError(f"question {row}: the true answer is {answer!r}, expected one of {', '.join(given)}")
        letter = PARSERS[parser](reply, given)
        letters.append(letter)
        found.append((1 / len(given) if unparsed == "guess" else 0.0) if letter is None else float(letter == answer))
    chance = float(np.mean([1 / len(given) for given in options])) if options else float("nan")
    variant = f"{parser} parser, a reply without a letter is {'a guess' if unparsed == 'guess' else 'wrong'}"
    return Choices(ItemScores.of("choice_accuracy", variant, found), letters, letters.count(None), chance)


def mentioned_labels(replies: Sequence[str], names: Sequence[str]) -> Floats:
    """RadVLM's reading of a reply: a label is present if its name is anywhere in it, (N, L) of 1 and 0.

    It does not hear a negation: "no pneumothorax" is a pneumothorax.
    Source: RadVLM's evaluation code, evaluate_classification.
    """
    lowered = [name.lower() for name in names]
    table = [[float(name in reply.lower()) for name in lowered] for reply in replies]
    return np.asarray(table, dtype=np.float64).reshape(len(replies), len(names))


def label_f1(predicted: Floats, true: Floats) -> dict[str, float]:
    """Micro and macro F1 of tables (N, L) of 1 and 0; a label without a true or a predicted row has F1 0.

    Source: the settings of RadVLM (scikit-learn's zero_division at its default).
    Raises: ValueError if shapes differ.
    """
    if predicted.shape != true.shape or predicted.ndim != 2:
        raise ValueError(f"tables have shapes {predicted.shape} and {true.shape}, expected (N, L) for both")
    right = (predicted * true).sum(0)
    both = predicted.sum(0) + true.sum(0)
    each = np.divide(2 * right, both, out=np.zeros_like(right), where=both > 0)
    micro = float(2 * right.sum() / both.sum()) if both.sum() else 0.0
    return {"micro": micro, "macro": float(each.mean()) if each.size else float("nan")}
