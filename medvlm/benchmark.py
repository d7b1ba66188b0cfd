"""`medvlm benchmark list`, `check`, `lock`, `export`: public benchmarks on disk, and whether they are whole."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from evaluation.benchmark import Benchmark, cards, open_benchmark, recognise, write_lock
from evaluation.benchmark_check import LOCK
from evaluation.benchmark_export import write_references


def list_benchmarks(as_json: bool) -> None:
    """Print what can be read: name, official splits, files, licence and notes."""
    rows = [
        {
            "name": card.name,
            "title": card.title,
            "licence": card.licence,
            "source": card.source,
            "files": card.reads,
            "official": card.official,
            "notes": list(card.notes),
        }
        for card in cards()
    ]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for card in cards():
        counts = {split: found for splits in card.official.values() for split, found in splits.items()}
        official = ", ".join(f"{split} {found['items']:,}" for split, found in counts.items())
        print(f"{card.name}: {card.title}\n  official counts: {official or 'none that can be cited'}")
        print(f"  reads: {card.reads}\n  licence: {card.licence}")
        for note in card.notes:
            print(f"  note: {note}")


def check_benchmark(
    name: str, folder: Path, split: str, part: bool, images: bool, lock: Path | None, as_json: bool
) -> None:
    """Read a benchmark with all checks and print what it holds."""
    benchmark = open_benchmark(name, folder, split, complete=not part, images=images, lock=lock)
    summary = _summary(benchmark)
    if as_json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    print(f"{benchmark.title}, split {split}: {len(benchmark):,} items, {summary['patients'] or 'unknown'} patients")
    for kind in ("splits", "labels", "boxes"):
        if summary[kind]:
            print(f"  {kind}: " + ", ".join(f"{key} {count:,}" for key, count in summary[kind].items()))
    print(f"  checksum of the items and their split: {benchmark.checksum}")
    for line in benchmark.verified:
        print(f"  agrees: {line}")
    for line in benchmark.warnings:
        print(f"  note: {line}")


def lock_benchmark(folder: Path, name: str, out: Path | None, part: bool, as_json: bool) -> None:
    """Write the checksums of what is in a folder."""
    found = write_lock(name or recognise(folder), folder, out, complete=not part)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(f"{out or folder / LOCK}: locks {found['benchmark']}")
    for split, row in found["splits"].items():
        print(f"  {split}: {row['items']:,} items, checksum {row['checksum']}")


def export_benchmark(name: str, folder: Path, split: str, part: bool, images: bool, out: Path) -> None:
    """Write the references of a benchmark as a plain table."""
    benchmark = open_benchmark(name, folder, split, complete=not part, images=images)
    columns = write_references(benchmark, out)
    print(f"{out}: {len(benchmark):,} rows with {', '.join(columns[:8])}{' and so on' if len(columns) > 8 else ''}")
    for line in benchmark.warnings:
        print(f"  note: {line}")


def _summary(benchmark: Benchmark) -> dict[str, Any]:
    """Counts of a benchmark; no item and no patient by name."""
    present = Counter(name for item in benchmark.items for name, value in item.labels.items() if value == 1)
    return {
        "name": benchmark.name,
        "version": benchmark.version,
        "split": benchmark.split,
        "items": len(benchmark),
        "patients": len({item.patient for item in benchmark.items if item.patient}),
        "splits": dict(Counter(item.split for item in benchmark.items)),
        "labels": dict(present.most_common(10)),
        "boxes": dict(Counter(box.label for item in benchmark.items for box in item.boxes).most_common(10)),
        "checksum": benchmark.checksum,
        "complete": benchmark.complete,
        "verified": list(benchmark.verified),
        "warnings": list(benchmark.warnings),
        "licence": benchmark.licence,
    }
