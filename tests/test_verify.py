"""What a file decodes to is known by a digest, frame after frame, and decoders that die cost their own file only."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from fuzz_dicom import Case
from fuzz_seeds import SHAPE, seeds

from volumes.archive import read_bytes
from volumes.isolation import Workers
from volumes.verify import Verified, isolated, verify_pixels
from volumes.volume import VolumeError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("seeds")
    for name, data in seeds().items():
        (place / name).write_bytes(data)
    return place


def test_one_image_in_every_syntax_has_one_digest(folder: Path) -> None:
    names = ("ct", "ct_implicit", "ct_big_endian", "ct_deflated", "ct_rle", "ct_jpegls", "ct_j2k")
    found = [verify_pixels(str(folder / f"{name}.dcm")) for name in names]
    assert len({(one.shape, one.dtype, one.sha256) for one in found}) == 1
    assert (found[0].shape, found[0].dtype) == ((1, *SHAPE), "<u2")
    assert len({one.file_sha256 for one in found}) == len(names)
    lossy = verify_pixels(str(folder / "ct_j2k_lossy.dcm"))
    assert lossy.shape == found[0].shape
    assert lossy.sha256 != found[0].sha256


def test_the_digest_is_that_of_the_stored_values(folder: Path) -> None:
    k, i, j = np.meshgrid(*map(np.arange, (3, *SHAPE)), indexing="ij")
    stored = (1000 + 13 * i + 29 * j + 101 * k + 7 * (i * j % 5)).astype("<u2")
    digest = hashlib.sha256(stored.tobytes()).hexdigest()
    for name in ("enhanced.dcm", "enhanced_j2k.dcm"):
        found = verify_pixels(str(folder / name))
        assert (found.shape, found.sha256) == ((3, *SHAPE), digest)
        assert found.file_sha256 == hashlib.sha256(read_bytes(folder / name)).hexdigest()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("cine_rle.dcm", (4, *SHAPE, 3)),
        ("ultrasound.dcm", (1, *SHAPE, 3)),
        ("segments.dcm", (3, *SHAPE)),
        ("volume.nii.gz", (3, 5, 7)),
        ("volume.mha", (3, 5, 7)),
        ("film.png", SHAPE),
    ],
)
def test_the_shape_of_every_kind(folder: Path, name: str, shape: tuple[int, ...]) -> None:
    assert verify_pixels(str(folder / name)).shape == shape


def test_files_that_do_not_decode_are_named_and_the_others_are_done(folder: Path, tmp_path: Path) -> None:
    """A JPEG-LS stream cut in the middle makes its decoder read on for ever; here it is refused before."""
    whole = seeds()["ct_jpegls.dcm"]
    places = []
    for name, data in {"a": whole, "b": whole[:1400], "c": seeds()["report.dcm"], "d": whole}.items():
        (tmp_path / f"{name}.dcm").write_bytes(data)
        places.append(str(tmp_path / f"{name}.dcm"))
    with isolated(1, seconds=20) as workers:
        found = [result for _, result in workers.map(places)]
    assert isinstance(found[0], Verified)
    assert found[0] == found[3]
    assert [r.reason for r in found[1:3] if isinstance(r, VolumeError)] == ["damaged-pixels", "no-pixels"]


def test_frames_that_are_missing_are_told(folder: Path, tmp_path: Path) -> None:
    data = (folder / "enhanced.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(data.replace(b"IS\x02\x003 ", b"IS\x02\x009 "))
    with pytest.raises(VolumeError, match=r"pixel data hold \d+ bytes; 9 frames need|declares|need") as caught:
        verify_pixels(str(tmp_path / "a.dcm"))
    assert caught.value.reason in ("damaged-pixels", "bad-description", "truncated-pixels")


def test_damaged_files_are_verified_or_refused(tmp_path: Path) -> None:
    """Every frame of 1,500 damaged files, also of those whose place in the patient is lost: no reader dies."""
    cases = (Case(20263, number, "", str(tmp_path)) for number in range(1500))
    with Workers(verify_case, 2, preload=("volumes.verify",)) as workers:
        found = [(case, result) for case, result in workers.map(cases)]
    failed = [
        f"--seed 20263 --only {case.number}: {result}"
        for case, result in found
        if isinstance(result, VolumeError) and result.reason.startswith("reader-")
    ]
    assert failed == []
    assert sum(isinstance(result, Verified) for _, result in found) > 300


def verify_case(case: Case) -> Verified:
    """Make one damaged file and decode it."""
    name, data, _ = case.make()
    path = Path(case.scratch) / f"{os.getpid()}-{name}"
    path.write_bytes(data)
    try:
        return verify_pixels(str(path))
    finally:
        path.unlink()
