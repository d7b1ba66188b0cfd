"""Prints how many reports can be rewritten without a change of facts, why others are refused, and both round trips.

python benchmarks/rewriting.py [DATA] [--every 2] [--trips 2000] [--out docs/rewriting.md]

DATA holds reports/openi_cxr_reports.csv, reports/ctrate_chest_ct_reports_18labels.csv and medpix/cases.jsonl (default:
../shared/data beside the repository); what is not there is left out, and simulated reports are always measured. Only
numbers are printed, no sentence of DATA. A share stands with its Wilson interval of 95 % (Wilson 1927, JASA 22:209-212)
over reports; the sets name no patients. Exit code 1 when a round trip is below its goal.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from reports.cleaned import cleaned
from reports.fact_writer import CHANGES, LEVELS, PLACES, RIBS, SIDES, STATUSES, ZONES, is_counted, problem, write_facts
from reports.findings import LEXICON, find
from reports.grammar import Modality, WrittenReport, write_report
from reports.minimal_sentences import minimal_sentences
from reports.negative_edits import KINDS
from reports.negatives import negatives
from reports.paraphrase import paraphrase
from reports.prior_free import prior_free
from reports.rewriting import Refused, Rewritten
from reports.sections import sentences
from reports.stated import Stated, stated_in
from volumes.cases import draw_lesions
from volumes.lesions import FINDINGS

GOAL = 0.995
FIELDS = ("name", "status", "side", "location", "severity", "size_mm", "change")
SIMULATED = 400
WAYS: Mapping[str, tuple[Callable[[str], Rewritten | Refused], int]] = {
    "prior-free": (prior_free, 1),
    "cleaned": (cleaned, 1),
    "minimal": (minimal_sentences, 1),
    "paraphrased": (lambda text: paraphrase(text, np.random.default_rng(len(text))), 8),
}
"""Each with how many times fewer reports it is measured on."""
NEGATIVES_EVERY = 4


def texts_of(data: Path, every: int) -> dict[str, list[str]]:
    """Reports by set; sets that are not there are left out."""
    found: dict[str, list[str]] = {}
    films, scans = (
        data / "reports" / name for name in ("openi_cxr_reports.csv", "ctrate_chest_ct_reports_18labels.csv")
    )
    if films.is_file():
        found["Open-i films"] = [f"FINDINGS: {r['findings']}\n\nIMPRESSION: {r['impression']}" for r in _rows(films)]
    if scans.is_file():
        found["CT-RATE"] = [row["report_text"] for row in _rows(scans)]
    cases = data / "medpix" / "cases.jsonl"
    if cases.is_file():
        lines = cases.read_text(encoding="utf-8").splitlines()
        found["MedPix"] = [json.loads(line)["case"].get("Findings") or "" for line in lines]
    found["simulated"] = [simulated(seed).text for seed in range(SIMULATED)]
    return {name: [text for text in texts[::every] if text.strip()] for name, texts in found.items()}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def simulated(seed: int, variety: bool = False) -> WrittenReport:
    """A report of the phantom hospital; half of them compare with a prior."""
    rng = np.random.default_rng(seed)
    lesions = list(draw_lesions(rng))
    prior = None
    if rng.random() < 0.5:
        prior = [replace(x, size_mm=x.size_mm * float(rng.choice([0.5, 1, 2]))) for x in lesions if rng.random() < 0.8]
        prior += [x for x in draw_lesions(rng) if x.name not in {one.name for one in lesions}]
    modality: Modality = "ct" if seed % 3 == 0 else "xray"
    return write_report(
        lesions, modality=modality, views=1 + seed % 2, prior=prior, rng=rng, style=seed, variety=variety
    )


def share(hits: int, n: int) -> str:
    """A share with its Wilson interval."""
    if n == 0:
        return "none"
    z = 1.959964
    p, spread = hits / n, z * z / n
    middle = (p + spread / 2) / (1 + spread)
    half = z * math.sqrt(p * (1 - p) / n + spread / (4 * n)) / (1 + spread)
    return f"{p:.3f} ({max(middle - half, 0):.3f} to {min(middle + half, 1):.3f})"


def rewrites(texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A table of rewritten reports, and of the sentences left out."""
    yield "| set | rewrite | reports | rewritten, share | sentences | left out, share | by reason | per second |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, reports in texts.items():
        for way, (function, every) in WAYS.items():
            chosen = reports[::every]
            started = time.perf_counter()
            made = [function(text) for text in chosen]
            speed = len(chosen) / (time.perf_counter() - started)
            good = sum(isinstance(one, Rewritten) for one in made)
            said = sum(len(sentences(text)) for text in chosen)
            left = Counter(dropped.kind for one in made for dropped in one.dropped)
            refused = Counter(f"whole report: {one.kind}" for one in made if isinstance(one, Refused))
            why = ", ".join(f"{kind} {n}" for kind, n in (left + refused).most_common())
            yield (
                f"| {name} | {way} | {len(chosen)} | {share(good, len(chosen))} | {said}"
                f" | {share(left.total(), said)} | {why or 'nothing'} | {speed:.0f} |"
            )


