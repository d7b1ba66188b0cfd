"""Files made to hurt: bombs, loops, lies and damage end as read, repaired or refused, in bounded time and memory."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz_dicom
import pydicom
import pytest
from fuzz_dicom import MEMORY_BYTES, PRELOAD, SECONDS, Measured, fuzz, measure, table
from fuzz_mutations import elements
from fuzz_seeds import SHAPE, seeds

from volumes.archive import crawl, read_location
from volumes.instance import InstanceHeader
from volumes.isolation import Workers
from volumes.study import group_studies, read_study
from volumes.volume import Volume, VolumeError

CASES = int(os.environ.get("MEDVLM_FUZZ_CASES", "20000"))
SEEDS = seeds()
CT = SEEDS["ct.dcm"]
UNDEFINED = b"\xff\xff\xff\xff"
ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """One element in explicit little endian, with a length that may lie."""
    wide = vr in (b"OB", b"OW", b"UN", b"SQ", b"UT")
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<HI", 0, size) if wide else struct.pack("<H", size)) + value


def with_elements(*made: bytes, source: bytes = CT) -> bytes:
    """The seed with elements put in place of its own of the same tag, or where their tag belongs."""
    data = source
    for one in made:
        tag = struct.unpack("<HH", one[:4])
        places = [(struct.unpack("<HH", data[p.start : p.start + 4]), p) for p in elements(data)]
        same = next((p for found, p in places if found == tag), None)
        after = next((p.start for found, p in places if found > tag and found[0] > 2), len(data))
        data = data[: same.start] + one + data[same.end :] if same else data[:after] + one + data[after:]
    return data


def nested(depth: int, closed: bool) -> bytes:
    """Sequences in sequences, all of undefined length."""
    head = b"\x08\0\x40\x11SQ\0\0" + UNDEFINED + ITEM + UNDEFINED
    at = CT.index(b"\x20\0\x0d\0UI")
    return CT[:at] + head * depth + (ITEM_END + SEQUENCE_END) * (depth if closed else 0) + CT[at:]


def deflated(megabytes: int) -> bytes:
    """A deflated file with a private element of zeros, packed block by block, each of which ends on a byte."""
    whole = SEEDS["ct_deflated.dcm"]
    begin = 144 + int.from_bytes(whole[140:144], "little")
    inner = zlib.decompress(whole[begin:], -15)
    pixels = 12 + 2 * SHAPE[0] * SHAPE[1]
    parts = inner[:-pixels] + element(0x00291010, b"UN", b"", megabytes * 2**20), inner[-pixels:]
    return whole[:begin] + deflated_block(parts[0]) + deflated_block(bytes(2**20)) * megabytes + finished(parts[1])


def deflated_block(data: bytes) -> bytes:
    """A part of a deflated stream that others may follow."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


