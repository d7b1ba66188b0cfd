"""Public benchmarks from a folder on disk, in their own file formats, with their official split.

    benchmark = open_benchmark("nih", "data/nih", split="test")
    names, labels = benchmark.label_matrix()

What is opened is checked first: the tables have the columns of their release, no item stands twice, nobody is in two
splits, the counts are the official ones, published checksums agree, and every image file is there. Whatever fails is
refused with what was found and what was expected. Nothing is downloaded.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import benchmark_check as check
from evaluation.benchmark_item import NOT_MENTIONED, BenchmarkError, Item, Read, Reading
from evaluation.benchmark_tables import listed

_CARDS = Path(__file__).with_name("benchmarks.json")


@dataclass(frozen=True)
class Card:
    """What is known of a benchmark before it is on disk; from `benchmarks.json`.

    `official` holds counts by version, then split ("*" is every version, "all" is all splits together), each with the
    source of the number. `shared` is empty where no patient may be in two splits, else it says what the official
    split may share. `signs` are files by which a folder is recognised; `checksums` are published ones, by file name.
    """

    name: str
    title: str
    licence: str
    source: str
    reads: str
    read: str
    signs: tuple[str, ...]
    official: dict[str, dict[str, dict[str, Any]]]
    shared: str
    notes: tuple[str, ...]
    checksums: dict[str, dict[str, str]]

    def counts(self, version: str) -> dict[str, dict[str, Any]]:
        """Official counts of a version, by split."""
        return {**self.official.get("*", {}), **self.official.get(version, {})}


@dataclass(frozen=True)
class Benchmark:
    """A benchmark, or one split of it, that passed the checks.

    `checksum` is that of the (item, split) list of what is here. `verified` says what agreed with what; `warnings` say
    what a reader of the numbers must know. With `complete` False it is a part, and its numbers are not comparable.
    """

    name: str
    title: str
    version: str
    licence: str
    split: str
    folder: Path
    items: tuple[Item, ...]
    checksum: str
    complete: bool
    verified: tuple[str, ...]
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def patients(self) -> list[str]:
        """(R,) the patient of each item, for a cluster bootstrap; an item without one is its own patient."""
        return [item.patient or f"item {item.id}" for item in self.items]

    def label_matrix(
        self, names: Sequence[str] | None = None, unlisted: float = NOT_MENTIONED
    ) -> tuple[list[str], NDArray[np.float64]]:
        """Names (K,) and labels (R, K): 1 present, 0 absent, -1 uncertain, nan not mentioned.

        `unlisted` is the value of a finding that an item does not list: 0 for benchmarks that list only what is there.
        """
        columns = sorted({name for item in self.items for name in item.labels}) if names is None else list(names)
        rows = [[item.labels.get(name, unlisted) for name in columns] for item in self.items]
        return columns, np.asarray(rows, dtype=np.float64).reshape(len(self.items), len(columns))

    def image_bytes(self, image: str) -> bytes:
        """The bytes of an image file by its name in an item, also of one stored inside a table ("table.tsv#7").

        Raises: BenchmarkError if it is not there.
        """
        name, mark, row = image.partition("#")
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise BenchmarkError(f"{self.folder}: the image {image!r} lies outside of the folder")
        if not mark:
            return path.read_bytes()
        from evaluation.benchmark_embedded import embedded_image

        return embedded_image(path, row)


def open_benchmark(
    name: str,
    folder: str | Path,
    split: str = "all",
    *,
    complete: bool = True,
    images: bool = True,
    lock: Path | None = None,
) -> Benchmark:
    """Read and check a benchmark, one of `cards()`.

    Args:
        name: Such as "nih"; `medvlm benchmark list` prints all.
        folder: The folder as it was downloaded and unpacked.
        split: One of its official splits, or "all".
        complete: Demand the official counts. Without it a part can be read, which then claims nothing.
        images: Demand that every image and mask file of the split is there.
        lock: A lock written before; `benchmark.lock.json` in the folder when it is there.

    Raises: BenchmarkError that says what was found and what was expected; KeyError for an unknown name.
    """
    card = cards_by_name().get(name)
    if card is None:
        raise KeyError(f"no benchmark {name!r}; known: {listed(cards_by_name(), 40)}")
    reading = read_folder(card, Path(folder), split)
    check.refuse_duplicates(reading)
    warnings = [*card.notes, *reading.notes, *check.refuse_shared_patients(reading, card.shared)]
    _refuse_unknown_split(reading, split)
    verified = check.refuse_changed_files(reading, card.checksums)
    if complete:
        verified += check.refuse_wrong_counts(reading, card.counts(reading.version))
    else:
        warnings.append("a part of the benchmark: its numbers are not comparable with published ones")
    lock_path = lock or Path(folder) / check.LOCK
    if lock is not None or lock_path.is_file():
        verified += check.refuse_unlike_lock(name, reading, lock_path, split)
    if images:
        check.refuse_missing_images(reading)
    if complete and not verified:
        warnings.append("no official count or checksum to compare with: lock the folder to notice later changes")
    checksum = check.split_checksum((item.id, item.split) for item in reading.items)
    return Benchmark(
        name,
        card.title,
        reading.version,
        card.licence,
        split,
        Path(folder),
        tuple(reading.items),
        checksum,
        complete,
        tuple(verified),
        tuple(warnings),
    )


def write_lock(name: str, folder: Path, out: Path | None = None, *, complete: bool = True) -> dict[str, Any]:
    """Check a folder and write down the checksums of all its splits; later readings refuse anything else.

    Returns what was written, to `out` or `benchmark.lock.json` in the folder. Raises: BenchmarkError.
    """
    target = out or folder / check.LOCK
    before = target.read_bytes() if target.is_file() else None
    card = cards_by_name()[name]
    reading = read_folder(card, folder, "all")
    check.refuse_duplicates(reading)
    check.refuse_shared_patients(reading, card.shared)
    check.refuse_changed_files(reading, card.checksums)
    if complete:
        check.refuse_wrong_counts(reading, card.counts(reading.version))
    lock = check.lock_of(name, reading)
    text = json.dumps(lock, indent=2, ensure_ascii=False) + "\n"
    if text.encode() != before:
        target.write_text(text, encoding="utf-8")
    return lock


def read_folder(card: Card, folder: Path, split: str) -> Reading:
    """What the benchmark's reader finds, unchecked. Raises: BenchmarkError if the folder or its tables are missing."""
    if not folder.is_dir():
        raise BenchmarkError(f"{folder}: no such folder; expected {card.title} as it was downloaded ({card.reads})")
    reading = Reading(lambda one: split in (one, "all"), folder)
    read: Read = pkgutil.resolve_name(f"evaluation.{card.read}")
    try:
        read(reading)
    except BenchmarkError:
        raise
    except ValueError as error:  # a box without area, run lengths that leave the image
        raise BenchmarkError(f"{folder}: {error}") from None
    if not reading.roster:
        raise BenchmarkError(f"{folder}: the tables of {card.title} are there and hold no item")
    return reading


