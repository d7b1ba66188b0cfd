"""Every transfer syntax gives the pixels that went in, by a named decoder, or a refusal that names the syntax."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian
from written_dicom import CT_STORAGE, image, reread, write

from volumes import transfer_syntaxes
from volumes.codestreams import StreamSize, fragments, stream_size
from volumes.errors import VolumeError
from volumes.header import open_dataset
from volumes.pixels import decode
from volumes.transfer_syntaxes import CODECS, NATIVE, Codec, codecs, document, is_installed, name_of, table

PREFIX = "1.2.840.10008.1.2."
SIGNED, UNSIGNED, COLOUR = "signed 16", "unsigned 12", "colour 8"
Encode = Callable[[Path, Dataset], Path]


def smooth(shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """Values with an edge, a ramp and noise, which codecs predict well in places and badly in others."""
    rng = np.random.default_rng(11)
    ramp = np.add.outer(np.arange(shape[0]) * 7, np.arange(shape[1]) * 5) % (high - low)
    values = low + ramp + rng.integers(0, 40, shape[:2])
    values[5:20, 7:30] = high - 1
    found = np.clip(values, low, high - 1)
    return found if len(shape) == 2 else np.stack([np.roll(found, n, axis=1) for n in range(shape[2])], axis=-1)


def picture(kind: str) -> tuple[Dataset, np.ndarray]:
    """(dataset, its stored values): 61 x 47, so that nothing is a multiple of a block."""
    if kind == COLOUR:
        values = smooth((61, 47, 3), 0, 256).astype(np.uint8)
        dataset = image(values[..., 0].astype(np.uint16), "1.2.840.10008.5.1.4.1.1.7", "OT")
        dataset.PixelData, dataset.SamplesPerPixel = values.tobytes() + b"\0", 3
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        return dataset, values
    if kind == SIGNED:
        values = smooth((61, 47), -2000, 3000).astype(np.int16)
        return image(values, CT_STORAGE, "CT"), values
    values = smooth((61, 47), 0, 4096).astype(np.uint16)
    return image(values, CT_STORAGE, "CT", BitsStored=12, HighBit=11), values


def with_dcmtk(*command: str) -> Encode:
    def run(folder: Path, dataset: Dataset) -> Path:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} of dcmtk is not installed")
        plain, out = write(folder / "plain.dcm", dataset), folder / "out.dcm"
        finished = subprocess.run([*command, str(plain), str(out)], capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        return out

    return run


def with_pydicom(syntax: str) -> Encode:
    return lambda folder, dataset: write(folder / "out.dcm", dataset, syntax)


def with_frames(syntax: str, encode: Callable[[np.ndarray], bytes]) -> Encode:
    def run(folder: Path, dataset: Dataset) -> Path:
        bits, sign = dataset.BitsAllocated, "i" if dataset.PixelRepresentation else "u"
        shape = (61, 47, 3) if dataset.SamplesPerPixel == 3 else (61, 47)
        values = np.frombuffer(dataset.PixelData, f"<{sign}{bits // 8}", int(np.prod(shape))).reshape(shape)
        dataset.PixelData = encapsulate([encode(values)])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        meta, body = DicomBytesIO(), DicomBytesIO()  # by hand: pydicom writes no syntax that it does not know
        body.is_little_endian, body.is_implicit_VR = True, False
        write_file_meta_info(meta, dataset.file_meta)
        write_dataset(body, dataset)
        (folder / "out.dcm").write_bytes(bytes(128) + b"DICM" + meta.getvalue() + body.getvalue())
        return folder / "out.dcm"

    return run


def deflated(values: np.ndarray) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(values.tobytes()) + packer.flush()


def by_imagecodecs(name: str, **options: object) -> Callable[[np.ndarray], bytes]:
    def run(values: np.ndarray) -> bytes:
        imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs (extra codecs) is not installed")
        unsigned = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
        return bytes(getattr(imagecodecs, f"{name}_encode")(unsigned, **options))

    return run


JPEG_XL = by_imagecodecs("jpegxl", lossless=True)
ROUND_TRIPS: dict[str, tuple[str, Encode, tuple[str, ...]]] = {
    "implicit": (f"{PREFIX[:-1]}", with_dcmtk("dcmconv", "+ti"), (SIGNED, UNSIGNED, COLOUR)),
    "big endian": (f"{PREFIX}2", with_dcmtk("dcmconv", "+tb"), (SIGNED, UNSIGNED, COLOUR)),
    "deflated": (f"{PREFIX}1.99", with_dcmtk("dcmconv", "+td"), (SIGNED, UNSIGNED, COLOUR)),
    "uncompressed frames": (f"{PREFIX}1.98", with_frames(f"{PREFIX}1.98", np.ndarray.tobytes), (SIGNED, COLOUR)),
    "deflated frames": (f"{PREFIX}8.1", with_frames(f"{PREFIX}8.1", deflated), (SIGNED, UNSIGNED, COLOUR)),
    "RLE": (f"{PREFIX}5", with_pydicom(f"{PREFIX}5"), (SIGNED, UNSIGNED, COLOUR)),
    "RLE of dcmtk": (f"{PREFIX}5", with_dcmtk("dcmcrle"), (SIGNED, UNSIGNED, COLOUR)),
    "JPEG-LS": (f"{PREFIX}4.80", with_pydicom(f"{PREFIX}4.80"), (SIGNED, UNSIGNED, COLOUR)),
    "JPEG-LS of dcmtk": (f"{PREFIX}4.80", with_dcmtk("dcmcjpls"), (SIGNED, UNSIGNED, COLOUR)),
    "JPEG 2000": (f"{PREFIX}4.90", with_pydicom(f"{PREFIX}4.90"), (SIGNED, UNSIGNED, COLOUR)),
    "JPEG 2000 part 2": (f"{PREFIX}4.92", with_frames(f"{PREFIX}4.92", by_imagecodecs("jpeg2k", level=0)), (UNSIGNED,)),
    "JPEG lossless of dcmtk": (f"{PREFIX}4.70", with_dcmtk("dcmcjpeg"), (UNSIGNED, SIGNED, COLOUR)),
    "JPEG lossless 14": (f"{PREFIX}4.57", with_dcmtk("dcmcjpeg", "+el"), (UNSIGNED, SIGNED)),
    "JPEG XL": (
        f"{PREFIX}4.110",
        with_frames(f"{PREFIX}4.110", by_imagecodecs("jpegxl", lossless=True)),
        (UNSIGNED, COLOUR),
    ),
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, (_, _, kinds) in ROUND_TRIPS.items() for kind in kinds]
)
def test_a_lossless_syntax_gives_the_pixels_that_went_in(tmp_path: Path, name: str, kind: str) -> None:
    syntax, encode, _ = ROUND_TRIPS[name]
    needed = CODECS.get(syntax, ())
    if needed and not any(map(is_installed, needed)):
        pytest.skip(f"no decoder of {name} is installed: {needed[0].extra}")
    dataset, truth = picture(kind)

    path = encode(tmp_path, dataset)

    assert reread(path).file_meta.TransferSyntaxUID == syntax
    with path.open("rb") as stream:
        found = decode(open_dataset(stream))
    assert found.dtype == truth.dtype
    assert np.array_equal(found, truth)


@pytest.mark.parametrize(("process", "option"), [(50, "+eb"), (51, "+ee"), (53, "+es"), (55, "+ep")])
@pytest.mark.parametrize("bits", [8, 12])
def test_lossy_jpeg_is_near_what_went_in(tmp_path: Path, process: int, option: str, bits: int) -> None:
    if bits == 12 and process == 50:
        pytest.skip("JPEG baseline has 8 bits")
    syntax = f"{PREFIX}4.{process}"
    if not any(map(is_installed, CODECS[syntax])):
        pytest.skip("imagecodecs (extra codecs) is not installed")
    rows, columns = np.mgrid[:61, :47]
    values = ((rows + 2 * columns) * (2**bits - 200) // 160).astype(np.uint16)
    dataset = image(values, CT_STORAGE, "CT", BitsStored=bits, HighBit=bits - 1)
    if bits == 8:
        values = ((rows + 2 * columns) * 1.2).astype(np.uint16)
        dataset.PixelData, dataset.BitsAllocated = values.astype(np.uint8).tobytes() + b"\0", 8
        dataset.BitsStored, dataset.HighBit = 8, 7

    path = with_dcmtk("dcmcjpeg", option, "+q", "95")(tmp_path, dataset)

    assert reread(path).file_meta.TransferSyntaxUID == syntax
    with path.open("rb") as stream:
        found = decode(open_dataset(stream))
    assert np.abs(found.astype(int) - values).max() <= 2**bits // 60


@pytest.mark.parametrize(("syntax", "codec"), [("100", "mpeg2video"), ("102", "libx264"), ("107", "libx265")])
def test_video_is_decoded_frame_by_frame(tmp_path: Path, syntax: str, codec: str) -> None:
    av = pytest.importorskip("av", reason="PyAV (extra video) is not installed")
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no encoder {codec}")
    stream = io.BytesIO()
    with av.open(stream, "w", format="mpegts") as container:
        track = container.add_stream(codec, rate=25)
        track.width, track.height, track.pix_fmt = 96, 64, "yuv420p"
        for n in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 40 * n + 20, np.uint8), format="rgb24")
            for packet in track.encode(frame):
                container.mux(packet)
        for packet in track.encode():
            container.mux(packet)
    dataset = image(np.zeros((64, 96), np.uint16), "1.2.840.10008.5.1.4.1.1.77.1.1.1", "ES")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "YBR_PARTIAL_420", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.NumberOfFrames = 8, 8, 7, 5
    path = with_frames(f"{PREFIX}4.{syntax}", lambda _: stream.getvalue())
    dataset.PixelData = bytes(61 * 47 * 3)

    with path(tmp_path, dataset).open("rb") as opened:
        found = decode(open_dataset(opened))

    assert found.shape == (5, 64, 96, 3)
    assert found.mean(axis=(1, 2, 3)) == pytest.approx([20, 60, 100, 140, 180], abs=4)
    dataset.NumberOfFrames = 4
    with pytest.raises(VolumeError, match="more than the 4 frames that are announced"):
        decode(dataset)
    dataset.NumberOfFrames, dataset.Rows = 5, 63
    with pytest.raises(VolumeError, match="the video is 64 x 96, the header says 63 x 96"):
        decode(dataset)


def test_one_bit_frames_are_unpacked_each_from_its_first_byte() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, (3, 5, 7)).astype(np.uint8)
    dataset = image(np.zeros((5, 7), np.uint16), "1.2.840.10008.5.1.4.1.1.66.4", "SEG")
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.NumberOfFrames = 1, 1, 0, 3
    dataset.file_meta = FileMetaDataset()
    for syntax, encode in (
        (f"{PREFIX}8.1", lambda bits: deflated(np.packbits(bits, bitorder="little"))),
        (f"{PREFIX}5", lambda bits: _one_segment(np.packbits(bits, bitorder="little").tobytes())),
    ):
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([encode(frame.reshape(-1)) for frame in truth])
        assert np.array_equal(decode(dataset), truth), syntax


def _one_segment(raw: bytes) -> bytes:
    packed = bytes([len(raw) - 1]) + raw
    return np.array([1, 64, *[0] * 14], "<u4").tobytes() + packed + b"\0" * (len(packed) % 2)


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
def test_float_pixels_are_read_as_they_are(name: str) -> None:
    truth = np.linspace(-1.5, 2.5, 35, dtype="<f4" if name[0] == "F" else "<f8").reshape(5, 7)
    dataset = image(np.zeros((5, 7), np.uint16), CT_STORAGE, "CT")
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit
    dataset.BitsAllocated = 8 * truth.itemsize
    setattr(dataset, name, truth.tobytes())
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian

    assert np.array_equal(decode(dataset), truth)


def test_a_codestream_of_another_size_than_the_header_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    for syntax in ("80", "90"):
        dataset, _ = picture(UNSIGNED)
        path = write(tmp_path / f"{syntax}.dcm", dataset, f"{PREFIX}4.{syntax}")
        found = reread(path)
        found.Rows = 60
        with pytest.raises(VolumeError, match="declares 61 rows x 47 columns, the header 60 x 47") as refused:
            decode(found)
        assert refused.value.reason == "bad-description"


def test_a_few_bytes_that_claim_to_be_gigabytes_are_refused() -> None:
    dataset, _ = picture(UNSIGNED)
    dataset.Rows, dataset.Columns = 40000, 40000
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    dataset.file_meta = FileMetaDataset()
    for syntax in (f"{PREFIX}5", f"{PREFIX}4.80", f"{PREFIX}8.1", ExplicitVRLittleEndian):
        dataset.file_meta.TransferSyntaxUID = syntax
        with pytest.raises(VolumeError, match=r"24 bytes.*claim to unpack to 3200000000 bytes") as refused:
            decode(dataset)
        assert refused.value.reason == "pixel-bomb"


def test_streams_say_their_size() -> None:
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc1\x00\x0b\x0c\x00\x3d\x00\x2f\x01\x01\x11\x00"
    assert stream_size(jpeg) == StreamSize(61, 47, 1, 12)
    siz = b"\xff\x4f\xff\x51\x00\x29\x00\x00" + np.array([47 + 3, 61 + 2, 3, 2], ">u4").tobytes() + bytes(16)
    assert stream_size(siz + b"\x00\x03\x8b\x01\x01") == StreamSize(61, 47, 3, 12)
    for other in (b"", b"\xff\xd8", jpeg[:12], b"\xff\xd8\xff\xda\x00\x08" + bytes(20), bytes(64)):
        assert stream_size(other) is None


def test_fragments_must_add_up() -> None:
    whole = encapsulate([b"abcd", b"efghij"]) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    found = fragments(whole, 0)
    assert found is not None
    assert [whole[at : at + n] for at, n in found] == [b"abcd", b"efghij"]
    for damaged in (whole[:-1], whole[:-8], whole + b"\0", b"xx" + whole, whole.replace(b"\x04\0\0\0", b"\xf0\0\0\0")):
        assert fragments(damaged, 0) is None


@pytest.mark.parametrize(
    ("syntax", "told"),
    [
        ("4.94", r"JPIP Referenced \(.*4\.94\): the pixels are not in the file"),
        ("7.1", r"SMPTE ST 2110-20.*a live video stream"),
        ("4.65", r"4\.65\), which nothing here decodes.*Explicit VR Little Endian"),
        ("9.99", r"9\.99\), which nothing here decodes.*dcmdjpeg or dcmconv"),
    ],
)
def test_the_rest_is_refused_by_name(syntax: str, told: str) -> None:
    with pytest.raises(VolumeError, match=told) as refused:
        codecs(PREFIX + syntax)
    assert refused.value.reason == "transfer-syntax"


def test_a_decoder_that_is_absent_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_syntaxes, "is_installed", lambda one: False)
    with pytest.raises(
        VolumeError,
        match=r"JPEG Lossless.*imagecodecs \(libjpeg-turbo\) or pylibjpeg-libjpeg \(GPL-3\.0\), is not installed:"
        r' `pip install "medvlm-platform\[codecs\]"` or `pip install "medvlm-platform\[jpeg\]"`',
    ):
        codecs(f"{PREFIX}4.70")


def test_the_table_names_every_syntax_once_and_gdcm_never() -> None:
    lines = table().splitlines()
    for syntax in (*NATIVE, *CODECS):
        assert sum(f"| {syntax} |" in line for line in lines) == 1, syntax
        assert name_of(syntax) != syntax
    assert "gdcm" not in table()
    assert all(isinstance(one, Codec) and one.name for known in CODECS.values() for one in known)


def test_the_page_for_people_is_up_to_date(repository: Path) -> None:
    page = repository / "docs" / "transfer_syntaxes.md"
    assert page.read_text(encoding="utf-8") == document(), "run python -m volumes.transfer_syntaxes > docs/..."


def test_real_files_decode_to_the_recorded_shape_and_type(real_data: Path) -> None:
    folder = real_data / "dicom_odd"
    decoded = 0
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] != "hostile"]
    for row in rows:
        recorded = row["pydicom3_all_plugins_decode"]
        if not recorded.startswith("ok"):
            continue
        with (folder / row["file"]).open("rb") as stream:
            dataset = open_dataset(stream)
        known = CODECS.get(str(dataset.file_meta.get("TransferSyntaxUID", "")), ())
        if known and not any(map(is_installed, known)):
            continue
        found = decode(dataset)
        assert f"ok {found.shape} {found.dtype}" == recorded.replace(">i2", "int16"), row["file"]
        decoded += 1
    assert decoded > 60


def test_one_slice_in_every_lossless_syntax_is_one_image(real_data: Path) -> None:
    folder = real_data / "dicom_odd" / "transfer_syntax"
    for stem, plain in (("CT1", None), ("MR1", None), ("NM1", None), ("CTImage", "LittleEndianExplicit")):
        names = ("JPLL", "JLSL", "J2KR", "RLE") if plain is None else ("Process14", "JPEGLSLossless", "RLE", "LossLess")
        found: list[np.ndarray] = []
        for path in sorted(folder.glob(f"{stem}*")):
            if not any(name.lower() in path.name.lower() for name in names):
                continue
            with path.open("rb") as stream:
                dataset = open_dataset(stream)
            if any(map(is_installed, CODECS[dataset.file_meta.TransferSyntaxUID])):
                found.append(decode(dataset))
        assert len(found) > 1
        for other in found[1:]:
            assert np.array_equal(found[0], other), stem
