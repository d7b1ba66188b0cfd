"""Prints where our reader agrees with dcm2niix and SimpleITK on real images, and for each disagreement who is right.

python benchmarks/agreement.py DATA [--out docs/agreement.md]

DATA holds dicom_series/*.zip, dicom_odd/* and nifti/*; dicom_odd/hostile is left out, since damaged files can take
SimpleITK and with it this process along. Every series is read by all three. Voxels are compared after the axes were
turned to ours (no interpolation), affines at all corners of the volume in mm. Where two differ, the headers decide (see
header_judge.py). A disagreement that no rule explains is called UNEXPLAINED, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from disagreement import FILM, SAME, Evidence, Pair, explain
from header_judge import HeaderPlane, facts, header_planes, judge, slice_centres
from other_readers import Other, dcm2niix, simpleitk_file, simpleitk_series

from volumes.archive import read_bytes
from volumes.study import Series, read_studies
from volumes.volume import Film, VolumeError

ODD = ("geometry", "multiframe", "mosaic", "transfer_syntax", "broken_or_odd", "rt_seg_sr", "charset", "deid_burned_in")
SAME_MM = 1e-3


@dataclass(frozen=True)
class Row:
    """One series or file against one other reader."""

    name: str
    what: str
    reader: str
    voxels: str
    affine: str
    status: str
    why: str


def dicom_rows(data: Path) -> Iterator[Row]:
    """Rows of every image in the DICOM folders and zips."""
    paths = [*sorted((data / "dicom_series").glob("*.zip"))]
    paths += [path for part in ODD for path in sorted((data / "dicom_odd" / part).iterdir())]
    for path in paths:
        try:
            studies = read_studies(path)
        except VolumeError:
            continue  # no image at all (SR, RTPLAN): there is nothing to compare
        series = [one for study in studies for one in study.series]
        whole = {one.series_uid: [s for s in series if s.series_uid == one.series_uid] for one in series}
        for number, parts in enumerate(whole.values(), 1):
            label = path.stem if len(whole) == 1 else f"{path.stem} {number}"
            yield from _series_rows(f"{path.parent.name}/{label}", parts)


def _series_rows(name: str, parts: Sequence[Series]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "in"
        folder.mkdir()
        locations = list(dict.fromkeys(h.path for part in parts for h in part.instances))
        files = []
        for number, location in enumerate(locations):
            files.append(folder / f"{number:04d}.dcm")
            files[-1].write_bytes(read_bytes(location))
        readers = {
            "dcm2niix": dcm2niix(folder, Path(scratch) / "out"),
            "SimpleITK": simpleitk_series(folder),
        }
        planes = header_planes(files)
        mosaic = "MOSAIC" in parts[0].instances[0].image_type
        centres = slice_centres(files[0]) if mosaic else np.zeros((0, 3))
        for part in parts:
            label = f"{name}, {part.part}" if part.part else name
            own = () if mosaic else _planes_of(part, planes, locations)
            evidence = Evidence(own, centres, facts(files), len(parts))
            ours, refusal = _read(part)
            for reader, (found, said) in readers.items():
                yield _row(label, reader, ours, refusal, found, said, evidence)


def _planes_of(part: Series, planes: Sequence[HeaderPlane], locations: Sequence[str]) -> Sequence[HeaderPlane]:
    """The header planes that belong to one part of a split series."""
    if part.frames:
        return [planes[n] for n in part.frames if n < len(planes)]
    if len(planes) != len(locations):
        return planes
    own = {h.path for h in part.instances}
    return [plane for plane, location in zip(planes, locations, strict=True) if location in own]


def _read(series: Series) -> tuple[Other | None, str]:
    try:
        image = series.read()
    except VolumeError as error:
        return None, f"{error.reason}: {error}"
    if isinstance(image, Film):
        return Other(image.pixels.numpy()[None], np.eye(4), FILM), ""
    return Other(image.voxels.numpy(), image.affine.numpy(), "; ".join(image.notes)), ""


def _row(
    name: str, reader: str, ours: Other | None, refusal: str, found: Sequence[Other], said: str, evidence: Evidence
) -> Row:
    best = _closest(ours, found)
    turned = _turn(ours, best) if ours is not None and best is not None else None
    planes = evidence.planes
    theirs = judge(planes, best.voxels, best.affine) if planes and best is not None else None
    mine = judge(planes, ours.voxels, ours.affine) if planes and ours is not None and ours.said != FILM else None
    voxels, affine = _differences(ours, turned)
    pair = Pair(reader, ours, refusal, best, turned, said, voxels, affine, mine, theirs, evidence)
    status, why = explain(pair)
    shape = "x".join(map(str, ours.voxels.shape)) if ours is not None else "refused"
    return Row(name, shape, reader, _number(voxels, ""), _number(affine, " mm"), status, why)


def _number(value: float | None, unit: str) -> str:
    return "–" if value is None else "same" if value == 0 else f"{value:.2g}{unit}"


def _closest(ours: Other | None, found: Sequence[Other]) -> Other | None:
    """Of several volumes of the other reader the one most like ours; the first where we refused."""
    if ours is None or not found:
        return found[0] if found else None

    def distance(other: Other) -> tuple[float, float]:
        turned = _turn(ours, other)
        voxels, affine = _differences(ours, turned)
        return (np.inf if voxels is None else voxels, np.inf if affine is None else affine)

    return min(found, key=distance)


def _turn(ours: Other, other: Other) -> Other | None:
    """The other volume with its axes in our order and direction; None where the axes are not parallel to ours."""
    if ours.said == FILM:
        return _turn_film(ours, other)
    linear = (np.linalg.inv(ours.affine) @ other.affine)[:3, :3]
    unit = linear / np.abs(linear).max(axis=0)
    whole = np.where(np.abs(unit) > 0.5, np.sign(unit), 0)
    if (np.abs(whole).sum(0) != 1).any() or (np.abs(whole).sum(1) != 1).any():
        return None
    order = np.abs(whole).argmax(axis=0)
    voxels = np.moveaxis(other.voxels, [0, 1, 2], order)
    affine = other.affine.copy()
    affine[:, order] = other.affine[:, :3]
    for axis in range(3):
        if whole[order[axis], axis] < 0:
            flipped = int(order[axis])
            voxels = np.flip(voxels, flipped)
            affine[:3, 3] += affine[:3, flipped] * (voxels.shape[flipped] - 1)
            affine[:3, flipped] *= -1
    return Other(voxels, affine, other.said)


def _turn_film(ours: Other, other: Other) -> Other:
    """A film has no place in the patient: rows and columns are turned to where the pixels go together best."""
    if other.voxels.shape != ours.voxels.shape:
        return other
    flips: list[tuple[int, ...]] = [(), (1,), (2,), (1, 2)]
    turned = [np.flip(other.voxels, axes) for axes in flips]
    likeness = [abs(np.corrcoef(one.ravel(), ours.voxels.ravel())[0, 1]) for one in turned]
    return Other(turned[int(np.argmax(likeness))], other.affine, other.said)


def _differences(ours: Other | None, turned: Other | None) -> tuple[float | None, float | None]:
    """(largest difference of voxels, largest distance of corners in mm); None where it cannot be said."""
    if ours is None or turned is None:
        return None, None
    affine = None if ours.said == FILM else _apart(ours, turned)
    if turned.voxels.shape != ours.voxels.shape:
        return None, affine
    return float(np.abs(turned.voxels.astype(np.float64) - ours.voxels).max()), affine


def _apart(ours: Other, turned: Other) -> float:
    """Distance in mm of the corners of our volume under both affines, each one voxel deep where it is one slice."""
    ends = [(0, max(n - 1, 1)) for n in ours.voxels.shape]
    corners = np.array([[k, j, i, 1.0] for k in ends[0] for j in ends[1] for i in ends[2]])
    return float(np.linalg.norm((corners @ (ours.affine - turned.affine).T)[:, :3], axis=1).max())


def file_rows(data: Path) -> Iterator[Row]:
    """Rows of the NIfTI and NRRD files, against SimpleITK (dcm2niix reads neither)."""
    paths = [p for p in sorted((data / "nifti").rglob("*")) if p.name.endswith((".nii.gz", ".nii", ".nrrd", ".mha"))]
    for path in paths:
        (series,) = read_studies(path)[0].series
        ours, refusal = _read(series)
        found, said = simpleitk_file(path)
        name = str(path.relative_to(data / "nifti"))
        yield _row(name, "SimpleITK", ours, refusal, found, said, Evidence((), np.zeros((0, 3)), {}, 1))


def table(rows: Sequence[Row], files: Sequence[Row]) -> str:
    """Markdown: the counts, every DICOM series, and of the files those that differ."""
    lines = [
        "# Agreement with dcm2niix and SimpleITK",
        "",
        "Written by `python benchmarks/agreement.py DATA --out docs/agreement.md`; do not edit. Voxels: largest"
        " difference after turning the axes to ours. Affine: largest distance of the corners of the volume. Where"
        " readers differ, the headers decide: a reader is right where each plane lies at the ImagePositionPatient of"
        " its header and carries the stored values times RescaleSlope plus RescaleIntercept. Scope: one of us does not"
        " claim to read it, or the standard leaves the difference open.",
        "",
    ]
    for title, some in (("DICOM", rows), ("NIfTI and NRRD", files)):
        counts = {status: sum(r.status == status for r in some) for status in dict.fromkeys(r.status for r in some)}
        lines.append(f"{title}: {len(some)} comparisons; " + ", ".join(f"{n} {s}" for s, n in counts.items()) + ".")
    head = [
        "",
        "| series | ours | reader | voxels | affine | verdict | why |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += ["", "## DICOM", *head, *map(_line, rows), "", "## NIfTI and NRRD: files that differ"]
    return "\n".join([*lines, *head, *(_line(r) for r in files if r.status != SAME), ""])


def _line(row: Row) -> str:
    cells = (row.name, row.what, row.reader, row.voxels, row.affine, row.status, row.why)
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def main() -> int:
    """Print or write the table; 1 when a disagreement is unexplained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    call = parser.parse_args()
    rows, files = list(dicom_rows(call.data)), list(file_rows(call.data))
    text = table(rows, files)
    if call.out is None:
        print(text)
    else:
        call.out.write_text(text, encoding="utf-8")
    unexplained = [f"{r.name} ({r.reader})" for r in (*rows, *files) if r.status == "UNEXPLAINED"]
    print(f"{len(rows) + len(files)} comparisons, {len(unexplained)} unexplained: {unexplained}", file=sys.stderr)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