def recognise(folder: Path) -> str:
    """The one benchmark whose tables lie in a folder. Raises: BenchmarkError for none or several."""
    found = [card.name for card in cards() if any(next(folder.glob(sign), None) for sign in card.signs)]
    if len(found) != 1:
        raise BenchmarkError(
            f"{folder}: looks like {'none of the benchmarks' if not found else ' and '.join(found)}; say which by name"
        )
    return found[0]


@cache
def cards() -> tuple[Card, ...]:
    """All benchmarks that can be read, by name."""
    data = json.loads(_CARDS.read_text(encoding="utf-8"))
    return tuple(
        Card(
            name=name,
            title=entry["title"],
            licence=entry["licence"],
            source=entry["source"],
            reads=entry["reads"],
            read=entry["read"],
            signs=tuple(entry["signs"]),
            official=entry.get("official", {}),
            shared=entry.get("shared", ""),
            notes=tuple(entry.get("notes", ())),
            checksums=entry.get("checksums", {}),
        )
        for name, entry in sorted(data.items())
    )


def cards_by_name() -> dict[str, Card]:
    """All benchmarks that can be read."""
    return {card.name: card for card in cards()}


def _refuse_unknown_split(reading: Reading, split: str) -> None:
    there = sorted({one for _, one, _ in reading.roster})
    if split != "all" and split not in there:
        raise BenchmarkError(
            f"{reading.folder}: no split {split!r}; the tables that are here hold {listed(there)}."
            " Ask for one of these, or add the tables of the other"
        )
