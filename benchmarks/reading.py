"""How fast series, volumes, headers and cached patches are read, beside the readers that others use; one run, ratios.

    python benchmarks/reading.py [--slices 200] [--rounds 5] [--only dicom,nifti,headers,cache]

Everything is simulated here: a body of water with noise of 12 HU, so that codecs meet an honest entropy, in slices with
the header of a real scanner (134 elements). Readers take turns, and the median of all rounds counts; the file cache is
warm for everybody. Ours reads through the public door with every check on. Peers that are not installed are named.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

Reader = Callable[[], Any]
SIZE = 512
CT = "1.2.840.10008.5.1.4.1.1.2"
SYNTAXES = {"uncompressed": ExplicitVRLittleEndian, "JPEG-LS": JPEGLSLossless, "RLE": RLELossless}


# what scanners add: acquisition, request, equipment
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
_TIMES = ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime")
_TEXTS = (
    *("AccessionNumber", "Manufacturer", "InstitutionName", "StationName", "StudyDescription", "SeriesDescription"),
    *("ManufacturerModelName", "ProtocolName", "DeviceSerialNumber", "SoftwareVersions", "ConvolutionKernel"),
    *("FilterType", "BodyPartExamined", "ScanOptions", "PatientPosition", "StudyID", "ImageComments"),
    *("PerformedProcedureStepDescription", "RequestedProcedureDescription", "RequestingService"),
    *("PerformedStationName", "ContrastBolusAgent", "ExposureModulationType"),
)
_NUMBERS = (
    *("KVP", "DataCollectionDiameter", "ReconstructionDiameter", "DistanceSourceToDetector", "DistanceSourceToPatient"),
    *("GantryDetectorTilt", "TableHeight", "FocalSpots", "SpiralPitchFactor", "CTDIvol", "SingleCollimationWidth"),
    *("TotalCollimationWidth", "TableSpeed", "TableFeedPerRotation", "SpacingBetweenSlices", "SliceLocation"),
    *("PatientSize", "PatientWeight", "ContrastBolusVolume", "ContrastBolusTotalDose"),
)
_WHOLE = ("ExposureTime", "XRayTubeCurrent", "Exposure", "GeneratorPower", "SeriesNumber", "AcquisitionNumber")


class Row(NamedTuple):
    """One line of the table: a peer, and how many times faster ours has to be."""

    task: str
    peer: str
    seconds: float
    ours: float
    goal: float | None

    @property
    def ratio(self) -> float:
        """Their time over ours."""
        return self.seconds / self.ours


def body(slices: int, seed: int = 5) -> np.ndarray:
    """(slices, 512, 512) int16 stored values of an elliptic body with noise; air around it is noisy too."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    inside = (x / 0.8) ** 2 + (y / 0.55) ** 2 < 1
    lungs = ((np.abs(x) - 0.38) / 0.25) ** 2 + (y / 0.35) ** 2 < 1
    still = np.where(lungs, -820.0, np.where(inside, 45.0 + 20 * np.sin(9 * x) * np.cos(7 * y), -1000.0))
    noise = rng.normal(0, 12, (slices, SIZE, SIZE)).astype(np.float32)
    return np.clip(np.rint(still + noise) + 1024, 0, 4095).astype(np.int16)


