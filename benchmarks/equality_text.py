"""Text metrics beside pycocoevalcap, sacrebleu, rouge-score, nltk, fast-bleu and the METEOR 1.5 program.

The real reports of `openi_cxr_reports.csv` (in `../shared/data/reports` beside the repository) are paired by a seeded
shuffle; simulated reports are paired with another report of the same patient, in another house style. Captions' metrics
get the same text, cut by our tokens; METEOR 1.5 and the PTB tokens run where Java is.
"""

from __future__ import annotations

import csv
import importlib.metadata
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.bleu import coco_bleu, sacre_bleu, sentence_bleu
from evaluation.chrf import chrf
from evaluation.cider import cider_d
from evaluation.meteor import nltk_meteor
from evaluation.meteor15 import meteor_15
from evaluation.ptb import PTB
from evaluation.rouge import coco_rouge_l, rouge_l_f1, rouge_n_f1
from evaluation.text_pairs import TextScore, TokenPairs
from evaluation.tokenization import REPORT_METRIC, ROUGE_STEMS, ROUGE_WORDS, V13A, V13A_LOWER, Tokenizer

ROOT = Path(__file__).resolve().parent.parent
SEED = 20
SIMULATED = 500


class Row(NamedTuple):
    """One comparison; `ours` and `original` are the numbers of the set, `difference` the largest over set and texts."""

    name: str
    n: int
    ours: float
    original: float | None
    difference: float | None


class Pairs(NamedTuple):
    """Generated texts and their references, one or more each."""

    source: str
    hypotheses: list[str]
    references: list[list[str]]


def main(folder: Path = ROOT.parent / "shared/data/reports") -> Iterator[Row]:
    """All rows, of each set of pairs, program by program."""
    path = folder / "openi_cxr_reports.csv"
    for pairs in (*([real_pairs(path)] if path.is_file() else []), simulated_pairs(), two_references()):
        yield from coco_rows(pairs)
        yield from sacrebleu_rows(pairs)
        yield from rouge_rows(pairs)
        yield from nltk_rows(pairs)
        yield from report_metric_rows(pairs)
        yield from java_rows(pairs)


def real_pairs(path: Path) -> Pairs:
    """Findings and impression of every report, each scored against another one of a seeded shuffle."""
    with path.open(newline="", encoding="utf-8") as stream:
        texts = [f"{row['findings']} {row['impression']}".strip() for row in csv.DictReader(stream)]
    order = np.random.default_rng(SEED).permutation(len(texts)).tolist()
    return Pairs("real reports, shuffled", [texts[at] for at in order], [[text] for text in texts])


def simulated_report(patient: int, style: int) -> str:
    """A report of a simulated patient in one line, in one house style."""
    from reports.grammar import write_report
    from volumes.phantom import sample_patient

    state = sample_patient(SEED, patient)[-1]
    written = write_report(state.lesions, sex=state.sex, age=state.age, rng=np.random.default_rng(style), style=style)
    return " ".join(written.text.split())


def simulated_pairs() -> Pairs:
    """Two reports of each simulated patient."""
    rows = range(SIMULATED)
    hypotheses = [simulated_report(row, row) for row in rows]
    return Pairs("simulated reports", hypotheses, [[simulated_report(row, row + 1)] for row in rows])


def two_references() -> Pairs:
    """Three reports of each simulated patient, two of them references; some texts empty."""
    rows = range(100)
    hypotheses = ["" if row % 25 == 0 else simulated_report(row, row) for row in rows]
    return Pairs("two references", hypotheses, [[simulated_report(row, row + add) for add in (1, 2)] for row in rows])


def coco_rows(pairs: Pairs) -> Iterator[Row]:
    """BLEU, ROUGE-L and CIDEr-D of one text, tokens joined by spaces as its own tokenizer does."""
    joined = _joined(pairs, PTB)
    tokens = TokenPairs(joined.hypotheses, joined.references)
    bleu, rouge, cider = coco_bleu(tokens), coco_rouge_l(tokens), cider_d(tokens)
    if _version("pycocoevalcap") is None:
        yield from (_row(score, pairs, "pycocoevalcap", None, None) for score in (*bleu, rouge, cider))
        return
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    references = dict(enumerate(joined.references))
    hypotheses = {row: [text] for row, text in enumerate(joined.hypotheses)}
    totals, items = Bleu(4).compute_score(references, hypotheses, verbose=0)
    for score, total, each in zip(bleu, totals, items, strict=True):
        yield _row(score, pairs, "pycocoevalcap", total, each)
    for score, scorer in ((rouge, Rouge()), (cider, Cider())):
        yield _row(score, pairs, "pycocoevalcap", *scorer.compute_score(references, hypotheses))


