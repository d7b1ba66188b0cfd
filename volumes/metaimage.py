"""MetaImage (.mha) -> Volume: one file, raw or zlib, three dimensions. Positions are LPS, as ITK writes them.

Format: itk.org/Wiki/MetaIO/Documentation. Each row of TransformMatrix is the direction of one index axis (i, j, k).
A header with its data in another file (.mhd) is refused by name: two files can be parted, and one mixed up.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from volumes.archive import MAX_FILE_BYTES, read_bytes
from volumes.instance import derived_uid
from volumes.volume import SeriesError, Source, Unit, Volume

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # MET_LONG is left out: four bytes on one system, eight on another
_LONGEST_HEADER = 2**16


def read_metaimage(path: str | Path, unit: Unit = "raw", source: Source | None = None, modality: str = "") -> Volume:
    """Voxels (D, H, W) in `unit`, which the caller knows and the file cannot say. Raises SeriesError."""
    data = read_bytes(path)
    fields, body = _split(data)
    shape, voxels = _values(fields, body)
    affine, notes = _affine(fields)
    if source is None:
        uid = derived_uid("series", data)
        source = Source(derived_uid("study", data), uid, (derived_uid("instance", data),), modality, path=str(path))
    return Volume(torch.from_numpy(voxels.reshape(shape[::-1])), torch.from_numpy(affine), unit, source, notes)


def _split(data: bytes) -> tuple[dict[str, str], bytes]:
    end = re.search(rb"(?m)^ElementDataFile[ \t]*=[ \t]*([^\r\n]*)\r?\n?", data[:_LONGEST_HEADER])
    if end is None:
        raise SeriesError("the header has no line 'ElementDataFile = LOCAL': not a MetaImage", "damaged-metaimage")
    if end.group(1).strip() != b"LOCAL":
        raise SeriesError(
            "the MetaImage header names a detached data file; expected ElementDataFile = LOCAL. Convert it to one .mha",
            "detached-metaimage",
        )
    fields = {}
    for line in data[: end.start()].decode("latin-1").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            fields[name.strip().lower()] = value.strip()
    return fields, data[end.end() :]


def _values(fields: dict[str, str], body: bytes) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    shape = tuple(int(n) for n in fields.get("dimsize", "").split() if n.isascii() and n.isdigit())
    if fields.get("ndims") != "3" or len(shape) != 3 or min(shape) < 1:
        raise SeriesError(
            f"the MetaImage has NDims {fields.get('ndims')!r} and DimSize {fields.get('dimsize')!r}; expected three"
            " positive sizes. Split a time series into volumes",
            "not-3d",
        )
    code, channels = _TYPES.get(fields.get("elementtype", "")), fields.get("elementnumberofchannels", "1")
    binary, skip = _true(fields.get("binarydata", "True")), fields.get("headersize", "0")
    if code is None or channels != "1" or not binary or skip not in ("0", "-1"):
        raise SeriesError(
            f"the MetaImage has ElementType {fields.get('elementtype')!r}, {channels} channels, BinaryData {binary} and"
            f" HeaderSize {skip}; this reader takes one binary number per voxel. SimpleITK can convert it",
            "unsupported-metaimage",
        )
    big = _true(fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")))
    dtype = np.dtype(code).newbyteorder(">" if big else "<")
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if expected > MAX_FILE_BYTES:
        raise SeriesError(f"the voxels take {expected} bytes; at most {MAX_FILE_BYTES} are read", "too-large")
    raw = _inflate(body, expected) if _true(fields.get("compresseddata", "False")) else body
    if len(raw) != expected:
        raise SeriesError(f"the MetaImage holds {len(raw)} bytes of voxels; expected {expected}", "damaged-metaimage")
    return shape, np.frombuffer(raw, dtype=dtype).astype(np.float32)


def _inflate(body: bytes, expected: int) -> bytes:
    """All bytes, one more when there are too many; the end of the stream carries a checksum, which is verified."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(body, expected + 1)
    except zlib.error as error:
        raise SeriesError(
            f"the compressed voxels are damaged ({error}); fetch it again", "damaged-metaimage"
        ) from error
    if len(found) == expected and not stream.eof:
        raise SeriesError("the compressed voxels are truncated: their checksum is missing", "damaged-metaimage")
    return found


def _affine(fields: dict[str, str]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    matrix = _numbers(fields, ("transformmatrix", "orientation", "rotation"), 9)
    origin = _numbers(fields, ("offset", "position", "origin"), 3)
    spacing = _numbers(fields, ("elementspacing",), 3)
    if not matrix or not origin or not spacing or min(spacing) <= 0:
        raise SeriesError(
            f"the MetaImage has TransformMatrix {fields.get('transformmatrix')!r}, Offset {fields.get('offset')!r} and"
            f" ElementSpacing {fields.get('elementspacing')!r}; expected nine, three and three numbers: without them"
            " the file does not say how it lies in the patient",
            "no-orientation",
        )
    affine = np.eye(4)
    directions = np.array(matrix).reshape(3, 3)  # rows: i, j, k
    affine[:3, :3] = (directions * np.array(spacing)[:, None])[::-1].T
    affine[:3, 3] = origin
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise SeriesError("the TransformMatrix is singular: voxels have no place in the patient", "bad-affine")
    stated = fields.get("anatomicalorientation", "???")
    if "?" not in stated and stated.upper() != _from_letters(directions):
        return affine, (f"AnatomicalOrientation {stated} contradicts the TransformMatrix, which was followed (as ITK)",)
    return affine, ()


def _from_letters(directions: NDArray[np.float64]) -> str:
    """ITK's name of an orientation: where each axis (i, j, k) comes from."""
    letters = ""
    for row in directions:
        axis = int(np.abs(row).argmax())
        letters += (("R", "L"), ("A", "P"), ("I", "S"))[axis][0 if row[axis] > 0 else 1]
    return letters


def _numbers(fields: dict[str, str], names: tuple[str, ...], count: int) -> tuple[float, ...]:
    text = next((fields[name] for name in names if name in fields), "")
    try:
        found = tuple(float(v) for v in text.split())
    except ValueError:
        return ()
    return found if len(found) == count and all(np.isfinite(found)) else ()


def _true(text: str) -> bool:
    return text.strip().lower() in ("true", "1")
