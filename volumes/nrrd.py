"""NRRD with an attached header -> Volume. A small reader: raw, gzip or bzip2, three dimensions, a named space.

Format: teem.sourceforge.net/nrrd/format.html. Whatever else the format can do is refused by name.
"""

from __future__ import annotations

import bz2
import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from volumes.archive import MAX_FILE_BYTES, read_bytes
from volumes.instance import derived_uid
from volumes.nifti import unzip
from volumes.volume import SeriesError, Source, Unit, Volume

_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "int64", "int64_t"), "i8"),
    "float": "f4",
    "double": "f8",
}
_GZIP, _BZIP2 = ("gzip", "gz"), ("bzip2", "bz2")
_TO_LPS = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
}


def read_nrrd(path: str | Path, unit: Unit = "raw", source: Source | None = None, modality: str = "") -> Volume:
    """Voxels (D, H, W) in `unit`, which the caller knows and the file cannot say. Raises SeriesError."""
    data = read_bytes(path)
    fields, body = _split(data)
    shape = tuple(int(n) for n in fields.get("sizes", "").split() if n.isascii() and n.isdigit())
    if len(shape) != 3 or min(shape) < 1:
        raise SeriesError(f"the NRRD has sizes {fields.get('sizes')!r}; expected three positive numbers", "not-3d")
    voxels = _values(fields, body, shape)
    if source is None:
        uid = derived_uid("series", data)
        source = Source(derived_uid("study", data), uid, (derived_uid("instance", data),), modality, path=str(path))
    return Volume(torch.from_numpy(voxels), torch.from_numpy(_affine(fields)), unit, source)


def _split(data: bytes) -> tuple[dict[str, str], bytes]:
    if not data.startswith(b"NRRD000"):
        raise SeriesError("the file does not begin with 'NRRD000': not an NRRD file", "damaged-nrrd")
    end = re.search(rb"\r?\n\r?\n", data)
    head, body = (data[: end.start()], data[end.end() :]) if end else (data, b"")
    fields = {}
    for line in head.decode("utf-8", errors="replace").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    for name in ("data file", "datafile"):
        if name in fields:
            raise SeriesError("the NRRD header names a detached data file; store both in one .nrrd", "detached-nrrd")
    if not end:
        raise SeriesError("the NRRD header has no end: the file is truncated", "damaged-nrrd")
    return fields, body


def _values(fields: dict[str, str], body: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    code = _TYPES.get(fields.get("type", ""))
    encoding = fields.get("encoding", "")
    skips = {fields.get(name, "0") for name in ("line skip", "lineskip", "byte skip", "byteskip")}
    if code is None or encoding not in ("raw", *_GZIP, *_BZIP2) or skips != {"0"}:
        raise SeriesError(
            f"the NRRD has type {fields.get('type')!r}, encoding {encoding!r} and skips {sorted(skips)}; this reader"
            " takes numbers in raw, gzip or bzip2 encoding without skips. 3D Slicer or SimpleITK can convert it",
            "unsupported-nrrd",
        )
    big = fields.get("endian", "little") == "big"
    dtype = np.dtype(code).newbyteorder(">" if big else "<")
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    raw = body
    if encoding in (*_GZIP, *_BZIP2):
        raw = unzip(body, lambda _: expected) if encoding in _GZIP else _unpack_bzip2(body, expected)
    if len(raw) != expected:
        raise SeriesError(f"the NRRD holds {len(raw)} bytes of voxels; expected {expected}", "damaged-nrrd")
    if dtype.itemsize > 1 and fields.get("endian") not in ("little", "big"):
        raise SeriesError(
            f"the NRRD has the endian {fields.get('endian')!r} for numbers of {dtype.itemsize} bytes; expected little"
            " or big",
            "damaged-nrrd",
        )
    stored = np.frombuffer(raw, dtype=dtype).reshape(shape[::-1])  # the first axis is the fastest
    return np.array(stored, dtype=np.float32, order="C")  # a copy: the bytes of a file cannot be written to


def _unpack_bzip2(body: bytes, expected: int) -> bytes:
    """All bytes, one more when there are too many. Its blocks carry checksums, which are verified."""
    stream = bz2.BZ2Decompressor()
    try:
        found = stream.decompress(body, min(expected, MAX_FILE_BYTES) + 1)
    except (OSError, ValueError) as error:
        raise SeriesError(f"the bzip2 voxels are damaged ({error}); fetch it again", "damaged-nrrd") from error
    if len(found) == expected and not stream.eof:
        raise SeriesError("the bzip2 voxels are truncated: their checksum is missing", "damaged-nrrd")
    return found


def _affine(fields: dict[str, str]) -> NDArray[np.float64]:
    flips = _TO_LPS.get(fields.get("space", "").lower())
    vectors = [_vector(v) for v in re.findall(r"\([^)]*\)", fields.get("space directions", ""))]
    origin = _vector(fields.get("space origin", ""))
    if flips is None or len(vectors) != 3 or any(v is None for v in (*vectors, origin)):
        raise SeriesError(
            f"the NRRD names the space {fields.get('space')!r}, {len(vectors)} directions and the origin"
            f" {fields.get('space origin')!r}; expected a patient space, three directions and an origin",
            "no-orientation",
        )
    units = {unit.strip().lower() for unit in re.findall(r'"([^"]*)"', fields.get("space units", ""))}
    if not units <= {"mm", "millimeter", "millimetre", ""}:
        raise SeriesError(f"the NRRD counts space in {sorted(units)}; expected mm", "other-units")
    affine = np.eye(4)
    for column, vector in enumerate(reversed(vectors)):  # file order i, j, k; ours k, j, i
        affine[:3, column] = np.asarray(vector) * flips
    affine[:3, 3] = np.asarray(origin) * flips
    return affine


def _vector(text: str) -> tuple[float, ...] | None:
    try:
        found = tuple(float(v) for v in text.strip("() ").split(","))
    except ValueError:
        return None
    return found if len(found) == 3 else None
