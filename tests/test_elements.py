"""The quick parser of headers gives what pydicom gives, field for field, or declines."""

from __future__ import annotations

import random
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from written_dicom import ct_slice, film, write

from volumes import header
from volumes.archive import ZIP_MARK, locations, read_bytes
from volumes.elements import tags
from volumes.errors import VolumeError
from volumes.header import read_header
from volumes.header_scan import TruncatedError, scan
from volumes.instance import InstanceHeader

Outcome = InstanceHeader | tuple[str, str]


def outcome(path: str, digests: bool = True) -> Outcome:
    try:
        return read_header(path, digests)
    except VolumeError as error:
        return error.reason, str(error)


def both_ways(path: str, monkeypatch: pytest.MonkeyPatch, digests: bool = True) -> tuple[Outcome, Outcome, bool]:
    """(as read, as pydicom alone reads it, whether the quick parser took it)."""
    taken: list[bool] = []

    def counted(*arguments: object) -> object:
        found = scan(*arguments)  # type: ignore[arg-type]
        taken.append(found is not None)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(header, "scan", counted)
        quick = outcome(path, digests)
        patch.setattr(header, "scan", lambda *_: None)
        patch.setattr(header, "scan_file", lambda *_: None)
        slow = outcome(path, digests)
    return quick, slow, any(taken)


def rich() -> Dataset:
    """A slice with nested sequences, an empty value, private elements and a name in another character set."""
    dataset = ct_slice(4.0, InstanceNumber=7, AcquisitionNumber=2, SeriesNumber=None, EchoTime="4.60")
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SeriesDescription = "Schädel nativ"
    dataset.ViewPosition = ""
    inner, outer = Dataset(), Dataset()
    inner.CodeMeaning, inner.CodeValue = "postero-anterior", "R-10214"
    outer.ReferencedSOPInstanceUID, outer.PurposeOfReferenceCodeSequence = "1.2.3", Sequence([inner])
    dataset.ViewCodeSequence = Sequence([inner])
    dataset.ReferencedImageSequence = Sequence([outer, Dataset()])
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "800")
    block.add_new(0x10, "SQ", Sequence([inner]))
    return dataset


def stored(path: Path, dataset: Dataset, syntax: str, undefined: bool) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    for element in dataset.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = undefined
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [False, True])
def test_both_routes_agree_on_every_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str, undefined: bool
) -> None:
    path = stored(tmp_path / "a.dcm", rich(), syntax, undefined)

    quick, slow, taken = both_ways(str(path), monkeypatch)

    assert taken
    assert quick == slow
    assert isinstance(quick, InstanceHeader)
    assert (quick.description, quick.echo, quick.view_code) == ("Schädel nativ", "4.60", "postero-anterior")
    assert (quick.b_value, quick.instance_number, quick.transfer_syntax) == ("800", 7, syntax)
    assert len(quick.sha256) == len(quick.pixel_sha256) == 64
    without, pydicom_without, _ = both_ways(str(path), monkeypatch, digests=False)
    assert without == pydicom_without
    assert isinstance(without, InstanceHeader)
    assert without.pixel_sha256 == ""


def test_a_header_longer_than_the_first_read_is_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = rich()
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x20, "OB", bytes(300_000))
    path = stored(tmp_path / "a.dcm", dataset, ExplicitVRLittleEndian, False)
    with pytest.raises(TruncatedError):
        scan(path.read_bytes()[:16384], tags(["Rows"]), path.stat().st_size)

    quick, slow, _ = both_ways(str(path), monkeypatch, digests=False)

    assert quick == slow
    assert isinstance(quick, InstanceHeader)
    assert quick.rows == dataset.Rows


def test_the_place_of_the_pixels_is_found_and_not_read(tmp_path: Path) -> None:
    data = write(tmp_path / "a.dcm", ct_slice(0.0)).read_bytes()
    found = scan(data[:4096], tags(["Rows"]), len(data))

    assert found is not None
    assert (
        data[found.pixel_start : found.pixel_start + found.pixel_length]
        == ct_slice(0.0).PixelData[: found.pixel_length]
    )
    assert data[found.pixels : found.pixels + 4] == b"\xe0\x7f\x10\x00"


@pytest.mark.parametrize(
    ("what", "replacement"),
    [
        (b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"),  # big endian
        (b"DICM", b"DICX"),
        (b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00Z?\x02\x00"),  # no VR
        (b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00US\x03\x00"),  # the lengths no longer add up
    ],
)
def test_what_is_not_plain_is_declined(tmp_path: Path, what: bytes, replacement: bytes) -> None:
    data = write(tmp_path / "a.dcm", ct_slice(0.0)).read_bytes()
    assert scan(data, tags(["Rows"]), len(data)) is not None
    assert data.count(what) == 1
    assert scan(data.replace(what, replacement), tags(["Rows"]), len(data)) is None


def mutated(data: bytes, end: int, rng: random.Random) -> bytes:
    """One to three bytes of the first `end` replaced, dropped or added, or the rest cut off."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(132, max(133, min(end, len(found))))
        kind = rng.random()
        if kind < 0.8:
            found[at] = rng.choice((rng.randrange(256), rng.choice(b"0123456789. \\-+eE\0\xe4\x1b")))
        elif kind < 0.9:
            found[at : at + rng.randrange(4)] = bytes(rng.randrange(256) for _ in range(rng.randrange(4)))
        elif kind < 0.95:
            del found[at:]
        else:
            found[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xfe\xff\x00\xe0"))
    return bytes(found)


def agree(path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> bool:
    path.write_bytes(data)
    quick, slow, taken = both_ways(str(path), monkeypatch)
    assert quick == slow
    return taken


@pytest.mark.parametrize("count", [150, pytest.param(4000, marks=pytest.mark.slow)])
def test_damaged_headers_are_read_as_pydicom_reads_them_or_declined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    rng = random.Random(count)
    files = [
        stored(tmp_path / f"{n}.dcm", dataset, syntax, undefined).read_bytes()
        for n, (dataset, syntax, undefined) in enumerate(
            (
                (rich(), ExplicitVRLittleEndian, False),
                (rich(), ImplicitVRLittleEndian, True),
                (rich(), ExplicitVRLittleEndian, True),
                (film(), ImplicitVRLittleEndian, False),
            )
        )
    ]
    taken = 0
    for n in range(count):
        data = files[n % len(files)]
        taken += agree(tmp_path / "x.dcm", mutated(data, len(data) - 100, rng), monkeypatch)
    assert taken > count // 4  # most damaged values leave the structure whole: the comparison is not empty


def test_real_files_are_read_as_pydicom_reads_them(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = total = 0
    seen: dict[str, int] = {}
    for location in locations([real_data / "dicom_series", real_data / "dicom_odd"]):
        if not isinstance(location, str):
            continue
        archive = location.partition(ZIP_MARK)[0]
        seen[archive] = seen.get(archive, 0) + 1
        if ZIP_MARK in location and seen[archive] > 12:
            continue
        try:
            data = read_bytes(location)
        except VolumeError:
            continue
        total += 1
        taken += agree(tmp_path / "x", data, monkeypatch)
    assert total > 250
    assert taken > 200


def test_an_element_that_nobody_asked_for_is_absent(tmp_path: Path) -> None:
    data = write(tmp_path / "a.dcm", ct_slice(0.0)).read_bytes()
    found = scan(data, tags(["Rows"]), len(data))

    assert found is not None
    assert "Rows" in found
    assert "Columns" not in found
    assert found.numbers("Rows", 1) == (41.0,)
    assert found.get(0x00280011) is None
    assert isinstance(found.dataset(), pydicom.Dataset)
