"""Stored numbers become the values that the file means: tables, signs, odd bits, floats, padding, inversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_field import Image, error_mm, plane, positions, rotated, stack, write
from pydicom.dataset import Dataset

from volumes.study import read_study
from volumes.volume import SeriesError, Volume


def read(folder: Path) -> Volume:
    volume = read_study(folder).main_series().read()
    assert isinstance(volume, Volume)
    return volume


def image(volume: Volume) -> Image:
    return volume.voxels.numpy(), volume.affine.numpy()


def changed(count: int = 3, **tags: Any) -> list[Dataset]:
    return stack(count=count, **tags)


def test_a_modality_table_replaces_slope_and_intercept(tmp_path: Path) -> None:
    slices = changed()
    for one in slices:
        stored = np.frombuffer(one.PixelData, np.uint16)
        low, entries = int(stored.min()), int(np.ptp(stored)) + 1
        table = Dataset()  # entry n: the value of stored low + n, in whole units of 0.25 HU
        table.LUTDescriptor, table.ModalityLUTType = [entries, low, 16], "US"
        table.LUTData = np.arange(low, low + entries, dtype=np.uint16)[::-1].tobytes()
        one.ModalityLUTSequence = [table]
        del one.RescaleSlope, one.RescaleIntercept
    write(tmp_path, slices)
    volume = read(tmp_path)
    first = np.frombuffer(slices[0].PixelData, np.uint16).reshape(volume.shape[1:]).astype(np.float32)

    assert np.array_equal(volume.voxels[0].numpy(), first.min() + first.max() - first)
    assert volume.unit == "raw"


def test_float_pixels_are_read_as_they_are(tmp_path: Path) -> None:
    slices = changed(4)
    for one in slices:
        stored = np.frombuffer(one.PixelData, np.uint16)
        values = stored.astype(np.float32) * 0.25 - 1024
        del one.PixelData, one.PixelRepresentation, one.BitsStored, one.HighBit
        one.BitsAllocated, one.RescaleSlope, one.RescaleIntercept = 32, 1, 0
        one.FloatPixelData = values.tobytes()
    write(tmp_path, slices)

    assert error_mm(image(read(tmp_path)))[1] < 0.05


def test_a_high_bit_that_no_standard_allows_is_refused(tmp_path: Path) -> None:
    write(tmp_path, changed(BitsStored=12, HighBit=15))

    with pytest.raises(SeriesError, match=r"HighBit is 15 with 12 bits stored; expected 11") as refused:
        read(tmp_path)
    assert refused.value.reason == "bad-description"


@pytest.mark.parametrize(
    ("tags", "expected"), [({}, 7), ({"PixelPaddingRangeLimit": 12}, 16), ({"PixelPaddingRangeLimit": 1}, 10)]
)
def test_padding_is_counted_and_told(tmp_path: Path, tags: dict[str, int], expected: int) -> None:
    slices = changed(2, intercept=-3000.0)
    stored = np.frombuffer(slices[0].PixelData, np.uint16).copy()
    assert stored.min() > 100
    stored[:7], stored[7:16], stored[16:19] = 5, 9, 3  # value, within 5..12, within 1..5
    slices[0].PixelData = stored.tobytes()
    for one in slices:
        one.PixelPaddingValue = 5
        for name, value in tags.items():
            setattr(one, name, value)
    write(tmp_path, slices)

    assert any(f"{expected} voxels hold PixelPaddingValue" in note for note in read(tmp_path).notes)


def test_a_ct_that_asks_for_a_dark_display_keeps_its_hu(tmp_path: Path) -> None:
    write(tmp_path, changed(PhotometricInterpretation="MONOCHROME1"))
    volume = read(tmp_path)

    assert error_mm(image(volume))[1] < 0.05
    assert any("MONOCHROME1 asks for a dark display" in note and "not inverted" in note for note in volume.notes)


def test_slices_of_two_units_are_not_mixed(tmp_path: Path) -> None:
    slices = changed(3)
    slices[1].RescaleType = "US"
    write(tmp_path, slices)

    with pytest.raises(SeriesError, match="slices carry different units: HU, raw"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("position", "orientation", "letters"),
    [
        ("HFS", (1, 0, 0, 0, 1, 0), "SPL"),
        ("HFP", (-1, 0, 0, 0, -1, 0), "SAR"),
        ("HFDR", (0, 1, 0, -1, 0, 0), "SRP"),
        ("HFDL", (0, -1, 0, 1, 0, 0), "SLA"),
        ("FFS", (-1, 0, 0, 0, 1, 0), "IPR"),
        ("FFP", (1, 0, 0, 0, -1, 0), "IAL"),
        ("FFDR", (0, -1, 0, -1, 0, 0), "IRA"),
        ("FFDL", (0, 1, 0, 1, 0, 0), "ILP"),
    ],
)
def test_every_way_of_lying_in_the_scanner(
    tmp_path: Path, position: str, orientation: tuple[float, ...], letters: str
) -> None:
    write(tmp_path, stack(orientation, count=4, PatientPosition=position))
    volume = read(tmp_path)

    assert volume.orientation == letters
    assert error_mm(image(volume))[1] < 0.05


def test_positions_rounded_to_a_tenth_of_a_micron_and_cosines_to_four_digits(tmp_path: Path) -> None:
    turn = rotated(33, -12, 71)
    slices = []
    for at in positions(5, turn):
        one = plane(at, turn)
        one.ImagePositionPatient = [round(float(v), 4) for v in at]
        one.ImageOrientationPatient = [round(float(v), 4) for v in turn]
        slices.append(one)
    write(tmp_path, slices)

    assert error_mm(image(read(tmp_path)))[1] < 0.05
