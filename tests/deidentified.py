"""Files of patients who never were, to be de-identified in tests."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from pydicom.dataset import Dataset

from volumes.deidentify import Audit, Options, deidentify
from volumes.deidentify_profile import Profile
from volumes.dicom_writer import CtTags, DeviceTags, FilmTags, StudyTags, write_ct, write_film
from volumes.volume import Source, Volume

KEY = "61" * 32
AFFINE = [[-0.3, 0.1, 0.62, 41.5], [0.2, 0.71, 0.1, -77.0], [2.9, -0.05, 0.1, 130.25], [0, 0, 0, 1]]


def write_key(folder: Path) -> Path:
    """The key of all tests, as a file that only its owner can read."""
    path = folder / "secret.key"
    path.write_text(KEY, encoding="ascii")
    path.chmod(0o600)
    return path


def run(archive: Path, out: Path, key: Path | None, **profile: Any) -> Audit:
    return deidentify([archive], out, Options(Profile(**profile), key=key, workers=0))


def study_tags(patient: str = "Zorvath^Quenby", number: str = "4471-8823", date: str = "20210405") -> StudyTags:
    uid = f"1.2.826.0.1.3680043.8.{zlib.crc32(f'{patient} {date}'.encode())}"
    return StudyTags(uid, number, patient, "ACC-5512", "19310207", "F", 90, date, "101500", "Thorax", "")


def film(path: Path, tags: StudyTags, sop: str = "1.2.826.0.1.3680043.8.77.1") -> Dataset:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[0:150, 0:118]
    pixels = (900 + 600 * np.sin(rows / 31.0) * np.cos(columns / 23.0)).astype(np.uint16)
    device = DeviceTags("Siemens", "SIM-1", "STATION7", "General Hospital of Zorvath")
    write_film(path, pixels, FilmTags(tags, "1.2.826.0.1.3680043.8.77", sop, "PA", (0.31, 0.29), (900, 1400), device))
    return pydicom.dcmread(path)


def ct(folder: Path, tags: StudyTags) -> list[Path]:
    rows, columns = np.mgrid[0:40, 0:36]
    step = torch.tensor(AFFINE, dtype=torch.float64)
    axes, _ = torch.linalg.qr(step[:3, :3])
    step[:3, :3] = axes * torch.tensor([2.9, 0.7, 0.6], dtype=torch.float64)
    slices = np.stack([40.0 * k + rows - columns for k in range(5)]).astype(np.float32)
    volume = Volume(torch.from_numpy(slices), step, "HU", Source(tags.study_uid, tags.study_uid + ".1", (), "CT"))
    write_ct(folder, volume, CtTags(tags, tags.study_uid + ".1", DeviceTags("GE", "SIM-2", "CT3", "Zorvath Clinic")))
    return sorted(folder.glob("*.dcm"))


def outputs(out: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(out.rglob("*.dcm"))]


def walk(dataset: Dataset) -> Iterator[Any]:
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from walk(item)
