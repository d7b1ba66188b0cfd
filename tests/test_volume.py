"""Volume, Film, Region: places in millimetres survive the way there and back."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from volumes.volume import Film, Region, SeriesError, Source, Volume, VolumeError, film_region, volume_region

SOURCE = Source("1.2", "1.2.3", ("1.2.3.4",), "CT", path="/archive/Secret^Name/1.dcm")


def oblique() -> Volume:
    affine = torch.tensor(
        [[0.1, -0.4, 0.5, -31.0], [0.2, 0.6, 0.3, 17.0], [2.5, 0.1, 0.0, 43.0], [0, 0, 0, 1]], dtype=torch.float64
    )
    return Volume(torch.zeros(3, 5, 7), affine, "HU", SOURCE)


def test_index_and_mm_are_inverse_on_a_sheared_affine() -> None:
    volume = oblique()
    index = torch.tensor([[0.0, 0.0, 0.0], [2.0, 4.0, 6.0], [1.25, -3.0, 0.5]], dtype=torch.float64)

    torch.testing.assert_close(volume.mm_to_index(volume.index_to_mm(index)), index)
    torch.testing.assert_close(volume.index_to_mm((1, 0, 0)) - volume.index_to_mm((0, 0, 0)), volume.affine[:3, 0])


def test_spacing_volume_and_orientation_come_from_the_affine() -> None:
    volume = oblique()

    assert volume.spacing_mm[0] == pytest.approx((0.1**2 + 0.2**2 + 2.5**2) ** 0.5)
    assert volume.orientation == "SPL"
    assert volume.voxel_ml == pytest.approx(abs(float(torch.linalg.det(volume.affine[:3, :3]))) / 1000)


@pytest.mark.parametrize(
    ("voxels", "affine", "told"),
    [
        (torch.zeros(3, 4), torch.eye(4, dtype=torch.float64), r"shape \(3, 4\); expected float32 \(D, H, W\)"),
        (torch.zeros(2, 3, 4).double(), torch.eye(4, dtype=torch.float64), r"voxels are torch.float64"),
        (torch.zeros(2, 3, 4), torch.eye(4), r"affine is torch.float32"),
        (torch.zeros(2, 3, 4), torch.zeros(4, 4, dtype=torch.float64), r"affine is singular"),
    ],
)
def test_a_volume_without_a_place_is_refused(voxels: torch.Tensor, affine: torch.Tensor, told: str) -> None:
    with pytest.raises(VolumeError, match=told):
        Volume(voxels, affine, "HU", SOURCE)


def test_a_source_does_not_show_its_path() -> None:
    assert "Secret" not in repr(SOURCE)


def test_errors_keep_their_reason_across_processes() -> None:
    again = pickle.loads(pickle.dumps(SeriesError("slices are 2.00 to 4.00 mm apart", "missing-slice")))

    assert (type(again), again.reason, str(again)) == (SeriesError, "missing-slice", "slices are 2.00 to 4.00 mm apart")


def test_regions_survive_json_and_carry_mm() -> None:
    film = Film(torch.zeros(6, 5), (0.2, 0.3), "PA", "raw", SOURCE)
    flat, solid = film_region(film, (1, 2, 4, 5), 0.7), volume_region(oblique(), (0, 1, 2), (3, 4, 6))

    assert flat.start_mm == pytest.approx((0.2, 0.6))
    assert flat.stop_mm == pytest.approx((0.8, 1.5))
    for region in (flat, solid):
        assert Region.from_dict(json.loads(json.dumps(region.to_dict()))) == region
    assert solid.start_mm is not None
    assert solid.stop_mm is not None
    inner = oblique().index_to_mm((0, 1, 2)).tolist()
    assert all(a < v < b for a, v, b in zip(solid.start_mm, inner, solid.stop_mm, strict=True))


def test_a_film_without_spacing_has_no_mm() -> None:
    assert film_region(Film(torch.zeros(6, 5), None, "unknown", "raw", SOURCE), (0, 0, 2, 2)).start_mm is None


def test_a_region_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(VolumeError, match=r"stops at \(1\.0, 1\.0\) before it starts at \(2\.0, 0\.0\)"):
        Region("1", "2", (2.0, 0.0), (1.0, 1.0))
