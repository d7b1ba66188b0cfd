"""dcm2niix and SimpleITK as witnesses: what they read from a folder or file, in LPS and in the order (k, j, i)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from numpy.typing import NDArray

SECONDS = 120


@dataclass(frozen=True)
class Other:
    """One volume of another reader: voxels (D, H, W), affine (4, 4) from (k, j, i) to LPS mm, and what it warned of."""

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    said: str = ""


def dcm2niix(folder: Path, out: Path) -> tuple[list[Other], str]:
    """Every volume that dcm2niix writes for a folder of DICOM files; a time series gives one per time point.

    `-p n` asks for the rescale of the standard and not for the private one of Philips, as all other readers apply it.
    """
    out.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["dcm2niix", "-z", "n", "-b", "n", "-p", "n", "-f", "%s_%r", "-o", str(out), str(folder)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith(("Warning", "Error", "Unsupported"))]
    found = [one for path in sorted(out.glob("*.nii")) for one in _nifti(path, path.stem)]
    return found, "; ".join(said)[:300]


def _nifti(path: Path, said: str) -> Iterator[Other]:
    image = nib.load(path)
    colour = image.get_data_dtype().fields is not None
    stored = image.dataobj.get_unscaled() if colour else np.asanyarray(image.dataobj)
    if stored.dtype.fields is not None:
        stored = np.stack([stored[name] for name in stored.dtype.names], axis=-1)
        yield Other(_kji(stored[..., 0]), _lps(image.affine), f"{said} (colour)")
        return
    if stored.ndim == 2:
        stored = stored[..., None]
    for point in range(int(np.prod(stored.shape[3:])) if stored.ndim > 3 else 1):
        volume = stored.reshape(*stored.shape[:3], -1)[..., point]
        yield Other(_kji(volume), _lps(image.affine), said)


def _kji(voxels: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(voxels.transpose(2, 1, 0))


def _lps(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    placed: NDArray[np.float64] = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)[:, [2, 1, 0, 3]]
    return placed


def simpleitk_series(folder: Path) -> tuple[list[Other], str]:
    """Every series that SimpleITK's series reader finds in a folder, as its documentation shows to read them."""
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    found, said = [], []
    for name in names:
        files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name)
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(files)
        try:
            found.append(_itk(reader.Execute() if len(files) > 1 else SimpleITK.ReadImage(files[0])))
        except RuntimeError as error:
            said.append(_last(error))
    return found, "; ".join(said) if names else "no series found"


def simpleitk_file(path: Path) -> tuple[list[Other], str]:
    """One NIfTI, NRRD or MetaImage file; a time series gives one volume per time point."""
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        return [], _last(error)
    if image.GetDimension() == 4:
        parts = [image[:, :, :, n] for n in range(image.GetSize()[3])]
        return [_itk(part) for part in parts], ""
    return [_itk(image)], ""


def _last(error: RuntimeError) -> str:
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()[:200]


def _itk(image: SimpleITK.Image) -> Other:
    said = ""
    if image.GetNumberOfComponentsPerPixel() > 1:
        image, said = SimpleITK.VectorIndexSelectionCast(image, 0), "colour"
    voxels = SimpleITK.GetArrayFromImage(image)
    if image.GetDimension() == 2:
        voxels = voxels[None]
        affine = np.eye(4)[:, [2, 1, 0, 3]] @ np.diag([1.0, image.GetSpacing()[1], image.GetSpacing()[0], 1.0])
        return Other(voxels, affine, "two dimensions")
    direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction[:, ::-1], image.GetOrigin()
    return Other(voxels, affine, said)
