"""What is written comes back: NIfTI, NRRD, SEG and overlays, by our readers and by ones that are not ours."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from written_dicom import write_ct

from volumes.masks import Mask
from volumes.nifti import read_nifti
from volumes.nifti_writer import write_label_nifti, write_mask_nifti, write_nifti
from volumes.nrrd import read_nrrd
from volumes.nrrd_writer import write_nrrd
from volumes.overlay_writer import COLOURS, DRAFT, outline, write_overlays
from volumes.segment_writer import Maker, write_segmentation
from volumes.study import Series, read_study
from volumes.volume import Source, Volume, VolumeError, volume_region

SOURCE = Source("1.2.3", "1.2.3.4", ("1.2.3.4.5",), "CT")


def placed(voxels: np.ndarray, shear: float = 0.0) -> Volume:
    """Oblique, anisotropic, away from the origin; `shear` tilts the stack."""
    angle, lean = np.radians(24), np.radians(17)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ tip @ np.diag([0.7, 0.9, 2.5]))[:, ::-1]
    affine[:3, 0] += shear * affine[:3, 1]
    affine[:3, 3] = (-61.3, 27.9, 113.7)
    return Volume(torch.from_numpy(voxels.astype(np.float32)), torch.from_numpy(affine), "HU", SOURCE)


def noise(kind: str) -> np.ndarray:
    generator = np.random.default_rng(11)
    values = generator.normal(-300, 400, (5, 7, 6))
    if kind == "float":
        values[1, 2, 3] = np.nan
        return values.astype(np.float32)
    if kind == "half":
        return np.rint(values) / 2
    if kind == "unsigned":
        return np.rint(values - values.min() + 30_000)
    return np.rint(values)


@pytest.mark.parametrize("shear", [0.0, 0.3])
@pytest.mark.parametrize(
    ("kind", "stored"), [("whole", np.int16), ("half", np.int16), ("unsigned", np.int16), ("float", np.float32)]
)
def test_nifti_comes_back_bit_by_bit(tmp_path: Path, kind: str, stored: type, shear: float) -> None:
    volume = placed(noise(kind) * (1.3 if kind == "unsigned" and shear else 1), shear)
    if kind == "unsigned":
        volume = placed(np.rint(volume.voxels.numpy()), shear)

    path = write_nifti(tmp_path / "a.nii.gz", volume)
    back = read_nifti(path, "HU")

    assert np.array_equal(back.voxels.numpy().view(np.int32), volume.voxels.numpy().view(np.int32))
    torch.testing.assert_close(back.affine, volume.affine, atol=1e-5, rtol=0)
    assert nib.load(path).get_data_dtype() == stored


def test_nifti_2_keeps_every_digit_of_the_affine(tmp_path: Path) -> None:
    volume = placed(noise("whole"), 0.2)

    back = read_nifti(write_nifti(tmp_path / "a.nii", volume, version=2))

    torch.testing.assert_close(back.affine, volume.affine, atol=1e-12, rtol=0)


def test_both_forms_of_the_affine_agree_and_a_shear_has_only_one(tmp_path: Path) -> None:
    header = nib.load(write_nifti(tmp_path / "a.nii", placed(noise("whole")))).header
    sheared = nib.load(write_nifti(tmp_path / "b.nii", placed(noise("whole"), 0.3))).header

    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert np.allclose(header.get_sform(), header.get_qform(), atol=1e-5)
    assert header.get_xyzt_units()[0] == "mm"
    assert (int(sheared["sform_code"]), int(sheared["qform_code"])) == (1, 0)


@pytest.mark.parametrize("form", ["nii.gz", "nrrd"])
def test_simpleitk_reads_the_same_voxels_at_the_same_place(tmp_path: Path, form: str) -> None:
    volume = placed(noise("half"))
    path = tmp_path / f"a.{form}"
    (write_nrrd if form == "nrrd" else write_nifti)(path, volume)

    image = SimpleITK.ReadImage(str(path))

    assert np.array_equal(SimpleITK.GetArrayFromImage(image).astype(np.float32), volume.voxels.numpy())
    for index in ((0, 0, 0), (4, 6, 5), (1, 0, 3)):
        point = image.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])
        assert point == pytest.approx(volume.index_to_mm(index).tolist(), abs=1e-4)


@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_nrrd_comes_back_bit_by_bit(tmp_path: Path, shear: float) -> None:
    volume = placed(noise("float"), shear)

    back = read_nrrd(write_nrrd(tmp_path / "a.nrrd", volume))

    assert np.array_equal(back.voxels.numpy().view(np.int32), volume.voxels.numpy().view(np.int32))
    assert torch.equal(back.affine, volume.affine)


def test_nothing_of_the_source_is_in_the_header_and_equal_volumes_give_equal_files(tmp_path: Path) -> None:
    volume = placed(noise("whole"))
    first = write_nifti(tmp_path / "Secret^Name.nii.gz", volume).read_bytes()

    assert write_nifti(tmp_path / "b.nii.gz", volume).read_bytes() == first
    assert b"Secret" not in first
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(VolumeError, match="a NIfTI file is called"):
        write_nifti(tmp_path / "a.img", volume)
    with pytest.raises(VolumeError, match="have no lossless form in int16"):
        write_nifti(tmp_path / "c.nii", placed(noise("float")), numbers="int16")


def test_masks_become_label_maps_unless_they_overlap(tmp_path: Path) -> None:
    image = placed(noise("whole"))
    one, two = torch.zeros(image.shape, dtype=torch.bool), torch.zeros(image.shape, dtype=torch.bool)
    one[1, 2, 3], two[4, 5, 0] = True, True

    names = write_label_nifti(tmp_path / "labels.nii.gz", {"a": Mask("a", one), "b": Mask("b", two)}, image)
    single = read_nifti(write_mask_nifti(tmp_path / "b.nii.gz", two, image))
    labels = read_nifti(tmp_path / "labels.nii.gz")

    assert names == {1: "a", 2: "b"}
    assert torch.equal(labels.voxels, one.float() + 2 * two.float())
    assert torch.equal(single.voxels, two.float())
    with pytest.raises(VolumeError, match="mask 'b' shares 1 voxels with an earlier one"):
        write_label_nifti(tmp_path / "x.nii", {"a": Mask("a", one), "b": Mask("b", one)}, image)
    with pytest.raises(VolumeError, match="has the shape"):
        write_mask_nifti(tmp_path / "y.nii", two[1:], image)


@pytest.fixture
def series(tmp_path: Path) -> Series:
    tags = {
        "StudyID": "7",
        "PatientBirthDate": "",
        "PatientSex": "O",
        "StudyTime": "101112",
        "PositionReferenceIndicator": "",
    }
    return read_study(write_ct(tmp_path / "ct", SeriesNumber=4, **tags)).main_series()


def verify(path: Path) -> list[str]:
    """Errors that dciodvfy finds in a file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed: apt install dicom3tools")
    found = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, timeout=60, check=False)
    return [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("Error")]


