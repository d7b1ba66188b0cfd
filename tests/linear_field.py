"""The linear-field suite: 40 DICOM series whose value tells the true place: HU = 2x + 3y + 5z (LPS mm).

A reader is right when value(voxel) == f(affine @ index): one number in mm catches every error of order, spacing, flip,
shear and rescale at once. The phantom is never cubic, isotropic or at the origin. Used by tests and by a benchmark.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

GRADIENT = np.array([2.0, 3.0, 5.0])  # HU per mm along x, y, z
SHAPE = (24, 40, 56)  # slices, rows, columns
SPACING = (2.3, 0.7, 0.9)  # mm: slices, rows, columns
ORIGIN = np.array([-31.7, 17.2, 43.9])
SLOPE, INTERCEPT = 0.25, -1024.0
LATER_HU = 700.0  # added at the second time point
RIGHT_MM = 0.35  # 99th percentile of the error of a reader that is right
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
STUDY, SERIES = "1.2.826.0.1.7.1", "1.2.826.0.1.7.1.1"
Image = tuple[np.ndarray, np.ndarray]  # voxels (k, j, i) and affine (4, 4) to LPS mm
Step = Sequence[float] | np.ndarray


def rotated(*degrees: float) -> tuple[float, ...]:
    """Row and column cosines after turning the axial plane about x, y and z."""
    a, b, c = np.radians(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turn = z @ y @ x
    return (*turn[:, 0], *turn[:, 1])


def normal_of(orientation: Sequence[float]) -> np.ndarray:
    """The slice normal."""
    return np.cross(orientation[:3], orientation[3:])


def field_hu(xyz: np.ndarray) -> np.ndarray:
    """The true HU at LPS positions (..., 3)."""
    return xyz @ GRADIENT


def error_mm(image: Image, later: bool = False) -> tuple[float, float]:
    """(median, 99th percentile) of the error of an image in mm along the gradient; `later` is the second time point."""
    voxels, affine = image
    index = np.stack(np.meshgrid(*(np.arange(n) for n in voxels.shape), indexing="ij"), axis=-1)
    truth = field_hu(index @ affine[:3, :3].T + affine[:3, 3]) + (LATER_HU if later else 0.0)
    error = np.abs(voxels - truth) / np.linalg.norm(GRADIENT)
    return float(np.median(error)), float(np.percentile(error, 99))


def plane(
    position: Step,
    orientation: Sequence[float] = AXIAL,
    shape: tuple[int, int] = SHAPE[1:],
    spacing: tuple[float, float] = SPACING[1:],
    add_hu: float = 0.0,
    slope: float = SLOPE,
    intercept: float = INTERCEPT,
    signed: bool = False,
    **tags: Any,
) -> Dataset:
    """One CT slice of the field with its first pixel at `position`; `tags` are set last, None deletes."""
    along_i, along_j = np.array(orientation[:3]), np.array(orientation[3:])
    rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    xyz = np.asarray(position) + rows[..., None] * spacing[0] * along_j + columns[..., None] * spacing[1] * along_i
    stored = np.rint((field_hu(xyz) + add_hu - intercept) / slope)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = STUDY, SERIES, STUDY + ".2"
    dataset.PatientID, dataset.Modality, dataset.StudyDate = "P1", "CT", "20240131"
    dataset.ImageType, dataset.SeriesNumber, dataset.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], 3, "HFS"
    dataset.ImagePositionPatient = [round(float(v), 6) for v in position]
    dataset.ImageOrientationPatient = [round(float(v), 9) for v in orientation]
    dataset.PixelSpacing, dataset.SliceThickness = list(spacing), SPACING[0]
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(signed)
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = slope, intercept, "HU"
    dataset.PixelData = stored.astype(np.int16 if signed else np.uint16).tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def positions(
    count: int = SHAPE[0], orientation: Sequence[float] = AXIAL, step: Step | None = None, origin: Step = ORIGIN
) -> list[np.ndarray]:
    """Where the slices of a regular stack lie."""
    along = np.asarray(normal_of(orientation) * SPACING[0] if step is None else step)
    return [np.asarray(origin) + k * along for k in range(count)]


def save(path: Path, dataset: Dataset, syntax: str = ExplicitVRLittleEndian, preamble: bool = True) -> Path:
    """Write one file, encoded as `syntax`; JPEG lossless needs dcmcjpeg of dcmtk."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    if syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        dataset.file_meta.TransferSyntaxUID = syntax
    elif syntax in (JPEGLSLossless, JPEG2000Lossless, RLELossless):
        dataset.compress(syntax, generate_instance_uid=False)
    if not preamble:
        del dataset.file_meta
        pydicom.dcmwrite(path, dataset, enforce_file_format=False, implicit_vr=False, little_endian=True)
        return path
    dataset.save_as(path, enforce_file_format=True)
    if syntax == JPEGLosslessSV1:
        command = ["dcmcjpeg", "+e1", str(path), f"{path}.jpg"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        Path(f"{path}.jpg").replace(path)
    return path


def write(folder: Path, slices: Sequence[Dataset], **options: Any) -> None:
    """A folder of slices whose names say nothing about their order; InstanceNumber rises with the list."""
    suffix = options.pop("suffix", ".dcm")
    for n, dataset in enumerate(slices):
        if "InstanceNumber" not in dataset:
            dataset.InstanceNumber = n + 1
        save(folder / f"{(n * 17 + 5) % 101:03d}_{n}{suffix}", dataset, **options)


def stack(
    orientation: Sequence[float] = AXIAL, step: Step | None = None, count: int = SHAPE[0], **options: Any
) -> list[Dataset]:
    """A regular series."""
    return [plane(at, orientation, **options) for at in positions(count, orientation, step)]


def enhanced(slices: Sequence[Dataset], sop_class: str = "1.2.840.10008.5.1.4.1.1.2.1") -> Dataset:
    """The slices as frames of one Enhanced multi-frame file, in the order given; per-frame rescale."""
    whole = copy.deepcopy(slices[0])
    whole.SOPClassUID, whole.SOPInstanceUID, whole.NumberOfFrames = sop_class, generate_uid(), len(slices)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(whole, name)
    shared, plane_, measures = Dataset(), Dataset(), Dataset()
    plane_.ImageOrientationPatient = slices[0].ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, slices[0].SliceThickness
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane_], [measures]
    frames = []
    for n, one in enumerate(slices):
        frame, place, values, content = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = one.ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = one.RescaleSlope, one.RescaleIntercept, "HU"
        content.StackID, content.InStackPositionNumber = "1", n + 1
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [values]
        frame.FrameContentSequence = [content]
        frames.append(frame)
    whole.SharedFunctionalGroupsSequence, whole.PerFrameFunctionalGroupsSequence = [shared], frames
    whole.PixelData = b"".join(one.PixelData for one in slices)
    return whole


