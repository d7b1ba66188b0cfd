"""Ultrasound, palettes and cine runs: one frame, named, in gray, with a spacing only where a region states one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_field import stack
from linear_field import write as write_series
from pydicom.dataset import Dataset
from written_dicom import film, image, write

from volumes.study import Series, read_study
from volumes.volume import Film, SeriesError, StudyError

US, US_CINE, XA = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.12.1"
GRAY = (np.arange(42).reshape(6, 7) * 5 + 3).astype(np.uint8)


def region(delta_mm: tuple[float, float] = (0.3, 0.2), units: int = 3, kind: int = 1) -> Dataset:
    one = Dataset()
    one.PhysicalDeltaY, one.PhysicalDeltaX = delta_mm[0] / 10, delta_mm[1] / 10
    one.PhysicalUnitsXDirection = one.PhysicalUnitsYDirection = units
    one.RegionSpatialFormat = kind
    return one


def picture(pixels: np.ndarray, sop_class: str = US, modality: str = "US", **tags: Any) -> Dataset:
    """8-bit pixels (rows, columns), (rows, columns, 3) or (frames, rows, columns)."""
    plane = pixels[0] if sop_class in (US_CINE, XA) else pixels
    dataset = image(np.zeros(plane.shape[:2], np.uint16), sop_class, modality)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    if pixels.ndim > plane.ndim:
        dataset.NumberOfFrames = len(pixels)
    if plane.ndim == 3:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def only(path: Path) -> Series:
    (one,) = read_study(path).series
    return one


def read(path: Path, frame: int | None = None) -> Film:
    found = only(path).read(frame)
    assert isinstance(found, Film)
    return found


def test_a_calibrated_image_has_the_spacing_of_its_region(tmp_path: Path) -> None:
    seen = read(write(tmp_path / "a", picture(GRAY, SequenceOfUltrasoundRegions=[region()])))

    assert seen.spacing_mm == pytest.approx((0.3, 0.2))
    assert np.array_equal(seen.pixels.numpy(), GRAY)
    assert any("inside the calibrated ultrasound region only" in note for note in seen.notes)
    assert any("measure no attenuation" in note for note in seen.notes)


@pytest.mark.parametrize(
    ("regions", "told"),
    [
        ([region(), region((0.6, 0.2))], "2 ultrasound regions of different scale"),
        ([region(units=4)], "no calibrated ultrasound region"),  # seconds: a Doppler trace
        ([region(kind=3)], "no calibrated ultrasound region"),  # a spectrum
        ([], "no calibrated ultrasound region"),
    ],
)
def test_otherwise_lengths_are_unknown(tmp_path: Path, regions: list[Dataset], told: str) -> None:
    seen = read(write(tmp_path / "a", picture(GRAY, SequenceOfUltrasoundRegions=regions)))

    assert seen.spacing_mm is None
    assert any(told in note for note in seen.notes)


def test_colour_becomes_luminance_and_its_share_is_told(tmp_path: Path) -> None:
    rgb = np.repeat(GRAY[..., None], 3, axis=-1)
    rgb[:2] = (200, 10, 30)
    seen = read(write(tmp_path / "a", picture(rgb)))

    assert np.allclose(seen.pixels[2:].numpy(), GRAY[2:], atol=1e-3)
    assert np.allclose(seen.pixels[:2].numpy(), 0.299 * 200 + 0.587 * 10 + 0.114 * 30, atol=1e-3)
    assert any("33.3 % of it was in colour" in note for note in seen.notes)


def test_a_palette_is_looked_up_and_not_read_as_gray(tmp_path: Path) -> None:
    index = (np.arange(42).reshape(6, 7) % 4).astype(np.uint8)
    table = np.array([7, 3, 250, 90], np.uint16)  # an order that the indices do not have
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = (table * 257).tobytes()
    seen = read(write(tmp_path / "a", picture(index, **tags)))

    assert np.allclose(seen.pixels.numpy(), table[index] * 257.0, atol=0.1)
    assert "palette colours looked up" in seen.notes
    broken = picture(index, PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(SeriesError, match="the palette cannot be applied"):
        read(write(tmp_path / "b", broken))


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "MONOCHROME2"),
    ],
)
def test_a_picture_filed_as_ct_is_no_volume(tmp_path: Path, tags: dict[str, str], told: str) -> None:
    write_series(tmp_path, stack(count=4) + stack(count=1, SeriesInstanceUID="1.2.3", **tags))
    study = read_study(tmp_path)
    (capture,) = (s for s in study.series if s.series_uid == "1.2.3")

    assert study.main_series().n_instances == 4
    assert capture.kind == "other"
    with pytest.raises(
        SeriesError, match=rf"a picture of a result or of a screen \({told}\), not a measured"
    ) as refused:
        capture.read()
    assert refused.value.reason == "capture"


def test_one_slice_in_colour_refuses_the_stack(tmp_path: Path) -> None:
    slices = stack(count=3)
    slices[1].PhotometricInterpretation = "PALETTE COLOR"
    write_series(tmp_path, slices)

    with pytest.raises(SeriesError, match=r"in colour \(PALETTE COLOR\): a picture of a result") as refused:
        read_study(tmp_path).series[0].read()
    assert refused.value.reason == "colour"


def test_a_stack_has_no_frames_to_name(tmp_path: Path) -> None:
    write_series(tmp_path, stack(count=3))

    with pytest.raises(SeriesError, match=r"holds no frames that can be read by number; read\(\) gives all of it"):
        read_study(tmp_path).series[0].read(frame=0)


@pytest.mark.parametrize(("sop_class", "modality"), [(US_CINE, "US"), (XA, "XA")])
def test_a_cine_run_gives_the_frame_that_is_named(tmp_path: Path, sop_class: str, modality: str) -> None:
    run = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1]])
    path = write(tmp_path / "a", picture(run, sop_class, modality))

    with pytest.raises(SeriesError, match=r"3 frames; a film has one\. Name one of them, from 0 to 2, with read") as no:
        only(path).read()
    assert no.value.reason == "multi-frame"
    assert only(path).n_frames == 3
    for n in range(3):
        seen = read(path, n)
        assert np.array_equal(seen.pixels.numpy(), run[n])
        assert f"frame {n} of 3 (numbered from 0)" in seen.notes
    with pytest.raises(SeriesError, match="frame 3 was asked for; the file holds 3, numbered from 0"):
        only(path).read(3)


def test_ultrasound_is_never_the_main_image_unless_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", picture(GRAY, SeriesInstanceUID="1.2.826.0.1.9.1.5"))
    alone = read_study(tmp_path)
    assert (alone.series[0].kind, alone.films()) == ("ultrasound", [])
    with pytest.raises(StudyError, match="holds no image to read"):
        alone.main_series()
    write(tmp_path / "b.dcm", film())
    both = read_study(tmp_path)

    assert both.main_series().modality == "DX"
    assert both.main_series("US").modality == "US"
    assert both.main_series(series_uid="1.2.826.0.1.9.1.5").modality == "US"


def test_the_images_of_an_ultrasound_series_are_one_by_one_and_no_repair(tmp_path: Path) -> None:
    for n in (2, 1):
        write(tmp_path / f"{n}.dcm", picture(GRAY // n, InstanceNumber=n))

    study = read_study(tmp_path)

    assert [one.instances[0].instance_number for one in study.series] == [1, 2]
    assert study.refusals == ()


def test_real_ultrasound_is_read_in_gray(real_data: Path) -> None:
    folder = real_data / "dicom_odd" / "transfer_syntax"
    for name in ("US1_J2KR", "gdcm-US-RGB-8-epicard.dcm"):
        seen = read(folder / name)
        assert seen.shape == (480, 640)
        assert 0 <= float(seen.pixels.min()) < float(seen.pixels.max()) <= 255
        assert seen.spacing_mm is None
