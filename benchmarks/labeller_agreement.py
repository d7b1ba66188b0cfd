"""How well `reports.labels` agrees with people: F1 per finding on two public sets of real reports.

    python benchmarks/labeller_agreement.py [FOLDER]

FOLDER holds `openi_cxr_reports.csv` (Indiana University radiographs with the NegBio gold labels, Peng et al. 2018,
arXiv:1712.05898) and `ctrate_chest_ct_reports_18labels.csv` (CT-RATE, Hamamci et al. 2024, arXiv:2403.17834); default
`../shared/data/reports` beside the repository. Both sets mark presence only, so uncertain and absent both count as
negative in the first table; the second counts uncertain as positive.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from reports.labels import CTRATE18, Label, join_columns, label

OPENI = {
    "Atelectasis": ("atelectasis",),
    "Cardiomegaly": ("cardiomegaly",),
    "Effusion": ("pleural effusion",),
    "Infiltration": ("infiltrate",),
    "Mass": ("lung mass",),
    "Nodule": ("lung nodule",),
    "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax",),
    "Consolidation": ("consolidation",),
    "Edema": ("pulmonary edema",),
    "Emphysema": ("emphysema",),
    "Fibrosis": ("pulmonary fibrosis",),
    "Pleural_Thickening": ("pleural thickening",),
}


class Counts(NamedTuple):
    """True positives, false positives, false negatives of one finding."""

    hit: int = 0
    extra: int = 0
    missed: int = 0

    @property
    def f1(self) -> float:
        """2 tp / (2 tp + fp + fn); NaN without any positive."""
        total = 2 * self.hit + self.extra + self.missed
        return 2 * self.hit / total if total else float("nan")

    def plus(self, read: bool, gold: bool) -> Counts:
        """With one more report counted."""
        return Counts(self.hit + (read and gold), self.extra + (read and not gold), self.missed + (gold and not read))


class Case(NamedTuple):
    """One report: key, what was read, what people say."""

    key: str
    read: Mapping[str, Label]
    gold: Mapping[str, bool]


def openi_cases(path: Path) -> list[Case]:
    """The reports of Open-i that have gold labels; findings and impression are read."""
    cases = []
    for row in _rows(path):
        if row["gold_Atelectasis"]:
            labels = label(join_columns(row, ("findings", "impression")), "open")
            read = {name: max((labels[part] for part in parts), key=_strength) for name, parts in OPENI.items()}
            cases.append(Case(row["report_id"], read, {name: row[f"gold_{name}"] == "1" for name in OPENI}))
    return cases


def ctrate_cases(path: Path) -> list[Case]:
    """The reports of CT-RATE with their 18 labels."""
    return [
        Case(row["AccessionNo"], label(row["report_text"], "ctrate18"), {name: row[name] == "1" for name in CTRATE18})
        for row in _rows(path)
    ]


def agreement(cases: list[Case], uncertain_is_positive: bool = False) -> dict[str, Counts]:
    """Counts per finding."""
    positive = (1, -1) if uncertain_is_positive else (1,)
    table = {name: Counts() for name in cases[0].gold}
    for case in cases:
        for name, gold in case.gold.items():
            table[name] = table[name].plus(case.read[name] in positive, gold)
    return table


def micro_f1(table: Mapping[str, Counts]) -> float:
    """F1 over all decisions pooled."""
    return Counts(*(sum(column) for column in zip(*table.values(), strict=True))).f1


def macro_f1(table: Mapping[str, Counts]) -> float:
    """Mean F1 over findings that have a positive."""
    scores = [counts.f1 for counts in table.values() if counts.f1 == counts.f1]
    return sum(scores) / len(scores)


def _strength(value: Label) -> int:
    return {None: 0, 0: 1, -1: 2, 1: 3}[value]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: list[str]) -> int:
    """Print both tables. Exit code 2 when the data is not there."""
    folder = Path(arguments[0]) if arguments else Path(__file__).parents[1] / "../shared/data/reports"
    sets = {"openi_cxr_reports.csv": openi_cases, "ctrate_chest_ct_reports_18labels.csv": ctrate_cases}
    for name, read in sets.items():
        if not (folder / name).is_file():
            print(f"{folder / name}: not found; give the folder that holds it", file=sys.stderr)
            return 2
        cases = read(folder / name)
        for unsure in (False, True):
            table = agreement(cases, unsure)
            print(f"\n{name}, n = {len(cases)} reports, uncertain counts as {'positive' if unsure else 'negative'}")
            print(f"{'finding':34} {'F1':>6} {'tp':>5} {'fp':>5} {'fn':>5}")
            for finding, counts in table.items():
                print(f"{finding:34} {counts.f1:6.3f} {counts.hit:5} {counts.extra:5} {counts.missed:5}")
            print(f"{'micro F1':34} {micro_f1(table):6.3f}\n{'macro F1':34} {macro_f1(table):6.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
