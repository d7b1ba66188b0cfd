"""Siemens mosaics are taken apart where their private header says how, in the order it says, else refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from linear_field import Image, error_mm, normal_of, plane, rotated, save
from pydicom.dataset import Dataset
from witness import assert_same_place, dcm2niix, needs_dcm2niix

from volumes.study import read_study
from volumes.volume import SeriesError, Volume

TURN = rotated(12, -8, 20)
TILE, SPACING, STEP = (20, 28), (1.1, 0.7), 2.6  # rows, columns; mm
COUNT = 7  # of nine tiles
FIRST = np.array([-20.0, 31.0, 12.5])


def csa(**elements: tuple[object, ...]) -> bytes:
    """A CSA header of the second kind (SV10) with text items, as Siemens writes it."""
    out = b"SV10\4\3\2\1" + struct.pack("<2I", len(elements), 77)
    for name, items in elements.items():
        texts = [f"{item}".encode() + b"\0" for item in items]
        out += struct.pack("<64si4s3i", name.encode(), len(texts), b"FD\0\0", 4, len(texts), 77)
        for one in texts:
            out += struct.pack("<4i", len(one), len(one), 77, len(one)) + one + bytes(-len(one) % 4)
    return out


def protocol(backwards: bool, step: float = STEP) -> bytes:
    """The part of a scan protocol that places the slices: their centers, counted from the feet."""
    along_i, along_j = np.array(TURN[:3]), np.array(TURN[3:])
    center = FIRST + along_i * SPACING[1] * TILE[1] / 2 + along_j * SPACING[0] * TILE[0] / 2
    lines = [f"sSliceArray.lSize = {COUNT}", "sSliceArray.ucMode = 0x2"]
    for n in range(COUNT):
        tile = COUNT - 1 - n if backwards else n
        at = center + (-1 if backwards else 1) * tile * step * normal_of(TURN)
        lines += [
            f"sSliceArray.asSlice[{n}].sPosition.d{a} = {v}" for a, v in zip(("Sag", "Cor", "Tra"), at, strict=True)
        ]
    text = "\n".join(lines)
    return (
        csa(Nothing=()) + b"\n### ASCCONV BEGIN object=MrProtDataImpl ###\n" + text.encode() + b"\n### ASCCONV END ###"
    )


def mosaic(sign: int = 1, image: bytes = b"", series: bytes = b"", spare: int = 0, **tags: object) -> Dataset:
    """Seven slices of the field in a mosaic of 3 x 3 tiles; `sign` -1 when they follow against the normal."""
    along_i, along_j = np.array(TURN[:3]), np.array(TURN[3:])
    whole = np.full((3 * TILE[0], 3 * TILE[1]), spare, np.uint16)
    for k in range(COUNT):
        one = plane(FIRST + sign * k * STEP * normal_of(TURN), TURN, TILE, SPACING)
        row, column = divmod(k, 3)
        place = np.s_[row * TILE[0] : (row + 1) * TILE[0], column * TILE[1] : (column + 1) * TILE[1]]
        whole[place] = np.frombuffer(one.PixelData, np.uint16).reshape(TILE)
    corner = FIRST - along_i * SPACING[1] * TILE[1] - along_j * SPACING[0] * TILE[0]  # (3 - 1) / 2 tiles back
    dataset = plane(corner, TURN, TILE, SPACING, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    dataset.Rows, dataset.Columns, dataset.PixelData = *whole.shape, whole.tobytes()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.Manufacturer, dataset.SpacingBetweenSlices = "SIEMENS", STEP
    if image or series:
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        for offset, data in ((0x10, image), (0x20, series)):
            if data:
                block.add_new(offset, "OB", data + bytes(len(data) % 2))
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def image_csa(sign: int = 1) -> bytes:
    return csa(NumberOfImagesInMosaic=(COUNT,), SliceNormalVector=tuple(sign * normal_of(TURN)))


def read(path: Path) -> tuple[Volume, Image]:
    volume = read_study(path).main_series().read()
    assert isinstance(volume, Volume)
    return volume, (volume.voxels.numpy(), volume.affine.numpy())


@pytest.mark.parametrize("sign", [1, -1])
def test_tiles_follow_the_slice_normal_of_the_private_header(tmp_path: Path, sign: int) -> None:
    volume, image = read(save(tmp_path / "m.dcm", mosaic(sign, image_csa(sign))))

    assert volume.shape == (COUNT, *TILE)
    assert volume.spacing_mm == pytest.approx((STEP, *SPACING))
    assert error_mm(image)[1] < 0.05
    assert any("7 slices of 20 x 28, 2.600 mm apart, in the order of the CSA slice normal" in n for n in volume.notes)


@pytest.mark.parametrize("sign", [1, -1])
def test_without_it_the_protocol_says_where_the_slices_lie(tmp_path: Path, sign: int) -> None:
    written = mosaic(sign, series=protocol(backwards=sign < 0), spare=9, SpacingBetweenSlices=None)

    volume, image = read(save(tmp_path / "m.dcm", written))

    assert error_mm(image)[1] < 0.05
    assert any("2 tiles beyond the last slice are not empty" in note for note in volume.notes)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (mosaic(), r"without the private header that says how many slices.*de-identification"),
        (mosaic(image=csa(NumberOfImagesInMosaic=(COUNT,))), "does not say in which direction its slices follow"),
        (mosaic(image=image_csa(), SpacingBetweenSlices=None), "without SpacingBetweenSlices"),
        (mosaic(image=csa(NumberOfImagesInMosaic=(60,), SliceNormalVector=(0, 0, 1))), "60 tiles in 60 x 84 pixels"),
        (mosaic(image=csa(NumberOfImagesInMosaic=(9e9,), SliceNormalVector=(0, 0, 1))), "expected 1 to 1024"),
        (mosaic(image=csa(NumberOfImagesInMosaic=(7,), SliceNormalVector=(1, 0, 0))), r"degrees off ImageOrientation"),
        (mosaic(series=protocol(False, step=3.0)), "SpacingBetweenSlices 2.600 mm whose protocol puts slices 3.000 mm"),
        (mosaic(image=b"SV10" + b"\xff" * 200), "without the private header"),
    ],
)
def test_a_mosaic_that_is_unclear_is_refused(tmp_path: Path, written: Dataset, told: str) -> None:
    path = save(tmp_path / "m.dcm", written)

    with pytest.raises(SeriesError, match=told) as refused:
        read_study(path).main_series().read()
    assert refused.value.reason == "mosaic"


def test_each_mosaic_of_a_series_is_a_part_in_the_order_of_time(tmp_path: Path) -> None:
    for n, time in enumerate(("101530", "101500", "101515")):
        save(tmp_path / f"{n}.dcm", mosaic(1, image_csa(), AcquisitionTime=time, InstanceNumber=3 - n))

    study = read_study(tmp_path)

    assert [one.instances[0].acquired for one in study.series] == ["101500", "101515", "101530"]
    assert [one.n_instances for one in study.series] == [1, 1, 1]
    assert study.series[2].address.endswith("#3")


@needs_dcm2niix
@pytest.mark.parametrize("sign", [1, -1])
def test_dcm2niix_puts_every_voxel_at_the_same_place(tmp_path: Path, sign: int) -> None:
    path = save(tmp_path / "in" / "m.dcm", mosaic(sign, image_csa(sign)))
    _, ours = read(path)

    (theirs,) = dcm2niix(path.parent, tmp_path / "out")
    assert theirs[0].shape == (COUNT, *TILE)
    assert_same_place(ours, theirs)


@needs_dcm2niix
def test_a_real_mosaic_agrees_with_dcm2niix_where_that_does_not_guess(real_data: Path, tmp_path: Path) -> None:
    """The image header of this file was removed. dcm2niix then guesses 64 slices upwards; the protocol, which it does
    not ask, says 50 slices downwards: its last slice lies exactly where the header puts the first tile.
    """
    folder = real_data / "dicom_odd" / "mosaic"
    volume, (voxels, affine) = read(folder)
    ((theirs, their_affine),) = dcm2niix(folder, tmp_path / "out")

    assert volume.shape == (50, 80, 80)
    assert theirs.shape == (64, 80, 80)
    assert np.array_equal(voxels, theirs[:50, ::-1])
    assert np.allclose(affine[:3, 3], (their_affine @ (0, 79, 0, 1))[:3], atol=1e-3)  # the first tile, rows from below
    assert np.allclose(affine[:3, 1:3], their_affine[:3, 1:3] * (-1, 1), atol=1e-5)
    assert np.allclose(affine[:3, 0], -their_affine[:3, 0], atol=1e-3)