@dataclass(frozen=True)
class Case:
    """One named case. `shapes` are the images a right reader gives; `reason` why it must refuse instead."""

    name: str
    build: Callable[[Path], None]
    shapes: tuple[tuple[int, ...], ...] = (SHAPE,)
    reason: str = ""
    later: bool = False  # the second image is a later time point


CASES: list[Case] = []


def case(name: str, **expected: Any) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Add a case to the list."""

    def add(build: Callable[[Path], None]) -> Callable[[Path], None]:
        CASES.append(Case(name, build, **expected))
        return build

    return add


def simple(name: str, *arguments: Any, saved: dict[str, Any] | None = None, **options: Any) -> None:
    """Add a case that is a regular series with options."""
    CASES.append(Case(name, lambda folder: write(folder, stack(*arguments, **options), **(saved or {}))))


def numbered(slices: list[Dataset], numbers: Sequence[int | None]) -> list[Dataset]:
    """InstanceNumbers as told; None leaves an empty one."""
    for dataset, number in zip(slices, numbers, strict=True):
        dataset.InstanceNumber = number
    return slices


simple("01_axial")


@case("02_inst_reversed")
def _(folder: Path) -> None:
    write(folder, numbered(stack(), range(SHAPE[0], 0, -1)))


@case("03_inst_random")
def _(folder: Path) -> None:
    write(folder, numbered(stack(), [(7 * n) % SHAPE[0] for n in range(SHAPE[0])]))


@case("04_inst_missing")
def _(folder: Path) -> None:
    write(folder, numbered(stack(), [None] * SHAPE[0]))


simple("05_coronal", CORONAL)
simple("06_sagittal", SAGITTAL)
simple("07_double_oblique", rotated(20, -15, 35))
simple("08_aniso_pixel", spacing=(0.5, 1.5))
simple("09_gantry_tilt15", AXIAL, (0.0, SPACING[0] * np.tan(np.radians(15)), SPACING[0]))


@case("10_missing_middle", reason="missing-slice")
def _(folder: Path) -> None:
    slices = stack()
    del slices[12]
    write(folder, slices)


@case("11_missing_5", reason="missing-slice")
def _(folder: Path) -> None:
    write(folder, [one for n, one in enumerate(stack()) if n not in (3, 4, 9, 15, 20)])


@case("12_variable_spacing", reason="variable-spacing")
def _(folder: Path) -> None:
    heights = np.cumsum([2.3 if n < 12 else 3.1 for n in range(SHAPE[0])])
    write(folder, [plane(ORIGIN + np.array([0, 0, z])) for z in heights])


@case("13_duplicates")
def _(folder: Path) -> None:
    slices = stack()
    again = [copy.deepcopy(one) for one in slices[5:9]]
    for one in again:
        one.SOPInstanceUID = generate_uid()
    write(folder, slices + again)


@case("14_localizer_same_series")
def _(folder: Path) -> None:
    scout = [plane(ORIGIN + np.array([5, 0, 30]), CORONAL, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])]
    write(folder, stack() + scout)


@case("15_two_series_folder", shapes=(SHAPE, (10, *SHAPE[1:])))
def _(folder: Path) -> None:
    other = {"SeriesInstanceUID": SERIES + "2", "SeriesNumber": 4}
    write(folder, stack() + stack(CORONAL, count=10, **other))


@case("16_slope_per_slice")
def _(folder: Path) -> None:
    write(folder, [plane(at, slope=0.2 + 0.013 * n) for n, at in enumerate(positions())])


simple("17_thickness_ne_spacing", SliceThickness=5.0)
simple("18_wrong_SpacingBetweenSlices", SpacingBetweenSlices=-7.0)


@case("19_jitter_0.02mm")
def _(folder: Path) -> None:
    jitter = np.random.default_rng(19).uniform(-0.02, 0.02, (SHAPE[0], 3))
    write(folder, [plane(at + off) for at, off in zip(positions(), jitter, strict=True)])


simple("20_head_first_prone", PRONE, PatientPosition="HFP")


@case("21_two_timepoints", shapes=(SHAPE, SHAPE), later=True)
def _(folder: Path) -> None:
    first = stack(TemporalPositionIdentifier=1, AcquisitionNumber=1, AcquisitionTime="101500")
    second = stack(TemporalPositionIdentifier=2, AcquisitionNumber=2, AcquisitionTime="101530", add_hu=LATER_HU)
    write(folder, first + second)


@case("22_overlay_highbits")
def _(folder: Path) -> None:
    slices = stack()
    for one in slices:
        stored = np.frombuffer(one.PixelData, np.uint16)
        one.PixelData = (stored | np.uint16(0xC000) * (np.arange(stored.size) % 3 == 0).astype(np.uint16)).tobytes()
        one.BitsStored, one.HighBit = 14, 13
    write(folder, slices)


simple("23_signed", signed=True, intercept=0.0)


@case("24_truncated_file", reason="damaged-pixels")
def _(folder: Path) -> None:
    write(folder, stack())
    victim = sorted(folder.iterdir())[12]
    victim.write_bytes(victim.read_bytes()[:-1500])


@case("25_no_ipp", reason="no-position")
def _(folder: Path) -> None:
    write(folder, stack(ImagePositionPatient=None))


@case("26_foreign_file_in_folder")
def _(folder: Path) -> None:
    write(folder, stack())
    (folder / "readme.txt").write_text("exported by a workstation")
    (folder / "DICOMDIR.tmp").write_bytes(bytes(300))


simple("27_jpegls", saved={"syntax": JPEGLSLossless})
simple("28_j2k", saved={"syntax": JPEG2000Lossless})
simple("29_rle", saved={"syntax": RLELossless})
simple("30_jpeg_lossless", saved={"syntax": JPEGLosslessSV1})
simple("31_bigendian", saved={"syntax": ExplicitVRBigEndian})
simple("32_deflated", saved={"syntax": DeflatedExplicitVRLittleEndian})
simple("33_no_preamble", saved={"preamble": False})
simple("34_no_extension", saved={"suffix": ""})
simple("35_descending_z", AXIAL, (0.0, 0.0, -SPACING[0]))


@case("36_iop_rounding_1e-4")
def _(folder: Path) -> None:
    turned = rotated(11, 7, -5)
    noise = np.random.default_rng(36).uniform(-1e-4, 1e-4, (SHAPE[0], 6))
    slices = stack(turned)
    for one, off in zip(slices, noise, strict=True):
        one.ImageOrientationPatient = [round(float(v), 6) for v in np.array(turned) + off]
    write(folder, slices)


CASES.append(Case("37_two_slices", lambda f: write(f, stack(count=2)), ((2, *SHAPE[1:]),)))
CASES.append(Case("38_single_slice", lambda f: write(f, stack(count=1)), ((1, *SHAPE[1:]),)))


@case("39_pixelspacing_differs")
def _(folder: Path) -> None:
    slices = stack()
    for n, one in enumerate(slices):
        one.PixelSpacing = [round(v + 2e-5 * (n % 3), 6) for v in SPACING[1:]]
    write(folder, slices)


@case("40_enhanced_multiframe")
def _(folder: Path) -> None:
    slices = [
        plane(at, rotated(5, 12, -8), slope=0.2 + 0.01 * n) for n, at in enumerate(positions(24, rotated(5, 12, -8)))
    ]
    order = np.random.default_rng(40).permutation(len(slices))
    save(folder / "enhanced.dcm", enhanced([slices[n] for n in order]))


def can_write(name: str) -> bool:
    """Whether this machine has the encoder that a case needs."""
    return name != "30_jpeg_lossless" or shutil.which("dcmcjpeg") is not None


def judge(one: Case, read: Callable[[Path], list[Image]], folder: Path) -> str:
    """ "right", "refused", or "wrong" with the errors in mm: what a reader makes of a case written to `folder`."""
    try:
        images = read(folder)
    except Exception as error:  # whatever another reader raises is its refusal
        return f"refused ({type(error).__name__})"
    told = []
    for image in images:
        median, p99 = min((error_mm(image, later) for later in {False, one.later}), key=lambda e: e[1])
        if p99 >= RIGHT_MM:
            told.append(f"{median:.1f}/{p99:.1f} mm")
    if told or not images:
        return f"wrong ({'; '.join(told) or 'no image'})"
    if one.reason:
        return "right"  # a field without error, although slices had to be made up
    found = sorted(tuple(sorted(v.shape)) for v, _ in images)
    wanted = sorted(tuple(sorted(s)) for s in one.shapes)
    missing = [s for s in wanted if s not in found]
    return f"part ({len(found)} of {len(wanted)} images)" if missing or len(found) < len(wanted) else "right"
