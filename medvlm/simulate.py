"""Makes a phantom hospital: DICOM files, report messages, and the truth that nobody but an examiner reads.

    OUT/dicom/<study_uid>/<series_uid>/<n>.dcm
    OUT/messages/hl7/<accession>.hl7, OUT/messages/fhir/<accession>.json      half of the reports each
    OUT/truth/studies.jsonl, OUT/truth/masks/<study_uid>.npz, OUT/truth/simulation.json

A study is written into a hidden folder and moved into place, its line of truth last: what has a line is complete.
A call that was killed is continued by the same call; the result does not depend on the number of workers.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from medvlm.simulated_study import Kind, Plan, visits_of, write_study
from medvlm.simulated_trouble import Trouble, plant_trouble

FORMAT = 1  # raise it when the same seed no longer gives the same files
Modality = Literal["xray", "ct", "both"]
_PARTS = ".parts"  # lines of truth of finished studies, until all are there
_UNFINISHED = ".unfinished"


class SimulationError(ValueError):
    """The folder or the numbers asked for do not allow a simulation."""


@dataclass(frozen=True)
class SimulationSummary:
    """What lies in the folder: `written` now, `kept` from earlier calls; `trouble` counts the planted faults."""

    studies: int
    patients: int
    written: int
    kept: int
    trouble: int

    def text(self) -> str:
        """One line for people."""
        planted = f", {self.trouble} planted faults" if self.trouble else ""
        return (
            f"{self.studies} simulated studies of {self.patients} simulated patients"
            f" ({self.written} written, {self.kept} already there){planted}"
        )

    def to_dict(self) -> dict[str, int]:
        """JSON-ready."""
        return asdict(self)


def simulate(
    out: Path | str,
    studies: int = 400,
    seed: int = 7,
    modality: Modality = "xray",
    workers: int | None = None,
    trouble: bool = False,
) -> SimulationSummary:
    """Write a phantom hospital into `out`, or continue one.

    Args:
        out: Folder; empty, missing, or begun by a call with the same seed and modality.
        studies: Number of studies. Patients who come twice have one study per visit, with "both" two per visit.
        seed: Same seed, same hospital, bit for bit.
        modality: "xray" (PA and lateral films), "ct", or "both": the same patients on films and on CT.
        workers: Processes; as many as there are cores when None.
        trouble: Also plant faults that ingest has to find (see `medvlm.simulated_trouble`).

    Raises: SimulationError when the folder holds something else or a larger hospital, or a number makes no sense.
    """
    out = Path(out)
    if studies < 1 or (workers is not None and workers < 1):
        raise SimulationError(f"asked for {studies} studies with {workers} workers; expected at least 1 of each")
    if modality not in ("xray", "ct", "both"):
        raise SimulationError(f"modality is {modality!r}; expected xray, ct or both")
    _claim(out, seed, modality)
    shutil.rmtree(out / _UNFINISHED, ignore_errors=True)
    finished = _finished(out)
    plans = tuple(plan_studies(seed, modality, studies))
    if len(finished) > studies:
        raise SimulationError(
            f"{out.name} holds {len(finished)} studies, more than the {studies} asked for: use a new folder"
        )
    left = [plan for plan in plans if plan.study_uid not in finished]
    for _ in tqdm(_work(out, left, workers), total=len(left), desc="simulate", unit="study", mininterval=1):
        pass
    lines = _write_truth(out, plans)
    faults: tuple[Trouble, ...] = plant_trouble(out, seed) if trouble else ()
    shutil.rmtree(out / _UNFINISHED, ignore_errors=True)
    patients = len({line["patient_key"] for line in lines})
    return SimulationSummary(len(lines), patients, len(left), len(plans) - len(left), len(faults))


def plan_studies(seed: int, modality: Modality, studies: int) -> Iterator[Plan]:
    """The studies in the order of patients and visits; a longer plan begins with the shorter one."""
    kinds: Sequence[Kind] = ("xray", "ct") if modality == "both" else (modality,)
    ordinal, index = 0, 0
    while True:
        visits = visits_of(seed, index)
        for visit in range(visits):
            for kind in kinds:
                if ordinal == studies:
                    return
                yield Plan(seed, ordinal, index, visit, visits, kind)
                ordinal += 1
        index += 1


def _claim(out: Path, seed: int, modality: str) -> None:
    """Note in the folder what it holds, or refuse a folder that holds something else."""
    note = out / "truth" / "simulation.json"
    mine = {"format": FORMAT, "seed": seed, "modality": modality, "simulated": True}
    if note.is_file():
        found = json.loads(note.read_text(encoding="utf-8"))
        if found != mine:
            raise SimulationError(f"{out.name} holds the simulation {found}; asked for {mine}: use a new folder")
        return
    if out.exists() and any(out.iterdir()):
        raise SimulationError(f"{out.name} is not empty and holds no simulation: use a new folder")
    for folder in ("dicom", "messages/hl7", "messages/fhir", "truth/masks", f"truth/{_PARTS}"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    _write_whole(note, json.dumps(mine, sort_keys=True) + "\n")


def _finished(out: Path) -> dict[str, dict[str, Any]]:
    """Lines of truth that are there, by study UID."""
    lines = [path.read_text(encoding="utf-8") for path in sorted((out / "truth" / _PARTS).glob("*.json"))]
    whole = out / "truth" / "studies.jsonl"
    if whole.is_file():
        lines += whole.read_text(encoding="utf-8").splitlines()
    return {line["study_uid"]: line for line in map(json.loads, lines)}


def _work(out: Path, plans: Sequence[Plan], workers: int | None) -> Iterator[str]:
    """Write the planned studies; yields each study UID when it is in place."""
    batches = [tuple(group) for _, group in groupby(plans, key=lambda plan: plan.index)]
    count = min(workers or os.cpu_count() or 1, len(batches))
    if count <= 1:
        before = torch.get_num_threads()
        with threadpool_limits(1):
            torch.set_num_threads(1)
            try:
                for batch in batches:
                    yield from _write_patient(out, batch)
            finally:
                torch.set_num_threads(before)
        return
    # spawned, not forked: the caller may hold threads of torch
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=one_thread) as pool:
        jobs = [pool.submit(_write_patient, out, batch) for batch in batches]
        try:
            for job in as_completed(jobs):
                yield from job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def one_thread() -> None:
    """Keep this process to one thread: sums must not depend on their number, and workers must not fight for cores.

    Two workers with two BLAS threads each on two cores took ten times as long as two with one each.
    """
    torch.set_num_threads(1)
    threadpool_limits(1)


def _write_patient(out: Path, plans: Sequence[Plan]) -> list[str]:
    """All studies of one patient, in one process."""
    for plan in plans:
        folder = out / _UNFINISHED / plan.study_uid
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        line = write_study(plan, folder)
        _publish(out, plan, folder, line)
    return [plan.study_uid for plan in plans]


def _publish(out: Path, plan: Plan, folder: Path, line: dict[str, Any]) -> None:
    """Move a written study into place; the line of truth comes last and says that the rest is there."""
    target = out / "dicom" / plan.study_uid
    shutil.rmtree(target, ignore_errors=True)  # of a call that was killed between this line and the last
    os.replace(folder / "dicom", target)
    os.replace(folder / "message", out / message_path(plan))
    os.replace(folder / "masks.npz", out / "truth" / "masks" / f"{plan.study_uid}.npz")
    _write_whole(out / "truth" / _PARTS / f"{plan.study_uid}.json", json.dumps(line, ensure_ascii=False))
    shutil.rmtree(folder, ignore_errors=True)


def message_path(plan: Plan) -> Path:
    """Where the report's message lies below the folder of the hospital."""
    return Path("messages") / plan.form / f"{plan.accession}.{'hl7' if plan.form == 'hl7' else 'json'}"


def _write_truth(out: Path, plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Join the lines of truth in the order of the plan."""
    finished = _finished(out)
    lines = [finished[plan.study_uid] for plan in plans]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    _write_whole(out / "truth" / "studies.jsonl", text)
    for plan in plans:
        (out / "truth" / _PARTS / f"{plan.study_uid}.json").unlink(missing_ok=True)
    return lines


def _write_whole(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