def corner(image: Volume) -> torch.Tensor:
    mask = torch.zeros(image.shape, dtype=torch.bool)
    mask[1:3, 4:9, 2:30] = True
    return mask


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_written_segmentation_is_valid_and_others_read_it(series: Series, tmp_path: Path, kind: str) -> None:
    import highdicom

    image = series.read()
    path = tmp_path / "seg.dcm"
    uid = write_segmentation(path, {"Liver": corner(image)}, image, series.instances, kind=kind)  # type: ignore[arg-type]

    assert verify(path) == []
    read = highdicom.seg.segread(path)
    frames = read.get_pixels_by_source_instance(list(image.source.sop_uids), assert_missing_frames_are_empty=True)
    assert np.array_equal(frames[..., 0] > 0, corner(image).numpy())
    assert str(read.SOPInstanceUID) == uid
    assert write_segmentation(tmp_path / "b.dcm", {"Liver": corner(image)}, image, series.instances, kind=kind) == uid  # type: ignore[arg-type]
    assert "Secret" not in uid + str(list(tmp_path.glob("*")))


def test_nothing_that_is_said_while_writing_names_the_patient(
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    long_id = "A-STUDY-ID-OF-TOO-MANY-LETTERS"
    series = read_study(write_ct(tmp_path / "ct", PatientName="Secretname", StudyID=long_id)).main_series()
    image = series.read()
    recwarn.clear()

    write_segmentation(tmp_path / "a.dcm", {"Liver": corner(image)}, image, series.instances)
    write_overlays(tmp_path / "b", image, series.instances, masks={"Liver": corner(image)})

    said = "".join(capfd.readouterr()) + caplog.text + "".join(str(w.message) for w in recwarn)
    assert "Secretname" not in said
    assert len(recwarn) == 0
    assert pydicom.dcmread(tmp_path / "a.dcm").PatientName == "Secretname"


@pytest.mark.parametrize("seed", range(12))
def test_any_affine_survives_nifti_and_agrees_with_simpleitk(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * generator.uniform(0.3, 5, 3)
    affine[:3, 3] = generator.uniform(-120, 120, 3)
    values = np.rint(generator.normal(0, 500, generator.integers(2, 9, 3))).astype(np.float32)
    volume = Volume(torch.from_numpy(values), torch.from_numpy(affine), "HU", SOURCE)

    path = write_nifti(tmp_path / "a.nii", volume)

    back, judge = read_nifti(path), SimpleITK.ReadImage(str(path))
    assert torch.equal(back.voxels, volume.voxels)
    torch.testing.assert_close(back.affine, volume.affine, atol=1e-5, rtol=0)
    last = tuple(n - 1 for n in volume.shape)
    point = judge.TransformIndexToPhysicalPoint([int(n) for n in last[::-1]])
    assert point == pytest.approx(volume.index_to_mm(last).tolist(), abs=2e-4)


def test_a_volume_that_was_resampled_gets_no_segmentation(series: Series, tmp_path: Path) -> None:
    image = series.read()
    shifted = image.affine.clone()
    shifted[:3, 3] += 0.5 * image.affine[:3, 1]
    moved = Volume(image.voxels, shifted, image.unit, image.source)

    with pytest.raises(VolumeError, match=r"which lie up to 0\.50 voxels off"):
        write_segmentation(tmp_path / "a.dcm", {"a": corner(image)}, moved, series.instances)
    with pytest.raises(VolumeError, match="no voxel inside any"):
        write_segmentation(tmp_path / "a.dcm", {"a": ~(image.voxels < 9e9)}, image, series.instances)


def test_an_overlay_is_a_valid_draft_that_refers_to_its_image(series: Series, tmp_path: Path) -> None:
    image = series.read()
    mask = corner(image)
    box = volume_region(image, (1, 10, 5), (2, 20, 15))

    paths = write_overlays(
        tmp_path / "out", image, series.instances, masks={"Liver": mask}, boxes=[box], window=(0, 600)
    )

    assert [p.name for p in paths] == ["overlay_0001.dcm", "overlay_0002.dcm"]
    found = pydicom.dcmread(paths[0])
    assert verify(paths[0]) == []
    assert found.SourceImageSequence[0].ReferencedSOPInstanceUID == image.source.sop_uids[1]
    assert (found.StudyInstanceUID, found.Modality) == (image.source.study_uid, "OT")
    assert found.DerivationDescription.startswith(f"{DRAFT}. Window -300 to 300 HU; outlined: Liver, 1 boxes")
    assert [float(v) for v in found.PixelSpacing] == [0.8, 0.5]
    pixels = found.pixel_array[: image.shape[1], : image.shape[2]]
    edge = outline(mask[1].numpy())
    assert (pixels[edge] == COLOURS[0]).all()
    assert (pixels[10, 5:15] == COLOURS[1]).all()
    inner = mask[1].numpy() & ~edge
    grey = np.rint(np.clip((image.voxels[1].numpy() + 300) / 600, 0, 1) * 255)
    assert np.array_equal(pixels[inner][:, 0], grey[inner])
    strip = found.pixel_array[image.shape[1] :]
    assert int(strip.max()) > 200
    assert int((strip > 128).any(axis=(0, 2)).sum()) > 60  # the words are there, not cut


def test_an_overlay_needs_a_slice(series: Series, tmp_path: Path) -> None:
    image = series.read()

    with pytest.raises(VolumeError, match="an empty mask and no box touch none"):
        write_overlays(tmp_path, image, series.instances)
    with pytest.raises(VolumeError, match=r"slices \[9\] were asked for of 5"):
        write_overlays(tmp_path, image, series.instances, slices=[9])
    assert Maker().name == "medvlm"
