"""How well our labels agree with people: precision, recall and F1 by label on two public sets of real reports.

    python benchmarks/labeller_agreement.py [FOLDER] [--errors] [--out docs/labels.md]

FOLDER holds `openi_cxr_reports.csv` (Indiana University radiographs with the NegBio gold labels, Peng et al. 2018,
arXiv:1712.05898; scheme nih14) and `ctrate_chest_ct_reports_18labels.csv` (CT-RATE, Hamamci et al. 2024,
arXiv:2403.17834; scheme ctrate18); default `../shared/data/reports` beside the repository. Both mark presence only, so
absent and uncertain (-1) count as negative. For each label: the rules, and the head learned on top of them, read by
five-fold cross-validation. Intervals are 95%, by bootstrap over reports.

Rules were written while reading errors of the tuned part only: every other report, and of the rest a fifth by a keyed
hash of its name. --errors prints, for each label, the sentences behind the errors of that part; they are never written
to a file, and the held part's are not printed at all.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.intervals import Interval
from evaluation.label_agreement import Agreement, label_agreement
from reports.findings import Finding, find
from reports.keyed_parts import share_of
from reports.labels import join_columns, label
from reports.learned_labels import cross_validated, read_report
from reports.lexicon import lexicon
from reports.schemes import CTRATE18, NIH14
from reports.sections import sentences

ROOT = Path(__file__).resolve().parent.parent
NEGBIO13 = NIH14[:-1]  # the gold standard has no hernia
TUNED_SHARE = 0.2  # of the odd rows; the even ones were all read when the first rules were written
SHOWN = 5  # sentences per label and kind of error


class Case(NamedTuple):
    """One report, what people say, and whether its errors were read while the rules were written."""

    key: str
    text: str
    gold: dict[str, bool]
    tuned: bool


class ReportSet(NamedTuple):
    """A public set: its file, scheme, labels, and how its rows are read."""

    file: str
    scheme: str
    names: tuple[str, ...]
    cases: Callable[[Path], list[Case]]


def openi_cases(path: Path) -> list[Case]:
    """The reports of Open-i that have gold labels; findings and impression are read."""
    rows = [row for row in _rows(path) if row["gold_Atelectasis"]]
    return [
        Case(
            row["report_id"],
            join_columns(row, ("findings", "impression")),
            {name: row[f"gold_{name}"] == "1" for name in NEGBIO13},
            is_tuned(number, row["report_id"]),
        )
        for number, row in enumerate(rows)
    ]


def ctrate_cases(path: Path) -> list[Case]:
    """The reports of CT-RATE with their 18 labels."""
    return [
        Case(
            row["AccessionNo"],
            row["report_text"],
            {name: row[name] == "1" for name in CTRATE18},
            is_tuned(number, row["AccessionNo"]),
        )
        for number, row in enumerate(_rows(path))
    ]


SETS = (
    ReportSet("openi_cxr_reports.csv", "nih14", NEGBIO13, openi_cases),
    ReportSet("ctrate_chest_ct_reports_18labels.csv", "ctrate18", CTRATE18, ctrate_cases),
)


def is_tuned(number: int, key: str) -> bool:
    """Whether the errors of a report may be read."""
    return number % 2 == 0 or share_of(key, "medvlm-labels") < TUNED_SHARE


def gold_table(cases: Sequence[Case], names: Sequence[str]) -> NDArray[np.bool_]:
    """(N, K): what people call present."""
    return np.array([[case.gold[name] for name in names] for case in cases], dtype=bool)


def rules_table(cases: Sequence[Case], scheme: str, names: Sequence[str]) -> NDArray[np.bool_]:
    """(N, K): what the rules call present."""
    read = [label(case.text, scheme) for case in cases]
    return np.array([[labels[name] == 1 for name in names] for labels in read], dtype=bool)


def head_table(cases: Sequence[Case], scheme: str, names: Sequence[str]) -> NDArray[np.bool_]:
    """(N, K): what a head learned on four fifths of the reports calls present in the other fifth."""
    reports = [read_report(case.text, scheme) for case in cases]
    return cross_validated(reports, gold_table(cases, names), names, scheme, [case.key for case in cases])


def page_of(one: ReportSet, cases: Sequence[Case], resamples: int) -> str:
    """The tables of one set, in Markdown."""
    gold = gold_table(cases, one.names)
    tables = {"rules": rules_table(cases, one.scheme, one.names), "head": head_table(cases, one.scheme, one.names)}
    tuned = np.array([case.tuned for case in cases])
    parts = {"all": np.ones(len(cases), bool), "tuned": tuned, "held": ~tuned}
    scores = {
        (name, part): label_agreement(read[rows], gold[rows], one.names, resamples=resamples)
        for name, read in tables.items()
        for part, rows in parts.items()
    }
    lines = [f"## {one.file}, scheme {one.scheme}", ""]
    lines += [
        f"{len(cases)} reports: {int(tuned.sum())} tuned on, {int((~tuned).sum())} held. The head is cross-validated.",
        "",
        "| F1 | " + " | ".join(f"{name}, {part}" for name, part in scores) + " |",
        "| --- |" + " --- |" * len(scores),
        "| micro | " + " | ".join(_said(score.micro) for score in scores.values()) + " |",
        "| macro | " + " | ".join(_said(score.macro) for score in scores.values()) + " |",
        "",
        *_label_lines(one, scores),
        "",
        "Errors of the rules by what led to them, all reports:",
        "",
        *_error_lines(one, cases, tables["rules"], gold),
        "",
    ]
    return "\n".join(lines)


def _label_lines(one: ReportSet, scores: dict[tuple[str, str], Agreement]) -> Iterator[str]:
    yield (
        "| label | people say | precision | recall | F1, rules | F1, rules, tuned | F1, rules, held | F1, head |"
        "\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for name in one.names:
        rules = {part: scores["rules", part].labels[name] for part in ("all", "tuned", "held")}
        cells = (
            name,
            str(rules["all"].hit + rules["all"].missed),
            _said(rules["all"].precision),
            _said(rules["all"].recall),
            *(_said(rules[part].f1) for part in ("all", "tuned", "held")),
            _said(scores["head", "all"].labels[name].f1),
        )
        yield "| " + " | ".join(cells) + " |"


def _error_lines(
    one: ReportSet, cases: Sequence[Case], read: NDArray[np.bool_], gold: NDArray[np.bool_]
) -> Iterator[str]:
    yield "| label | called present, and people do not | not called present, and people do |\n| --- | --- | --- |"
    for at, name in enumerate(one.names):
        kinds = [Counter[str](), Counter[str]()]
        for case in (cases[row] for row in np.flatnonzero(read[:, at] != gold[:, at]).tolist()):
            kinds[case.gold[name]][_why(relevant(case, one.scheme, name))] += 1
        cells = [", ".join(f"{count} {kind}" for kind, count in some.most_common()) or "–" for some in kinds]
        yield f"| {name} | {cells[0]} | {cells[1]} |"


def relevant(case: Case, scheme: str, name: str) -> list[Finding]:
    """What was read that bears on a label."""
    entries = lexicon().entries
    return [finding for finding in find(case.text) if entries[finding.name].label(scheme) == name]


def _why(findings: Sequence[Finding]) -> str:
    """How the report names a finding: as the strongest of its statements."""
    kinds = {finding.hedge or finding.status for finding in findings}
    order = ("present", "probable", "alternative", "possible", "absent")
    kind = next((kind for kind in order if kind in kinds), "")
    return {"": "not named", "present": "stated", "absent": "denied"}.get(kind, kind)


def print_errors(one: ReportSet, cases: Sequence[Case]) -> None:
    """The sentences behind the errors of the tuned part, to the terminal."""
    tuned = [case for case in cases if case.tuned]
    read, gold = rules_table(tuned, one.scheme, one.names), gold_table(tuned, one.names)
    for at, name in enumerate(one.names):
        for is_there, words in ((False, "called present, and people do not"), (True, "missed")):
            rows = np.flatnonzero((read[:, at] != gold[:, at]) & (gold[:, at] == is_there)).tolist()
            print(f"\n{one.file}, {name}: {len(rows)} {words}")
            for case in [tuned[row] for row in rows][:SHOWN]:
                _print_error(case, relevant(case, one.scheme, name))


def _print_error(case: Case, findings: Sequence[Finding]) -> None:
    said = sentences(case.text)
    print(f"  {case.key}" + ("" if findings else ": not named"))
    for finding in findings:
        sentence = "" if finding.sentence is None else said[finding.sentence]
        print(f"    {finding.hedge or finding.status}, {' / '.join(finding.words) or finding.by}: {sentence}")


def _said(interval: Interval) -> str:
    if not np.isfinite(interval.value):
        return "–"
    if not np.isfinite(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: list[str]) -> int:
    """Print or write the tables. Exit code 2 when the data is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "../shared/data/reports")
    parser.add_argument("--out", type=Path, help="Markdown file for the numbers")
    parser.add_argument("--errors", action="store_true", help="print sentences behind errors of the tuned part")
    parser.add_argument("--resamples", type=int, default=1000)
    call = parser.parse_args(arguments)
    pages = []
    for one in SETS:
        path = call.folder / one.file
        if not path.is_file():
            print(f"{path}: not found; give the folder that holds it", file=sys.stderr)
            return 2
        cases = one.cases(path)
        pages.append(page_of(one, cases, call.resamples))
        if call.errors:
            print_errors(one, cases)
    head = (
        "# How labels agree with people\n\n"
        "Written by `python benchmarks/labeller_agreement.py --out docs/labels.md`; do not edit.\n\n"
    )
    said = " ".join((__doc__ or "").partition("FOLDER holds")[2].partition("--errors prints")[0].split())
    text = f"{head}The folder holds {said}\n\n" + "\n".join(pages)
    if call.out is None:
        print(text)
    else:
        call.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
