"""A seeded fuzzer: damaged files are read whole, each must end as read, repaired or refused with a reason.

    python -m tests.fuzz_dicom --count 100000 --seed 1 [--files FOLDER]   damage small files, and real ones of a folder
    python -m tests.fuzz_dicom --seed 1 --only 4711 [--keep FILE]         one case again, in this process
    python -m tests.fuzz_dicom --table FOLDER                             how each file of a folder ends, undamaged

A case is made from its number alone, so a failure is repeated by `--seed` and `--only`. Failures are exceptions that
are no VolumeError, deaths of the reader, more than 5 s, and more than 1 GiB.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

sys.path.insert(0, os.path.dirname(__file__))  # `python -m` looks in the folder above

from fuzz_mutations import mutated
from fuzz_seeds import SHAPE, real_files, seeds

from volumes.archive import read_location
from volumes.instance import InstanceHeader, Refusal
from volumes.isolation import Workers
from volumes.study import Series, read_studies
from volumes.volume import Film, Volume, VolumeError

SECONDS, MEMORY_BYTES = 5.0, 2**30
LARGEST_REAL = 40_000  # bytes; damage in large files mostly meets pixels that nobody checks
PRELOAD = tuple(
    f"volumes.{name}"
    for name in (
        "header",
        "dicom",
        "multiframe",
        "mosaic",
        "ultrasound",
        "radiograph",
        "nifti",
        "nrrd",
        "metaimage",
        "masks",
    )
)
_FAILURES = ("reader-died", "reader-timeout", "reader-memory", "reader-error")


@dataclass(frozen=True)
class Case:
    """One damaged file: the number decides which file, and what is done to it."""

    seed: int
    number: int
    folder: str = ""  # with real files; empty for none
    scratch: str = ""  # where the file is written, one per process

    def make(self) -> tuple[str, bytes, str]:
        """(file name, content, what was done)."""
        stock = _stock(self.folder)
        chance = random.Random(f"{self.seed}/{self.number}")
        name = chance.choice(list(stock))
        data, told = mutated(stock[name], list(stock.values()), chance)
        return name, data, f"{name}: {told}"


@dataclass
class Summary:
    """How many cases ended how, and those that failed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    cases: int = 0
    seconds: float = 0.0

    def text(self) -> str:
        """A table for people."""
        lines = [f"{count:8d}  {outcome}" for outcome, count in self.outcomes.most_common()]
        speed = f"{self.cases} cases in {self.seconds:.0f} s, {len(self.failures)} failed"
        more = [f"and {len(self.failures) - 20} more"] if len(self.failures) > 20 else []
        return "\n".join([*lines, speed, *self.failures[:20], *more])


@lru_cache(maxsize=2)
def _stock(folder: str) -> dict[str, bytes]:
    return seeds() | (real_files(Path(folder), LARGEST_REAL) if folder else {})


def run_case(case: Case) -> tuple[str, ...]:
    """Make one case and read it whole."""
    name, data, _ = case.make()
    place = Path(case.scratch) / str(os.getpid())
    place.mkdir(exist_ok=True)
    path = place / name
    path.write_bytes(data)
    try:
        return read_whole(path)
    finally:
        path.unlink()


def read_whole(path: Path) -> tuple[str, ...]:
    """Header with digest, study, pixels and masks of a file: how each image and object in it ended."""
    header = read_location(str(path))
    _check_header(header, read_location(str(path), digests=False))
    try:
        studies = read_studies(path)
    except VolumeError as error:
        return (f"refused: {error.reason}",)
    ends: list[str] = []
    for study in studies:
        repairs = any(refusal.kind == "repair" for refusal in study.refusals)
        ends += [_image(series, repairs) for series in study.series]
        ends += [_object(one) for one in study.objects]
        ends += [f"refused: {refusal.reason}" for refusal in study.refusals if refusal.kind == "refusal"]
    assert ends, "a study that holds nothing"
    if len(ends) == 1 and isinstance(header, InstanceHeader):
        assert header.sha256, "a file that was read has no digest"
    return tuple(ends)


def _check_header(whole: InstanceHeader | Refusal, quick: InstanceHeader | Refusal) -> None:
    """A file says the same whether it is read to the end or to the pixels."""
    whole, quick = (
        replace(h, sha256="", pixel_sha256="") if isinstance(h, InstanceHeader) else h for h in (whole, quick)
    )
    assert whole == quick, "a header that depends on how much of the file was read"


def _image(series: Series, repaired: bool) -> str:
    try:
        found = series.read()
    except VolumeError as error:
        if error.reason != "multi-frame":
            return f"refused: {error.reason}"
        try:
            found = series.read(frame=0)
        except VolumeError as one:
            return f"refused: {one.reason}"
    _check(found)
    return "repaired" if repaired or found.notes else "read"


