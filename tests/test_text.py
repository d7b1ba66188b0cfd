"""All text metrics in one call: names, variants, intervals, odd input, and a hundred thousand reports."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from evaluation.text import FAMILIES, caption_scores, text_metrics, text_scores
from evaluation.text_pairs import TextScore, TokenPairs
from evaluation.tokenization import WHITESPACE

HYPOTHESES = ["The heart is enlarged.", "No pleural effusion.", "Lungs are clear.", "No acute disease."]
REFERENCES = ["The heart is mildly enlarged.", "No effusion is seen.", "The lungs are clear.", "Fracture of a rib."]
NAMES = [
    "coco.bleu_1", "coco.bleu_2", "coco.bleu_3", "coco.bleu_4", "coco.rouge_l", "coco.cider_d", "sacrebleu.bleu",
    "sacrebleu.chrf", "sacrebleu.chrf++", "rouge_score.rouge_1", "rouge_score.rouge_2", "rouge_score.rouge_l",
    "nltk.meteor", "meteor_15.exact_stem", "nltk.sentence_bleu_2",
]  # fmt: skip


@pytest.fixture(scope="module")
def scores() -> list[TextScore]:
    return text_scores(HYPOTHESES, REFERENCES)


def test_every_number_names_itself_and_its_variant(scores: list[TextScore]) -> None:
    assert [score.name for score in scores] == NAMES
    assert len({(score.name, score.variant) for score in scores}) == len(NAMES)
    assert all(score.n == 4 and score.variant for score in scores)
    assert all("tokens: " in score.variant or "characters" in score.variant for score in scores)


def test_every_number_is_in_its_range(scores: list[TextScore]) -> None:
    for score in scores:
        top = 100 if score.name.startswith("sacrebleu") else 10 if "cider" in score.name else 1
        assert 0 <= score.value <= top, score.name
        assert ((score.items >= 0) & (score.items <= top)).all(), score.name
        assert score.over(np.arange(4)) == pytest.approx(score.value), score.name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_can_be_asked_for_alone(family: str, scores: list[TextScore]) -> None:
    alone = text_scores(HYPOTHESES, REFERENCES, [family])
    together = {score.name: score.value for score in scores}
    assert [score.value for score in alone] == [together[score.name] for score in alone]


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(KeyError, match=r"no family of text metrics called 'SPICE'.*pycocoevalcap, sacrebleu"):
        text_scores(HYPOTHESES, REFERENCES, ["SPICE"])


def test_intervals_are_over_patients(scores: list[TextScore]) -> None:
    metrics = text_metrics(scores, "four pairs", ["p", "p", "q", "r"], resamples=100)
    assert [metric.name for metric in metrics] == [f"text.{name}" for name in NAMES]
    assert all(metric.n == 4 and "over 3 patients" in metric.variant for metric in metrics)
    assert all(metric.low <= metric.high for metric in metrics)
    rouge = next(metric for metric in metrics if metric.name == "text.coco.rouge_l")
    assert rouge.low <= rouge.value <= rouge.high
    assert rouge.variant.startswith("beta 1.2, no stemming")


def test_patients_must_be_as_many_as_pairs(scores: list[TextScore]) -> None:
    with pytest.raises(ValueError, match="2 patients for 4 pairs"):
        text_metrics(scores, "four pairs", ["p", "q"])


@pytest.mark.parametrize(
    "texts",
    [
        (["a"], ["a"]),
        ([""], [""]),
        (["", ""], ["a b c", ""]),
        (["\u4f53\u6e29 37\u00b0C \U0001fac1"], ["\u4f53\u6e29 38\u00b0C"]),
        (["\x00 \ud800 |||", "a"], ["||| \x00", "a"]),
        (["word " * 2000], ["word " * 2000]),
        (["-.-." * 20000], ["!?" * 20000]),
    ],
)
def test_odd_texts_have_a_number(texts: tuple[list[str], list[str]]) -> None:
    families = [name for name in FAMILIES if name != "METEOR 1.5" or len(texts[0][0]) < 100]
    started = time.perf_counter()
    for score in text_scores(*texts, families):
        assert math.isfinite(score.value), score.name
        assert np.isfinite(score.items).all(), score.name
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize(
    ("hypotheses", "references", "error", "message"),
    [
        ([], [], ValueError, "0 generated texts and 0 references, expected as many, at least one"),
        (["a"], ["a", "b"], ValueError, "1 generated texts and 2 references"),
        (["a"], [[]], ValueError, "text 0 has 0 references"),
        (["a", math.nan], ["a", "b"], TypeError, "generated text 1 is nan, expected text"),
        (["a", None], ["a", "b"], TypeError, "generated text 1 is of type NoneType"),
        (["a", "b"], ["a", math.nan], TypeError, "the reference of text 1 is nan"),
        (["a", "b"], ["a", ["b", 3]], TypeError, "the reference of text 1 is of type list"),
        ("a", "a", TypeError, "one text was given, expected lists of texts"),
    ],
)
def test_what_is_no_pair_is_refused(
    hypotheses: list[str], references: list[str], error: type[Exception], message: str
) -> None:
    for family in FAMILIES:
        with pytest.raises(error, match=message):
            text_scores(hypotheses, references, [family])


def test_text_that_was_cut_before_is_not_cut_again() -> None:
    cut, raw = ["it 's"], ["It's"]
    assert TokenPairs(cut, cut, WHITESPACE).hypotheses == [["it", "'s"]]
    assert caption_scores(cut, raw)[0].value == pytest.approx(1, abs=1e-6)
    assert caption_scores(cut, raw, WHITESPACE)[0].value == pytest.approx(0, abs=1e-3)


@pytest.mark.slow
def test_a_hundred_thousand_reports() -> None:
    drawn = np.random.default_rng(0)
    words = np.array([f"word{k}" for k in range(3000)])
    sizes = drawn.integers(8, 24, 100_000)
    flat = words[np.minimum(drawn.geometric(0.01, sizes.sum()), 2999)]
    texts = [" ".join(part) for part in np.split(flat, np.cumsum(sizes)[:-1])]
    started = time.process_time()
    scores = text_scores(texts, [*texts[1:], texts[0]], ["pycocoevalcap", "rouge-score"])
    assert all(score.n == 100_000 and math.isfinite(score.value) for score in scores)
    assert time.process_time() - started < 60
