"""`medvlm convert`: what is written lies where it lay, and what cannot be written is refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from written_dicom import write_ct

from medvlm.cli import main
from medvlm.convert import convert
from volumes.mask_files import read_mask_file
from volumes.masks import Mask, read_masks
from volumes.nifti import read_nifti
from volumes.nifti_writer import write_label_nifti, write_mask_nifti, write_nifti
from volumes.nrrd import read_nrrd
from volumes.reorient import reorient
from volumes.study import read_study
from volumes.volume import Volume, VolumeError


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_ct(tmp_path / "ct")


def part(image: Volume) -> torch.Tensor:
    mask = torch.zeros(image.shape, dtype=torch.bool)
    mask[1:4, 5:20, 3:11] = True
    mask[2, 30, 33] = True
    return mask


def read(path: Path) -> Volume:
    image = read_study(path).main_series().read()
    assert isinstance(image, Volume)
    return image


def test_a_series_becomes_nifti_or_nrrd_at_its_place(
    ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = read(ct)

    assert main(["convert", str(ct), "--out", str(tmp_path / "a.nii.gz")]) == 0
    assert main(["convert", str(ct), "--out", str(tmp_path / "a.nrrd"), "--orientation", "IAR"]) == 0

    said = capsys.readouterr().out
    assert "(5, 41, 37) voxels of 2.000 x 0.800 x 0.500 mm, unit HU" in said
    assert "Secret" not in said
    back, turned = read_nifti(tmp_path / "a.nii.gz"), read_nrrd(tmp_path / "a.nrrd")
    assert torch.equal(back.voxels, image.voxels)
    torch.testing.assert_close(back.affine, image.affine, atol=1e-5, rtol=0)
    assert turned.orientation == "IAR"
    assert torch.equal(turned.voxels, reorient(image, "IAR").voxels)


def test_masks_go_to_a_segmentation_and_back(ct: Path, tmp_path: Path) -> None:
    image = read(ct)
    write_mask_nifti(tmp_path / "liver.nii.gz", part(image), image)

    convert(ct, ct / "seg.dcm", masks=tmp_path / "liver.nii.gz")
    lines = convert(ct, tmp_path / "out", overlays=True)

    assert torch.equal(read_masks(ct / "seg.dcm", image)["liver"].voxels, part(image))
    (written,) = (tmp_path / "out").glob("*_mask01_liver.nii.gz")
    assert torch.equal(read_nifti(written).voxels > 0, part(image))
    pictures = sorted((tmp_path / "out" / "overlays").rglob("*.dcm"))
    assert len(pictures) == 3
    assert "DRAFT" in pydicom.dcmread(pictures[0]).ImageComments
    assert len(lines) == 3


def test_a_label_file_of_another_grid_is_sampled_and_says_so(ct: Path, tmp_path: Path) -> None:
    image = read(ct)
    flipped = reorient(image, "IAR")
    labels = torch.from_numpy(np.random.default_rng(2).integers(0, 3, flipped.shape)).float()
    write_nifti(tmp_path / "labels.nii.gz", Volume(labels, flipped.affine, "raw", image.source))

    found = read_mask_file(tmp_path / "labels.nii.gz", image)

    truth = reorient(Volume(labels, flipped.affine, "raw", image.source), image.orientation).voxels
    assert list(found) == ["labels 1", "labels 2"]
    assert torch.equal(found["labels 2"].voxels, truth == 2)
    assert "another grid" in found["labels 1"].notes[0]


def test_what_is_no_mask_or_lies_elsewhere_is_refused(ct: Path, tmp_path: Path) -> None:
    image = read(ct)
    write_nifti(tmp_path / "image.nii.gz", image)
    moved = image.affine.clone()
    moved[0, 3] += 900
    away = Volume(image.voxels, moved, "HU", image.source)
    write_label_nifti(tmp_path / "away.nii.gz", {"a": Mask("a", part(away))}, away)

    with pytest.raises(VolumeError, match="It looks like an image, not a mask"):
        read_mask_file(tmp_path / "image.nii.gz", image)
    with pytest.raises(VolumeError, match="no voxel of the mask lies inside the image"):
        read_mask_file(tmp_path / "away.nii.gz", image)


@pytest.mark.parametrize(
    ("out", "options", "why"),
    [
        ("a.mgz", [], "ends in .nii, .nii.gz, .nrrd or .dcm, or is a folder"),
        ("a.dcm", [], "a SEG is made from masks"),
        ("a.nii", ["--overlays"], "overlays are many files"),
        ("a.nii", ["--orientation", "XYZ"], "expected three letters"),
        ("a.nii", ["--series-uid", "1.2.3"], "the series 1.2.3 is not there"),
    ],
)
def test_a_wrong_call_is_one_line(
    ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, options: list[str], why: str
) -> None:
    assert main(["convert", str(ct), "--out", str(tmp_path / out), *options]) == 1
    assert why in capsys.readouterr().err
    assert not (tmp_path / out).exists()


def test_a_real_study_is_converted_with_its_structures(real_data: Path, tmp_path: Path) -> None:
    archive = real_data / "dicom_series" / "sarcoma_STS_002_ct_mr_pet_rtstruct.zip"

    lines = convert(archive, tmp_path / "out")

    volumes = [p for p in (tmp_path / "out").glob("*.nii.gz") if "mask" not in p.name]
    masks = list((tmp_path / "out").glob("*_mask01_GTV_Mass_*.nii.gz"))
    assert (len(volumes), len(masks)) == (3, 3)
    assert sum("ml" in line for line in lines) == 3
    published = read_nifti(real_data / "nifti" / "ibsi_sts" / "STS_002" / "CT_image.nii.gz")
    ours = read_nifti(next(p for p in volumes if p.name.endswith("135533244.nii.gz")))
    assert torch.equal(ours.voxels, published.voxels)
    torch.testing.assert_close(ours.affine, published.affine, atol=1e-3, rtol=0)
