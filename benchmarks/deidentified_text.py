"""How much of what names people `reports.deidentify` finds, and how much else it changes.

    python benchmarks/deidentified_text.py [FOLDER] [--identifiers 4000] [--seed 5]

Plants made-up identifiers into real reports of FOLDER (default `../shared/data` beside the repository; simulated
reports where it is absent) and writes docs/deidentified_text.md. An identifier counts as found when every letter and
digit of it was replaced, except those of a plain word ("Hospital"), a title, a state. Clinical words are the words of
the real report outside of planted identifiers; dates that the real reports bring along are counted apart.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.planted_text import LISTS, Planted, fill
from reports.deidentify import TextDeidentifier
from reports.findings import Finding, find
from volumes.deidentify_keys import Pseudonyms

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "deidentified_text.md"
_WORD = re.compile(r"\w+")
_PLAIN = re.compile(
    r"\b(?:of|the|Hospital|Clinic|Medical|Center|Imaging|Associates|University|Regional|General|Nursing|Home|Radiology|"
    r"Group|Klinikum|St|Saint|Mount|Street|Ave|Road|Lane|Blvd|Drive|T10:45|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|https)\b"
)


class Case(NamedTuple):
    """One report with planted identifiers: its text, where they stand, where the words of the real report stand."""

    text: str
    planted: list[tuple[Planted, bool]]
    own: list[tuple[int, int]]
    source: str


class Share(NamedTuple):
    """So many of so many."""

    hit: int
    of: int

    def text(self, places: int = 4) -> str:
        """The share with Wilson's 95 % interval."""
        if not self.of:
            return "none"
        low, high = wilson(self.hit, self.of)
        return f"{self.hit / self.of:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def wilson(hit: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927)."""
    p = hit / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def real_reports(folder: Path) -> list[tuple[str, str]]:
    """(source, text) of the public reports in a folder; empty when it holds none."""
    found = []
    openi = folder / "reports" / "openi_cxr_reports.csv"
    if openi.is_file():
        for row in _rows(openi):
            parts = [f"{k.upper()}: {row[k]}" for k in ("indication", "comparison", "findings", "impression") if row[k]]
            found.append(("Open-i radiographs", "\n".join(parts)))
    ct = folder / "reports" / "ctrate_chest_ct_reports_18labels.csv"
    if ct.is_file():
        found += [("CT-RATE chest CT", row["report_text"]) for row in _rows(ct)]
    cases = folder / "medpix" / "cases.jsonl"
    if cases.is_file():
        for line in cases.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)["case"]
            text = "\n".join(f"{k}: {case[k]}" for k in ("History", "Exam", "Findings") if case.get(k))
            found.append(("MedPix cases", text))
    return [(source, text) for source, text in found if len(text) > 80]


def simulated_reports(count: int = 400) -> list[tuple[str, str]]:
    """(source, text) of reports of phantoms."""
    from reports.grammar import write_report
    from volumes.phantom import sample_patient
    from volumes.streams import stream

    found = []
    for index in range(count):
        state = sample_patient(7, index, 1)[0]
        kind = ("xray", "ct")[index % 2]
        written = write_report(
            state.lesions, modality=kind, prior=None, sex=state.sex, age=state.age, rng=stream(7, index), style=index
        )  # type: ignore[arg-type]
        found.append(("simulated", written.text))
    return found


def plant(reports: list[tuple[str, str]], identifiers: int, seed: int) -> list[Case]:
    """Reports with planted identifiers, as many cases as it takes to hold so many."""
    draw = random.Random(seed)
    cases: list[Case] = []
    total = 0
    while total < identifiers:
        source, text = draw.choice(reports)
        cases.append(_planted(source, text, draw))
        total += len(cases[-1].planted)
    return cases


def _planted(source: str, report: str, draw: random.Random) -> Case:
    pieces: list[tuple[str, bool]] = []
    if draw.random() < 0.5:
        pieces.append((draw.choice(LISTS["openings"]) + "\n", True))
    sentences = re.split(r"(?<=[.!?])(?=\s)", report)
    places = set(draw.sample(range(len(sentences)), min(len(sentences), draw.randrange(2, 5))))
    for at, sentence in enumerate(sentences):
        pieces.append((sentence, False))
        if at in places:
            pieces.append((" " + draw.choice(LISTS["middles"]), True))
    if draw.random() < 0.5:
        pieces.append(("\n" + draw.choice(LISTS["closings"]), True))
    text, planted, own = "", [], []
    for piece, is_template in pieces:
        if not is_template:
            own.append((len(text), len(text) + len(piece)))
            text += piece
            continue
        unseen = piece.lstrip().startswith("*")
        filled, found = fill(piece.replace("* ", "", 1) if unseen else piece, draw)
        planted += [(Planted(len(text) + p.start, len(text) + p.stop, p.kind, p.group), unseen) for p in found]
        text += filled
    return Case(text, planted, own, source)


