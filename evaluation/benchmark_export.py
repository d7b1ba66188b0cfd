"""A benchmark as one plain table of references, which predictions of any model can be compared with.

One row per item: `study` (the item), `patient` (a number: the same person, nobody's name), `split`, `image`, then what
the benchmark holds of `report`, `question`, `answer` and `options`, then one column per finding: 1 present, 0 absent,
-1 uncertain, empty where it was not mentioned.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from evaluation.benchmark import Benchmark
from evaluation.benchmark_item import NOT_MENTIONED, BenchmarkError, Item

_TEXTS = ("report", "question", "answer", "options")


def write_references(benchmark: Benchmark, out: Path, unlisted: float = NOT_MENTIONED) -> list[str]:
    """Write the items as .csv or .jsonl; returns the names of the columns.

    `unlisted` is the value of a finding that an item does not list, see `Benchmark.label_matrix`.
    Raises: BenchmarkError for another ending, or a finding that has the name of another column.
    """
    if out.suffix not in (".csv", ".jsonl"):
        raise BenchmarkError(f"{out}: cannot write {out.suffix!r}; expected the name to end in .csv or .jsonl")
    findings, labels = benchmark.label_matrix(unlisted=unlisted)
    texts = [name for name in _TEXTS if any(_text(item, name) for item in benchmark.items)]
    header = ["study", "patient", "split", "image", *texts, *findings]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise BenchmarkError(f"{out}: a finding is called {twice[0]!r}, like another column")
    numbers: dict[str, int] = {}
    rows = [
        [
            item.id,
            numbers.setdefault(patient, len(numbers)),
            item.split,
            ";".join(item.images),
            *(_text(item, name) for name in texts),
            *(None if math.isnan(value) else int(value) for value in said),
        ]
        for item, patient, said in zip(benchmark.items, benchmark.patients, labels, strict=True)
    ]
    _write(out, header, rows)
    return header


def _text(item: Item, name: str) -> str:
    if name == "report":
        return item.text
    if name == "options":
        return json.dumps(dict(item.options), ensure_ascii=False) if item.options else ""
    return item.question if name == "question" else item.answer


def _write(out: Path, header: list[str], rows: list[list[Any]]) -> None:
    with out.open("w", encoding="utf-8", newline="") as file:
        if out.suffix == ".jsonl":
            file.writelines(f"{json.dumps(dict(zip(header, row, strict=True)), ensure_ascii=False)}\n" for row in rows)
        else:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
