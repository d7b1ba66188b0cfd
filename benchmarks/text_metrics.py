"""How fast BLEU-1 to 4, ROUGE-L and CIDEr-D are beside the Python part of pycocoevalcap, on the same tokens.

    python benchmarks/text_metrics.py [--pairs 2000] [--rounds 5] [--reports ../shared/data/reports]

Simulated reports, two of each patient; or, with --reports, the real ones of `openi_cxr_reports.csv` in that folder,
paired by a seeded shuffle. Each round runs the original and then ours, on text that was cut into tokens before; neither
starts Java. Medians over rounds, ratios within one run. We count n-grams once for BLEU and CIDEr-D, which is a line of
its own. Ends with 1 if the numbers differ by more than 1e-6 or the whole is not ten times faster.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from equality_text import real_pairs, simulated_report

from evaluation.bleu import coco_bleu
from evaluation.cider import cider_d
from evaluation.ptb import PTB
from evaluation.rouge import coco_rouge_l
from evaluation.text_pairs import TokenPairs

GOAL = 10.0
LIMIT = 1e-6


def texts_of(folder: Path | None, pairs: int) -> tuple[str, list[str], list[str]]:
    """What the texts are, generated ones, and references; tokens joined by spaces."""
    if folder is not None:
        real = real_pairs(folder / "openi_cxr_reports.csv")
        hypotheses, references = real.hypotheses[:pairs], [texts[0] for texts in real.references[:pairs]]
        source = "real reports, shuffled"
    else:
        hypotheses = [simulated_report(row, row) for row in range(pairs)]
        references, source = [simulated_report(row, row + 1) for row in range(pairs)], "simulated reports"
    return source, *([" ".join(PTB.cut(text)) for text in texts] for texts in (hypotheses, references))


def ours(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[dict[str, float], list[float]]:
    """Seconds by step, and the six numbers."""
    took: dict[str, float] = {}
    pairs = timed(took, "tokens and n-grams", lambda: _counted(hypotheses, references))
    bleu = timed(took, "BLEU-1 to 4", lambda: coco_bleu(pairs))
    rouge = timed(took, "ROUGE-L", lambda: coco_rouge_l(pairs))
    cider = timed(took, "CIDEr-D", lambda: cider_d(pairs))
    return took, [score.value for score in (*bleu, rouge, cider)]


def _counted(hypotheses: Sequence[str], references: Sequence[str]) -> TokenPairs:
    pairs = TokenPairs(hypotheses, references)
    _ = pairs.counts
    return pairs


def original(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[dict[str, float], list[float]]:
    """The same of pycocoevalcap."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    took: dict[str, float] = {}
    given = ({row: [text] for row, text in enumerate(texts)} for texts in (references, hypotheses))
    wanted, said = given
    bleu, _ = timed(took, "BLEU-1 to 4", lambda: Bleu(4).compute_score(wanted, said, verbose=0))
    rouge, _ = timed(took, "ROUGE-L", lambda: Rouge().compute_score(wanted, said))
    cider, _ = timed(took, "CIDEr-D", lambda: Cider().compute_score(wanted, said))
    return took, [*bleu, float(rouge), float(cider)]


def timed(took: dict[str, float], step: str, work: Callable[[], Any]) -> Any:
    begin = time.perf_counter()
    found = work()
    took[step] = time.perf_counter() - begin
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reports", type=Path)
    options = parser.parse_args()
    source, hypotheses, references = texts_of(options.reports, options.pairs)
    programs = {"pycocoevalcap": original, "ours": ours}
    try:
        import pycocoevalcap  # noqa: F401
    except ImportError:
        del programs["pycocoevalcap"]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    numbers: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, program in programs.items():
            took, numbers[name] = program(hypotheses, references)
            rounds[name].append(took | {"all": sum(took.values())})
    medians = {
        name: {step: statistics.median(one[step] for one in found) for step in found[0]}
        for name, found in rounds.items()
    }
    tokens = sum(len(text.split()) for text in hypotheses) / len(hypotheses)
    what = f"{len(hypotheses)} pairs of {source}, {tokens:.0f} tokens each on average"
    print(f"{what}; medians of {options.rounds} rounds in ms\n")
    return report(medians, numbers)


def report(medians: dict[str, dict[str, float]], numbers: dict[str, list[float]]) -> int:
    """Print the table; 1 if the goal is missed or a number differs."""
    theirs = medians.get("pycocoevalcap")
    print("| step | ours | pycocoevalcap | times faster |\n|---|---:|---:|---:|")
    for step, seconds in medians["ours"].items():
        other = None if theirs is None else theirs.get(step)
        shown = "not installed" if theirs is None else "" if other is None else f"{1000 * other:.1f}"
        ratio = f"{other / seconds:.1f}" if other is not None else ""
        print(f"| {step} | {1000 * seconds:.1f} | {shown} | {ratio} |")
    if theirs is None:
        print('\npip install "medvlm-platform[text-originals]" for the ratio')
        return 0
    pairs = zip(numbers["ours"], numbers["pycocoevalcap"], strict=True)
    apart = max(abs(mine - other) for mine, other in pairs)
    print(f"\nlargest difference of the six numbers: {apart:.1e}")
    return 0 if apart <= LIMIT and theirs["all"] >= GOAL * medians["ours"]["all"] else 1


if __name__ == "__main__":
    sys.exit(main())
