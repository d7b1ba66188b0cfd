"""Quick roads to the pixels give the values of the slow one, and say which file changed, died or lies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from written_dicom import CT_STORAGE, SHAPE, ct_slice, image, reread, write, write_ct

from volumes import decoding, planes
from volumes.archive import ZIP_MARK
from volumes.errors import VolumeError
from volumes.header import read_header
from volumes.instance import InstanceHeader
from volumes.planes import Plane, read_plane, read_planes

RLE, JPEG_LS, J2K = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"


def headers(folder: Path, digests: bool = False) -> list[InstanceHeader]:
    return [read_header(str(path), digests) for path in sorted(folder.iterdir())]


def slowly(header: InstanceHeader) -> tuple[np.ndarray, Plane]:
    out = np.full((header.rows, header.columns), np.nan, np.float32)
    return out, planes._decoded(header, out)


def odd_slices() -> dict[str, Dataset]:
    """One slice per way in which stored values can lie."""
    rng = np.random.default_rng(7)
    signed = rng.integers(-2048, 2048, SHAPE).astype(np.int16)
    found = {
        "plain": ct_slice(1.0),
        "fractional slope": ct_slice(1.0, RescaleSlope=0.1234567, RescaleIntercept=-7.7654321),
        "padding": ct_slice(1.0, PixelPaddingValue=int(np.frombuffer(ct_slice(1.0).PixelData, np.uint16)[5])),
        "signed": image(signed, CT_STORAGE, "CT", RescaleSlope=1, RescaleIntercept=-1024, PixelPaddingValue=-3),
        "no rescale": image(signed, CT_STORAGE, "MR"),
        "HU not stated": ct_slice(1.0, RescaleType="US"),
        "monochrome1": ct_slice(1.0, PhotometricInterpretation="MONOCHROME1"),
    }
    twelve = image((signed.view(np.uint16) & 0x0FFF), CT_STORAGE, "CT", BitsStored=12, HighBit=11)
    twelve.PixelRepresentation = 1
    found["12 bits, signed"] = twelve
    overlay = image(
        rng.integers(0, 4096, SHAPE).astype(np.uint16) | 0x8000, CT_STORAGE, "CT", BitsStored=12, HighBit=11
    )
    found["overlay bits"] = overlay
    eight = image(rng.integers(0, 256, (40, 36)).astype(np.uint16), CT_STORAGE, "CT")
    eight.PixelData = rng.integers(0, 256, (40, 36)).astype(np.uint8).tobytes()
    eight.BitsAllocated, eight.BitsStored, eight.HighBit = 8, 8, 7
    found["8 bits"] = eight
    wide = image(rng.integers(0, 2**16, SHAPE).astype(np.uint16), CT_STORAGE, "CT", RescaleSlope=3, RescaleIntercept=-5)
    wide.PixelData = rng.integers(-(2**31), 2**31, SHAPE).astype(np.int32).tobytes()
    wide.BitsAllocated, wide.BitsStored, wide.HighBit, wide.PixelRepresentation = 32, 32, 31, 1
    found["32 bits"] = wide
    return found


@pytest.mark.parametrize("name", list(odd_slices()))
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLE, JPEG_LS])
def test_the_quick_road_gives_the_values_of_the_slow_one(tmp_path: Path, name: str, syntax: str) -> None:
    if (syntax == JPEG_LS and name == "overlay bits") or (syntax != "1.2.840.10008.1.2.1" and name == "32 bits"):
        pytest.skip("JPEG-LS holds no bits above BitsStored, and neither codec 32 bits")
    write(tmp_path / "a.dcm", odd_slices()[name], syntax)
    header = headers(tmp_path)[0]
    expected, told = slowly(header)

    out = np.full(expected.shape, np.nan, np.float32)
    quick = planes._straight(header, out)

    assert quick is not None
    assert np.array_equal(out, expected)
    assert quick == told
    assert quick.sha256 == read_header(header.path).pixel_sha256


def test_slices_in_a_zip_are_read_as_quickly_and_the_same(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for n, syntax in enumerate(("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", RLE, JPEG_LS, J2K)):
            one = implicit(tmp_path) if n == 1 else write(tmp_path / f"{n}.dcm", ct_slice(2.0 * n), syntax)
            packed.write(one, f"{n}")
    found = [read_header(f"{tmp_path / 'a.zip'}{ZIP_MARK}{n}") for n in range(5)]

    out, told = decode_all(found)

    serial = [slowly(header) for header in found]
    assert np.array_equal(out, [values for values, _ in serial])
    assert told == [plane for _, plane in serial]
    quick = [planes._straight(header, np.empty(SHAPE, np.float32)) is not None for header in found]
    assert quick == [True, True, True, True, False]


def implicit(folder: Path) -> Path:
    dataset = ct_slice(2.0)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    dataset.save_as(folder / "implicit.dcm", enforce_file_format=True)
    return folder / "implicit.dcm"


@pytest.mark.parametrize(
    "tags",
    [
        {"SamplesPerPixel": None},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"BitsStored": 20},
        {"HighBit": 3, "BitsStored": 12},
        {"ModalityLUTSequence": [Dataset()]},
        {"PixelData": bytes(100)},
        {"PixelData": bytes(2 * SHAPE[0] * SHAPE[1] + 2)},
        {"NumberOfFrames": 2},
        {"Rows": 40},
    ],
)
def test_what_is_odd_takes_the_slow_road(tmp_path: Path, tags: dict[str, object]) -> None:
    header = read_header(str(write(tmp_path / "a.dcm", ct_slice(0.0, **tags))))

    assert planes._straight(header, np.empty(SHAPE, np.float32)) is None


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", JPEG_LS, J2K])
def test_a_file_that_changed_since_ingest_is_refused(tmp_path: Path, syntax: str) -> None:
    path = write(tmp_path / "a.dcm", ct_slice(0.0), syntax)
    header = read_header(str(path))
    assert read_plane(header, np.empty(SHAPE, np.float32)).sha256 == header.pixel_sha256
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)

    with pytest.raises(VolumeError, match=r"SHA-256 \w{12}\.\.\., at ingest they had \w{12}\.\.\.") as refused:
        read_plane(header, np.empty(SHAPE, np.float32))
    assert refused.value.reason == "changed-since-ingest"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MANY_BYTES", 0)
    monkeypatch.setattr(decoding, "_RUNNING_BYTES", 0)
    monkeypatch.setattr(decoding, "_cores", lambda: 2)


def decode_all(found: list[InstanceHeader]) -> tuple[np.ndarray, list[Plane]]:
    out = np.full((len(found), *SHAPE), np.nan, np.float32)
    return out, read_planes(found, out)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("syntax", [JPEG_LS, J2K])
def test_processes_give_the_same_slices(tmp_path: Path, syntax: str) -> None:
    for n in range(12):
        write(tmp_path / f"{n:02d}.dcm", ct_slice(2.0 * n, RescaleSlope=0.5 + n / 8), syntax)
    found = headers(tmp_path)
    assert decoding.worth_processes(found)

    out, told = decode_all(found)
    for decoder in decoding._pool.decoders:
        assert decoder.ready()
    again, _ = decode_all(found)  # now no slice is decoded here

    serial = [slowly(header) for header in found]
    assert np.array_equal(out, [values for values, _ in serial])
    assert np.array_equal(again, out)
    assert told == [plane for _, plane in serial]


@pytest.mark.usefixtures("processes")
def test_a_damaged_slice_and_a_dead_process_name_the_instance(tmp_path: Path) -> None:
    for n in range(6):
        write(tmp_path / f"{n}.dcm", ct_slice(2.0 * n), JPEG_LS)
    found = headers(tmp_path)
    decode_all(found)
    decoder = decoding._pool.decoders[0]
    assert decoder.ready()
    decoder.process.kill()
    with pytest.raises(VolumeError, match=r"instance 1\.2.*the decoder of 1\.2\.840\.10008\.1\.2\.4\.80 died") as died:
        decoder.read(found[0], np.empty(SHAPE, np.float32))
    assert died.value.reason == "decoder-died"
    decode_all(found)  # the dead one is replaced
    victim = tmp_path / "3.dcm"
    victim.write_bytes(victim.read_bytes()[:-300])

    with pytest.raises(VolumeError, match=rf"instance {found[3].sop_uid}.*truncated or damaged"):
        decode_all(found)


@pytest.mark.usefixtures("processes")
def test_a_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = read_header(str(write(tmp_path / "a.dcm", ct_slice(0.0), JPEG_LS)))
    decoder = decoding.Decoder()
    assert decoder.ready()
    monkeypatch.setattr(decoding, "SECONDS_PER_SLICE", 0.25)
    decoder.process.send_signal(signal.SIGSTOP)

    with pytest.raises(VolumeError, match=r"gave no slice within 0\.25 s") as refused:
        decoder.read(header, np.empty(SHAPE, np.float32))
    assert refused.value.reason == "decoder-timeout"
    assert decoder.process.poll() is not None


def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    write_ct(tmp_path / "ct")
    code = """
        import os, sys
        from volumes import decoding
        decoder = decoding.Decoder()
        assert decoder.ready()
        print(decoder.process.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    root = str(Path(__file__).resolve().parent.parent)
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    child = int(finished.stdout)
    for _ in range(200):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"the decoder {child} runs on after its parent was killed")


