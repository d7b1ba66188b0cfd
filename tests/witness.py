"""dcm2niix as a witness in tests: what it makes of files, and whether two images hold equal values at equal places."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from linear_field import Image

needs_dcm2niix = pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")


def dcm2niix(folder: Path, out: Path) -> list[Image]:
    """Every volume that it writes, by file name: voxels (k, j, i) and an affine to LPS mm; time points one by one."""
    import nibabel

    out.mkdir()
    command = ["dcm2niix", "-b", "n", "-z", "n", "-p", "n", "-f", "out_%r", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    images: list[Image] = []
    for path in sorted(out.glob("*.nii")):
        found = nibabel.load(path)
        affine = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ found.affine)[:, [2, 1, 0, 3]]
        voxels = np.asarray(found.dataobj).reshape(*found.shape[:3], -1)
        images += [(voxels[..., n].transpose(2, 1, 0), affine) for n in range(voxels.shape[3])]
    return images


def assert_same_place(ours: Image, theirs: Image, apart_mm: float = 4e-3) -> None:
    """Equal values at 400 equal places, whatever the direction of the axes."""
    voxels, affine = ours
    index = np.random.default_rng(3).integers(0, voxels.shape, (400, 3))
    at = (index @ affine[:3, :3].T + affine[:3, 3] - theirs[1][:3, 3]) @ np.linalg.inv(theirs[1][:3, :3]).T
    near = np.rint(at).astype(int)
    assert np.linalg.norm((at - near) @ theirs[1][:3, :3].T, axis=1).max() < apart_mm
    assert np.allclose(theirs[0][tuple(near.T)], voxels[tuple(index.T)], rtol=1e-5, atol=1e-3)
