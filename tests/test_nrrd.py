"""NRRD against ITK's reader and writer, and the parts of the format that are refused by name."""

from __future__ import annotations

import bz2
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from volumes.nrrd import read_nrrd
from volumes.volume import SeriesError, Volume

DIRECTION = (0.8, -0.6, 0.0, 0.48, 0.64, -0.6, 0.36, 0.48, 0.8)
HEADER = (
    "NRRD0005\ntype: int16\ndimension: 3\nspace: {space}\nsizes: 4 3 2\n"
    "space directions: (0.5,0,0) (0,-0.8,0.1) (0,0.1,2.5)\nkinds: domain domain domain\nendian: {endian}\n"
    "encoding: {encoding}\nspace origin: (-31,17,43)\n{more}\n"
)
VALUES = np.arange(24).reshape(2, 3, 4) - 7


def itk_image(kind: str) -> SimpleITK.Image:
    made = SimpleITK.GetImageFromArray(np.random.default_rng(3).normal(0, 300, (4, 5, 7)).astype(kind))
    made.SetSpacing((0.7, 0.9, 2.5))
    made.SetOrigin((-61.25, 27.5, 113.75))
    made.SetDirection(DIRECTION)
    return made


def written(
    path: Path, space: str = "LPS", endian: str = "little", encoding: str = "raw", more: str = "", body: bytes = b""
) -> Path:
    raw = VALUES.astype(">i2" if endian == "big" else "<i2").tobytes()
    packed = body or (bz2.compress(raw) if encoding in ("bzip2", "bz2") else raw)
    path.write_bytes(HEADER.format(space=space, endian=endian, encoding=encoding, more=more).encode() + packed)
    return path


def assert_same(volume: Volume, judge: SimpleITK.Image) -> None:
    assert np.array_equal(volume.voxels.numpy(), SimpleITK.GetArrayFromImage(judge).astype(np.float32))
    for index in ((0, 0, 0), tuple(n - 1 for n in volume.shape), (1, 0, 2)):
        point = judge.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])
        assert volume.index_to_mm(index).tolist() == pytest.approx(point, abs=1e-5)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_what_itk_writes_is_read(tmp_path: Path, kind: str, compressed: bool) -> None:
    SimpleITK.WriteImage(itk_image(kind), str(tmp_path / "a.nrrd"), useCompression=compressed)

    assert_same(read_nrrd(tmp_path / "a.nrrd"), itk_image(kind))


@pytest.mark.parametrize("space", ["LPS", "RAS", "left-posterior-superior", "right-anterior-superior"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_spaces_and_byte_orders_agree_with_itk(tmp_path: Path, space: str, endian: str) -> None:
    path = written(tmp_path / "a.nrrd", space, endian)

    assert_same(read_nrrd(path), SimpleITK.ReadImage(str(path)))


@pytest.mark.parametrize("encoding", ["bzip2", "bz2"])
def test_bzip2_is_read_and_its_damage_seen(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path / "a.nrrd", encoding=encoding)

    assert np.array_equal(read_nrrd(path).voxels.numpy(), VALUES)
    damaged = bytearray(path.read_bytes())
    damaged[-20] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(SeriesError, match=r"bzip2 voxels are (damaged|truncated)|holds"):
        read_nrrd(path)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("endian: little", "#", "endian None for numbers of 2 bytes; expected little or big"),
        ("encoding: raw", "encoding: hex", "encoding 'hex'"),
        ("encoding: raw", "encoding: raw\nbyte skip: 4", r"skips \['0', '4'\]"),
        ("type: int16", "type: block", "type 'block'"),
        ("sizes: 4 3 2", "sizes: 3 4 3 2", "expected three positive numbers"),
        ("sizes: 4 3 2", "sizes: 4 3 3", "holds 48 bytes of voxels; expected 72"),
        ("space: LPS", "space: scanner-xyz", "names the space 'scanner-xyz'"),
        ("(0.5,0,0)", "none", "2 directions"),
        ("space origin: (-31,17,43)", 'space origin: (-31,17,43)\nspace units: "m" "m" "m"', "counts space in"),
        ("encoding: raw", "encoding: raw\ndata file: LIST", "names a detached data file"),
    ],
)
def test_the_rest_is_refused_by_name(tmp_path: Path, old: str, new: str, why: str) -> None:
    path = written(tmp_path / "a.nrrd")
    text = path.read_bytes()
    assert old.encode() in text
    path.write_bytes(text.replace(old.encode(), new.encode(), 1))

    with pytest.raises(SeriesError, match=why):
        read_nrrd(path)


def test_real_files_agree_with_itk(real_data: Path) -> None:
    paths = sorted((real_data / "nifti" / "pyradiomics_nrrd").glob("*.nrrd"))

    for path in paths:
        assert_same(read_nrrd(path), SimpleITK.ReadImage(str(path)))
    assert len(paths) == 4