def header(index: int) -> Dataset:
    """The header of one slice, as long as those of real scanners."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, f"1.2.826.0.1.77.3.{index + 1}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.77", "1.2.826.0.1.77.2"
    dataset.FrameOfReferenceUID, dataset.ImageType = "1.2.826.0.1.77.9", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SpecificCharacterSet, dataset.Modality, dataset.PatientID = "ISO_IR 100", "CT", "SIM-1"
    dataset.ImagePositionPatient = [-180.5, -171.25, -40.0 + 1.5 * index]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness, dataset.InstanceNumber = [0.703125, 0.703125], 2, index + 1
    dataset.Rows = dataset.Columns = SIZE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
    dataset.PixelPaddingValue = -2000
    dataset.WindowCenter, dataset.WindowWidth = [40, -600], [400, 1600]
    _fill(dataset)
    return dataset


def _fill(dataset: Dataset) -> None:
    """What a scanner adds: acquisition, request, equipment, references, and private blocks."""
    for names, value in (
        (_DATES, "20240131"),
        (_TIMES, "101500.5"),
        (_TEXTS, "SIMULATED"),
        (_NUMBERS, 12.5),
        (_WHOLE, 7),
    ):
        for name in names:
            setattr(dataset, name, value)
    inner = Dataset()
    inner.CodeValue, inner.CodingSchemeDesignator, inner.CodeMeaning = "113691", "DCM", "IEC Body Dosimetry Phantom"
    for name in ("ProcedureCodeSequence", "CTDIPhantomTypeCodeSequence", "RequestAttributesSequence"):
        setattr(dataset, name, Sequence([inner]))
    for group in (0x0009, 0x0019, 0x0021, 0x0029, 0x0043):
        block = dataset.private_block(group, "SIMULATED SCANNER", create=True)
        for element in range(8):
            block.add_new(element, "LO" if element else "OB", "12.5" if element else bytes(600))


def write_series(folder: Path, stored: np.ndarray, syntax: str) -> None:
    """One file per slice; their names say nothing about the order."""
    folder.mkdir()
    order = np.random.default_rng(3).permutation(len(stored))
    for name, index in enumerate(order):
        dataset = header(int(index))
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = CT
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.PixelData = stored[index].tobytes()
        if syntax != ExplicitVRLittleEndian:
            dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(folder / f"IM{name:04d}.dcm", enforce_file_format=True)


def read_ours(folder: Path) -> np.ndarray:
    """Through the public door, with every check."""
    from volumes.study import read_study

    volume = read_study(folder).main_series().read()
    return volume.voxels.numpy()  # type: ignore[union-attr]


def read_pydicom(folder: Path) -> np.ndarray:
    """The best plain loop: headers kept, order by z, into an array that is there already. It checks nothing."""
    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    out = np.empty((len(slices), int(slices[0].Rows), int(slices[0].Columns)), np.float32)
    for place, one in zip(out, slices, strict=True):
        plugin = {JPEGLSLossless: "pyjpegls", RLELossless: "pylibjpeg"}.get(one.file_meta.TransferSyntaxUID, "")
        np.multiply(pydicom.pixels.pixel_array(one, decoding_plugin=plugin), float(one.RescaleSlope), out=place)
        place += float(one.RescaleIntercept)
    return out


def read_simpleitk(folder: Path) -> np.ndarray:
    """The series reader of SimpleITK, which sorts by position."""
    import SimpleITK as sitk  # noqa: N813 (its own short name)

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayViewFromImage(reader.Execute())


def read_monai(folder: Path, **options: Any) -> Any:
    """MONAI's LoadImage with a named or its default reader."""
    from monai.transforms import LoadImage

    return LoadImage(image_only=True, **options)(str(folder))


def dicom_readers(folder: Path) -> dict[str, Reader]:
    """Everybody who reads a series and is installed."""
    readers: dict[str, Reader] = {
        "ours": lambda: read_ours(folder),
        "pydicom loop without checks": lambda: read_pydicom(folder),
        "SimpleITK series reader": lambda: read_simpleitk(folder),
        "MONAI PydicomReader": lambda: read_monai(folder, reader="PydicomReader"),
    }
    if importlib.util.find_spec("itk"):
        readers["MONAI default reader"] = lambda: read_monai(folder)
    return readers


class BareDecoding:
    """The limit of any reader of a JPEG-LS series: CharLS in two processes, no file, no order, no check, no result."""

    name = "CharLS alone, two processes (the limit)"

    def __init__(self, folder: Path) -> None:
        found = [pydicom.dcmread(path) for path in folder.iterdir()]
        self.frames = [next(pydicom.encaps.generate_frames(one.PixelData, number_of_frames=1)) for one in found]

    def half(self, first: int) -> None:
        """Decode every second frame."""
        import jpeg_ls

        for frame in self.frames[first::2]:
            jpeg_ls.decode_pixel_data(frame)

    def __call__(self) -> None:
        """Both halves at once; forked children have the frames already."""
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=self.half, args=(first,)) for first in (0, 1)]
        for child in children:
            child.start()
        for child in children:
            child.join()


GOALS = {
    "uncompressed": {
        "pydicom loop without checks": 0.85,
        "SimpleITK series reader": 1.2,
        "MONAI PydicomReader": 3.0,
        "MONAI default reader": 6.0,
    }
}