@pytest.mark.usefixtures("processes")
def test_a_worker_of_somebody_decodes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(2):
        write(tmp_path / f"{n}.dcm", ct_slice(2.0 * n), JPEG_LS)
    found = headers(tmp_path)
    assert decoding.worth_processes(found)
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})

    assert not decoding.worth_processes(found)


def test_few_or_uncompressed_slices_start_no_process(tmp_path: Path) -> None:
    folder = write_ct(tmp_path)
    assert not decoding.worth_processes(headers(folder))
    write(tmp_path / "packed" / "a.dcm", ct_slice(0.0), JPEG_LS)
    assert not decoding.worth_processes(headers(tmp_path / "packed"))


def test_deflated_files_are_told_apart_by_their_pixel_digest(tmp_path: Path) -> None:
    digests = set()
    for n in range(2):
        path = write(tmp_path / f"{n}.dcm", ct_slice(2.0 * n))
        dataset = reread(path)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        dataset.save_as(path, enforce_file_format=True)
        header = read_header(str(path))
        digests.add(header.pixel_sha256)
        assert read_plane(header, np.empty(SHAPE, np.float32)).sha256 == header.pixel_sha256
    assert len(digests) == 2


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLE, JPEG_LS])
@pytest.mark.parametrize("count", [60, pytest.param(800, marks=pytest.mark.slow)])
def test_what_the_quick_road_reads_of_a_damaged_file_the_slow_one_reads_too(
    tmp_path: Path, syntax: str, count: int
) -> None:
    path = write(tmp_path / "a.dcm", ct_slice(1.0, PixelPaddingValue=5), syntax)
    whole, rng, taken = path.read_bytes(), np.random.default_rng(count), 0
    header = replace(read_header(str(path)), pixel_sha256="")  # damage that a digest would find at once
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(132, len(data))] = rng.integers(256)
        path.write_bytes(data)
        quick = np.full(SHAPE, np.nan, np.float32)
        plane = planes._straight(header, quick)
        if plane is not None:
            values, told = slowly(header)
            assert np.array_equal(quick, values)
            assert plane == told
            taken += 1
    assert taken > count // 10
