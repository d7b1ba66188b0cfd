"""Prints how many preprocessed samples a second one core reads from shards, from the image cache, and from DICOM again.

Run with one thread: OMP_NUM_THREADS=1 python benchmarks/shards.py. Everything is simulated, in a temporary folder.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402 (threads are set first)

from medvlm import checkpoint as ckpt  # noqa: E402
from medvlm.data import Example, load_examples  # noqa: E402
from medvlm.image_cache import ImageCache  # noqa: E402
from medvlm.ingest import ingest  # noqa: E402
from medvlm.shard import shard  # noqa: E402
from medvlm.simulate import simulate  # noqa: E402
from medvlm.train import load_recipe  # noqa: E402
from volumes.catalog import Catalog  # noqa: E402
from volumes.prepare import prepare  # noqa: E402
from volumes.shard_loader import ShardLoader  # noqa: E402
from volumes.shard_reader import ShardSet  # noqa: E402
from volumes.shards import shard_name  # noqa: E402
from volumes.transforms import FilmContract, VolumeContract  # noqa: E402

SECONDS = 2.0  # each way of reading is repeated for about this long


def main(films: int = 120, volumes: int = 16) -> None:
    """One table for films and one for CT; best of the passes that fit into the time, page cache warm."""
    for recipe, modality, studies in (("film_contrastive", "xray", films), ("ct_contrastive", "ct", volumes)):
        with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
            folder = Path(name)
            simulate(folder / "sim", studies=studies, seed=5, modality=modality, workers=1)  # type: ignore[arg-type]
            ingest([folder / "sim" / "dicom"], [folder / "sim" / "messages"], folder / "h.db", workers=1)
            print(table(folder, recipe))


def table(folder: Path, recipe: str) -> str:
    """A Markdown table for the images of one recipe."""
    contract = ckpt.build(load_recipe(recipe)["contract"], FilmContract | VolumeContract, recipe)  # type: ignore[arg-type]
    with Catalog.open(folder / "h.db") as opened:
        examples = load_examples(opened, contract, None)
    out = folder / recipe
    begun = time.perf_counter()
    summary = shard(folder / "h.db", recipe, out, split="all", workers=0)
    wrote = len(examples) / (time.perf_counter() - begun)
    images, _, _ = ImageCache(folder / "cache", contract).load(examples, 1)
    shards = ShardSet.open(out, contract)
    urls = [str(out / shard_name(number)) for number in range(summary.shards)]
    order = np.random.default_rng(0).permutation(len(shards)).tolist()
    ways: dict[str, Callable[[], Iterator[Any]]] = {
        "DICOM read and preprocessed again": lambda: again(examples, contract.to_json()),
        "image cache (verified once when opened)": lambda: (np.array(images[row]) for row in order),
        "shards, image, any order, first time (sha256)": lambda: map(ShardSet.open(out, contract).image, order),
        "shards, image, any order, later (CRC-32)": lambda: map(shards.image, order),
        "shards, image and report, any order": lambda: (shards[number] for number in order),
        "shards through `ShardLoader`, batches of 8": lambda: (
            None for batch in ShardLoader(shards, 8) for _ in batch.meta
        ),
    }
    with contextlib.suppress(ImportError):
        import webdataset

        ways["the same shards through WebDataset (no check)"] = lambda: iter(
            webdataset.WebDataset(urls, shardshuffle=False).decode().to_tuple("npy", "json")
        )
    rates = {way: rate(read, len(shards)) for way, read in ways.items()}
    slowest = rates["DICOM read and preprocessed again"]
    size = images.nbytes / len(images)
    lines = [
        f"{recipe}: {len(shards)} samples of {size / 1e6:.2f} MB, {summary.bytes / len(shards) / size:.2f} times that"
        f" in shards; written at {wrote:.0f} samples/s",
        "",
        "| read from | samples/s | MB/s | times DICOM |",
        "|---|---|---|---|",
    ]
    lines += [f"| {way} | {r:.0f} | {r * size / 1e6:.0f} | {r / slowest:.0f} |" for way, r in rates.items()]
    return "\n".join(lines) + "\n"


def again(examples: list[Example], contract: str) -> Iterator[np.ndarray]:
    """Every image from its DICOM files."""
    return (prepare((example.where, contract)).image for example in examples)


def rate(read: Callable[[], Iterator[Any]], n: int) -> float:
    """Samples a second of the best pass."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while best == float("inf") or time.perf_counter() < end:
        begun = time.perf_counter()
        found = sum(1 for _ in read())
        best = min(best, time.perf_counter() - begun)
        if found != n:
            raise RuntimeError(f"read {found} of {n} samples")
    return n / best


if __name__ == "__main__":
    main()
