"""Prints how many reports per second one core labels, with and without the memory for sentences, and against a peer.

    OMP_NUM_THREADS=1 python benchmarks/labelling_speed.py [FOLDER] [--peer-python PYTHON] [--out PAGE]

FOLDER holds `openi_cxr_reports.csv` and `ctrate_chest_ct_reports_18labels.csv` (default: `../shared/data/reports`
beside the repository); without it reports are simulated, and the table says so. Processor seconds, so that a busy
machine matters little. "Every sentence read" turns the memory of `reports.findings.read_sentence` off; "repeats
remembered" is what `medvlm label` does. `--peer-python` is an interpreter with medspacy or negspacy (see
`peer_labeller.py`).
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reports import findings
from reports.labels import label
from reports.sections import section_sentences

FILES = {
    "openi_cxr_reports.csv": ("Indiana radiographs", ("findings", "impression"), "chexpert14"),
    "ctrate_chest_ct_reports_18labels.csv": ("CT-RATE", ("report_text",), "ctrate18"),
}
PEERS = ("medspacy", "negspacy")
PEER_REPORTS = 300  # enough for two digits; peers are slow


class Speed(NamedTuple):
    """Reports per second of one way to label one set."""

    texts: str
    way: str
    reports: int
    per_s: float


def report_sets(folder: Path) -> Iterator[tuple[str, list[str], str]]:
    """(name, reports, scheme) of each set: the public ones where they are, else simulated reports."""
    present = [name for name in FILES if (folder / name).is_file()]
    for name in present:
        title, columns, scheme = FILES[name]
        with (folder / name).open(encoding="utf-8-sig", newline="") as file:
            rows = ["\n\n".join(filter(None, (row[c] for c in columns))) for row in csv.DictReader(file)]
        yield title, [row for row in rows if row], scheme
    if not present:
        yield "simulated reports", simulated(2000), "chexpert14"


def simulated(count: int) -> list[str]:
    """Reports of the phantom hospital's patients, without their images."""
    import numpy as np

    from reports.grammar import write_report
    from volumes.cases import draw_lesions

    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        made.append(write_report(list(draw_lesions(rng)), modality="xray", views=2, prior=None, sex="F", age=60,
        rng=rng, style=seed).text)  # fmt: skip
    return made


@contextmanager
def forgetful() -> Iterator[None]:
    """Read every sentence anew, also one that was read before."""
    kept = findings.read_sentence
    findings.read_sentence = Unremembered(kept.__wrapped__)  # type: ignore[assignment]
    try:
        yield
    finally:
        findings.read_sentence = kept


class Unremembered:
    """`read_sentence` without its memory, in the same shape."""

    def __init__(self, read: Any) -> None:
        self.__wrapped__ = read

    def __call__(self, sentence: str, book: Any) -> Any:
        return self.__wrapped__(sentence, book)


def rate(texts: Sequence[str], scheme: str) -> float:
    """Reports per processor second."""
    start = time.process_time()
    for text in texts:
        label(text, scheme)
    return len(texts) / (time.process_time() - start)


def measure(title: str, texts: list[str], scheme: str) -> list[Speed]:
    """The ways to label one set, after one warm-up."""
    label(texts[0], scheme)
    with forgetful():
        rate(texts, scheme)
        every = rate(texts, scheme)
    findings.read_sentence.cache_clear()
    kept = rate(texts, scheme)
    unique = list(dict.fromkeys(sentence for text in texts for _, sentence in section_sentences(text)))
    with forgetful():
        start = time.process_time()
        for sentence in unique:
            findings.find(sentence)
        sentences = len(unique) / (time.process_time() - start)
    return [
        Speed(title, "every sentence read", len(texts), every),
        Speed(title, "repeats remembered", len(texts), kept),
        Speed(title, "different sentences, per second", len(unique), sentences),
    ]


def peer_speeds(python: str, title: str, texts: list[str]) -> Iterator[Speed]:
    """Speeds of the peers that `python` has; one that it lacks is said on the error stream."""
    script = Path(__file__).with_name("peer_labeller.py")
    lines = "\n".join(json.dumps(text) for text in texts[:PEER_REPORTS])
    for name in PEERS:
        done = subprocess.run(
            [python, str(script), name], input=lines, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode:
            print(f"{name}: not run with {python}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            continue
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        yield Speed(title, answer["peer"], answer["reports"], answer["per_s"])


def table(rows: Sequence[Speed]) -> str:
    """A Markdown table; each way beside the first of its set."""
    ours = {row.texts: row.per_s for row in rows if row.way == "every sentence read"}
    lines = [
        "| reports | way | n | per second on one core | ours, every sentence read, is |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        peer = row.way.split()[0] in PEERS
        times = f"{ours[row.texts] / row.per_s:.2g} times as fast" if peer else ""
        lines.append(f"| {row.texts} | {row.way} | {row.reports} | {row.per_s:,.0f} | {times} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the page where `--out` asks for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1] / "../shared/data/reports")
    parser.add_argument("--peer-python", help="interpreter with medspacy or negspacy installed")
    parser.add_argument("--out", type=Path, help="Markdown page to write")
    given = parser.parse_args(arguments)
    rows: list[Speed] = []
    for title, texts, scheme in report_sets(given.folder):
        rows += measure(title, texts, scheme)
        if given.peer_python:
            rows += peer_speeds(given.peer_python, title, texts)
    page = table(rows)
    print(page)
    if given.out:
        given.out.write_text(
            "# Speed of the labeller\n\nMade by `python benchmarks/labelling_speed.py --out docs/labelling_speed.md`.\n"
            f"Reports whole, one core, processor seconds; peers on the first {PEER_REPORTS}.\n\n{page}\n",
            encoding="utf-8",
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
