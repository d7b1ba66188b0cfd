"""NIfTI as it is met: every orientation, odd scalings, odd types, pairs, Analyze, time series."""

from __future__ import annotations

import gzip
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

from volumes.nifti import read_nifti
from volumes.reorient import reorient
from volumes.study import read_study
from volumes.volume import SeriesError, Volume

AFFINE = np.array([[0.5, 0.1, -0.3, -31], [-0.1, 0.8, 0.2, 17], [0.2, -0.1, 2.5, 43], [0, 0, 0, 1]])
SHAPE = (7, 5, 4)
SIGNS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def values(kind: str = "int16", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 300, shape).astype(kind)


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, **header: float) -> Path:
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    if header:
        raw = bytearray(path.read_bytes())
        parsed = nib.Nifti1Header(bytes(raw[:348]), check=False)
        for name, value in header.items():
            parsed[name] = value
        raw[:348] = parsed.binaryblock
        path.write_bytes(bytes(raw))
    return path


@pytest.mark.parametrize(("order", "signs"), SIGNS)
def test_one_anatomy_in_every_orientation(
    tmp_path: Path, order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    data = values()
    stored = data.transpose(order)[tuple(slice(None, None, s) for s in signs)]
    affine = AFFINE.copy()
    affine[:, :3] = AFFINE[:, list(order)]
    for axis, sign in enumerate(signs):
        if sign < 0:
            affine[:3, 3] += affine[:3, axis] * (stored.shape[axis] - 1)
            affine[:3, axis] *= -1

    turned = reorient(read_nifti(save(tmp_path / "a.nii", np.ascontiguousarray(stored), affine)))
    first = reorient(read_nifti(save(tmp_path / "b.nii", data)))

    assert torch.equal(turned.voxels, first.voxels)
    torch.testing.assert_close(turned.affine, first.affine, atol=1e-4, rtol=0)


def test_one_brain_in_sixteen_orders_is_one_anatomy_voxel_by_voxel(real_data: Path) -> None:
    brains: list[Volume] = []
    for path in sorted((real_data / "nifti" / "orientation_same_brain").glob("*.nii.gz")):
        volume = read_nifti(path)
        assert volume.orientation[::-1] == path.name[:3], "the file is named by its axes i, j, k"
        brains.append(reorient(volume))

    assert len({tuple(b.voxels.shape) for b in brains}) == 1
    assert len(brains) == 16
    for brain in brains[1:]:
        assert torch.equal(brain.voxels, brains[0].voxels)
        torch.testing.assert_close(brain.affine, brains[0].affine, atol=1e-3, rtol=0)


@pytest.mark.parametrize("slope", [0.0, float("nan")])
def test_no_slope_means_no_intercept_and_is_said(tmp_path: Path, slope: float) -> None:
    path = save(tmp_path / "a.nii", values(), scl_slope=slope, scl_inter=-1000.0)

    volume = read_nifti(path)

    assert np.array_equal(volume.voxels.numpy(), values().transpose(2, 1, 0))
    assert any("scl_inter -1000 was not applied" in note for note in volume.notes)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int32", "uint32", "int64", "float32", "float64"])
def test_every_number_type_is_read(tmp_path: Path, kind: str) -> None:
    data = np.abs(values()).astype(kind)

    volume = read_nifti(save(tmp_path / "a.nii.gz", data))

    assert np.array_equal(volume.voxels.numpy(), data.transpose(2, 1, 0).astype(np.float32))
    assert volume.notes == ()


def test_what_float32_cannot_hold_is_said(tmp_path: Path) -> None:
    large, broken = values("int64"), values("float64")
    large[1, 2, 3] = 2**24 + 1
    broken[0, 0, 0], broken[1, 1, 1], broken[2, 2, 2] = np.nan, np.inf, 1e300

    noted = read_nifti(save(tmp_path / "a.nii", large)).notes
    with np.errstate(over="ignore"):
        told = read_nifti(save(tmp_path / "b.nii", broken)).notes

    assert noted == ("whole numbers above 16777216 were rounded to 32-bit floats",)
    assert told == ("3 voxels are not finite numbers",)


@pytest.mark.parametrize("kind", [[("R", "u1"), ("G", "u1"), ("B", "u1")], "complex64"])
def test_colour_and_complex_are_refused(tmp_path: Path, kind: object) -> None:
    with pytest.raises(SeriesError, match="colour or complex"):
        read_nifti(save(tmp_path / "a.nii", np.zeros(SHAPE, dtype=np.dtype(kind))))  # type: ignore[arg-type]


def test_a_time_series_is_read_one_named_volume_at_a_time(tmp_path: Path) -> None:
    data = values(shape=(*SHAPE, 3))
    path = save(tmp_path / "a.nii.gz", data)

    for point in range(3):
        volume = read_nifti(path, time_point=point)
        assert np.array_equal(volume.voxels.numpy(), data[..., point].transpose(2, 1, 0))
        assert volume.notes == (f"time point {point} of 3 (counted from 0)",)
    assert torch.equal(read_study(path, modality="MR").main_series().read(frame=2).voxels, volume.voxels)
    with pytest.raises(SeriesError, match=r"shape \(7, 5, 4, 3\); the time point 3 was asked for"):
        read_nifti(path, time_point=3)
    with pytest.raises(SeriesError, match="name one of four dimensions by time_point"):
        read_study(path).main_series().read()
    with pytest.raises(SeriesError, match=r"shape \(7, 5, 4, 3, 2\)"):
        read_nifti(save(tmp_path / "b.nii", values(shape=(*SHAPE, 3, 2))), time_point=1)


def test_one_slice_may_leave_out_its_third_dimension(tmp_path: Path) -> None:
    flat = read_nifti(save(tmp_path / "a.nii", values(shape=(7, 5))))

    assert flat.shape == (1, 5, 7)
    assert flat.notes == ("the file has two dimensions: read as one slice",)


def test_version_2_and_big_endian_give_the_same_volume(tmp_path: Path) -> None:
    plain = read_nifti(save(tmp_path / "a.nii", values()))
    nib.save(nib.Nifti2Image(values(), AFFINE), tmp_path / "b.nii")
    big = nib.Nifti1Image(values().astype(">i2"), AFFINE, nib.Nifti1Header(endianness=">"))
    nib.save(big, tmp_path / "c.nii")
    assert (tmp_path / "c.nii").read_bytes()[:4] == (348).to_bytes(4, "big")

    for name in ("b.nii", "c.nii"):
        other = read_nifti(tmp_path / name)
        assert torch.equal(other.voxels, plain.voxels)
        torch.testing.assert_close(other.affine, plain.affine, atol=1e-5, rtol=0)


def test_pairs_and_analyze_are_refused_by_name(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(values(), AFFINE), tmp_path / "pair.hdr")
    nib.save(nib.AnalyzeImage(values(), None), tmp_path / "old.hdr")

    with pytest.raises(SeriesError, match=r"half of a pair of \.hdr and \.img"):
        read_nifti(tmp_path / "pair.hdr")
    with pytest.raises(SeriesError, match=r"Analyze 7\.5.*does not say which side is left"):
        read_nifti(tmp_path / "old.hdr")


def test_a_shear_is_kept_and_agrees_with_the_plain_matrix(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[:3, 2] += 0.4 * sheared[:3, 1]

    volume = read_nifti(save(tmp_path / "a.nii", values(), sheared))

    expected = np.diag([-1, -1, 1, 1]) @ sheared @ np.array([3, 2, 1, 1])
    assert volume.index_to_mm((1, 2, 3)).tolist() == pytest.approx(expected[:3].tolist(), abs=1e-5)


def test_a_qform_alone_is_placed_as_simpleitk_places_it(tmp_path: Path) -> None:
    turn = np.linalg.qr(AFFINE[:3, :3])[0]
    turn *= np.sign(np.linalg.det(turn))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [0.5, 0.8, 2.5] * [1, 1, -1], (-31, 17, 43)  # a negative qfac
    image = nib.Nifti1Image(values(), None)
    image.header.set_qform(affine, code=1)
    image.header.set_sform(None, code=0)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "a.nii")

    volume = read_nifti(tmp_path / "a.nii")

    judge = SimpleITK.ReadImage(str(tmp_path / "a.nii"))
    for index in ((0, 0, 0), (3, 4, 6), (1, 3, 2)):
        point = judge.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])
        assert volume.index_to_mm(index).tolist() == pytest.approx(point, abs=1e-4)


@pytest.mark.parametrize("cut", [4, 100, 400])
def test_voxels_that_are_missing_are_refused(tmp_path: Path, cut: int) -> None:
    path = save(tmp_path / "a.nii", values())
    path.write_bytes(path.read_bytes()[:-cut])
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))

    for damaged in (path, packed):
        with pytest.raises(SeriesError, match=r"voxels are missing|not a single-file NIfTI|holds"):
            read_nifti(damaged)
