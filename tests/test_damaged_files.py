"""Files with bytes changed or cut: every reader of masks and volumes gives a result or a VolumeError, nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from test_masks import ring, structure_set
from written_dicom import write_ct

from volumes.masks import read_masks
from volumes.metaimage import read_metaimage
from volumes.nifti import read_nifti
from volumes.nifti_writer import write_nifti
from volumes.nrrd import read_nrrd
from volumes.nrrd_writer import write_nrrd
from volumes.segment_writer import write_segmentation
from volumes.study import read_study
from volumes.volume import Volume, VolumeError

Reader = Callable[[Path], object]


def damaged(data: bytes, seed: int) -> bytes:
    """One to eight bytes changed, mostly in the header, or the end cut off, or a piece doubled."""
    chance = random.Random(seed)
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        where = chance.randrange(len(changed) if chance.random() < 0.3 else min(len(changed), 4000))
        changed[where] = chance.randrange(256)
    if chance.random() < 0.15:
        del changed[chance.randrange(len(changed)) :]
    if chance.random() < 0.1:
        start = chance.randrange(len(changed) + 1)
        changed[start:start] = changed[start : start + 200]
    return bytes(changed)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Volume]:
    folder = tmp_path_factory.mktemp("image")
    series = read_study(write_ct(folder / "ct")).main_series()
    volume = series.read()
    assert isinstance(volume, Volume)
    mask = torch.zeros(volume.shape, dtype=torch.bool)
    mask[1:3, 4:9, 2:30] = True
    write_segmentation(folder / "seg.dcm", {"a": mask, "b": mask}, volume, series.instances)
    write_segmentation(folder / "part.dcm", {"a": mask}, volume, series.instances, kind="FRACTIONAL")
    structure_set(folder / "rs.dcm", {"x": [("CLOSED_PLANAR", ring(volume, 1, 4.5, 20.5))]})
    small = Volume(volume.voxels[:, :5, :7].contiguous(), volume.affine, "HU", volume.source)
    write_nifti(folder / "a.nii", small)
    write_nifti(folder / "a.nii.gz", small)
    write_nrrd(folder / "a.nrrd", small)
    for name, packed in (("a.mha", False), ("b.mha", True)):
        made = SimpleITK.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
        SimpleITK.WriteImage(made, str(folder / name), useCompression=packed)
    return folder, volume


def survives(path: Path, read: Reader, data: bytes, seeds: range) -> tuple[int, int]:
    """(read, refused) of many damaged copies; any other error leaves with the seed in its notes."""
    counts = [0, 0]
    for seed in seeds:
        path.write_bytes(damaged(data, seed))
        try:
            with np.errstate(all="ignore"):
                read(path)
            counts[0] += 1
        except VolumeError:
            counts[1] += 1
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
    return counts[0], counts[1]


READERS: dict[str, Reader] = {
    "a.nii": read_nifti,
    "a.nii.gz": read_nifti,
    "a.nrrd": read_nrrd,
    "a.mha": read_metaimage,
    "b.mha": read_metaimage,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_damaged_volumes_end_as_a_volume_or_a_refusal(image: tuple[Path, Volume], tmp_path: Path, name: str) -> None:
    data = (image[0] / name).read_bytes()

    read, refused = survives(tmp_path / name, READERS[name], data, range(400))

    assert read + refused == 400
    assert refused > 20


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["seg.dcm", "part.dcm", "rs.dcm"])
def test_damaged_masks_end_as_masks_or_a_refusal(image: tuple[Path, Volume], tmp_path: Path, name: str) -> None:
    data = (image[0] / name).read_bytes()

    read, refused = survives(
        tmp_path / name, lambda path: read_masks(path, image[1], drawn_on="anything"), data, range(150)
    )

    assert read + refused == 150
    assert refused > 5
