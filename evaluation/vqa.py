"""Answers to questions about images, scored in each published way under its own name.

The same answers give 40 or 80 % by the choice of scoring: some accept "normal" as a "no", one leaves its errors out of
the mean, one calls token precision "exact match". Faults are kept under the name of the work that has them, so that
published numbers can be reproduced, and stand beside a form without them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.answer_words import letters_only, mevf_words, squad_words, vqa_words
from evaluation.item_scores import ItemScores, same_length

Kind = Literal["open", "closed"]
LLAVA_MED = "Li et al. 2023, arXiv:2306.00890, run_eval of version 1.0.0"
PATHVQA = "He et al. 2020, arXiv:2003.10286, evaluation script"


@dataclass(frozen=True)
class Scoring:
    """A published way to score an answer. `score` takes a predicted and a true answer; words in the place of a number
    are the reason why the question is left out. `kinds` are the questions it was published for."""

    name: str
    variant: str
    source: str
    kinds: tuple[Kind, ...]
    score: Callable[[str, str], float | str]


def score_answers(
    scoring: str | Scoring, predicted: Sequence[str], true: Sequence[str], kinds: Sequence[Kind] | None = None
) -> ItemScores:
    """Score each answer, 0 to 1. With `kinds` (N,), questions of a kind the scoring is not for are left out.

    An empty predicted answer is an answer, mostly a wrong one; the words of the scoring decide.
    Raises: ValueError if the scoring is unknown or lengths differ; TypeError if an answer is not text (nan, say).
    """
    chosen = _known(scoring)
    same_length(len(predicted), len(true), "predicted and true answers")
    if kinds is not None:
        same_length(len(predicted), len(kinds), "answers and kinds of question")
    found: list[float | str] = []
    for row, (answer, truth) in enumerate(zip(predicted, true, strict=True)):
        for side, text in (("predicted", answer), ("true", truth)):
            if not isinstance(text, str):
                raise TypeError(
                    f"question {row}: the {side} answer is {text!r}, expected text: write an empty one as ''"
                )
        if kinds is not None and kinds[row] not in chosen.kinds:
            found.append(f"{kinds[row]} question")
        else:
            found.append(chosen.score(answer, truth))
    return ItemScores.of(chosen.name, chosen.variant, found)


def score_answers_in_every_way(
    predicted: Sequence[str], true: Sequence[str], kinds: Sequence[Kind] | None = None
) -> list[ItemScores]:
    """All scorings of `SCORINGS`, so that a table can show how much of a number is the choice of scoring."""
    return [score_answers(scoring, predicted, true, kinds) for scoring in SCORINGS.values()]


def nearest_candidate(predicted: Sequence[str], true: Sequence[str], candidates: Sequence[str]) -> ItemScores:
    """LLaVA-Med's open accuracy: the answer is replaced by the candidate of which it holds the largest share of words.

    Of equal shares the first candidate counts, so the order of the list matters, and an answer without any known word
    becomes the first candidate. Candidates are the answers of the training set.
    Source: LLaVA-Med's evaluation code.
    Raises: ValueError if lengths differ or there are no candidates.
    """
    same_length(len(predicted), len(true), "predicted and true answers")
    if not candidates:
        raise ValueError("there are 0 candidate answers, expected at least one: those of the training set")
    named = [vqa_words(candidate) for candidate in candidates]
    words = [set(name.split()) for name in named]
    found = []
    for answer, truth in zip(predicted, true, strict=True):
        said = set(_twice(answer).split())
        shares = [len(said & known) / len(known) if known else 0.0 for known in words]
        found.append(float(named[shares.index(max(shares))] == _twice(truth)))
    return ItemScores.of("nearest_candidate", f"LLaVA-Med open accuracy, {len(candidates)} candidates", found)


def _known(scoring: str | Scoring) -> Scoring:
    if isinstance(scoring, Scoring):
        return scoring
    if scoring not in SCORINGS:
        raise ValueError(f"scoring {scoring!r} is unknown, expected one of: {', '.join(sorted(SCORINGS))}")
    return SCORINGS[scoring]


def _llava_med_closed(answer: str, truth: str) -> float | str:
    said, right = vqa_words(answer), vqa_words(truth)
    if "yes" not in said and "no" not in said:
        return 0.0
    return 1.0 if right in said else "yes or no said, and wrong"


def _llava_med_closed_counted(answer: str, truth: str) -> float:
    found = _llava_med_closed(answer, truth)
    return 0.0 if isinstance(found, str) else found


def _contains(answer: str, truth: str) -> float:
    return float(vqa_words(truth) in vqa_words(answer))


def _first_word(answer: str, truth: str) -> float:
    said, right = vqa_words(answer).split(), vqa_words(truth).split()
    if right in (["yes"], ["no"]):
        return float(next((word for word in said if word in ("yes", "no")), "") == right[0])
    runs = range(len(said) - len(right) + 1) if right else ()
    return float(any(said[start : start + len(right)] == right for start in runs))


def _m3d(answer: str, truth: str) -> float:
    try:
        return float(float(answer) == float(truth))
    except ValueError:
        return float(truth.lower().replace(" ", "") in answer.lower().replace(" ", ""))


def _twice(text: str) -> str:
    """LLaVA-Med brings open answers into their form twice, which is not the same as once ("x-.y")."""
    return vqa_words(vqa_words(text.lower()))


def _counted(words: Callable[[str], str], part: Literal["precision", "recall", "f1"]) -> Callable[[str, str], float]:
    """PathVQA's token scores, and LLaVA-Med's after it: a shared word counts as often as the prediction repeats it."""

    def score(answer: str, truth: str) -> float:
        said, right = Counter(words(answer).split()), Counter(words(truth).split())
        both = sum(count for word, count in said.items() if word in right)
        if not both:
            return 0.0
        precision = both / said.total()
        recall = both / (both + sum(count for word, count in right.items() if word not in said))
        return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / (precision + recall)}[part]

    return score


def _clipped(part: Literal["recall", "f1"]) -> Callable[[str, str], float]:
    """SQuAD 2.0's token scores: a shared word counts as often as it is in both; no words on both sides is 1."""

    def score(answer: str, truth: str) -> float:
        said, right = Counter(squad_words(answer).split()), Counter(squad_words(truth).split())
        both = (said & right).total()
        if not both:
            return float(not said and not right)
        precision, recall = both / said.total(), both / right.total()
        return recall if part == "recall" else 2 * precision * recall / (precision + recall)

    return score


