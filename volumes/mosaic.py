"""Siemens mosaics: the slices of one time point, tiled row by row into one big image, taken apart again.

The header places the mosaic as if it were one slice with the center of the first tile; how many tiles there are, in
which direction they follow, and how far apart they lie stands in the private CSA header (0029,1010), or in the
protocol inside (0029,1020). Without either the mosaic is refused: neither may be guessed (empty tiles look like air).
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from volumes.assembly import assemble, check_gray, padding_note
from volumes.geometry import Vector, axes
from volumes.header import numbers
from volumes.instance import InstanceHeader
from volumes.pixels import modality_values
from volumes.planes import open_image, padded_pixels, plane, unit_of
from volumes.volume import Volume, VolumeError

_MAX_TILES = 1024
_MAX_CSA_BYTES = 4 * 2**20
_NEAR_MM = 5.0  # tile 0 must lie so near to the first or last slice of the protocol, or the two do not belong together
_PROTOCOL = re.compile(rb"### ASCCONV BEGIN.*?###(.*?)### ASCCONV END ###", re.DOTALL)


@dataclass(frozen=True)
class _Tiles:
    count: int
    direction: Vector  # unit, from each tile to the next
    step_mm: float | None
    told: str


def read_mosaic(header: InstanceHeader) -> tuple[Volume, Dataset]:
    """One Volume from one mosaic, and its dataset. Raises VolumeError with the reason "mosaic" when it is unclear."""
    check_gray([header])
    dataset = open_image(header)
    if not (header.position and header.orientation and header.pixel_spacing):
        raise VolumeError(f"instance {header.sop_uid}, a mosaic, has no position or orientation", "no-position")
    along_i, along_j, normal = axes(np.array([header.orientation]))
    csa = _elements(_private(dataset, 0x00291010))
    protocol = _protocol(_private(dataset, 0x00291020))
    count = _count(dataset, csa, protocol)
    per_side = math.ceil(math.sqrt(count))
    if header.rows % per_side or header.columns % per_side:
        raise VolumeError(
            f"a Siemens mosaic of {count} tiles in {header.rows} x {header.columns} pixels: {per_side} tiles a side do"
            " not fit. Convert it with dcm2niix and compare",
            "mosaic",
        )
    rows, columns = header.rows // per_side, header.columns // per_side
    spacing_j, spacing_i = header.pixel_spacing
    first = (  # the mosaic's center is the first tile's center
        np.array(header.position)
        + along_i * spacing_i * (header.columns - columns) / 2
        + along_j * spacing_j * (header.rows - rows) / 2
    )
    center = first + along_i * spacing_i * columns / 2 + along_j * spacing_j * rows / 2
    tiles = _tiles(count, csa, protocol, normal, center)
    step = _step(dataset, tiles)
    stored = plane(dataset, header, (header.rows, header.columns))
    cut = stored.reshape(per_side, rows, per_side, columns).swapaxes(1, 2).reshape(-1, rows, columns)
    notes = [
        f"a Siemens mosaic taken apart: {count} slices of {rows} x {columns}, {step:.3f} mm apart, {tiles.told}",
        *padding_note(padded_pixels(dataset, cut[:count])),
    ]
    if cut[count:].any():
        notes.append(f"{len(cut) - count} tiles beyond the last slice are not empty, as they should be: left out")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 3] = tiles.direction * step, first
    affine[:3, 1], affine[:3, 2] = along_j * spacing_j, along_i * spacing_i
    voxels = np.ascontiguousarray(modality_values(dataset, cut[:count]))
    return assemble(voxels, affine, [header], {unit_of(dataset, header.modality)}, notes), dataset


def _count(dataset: Dataset, csa: dict[str, Any], protocol: dict[str, float]) -> int:
    stated = _values(csa, "NumberOfImagesInMosaic")[:1] or _number(_private(dataset, 0x0019100A))
    found = stated or [protocol[name] for name in ("sSliceArray.lSize",) if name in protocol]
    if not found:
        raise VolumeError(
            "a Siemens mosaic without the private header that says how many slices it holds ((0029,1010),"
            " (0019,100A) and the protocol are absent, so de-identification may have removed them): it cannot be taken"
            " apart safely. Export it with its private tags, or convert the original with dcm2niix",
            "mosaic",
        )
    count = int(found[0])
    if not 1 <= count <= _MAX_TILES:
        raise VolumeError(f"a Siemens mosaic of {count} slices; expected 1 to {_MAX_TILES}", "mosaic")
    return count


def _tiles(count: int, csa: dict[str, Any], protocol: dict[str, float], normal: Vector, center: Vector) -> _Tiles:
    """Which way the tiles follow: the slice normal of the CSA header, else the slice positions of the protocol."""
    stated = _values(csa, "SliceNormalVector")
    if len(stated) == 3 and np.linalg.norm(stated) > 0.5:
        cosine = float(np.array(stated) @ normal) / float(np.linalg.norm(stated))
        if abs(cosine) < 0.99:
            raise VolumeError(
                f"a Siemens mosaic whose slice normal lies {math.degrees(math.acos(abs(cosine))):.1f} degrees off"
                " ImageOrientationPatient; expected parallel",
                "mosaic",
            )
        return _Tiles(count, math.copysign(1.0, cosine) * normal, None, "in the order of the CSA slice normal")
    lowest, highest = _protocol_position(protocol, 0), _protocol_position(protocol, count - 1)
    if count > 1 and lowest is not None and highest is not None:
        lengths = [float(np.linalg.norm(end - center)) for end in (lowest, highest)]
        if min(lengths) < _NEAR_MM < max(lengths):
            last_first = lengths[1] < lengths[0]
            along = (lowest - highest) if last_first else (highest - lowest)
            step = float(np.linalg.norm(along)) / (count - 1)
            direction = along / np.linalg.norm(along)
            if abs(float(direction @ normal)) > 0.999:
                told = "in the order of the protocol's slice positions" + (" backwards" if last_first else "")
                return _Tiles(count, math.copysign(1.0, float(direction @ normal)) * normal, step, told)
    raise VolumeError(
        "a Siemens mosaic whose private header does not say in which direction its slices follow: left and right or up"
        " and down could be exchanged. Export it with its private tags, or convert the original with dcm2niix",
        "mosaic",
    )


def _step(dataset: Dataset, tiles: _Tiles) -> float:
    stated = numbers(dataset, "SpacingBetweenSlices", 1)
    step = stated[0] if stated and stated[0] > 0 else tiles.step_mm
    if step is None:
        raise VolumeError(
            "a Siemens mosaic without SpacingBetweenSlices: how far apart its slices lie is unknown", "mosaic"
        )
    if tiles.step_mm is not None and abs(step - tiles.step_mm) > 0.01:
        raise VolumeError(
            f"a Siemens mosaic with SpacingBetweenSlices {step:.3f} mm whose protocol puts slices"
            f" {tiles.step_mm:.3f} mm apart; expected the same",
            "mosaic",
        )
    return step


def _private(dataset: Dataset, tag: int) -> Any:
    try:
        element = dataset.get(tag)
        return None if element is None else element.value
    except Exception:  # a damaged value fails when it is first used, with any error
        return None


def _number(value: Any) -> list[float]:
    """One number, also where its type was lost (UN: unsigned, little endian)."""
    if isinstance(value, bytes):
        return [float(int.from_bytes(value[:4].rstrip(b"\0") or b"\0", "little"))]
    try:
        return [float(value)]
    except (TypeError, ValueError):
        return []


def _elements(value: Any) -> dict[str, Any]:
    """Named elements of a CSA header (SV10); empty when it is absent or damaged."""
    if not isinstance(value, bytes) or not value.startswith(b"SV10") or len(value) > _MAX_CSA_BYTES:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental at import
        from nibabel.nicom import csareader

        try:
            tags: dict[str, Any] = csareader.read(value)["tags"]
        except Exception:  # damaged bytes raise anything
            return {}
    return tags


def _values(csa: dict[str, Any], name: str) -> list[float]:
    try:
        return [float(v) for v in csa.get(name, {}).get("items", ())]
    except (TypeError, ValueError, AttributeError):
        return []


def _protocol(value: Any) -> dict[str, float]:
    """Slice numbers of the scan protocol (ASCCONV) inside a CSA series header; empty when there is none."""
    if not isinstance(value, bytes) or len(value) > _MAX_CSA_BYTES:
        return {}
    held = _PROTOCOL.search(value)
    found: dict[str, float] = {}
    for line in (held.group(1) if held else b"").decode("latin-1").splitlines():
        name, _, number = line.partition("=")
        if name.startswith("sSliceArray."):
            try:
                found[name.strip()] = float(number)
            except ValueError:
                continue  # hexadecimal switches and names
    return found


def _protocol_position(protocol: dict[str, float], n: int) -> Vector | None:
    """Center of slice n in LPS mm; a coordinate of 0 is left out of the protocol."""
    names = [f"sSliceArray.asSlice[{n}].sPosition.d{axis}" for axis in ("Sag", "Cor", "Tra")]
    if not any(name in protocol for name in names):
        return None
    return np.array([protocol.get(name, 0.0) for name in names])