def sacrebleu_rows(pairs: Pairs) -> Iterator[Row]:
    """BLEU with each smoothing, in lower case, chrF and chrF++."""
    hypotheses, columns = pairs.hypotheses, list(map(list, zip(*pairs.references, strict=True)))
    cased, lowered = (TokenPairs(hypotheses, pairs.references, tokens) for tokens in (V13A, V13A_LOWER))
    settings: list[tuple[TextScore, str, dict[str, Any]]] = [
        (sacre_bleu(cased, smoothing), "BLEU", {"smooth_method": smoothing})
        for smoothing in ("exp", "floor", "add-k", "none")
    ]
    settings.append((sacre_bleu(lowered), "BLEU", {"lowercase": True}))
    settings += [(chrf(hypotheses, pairs.references, words), "CHRF", {"word_order": 2 * words}) for words in (0, 1)]
    for score, kind, options in settings:
        if _version("sacrebleu") is None:
            yield _row(score, pairs, "sacrebleu", None, None)
            continue
        import sacrebleu.metrics

        metric = getattr(sacrebleu.metrics, kind)
        total = metric(**options).corpus_score(hypotheses, columns).score
        single = metric(**options, effective_order=True) if kind == "BLEU" else metric(**options)
        each = [
            single.sentence_score(text, texts).score for text, texts in zip(hypotheses, pairs.references, strict=True)
        ]
        yield _row(score, pairs, "sacrebleu", total, each)


def rouge_rows(pairs: Pairs) -> Iterator[Row]:
    """ROUGE-1, ROUGE-2 and ROUGE-L with and without stems."""
    for tokens, stemmed in ((ROUGE_STEMS, True), (ROUGE_WORDS, False)):
        cut = TokenPairs(pairs.hypotheses, pairs.references, tokens)
        scores = {"rouge1": rouge_n_f1(cut, 1), "rouge2": rouge_n_f1(cut, 2), "rougeL": rouge_l_f1(cut)}
        found: dict[str, list[float]] = {}
        if _version("rouge-score") is not None:
            from rouge_score.rouge_scorer import RougeScorer

            scorer = RougeScorer(list(scores), use_stemmer=stemmed)
            for text, texts in zip(pairs.hypotheses, pairs.references, strict=True):
                for kind, value in scorer.score_multi(texts, text).items():
                    found.setdefault(kind, []).append(value.fmeasure)
        for kind, score in scores.items():
            each = found.get(kind)
            yield _row(score, pairs, "rouge-score", None if each is None else float(np.mean(each)), each)


def nltk_rows(pairs: Pairs) -> Iterator[Row]:
    """METEOR without WordNet, and sentence BLEU of every order and smoothing."""
    cut = TokenPairs(pairs.hypotheses, pairs.references)
    installed = _version("nltk") is not None
    meteor: Callable[..., float] = _no_original
    if installed:
        from nltk.translate.meteor_score import meteor_score as meteor
    each = [
        meteor([text.split() for text in texts], hypothesis.split(), wordnet=_NoWordNet())
        for hypothesis, texts in zip(pairs.hypotheses, pairs.references, strict=True)
        if installed
    ]
    yield _row(nltk_meteor(cut), pairs, "nltk", *_mean(each))
    for order in (2, 4):
        for smoothing, method in (("none", 0), ("epsilon", 1), ("add-one", 2), ("nist", 3)):
            score = sentence_bleu(cut, order, smoothing)  # type: ignore[arg-type]
            yield _row(score, pairs, "nltk", *_mean(_nltk_bleu(cut, order, method) if installed else []))


