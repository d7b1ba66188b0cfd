"""One DICOM series becomes the images that it holds: by time, phase, echo, inversion and diffusion weighting."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_field import CORONAL, LATER_HU, Image, error_mm, plane, positions, save, stack, write
from pydicom.dataset import Dataset

from volumes.geometry import SAME_PLACE_MM, same_place
from volumes.study import Series, read_study
from volumes.volume import SeriesError, Volume

COUNT = 5


def scans(**values: tuple[Any, Any]) -> list[Dataset]:
    """Two scans of the same places, told apart by the tags given, shuffled."""
    both = []
    for n in range(2):
        both += stack(count=COUNT, add_hu=LATER_HU * n, **{name: pair[n] for name, pair in values.items()})
    random.Random(2).shuffle(both)
    return both


def image(one: Series) -> Image:
    volume = one.read()
    assert isinstance(volume, Volume)
    return volume.voxels.numpy(), volume.affine.numpy()


def assert_two(folder: Path) -> None:
    """Two whole parts, the earlier or smaller first."""
    found = read_study(folder).series
    assert [one.n_instances for one in found] == [COUNT, COUNT]
    assert [error_mm(image(one), n == 1)[1] < 0.05 for n, one in enumerate(found)] == [True, True]


@pytest.mark.parametrize(
    "values",
    [
        {"TemporalPositionIdentifier": (2, 10)},
        {"EchoTime": (4.6, 12.3)},
        {"InversionTime": (90, 1200)},
        {"DiffusionBValue": (50.0, 800.0)},
        {"DiffusionGradientOrientation": ([0.0, 0.0, 1.0], [0.0, 1.0, 0.0])},
        {"TriggerTime": (9, 120)},
        {"NominalPercentageOfCardiacPhase": (5, 70)},
        {"FrameReferenceTime": (5000, 15000)},
        {"AcquisitionNumber": (2, 10)},
        {"ImageType": (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])},
        {"AcquisitionDateTime": ("20240131101500.5", "20240131101501.25")},
    ],
)
def test_whole_scans_are_told_apart(tmp_path: Path, values: dict[str, tuple[Any, Any]]) -> None:
    write(tmp_path, scans(**values))

    assert_two(tmp_path)


def private(dataset: Dataset, group: int, creator: str, offset: int, vr: str, value: Any) -> None:
    dataset.private_block(group, creator, create=True).add_new(offset, vr, value)


@pytest.mark.parametrize(
    ("group", "creator", "offset", "vr", "pair"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", (50, 800)),
        (0x0019, "SIEMENS MR HEADER", 0x0C, "UN", (b"50", b"800 ")),
        (0x0019, "SIEMENS MR HEADER", 0x0E, "FD", ([0.0, 0.0, 1.0], [0.0, 1.0, 0.0])),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", (50.0, 800.0)),
        (0x2001, "Philips Imaging DD 001", 0x03, "UN", (struct.pack("<f", 50), struct.pack("<f", 800))),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", ([1000000050, 8, 0, 0], [1000000800, 8, 0, 0])),
    ],
)
def test_vendors_write_the_diffusion_weighting_in_private(
    tmp_path: Path, group: int, creator: str, offset: int, vr: str, pair: tuple[Any, Any]
) -> None:
    both = []
    for n in range(2):
        one = stack(count=COUNT, add_hu=LATER_HU * n)
        for dataset in one:
            private(dataset, group, creator, offset, vr, pair[n])
        both += one
    write(tmp_path, both)

    assert_two(tmp_path)
    if offset != 0x0E:
        assert [one.instances[0].b_value for one in read_study(tmp_path).series] == ["50", "800"]


def test_a_private_tag_of_another_maker_says_nothing(tmp_path: Path) -> None:
    for n in range(2):
        one = plane(positions(1)[0], add_hu=LATER_HU * n)
        private(one, 0x0019, "SOMEBODY ELSE", 0x0C, "IS", 50 + n)
        save(tmp_path / f"{n}.dcm", one)

    assert [h.b_value for s in read_study(tmp_path).series for h in s.instances] == ["", ""]


def test_trigger_times_that_drift_from_slice_to_slice_are_ranked(tmp_path: Path) -> None:
    both = [
        plane(at, add_hu=LATER_HU * n, TriggerTime=round(15 + 400 * n + 3.7 * k, 1))
        for k, at in enumerate(positions(COUNT))
        for n in range(2)
    ]
    write(tmp_path, both)

    assert_two(tmp_path)


def test_echoes_within_time_points_are_split_twice(tmp_path: Path) -> None:
    slices = [
        plane(at, add_hu=100 * (2 * n + e), TemporalPositionIdentifier=n, EchoTime=2 + 3 * e)
        for at in positions(COUNT)
        for n in range(3)
        for e in range(2)
    ]
    write(tmp_path, slices)

    found = read_study(tmp_path).series

    assert [one.n_instances for one in found] == [COUNT] * 6
    told = [(one.instances[0].time_point, float(one.instances[0].echo)) for one in found]
    assert told == [(str(n), 2 + 3 * e) for n in range(3) for e in range(2)]


def test_a_time_point_with_a_slice_missing_does_not_spoil_the_other(tmp_path: Path) -> None:
    both = scans(EchoTime=(4.6, 12.3))
    victim = next(d for d in both if d.EchoTime == 12.3 and d.ImagePositionPatient[2] == positions(COUNT)[2][2])
    write(tmp_path, [d for d in both if d is not victim])

    first, second = read_study(tmp_path).series

    assert error_mm(image(first))[1] < 0.05
    with pytest.raises(SeriesError, match=r"about 1 slice\(s\) of 5 are missing"):
        second.read()


def test_scans_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    write(tmp_path, scans(InstanceNumber=(1, 1)))

    (one,) = read_study(tmp_path).series

    with pytest.raises(SeriesError, match="2 images with different pixels lie at") as refused:
        one.read()
    assert refused.value.reason == "duplicate-position"


def test_a_tag_that_splits_no_whole_scans_is_not_believed(tmp_path: Path) -> None:
    """Acquisition numbers of an interleaved scan change in the middle: the stack must not be torn."""
    slices = [
        plane(at, AcquisitionNumber=1 + k % 2, AcquisitionTime=f"1015{k:02d}") for k, at in enumerate(positions(6))
    ]
    write(tmp_path, slices)

    assert [one.n_instances for one in read_study(tmp_path).series] == [6]


def test_frames_of_reference_spacings_and_planes_are_never_mixed(tmp_path: Path) -> None:
    slices = stack(count=4)
    slices += stack(count=3, FrameOfReferenceUID="1.2.3.4")
    slices += stack(count=2, spacing=(0.7, 0.8))
    slices += stack(CORONAL, count=2)
    write(tmp_path, slices)

    assert [one.n_instances for one in read_study(tmp_path).series] == [4, 3, 2, 2]


def test_a_part_keeps_its_number_whatever_the_order_of_files(tmp_path: Path) -> None:
    both = scans(AcquisitionNumber=(1, 2))
    for n, one in enumerate(both):
        save(tmp_path / "a" / f"{n:02d}", one)
        save(tmp_path / "b" / f"{99 - n}", one)

    a, b = read_study(tmp_path / "a").series, read_study(tmp_path / "b").series

    assert [[h.sop_uid for h in s.instances] for s in a] == [[h.sop_uid for h in s.instances] for s in b]


def test_places_are_grouped_as_by_comparing_all_with_all() -> None:
    rng = np.random.default_rng(11)
    for trial in range(60):
        at = rng.uniform(-3, 3, (12, 3)) * (trial % 3 != 0, 1, 1)
        again = at[rng.integers(0, 12, trial % 5)]
        found = np.concatenate([at, again + rng.uniform(-0.004, 0.004, again.shape)])
        groups = same_place(found)

        near = np.linalg.norm(found[:, None] - found[None], axis=-1) < SAME_PLACE_MM
        assert sorted(n for group in groups for n in group) == list(range(len(found)))
        assert all(near[a, b] == any(a in g and b in g for g in groups) for a, b in np.ndindex(near.shape))
    assert same_place(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])) == [[0, 1]]