class Outcome(NamedTuple):
    """Sums over many cases."""

    by_kind: dict[str, Share]
    by_group: dict[str, Share]
    unseen: Share
    words: Share
    dates: int
    facts_kept: Share
    missed: list[str]
    changed: list[str]

    @property
    def recall(self) -> Share:
        """Over all kinds."""
        return Share(sum(s.hit for s in self.by_kind.values()), sum(s.of for s in self.by_kind.values()))


def measure(cases: list[Case], cleaner: TextDeidentifier) -> Outcome:
    """Clean every case and count what was found and what was changed."""
    by_kind: dict[str, Share] = {}
    by_group: dict[str, Share] = {}
    unseen, words, facts = Share(0, 0), Share(0, 0), Share(0, 0)
    dates, missed, changed = 0, [], []
    for number, case in enumerate(cases):
        cleaned = cleaner.clean(case.text, f"patient {number}")
        covered = bytearray(len(case.text))
        for span in cleaned.spans:
            covered[span.start : span.stop] = b"\1" * (span.stop - span.start)
        for one, is_unseen in case.planted:
            left = leftover(case.text[one.start : one.stop], covered[one.start : one.stop])
            hit = not left
            by_kind[one.kind] = _plus(by_kind.get(one.kind), hit)
            if one.group:
                by_group[one.group] = _plus(by_group.get(one.group), hit)
            unseen = _plus(unseen, hit) if is_unseen else unseen
            if not hit:
                missed.append(f"{one.kind}: {left!r} in {case.text[max(0, one.start - 50) : one.stop + 30]!r}")
        dated = bytearray(len(case.text))
        for span in cleaned.spans:
            if span.kind == "date":
                dated[span.start : span.stop] = b"\1" * (span.stop - span.start)
        for start, stop in case.own:
            for word in _WORD.finditer(case.text, start, stop):
                inside = any(covered[word.start() : word.end()])
                is_date = inside and all(dated[word.start() : word.end()])
                dates += is_date
                words = words if is_date else _plus(words, inside)
                if inside and not is_date:
                    changed.append(f"{word[0]!r} in {case.text[max(0, word.start() - 30) : word.end() + 20]!r}")
        facts = _plus(facts, said(case.text) == said(cleaned.text))
    return Outcome(by_kind, by_group, unseen, words, dates, facts, missed, changed)


def said(text: str) -> list[Finding]:
    """The findings of a text, without the number of the sentence: where lines are cut depends on their length."""
    return [replace(finding, sentence=None) for finding in find(text)]


def leftover(planted: str, covered: bytes | bytearray) -> str:
    """What of an identifier was not replaced, without the words that name nobody."""
    left = "".join(c if not covered[i] else " " for i, c in enumerate(planted))
    return re.sub(r"[\W_]+", " ", _PLAIN.sub(" ", left)).strip()


def _plus(share: Share | None, hit: bool) -> Share:
    share = share or Share(0, 0)
    return Share(share.hit + hit, share.of + 1)


def tables(outcome: Outcome, sources: str, count: int) -> Iterator[str]:
    """The page's text: only what was counted."""
    yield f"{outcome.recall.of} identifiers planted into {count} reports ({sources}). Intervals are Wilson's, 95 %.\n"
    yield "| what | share found | n |\n|---|---|---|"
    yield f"| all | {outcome.recall.text()} | {outcome.recall.of} |"
    for kind, share in sorted(outcome.by_kind.items()):
        yield f"| {kind} | {share.text()} | {share.of} |"
    yield "\n| where the name comes from | share found | n |\n|---|---|---|"
    for group, share in sorted(outcome.by_group.items()):
        yield f"| {group} | {share.text()} | {share.of} |"
    yield "\n| other | share | n |\n|---|---|---|"
    yield f"| found, in sentences written when the rules were done | {outcome.unseen.text()} | {outcome.unseen.of} |"
    yield f"| clinical words changed | {outcome.words.text(5)} | {outcome.words.of} |"
    kept = outcome.facts_kept
    yield f"| reports whose findings are the same before and after | {kept.text()} | {kept.of} |"
    yield f"\nThe real reports bring {outcome.dates} words and numbers of dates along, which were moved as well."


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: list[str]) -> int:
    """Print the tables and write the page. Exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--identifiers", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--show", action="store_true", help="print what was missed and what was changed; write no page")
    given = parser.parse_args(arguments)
    reports = real_reports(given.folder) or simulated_reports()
    cases = plant(reports, given.identifiers, given.seed)
    outcome = measure(cases, TextDeidentifier(Pseudonyms(b"the key of the benchmark")))
    sources = ", ".join(sorted({case.source for case in cases}))
    text = "\n".join(tables(outcome, sources, len(cases)))
    print(text)
    if given.show:
        print("\nmissed", *outcome.missed, "\nchanged", *outcome.changed, sep="\n")
    else:
        command = f"python benchmarks/deidentified_text.py --identifiers {given.identifiers} --seed {given.seed}"
        PAGE.write_text(f"# De-identified text\n\nWritten by `{command}`.\n\n{text}\n", encoding="utf-8")
    return int(outcome.recall.hit < 0.99 * outcome.recall.of or outcome.words.hit >= 0.01 * outcome.words.of)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