def _nltk_bleu(cut: TokenPairs, order: int, method: int) -> list[float]:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smooth = getattr(SmoothingFunction(), f"method{method}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every text without a common n-gram
        return [
            float(sentence_bleu(texts, hypothesis, (1 / order,) * order, smooth))
            for hypothesis, texts in zip(cut.hypotheses, cut.references, strict=True)
        ]


def report_metric_rows(pairs: Pairs) -> Iterator[Row]:
    """BLEU-2 of CXR-Report-Metric, which is fast_bleu's; `pip install fast-bleu` needs a C++ compiler."""
    cut = TokenPairs(pairs.hypotheses, [texts[:1] for texts in pairs.references], REPORT_METRIC)
    each: list[float] = []
    if _version("fast-bleu") is not None:
        from fast_bleu import BLEU

        each = [
            BLEU(texts, {"two": (0.5, 0.5)}).get_score([text])["two"][0]
            for text, texts in zip(cut.hypotheses, cut.references, strict=True)
        ]
    several = any(len(texts) > 1 for texts in pairs.references)
    named = pairs._replace(source=f"{pairs.source}, the first") if several else pairs
    yield _row(sentence_bleu(cut, 2), named, "fast-bleu", *_mean(each))


class _NoWordNet:
    """WordNet when it knows no word."""

    def synsets(self, word: str) -> list[object]:
        return []


def _no_original(*_: object, **__: object) -> float:
    return float("nan")


def java_rows(pairs: Pairs) -> Iterator[Row]:
    """METEOR 1.5, exact and stem; and texts that our PTB tokens cut as the original's Java does."""
    joined = _joined(pairs, PTB)
    score = meteor_15(TokenPairs(joined.hypotheses, joined.references))
    folder = _java_folder()
    if folder is None:
        yield _row(score, pairs, "METEOR 1.5 in pycocoevalcap (needs Java)", None, None)
        return
    total, each = _java_meteor(joined, folder / "meteor/meteor-1.5.jar")
    yield _row(score, pairs, "METEOR 1.5 in pycocoevalcap", total, each)
    texts = [*pairs.hypotheses, *(text for texts in pairs.references for text in texts)]
    same = [PTB.cut(text) == theirs for text, theirs in zip(texts, java_tokens(texts), strict=True)]
    name = f"share of texts with the tokens of its Java, {pairs.source} | pycocoevalcap {_version('pycocoevalcap')}"
    yield Row(name, len(same), float(np.mean(same)), 1.0, 1 - float(np.mean(same)))


def _java_meteor(pairs: Pairs, jar: Path) -> tuple[float, list[float]]:
    command = ["java", "-Xmx1G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-lower", "-m", "exact stem"]
    with subprocess.Popen([*command, "-w", "1.0 0.6"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        statistics = []
        for text, texts in zip(pairs.hypotheses, pairs.references, strict=True):
            run.stdin.write(" ||| ".join(["SCORE", *texts, text]) + "\n")
            run.stdin.flush()
            statistics.append(run.stdout.readline().strip())
        run.stdin.write(" ||| ".join(["EVAL", *statistics]) + "\n")
        run.stdin.flush()
        each = [float(run.stdout.readline()) for _ in statistics]
        return float(run.stdout.readline()), each


def _java_folder() -> Path | None:
    """Where pycocoevalcap lies, if Java is here to run what is in it."""
    if shutil.which("java") is None or _version("pycocoevalcap") is None:
        return None
    import pycocoevalcap

    return Path(next(iter(pycocoevalcap.__path__)))


def java_tokens(texts: Sequence[str]) -> list[list[str]]:
    """What pycocoevalcap's own tokenizer makes of each text."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    lines = [" ".join(text.split()) for text in texts]
    found = PTBTokenizer().tokenize({row: [{"caption": line}] for row, line in enumerate(lines)})
    return [found[row][0].split() for row in range(len(lines))]


def _joined(pairs: Pairs, tokens: Tokenizer) -> Pairs:
    def cut(text: str) -> str:
        return " ".join(tokens.cut(text))

    return Pairs(pairs.source, list(map(cut, pairs.hypotheses)), [list(map(cut, texts)) for texts in pairs.references])


def _mean(each: list[float]) -> tuple[float | None, list[float] | None]:
    return (float(np.mean(each)), each) if each else (None, None)


def _row(score: TextScore, pairs: Pairs, package: str, total: float | None, each: Sequence[float] | None) -> Row:
    version = _version(package.split()[-1] if " in " in package else package)
    name = f"{score.name} ({score.variant}), {pairs.source} | {package}{f' {version}' if version else ''}"
    if total is None or each is None:
        return Row(name, score.n, score.value, None, None)
    apart = np.abs(np.asarray(each, float) - score.items).max()
    return Row(name, score.n, score.value, float(total), float(max(apart, abs(total - score.value))))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    for row in main(*(Path(argument) for argument in sys.argv[1:2])):
        print(row.name, row.n, f"{row.ours:.6f}", row.original, row.difference)
