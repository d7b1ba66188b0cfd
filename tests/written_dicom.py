"""DICOM files for tests: a CT whose every voxel tells where it lies, so that one number catches any wrong geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
DX_STORAGE = "1.2.840.10008.5.1.4.1.1.1.1"
FIELD_HU_PER_MM = np.array([2.0, 3.0, 5.0])  # HU = this . (x, y, z) in LPS mm
SPACING = (0.8, 0.5)  # row, column: never isotropic
SHAPE = (41, 37)  # rows, columns: never square
TILT = np.radians(20)
OBLIQUE = (0.8, 0.6, 0.0, -0.6 * np.cos(TILT), 0.8 * np.cos(TILT), np.sin(TILT))
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STUDY_UID, SERIES_UID = "1.2.826.0.1.9.1", "1.2.826.0.1.9.1.1"


def field_hu(xyz: np.ndarray) -> np.ndarray:
    """The true HU at LPS positions (..., 3)."""
    return xyz @ FIELD_HU_PER_MM


def write(path: Path, dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Save with a meta header; encapsulated syntaxes are compressed first."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if syntax != ExplicitVRLittleEndian:
        dataset.compress(syntax, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def image(pixels: np.ndarray, sop_class: str, modality: str, **tags: Any) -> Dataset:
    """A single-frame gray image of unsigned or signed 16-bit pixels; `tags` are set last."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY_UID, SERIES_UID
    dataset.PatientID, dataset.PatientName, dataset.AccessionNumber = "MRN-0042", "Secret^Name", "ACC7"
    dataset.StudyDate, dataset.Modality, dataset.BodyPartExamined = "20240131", modality, "CHEST"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def ct_slice(
    distance_mm: float, orientation: tuple[float, ...] = OBLIQUE, shift: tuple[float, ...] = (0, 0, 0), **tags: Any
) -> Dataset:
    """One slice of the field, `distance_mm` along the normal from an origin that is not zero."""
    along_i, along_j = np.array(orientation[:3]), np.array(orientation[3:])
    origin = np.array([-31.0, 17.0, 43.0]) + distance_mm * np.cross(along_i, along_j) + np.array(shift)
    rows, columns = np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]), indexing="ij")
    xyz = origin + rows[..., None] * SPACING[0] * along_j + columns[..., None] * SPACING[1] * along_i
    slope = float(tags.get("RescaleSlope", 0.5))
    intercept = float(tags.get("RescaleIntercept", -1024.0))
    stored = np.rint((field_hu(xyz) - intercept) / slope).astype(np.uint16)
    dataset = image(stored, CT_STORAGE, "CT", RescaleSlope=slope, RescaleIntercept=intercept)
    dataset.ImagePositionPatient = [round(float(v), 6) for v in origin]
    dataset.ImageOrientationPatient = [round(float(v), 9) for v in orientation]
    dataset.PixelSpacing, dataset.SliceThickness = list(SPACING), 3.0
    dataset.FrameOfReferenceUID, dataset.ImageType = "1.2.826.0.1.9.2", ["ORIGINAL", "PRIMARY", "AXIAL"]
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def write_ct(folder: Path, distances_mm: tuple[float, ...] = (0, 2, 4, 6, 8), **options: Any) -> Path:
    """A CT folder; file names and InstanceNumbers say nothing about the order."""
    for number, distance in enumerate(distances_mm):
        name = f"{(number * 7 + 3) % 11:02d}_{number}.dcm"
        write(folder / name, ct_slice(distance, InstanceNumber=(number * 5) % 7, **options))
    return folder


def film(**tags: Any) -> Dataset:
    """A DX of 12 stored bits, 6 x 5 pixels that differ everywhere."""
    pixels = (np.arange(30, dtype=np.uint16).reshape(6, 5) * 100 + 7).astype(np.uint16)
    dataset = image(pixels, DX_STORAGE, "DX", BitsStored=12, HighBit=11, ViewPosition="PA")
    dataset.ImagerPixelSpacing = [0.2, 0.3]
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def reread(path: Path) -> Dataset:
    """The dataset of a written file."""
    return pydicom.dcmread(path)
