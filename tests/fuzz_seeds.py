"""Small whole files of every kind that is read here, byte for byte the same at each call: what the fuzzer damages."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
COMPRESSED = {
    "rle": "1.2.840.10008.1.2.5",
    "jpegls": "1.2.840.10008.1.2.4.80",
    "j2k": "1.2.840.10008.1.2.4.90",
    "j2k_lossy": "1.2.840.10008.1.2.4.91",
}
BASELINE = "1.2.840.10008.1.2.4.50"
SOP = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "enhanced": "1.2.840.10008.5.1.4.1.1.2.1",
    "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3",
    "SR": "1.2.840.10008.5.1.4.1.1.88.11",
}
SHAPE = (33, 38)  # rows, columns; smaller ones are refused by encoders of JPEG 2000
UID = "1.2.826.0.1.3680043.9.7"


def seeds() -> dict[str, bytes]:
    """File name -> content."""
    return {**dict(_dicom()), **dict(_others())}


def _pixels(frames: int = 1) -> np.ndarray:
    """(frames, rows, columns) of 12 bits."""
    k, i, j = np.meshgrid(*map(np.arange, (frames, *SHAPE)), indexing="ij")
    return (1000 + 13 * i + 29 * j + 101 * k + 7 * (i * j % 5)).astype(np.uint16)


def _object(kind: str, modality: str, number: int = 1, **values: Any) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = SOP[kind], f"{UID}.{number}.{len(kind)}"
    dataset.StudyDate, dataset.AccessionNumber, dataset.Modality = "20240131", "ACC7", modality
    dataset.PatientName, dataset.PatientID = "Phantom^Fuzz", "MRN-0042"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{UID}.8", f"{UID}.9"
    dataset.FrameOfReferenceUID, dataset.SeriesNumber, dataset.InstanceNumber = f"{UID}.10", 3, number
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def _image(kind: str, modality: str, pixels: np.ndarray, **values: Any) -> Dataset:
    dataset = _object(kind, modality, **values)
    dataset.Rows, dataset.Columns = pixels.shape[1:3]
    dataset.SamplesPerPixel = pixels.shape[3] if pixels.ndim == 4 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 4 else "MONOCHROME2"
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, min(bits, 12), min(bits, 12) - 1
    dataset.PixelRepresentation = 0
    if len(pixels) > 1:
        dataset.NumberOfFrames = len(pixels)
    data = pixels.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def _ct(number: int = 1, **values: Any) -> Dataset:
    dataset = _image("CT", "CT", _pixels(), number=number, RescaleSlope="1.5", RescaleIntercept="-1024")
    dataset.ImagePositionPatient = ["-31.5", "17.25", str(43 + 2.5 * number)]
    dataset.ImageOrientationPatient = ["0.8", "0.6", "0", "-0.6", "0.8", "0"]
    dataset.PixelSpacing, dataset.SliceThickness = ["0.8", "0.5"], "2.5"
    dataset.RescaleType, dataset.PixelPaddingValue = "HU", 1000
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def _bytes(dataset: Dataset, syntax: str = EXPLICIT, preamble: bool = True) -> bytes:
    implicit, little = syntax == IMPLICIT, syntax != BIG_ENDIAN
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    if syntax in COMPRESSED.values():
        options = {"j2k_cr": [4]} if syntax == COMPRESSED["j2k_lossy"] else {}
        dataset.compress(syntax, generate_instance_uid=False, **options)
    elif not little:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    stream = io.BytesIO()
    if preamble:
        pydicom.dcmwrite(stream, dataset, enforce_file_format=True, implicit_vr=implicit, little_endian=little)
    else:
        del dataset.file_meta
        pydicom.dcmwrite(stream, dataset, implicit_vr=implicit, little_endian=little)
    return stream.getvalue()


def _dicom() -> Iterator[tuple[str, bytes]]:
    yield "ct.dcm", _bytes(_ct())
    yield "ct_implicit.dcm", _bytes(_ct(), IMPLICIT)
    yield "ct_big_endian.dcm", _bytes(_ct(), BIG_ENDIAN)
    yield "ct_deflated.dcm", _bytes(_ct(), DEFLATED)
    yield "ct_bare", _bytes(_ct(), IMPLICIT, preamble=False)
    for name, syntax in COMPRESSED.items():
        yield f"ct_{name}.dcm", _bytes(_ct(), syntax)
    film = _image("DX", "DX", _pixels(), PhotometricInterpretation="MONOCHROME1", ViewPosition="PA")
    film.ImagerPixelSpacing, film.PatientOrientation = ["0.2", "0.3"], ["L", "F"]
    film.ViewCodeSequence = Sequence([_code("399348003", "antero-posterior")])
    yield "film.dcm", _bytes(film)
    yield "film_jpeg.dcm", _bytes(_baseline(), BASELINE)
    yield "film_lut.dcm", _bytes(_with_luts())
    yield "ultrasound.dcm", _bytes(_image("US", "US", _rgb(1)))
    yield "cine_rle.dcm", _bytes(_image("US", "US", _rgb(4)), COMPRESSED["rle"])
    yield "palette.dcm", _bytes(_palette())
    yield "pet.dcm", _bytes(_pet())
    yield "enhanced.dcm", _bytes(_enhanced())
    yield "enhanced_j2k.dcm", _bytes(_enhanced(), COMPRESSED["j2k"])
    yield "segments.dcm", _bytes(_segments())
    yield "structures.dcm", _bytes(_structures())
    yield "report.dcm", _bytes(_report())
    japanese = _ct(SpecificCharacterSet=["", "ISO 2022 IR 87"], SeriesDescription="Phantom")
    japanese.PatientName = "Yamada^Tarou=\033$B;3ED\033(B^\033$BB@O:\033(B".encode("ascii")
    yield "ct_charset.dcm", _bytes(japanese)


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def _rgb(frames: int) -> np.ndarray:
    gray = (_pixels(frames) % 251).astype(np.uint8)
    return np.stack([gray, gray // 2, 255 - gray], axis=-1)


def _baseline() -> Dataset:
    stream = io.BytesIO()
    Image.fromarray((_pixels()[0] % 256).astype(np.uint8)).save(stream, "JPEG", quality=90)
    dataset = _image("DX", "DX", (_pixels() % 256).astype(np.uint8), BitsStored=8, HighBit=7)
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    return dataset


def _with_luts() -> Dataset:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [256, 1000, 16], "OD"
    table.add_new("LUTData", "OW", np.arange(256, dtype="<u2").tobytes())
    window = Dataset()
    window.LUTDescriptor = [256, 0, 16]
    window.add_new("LUTData", "OW", np.arange(256, dtype="<u2").tobytes())
    dataset = _image("DX", "DX", _pixels(), ModalityLUTSequence=Sequence([table]), VOILUTSequence=Sequence([window]))
    dataset.WindowCenter, dataset.WindowWidth = ["40", "60"], ["400", "1500"]
    return dataset


def _palette() -> Dataset:
    dataset = _image("US", "US", (_pixels() % 256).astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", np.arange(0, 65536, 256, dtype="<u2").tobytes())
    dataset.BitsStored, dataset.HighBit = 8, 7
    return dataset


def _pet() -> Dataset:
    dose = Dataset()
    dose.RadiopharmaceuticalStartTime, dose.RadionuclideTotalDose = "093000", "370000000"
    dose.RadionuclideHalfLife = "6586.2"
    values = {"Units": "BQML", "CorrectedImage": ["ATTN", "DECY"], "DecayCorrection": "START", "PatientWeight": "70"}
    dataset = _ct(**values, SeriesTime="103000", AcquisitionTime="103000", SeriesDate="20240131")
    dataset.SOPClassUID, dataset.Modality = SOP["PT"], "PT"
    dataset.RadiopharmaceuticalInformationSequence = Sequence([dose])
    return dataset


def _groups(number: int) -> Dataset:
    frame, position, plane = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = ["-31.5", "17.25", str(40 + 2.5 * number)]
    frame.PlanePositionSequence = Sequence([position])
    plane.ImageOrientationPatient = ["0.8", "0.6", "0", "-0.6", "0.8", "0"]
    frame.PlaneOrientationSequence = Sequence([plane])
    return frame


def _shared() -> Dataset:
    shared, measures, values = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ["0.8", "0.5"], "2.5"
    shared.PixelMeasuresSequence = Sequence([measures])
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "1.5", "-1024", "HU"
    shared.PixelValueTransformationSequence = Sequence([values])
    return shared


def _enhanced() -> Dataset:
    dataset = _image("enhanced", "CT", _pixels(3))
    dataset.SharedFunctionalGroupsSequence = Sequence([_shared()])
    dataset.PerFrameFunctionalGroupsSequence = Sequence([_groups(n) for n in range(3)])
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        dataset[name].is_undefined_length = True
        for item in dataset[name].value:
            item.is_undefined_length_sequence_item = True
    return dataset


def _segments() -> Dataset:
    dataset = _image("SEG", "SEG", (_pixels(3) % 2).astype(np.uint8), SegmentationType="BINARY")
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    bits = np.packbits((_pixels(3) % 2).ravel().astype(np.uint8), bitorder="little").tobytes()
    dataset.PixelData = bits + b"\0" * (len(bits) % 2)
    segment, identification = Dataset(), Dataset()
    segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmType = 1, "nodule", "MANUAL"
    segment.SegmentedPropertyTypeCodeSequence = Sequence([_code("27925004", "Nodule")])
    dataset.SegmentSequence = Sequence([segment])
    dataset.SharedFunctionalGroupsSequence = Sequence([_shared()])
    identification.ReferencedSegmentNumber = 1
    frames = [_groups(n) for n in range(3)]
    for frame in frames:
        frame.SegmentIdentificationSequence = Sequence([identification])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return dataset


def _structures() -> Dataset:
    dataset = _object("RTSTRUCT", "RTSTRUCT", StructureSetLabel="phantom")
    region, drawn, contour = Dataset(), Dataset(), Dataset()
    region.ROINumber, region.ROIName, region.ReferencedFrameOfReferenceUID = 1, "nodule", f"{UID}.10"
    dataset.StructureSetROISequence = Sequence([region])
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
    contour.ContourData = ["-31", "18", "42.5", "-28", "20", "42.5", "-30", "22", "42.5", "-33", "20", "42.5"]
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, Sequence([contour])
    dataset.ROIContourSequence = Sequence([drawn])
    return dataset


def _report() -> Dataset:
    dataset = _object("SR", "SR", ValueType="CONTAINER", CompletionFlag="COMPLETE", VerificationFlag="VERIFIED")
    dataset.ConceptNameCodeSequence = Sequence([_code("18748-4", "Diagnostic imaging report")])
    inner: list[Dataset] = []
    for depth in range(5):
        item = Dataset()
        item.RelationshipType, item.ValueType = "CONTAINS", "CONTAINER" if inner else "TEXT"
        item.ConceptNameCodeSequence = Sequence([_code(f"12107{depth}", "Finding")])
        if inner:
            item.ContentSequence = Sequence(inner)
        else:
            item.TextValue = "No pleural effusion."
        inner = [item]
    dataset.ContentSequence = Sequence(inner)
    return dataset


def _others() -> Iterator[tuple[str, bytes]]:
    nifti = _nifti()
    yield "volume.nii", nifti
    yield "volume.nii.gz", gzip.compress(nifti, mtime=0)
    head = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 7 5 3\nendian: little\n"
    head += "space directions: (0.8,0.6,0) (-0.6,0.8,0) (0,0,2.5)\nspace origin: (-31,17,43)\nencoding: "
    body = np.arange(105, dtype="<i2").tobytes()
    yield "volume.nrrd", (head + "raw\n\n").encode() + body
    yield "packed.nrrd", (head + "gzip\n\n").encode() + gzip.compress(body, mtime=0)
    meta = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    meta += "TransformMatrix = 0.8 0.6 0 -0.6 0.8 0 0 0 1\nOffset = -31 17 43\nAnatomicalOrientation = RAI\n"
    meta += "ElementSpacing = 0.8 0.5 2.5\nDimSize = 7 5 3\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    yield "volume.mha", meta.encode() + body
    for name, kind in (("film.png", "PNG"), ("film.jpg", "JPEG")):
        stream = io.BytesIO()
        Image.fromarray((_pixels()[0] % 256).astype(np.uint8)).save(stream, kind)
        yield name, stream.getvalue()
    one, two = _bytes(_ct(1)), _bytes(_ct(2))
    inner = _zip({"2.dcm": two}, zipfile.ZIP_DEFLATED)
    yield "study.zip", _zip({"a/1.dcm": one, "a/2.dcm": two}, zipfile.ZIP_DEFLATED)
    yield "nested.zip", _zip({"1.dcm": one, "inner.zip": inner}, zipfile.ZIP_STORED)


def _nifti() -> bytes:
    head = bytearray(352)
    fields: list[tuple[int, str, Any]] = [
        (0, "<i4", 348), (40, "<i2", (3, 7, 5, 3, 1, 1, 1, 1)), (70, "<i2", (4, 16)),
        (76, "<f4", (1, 0.8, 0.5, 2.5, 0, 0, 0, 0, 352, 1.5, -1024)), (123, "u1", 2), (252, "<i2", (1, 1)),
        (256, "<f4", (0, 0, 0.3, -31, 17, 43)),
        (280, "<f4", (0.64, -0.3, 0, -31, 0.48, 0.4, 0, 17, 0, 0, 2.5, 43)),
    ]  # fmt: skip
    for at, kind, value in fields:
        raw = np.asarray(value, dtype=kind).tobytes()
        head[at : at + len(raw)] = raw
    head[344:348] = b"n+1\0"
    return bytes(head) + np.arange(105, dtype="<i2").tobytes()


def _zip(members: dict[str, bytes], method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, data in members.items():
            made.writestr(zipfile.ZipInfo(name), data, method)
    return stream.getvalue()


def real_files(folder: Path, largest: int, keep: Callable[[Path], bool] = lambda _: True) -> dict[str, bytes]:
    """The files below a folder that are no larger than asked, by a name without separators."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.stat().st_size <= largest and keep(p))
    return {"-".join(path.relative_to(folder).parts): path.read_bytes() for path in found}
