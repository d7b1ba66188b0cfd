"""Prints how often each planted defect raises its flag, how often another, and how often a clean evaluation raises any.

python benchmarks/planted_defects.py [--seeds 100] [--clean 400] [--people 200 400 800] [--out docs/planted_defects.md]

Simulated patients, labels and scores (evaluation/planted.py); no image and no model. Shares stand with the exact
interval of 95 % (Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404). Exit code 1 when a clean evaluation raises a
flag in more than 5 % of the seeds, or a defect at the usual size is found in fewer than 80 %.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from scipy.stats import beta

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.evidence import CHECKS, Evidence, examine
from evaluation.planted import DEFECTS, clean

USUAL = 400
MOST_FALSE, LEAST_FOUND = 0.05, 0.80


def exact(hits: int, n: int) -> str:
    """A share with its exact interval."""
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return f"{hits / n:.1%} ({low:.1%} to {high:.1%})"


def raised(make: Callable[[int, int], Evidence], seeds: int, people: int) -> list[tuple[str, ...]]:
    """Names of the flags of each seed."""
    return [tuple(flag.name for flag in examine(make(seed, people)).flags) for seed in range(1000, 1000 + seeds)]


def measure(seeds: int, spotless: int, sizes: list[int]) -> tuple[str, bool]:
    """The page, and whether both goals are kept at the usual size."""
    lines = [
        "# Planted defects",
        "",
        "Made by `python benchmarks/planted_defects.py`. Each row is a simulated evaluation of 8 findings with one"
        f" defect; {len(CHECKS)} checks look at it. *found*: its own flag is raised; *alone*: and no other. n is the"
        " number of seeds; intervals are exact, 95 %.",
        "",
        "| patients | planted | flag | found | alone | n |",
        "|---|---|---|---|---|---|",
    ]
    kept = True
    for people in sizes:
        found = raised(clean, spotless, people)
        false = [names for names in found if names]
        kept &= people != USUAL or len(false) <= MOST_FALSE * spotless
        others = Counter(name for names in false for name in names)
        told = ", ".join(f"{name} {count}" for name, count in others.most_common()) or "none"
        lines.append(f"| {people} | nothing | any false flag: {exact(len(false), spotless)} | {told} | | {spotless} |")
        for words, (flag, make) in DEFECTS.items():
            found = raised(make, seeds, people)
            hits, alone = sum(flag in names for names in found), sum(names == (flag,) for names in found)
            kept &= people != USUAL or hits >= LEAST_FOUND * seeds
            lines.append(f"| {people} | {words} | `{flag}` | {exact(hits, seeds)} | {exact(alone, seeds)} | {seeds} |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n", kept


def main() -> int:
    """Print the page, write it if asked, and say whether the goals are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="evaluations with each defect")
    parser.add_argument("--clean", type=int, default=400, help="evaluations without one")
    parser.add_argument("--people", type=int, nargs="+", default=[USUAL])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    page, kept = measure(given.seeds, given.clean, given.people)
    print(page)
    if given.out is not None:
        given.out.write_text(page, encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
