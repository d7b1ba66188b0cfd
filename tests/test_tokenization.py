"""Cutting text into tokens: one case by hand for each rule, and the originals on real and made-up text."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from evaluation.ptb import cut_ptb
from evaluation.tokenization import cut_13a, cut_lower_13a, cut_report_metric, cut_rouge, cut_rouge_stemmed

REPORT = "The heart is mildly enlarged, 12.5 cm. No focal air-space disease; S/P sternotomy."
ODD = ["", " ", ".", "a", "1.5cm", "&quot;T12-L1&quot; <skipped>x", "naïve µm 10°C", "5-6 mm, 3,000.5 (L>R)", "…\n-\nb"]


@pytest.fixture(scope="module")
def reports(real_data: Path) -> list[str]:
    with (real_data / "reports" / "openi_cxr_reports.csv").open(newline="", encoding="utf-8") as stream:
        return [f"{row['findings']} {row['impression']}".strip() for row in csv.DictReader(stream)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Heart size is normal.", "heart size is normal"),
        ("It's unchanged; doesn't, can't, cannot", "it 's unchanged does n't ca n't can not"),
        ("The patient's 1990's film", "the patient 's 1990 's film"),
        ("Air-space disease and/or T12-L1", "air-space disease and/or t12-l1"),
        ("a 1.5cm nodule, 3 x 4 mm, 10-12mm", "a 1.5 cm nodule 3 x 4 mm 10-12mm"),
        ("(left) [1] {x}", "-lrb- left -rrb- -lsb- 1 -rsb- -lcb- x -rcb-"),
        ("Dr. X saw 5 p.m. films vs. U.S. No. 5, Fig. 2.", "dr. x saw 5 p.m. films vs. u.s. no. 5 fig. 2"),
        ("No mass. The mass.", "no mass the mass"),
        ("in Mass. General", "in mass. general"),
        ("clear.No effusion", "clear.no effusion"),
        ("both lungs., Left", "both lungs. left"),
        ("50% of 1/2 at -3 HU +5", "50 % of 1/2 at -3 hu +5"),
        ('"quoted" -- text ... \u201cmore\u201d', "quoted text more"),
        ("\u00bd 2\u00bd \u20ac5", "1/2 2 1/2 $ 5"),
        ("<XXXX> a_b AT&T ??", "<xxxx> a_b at&t ??"),
        ("", ""),
        (" \n\t ", ""),
    ],
)
def test_ptb_tokens_by_hand(text: str, tokens: str) -> None:
    assert " ".join(cut_ptb(text)) == tokens


def test_ptb_tokens_are_those_of_the_java_on_real_reports(reports: list[str]) -> None:
    ptb = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer", reason="pycocoevalcap is not installed")
    if shutil.which("java") is None:
        pytest.skip("pycocoevalcap's tokenizer needs Java, which is not here")
    lines = [" ".join(text.split()) for text in reports]
    found = ptb.PTBTokenizer().tokenize({row: [{"caption": line}] for row, line in enumerate(lines)})
    assert [row for row, line in enumerate(lines) if found[row][0].split() != cut_ptb(line)] == []


def test_13a_by_hand() -> None:
    assert cut_13a(REPORT)[:9] == ["The", "heart", "is", "mildly", "enlarged", ",", "12.5", "cm", "."]
    assert cut_13a("5-6 mm")[:3] == ["5", "-", "6"]
    assert cut_13a("&lt;5&gt; a&amp;b") == ["<", "5", ">", "a", "&", "b"]
    assert cut_lower_13a("The HEART.") == ["the", "heart", "."]


def test_13a_is_that_of_sacrebleu(reports: list[str]) -> None:
    original = pytest.importorskip("sacrebleu.tokenizers.tokenizer_13a", reason="sacrebleu is not installed")
    cut = original.Tokenizer13a()
    for text in [*reports[:300], *ODD]:
        assert cut_13a(text) == cut(text.rstrip()).split(), text


def test_rouge_words_are_those_of_rouge_score(reports: list[str]) -> None:
    original = pytest.importorskip("rouge_score.tokenize", reason="rouge-score is not installed")
    from nltk.stem.porter import PorterStemmer

    stemmer = PorterStemmer()
    for text in [*reports[:300], *ODD]:
        assert cut_rouge(text) == original.tokenize(text, None), text
        assert cut_rouge_stemmed(text) == original.tokenize(text, stemmer), text


def test_report_metric_counts_the_empty_token_between_two_spaces() -> None:
    assert cut_report_metric("No  mass.Clear.") == ["no", "", "mass", ".clear", "."]
    assert cut_report_metric("") == [""]
