"""Volume or masks -> NIfTI. LPS becomes RAS here; the reader's `nifti.py` is the exact way back.

sform and qform are both set and place every voxel alike; a sheared affine (gantry tilt) fits no qform, so only the
sform is set then. The header holds no text but the unit. Format: nifti.nimh.nih.gov/nifti-1 and nifti-2.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from volumes.masks import Mask
from volumes.nifti import RAS_TO_LPS
from volumes.volume import Volume, VolumeError

SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT: coordinates of the scanner, as in DICOM
_SLOPES = tuple(2.0**-n for n in range(7))  # steps that binary fractions hold exactly, so that reading is lossless
_MAX_INT16_EDGE = 32767  # NIfTI-1 counts voxels along an axis in 16 bits
_SAME_MM = 1e-3


def write_nifti(
    path: Path | str,
    volume: Volume,
    *,
    numbers: Literal["auto", "int16", "float32"] = "auto",
    version: Literal[1, 2] = 1,
    level: int = 1,
) -> Path:
    """Write `path` (.nii or .nii.gz) and return it; reading it gives the same voxels, bit by bit.

    "auto" takes int16 with a slope and intercept where that loses nothing, else float32. Version 1 stores positions as
    32-bit floats (within 0.00002 mm at 300 mm from the origin); version 2 keeps all digits. `level` is the compression
    of isal, 0 to 3. Raises VolumeError for another suffix or values that int16 cannot hold.
    """
    voxels = volume.voxels.numpy()
    stored, slope, intercept = _as_int16(voxels) if numbers != "float32" else (None, 1.0, 0.0)
    if stored is None and numbers == "int16":
        raise VolumeError(
            f"voxels from {float(voxels.min()):g} to {float(voxels.max()):g} have no lossless form in int16; write"
            " float32",
            "not-lossless",
        )
    data = voxels if stored is None else stored
    return _write(Path(path), data, volume, (slope, intercept), f"medvlm; unit {volume.unit}", version, level)


def write_mask_nifti(path: Path | str, mask: Mask | Tensor, image: Volume, *, level: int = 1) -> Path:
    """One mask as uint8 0 and 1 on the grid of its image."""
    voxels = mask.voxels if isinstance(mask, Mask) else mask
    _check_grid(voxels, image)
    return _write(Path(path), voxels.numpy().astype(np.uint8), image, (1.0, 0.0), "medvlm; mask", 1, level)


def write_label_nifti(path: Path | str, masks: Mapping[str, Mask], image: Volume, *, level: int = 1) -> dict[int, str]:
    """All masks in one map of labels 1, 2 ... in their order; returns the names. Overlapping masks are refused."""
    labels = np.zeros(image.shape, dtype=np.uint8 if len(masks) < 256 else np.int16)
    for number, (name, mask) in enumerate(masks.items(), 1):
        _check_grid(mask.voxels, image)
        inside = mask.voxels.numpy()
        shared = int(np.count_nonzero(labels[inside]))
        if shared:
            raise VolumeError(
                f"mask {name!r} shares {shared} voxels with an earlier one, and a map of labels has one per voxel;"
                " write one file per mask",
                "overlapping-masks",
            )
        labels[inside] = number
    _write(Path(path), labels, image, (1.0, 0.0), "medvlm; labels", 1, level)
    return dict(enumerate(masks, 1))


def _check_grid(voxels: Tensor, image: Volume) -> None:
    if tuple(voxels.shape) != image.shape:
        raise VolumeError(f"the mask has the shape {tuple(voxels.shape)}, its image {image.shape}", "other-grid")


def _as_int16(voxels: NDArray[np.float32]) -> tuple[NDArray[np.int16] | None, float, float]:
    """(stored, slope, intercept) with stored * slope + intercept == voxels exactly, or (None, 1, 0)."""
    low, high = float(voxels.min()), float(voxels.max())
    if not (np.isfinite(low) and np.isfinite(high)) or _has_negative_zero(voxels):
        return None, 1.0, 0.0
    sample = voxels.ravel()[:: max(1, voxels.size // 4096)]
    for slope in _SLOPES:
        if (high - low) / slope > 65535:
            break
        fits = -32768 * slope <= low and high <= 32767 * slope
        intercept = 0.0 if fits else float(np.float32(low + 32768 * slope))
        if _steps(sample, slope, intercept) is None:
            continue
        stored = _steps(voxels, slope, intercept)
        if stored is not None:
            return stored.astype(np.int16), slope, intercept
    return None, 1.0, 0.0


def _steps(voxels: NDArray[np.float32], slope: float, intercept: float) -> NDArray[np.float64] | None:
    stored = np.rint((voxels.astype(np.float64) - intercept) / slope)
    same = np.array_equal(stored * slope + intercept, voxels)
    return stored if same and abs(stored).max() <= 32768 and stored.max() < 32768 else None


def _has_negative_zero(voxels: NDArray[np.float32]) -> bool:
    return bool((np.signbit(voxels) & (voxels == 0)).any())


def _write(
    path: Path,
    kji: NDArray[Any],
    volume: Volume,
    scaling: tuple[float, float],
    description: str,
    version: int,
    level: int,
) -> Path:
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise VolumeError(f"{path.name}: a NIfTI file is called .nii or .nii.gz", "bad-suffix")
    header = _header(kji, volume, scaling, description, version)
    voxels = np.ascontiguousarray(kji, header.get_data_dtype())
    parts: list[bytes | memoryview] = [header.binaryblock, b"\0\0\0\0", voxels.data.cast("B")]
    save(path, parts, level if path.name.lower().endswith(".gz") else None)
    return path


def _header(
    kji: NDArray[Any], volume: Volume, scaling: tuple[float, float], description: str, version: int
) -> nib.Nifti1Header:
    shape = kji.shape[::-1]
    kind = nib.Nifti2Header if version == 2 or max(shape) > _MAX_INT16_EDGE else nib.Nifti1Header
    header = kind(endianness="<")
    header.set_data_dtype(kji.dtype.newbyteorder("<"))
    header.set_data_shape(shape)
    affine = RAS_TO_LPS @ volume.affine.numpy()[:, [2, 1, 0, 3]]  # its own inverse: LPS to RAS
    header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    header.set_sform(affine, code=SCANNER)
    header.set_qform(affine, code=SCANNER, strip_shears=True)
    corner = np.array([*(n - 1 for n in shape), 1.0])
    if float(np.abs((header.get_qform() - affine) @ corner).max()) > _SAME_MM:
        header.set_qform(None, code=0)
        header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    header.set_xyzt_units("mm")
    header.set_slope_inter(*scaling)
    header["descrip"] = description.encode()
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    return header


def save(path: Path, parts: Iterable[bytes | memoryview], level: int | None) -> None:
    """Write bytes under a temporary name, gzipped where a level (0 to 3) is given, then rename: whole or not at all."""
    from isal import igzip

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            if level is None:
                stream.writelines(parts)
            else:
                with igzip.IGzipFile(filename="", mode="wb", compresslevel=level, fileobj=stream, mtime=0) as packed:
                    for part in parts:
                        packed.write(part)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