def finished(data: bytes) -> bytes:
    """The last part of a deflated stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def jpeg2000(rows: int, columns: int, stated: tuple[int, int] = SHAPE) -> bytes:
    """A JPEG 2000 file whose stream claims a size, and whose header states another."""
    data = SEEDS["ct_j2k.dcm"]
    at = data.index(b"\xff\x4f\xff\x51")
    stream = bytearray(data)
    stream[at + 8 : at + 16] = struct.pack(">II", columns, rows)
    stream[at + 24 : at + 32] = struct.pack(">II", columns, rows)  # one tile
    return with_elements(
        element(0x00280010, b"US", struct.pack("<H", stated[0])),
        element(0x00280011, b"US", struct.pack("<H", stated[1])),
        source=bytes(stream),
    )


def us(tag: int, value: int) -> bytes:
    return element(tag, b"US", struct.pack("<H", value))


def palette(entries: int) -> bytes:
    """A palette that says it has so many entries (0 means 65536) and holds few."""
    made = []
    for tag in (0x00281101, 0x00281102, 0x00281103):
        made.append(element(tag, b"US", struct.pack("<3H", entries, 0, 16)))
        made.append(element(tag + 0x100, b"OW", b"\1\0" * 8))
    return with_elements(*made, source=SEEDS["palette.dcm"])


def gzip_bomb(megabytes: int) -> bytes:
    """A NIfTI of a few voxels, and zeros behind it."""
    return gzip.compress(SEEDS["volume.nii"], 1) + gzip.compress(bytes(2**24), 9) * (megabytes // 16)


def big_nifti() -> bytes:
    """A NIfTI that announces 32767 x 32767 x 32767 voxels."""
    data = bytearray(SEEDS["volume.nii"])
    data[42:48] = struct.pack("<3h", 32767, 32767, 32767)
    return bytes(data)


def decimals(tag: int, text: str) -> bytes:
    raw = text.encode()
    return with_elements(element(tag, b"DS", raw + b" " * (len(raw) % 2)))


READ = "read", "repaired"
HOSTILE: dict[str, tuple[str, Callable[[], bytes], tuple[str, ...]]] = {
    # what it is: suffix, content, how it may end
    "sequences nested ten thousand deep": ("", lambda: nested(10_000, True), ("damaged-dicom",)),
    "sequences nested a million deep that never end": ("", lambda: nested(1_000_000, False), ("damaged-dicom",)),
    "sequences nested 15 deep": ("", lambda: nested(15, True), READ),
    "an item longer than the file": (
        "",
        lambda: with_elements(element(0x00081140, b"SQ", ITEM + struct.pack("<I", 0x7FFFFFFE), 8)),
        ("damaged-dicom", "bad-description", "not-an-image", *READ),
    ),
    "a sequence that claims to hold itself again and again": (
        "",
        lambda: with_elements(element(0x00081140, b"SQ", (ITEM + struct.pack("<I", 8)) * 4000, 2**31)),
        ("damaged-dicom", "bad-description", "not-an-image", *READ),
    ),
    "empty items without end": (
        "",
        lambda: with_elements(element(0x00081140, b"SQ", (ITEM + bytes(4)) * 200_000)),
        ("damaged-dicom", *READ),
    ),
    "undefined length without a delimiter": (
        "",
        lambda: with_elements(element(0x00081140, b"SQ", ITEM + UNDEFINED, 0xFFFFFFFF)),
        ("damaged-dicom", "bad-description", "not-an-image"),
    ),
    "a value of four gigabytes": (
        "",
        lambda: with_elements(element(0x00091001, b"UN", b"", 0xFFFFFFF0)),
        ("damaged-dicom", "bad-description"),
    ),
    "a private element of 200 MB": ("", lambda: with_elements(element(0x00091001, b"UN", bytes(200 * 2**20))), READ),
    "a deflated bomb of 300 MB": ("", lambda: deflated(300), ("deflate-bomb",)),
    "a deflated file of 20 MB": ("", lambda: deflated(20), READ),
    "a terapixel JPEG 2000": ("", lambda: jpeg2000(2**20, 2**20), ("bad-description",)),
    "a JPEG 2000 of 60000 x 60000": ("", lambda: jpeg2000(60000, 60000, (60000, 60000)), ("pixel-bomb",)),
    "rows and columns of 65535": (
        "",
        lambda: with_elements(us(0x00280010, 65535), us(0x00280011, 65535)),
        ("pixel-bomb", "too-large"),
    ),
    "two thousand million frames": (
        "",
        lambda: with_elements(element(0x00280008, b"IS", b"2147483647 ")),
        ("pixel-bomb", "too-large", "no-position"),
    ),
    "more frames than a number can say": (
        "",
        lambda: with_elements(element(0x00280008, b"IS", b"99999999999999999999")),
        ("pixel-bomb", "too-large", "no-position", *READ),
    ),
    "minus four frames": ("", lambda: with_elements(element(0x00280008, b"IS", b"-4")), ("bad-description", *READ)),
    "pixel data cut in the middle": ("", lambda: CT[:-900], ("damaged-dicom", "damaged-pixels", "truncated-file")),
    "JPEG-LS cut in the middle": (
        "",
        lambda: SEEDS["ct_jpegls.dcm"][:1400],
        ("damaged-dicom", "damaged-pixels", "no-pixels"),
    ),
    "rows as text": ("", lambda: with_elements(element(0x00280010, b"LO", b"33 rows ")), ("bad-description",)),
    "a position that is not a number": ("", lambda: decimals(0x00200032, "nan\\0\\0"), ("no-position",)),
    "a position of minus infinity": ("", lambda: decimals(0x00200032, "0\\-inf\\1e999"), ("no-position",)),
    "a spacing of minus one": ("", lambda: decimals(0x00280030, "-1\\0.5"), ("mixed-spacing", "bad-spacing")),
    "a slope of zero": ("", lambda: decimals(0x00281053, "0"), ("bad-rescale",)),
    "a slope that is not a number": ("", lambda: decimals(0x00281053, "nan"), ("bad-rescale",)),
    "a slope beyond all floats": ("", lambda: decimals(0x00281053, "1e300"), ("bad-rescale", "not-finite")),
    "a palette of 65536 entries in 16 bytes": ("", lambda: palette(0), ("bad-palette", "damaged-pixels")),
    "sixteen megabytes of escapes": (
        "",
        lambda: with_elements(
            element(0x00080005, b"CS", b"\\ISO 2022 IR 87\\ISO 2022 IR 149 "),
            element(0x00081030, b"UT", b"\x1b$B\x1b(B" * (2**24 // 6)),
        ),
        ("damaged-dicom", *READ),
    ),
    "ten million values": (
        "",
        lambda: with_elements(element(0x00080008, b"UT", b"A\\" * 10_000_000)),
        ("damaged-dicom", *READ),
    ),
    "a character set that names a module": (
        "",
        lambda: with_elements(element(0x00080005, b"CS", b"../../../os\0")),
        ("damaged-dicom", *READ),
    ),
    "a character set with a zero byte": (
        "",
        lambda: with_elements(element(0x00080005, b"CS", b"ISO\0IR 6"), element(0x00080070, b"LO", b"\xe9\xe8")),
        ("damaged-dicom", *READ),
    ),
    "minus eight rows": (
        "",
        lambda: with_elements(element(0x00280010, b"SS", struct.pack("<h", -8))),
        ("bad-description",),
    ),
    "pixels of an unknown VR": ("", lambda: CT.replace(b"\xe0\x7f\x10\0OW", b"\xe0\x7f\x10\0AA"), ("damaged-pixels",)),
    "a UID that is a sequence of unknown VRs": (
        "",
        lambda: with_elements(element(0x0020000D, b"SQ", ITEM + struct.pack("<I", 12) + b"AAAAAA\0\0\0\0\0\0")),
        ("damaged-dicom", *READ),
    ),
    "a NRRD of superscript size": (
        ".nrrd",
        lambda: SEEDS["volume.nrrd"].replace(b"7 5 3", "7 5 \u00b3".encode()),
        ("not-3d",),
    ),
    "a MetaImage of superscript size": (
        ".mha",
        lambda: SEEDS["volume.mha"].replace(b"7 5 3", "7 5 \u00b3".encode("latin-1")),
        ("not-3d",),
    ),
    "a gzip bomb of 2 GB": (".nii.gz", lambda: gzip_bomb(2048), ("too-large",)),
    "a NIfTI of 70 TB": (".nii", big_nifti, ("damaged-nifti",)),
    "nothing": ("", lambda: b"", ("not-an-image", "empty-file", "damaged-dicom")),
    "a preamble alone": ("", lambda: bytes(128) + b"DICM", ("not-an-image", "damaged-dicom")),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers[str, Measured]]:
    with Workers(measure, 1, SECONDS, MEMORY_BYTES, chunk=1, preload=PRELOAD) as workers:
        yield workers


@pytest.mark.parametrize("what", HOSTILE)
def test_files_made_to_hurt(what: str, pool: Workers[str, Measured], tmp_path: Path) -> None:
    suffix, make, allowed = HOSTILE[what]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(make())
    ((_, found),) = pool.map([str(path)])
    path.unlink()
    assert isinstance(found, Measured), found
    ends = {end.removeprefix("refused: ") for end in found.ends} - {"read: object"}
    assert len(ends) == 1
    assert ends <= set(allowed)
    assert found.peak_mib < 700


def test_every_odd_and_hostile_file_ends_with_a_word(real_data: Path) -> None:
    """None dies, none takes over 5 s or 1 GB; what is refused has a reason."""
    ends = dict(table(real_data / "dicom_odd"))
    assert len(ends) > 200
    assert [name for name, found in ends.items() if isinstance(found, VolumeError)] == []
    measured = {name: found for name, found in ends.items() if isinstance(found, Measured)}
    assert max(found.seconds for found in measured.values()) < SECONDS
    assert max(found.peak_mib for found in measured.values()) < 1000
    words = {word for found in measured.values() for end in found.ends for word in [end.partition(":")[0]]}
    assert words == {"read", "repaired", "refused"}


@pytest.mark.slow
def test_damaged_files_end_as_read_repaired_or_refused() -> None:
    """20,000 files, damaged by a seeded fuzzer; MEDVLM_FUZZ_CASES asks for more. Prints how to repeat a failure."""
    found = fuzz(CASES, seed=20261)
    assert not found.failures, found.text()
    assert found.cases == CASES
    assert found.outcomes["read: masks"] > 0
    assert found.outcomes["repaired"] > CASES / 10
    assert len(found.outcomes) > 25


@pytest.mark.slow
def test_damaged_real_files_end_as_read_repaired_or_refused(real_data: Path) -> None:
    found = fuzz(max(2000, CASES // 10), seed=20262, folder=str(real_data / "dicom_odd"))
    assert not found.failures, found.text()


def test_the_fuzzer_repeats_itself_and_damages_what_it_says() -> None:
    cases = [fuzz_dicom.Case(3, number) for number in range(200)]
    made = [case.make() for case in cases]
    assert made == [case.make() for case in cases]
    assert made != [fuzz_dicom.Case(4, number).make() for number in range(200)]
    assert sum(data != SEEDS[name] for name, data, _ in made) > 180
    assert len({told for _, _, told in made}) > 100


def test_the_fuzzer_finds_a_reader_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fault that is planted is counted and printed with the words that repeat it."""
    (tmp_path / "good.dcm").write_bytes(CT)
    (tmp_path / "bad.dcm").write_bytes(b"FAULT")
    with Workers(faulty, 1) as workers:
        found = dict(workers.map([str(tmp_path / "bad.dcm"), str(tmp_path / "good.dcm")]))
    fault = found[str(tmp_path / "bad.dcm")]
    assert isinstance(fault, VolumeError)
    assert fault.reason == "reader-error"
    assert isinstance(found[str(tmp_path / "good.dcm")], InstanceHeader)
    assert fuzz_dicom.main(["--seed", "3", "--only", "5", "--keep", str(tmp_path / "kept")]) == 0
    assert fuzz_dicom.Case(3, 5).make()[2] in capsys.readouterr().out
    assert (tmp_path / "kept").read_bytes() == fuzz_dicom.Case(3, 5).make()[1]