def made_false(texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A table of negatives by kind."""
    yield "| set | kind | reports | with such a fact | made, share of those | refused, by reason |"
    yield "| --- | --- | --- | --- | --- | --- |"
    rng = np.random.default_rng(11)
    for name, reports in texts.items():
        made = [negatives(text, rng) for text in reports[::NEGATIVES_EVERY]]
        for kind in KINDS:
            refused = Counter(one[kind].kind for one in made if isinstance(one[kind], Refused))  # type: ignore[union-attr]
            able = len(made) - refused.pop("nothing", 0)
            good = able - refused.total()
            why = ", ".join(f"{reason} {n}" for reason, n in refused.most_common())
            yield f"| {name} | {kind} | {len(made)} | {able} | {share(good, able)} | {why or 'nothing'} |"


def round_trip(reports: int, variety: bool) -> tuple[list[str], bool]:
    """Lines of a table: of the facts of simulated reports, how many are read back, by field; whether the goal holds."""
    right: Counter[str] = Counter()
    total = extra = 0
    for seed in range(reports):
        report = simulated(seed, variety)
        found = Counter(_key(f) for f in find(report.text) if f.name in FINDINGS)
        truth = Counter(_key(f) for f in report.facts if f.name in FINDINGS)
        total += truth.total()
        right["every field"] += (found & truth).total()
        extra += sum(n for key, n in (found - truth).items() if key[1] != "absent")
        for at, field in enumerate(FIELDS):
            seen, true = (Counter((k[-1], k[0], k[at]) for k in keys.elements()) for keys in (found, truth))
            right[field] += (seen & true).total()
    wording = "all phrases" if variety else "standard phrases"
    lines = [f"| {wording} | {reports} | {total} | {f} | {share(right[f], total)} |" for f in (*FIELDS, "every field")]
    lines.append(f"| {wording} | {reports} | {total} | stated, but not true | {share(extra, total)} |")
    return lines, all(right[field] / total >= GOAL for field in (*FIELDS, "every field"))


def _key(fact: object) -> tuple[object, ...]:
    return (*(getattr(fact, field) for field in FIELDS), getattr(fact, "sentence"))  # noqa: B009


def identity(sets: int) -> tuple[str, bool]:
    """Free facts, written and read back."""
    same = facts = 0
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        wanted = [free_fact(rng) for _ in range(1 + int(rng.integers(8)))]
        text = write_facts(wanted, rng, joined=bool(rng.integers(2)))
        same += Counter(stated_in(text)) == Counter(wanted)
        facts += len(wanted)
    return f"| {sets} | {facts} | {share(same, sets)} |", same == sets


def free_fact(rng: np.random.Generator) -> Stated:
    """Any fact that can be stated."""

    def pick(*options: object) -> object:
        return options[int(rng.integers(len(options)))]

    name, status = str(pick(*LEXICON)), str(pick(*STATUSES))
    absent = status == "absent"
    made = Stated(
        name,
        status,
        pick(None, *SIDES),  # type: ignore[arg-type]
        pick(None, None, *PLACES, *ZONES, *RIBS),  # type: ignore[arg-type]
        pick(None, *LEVELS),  # type: ignore[arg-type]
        None if absent else pick(None, 3.0, 8.5, 41.0),  # type: ignore[arg-type]
        pick(None, "resolved") if absent else pick(None, None, *CHANGES),  # type: ignore[arg-type]
        None if absent or not is_counted(name) else pick(None, "1", "2", "several"),  # type: ignore[arg-type]
    )
    return made._replace(side=None, location=None) if problem(made) else made


def page(data: Path, every: int, trips: int) -> tuple[str, bool]:
    """The whole page, and whether every goal holds."""
    texts = texts_of(data, every)
    plain, plain_holds = round_trip(trips, False)
    more, more_holds = round_trip(trips, True)
    same, same_holds = identity(trips)
    parts = [
        "# Rewriting",
        "Written by `python benchmarks/rewriting.py --out docs/rewriting.md`; do not edit. A rewrite is checked by"
        " reading the facts before and after; a sentence that cannot be rewritten with its facts is left out and"
        " counted under its reason. Shares have Wilson intervals of 95 % over reports or sentences. Speed is reports"
        f" per second in one process. One report in {every} of each set was read.",
        "## Rewrites",
        "\n".join(rewrites(texts)),
        "## Negatives",
        "One fact made false, all others kept.",
        "\n".join(made_false(texts)),
        "## Round trips",
        f"Simulated report to facts, goal {GOAL}:",
        "| wording | reports | facts | field | read back, share |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(plain + more),
        "Facts to sentences to facts:",
        "| sets | facts | identical, share |\n| --- | --- | --- |\n" + same,
    ]
    return "\n\n".join(parts) + "\n", plain_holds and more_holds and same_holds


def main() -> int:
    """Write the page, or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--every", type=int, default=2, help="take every Nth report")
    parser.add_argument("--trips", type=int, default=2000, help="simulated reports and sets of facts")
    parser.add_argument("--out", type=Path)
    call = parser.parse_args()
    text, holds = page(call.data, call.every, call.trips)
    if call.out is None:
        print(text)
    else:
        call.out.write_text(text, encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
