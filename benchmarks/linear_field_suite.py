"""The 40 series of the linear-field suite through this reader and others: who is right, who refuses, who is wrong.

    python benchmarks/linear_field_suite.py [--only 09,10] [--no-peers]

Each voxel of a series holds a linear function of its true place, so the 99th percentile of |value - f(affine @ index)|
is an error in mm that shows any fault of order, spacing, flip, shear or rescale. "wrong" without a refusal is silent
unless the reader warned in Python. Peers that are not installed are named as absent.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
from linear_field import CASES, Case, Image, can_write, judge  # noqa: E402
from other_readers import dcm2niix  # noqa: E402

Reader = Callable[[Path], list[Image]]
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def medvlm(folder: Path) -> list[Image]:
    """Every image of the folder that is no localizer, through the public door."""
    from volumes.study import read_studies

    found = [one.read() for study in read_studies(folder) for one in study.volumes()]
    return [(one.voxels.numpy(), one.affine.numpy()) for one in found]


def monai_pydicom(folder: Path) -> list[Image]:
    """MONAI's PydicomReader on the folder."""
    from monai.data import PydicomReader

    reader = PydicomReader()
    return [_monai(reader, folder)]


def monai_default(folder: Path) -> list[Image]:
    """MONAI's default reader of a folder, which is ITKReader."""
    from monai.data import ITKReader

    reader = ITKReader()
    return [_monai(reader, folder)]


def _monai(reader: object, folder: Path) -> Image:
    data, meta = reader.get_data(reader.read(str(folder)))  # type: ignore[attr-defined]
    affine = np.asarray(meta["affine"], dtype=np.float64)
    voxels = np.asarray(data, dtype=np.float64)
    return voxels[..., None] if voxels.ndim == 2 else voxels, RAS @ affine  # RAS, unless they are told otherwise


def simpleitk(folder: Path) -> list[Image]:
    """SimpleITK's series reader on the first series that it finds, as its manual shows."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    voxels = SimpleITK.GetArrayFromImage(image).astype(np.float64)
    return [(voxels.transpose(2, 1, 0), affine)]


def converted(folder: Path) -> list[Image]:
    """Every volume that dcm2niix writes."""
    with tempfile.TemporaryDirectory() as out:
        found, said = dcm2niix(folder, Path(out))
        if not found:
            raise ValueError(said or "nothing was written")
        if re.search("slice|distance|order|spacing|missing|tilt", said):
            warnings.warn(f"spacing: {said}", stacklevel=1)  # said on its standard output
        return [(np.asarray(one.voxels, np.float64), np.asarray(one.affine)) for one in found]


def readers(peers: bool) -> tuple[dict[str, Reader], list[str]]:
    """The readers that are here, and the names of those that are not."""
    here: dict[str, Reader] = {"medvlm": medvlm}
    if not peers:
        return here, []
    others: list[tuple[str, Reader, bool]] = [
        ("MONAI PydicomReader", monai_pydicom, importlib.util.find_spec("monai") is not None),
        ("MONAI default (ITKReader)", monai_default, importlib.util.find_spec("itk") is not None),
        ("SimpleITK series", simpleitk, importlib.util.find_spec("SimpleITK") is not None),
        ("dcm2niix", converted, shutil.which("dcm2niix") is not None),
    ]
    here.update((name, read) for name, read, there in others if there)
    return here, [name for name, _, there in others if not there]


def outcome(one: Case, read: Reader, folder: Path) -> str:
    """The judgement, marked where the reader warned in Python while it was wrong."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told = judge(one, read, folder)
    affine = any("affine" in str(w.message) or "spacing" in str(w.message) for w in caught)
    return f"{told} + warning" if told.startswith("wrong") and affine else told


def good(one: Case, told: str) -> bool:
    """Right where there is a right answer, refused where there is none."""
    return told.startswith("refused") if one.reason else told == "right"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when this package's own reader is not right or rightly refusing in every case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="numbers of cases, with commas between")
    parser.add_argument("--no-peers", action="store_true", help="this package's reader alone")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    here, absent = readers(not options.no_peers)
    wanted = [c for c in CASES if can_write(c.name) and (not options.only or c.name[:2] in options.only.split(","))]
    print("| case | expected | " + " | ".join(here) + " |\n|" + "---|" * (len(here) + 2))
    score: dict[str, list[tuple[Case, str]]] = {name: [] for name in here}
    with tempfile.TemporaryDirectory() as made:
        for one in wanted:
            folder = Path(made) / one.name
            one.build(folder)
            told = {name: outcome(one, read, folder) for name, read in here.items()}
            for name, what in told.items():
                score[name].append((one, what))
            print(f"| {one.name} | {one.reason or 'right'} | " + " | ".join(told.values()) + " |", flush=True)
    for name, rows in score.items():
        valid = [what for one, what in rows if not one.reason]
        bad = [what for one, what in rows if one.reason]
        wrong = [what for one, what in rows if not good(one, what) and not what.startswith("refused")]
        silent = sum("warning" not in what for what in wrong)
        print(
            f"{name}: right {valid.count('right')} of {len(valid)}, rightly refused"
            f" {sum(what.startswith('refused') for what in bad)} of {len(bad)}, wrong or incomplete without a refusal"
            f" {len(wrong)} ({silent} without a word), refused though valid"
            f" {sum(what.startswith('refused') for what in valid)}"
        )
    print("absent: " + (", ".join(absent) or "none"))
    return 0 if all(good(one, what) for one, what in score["medvlm"]) else 1


if __name__ == "__main__":
    sys.exit(main())
