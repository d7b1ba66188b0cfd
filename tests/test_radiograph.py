"""Films: bright means more attenuation, inverted exactly once; spacing and view only where the file says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from written_dicom import film, write

from volumes.study import read_study
from volumes.transforms import FilmContract
from volumes.volume import Film, SeriesError, VolumeError

PIXELS = np.arange(30).reshape(6, 5) * 100 + 7


def read(path: Path) -> Film:
    image = read_study(path).main_series().read()
    assert isinstance(image, Film)
    return image


def test_monochrome2_is_kept_as_it_is(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.dcm", film()))

    assert np.array_equal(found.pixels.numpy(), PIXELS)
    assert (found.unit, found.view, found.spacing_mm) == ("raw", "PA", (0.2, 0.3))
    assert found.notes == ()


def test_monochrome1_is_inverted_exactly_once_within_its_stored_bits(tmp_path: Path) -> None:
    dataset = film(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")

    found = read(write(tmp_path / "a.dcm", dataset))

    assert np.array_equal(found.pixels.numpy(), 4095 - PIXELS)
    assert sum("MONOCHROME1 inverted once" in note for note in found.notes) == 1


def test_inversion_comes_after_the_rescale(tmp_path: Path) -> None:
    dataset = film(PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=-100)

    found = read(write(tmp_path / "a.dcm", dataset))

    assert np.allclose(found.pixels.numpy(), (-100 + 4095 * 2 - 100) - (PIXELS * 2 - 100))


def test_contradicting_tags_are_noted_not_obeyed(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.dcm", film(PresentationLUTShape="INVERSE", PixelIntensityRelationshipSign=1)))

    assert np.array_equal(found.pixels.numpy(), PIXELS)
    assert any("INVERSE contradicts MONOCHROME2" in note for note in found.notes)
    assert any("PixelIntensityRelationshipSign 1" in note for note in found.notes)


@pytest.mark.parametrize(
    ("tags", "spacing", "told"),
    [
        ({"PixelSpacing": [0.15, 0.15]}, (0.2, 0.3), "the detector's is kept"),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.1, 0.2]}, (0.1, 0.2), "taken as spacing at the detector"),
        ({"ImagerPixelSpacing": None}, None, "no pixel spacing"),
    ],
)
def test_spacing_is_the_detectors_or_unknown(tmp_path: Path, tags: dict[str, Any], spacing: Any, told: str) -> None:
    found = read(write(tmp_path / "a.dcm", film(**tags)))

    assert found.spacing_mm == spacing
    assert any(told in note for note in found.notes)


@pytest.mark.parametrize(
    ("position", "orientation", "view"),
    [("AP", None, "AP"), ("LL", None, "LATERAL"), ("", ["A", "F"], "LATERAL"), ("", ["L", "F"], "unknown")],
)
def test_the_view_is_what_the_tags_say(tmp_path: Path, position: str, orientation: Any, view: str) -> None:
    dataset = film(ViewPosition=position)
    if orientation:
        dataset.PatientOrientation = orientation

    assert read_study(write(tmp_path / "a.dcm", dataset)).series[0].view == view
    assert read(tmp_path / "a.dcm").view == view


def test_a_mirrored_film_is_read_but_not_taken_into_a_contract(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.dcm", film(PatientOrientation=["R", "F"])))

    with pytest.raises(VolumeError, match=r"PatientOrientation R/F says that image left is the patient's left"):
        FilmContract(size=8)(found)


def test_padding_becomes_the_darkest_value_of_the_film(tmp_path: Path) -> None:
    dataset = film(PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=7)

    found = read(write(tmp_path / "a.dcm", dataset))

    assert float(found.pixels[0, 0]) == float(found.pixels.min()) == 4095 - PIXELS.max()
    assert any("1 padding pixels" in note for note in found.notes)


def test_a_cine_run_is_refused(tmp_path: Path) -> None:
    dataset = film(NumberOfFrames=2)
    dataset.PixelData = dataset.PixelData * 2

    with pytest.raises(SeriesError, match="2 frames; a film has one"):
        read(write(tmp_path / "a.dcm", dataset))


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint8, 8), (np.uint16, 2000)])
def test_gray_pictures_of_8_and_16_bits_keep_their_values(tmp_path: Path, dtype: Any, factor: int) -> None:
    pixels = (np.arange(30).reshape(6, 5) * factor).astype(dtype)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    found = read(tmp_path / "a.png")

    assert np.array_equal(found.pixels.numpy(), pixels)
    assert (found.spacing_mm, found.view, found.unit) == (None, "unknown", "raw")
    assert any("does not say whether it is a radiograph" in note for note in found.notes)


def test_colour_becomes_luminance_with_a_note(tmp_path: Path) -> None:
    rgb = np.zeros((6, 5, 3), np.uint8)
    rgb[..., 1] = 200
    Image.fromarray(rgb).save(tmp_path / "a.png")

    found = read(tmp_path / "a.png")

    assert float(found.pixels[0, 0]) == pytest.approx(0.587 * 200)
    assert any("luminance" in note for note in found.notes)


def test_a_damaged_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")

    with pytest.raises(SeriesError, match="the picture cannot be decoded"):
        read(tmp_path / "a.png")


def test_one_chest_film_with_and_without_its_header_is_one_image(real_data: Path) -> None:
    folder = real_data / "dicom_odd" / "transfer_syntax"

    with_meta, without = read(folder / "gdcm-CR-MONO1-10-chest.dcm"), read(folder / "CR-MONO1-10-chest")

    assert np.array_equal(with_meta.pixels.numpy(), without.pixels.numpy())
    corner, spine = with_meta.pixels[:20, :20].mean(), with_meta.pixels[300:400, 200:240].mean()
    assert float(spine) > float(corner)  # bone is brighter than air


def test_a_film_is_read_and_preprocessed_in_15_ms_of_processor_time(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (512, 512)).astype(np.uint16)
    path = write(tmp_path / "a.dcm", film(Rows=512, Columns=512, PixelData=pixels.tobytes()))
    contract, took = FilmContract(), []
    for _ in range(7):
        start = time.process_time()
        contract(read(path))
        took.append(time.process_time() - start)

    assert min(took) < 0.015, f"fastest of 7 took {min(took) * 1000:.1f} ms"