def faulty(location: str) -> object:
    """Reads a header unless the file says what to do to the process."""
    match Path(location).read_bytes()[:5]:
        case b"FAULT":
            raise ZeroDivisionError
        case b"ABORT":
            os.abort()
        case b"BOMB!":
            return len(bytearray(8 * 2**30))
        case b"HANG!":
            while True:
                pass
    return read_location(location)


def test_a_poisoned_archive_gives_up_its_three_killers_only(tmp_path: Path) -> None:
    """1000 files, three of which kill their reader: 997 headers, 3 refusals that say how."""
    dataset = pydicom.dcmread(io.BytesIO(CT))
    for number in range(1000):
        dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.9.7.77.{number}"
        dataset.save_as(tmp_path / f"{number:04d}.dcm")
    for number, killer in {101: b"ABORT", 500: b"HANG!", 871: b"BOMB!"}.items():
        (tmp_path / f"{number:04d}.dcm").write_bytes(killer)

    with Workers(faulty, 2, seconds=2) as workers:
        found = [result for _, result in workers.map(str(path) for path in sorted(tmp_path.iterdir()))]

    uids = [header.sop_uid for header in found if isinstance(header, InstanceHeader)]
    assert len(set(uids)) == 997
    refused = {n: result.reason for n, result in enumerate(found) if isinstance(result, VolumeError)}
    assert refused == {101: "reader-died", 500: "reader-timeout", 871: "reader-memory"}


def test_a_flipped_bit_that_still_decodes_is_noticed(tmp_path: Path) -> None:
    """Compressed pixels mostly decode after damage, to other pixels. Who knows the digest is told."""
    path = tmp_path / "1.dcm"
    whole = SEEDS["ct_rle.dcm"]
    path.write_bytes(whole)
    headers = [found for found in crawl([path]) if isinstance(found, InstanceHeader)]
    (known,) = group_studies(headers)
    before = known.series[0].read()
    silent = 0
    for at in range(len(whole) - 1200, len(whole) - 8, 97):
        damaged = bytearray(whole)
        damaged[at] ^= 0x04
        path.write_bytes(damaged)
        with pytest.raises(VolumeError, match=r"changed|damaged") as caught:
            known.series[0].read()
        assert caught.value.reason == "changed-since-ingest"
        try:
            other = read_study(path).main_series().read()
        except VolumeError:
            continue
        assert isinstance(other, Volume)
        assert isinstance(before, Volume)
        silent += not other.voxels.equal(before.voxels)
    assert silent > 3, "no damage decoded silently: this test shows nothing"
