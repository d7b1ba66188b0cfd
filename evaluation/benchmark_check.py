"""Is this folder the benchmark, whole, with its official split? Counts, checksums, leaks and missing files.

The checksum of a split is the SHA-256 of its sorted lines "item<TAB>split": it changes when an item is added, lost,
renamed or moved to another split. A second one, of the content, also covers labels, boxes, texts and answers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.benchmark_item import BenchmarkError, Item, Reading
from evaluation.benchmark_regions import MaskFile
from evaluation.benchmark_tables import listed

LOCK = "benchmark.lock.json"
_FORMAT = 1
_SUMS = "SHA256SUMS.txt"  # PhysioNet puts one beside every data set


def split_checksum(rows: Iterable[tuple[str, str]]) -> str:
    """SHA-256 (hex) over the sorted list of (item, split)."""
    lines = sorted(f"{item}\t{split}" for item, split in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def content_checksum(items: Iterable[Item]) -> str:
    """SHA-256 (hex) over all that the tables say of the items, whatever their order.

    Images and mask files are no part of it, neither their pixels nor where they lie: the same benchmark may be unpacked
    in several ways, and read without its images.
    """
    digest = hashlib.sha256()
    for item in sorted(items, key=lambda one: one.id):
        said = {name: value for name, value in asdict(item).items() if name not in ("images", "masks")}
        said["masks"] = [asdict(mask) for mask in item.masks if not isinstance(mask, MaskFile)]
        digest.update(json.dumps(said, sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()


def refuse_duplicates(reading: Reading) -> None:
    """Raises: BenchmarkError if an item stands twice, in one split or in two."""
    counts = Counter(item for item, _, _ in reading.roster)
    twice = [item for item, count in counts.items() if count > 1]
    if twice:
        raise BenchmarkError(
            f"{reading.folder}: {len(twice)} items stand more than once: {listed(twice)}. Expected each once, in one"
            " split; an evaluation would count them twice"
        )


def refuse_shared_patients(reading: Reading, allowed: str) -> list[str]:
    """Patients (or images) that stand in two splits: refused, or noted where the official split has `allowed` them.

    Raises: BenchmarkError with the number of patients and up to 20 of their items, for no patient is named.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for _, split, patient in reading.roster:
        if patient:
            splits[patient].add(split)
    shared = {patient for patient, found in splits.items() if len(found) > 1}
    if not shared:
        return []
    among = sorted({split for patient in shared for split in splits[patient]})
    if allowed:
        return [f"{len(shared)} of {len(splits)} {allowed} stand in more than one of the splits {listed(among)}"]
    items = [item for item, _, patient in reading.roster if patient in shared]
    raise BenchmarkError(
        f"{reading.folder}: {len(shared)} of {len(splits)} patients stand in more than one of the splits"
        f" {listed(among)}, with {len(items)} items: {listed(items)}. In the official split nobody does; get the"
        " original tables"
    )


def refuse_missing_images(reading: Reading) -> None:
    """Raises: BenchmarkError with the number of image and mask files that are not there, 20 of them by name."""
    paths = {image.partition("#")[0] for item in reading.items for image in item.images}
    paths |= {mask.path for item in reading.items for mask in item.masks if isinstance(mask, MaskFile)}
    missing = sorted(path for path in paths if not os.path.exists(reading.folder / path))
    if missing:
        raise BenchmarkError(
            f"{reading.folder}: {len(missing)} of {len(paths)} files are missing: {listed(missing)}. Complete the"
            " download; images=False (--no-images) reads the tables alone"
        )


def refuse_wrong_counts(reading: Reading, official: Mapping[str, Any]) -> list[str]:
    """Compare the roster with the official counts of its version; says what agreed.

    Raises: BenchmarkError naming every split whose number of items or patients is another.
    """
    agreed, wrong = [], []
    for split, expected in official.items():
        rows = [row for row in reading.roster if split in (row[1], "all")]
        if not rows:
            continue  # this split was not downloaded
        found = {"items": len(rows), "patients": len({patient for _, _, patient in rows if patient})}
        for what in ("items", "patients"):
            if what not in expected:
                continue
            if found[what] == expected[what]:
                agreed.append(f"{split}: {found[what]:,} {what}, as {expected['source']} says")
            else:
                wrong.append(f"{split} has {found[what]:,} {what}, expected {expected[what]:,} ({expected['source']})")
    if wrong:
        raise BenchmarkError(
            f"{reading.folder}: {'; '.join(wrong)}. Get the original tables; complete=False (--part) reads a part"
            " of the benchmark, whose numbers are then not those of the benchmark"
        )
    return agreed


