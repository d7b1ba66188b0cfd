"""Burned-in text is found and blanked; anatomy is not."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pydicom
import pytest
from deidentified import film, outputs, run, study_tags, write_key
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from written_dicom import CT_STORAGE, image, write

from volumes.archive import locations, read_bytes
from volumes.deidentify import Options, deidentify
from volumes.deidentify_codestream import strip_comments
from volumes.deidentify_pixels import find_lettering
from volumes.deidentify_profile import Profile
from volumes.pixels import decode
from volumes.volume import VolumeError

DATA = Path(__file__).parents[2] / "shared/data"
FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"real data are not at {DATA}")
needs_tesseract = pytest.mark.skipif(not shutil.which("tesseract"), reason="the program tesseract is not installed")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path)


def tissue(shape: tuple[int, int], seed: int = 3, top: int = 3000) -> NDArray[np.uint16]:
    """Smooth shapes, thin bright lines like ribs and vessels, and noise: what must be left alone."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(float)
    field = 0.5 + 0.3 * np.sin(rows / 37 + seed) * np.cos(columns / 29)
    for _ in range(12):
        slope, place, thick = draw.uniform(-0.6, 0.6), draw.uniform(0, shape[0]), draw.uniform(1.5, 5)
        field += 0.25 * np.exp(-(((rows - place - slope * columns - 9 * np.sin(columns / 40)) / thick) ** 2))
    return np.clip(top * 0.6 * field + draw.normal(0, top / 90, shape), 0, 0.95 * top).astype(np.uint16)


