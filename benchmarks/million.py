"""Ingests a simulated archive of a million instances: time, memory, the second run, kills and Ray, printed as a table.

    python benchmarks/million.py SCRATCH [--instances 1000000] [--kills 20] [--ray] [--workers 2]

The archive is written to SCRATCH/archive once (about 4.5 GB on a disk with blocks of 4 KiB, for files of 1 KB) and used
again. Every file is a CT slice of 2 x 2 pixels with the tags of a real one; folders are PATIENT/STUDY/SERIES.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

REPOSITORY = Path(__file__).resolve().parent.parent
SLICES, SERIES, STUDIES = 100, 2, 2  # per series, per study, per patient
_ROOT = "1.2.826.0.1.3680043.10.1743"
_INGEST = """
import sys
from medvlm.ingest import ingest
from volumes.catalog import Catalog
archive, out, workers, engine = sys.argv[1:]
summary = ingest([archive], [], out, workers=int(workers), engine=engine)
print(summary.files_read, summary.files_unchanged, summary.images)
"""


@dataclass(frozen=True)
class Run:
    """One call of ingest in a process of its own."""

    seconds: float
    peak_bytes: int  # of all its processes together, each page counted once
    peak_one_bytes: int  # of its largest process
    out: str
    cpu_s: float = 0.0  # of all its processes together
    killed: bool = False


def template() -> bytearray:
    """One slice whose numbers have fixed places, marked by nines that occur nowhere else."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{_ROOT}.9999991.9999992.9999993.9999994"
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = f"{_ROOT}.9999991.9999992"
    dataset.SeriesInstanceUID = f"{_ROOT}.9999991.9999992.9999993"
    dataset.FrameOfReferenceUID = f"{_ROOT}.9999991.9999992.1"
    dataset.PatientID, dataset.PatientName, dataset.PatientSex = "P9999991", "Simulated^Nobody", "O"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.AccessionNumber = "19700101", "20240131", "A9999991-9999992"
    dataset.Modality, dataset.BodyPartExamined, dataset.SeriesDescription = "CT", "CHEST", "thorax"
    dataset.ImageType, dataset.ImageComments = ["ORIGINAL", "PRIMARY", "AXIAL"], "SIMULATED"
    dataset.InstanceNumber, dataset.SeriesNumber, dataset.AcquisitionNumber = "9999994", "1", "1"
    dataset.ImagePositionPatient = ["-31.5", "17.25", "9999994.5"]
    dataset.ImageOrientationPatient, dataset.PixelSpacing = ["0.8", "0.6", "0", "-0.6", "0.8", "0"], ["0.8", "0.5"]
    dataset.Rows = dataset.Columns = 2
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
    dataset.PixelData = b"99999999"
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return bytearray(stream.getvalue())


def series_files(patient: int, study: int, series: int, slices: int, made: bytearray) -> Iterator[bytes]:
    """The files of one series."""
    base = bytes(made)
    for mark, number in ((b"9999991", patient), (b"9999992", study), (b"9999993", series)):
        base = base.replace(mark, b"%d" % (1_000_000 + number))
    pixels = base.rindex(b"99999999")
    data = bytearray(base)
    places = [at for at in range(len(base)) if base.startswith(b"9999994", at)]
    for number in range(slices):
        shown = b"%d" % (1_000_000 + number)
        for at in places:
            data[at : at + 7] = shown
        data[pixels : pixels + 8] = (((patient * 64 + study) * 64 + series) * 4096 + number).to_bytes(8, "little")
        yield bytes(data)


def write_archive(folder: Path, instances: int) -> None:
    """Write the archive, unless a complete one of this size is there."""
    done = folder / f".complete-{instances}"
    if done.exists():
        return
    made, left, patient = template(), instances, 0
    while left > 0:
        for study in range(STUDIES):
            for series in range(SERIES):
                slices = min(SLICES, left)
                left -= slices
                if not slices:
                    continue
                place = folder / f"PAT{patient:06d}" / f"ST{study}" / f"SE{series}"
                place.mkdir(parents=True, exist_ok=True)
                for number, data in enumerate(series_files(patient, study, series, slices, made)):
                    with open(place / f"{number:05d}.dcm", "wb") as stream:
                        stream.write(data)
        patient += 1
    done.touch()


def run_ingest(
    archive: Path, out: Path, workers: int, engine: str = "local", kill_after: float | None = None, watch: bool = True
) -> Run:
    """Ingest in a process of its own; with `kill_after` seconds it and all its children are killed with signal 9."""
    start, spent = time.perf_counter(), _children_s()
    command = [sys.executable, "-c", _INGEST, str(archive), str(out), str(workers), engine]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TQDM_DISABLE": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    peaks = [0, 0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
    if watch:
        watcher.start()
    try:
        told, complaint = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)  # the process only: its workers must notice by themselves
        process.communicate()
        return Run(time.perf_counter() - start, *peaks, "", killed=True)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"ingest ended with {process.returncode}: {complaint[-2000:]}")
    return Run(seconds, *peaks, told, _children_s() - spent)


