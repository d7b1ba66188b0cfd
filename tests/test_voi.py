"""Windows and VOI tables do what PS3.3 C.11.2 says, value by value, and a made-up window is named as such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from linear_field import stack, write
from pydicom.dataset import Dataset
from written_dicom import film
from written_dicom import write as write_one

from volumes.study import read_study
from volumes.voi import Table, Window, apply_voi, named, percentile_window, voi_of
from volumes.volume import Film, Volume, VolumeError


def grays(window: Window | Table, *values: float) -> list[float]:
    return [round(float(v), 6) for v in window.apply(np.array(values, np.float32))]


def test_linear_is_the_formula_of_the_standard() -> None:
    # C.11.2.1.2.1, note 1: c = 2048, w = 4096 becomes ((x - 2047.5) / 4095 + 0.5): 0 -> 0, 4095 -> 1
    assert grays(Window(2048, 4096), 0, 4095, -1, 4096) == [0, 1, 0, 1]
    # note: c = 2048, w = 1 is a threshold: at most 2047.5 is black
    assert grays(Window(2048, 1), 2047.5, 2047.6) == [0, 1]
    # c = 0, w = 100: ((x + 0.5) / 99 + 0.5)
    assert grays(Window(0, 100), -50, 49, -0.5, 24.25) == [0, 1, 0.5, 0.75]
    # c = 40, w = 400: black up to 40 - 0.5 - 199.5 = -160, white above 239
    assert grays(Window(40, 400), -160, 239, 39.5) == [0, 1, 0.5]


def test_linear_exact_and_sigmoid_differ_by_half_a_value() -> None:
    assert grays(Window(0, 100, "LINEAR_EXACT"), -50, 0, 25, 50) == [0, 0.5, 0.75, 1]
    assert grays(Window(0.25, 0.5, "LINEAR_EXACT"), 0, 0.25, 0.5) == [0, 0.5, 1]
    assert grays(Window(10, 20, "SIGMOID"), 10, 15, 5) == [
        0.5,
        round(1 / (1 + np.exp(-1)), 6),
        round(1 / (1 + np.exp(1)), 6),
    ]


@pytest.mark.parametrize(
    ("center", "width", "function", "told"),
    [
        (40, 0, "LINEAR", "a LINEAR width at least 1"),
        (40, 0.5, "LINEAR", "center 40, width 0.5"),
        (40, 0, "LINEAR_EXACT", "width above 0"),
        (float("nan"), 400, "LINEAR", "finite"),
        (40, 400, "CUBIC", "VOI LUT Function 'CUBIC'; expected LINEAR, LINEAR_EXACT, SIGMOID"),
    ],
)
def test_windows_that_make_no_sense_are_refused(center: float, width: float, function: str, told: str) -> None:
    with pytest.raises(VolumeError, match=told):
        Window(center, width, function)  # type: ignore[arg-type]


def test_a_table_maps_from_its_first_value_and_holds_its_ends() -> None:
    item, dataset = Dataset(), Dataset()
    item.LUTDescriptor, item.LUTData, item.LUTExplanation = [4, 10, 12], [0, 819, 2457, 4095], "BONE"
    dataset.VOILUTSequence, dataset.PixelRepresentation = [item], 0
    dataset.WindowCenter, dataset.WindowWidth = [40, -600], [400, 1500]
    dataset.WindowCenterWidthExplanation = ["SOFT", "LUNG"]

    table, soft, lung = voi_of(dataset)

    assert grays(table, -5, 10, 11, 12.4, 13, 999) == [0, 0, 0.2, 0.6, 1, 1]
    assert (soft, lung) == (Window(40, 400, "LINEAR", "SOFT"), Window(-600, 1500, "LINEAR", "LUNG"))
    assert named([table, soft, lung], "LUNG") is lung
    assert named([table, soft, lung], 1) is soft
    with pytest.raises(
        VolumeError, match=r"'LIVER' is not one of those offered: 0: VOI table of 4.*BONE.*2: window -600"
    ):
        named([table, soft, lung], "LIVER")


def test_a_table_of_signed_values_and_of_65536_entries() -> None:
    item, dataset = Dataset(), Dataset()
    item.LUTDescriptor = [0, 65536 - 1000, 16]  # 0 means 65536; the first value was written as unsigned
    item.LUTData = np.arange(65536, dtype="<u2").tobytes()
    dataset.VOILUTSequence, dataset.PixelRepresentation = [item], 1

    (table,) = voi_of(dataset)

    assert (len(table.grays), table.first) == (65536, -1000)
    assert grays(table, -1000, 64535, 31767.0) == [0, 1, round(32767 / 65535, 6)]


def test_frames_offer_the_windows_that_they_ask_for() -> None:
    def frame(center: float, width: float) -> Dataset:
        item, holder = Dataset(), Dataset()
        item.WindowCenter, item.WindowWidth = center, width
        holder.FrameVOILUTSequence = [item]
        return holder

    dataset = Dataset()
    dataset.PerFrameFunctionalGroupsSequence = [frame(40, 400), frame(40, 400), frame(50, 300)]
    assert voi_of(dataset) == (Window(40, 400), Window(50, 300))
    dataset.SharedFunctionalGroupsSequence = [frame(10, 80)]
    assert voi_of(dataset) == (Window(10, 80),)
    dataset.WindowCenter, dataset.WindowWidth = 1, 2
    assert voi_of(dataset) == (Window(1, 2),)
    assert voi_of(Dataset()) == ()


def test_damaged_tables_and_windows_are_refused() -> None:
    item, dataset = Dataset(), Dataset()
    item.LUTDescriptor, item.LUTData = [400, 0, 12], [1, 2, 3]
    dataset.VOILUTSequence = [item]
    with pytest.raises(VolumeError, match="3 entries of 12 bits; its descriptor states 400"):
        voi_of(dataset)
    crooked = Dataset()
    crooked.WindowCenter, crooked.WindowWidth = [40, 50], 400
    with pytest.raises(VolumeError, match="2 window centers and 1 window widths"):
        voi_of(crooked)


def test_a_volume_goes_through_a_window_once_and_says_which(tmp_path: Path) -> None:
    tags = {"WindowCenter": [40, -600], "WindowWidth": [400, 1500], "VOILUTFunction": "LINEAR_EXACT"}
    write(tmp_path, stack(count=4, **tags))
    series = read_study(tmp_path).main_series()
    volume = series.read()
    assert isinstance(volume, Volume)
    from volumes.planes import open_image

    offered = voi_of(open_image(series.instances[0]))
    seen = apply_voi(volume, offered, 1)

    assert seen.unit == "1"
    assert "gray by window -600 / 1500 (LINEAR_EXACT)" in seen.notes
    assert torch.allclose(seen.voxels, ((volume.voxels + 600) / 1500 + 0.5).clamp(0, 1), atol=1e-6)
    with pytest.raises(VolumeError, match="went through a window already"):
        apply_voi(seen)


def test_without_a_window_percentiles_are_taken_and_recorded(tmp_path: Path) -> None:
    write_one(tmp_path / "a.dcm", film())
    image = read_study(tmp_path).main_series().read()
    assert isinstance(image, Film)

    seen = apply_voi(image)
    low, high = np.percentile(image.pixels.numpy(), (0.5, 99.5))

    assert any("percentiles 0.5 to 99.5: the file offers no window" in note for note in seen.notes)
    assert seen.pixels.min() == 0
    assert seen.pixels.max() == 1
    middle = (image.pixels - float(low + high) / 2).abs().argmin()
    assert float(seen.pixels.flatten()[middle]) == pytest.approx(0.5, abs=0.02)
    assert percentile_window(np.full((3, 3), 7.0, np.float32)).width == 1


def test_the_window_of_a_film_that_was_inverted_is_not_used_on_the_inverted_values(tmp_path: Path) -> None:
    write_one(tmp_path / "a.dcm", film(PhotometricInterpretation="MONOCHROME1"))
    image = read_study(tmp_path).main_series().read()
    assert isinstance(image, Film)

    with pytest.raises(VolumeError, match="speak of its values before that"):
        apply_voi(image, [Window(1000, 500)])
    assert apply_voi(image).unit == "1"