def lettered(
    pixels: NDArray[Any], words: str, at: tuple[int, int], size: int, value: int | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pixels with words drawn in one value, with soft edges; and where the ink is."""
    layer = Image.new("L", pixels.shape[::-1], 0)
    ImageDraw.Draw(layer).text((at[1], at[0]), words, fill=255, font=ImageFont.truetype(str(FONT), size))
    ink = np.asarray(layer) / 255.0
    drawn = pixels * (1 - ink) + (int(pixels.max()) if value is None else value) * ink
    return drawn.astype(pixels.dtype), ink > 0.5


@pytest.mark.parametrize("size", [11, 14, 20, 32])
@pytest.mark.parametrize("value", [None, 0, 4095])
def test_lettering_of_many_sizes_is_found_whole(size: int, value: int | None) -> None:
    draw = random.Random(size)
    missed = 0.0
    for words in ("KOVACS^ANNA", "MRN 004217-8", "12.03.1967 F", "St. Ursula"):
        pixels = tissue((417, 389), draw.randrange(100))
        at = (draw.randrange(5, 370), draw.randrange(5, 150))
        drawn, ink = lettered(pixels, words, at, size, value)
        seen = ink & (
            np.abs(drawn.astype(int) - pixels) > 400
        )  # letters on tissue of their own brightness are not seen
        missed = max(missed, 1 - find_lettering(drawn).mask(drawn.shape)[seen].mean())
    assert missed < 0.02, f"{missed:.0%} of the ink of one line was not found"


def test_large_letters_on_a_large_film_are_found() -> None:
    drawn, ink = lettered(tissue((2200, 1800)), "KOVACS ANNA 1967", (90, 120), 110)
    assert find_lettering(drawn).mask(drawn.shape)[ink].mean() > 0.98


@pytest.mark.parametrize("seed", range(12))
def test_tissue_without_letters_is_left_alone(seed: int) -> None:
    pixels = tissue((417, 389), seed)
    assert find_lettering(pixels).boxes == ()
    assert find_lettering(np.clip(pixels, 700, 1500)).boxes == (), "clipped at both ends, as windows are"


@needs_data
@pytest.mark.slow
def test_no_slice_of_real_ct_mr_and_pet_loses_a_pixel() -> None:
    names = ("abdomen_ct_CRLM-CT-1004", "sarcoma_STS_002_ct_mr_pet_rtstruct", "breast_mr_UCSF-BR-06")
    looked, lost = 0, {}
    for name in names:
        found = [x for x in locations([DATA / "dicom_series" / f"{name}.zip"]) if isinstance(x, str)]
        for where in found[:: max(1, len(found) // 30)]:
            dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(read_bytes(where)), force=True)
            if "PixelData" not in dataset or dataset.Modality not in ("CT", "MR", "PT"):
                continue
            looked += 1
            boxes = find_lettering(decode(dataset)).boxes
            if boxes:
                lost[where.rpartition("!/")[2]] = boxes
    assert looked > 60
    assert lost == {}


@needs_data
@pytest.mark.slow
def test_lettering_on_real_films_is_found_and_most_films_stay_whole() -> None:
    """Every area that is found on these 120 films is a word that a radiographer put there (looked at one by one)."""
    fractions = []
    for path in sorted((DATA / "cxr/images").glob("nih*.jpg"))[:120]:
        with Image.open(path) as opened:
            picture = np.asarray(opened.convert("L"))
        fractions.append(find_lettering(picture).mask(picture.shape).mean())
    assert 0.05 < np.mean(np.array(fractions) > 0) < 0.3
    assert np.mean(fractions) < 0.004
    assert max(fractions) < 0.04


@needs_data
def test_the_name_in_a_real_file_is_blanked_and_the_rest_is_the_same(tmp_path: Path, key: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(DATA / "dicom_odd/deid_burned_in/2_ORIGINAL.dcm", tmp_path / "in/1.dcm")
    audit = run(tmp_path / "in", tmp_path / "out", key)
    (after,) = outputs(tmp_path / "out")
    before = pydicom.dcmread(tmp_path / "in/1.dcm")
    a, b = before.pixel_array, after.pixel_array
    assert after.BurnedInAnnotation == "NO"
    assert (a[:36, :240] == 32767).sum() > 300, "the letters are not where they were"
    assert (b[:36] == 32767).sum() == 0
    assert np.array_equal(a[40:], b[40:])
    assert audit.counts()["areas blanked"] >= 2


def test_text_in_a_compressed_film_is_blanked(tmp_path: Path, key: Path) -> None:
    dataset = film(tmp_path / "base.dcm", study_tags())
    drawn, ink = lettered(tissue((212, 190), top=4095), "KOVACS^ANNA 1967", (12, 9), 15)
    dataset.Rows, dataset.Columns = drawn.shape
    dataset.PixelData = drawn.tobytes()
    write(tmp_path / "in/1.dcm", dataset, "1.2.840.10008.1.2.4.80")
    run(tmp_path / "in", tmp_path / "out", key)
    (after,) = outputs(tmp_path / "out")
    assert after.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    changed = after.pixel_array != drawn
    assert changed[ink].mean() > 0.98
    rows = np.flatnonzero(changed.any(axis=1))
    assert rows.max() < 60, "pixels far from the text were changed"


def test_ultrasound_keeps_its_regions_only(tmp_path: Path, key: Path) -> None:
    dataset = film(tmp_path / "base.dcm", study_tags())
    pixels = tissue((150, 118), top=4095)
    dataset.PixelData, dataset.Modality = pixels.tobytes(), "US"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 20, 31
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 99, 140
    dataset.SequenceOfUltrasoundRegions = Sequence([region])
    write(tmp_path / "in/1.dcm", dataset)
    audit = run(tmp_path / "in", tmp_path / "out", key)
    (after,) = outputs(tmp_path / "out")
    assert np.array_equal(after.pixel_array[31:141, 20:100], pixels[31:141, 20:100])
    outside = after.pixel_array.copy()
    outside[31:141, 20:100] = 0
    assert len(np.unique(outside)) <= 2
    assert audit.records[0].pixels == "checked, blanked outside of regions"


def test_text_in_one_frame_of_many_is_blanked_in_all(tmp_path: Path, key: Path) -> None:
    frames = np.stack([tissue((160, 131), seed, 4095) for seed in range(5)])
    frames[3], ink = lettered(frames[3], "KOVACS^ANNA", (8, 6), 14, 4095)
    dataset = film(tmp_path / "base.dcm", study_tags())
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = 5, 160, 131
    dataset.PixelData = frames.tobytes()
    write(tmp_path / "in/1.dcm", dataset)
    run(tmp_path / "in", tmp_path / "out", key)
    (after,) = outputs(tmp_path / "out")
    assert (after.pixel_array[3] != frames[3])[ink].all()
    assert np.array_equal(after.pixel_array[:, 80:], frames[:, 80:])


def test_hidden_bits_and_bytes_after_the_pixels_are_cleared(tmp_path: Path, key: Path) -> None:
    dataset = film(tmp_path / "base.dcm", study_tags())
    pixels = dataset.pixel_array
    hidden = pixels | np.uint16(0x8000)  # an old overlay lies in the highest bit
    dataset.PixelData = hidden.tobytes() + b"KOVACS^ANNA 1967"
    write(tmp_path / "in/1.dcm", dataset)
    audit = run(tmp_path / "in", tmp_path / "out", key)
    (after,) = outputs(tmp_path / "out")
    assert after.PixelData == pixels.tobytes()
    assert "hidden bits or bytes removed" in audit.records[0].pixels


def test_comments_in_a_jpeg_stream_go_and_its_pixels_stay() -> None:
    dataset = image(tissue((64, 48), top=4000), CT_STORAGE, "CT")
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.compress("1.2.840.10008.1.2.4.80", generate_instance_uid=False)
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    note = b"KOVACS^ANNA"
    comment = b"\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note
    before = dataset.pixel_array
    dataset.PixelData = encapsulate([stream[:2] + comment + stream[2:].rstrip(b"\0") + note])
    assert note in dataset.PixelData
    assert strip_comments(dataset, 1) == 1
    assert note not in dataset.PixelData
    dataset._pixel_array = None
    assert np.array_equal(decode(dataset), before)
    assert strip_comments(dataset, 1) == 0


@needs_tesseract
@pytest.mark.slow
def test_with_ocr_a_screen_capture_leaves_without_its_words(tmp_path: Path, key: Path) -> None:
    pytest.importorskip("pytesseract", reason="the extra ocr is not installed")
    from volumes.deidentify_ocr import find_words

    drawn, ink = lettered(tissue((300, 420), top=4095), "Kovacs Anna 1967", (40, 60), 24, 4095)
    dataset = film(tmp_path / "base.dcm", study_tags())
    dataset.Rows, dataset.Columns, dataset.PixelData = 300, 420, drawn.tobytes()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    write(tmp_path / "in/1.dcm", dataset)
    assert find_words(drawn)
    deidentify([tmp_path / "in"], tmp_path / "out", Options(Profile(), key=key, ocr=True, workers=0))
    (after,) = outputs(tmp_path / "out")
    assert (after.pixel_array != drawn)[ink].mean() > 0.98
    assert find_words(after.pixel_array) == ()


def test_without_its_program_ocr_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pytesseract", None)
    with pytest.raises(VolumeError, match=r'pip install "medvlm-platform\[ocr\]"'):
        deidentify([tmp_path], tmp_path.parent / "out", Options(ocr=True))