def refuse_changed_files(reading: Reading, published: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Compare the tables that were read with published checksums: ours to ship, and the SHA256SUMS.txt of PhysioNet.

    Raises: BenchmarkError naming the file and both checksums.
    """
    agreed = []
    for path in reading.files:
        name = path.relative_to(reading.folder).as_posix()
        expected = {**_sums(reading.folder, name), **published.get(path.name, {})}
        for kind in ("sha256", "md5"):
            if kind not in expected:
                continue
            found = file_checksum(path, kind)
            source = expected.get("source", _SUMS)
            if found != expected[kind]:
                raise BenchmarkError(
                    f"{path}: {kind} {found}, expected {expected[kind]} ({source}): the file was changed, cut, or"
                    " is of another release. Download it again"
                )
            agreed.append(f"{name}: {kind} as {source} says")
    return agreed


def file_checksum(path: Path, kind: str = "sha256") -> str:
    """Checksum (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _digest(path: Path) -> str:
    return file_checksum(path) if path.is_file() else ""


def _sums(folder: Path, name: str) -> dict[str, str]:
    """The SHA-256 that the folder's SHA256SUMS.txt gives for a file, if any."""
    path = folder / _SUMS
    if not path.is_file():
        return {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, listed_name = line.strip().partition(" ")
        if listed_name.strip().removeprefix("*").removeprefix("./") == name:
            return {"sha256": digest.lower()}
    return {}


def lock_of(name: str, reading: Reading) -> dict[str, Any]:
    """What `medvlm benchmark lock` writes: counts and checksums of every split, and of every table that was read."""
    splits = {split: _locked_split(reading, split) for split in sorted({split for _, split, _ in reading.roster})}
    files = {path.relative_to(reading.folder).as_posix(): file_checksum(path) for path in reading.files}
    return {"format": _FORMAT, "benchmark": name, "version": reading.version, "splits": splits, "files": files}


def _locked_split(reading: Reading, split: str) -> dict[str, Any]:
    rows = [row for row in reading.roster if row[1] == split]
    return {
        "items": len(rows),
        "patients": len({patient for _, _, patient in rows if patient}),
        "checksum": split_checksum((item, at) for item, at, _ in rows),
        "content": content_checksum(item for item in reading.items if item.split == split),
    }


def refuse_unlike_lock(name: str, reading: Reading, path: Path, split: str) -> list[str]:
    """Compare what was read with a lock. Raises: BenchmarkError that says which split differs, and by how much."""
    lock = read_lock(path)
    if lock["benchmark"] != name:
        raise BenchmarkError(f"{path}: locks the benchmark {lock['benchmark']!r}, and {name!r} was asked for")
    if reading.version != lock["version"]:
        raise BenchmarkError(f"{path}: locks version {lock['version']!r}, found {reading.version!r}")
    agreed = []
    for one in sorted(set(lock["splits"]) if split == "all" else {split} & set(lock["splits"])):
        expected, here = lock["splits"][one], _locked_split(reading, one)
        if here["checksum"] != expected["checksum"]:
            raise BenchmarkError(
                f"{reading.folder}: the split {one!r} is not the one that {path.name} locks: {here['items']} items with"
                f" checksum {here['checksum'][:16]}, expected {expected['items']} with {expected['checksum'][:16]}."
                " Restore the tables, or lock the folder again if the change is meant"
            )
        if here["content"] != expected["content"]:
            changed = [file for file, digest in lock["files"].items() if _digest(reading.folder / file) != digest]
            raise BenchmarkError(
                f"{reading.folder}: the split {one!r} has the items that {path.name} locks, but they say something"
                f" else (labels, boxes, texts or answers). Changed files: {listed(changed) or 'none of the tables'}."
                " Restore them, or lock the folder again if the change is meant"
            )
        agreed.append(f"{one}: {here['items']:,} items with the locked checksum {here['checksum'][:16]}")
    if not agreed:
        raise BenchmarkError(f"{path}: does not lock the split {split!r}, only {listed(lock['splits'])}; lock again")
    return agreed


def read_lock(path: Path) -> dict[str, Any]:
    """A lock file. Raises: BenchmarkError if it is none."""
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
        if lock["format"] == _FORMAT and all(
            {"items", "checksum", "content"} <= set(s) for s in lock["splits"].values()
        ):
            return {
                "benchmark": lock["benchmark"],
                "version": lock["version"],
                "splits": lock["splits"],
                "files": lock["files"],
            }
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise BenchmarkError(f"{path}: no lock of a benchmark; remove it and run `medvlm benchmark lock` again")
