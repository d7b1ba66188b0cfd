"""Volume -> NRRD with an attached header, in LPS with all digits of the affine; `nrrd.py` is the exact way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volumes.nifti_writer import save
from volumes.volume import Volume, VolumeError


def write_nrrd(path: Path | str, volume: Volume, *, level: int = 1) -> Path:
    """Write `path` (.nrrd, gzip encoding) and return it: float32 voxels, a sheared affine kept as it is."""
    path = Path(path)
    if path.suffix.lower() != ".nrrd":
        raise VolumeError(f"{path.name}: an NRRD file with attached header is called .nrrd", "bad-suffix")
    affine = volume.affine.numpy()
    head = "\n".join(
        (
            "NRRD0004",
            "type: float",
            "dimension: 3",
            "space: left-posterior-superior",
            "sizes: " + " ".join(str(n) for n in volume.shape[::-1]),
            "space directions: " + " ".join(_vector(affine[:3, column]) for column in (2, 1, 0)),
            "kinds: domain domain domain",
            "endian: little",
            "encoding: gzip",
            f"space origin: {_vector(affine[:3, 3])}",
        )
    )
    voxels = np.ascontiguousarray(volume.voxels.numpy(), dtype="<f4")
    save(path, [f"{head}\n\n".encode(), _packed(voxels, level)], None)
    return path


def _vector(values: NDArray[np.float64]) -> str:
    return "(" + ",".join(repr(float(v)) for v in values) + ")"


def _packed(voxels: NDArray[np.float32], level: int) -> bytes:
    from isal import igzip

    return igzip.compress(voxels.data.cast("B"), level, mtime=0)
