"""A cached volume is the volume, bit for bit; what is stale or damaged is found before use and made anew."""

from __future__ import annotations

import logging
import os
import random
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from written_dicom import SHAPE, ct_slice, reread, write, write_ct

from volumes import cache as module
from volumes.errors import VolumeError
from volumes.study import Series, read_study
from volumes.volume import Volume

pytest.importorskip("blosc2", reason="blosc2 (extra cache) is not installed")
LIMIT = 2**30


def ct(folder: Path) -> Series:
    return read_study(folder).main_series()


def nifti(path: Path, seed: int = 5) -> Series:
    """70 x 90 x 150 voxels of floats: several chunks along each axis, none of them full at the end."""
    rng = np.random.default_rng(seed)
    affine = np.array([[-0.9, 0.1, 0, 30], [0.1, -0.8, 0, 20.5], [0, 0, 2.1, -7], [0, 0, 0, 1]])
    image = nib.Nifti1Image(rng.normal(0, 300, (150, 90, 70)).astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return read_study(path, unit="HU", modality="CT").main_series()


def same(a: Volume, b: Volume) -> bool:
    return (
        torch.equal(a.voxels, b.voxels)
        and torch.allclose(a.affine, b.affine, atol=1e-12)
        and (a.unit, a.source, a.notes) == (b.unit, b.source, b.notes)
    )


def entry(cache: module.VolumeCache) -> Path:
    return next(cache.folder.glob("*.volume"))


@pytest.mark.parametrize("kind", ["whole numbers", "floats"])
def test_the_volume_comes_back_bit_for_bit(tmp_path: Path, kind: str) -> None:
    if kind == "floats":
        series = nifti(tmp_path / "a.nii.gz")
    else:
        series = ct(write_ct(tmp_path / "ct", RescaleSlope=1, RescaleIntercept=-1024))
    cache = module.VolumeCache(tmp_path / "cache", LIMIT)
    truth = series.read()
    assert isinstance(truth, Volume)

    first, second = cache.get(series), cache.get(series)

    assert same(first, truth)
    assert same(second, truth)
    assert not cache.rebuilt
    assert (entry(cache).stat().st_size < truth.voxels.numel() * 2.1) == (kind == "whole numbers")
    assert str(tmp_path).encode() not in entry(cache).read_bytes()  # a folder may hold a patient's name


def test_negative_zero_and_not_a_number_are_kept() -> None:
    for odd in (-0.0, np.nan, 0.5, 1e9, np.inf):
        voxels = np.array([[[1.0, odd]]], np.float32)
        kept = module._narrow(voxels).astype(np.float32)
        assert kept.tobytes() == voxels.tobytes()
    assert module._narrow(np.array([[[-32768.0, 32767.0]]], np.float32)).dtype == np.int16


def test_patches_anywhere_are_cut_from_the_volume_with_their_affine(tmp_path: Path) -> None:
    series = nifti(tmp_path / "a.nii.gz")
    cache = module.VolumeCache(tmp_path / "cache", LIMIT)
    whole = cache.get(series)
    rng = random.Random(4)
    for _ in range(25):
        start = tuple(rng.randrange(n) for n in whole.shape)
        shape = tuple(rng.randrange(1, n - s + 1) for n, s in zip(whole.shape, start, strict=True))
        found = cache.patch(series, start, shape)  # type: ignore[arg-type]
        (a, b, c), (d, e, f) = start, shape
        assert torch.equal(found.voxels, whole.voxels[a : a + d, b : b + e, c : c + f])
        here, there = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([start], dtype=torch.float64)
        assert torch.allclose(found.index_to_mm(here), whole.index_to_mm(there))
    with pytest.raises(VolumeError, match=r"the patch of \(3, 3, 3\) voxels at \(68, 0, 0\) leaves the volume of \(70"):
        cache.patch(series, (68, 0, 0), (3, 3, 3))


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_a_flipped_byte_anywhere_is_found_before_use(tmp_path: Path, count: int) -> None:
    series = ct(write_ct(tmp_path / "ct"))
    cache = module.VolumeCache(tmp_path / "cache", LIMIT)
    truth = cache.get(series)
    whole = entry(cache).read_bytes()
    rng = random.Random(count)
    for n in range(count):
        damaged = bytearray(whole)
        at = n if n < 40 else rng.randrange(len(whole))
        damaged[at] ^= 1 << rng.randrange(8)
        entry(cache).write_bytes(damaged)
        assert same(cache.get(series), truth)
        assert sum(cache.rebuilt.values()) == n + 1, f"byte {at}"
    assert set(cache.rebuilt) <= {"its header is damaged", "its voxels are damaged"}


def test_a_truncated_or_longer_entry_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    series = ct(write_ct(tmp_path / "ct"))
    cache = module.VolumeCache(tmp_path / "cache", LIMIT)
    truth = cache.get(series)
    whole = entry(cache).read_bytes()
    for damaged in (b"", whole[:9], whole[:100], whole[:-1], whole + b"\0"):
        entry(cache).write_bytes(damaged)
        with caplog.at_level(logging.WARNING):
            assert same(cache.get(series), truth)
        assert "is made anew: it" in caplog.text
        assert entry(cache).read_bytes() == whole
    assert sum(cache.rebuilt.values()) == 5


def test_a_changed_file_another_library_or_preparation_is_never_served_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_ct(tmp_path / "ct")
    cache = module.VolumeCache(tmp_path / "cache", LIMIT)
    before = cache.get(ct(folder))
    path = sorted(folder.iterdir())[1]
    dataset = reread(path)
    dataset.PixelData = bytes(len(dataset.PixelData))
    old = path.stat()
    dataset.save_as(path)
    assert path.stat().st_size == old.st_size  # only its time tells

    after = cache.get(ct(folder))

    assert not torch.equal(before.voxels, after.voxels)
    assert cache.rebuilt == {"a file of the series, or a library that reads it, has changed since": 1}
    monkeypatch.setattr(module, "_LIBRARIES", (*module._LIBRARIES, "pillow"))
    cache.get(ct(folder))
    assert cache.rebuilt.total() == 2

    def halve(volume: Volume) -> Volume:
        return replace(volume, voxels=volume.voxels / 2)

    prepared = module.VolumeCache(tmp_path / "cache", LIMIT, halve, contract="halved")
    assert torch.equal(prepared.get(ct(folder)).voxels, after.voxels / 2)
    assert torch.equal(cache.get(ct(folder)).voxels, after.voxels)
    assert len(list(cache.folder.glob("*.volume"))) == 2
    with pytest.raises(VolumeError, match="needs a contract that names the preparation"):
        module.VolumeCache(tmp_path / "cache", LIMIT, halve)


def test_an_archive_that_moved_is_the_same_and_one_that_is_gone_is_said(tmp_path: Path) -> None:
    folder = write_ct(tmp_path / "ct")
    cache = module.VolumeCache(tmp_path / "cache", LIMIT)
    truth = cache.get(ct(folder))
    shutil.move(folder, tmp_path / "moved")

    found = cache.get(ct(tmp_path / "moved"))

    assert torch.equal(found.voxels, truth.voxels)
    assert found.source.path.startswith(str(tmp_path / "moved"))
    assert not cache.rebuilt
    series = ct(tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved")
    with pytest.raises(VolumeError, match="the file is gone"):
        cache.get(series)


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    series = [nifti(tmp_path / f"{n}.nii.gz", seed=n) for n in range(3)]
    one = module.VolumeCache(tmp_path / "one", LIMIT)
    one.get(series[0])
    size = entry(one).stat().st_size
    cache = module.VolumeCache(tmp_path / "cache", int(2.5 * size))
    names = []
    for n, each in enumerate(series[:2]):
        cache.get(each)
        names.append(next(p for p in cache.folder.glob("*.volume") if p not in names))
        os.utime(names[-1], (1000 + n, 1000 + n))
    cache.get(series[0])  # now the second is the one used longest ago

    cache.get(series[2])

    assert names[0].exists()
    assert not names[1].exists()
    assert len(list(cache.folder.glob("*.volume"))) == 2


def test_a_writer_killed_before_the_rename_leaves_no_entry(tmp_path: Path) -> None:
    folder = write_ct(tmp_path / "ct")
    code = f"""
        import os, pathlib, signal
        from volumes.cache import VolumeCache
        from volumes.study import read_study
        pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        VolumeCache({str(tmp_path / "cache")!r}, 2**30).get(read_study({str(folder)!r}).main_series())
    """
    root = str(Path(__file__).resolve().parent.parent)
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=os.environ | {"PYTHONPATH": root}, timeout=100, check=False
    )
    assert finished.returncode == -9
    left = list((tmp_path / "cache").iterdir())
    assert [path.suffix for path in left] == [".tmp"]
    cache = module.VolumeCache(tmp_path / "cache", LIMIT)
    os.utime(left[0], (1000, 1000))

    assert cache.get(ct(folder)).shape == (5, *SHAPE)

    assert [path.suffix for path in cache.folder.iterdir()] == [".volume"]  # and the left-over is swept
    assert not cache.rebuilt


def test_many_at_once_all_read_the_truth(tmp_path: Path) -> None:
    write(tmp_path / "ct" / "a.dcm", ct_slice(0.0))
    write(tmp_path / "ct" / "b.dcm", ct_slice(2.0))
    series = ct(tmp_path / "ct")
    truth = series.read()
    assert isinstance(truth, Volume)
    cache = module.VolumeCache(tmp_path / "cache", 0)  # a limit so small that each evicts the others'

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cache.get(series), range(40)))

    assert all(same(one, truth) for one in found)
    assert not cache.rebuilt
    assert not list(cache.folder.glob("*.tmp"))