def _distinct(words: Callable[[str], str]) -> Callable[[str, str], float]:
    """PathVQA's "exact match": distinct true words that were said / words that were said."""

    def score(answer: str, truth: str) -> float:
        said, right = words(answer).split(), set(words(truth).split())
        return len(right.intersection(said)) / len(said) if said else 0.0

    return score


def _bleu_1(answer: str, truth: str) -> float:
    said, right = vqa_words(answer).split(), vqa_words(truth).split()
    both = (Counter(said) & Counter(right)).total()
    return both / len(said) * math.exp(min(0.0, 1 - len(right) / len(said))) if both else 0.0


def _pathvqa_bleu(order: int) -> Callable[[str, str], float]:
    """PathVQA's BLEU: the brevity penalty counts letters, and an order without a match is skipped, as if it were 1."""

    def score(answer: str, truth: str) -> float:
        said, right = letters_only(answer).split(), letters_only(truth).split()
        if len(said) < order:
            return 0.0
        logs = 0.0
        for n in range(1, order + 1):
            grams, wanted = _grams(said, n), _grams(right, n)
            both = (grams & wanted).total()
            logs += math.log(both / grams.total()) / order if both else 0.0
        return math.exp(logs + min(0.0, 1 - len(truth) / len(answer)))

    return score


def _grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


