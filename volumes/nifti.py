"""NIfTI -> Volume. RAS and the (i, j, k) order exist in this file only; what leaves it is LPS and (k, j, i)."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from volumes.archive import MAX_FILE_BYTES, read_bytes
from volumes.instance import derived_uid
from volumes.volume import SeriesError, Source, Unit, Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TO_MM = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI xyzt_units: metre, millimetre, micron


def read_nifti(path: str | Path, unit: Unit = "raw", source: Source | None = None, modality: str = "") -> Volume:
    """Voxels (D, H, W) with slope applied, in `unit`, which the caller knows and the file cannot say.

    Raises SeriesError for a damaged file (the gzip checksum is verified), more than three dimensions, colour, or a
    file that does not say how it lies in the patient. Format: nifti.nimh.nih.gov/nifti-1.
    """
    data = unzip(read_bytes(path))
    image = _parse(data)
    notes: list[str] = []
    affine = _affine(image.header, notes)
    voxels = _voxels(image, notes)
    lps = RAS_TO_LPS @ affine
    kji = lps[:, [2, 1, 0, 3]]
    if source is None:
        uid = derived_uid("series", data)
        source = Source(derived_uid("study", data), uid, (derived_uid("instance", data),), modality, path=str(path))
    return Volume(torch.from_numpy(voxels), torch.from_numpy(kji), unit, source, tuple(notes))


def unzip(data: bytes) -> bytes:
    """Inflate gzip bytes to the last one, which verifies the checksum. Raises SeriesError on damage or a bomb."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            found = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SeriesError(f"the gzip file is truncated or damaged ({error}); fetch it again", "damaged-gzip") from error
    if len(found) > MAX_FILE_BYTES:
        raise SeriesError(f"the gzip file inflates to more than {MAX_FILE_BYTES} bytes; it is not read", "too-large")
    return found


def _parse(data: bytes) -> Any:
    sizeof_header = int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")
    kind = nib.Nifti2Image if 540 in sizeof_header else nib.Nifti1Image
    try:
        return kind.from_bytes(data)
    except (ImageFileError, HeaderDataError, ValueError, OSError, KeyError, TypeError) as error:
        lines = str(error).splitlines()
        raise SeriesError(
            f"not a single-file NIfTI ({lines[0][:120] if lines else type(error).__name__}); pairs of .hdr and .img are"
            " not read: convert them to .nii.gz",
            "damaged-nifti",
        ) from error


def _affine(header: Any, notes: list[str]) -> NDArray[np.float64]:
    """RAS affine in mm: sform first, else qform, as the standard orders them; a conflict of the two is noted."""
    sform, s_code = header.get_sform(coded=True)
    try:
        qform, q_code = header.get_qform(coded=True)
    except (HeaderDataError, ValueError) as error:
        qform, q_code = None, 0
        notes.append(f"the qform is invalid and was ignored: {error}")
    if not s_code and not q_code:
        raise SeriesError(
            "neither sform nor qform is set: the file does not say how it lies in the patient. Convert it again with"
            " a tool that keeps the orientation",
            "no-orientation",
        )
    affine = np.asarray(sform if s_code else qform, dtype=np.float64)
    if s_code and q_code:
        corner = np.array([*(n - 1 for n in header.get_data_shape()[:3]), 1.0])
        differ = (sform - qform)[:3]
        apart = max(float(np.linalg.norm(differ[:, 3])), float(np.linalg.norm(differ @ corner)))
        if apart > 0.5:
            notes.append(f"sform and qform place voxels up to {apart:.1f} mm apart: the sform was followed")
    factor = _TO_MM.get(int(header["xyzt_units"]) & 7)
    if factor is None:
        notes.append("the file does not name its length unit: millimetres, as the standard's default in practice")
    elif factor != 1.0:
        affine = np.diag([factor, factor, factor, 1.0]) @ affine
        notes.append(f"lengths multiplied by {factor:g} to give millimetres")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise SeriesError("the affine is singular or not finite: voxels have no place in the patient", "bad-affine")
    return affine


def _voxels(image: Any, notes: list[str]) -> NDArray[np.float32]:
    shape = tuple(int(n) for n in image.shape)
    dtype = image.get_data_dtype()
    if dtype.fields is not None or dtype.kind == "c":
        raise SeriesError(f"voxels are colour or complex ({dtype}); expected one real number each", "not-grey")
    if len(shape) > 3 and math.prod(shape[3:]) == 1:
        notes.append(f"trailing dimensions of size one dropped from {shape}")
        shape = shape[:3]
    if len(shape) != 3:
        raise SeriesError(
            f"the file has the shape {shape}; expected three dimensions. Split a time series into volumes",
            "not-3d",
        )
    if min(shape) < 1:
        raise SeriesError(f"the file has the shape {shape}: it holds no voxels", "empty-image")
    try:
        stored = np.asanyarray(image.dataobj)  # applies slope and intercept; 0 or NaN slope means none (the standard)
    except (OSError, ValueError, EOFError) as error:
        raise SeriesError(f"voxels are missing: {str(error).splitlines()[0][:160]}", "damaged-nifti") from error
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    if (slope, intercept) != (1.0, 0.0):
        notes.append(f"values rescaled with slope {slope:g} and intercept {intercept:g}")
    voxels = np.ascontiguousarray(stored.reshape(shape).transpose(2, 1, 0), dtype=np.float32)
    broken = int(voxels.size - np.isfinite(voxels).sum())
    if broken:
        notes.append(f"{broken} voxels are not finite numbers")
    return voxels
