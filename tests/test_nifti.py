"""NIfTI and NRRD: every orientation gives the same anatomy, and no unit is guessed."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from volumes.nifti import read_nifti
from volumes.nrrd import read_nrrd
from volumes.study import read_study
from volumes.volume import SeriesError, Volume

RAS_FIELD = np.array([0.5, -0.7, 0.9])
SHAPE = (7, 5, 4)  # i, j, k
AFFINE = np.array([[0.5, 0.1, -0.3, -31], [-0.1, 0.8, 0.2, 17], [0.2, -0.1, 2.5, 43], [0, 0, 0, 1]])


def nifti(path: Path, affine: np.ndarray = AFFINE, shape: tuple[int, ...] = SHAPE, dtype: type = np.float32) -> Path:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape[:3]], indexing="ij"), -1)
    values = (index @ affine[:3, :3].T + affine[:3, 3]) @ RAS_FIELD
    image = nib.Nifti1Image(np.broadcast_to(values[(...,) + (None,) * (len(shape) - 3)], shape).astype(dtype), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def assert_field(volume: Volume) -> None:
    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in volume.shape], indexing="ij"), -1)
    truth = volume.index_to_mm(index) @ torch.tensor(RAS_FIELD * [-1, -1, 1])  # the field in LPS
    torch.testing.assert_close(volume.voxels.double(), truth, atol=1e-4, rtol=0)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_voxel_holds_the_value_of_its_place(tmp_path: Path, suffix: str) -> None:
    volume = read_nifti(nifti(tmp_path / f"a{suffix}"))

    assert (volume.shape, volume.unit, volume.notes) == (SHAPE[::-1], "raw", ())
    assert_field(volume)


def test_the_unit_is_the_callers_word(tmp_path: Path) -> None:
    study = read_study(nifti(tmp_path / "a.nii.gz"), unit="HU", modality="CT")

    volume = study.main_series().read()

    assert (volume.unit, volume.source.modality) == ("HU", "CT")
    assert study.study_uid.startswith("2.25.")
    assert read_study(tmp_path / "a.nii.gz").study_uid == study.study_uid


def test_slope_and_units_are_applied_and_noted(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", dtype=np.int16)
    image = nib.load(path)
    image.header.set_xyzt_units("micron")
    image.header.set_slope_inter(2.0, -100.0)
    stored = np.asarray(image.dataobj)
    nib.save(image, tmp_path / "b.nii")

    volume = read_nifti(tmp_path / "b.nii")

    assert volume.spacing_mm[0] == pytest.approx(np.linalg.norm(AFFINE[:3, 2]) / 1000)
    assert any("multiplied by 0.001" in note for note in volume.notes)
    assert np.allclose(volume.voxels.numpy(), stored.transpose(2, 1, 0) * 2.0 - 100.0)


def test_a_conflict_of_sform_and_qform_is_noted(tmp_path: Path) -> None:
    image = nib.load(nifti(tmp_path / "a.nii"))
    image.set_qform(np.diag([0.5, 0.8, 2.5, 1.0]), code=1)
    nib.save(image, tmp_path / "b.nii")

    volume = read_nifti(tmp_path / "b.nii")

    assert_field(volume)
    assert any("sform and qform place voxels up to" in note for note in volume.notes)


def test_a_file_without_orientation_is_refused(tmp_path: Path) -> None:
    image = nib.load(nifti(tmp_path / "a.nii"))
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, tmp_path / "b.nii")

    with pytest.raises(SeriesError, match="neither sform nor qform is set"):
        read_nifti(tmp_path / "b.nii")


def test_a_time_series_is_refused_and_one_time_point_is_not(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match=r"shape \(7, 5, 4, 3\); expected three dimensions"):
        read_nifti(nifti(tmp_path / "a.nii", shape=(*SHAPE, 3)))
    assert_field(read_nifti(nifti(tmp_path / "b.nii", shape=(*SHAPE, 1))))


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_gzip_is_refused_by_its_checksum(tmp_path: Path, damage: str) -> None:
    raw = nifti(tmp_path / "a.nii").read_bytes()
    packed = bytearray(gzip.compress(raw, compresslevel=0))
    if damage == "flip":
        packed[-50] ^= 0x10  # a voxel, stored uncompressed: only the checksum can tell
    (tmp_path / "b.nii.gz").write_bytes(bytes(packed if damage == "flip" else packed[:-20]))

    with pytest.raises(SeriesError, match="truncated or damaged"):
        read_nifti(tmp_path / "b.nii.gz")


@pytest.mark.parametrize(("space", "flip"), [("left-posterior-superior", 1), ("right-anterior-superior", -1)])
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_nrrd_is_placed_in_lps(tmp_path: Path, space: str, flip: int, encoding: str) -> None:
    values = np.arange(24, dtype="<i2").reshape(2, 3, 4)
    vectors = " ".join(f"({x * flip},{y * flip},{z})" for x, y, z in ((0.5, 0, 0), (0, -0.8, 0), (0, 0.1, 2.5)))
    header = (
        f"NRRD0004\n# comment\ntype: short\ndimension: 3\nspace: {space}\nsizes: 4 3 2\nspace directions: {vectors}\n"
        f"endian: little\nencoding: {encoding}\nspace origin: ({-31 * flip},{17 * flip},43)\n\n"
    )
    body = values.tobytes() if encoding == "raw" else gzip.compress(values.tobytes())
    (tmp_path / "a.nrrd").write_bytes(header.encode() + body)

    volume = read_nrrd(tmp_path / "a.nrrd")

    assert np.array_equal(volume.voxels.numpy(), values)
    assert volume.index_to_mm((1, 2, 3)).tolist() == pytest.approx([-31 + 1.5, 17 - 1.6 + 0.1, 43 + 2.5])


def test_a_detached_or_short_nrrd_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\ntype: short\ndata file: x.raw\n\n")
    (tmp_path / "b.nrrd").write_bytes(b"NRRD0004\ntype: short\nsizes: 4 3 2\nencoding: raw\n\nabc")

    with pytest.raises(SeriesError, match="detached data file"):
        read_nrrd(tmp_path / "a.nrrd")
    with pytest.raises(SeriesError, match="holds 3 bytes of voxels; expected 48"):
        read_nrrd(tmp_path / "b.nrrd")


def test_one_brain_in_sixteen_orders_is_one_anatomy(real_data: Path) -> None:
    centers = []
    for path in sorted((real_data / "nifti" / "orientation_same_brain").glob("*.nii.gz")):
        volume = read_nifti(path)
        index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in volume.shape], indexing="ij"), -1)
        weight = volume.voxels.double()[..., None] ** 2
        centers.append((volume.index_to_mm(index) * weight).sum((0, 1, 2)) / weight.sum())

    assert len(centers) == 16
    torch.testing.assert_close(torch.stack(centers), centers[0].expand(16, 3), atol=1e-3, rtol=0)


def test_every_real_volume_is_read_or_refused_with_a_reason(real_data: Path) -> None:
    refused = []
    paths = [p for p in sorted((real_data / "nifti").rglob("*")) if p.name.endswith((".nii.gz", ".nrrd"))][::6]
    for path in paths:
        try:
            assert read_study(path).main_series().read().unit == "raw"
        except SeriesError as error:
            refused.append(error.reason)

    assert len(paths) > 30
    assert set(refused) <= {"not-grey"}