_BOTH: tuple[Kind, ...] = ("open", "closed")
_CLOSED: tuple[Kind, ...] = ("closed",)
_OPEN: tuple[Kind, ...] = ("open",)
_VQA = "answers in the VQA challenge's form"
_ALL = (
    Scoring("llava_med_closed", "true answer inside the predicted one (so 'normal' is a 'no'); neither yes nor no: 0;"
            " wrong yes or no left out of the mean", LLAVA_MED, _CLOSED, _llava_med_closed),
    Scoring("llava_med_closed_counted", "as llava_med_closed, and wrong yes or no counted as 0",
            "microsoft/LLaVA-Med, later evaluation code", _CLOSED, _llava_med_closed_counted),
    Scoring("contains", f"true answer inside the predicted one, letter by letter, {_VQA}",
            "forks of LLaVA-Med's run_eval", _BOTH, _contains),
    Scoring("closed_words", f"yes or no: the first of these words; else the true answer as whole words, {_VQA}",
            "this project", _CLOSED, _first_word),
    Scoring("strict", "equal letter by letter, as written", "VILA-M3, arXiv:2411.12915", _BOTH,
            lambda answer, truth: float(answer == truth)),
    Scoring("exact", f"equal, {_VQA}", "Antol et al. 2015, arXiv:1505.00468, with one true answer", _BOTH,
            lambda answer, truth: float(vqa_words(answer) == vqa_words(truth))),
    Scoring("mevf_accuracy", f"equal, {_VQA}, x ray as one word; the accuracy of VQA-RAD and SLAKE baselines",
            "Nguyen et al. 2019, arXiv:1909.11867", _BOTH,
            lambda answer, truth: float(mevf_words(answer) == mevf_words(truth))),
    Scoring("squad_exact", "equal without case, punctuation and articles", "Rajpurkar et al. 2016, arXiv:1606.05250",
            _BOTH, lambda answer, truth: float(squad_words(answer) == squad_words(truth))),
    Scoring("squad_f1", "token F1, counts clipped, without case, punctuation and articles; both empty: 1",
            "Rajpurkar et al. 2018, arXiv:1806.03822", _BOTH, _clipped("f1")),
    Scoring("token_recall", "token recall, counts clipped, without case, punctuation and articles; both empty: 1",
            "Rajpurkar et al. 2018, arXiv:1806.03822", _BOTH, _clipped("recall")),
    Scoring("llava_med_recall", f"token recall, repetition counted, {_VQA} twice; the paper's open number",
            LLAVA_MED, _OPEN, _counted(_twice, "recall")),
    Scoring("llava_med_precision", f"token precision, repetition counted, {_VQA} twice",
            LLAVA_MED, _OPEN, _counted(_twice, "precision")),
    Scoring("llava_med_f1", f"token F1, repetition counted, {_VQA} twice", LLAVA_MED, _OPEN, _counted(_twice, "f1")),
    Scoring("llava_med_exact", f"its 'exact match': distinct true words said / words said, {_VQA} twice",
            LLAVA_MED, _OPEN, _distinct(_twice)),
    Scoring("bleu_1", f"BLEU-1 of each answer, unsmoothed (nltk), {_VQA}", LLAVA_MED, _OPEN, _bleu_1),
    Scoring("pathvqa_exact", "its 'exact match': distinct true words said / words said, letters only",
            PATHVQA, _OPEN, _distinct(letters_only)),
    Scoring("pathvqa_f1", "token F1, repetition counted, letters only", PATHVQA, _OPEN, _counted(letters_only, "f1")),
    *(Scoring(f"pathvqa_bleu_{order}", f"BLEU-{order}, brevity in letters, orders without a match skipped",
              PATHVQA, _OPEN, _pathvqa_bleu(order)) for order in (1, 2, 3)),
    Scoring("m3d_exact", "equal numbers, else the true answer inside the predicted one without spaces",
            "Bai et al. 2024, arXiv:2404.00578, Bench/eval/metrics.py", _BOTH, _m3d),
)  # fmt: skip
SCORINGS: dict[str, Scoring] = {scoring.name: scoring for scoring in _ALL}
"""Every scoring by its name."""
