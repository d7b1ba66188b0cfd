"""MetaImage: what ITK writes is read at the same place; the rest of the format is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from volumes.metaimage import read_metaimage
from volumes.study import read_study
from volumes.volume import SeriesError

DIRECTION = (0.8, -0.6, 0.0, 0.48, 0.64, -0.6, 0.36, 0.48, 0.8)


def image(kind: str = "int16") -> SimpleITK.Image:
    values = (np.random.default_rng(3).normal(0, 300, (4, 5, 7))).astype(kind)
    made = SimpleITK.GetImageFromArray(values)
    made.SetSpacing((0.7, 0.9, 2.5))
    made.SetOrigin((-61.25, 27.5, 113.75))
    made.SetDirection(DIRECTION)
    return made


def written(path: Path, made: SimpleITK.Image, compressed: bool = False) -> Path:
    SimpleITK.WriteImage(made, str(path), useCompression=compressed)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_a_metaimage_lies_where_itk_put_it(tmp_path: Path, kind: str, compressed: bool) -> None:
    made = image(kind)

    volume = read_metaimage(written(tmp_path / "a.mha", made, compressed), "HU")

    assert (volume.unit, volume.notes, volume.shape) == ("HU", (), (4, 5, 7))
    assert np.array_equal(volume.voxels.numpy(), SimpleITK.GetArrayFromImage(made).astype(np.float32))
    for index in ((0, 0, 0), (3, 4, 6), (2, 0, 5)):
        point = made.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])
        assert volume.index_to_mm(index).tolist() == pytest.approx(point, abs=1e-6)


def test_a_study_holds_it_with_the_callers_unit(tmp_path: Path) -> None:
    study = read_study(written(tmp_path / "a.mha", image()), unit="HU", modality="CT")

    volume = study.main_series(modality="CT").read()

    assert (volume.unit, study.series[0].format, volume.source.modality) == ("HU", "metaimage", "CT")


def edited(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert old in data
    changed = path.with_name("edited.mha")
    changed.write_bytes(data.replace(old, new, 1))
    return changed


def test_big_endian_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mha", image())
    head, mark, body = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
    swapped = np.frombuffer(body, "<i2").astype(">i2").tobytes()
    path.write_bytes(head.replace(b"ByteOrderMSB = False", b"ByteOrderMSB = True") + mark + swapped)

    volume = read_metaimage(path)

    assert np.array_equal(volume.voxels.numpy(), SimpleITK.GetArrayFromImage(image()).astype(np.float32))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"= LOCAL", b"= a.raw", "names a detached data file"),
        (b"ElementDataFile", b"Nothing", "has no line 'ElementDataFile = LOCAL'"),
        (b"NDims = 3", b"NDims = 4", r"NDims '4' and DimSize '7 5 4'; expected three positive sizes"),
        (b"MET_SHORT", b"MET_LONG", "ElementType 'MET_LONG'"),
        (b"DimSize = 7 5 4", b"DimSize = 7 5 5", "holds 280 bytes of voxels; expected 350"),
        (b"DimSize = 7 5 4", b"DimSize = 99999 99999 99999", "at most 4294967296 are read"),
        (b"Offset = ", b"Nothing = ", "does not say how it lies in the patient"),
        (b"ElementSpacing = 0.", b"ElementSpacing = -0.", "does not say how it lies in the patient"),
        (b"TransformMatrix = 0.8", b"TransformMatrix = nan", "does not say how it lies in the patient"),
    ],
)
def test_the_rest_is_refused_by_name(tmp_path: Path, old: bytes, new: bytes, why: str) -> None:
    with pytest.raises(SeriesError, match=why):
        read_metaimage(edited(written(tmp_path / "a.mha", image()), old, new))


@pytest.mark.parametrize("cut", [1, 6, 60])
def test_a_compressed_file_that_ends_early_is_refused(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path / "a.mha", image(), compressed=True)
    path.write_bytes(path.read_bytes()[:-cut])

    with pytest.raises(SeriesError, match=r"truncated|holds"):
        read_metaimage(path)


def test_letters_that_contradict_the_matrix_are_noted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mha", image())

    volume = read_metaimage(edited(path, b"AnatomicalOrientation = ", b"AnatomicalOrientation = LPI\nX = "))

    assert volume.notes == ("AnatomicalOrientation LPI contradicts the TransformMatrix, which was followed (as ITK)",)
