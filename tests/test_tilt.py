"""Gantry tilt is measured from positions and taken out onto an orthogonal grid without moving anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from linear_field import AXIAL, RIGHT_MM, normal_of, plane, rotated, stack, write

from volumes.study import read_study
from volumes.tilt import tilt_degrees, untilt
from volumes.volume import Source, Volume, VolumeError


def tilted(folder: Path, degrees: float, orientation: tuple[float, ...] = AXIAL, sideways: float = 0.0) -> Volume:
    """A series whose slices are offset along their rows (and columns), read."""
    along_i, along_j = np.array(orientation[:3]), np.array(orientation[3:])
    step = 2.3 * (normal_of(orientation) + np.tan(np.radians(degrees)) * along_j + sideways * along_i)
    write(folder, stack(orientation, step, count=9))
    volume = read_study(folder).main_series().read()
    assert isinstance(volume, Volume)
    return volume


@pytest.mark.parametrize("degrees", [15.0, -22.5])
@pytest.mark.parametrize("orientation", [AXIAL, rotated(20, -15, 35)])
def test_the_corrected_volume_is_orthogonal_and_every_scanned_voxel_is_right(
    tmp_path: Path, degrees: float, orientation: tuple[float, ...]
) -> None:
    volume = tilted(tmp_path, degrees, orientation, sideways=0.11)
    straight = untilt(volume)
    matrix = straight.affine[:3, :3].numpy()
    across = matrix.T @ matrix
    index = np.stack(np.meshgrid(*(np.arange(n) for n in straight.shape), indexing="ij"), axis=-1)
    truth = straight.index_to_mm(index).numpy() @ (2.0, 3.0, 5.0)
    scanned = straight.voxels.numpy() != -1024

    assert np.abs(across - np.diag(np.diag(across))).max() < 1e-9
    assert straight.spacing_mm == pytest.approx((2.3, 0.7, 0.9), abs=1e-4)
    assert np.abs(straight.voxels.numpy() - truth)[scanned].max() / np.sqrt(38) < RIGHT_MM / 5
    assert scanned.sum() > 0.93 * volume.voxels.numel()  # one row and one column of each slice are mixed away
    assert straight.unit == "HU"


def test_nothing_that_was_scanned_is_cut_off(tmp_path: Path) -> None:
    volume = tilted(tmp_path, 15.0)
    straight = untilt(volume)
    corners = np.array([(k, j, i) for k in (0, 8) for j in (0, 39) for i in (0, 55)])
    at = straight.mm_to_index(volume.index_to_mm(corners)).numpy()

    assert at.min() > -1e-6
    assert (at <= np.array(straight.shape) - 1 + 1e-6).all()


def test_it_says_what_it_did_and_what_fills_the_corners(tmp_path: Path) -> None:
    volume = tilted(tmp_path, 15.0)
    assert any("15.0 degrees off their normal: kept as a sheared affine" in note for note in volume.notes)
    straight = untilt(volume, outside=-2000.0)

    assert tilt_degrees(volume) == pytest.approx(15.0, abs=0.01)
    assert tilt_degrees(straight) == pytest.approx(0.0, abs=0.01)
    assert float(straight.voxels.min()) == -2000
    (note,) = (n for n in straight.notes if "tilt" in n)
    assert "15.0 degrees taken out, as asked" in note
    assert "voxels that were not scanned hold -2000" in note
    assert not any("kept as a sheared" in n for n in straight.notes)


def test_a_shift_by_whole_pixels_moves_values_unchanged(tmp_path: Path) -> None:
    write(tmp_path, [plane((-31.7, 17.2 + 1.4 * k, 43.9 + 2.3 * k)) for k in range(4)])  # two rows of 0.7 mm a slice
    volume = read_study(tmp_path).main_series().read()
    assert isinstance(volume, Volume)
    straight = untilt(volume)

    assert straight.shape == (4, 40 + 6, 56)
    for k in range(4):
        assert torch.equal(straight.voxels[k, 2 * k : 2 * k + 40], volume.voxels[k])


def test_an_upright_volume_comes_back_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, stack(count=3))
    volume = read_study(tmp_path).main_series().read()
    assert isinstance(volume, Volume)

    assert untilt(volume) is volume


def test_a_shear_that_is_no_tilt_is_refused() -> None:
    affine = torch.eye(4, dtype=torch.float64)
    affine[2, 1], affine[1, 0] = 0.3, 0.3
    source = Source("1", "2", ("3",), "CT")
    with pytest.raises(VolumeError, match="rows and columns of the volume are not at right angles"):
        untilt(Volume(torch.zeros(3, 4, 5), affine, "HU", source))
    steep = torch.eye(4, dtype=torch.float64)
    steep[1, 0] = 40.0
    with pytest.raises(VolumeError, match=r"88\.6 degrees: a box .* over 4 times as many"):
        untilt(Volume(torch.zeros(30, 40, 50), steep, "HU", source))


def test_a_real_tilted_ct_is_straightened(real_data: Path) -> None:
    volume = read_study(real_data / "dicom_odd" / "geometry" / "gantrytilting").main_series().read()
    assert isinstance(volume, Volume)
    straight = untilt(volume)

    assert tilt_degrees(volume) == pytest.approx(14.0, abs=0.05)
    assert tilt_degrees(straight) < 0.01
    k, j, i = volume.mm_to_index(straight.index_to_mm([2, 256, 256])).round().long().tolist()
    seen = straight.voxels[2, 251:261, 251:261].mean()
    before = volume.voxels[k, j - 5 : j + 5, i - 5 : i + 5].mean()
    assert k == 2
    assert abs(float(seen - before)) < 5  # HU, in the middle of the head
