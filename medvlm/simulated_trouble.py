"""Faults as archives have them, planted beside a phantom hospital so that one can see ingest name every one of them.

They lie outside the truth: no study here has a line in `truth/studies.jsonl`. What was planted, and what ingest has to
say about it, stands in `truth/trouble.json`.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reports.messages import diagnostic_report, oru_message
from volumes.dicom_writer import CtTags, DeviceTags, FilmTags, StudyTags, derived_uid, write_ct, write_film
from volumes.streams import stream
from volumes.volume import Source, Volume

_DEVICE = DeviceTags("Simulated", "SIM-FAULT", "SIM", "Simulated hospital")
_TEXT = "FINDINGS: No pleural effusion. No pneumothorax.\n\nIMPRESSION: No acute abnormality. Simulated."


@dataclass(frozen=True)
class Trouble:
    """One planted fault: the reason that ingest has to give, the study it concerns (if any), and the fault in words."""

    reason: str
    study_uid: str
    words: str


def plant_trouble(out: Path, seed: int) -> tuple[Trouble, ...]:
    """Plant four faults into the folder of a hospital; the same seed plants the same, and again changes nothing."""
    planted = (_missing_slice(out, seed), _truncated_file(out, seed), _stray_report(out, seed), _two_studies(out, seed))
    note = out / "truth" / "trouble.json"
    beside = note.with_name(f".{note.name}.part")
    beside.write_text(json.dumps([asdict(one) for one in planted], indent=1) + "\n", encoding="utf-8")
    os.replace(beside, note)
    return planted


def _missing_slice(out: Path, seed: int) -> Trouble:
    """A CT of twelve slices of 5 mm from which the sixth is gone."""
    tags = _tags(seed, "missing slice", "1")
    folder = _empty(out, tags)
    draw = stream(seed, "trouble", "ct").normal(0, 15, (12, 64, 64)).astype(np.float32)
    rows, columns = np.ogrid[-1:1:64j, -1:1:64j]
    body = (rows / 0.7) ** 2 + (columns / 0.9) ** 2 < 1
    voxels = torch.from_numpy(np.where(body, 40.0 + draw, -1000.0).astype(np.float32))
    affine = torch.tensor([[0, 0, 5.5, -176], [0, 5.5, 0, -176], [5, 0, 0, -200], [0, 0, 0, 1]], dtype=torch.float64)
    series_uid = derived_uid(tags.study_uid, "series")
    volume = Volume(voxels, affine, "HU", Source(tags.study_uid, series_uid, (), "CT"))
    write_ct(folder / series_uid, volume, CtTags(tags, series_uid, _DEVICE, kernel="standard", kvp=120.0))
    (folder / series_uid / "6.dcm").unlink()
    return Trouble("missing-slice", tags.study_uid, "one slice of a CT is missing")


def _truncated_file(out: Path, seed: int) -> Trouble:
    """A film whose file ends in the middle of its pixels."""
    tags = _tags(seed, "truncated file", "2")
    path = _film(out, tags, stream(seed, "trouble", "film"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 5])
    return Trouble("truncated-file", tags.study_uid, "the file of a film ends in the middle of its pixels")


def _stray_report(out: Path, seed: int) -> Trouble:
    """A report about a study that is not in the archive."""
    tags = _tags(seed, "stray report", "3")
    message = oru_message(_TEXT, accession=tags.accession, study_uid=tags.study_uid, patient_id=tags.patient_id)
    path = out / "messages" / "hl7" / f"{tags.accession}.hl7"
    path.write_text(message, encoding="utf-8", newline="")
    return Trouble("no-study", "", "a report names a study that the archive does not hold")


def _two_studies(out: Path, seed: int) -> Trouble:
    """Two patients under one accession number, and a report that names nothing but this number."""
    first = _tags(seed, "first of two", "4")
    second = replace(_tags(seed, "second of two", "5"), accession=first.accession)
    for tags in (first, second):
        _film(out, tags, stream(seed, "trouble", tags.study_uid))
    uid, patient_id = first.study_uid, first.patient_id
    resource = diagnostic_report(_TEXT, accession=first.accession, study_uid=uid, patient_id=patient_id)
    study = resource["contained"][0]
    study["identifier"] = [i for i in study["identifier"] if i.get("system") != "urn:dicom:uid"]
    resource.pop("subject", None)
    study.pop("subject", None)
    path = out / "messages" / "fhir" / f"{first.accession}.json"
    path.write_text(json.dumps(resource, indent=1) + "\n", encoding="utf-8")
    return Trouble("ambiguous-accession", "", "two studies of two patients have one accession number")


def _film(out: Path, tags: StudyTags, draw: np.random.Generator) -> Path:
    series_uid = derived_uid(tags.study_uid, "series")
    target = _empty(out, tags) / series_uid
    target.mkdir()
    film = FilmTags(tags, series_uid, derived_uid(series_uid, 1), "PA", (2.0, 2.0), (2048.0, 4096.0), _DEVICE)
    write_film(target / "1.dcm", _picture(draw), film)
    return target / "1.dcm"


def _picture(draw: np.random.Generator) -> NDArray[np.uint16]:
    """A bright frame around two dark fields: enough of a chest for a file that nobody should learn from."""
    rows, columns = np.ogrid[-1:1:160j, -1:1:144j]
    fields = np.exp(-((np.abs(columns) - 0.4) ** 2) / 0.05 - rows**2 / 0.4)
    return np.clip(3000 - 2200 * fields + draw.normal(0, 40, fields.shape), 0, 4095).astype(np.uint16)


def _tags(seed: int, name: str, number: str) -> StudyTags:
    return StudyTags(
        study_uid=derived_uid("simulated trouble", seed, name),
        patient_id=f"SIM{seed}-T{number}",
        patient_name=f"SIMULATED^T{number}",
        accession=f"T{derived_uid(seed)[-6:]}{number}",
        sex="O",
        date="20240304",
        time="101500",
        description="Planted fault (simulated)",
        comments="SIMULATED: made by a program, no patient exists",
    )


def _empty(out: Path, tags: StudyTags) -> Path:
    folder = out / "dicom" / tags.study_uid
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