def _children_s() -> float:
    """Processor time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(session: int, peaks: list[int]) -> None:
    """Keep the largest sum, and the largest one, of the proportional set sizes of a session's processes (Linux)."""
    while Path(f"/proc/{session}").exists():
        sizes = [_pss(Path(entry.path)) for entry in os.scandir("/proc") if entry.name.isdigit()]
        family = [size for owner, size in sizes if owner == session]
        if family:
            peaks[0], peaks[1] = max(peaks[0], sum(family)), max(peaks[1], *family)
        time.sleep(1.0)


def _pss(process: Path) -> tuple[int, int]:
    """(session, bytes) of a process; zeros when it is gone."""
    try:
        session = os.getsid(int(process.name))
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    return session, sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def digest(catalog: Path) -> str:
    """What `Catalog.content_digest` says, asked in this process."""
    from volumes.catalog import Catalog

    with Catalog.open(catalog) as opened:
        return opened.content_digest()


def kill_and_resume(
    archive: Path, out: Path, workers: int, before_s: float, kills: int, after_s: float = 0.0, seed: int = 0
) -> Iterator[str]:
    """Kill an ingest at random moments, one after another; after each kill, what a resumed run makes of what is left.

    Each kill's remains are copied; the copy is resumed to its end and its digest yielded, then the ingest itself goes
    on to the next kill. Moments lie between `after_s` and `before_s` after each start. An ingest that ends before its
    moment is begun anew, and the next moments come sooner.
    """
    moments, hits, pace = random.Random(seed), 0, 1.0
    for _ in range(4 * kills):
        moment = pace * moments.uniform(after_s, before_s)
        if run_ingest(archive, out, workers, kill_after=moment, watch=False).killed:
            hits += 1
            yield resumed(archive, out, workers)
        else:
            pace *= 0.8
            forget(out)
        if hits == kills:
            return


def resumed(archive: Path, out: Path, workers: int) -> str:
    """The digest of a copy of a killed ingest's catalog after it was resumed to its end; the copy is removed."""
    copy = out.with_name(f"resumed-{out.name}")
    forget(copy)
    for part in out.parent.glob(f"{out.name}*"):
        shutil.copyfile(part, copy.with_name(copy.name + part.name[len(out.name) :]))
    run_ingest(archive, copy, workers, watch=False)
    found = digest(copy)
    forget(copy)
    return found


def forget(catalog: Path) -> None:
    """Remove a catalog and the files beside it."""
    for part in catalog.parent.glob(f"{catalog.name}*"):
        part.unlink()


def main() -> None:
    """Write, ingest, ingest again, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ray", action="store_true", help="also ingest on Ray with as many workers")
    given = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    archive, work = given.scratch / f"archive-{given.instances}", given.scratch / "catalogs"
    work.mkdir(parents=True, exist_ok=True)
    for old in work.iterdir():
        old.unlink()
    start = time.perf_counter()
    write_archive(archive, given.instances)
    print(f"archive of {given.instances} instances: {time.perf_counter() - start:.0f} s to write", flush=True)
    for line in measure(archive, work, given.workers, given.kills, given.ray):
        print(line, flush=True)


def measure(archive: Path, work: Path, workers: int, kills: int, ray: bool) -> Iterator[str]:
    """The lines of the table."""
    first = run_ingest(archive, work / "whole.db", workers)
    second = run_ingest(archive, work / "whole.db", workers)
    expected, size = digest(work / "whole.db"), (work / "whole.db").stat().st_size
    told = f"files read, unchanged, images: {first.out.strip()}"
    yield f"first run: {first.seconds:.1f} s, {first.cpu_s:.0f} s of processor time ({told})"
    yield f"memory: {first.peak_bytes >> 20} MiB all processes, {first.peak_one_bytes >> 20} MiB the largest"
    yield f"catalog: {size / 2**20:.0f} MiB, content {expected[:16]}"
    ratio = first.seconds / second.seconds
    told = f"{second.cpu_s:.1f} s of processor time ({second.out.strip()})"
    yield f"second run: {second.seconds:.2f} s, {ratio:.1f} times faster, {told}"
    if ray:
        other = run_ingest(archive, work / "ray.db", workers, "ray")
        same = digest(work / "ray.db") == expected
        yield f"Ray, {workers} workers: {other.seconds:.1f} s, catalog {'identical' if same else 'DIFFERENT'}"
    if kills:
        before_s, after_s = max(first.seconds / kills * 2, second.seconds * 1.5), second.seconds * 0.5
        found = []
        for found_now in kill_and_resume(archive, work / "killed.db", workers, before_s, kills, after_s):
            found.append(found_now)
            print(f"kill {len(found)}: {'identical' if found_now == expected else 'DIFFERENT'}", file=sys.stderr)
        same = sum(one == expected for one in found)
        yield f"killed {len(found)} times at random moments and resumed each time: catalog identical {same} times"
    yield json.dumps({"first_s": first.seconds, "second_s": second.seconds, "peak_bytes": first.peak_bytes})


if __name__ == "__main__":
    main()