def _check(found: Volume | Film) -> None:
    """What every image promises, however damaged its file was."""
    if isinstance(found, Film):
        assert found.pixels.ndim == 2, "a film that is no plane"
        assert found.pixels.isfinite().all(), "a film with values that are no numbers"
        return
    assert found.voxels.ndim == 3, "a volume that is no volume"
    affine = found.affine.numpy()
    assert np.isfinite(affine).all(), "a place that is no number"
    assert abs(np.linalg.det(affine[:3, :3])) > 0, "voxels without a size"


def _object(header: InstanceHeader) -> str:
    """Masks and contours are put on an image; other objects have no pixels to read."""
    if header.modality not in ("SEG", "RTSTRUCT"):
        return "read: object"
    from volumes.masks import read_masks

    image = _grid()
    try:
        masks = read_masks([header], image, drawn_on="anything")
    except VolumeError as error:
        return f"refused: {error.reason}"
    assert all(mask.voxels.shape == image.voxels.shape for mask in masks.values()), "a mask off the grid"
    return "read: masks"


@lru_cache(maxsize=1)
def _grid() -> Volume:
    import torch
    from fuzz_seeds import UID

    from volumes.volume import Source

    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.tensor([[0, -0.48, 0.4], [0, 0.64, 0.3], [2.5, 0, 0]], dtype=torch.float64)
    affine[:3, 3] = torch.tensor([-31.5, 17.25, 40.0])
    source = Source(f"{UID}.8", f"{UID}.9", (f"{UID}.1.2",), "CT", path="")
    return Volume(torch.zeros(3, *SHAPE), affine, "HU", source)


def fuzz(count: int, seed: int, folder: str = "", workers: int = 2, first: int = 0) -> Summary:
    """Run cases in workers that may die."""
    summary, began = Summary(), time.monotonic()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    scratch = tempfile.mkdtemp(prefix="fuzz-", dir=memory)
    try:
        pool: Workers[Case, tuple[str, ...]] = Workers(run_case, workers, SECONDS, MEMORY_BYTES, preload=PRELOAD)
        with pool:
            for case, found in pool.map(Case(seed, n, folder, scratch) for n in range(first, first + count)):
                summary.cases += 1
                if not isinstance(found, VolumeError):
                    summary.outcomes.update(set(found))
                    continue
                summary.outcomes[f"FAILED: {found.reason}"] += 1
                done = case.make()[2]
                summary.failures.append(f"--seed {seed} --only {case.number}: {found} [{done}]")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    summary.seconds = time.monotonic() - began
    return summary


@dataclass(frozen=True)
class Measured:
    """How one undamaged file ended, and what it took."""

    ends: tuple[str, ...]
    seconds: float
    peak_mib: float  # above what the reader held before


def measure(path: str) -> Measured:
    """Read one file whole, with time and memory. Linux."""
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # the highest mark of memory begins anew
    held, began = _memory_kib("VmRSS"), time.monotonic()
    ends = read_whole(Path(path))
    return Measured(ends, time.monotonic() - began, max(0, _memory_kib("VmHWM") - held) / 1024)


def _memory_kib(name: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


def table(folder: Path) -> Iterator[tuple[str, Measured | VolumeError]]:
    """(file, how it ended) for every file below a folder, each read by a worker that may die."""
    files = [str(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    pool: Workers[str, Measured] = Workers(measure, 2, SECONDS, MEMORY_BYTES, chunk=1, preload=PRELOAD)
    with pool:
        for path, found in pool.map(files):
            yield str(Path(path).relative_to(folder)), found


def _print_table(folder: Path) -> int:
    failed = 0
    for name, found in table(folder):
        if isinstance(found, VolumeError):
            failed += found.reason in _FAILURES
            print(f"{name:70s} FAILED {found.reason}: {found}")
        else:
            ends = ", ".join(f"{n} x {end}" if n > 1 else end for end, n in Counter(found.ends).items())
            print(f"{name:70s} {found.seconds:5.2f} s {found.peak_mib:6.0f} MiB  {ends}")
    return 1 if failed else 0


def main(words: list[str] | None = None) -> int:
    """The command line; 1 when a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_dicom", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--files", default="", help="a folder with real files to damage as well")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", type=int, help="run one case in this process")
    parser.add_argument("--keep", type=Path, help="with --only: write the damaged file here instead of reading it")
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="read every file of a folder undamaged")
    asked = parser.parse_args(words)
    if asked.table:
        return _print_table(asked.table)
    if asked.only is None:
        summary = fuzz(asked.count, asked.seed, asked.files, asked.workers, asked.first)
        print(summary.text())
        return 1 if summary.failures else 0
    with tempfile.TemporaryDirectory() as scratch:
        case = Case(asked.seed, asked.only, asked.files, scratch)
        print(case.make()[2], flush=True)
        if asked.keep:
            asked.keep.write_bytes(case.make()[1])
        else:
            print(*run_case(case), sep="\n")
    return 0


if __name__ == "__main__":
    from fuzz_dicom import main as _main  # the workers import this module by name

    sys.exit(_main())