def measure(readers: dict[str, Reader], rounds: int) -> dict[str, float]:
    """Median seconds of each, taking turns; the first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(rounds + 1):
        for name, read in readers.items():
            start = time.perf_counter()
            found = read()
            took = time.perf_counter() - start
            del found
            if turn:
                seconds[name].append(took)
    return {name: statistics.median(values) for name, values in seconds.items()}


def rows(task: str, readers: dict[str, Reader], rounds: int, goals: dict[str, float]) -> Iterator[Row]:
    """One row per peer."""
    found = measure(readers, rounds)
    for name, seconds in found.items():
        if name != "ours":
            yield Row(task, name, seconds, found["ours"], goals.get(name))


def check(readers: dict[str, Reader], truth: np.ndarray) -> None:
    """Whoever wins must have read the right voxels: ours and the loop are compared with the truth."""
    for name in ("ours", "pydicom loop without checks"):
        found = readers[name]()
        if not np.array_equal(found, truth):
            raise SystemExit(f"{name} read other voxels than were written")


def dicom_rows(folder: Path, slices: int, rounds: int) -> Iterator[Row]:
    """The three encodings of one series."""
    stored = body(slices)
    truth = stored.astype(np.float32) - 1024
    for name, syntax in SYNTAXES.items():
        place = folder / name
        write_series(place, stored, syntax)
        readers = dicom_readers(place)
        check(readers, truth)
        goals = GOALS.get(name, dict.fromkeys(readers, 1.6))
        if name == "JPEG-LS":
            readers[BareDecoding.name] = BareDecoding(place)
        yield from rows(f"series of {slices} slices, {name}", readers, rounds, goals)


def nifti_rows(folder: Path, slices: int, rounds: int) -> Iterator[Row]:
    """A .nii.gz, its checksum verified by ours."""
    import nibabel as nib
    import SimpleITK as sitk  # noqa: N813

    from volumes.nifti import read_nifti

    path = folder / "volume.nii.gz"
    affine = np.diag([-0.7, -0.7, 1.5, 1.0])
    with gzip.GzipFile(path, "wb", compresslevel=6, mtime=0) as stream:
        image = nib.Nifti1Image((body(slices) - 1024).transpose(2, 1, 0), affine)
        image.header.set_xyzt_units("mm")
        stream.write(image.to_bytes())
    readers: dict[str, Reader] = {
        "ours": lambda: read_nifti(path),
        "nibabel": lambda: np.asarray(nib.load(path).dataobj, dtype=np.float32),
        "SimpleITK": lambda: sitk.ReadImage(str(path)),
        "MONAI NibabelReader": lambda: read_monai(path, reader="NibabelReader"),
    }
    yield from rows("volume, .nii.gz, checksum verified", readers, rounds, {"nibabel": 1.8})


def header_rows(folder: Path, rounds: int) -> Iterator[Row]:
    """Headers of the uncompressed series, as `crawl` reads them, on one core."""
    from volumes.archive import crawl

    place = folder / "headers"
    write_series(place, np.zeros((200, SIZE, SIZE), np.int16), ExplicitVRLittleEndian)
    paths = list(place.iterdir())
    readers: dict[str, Reader] = {
        "ours": lambda: list(crawl([place], digests=False)),
        "dcmread(stop_before_pixels=True)": lambda: [pydicom.dcmread(p, stop_before_pixels=True) for p in paths],
    }
    yield from rows("headers of 200 files", readers, rounds, {"dcmread(stop_before_pixels=True)": 4.0})


def cache_rows(folder: Path, slices: int, rounds: int) -> Iterator[Row]:
    """A cached volume and 96^3 patches of it, beside reading the .nii.gz again with nibabel."""
    import nibabel as nib

    from volumes.cache import VolumeCache
    from volumes.study import read_study

    path = folder / "cached.nii.gz"
    image = nib.Nifti1Image((body(slices) - 1024).transpose(2, 1, 0), np.diag([-0.7, -0.7, 1.5, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    series = read_study(path, unit="HU", modality="CT").main_series()
    cache = VolumeCache(folder / "cache", 8 * 2**30)
    cache.get(series)
    loaded = lambda: np.asarray(nib.load(path).dataobj, dtype=np.float32)  # noqa: E731
    whole: dict[str, Reader] = {"ours": lambda: cache.get(series), "nibabel, .nii.gz": loaded}
    yield from rows("cached volume", whole, rounds, {"nibabel, .nii.gz": 6.0})
    corner, shape = (slices // 4, 100, 120), (min(96, slices), 96, 96)
    cut = tuple(slice(c, c + s) for c, s in zip(corner[::-1], shape[::-1], strict=True))
    patch: dict[str, Reader] = {
        "ours": lambda: cache.patch(series, corner, shape),
        "nibabel, .nii.gz": lambda: loaded()[cut],
    }
    yield from rows("patch of 96³ voxels", patch, rounds, {"nibabel, .nii.gz": 30.0})


def table(found: list[Row]) -> str:
    """Markdown."""
    lines = ["| task | ours, s | against | s | ratio | goal | met |", "|---|---|---|---|---|---|---|"]
    for row in found:
        goal = "" if row.goal is None else f"≥ {row.goal:g}"
        met = "" if row.goal is None else ("yes" if row.ratio >= row.goal else "**no**")
        cells = (row.task, f"{row.ours:.4f}", row.peer, f"{row.seconds:.4f}", f"{row.ratio:.2f}", goal, met)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print the table; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="dicom,nifti,headers,cache")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    parts = options.only.split(",")
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "dicom" in parts:
            found += dicom_rows(folder, options.slices, options.rounds)
        if "nifti" in parts:
            found += nifti_rows(folder, options.slices, options.rounds)
        if "headers" in parts:
            found += header_rows(folder, options.rounds)
        if "cache" in parts:
            found += cache_rows(folder, options.slices, options.rounds)
    print(f"{os.cpu_count()} cores, {options.slices} slices of {SIZE} x {SIZE}, median of {options.rounds} rounds\n")
    print(table(found))
    if not importlib.util.find_spec("itk"):
        print("\nMONAI's default reader needs itk, which is not installed: not compared (pip install itk)")
    return int(any(row.goal is not None and row.ratio < row.goal for row in found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
