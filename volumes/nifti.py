"""NIfTI -> Volume. RAS and the (i, j, k) order exist in this file only; what leaves it is LPS and (k, j, i)."""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import torch
from isal import igzip, isal_zlib
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from volumes.archive import MAX_FILE_BYTES, read_bytes
from volumes.instance import derived_uid
from volumes.volume import SeriesError, Source, Unit, Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LARGEST_WHOLE = 2**24  # up to which a 32-bit float holds every whole number
_PIECE_BYTES = 2**20  # inflated at a time
_MOST_DEFLATED = 1032  # deflate packs no better than this
_LONGEST_HEADER = 544  # NIfTI-2 with its extension flag
_TO_MM = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI xyzt_units: metre, millimetre, micron


def read_nifti(
    path: str | Path,
    unit: Unit = "raw",
    source: Source | None = None,
    modality: str = "",
    time_point: int | None = None,
) -> Volume:
    """Voxels (D, H, W) with slope applied, in `unit`, which the caller knows and the file cannot say.

    Of a time series (four dimensions) `time_point` names the volume, from 0; nothing is picked without it. Raises
    SeriesError for a damaged file (the gzip checksum is verified), more dimensions, colour, or a file that does not
    say how it lies in the patient. Format: nifti.nimh.nih.gov/nifti-1.
    """
    stored = read_bytes(path)
    with ThreadPoolExecutor(1) as pool:  # the digest is taken while the file is inflated
        digest = pool.submit(lambda: hashlib.sha256(stored).hexdigest()) if source is None else None
        data = inflate(stored, _announced)
    image = _parse(data)
    notes: list[str] = []
    affine = _affine(image.header, notes)
    _note_scaling(image, _stated_scaling(data), notes)
    voxels = _voxels(image, data, notes, time_point)
    lps = RAS_TO_LPS @ affine
    kji = lps[:, [2, 1, 0, 3]]
    if source is None:
        assert digest is not None
        uids = [derived_uid(level, digest.result()) for level in ("study", "series", "instance")]  # as in a study
        source = Source(uids[0], uids[1], (uids[2],), modality, path=str(path))
    return Volume(torch.from_numpy(voxels), torch.from_numpy(kji), unit, source, tuple(notes))


def unzip(data: bytes, most: Callable[[bytes], int] = lambda _: MAX_FILE_BYTES) -> bytes:
    """`inflate` as bytes."""
    return bytes(inflate(data, most))


def inflate(data: bytes, most: Callable[[bytes], int] = lambda _: MAX_FILE_BYTES) -> bytes | memoryview:
    """Inflate gzip bytes to the last one, which verifies the checksum. Raises SeriesError on damage or a bomb.

    `most` tells from the first inflated bytes how many there may be: a bomb is refused before it has gone off. They go
    straight to their place in memory that is as long as the file says it will be (its last four bytes).
    """
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        with igzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            head = stream.read(_PIECE_BYTES)
            limit = min(MAX_FILE_BYTES, most(head))
            told = min(int.from_bytes(data[-4:], "little"), limit, len(data) * _MOST_DEFLATED)
            told = max(told, len(head))
            held = np.empty(told, np.uint8).data
            held[: len(head)] = head
            done = len(head)
            while done < told and (got := stream.readinto(held[done:])):
                done += got
            rest = bytearray()  # another member, and the end, where the checksum stands
            while done + len(rest) <= limit and (piece := stream.read(_PIECE_BYTES)):  # takes its memory at once
                rest += piece
            if done + len(rest) > limit:
                raise SeriesError(
                    f"the gzip file inflates to more than the {limit} bytes that its header announces or that are"
                    " read at most; it is not read",
                    "too-large",
                )
    except (OSError, EOFError, zlib.error, isal_zlib.error) as error:
        raise SeriesError(f"the gzip file is truncated or damaged ({error}); fetch it again", "damaged-gzip") from error
    return bytes(held[:done]) + rest if rest else held[:done]


def _announced(head: bytes) -> int:
    """Bytes of a NIfTI file by its header, with room for what may follow the voxels; all that is read if unclear."""
    offset, needed = _layout(head)
    return offset + needed + _PIECE_BYTES


def _layout(head: bytes) -> tuple[int, int]:
    """(offset, length) of the voxels as the header has them; (0, all that is read) when it has not."""
    little, big = int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")
    order: Literal["little", "big"] = "little" if little in (348, 540) else "big"
    if 540 in (little, big):
        at, size, bits_at, offset = 16, 8, 14, int.from_bytes(head[168:176], order)
    elif 348 in (little, big):
        at, size, bits_at = 40, 2, 72
        found = struct.unpack("<f" if order == "little" else ">f", head[108:112].ljust(4, b"\0"))[0]
        offset = int(found) if 0 <= found < MAX_FILE_BYTES else MAX_FILE_BYTES
    else:
        return 0, MAX_FILE_BYTES
    dims = [int.from_bytes(head[at + size * n : at + size * n + size], order) for n in range(8)]
    bits = int.from_bytes(head[bits_at : bits_at + 2], order)
    return offset, math.prod(dims[1 : 1 + min(dims[0], 7)]) * max(1, bits // 8)


def _parse(data: bytes | memoryview) -> Any:
    """A nibabel image of a single-file NIfTI of version 1 or 2; what looks like its relatives is refused by name."""
    sizes = int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")
    second = 540 in sizes
    magic = bytes(data[4:8] if second else data[344:348])
    if magic[:3] in (b"ni1", b"ni2"):
        raise SeriesError(
            "the file is half of a pair of .hdr and .img; two files can be parted, so pairs are not read: convert them"
            " to one .nii.gz",
            "nifti-pair",
        )
    if 348 in sizes and len(data) >= 348 and magic[:2] != b"n+":
        raise SeriesError(
            "the file is Analyze 7.5, which does not say which side is left: convert the original images to .nii.gz",
            "analyze",
        )
    try:
        header = bytes(data[: max(_LONGEST_HEADER, min(_layout(bytes(data[:_LONGEST_HEADER]))[0], len(data)))])
        return (nib.Nifti2Image if second else nib.Nifti1Image).from_bytes(header)  # which copies what it is given
    except Exception as error:  # nibabel raises WrapStructError, HeaderDataError, KeyError and more on damaged files
        lines = str(error).splitlines()
        why = f"not a single-file NIfTI ({lines[0][:120] if lines else type(error).__name__}); it is damaged or another"
        raise SeriesError(f"{why} format: fetch it again", "damaged-nifti") from error


def _stated_scaling(data: bytes | memoryview) -> tuple[float, float]:
    """scl_slope and scl_inter as the file has them (nibabel forgets them when the slope is 0)."""
    start = bytes(data[:4])
    order = "<" if start in (b"\x5c\x01\0\0", b"\x1c\x02\0\0") else ">"
    first, kind = (176, "2d") if start in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else (112, "2f")
    slope, intercept = struct.unpack_from(order + kind, data, first)
    return slope, intercept


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
        corner = np.array([*(n - 1 for n in (*header.get_data_shape(), 1, 1, 1)[:3]), 1.0])
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


def _voxels(image: Any, data: bytes | memoryview, notes: list[str], time_point: int | None) -> NDArray[np.float32]:
    dtype = image.get_data_dtype()
    if dtype.fields is not None or dtype.kind == "c":
        raise SeriesError(f"voxels are colour or complex ({dtype}); expected one real number each", "not-grey")
    shape, which = _one_volume(tuple(int(n) for n in image.shape), time_point, notes)
    stored = _stored(image, data, shape, which or 0)
    voxels = _scaled(stored, float(image.dataobj.slope), float(image.dataobj.inter))
    if not math.isfinite(float(voxels.sum(dtype=np.float64))):  # only then is it worth while to count
        notes.append(f"{int(voxels.size - np.isfinite(voxels).sum())} voxels are not finite numbers")
    large = stored.dtype.kind in "iu" and stored.dtype.itemsize > 2
    if large and max(int(stored.max()), -int(stored.min())) > _LARGEST_WHOLE:
        notes.append(f"whole numbers above {_LARGEST_WHOLE} were rounded to 32-bit floats")
    return voxels


def _stored(image: Any, data: bytes | memoryview, shape: tuple[int, ...], which: int) -> NDArray[Any]:
    """The values of one volume as the file has them, (k, j, i): the first index is the fastest there, so none moves."""
    dtype = image.get_data_dtype()
    count = math.prod(shape)
    start = int(image.dataobj.offset) + which * count * dtype.itemsize
    needed = math.prod(int(n) for n in image.shape) * dtype.itemsize
    if int(image.dataobj.offset) < 0 or int(image.dataobj.offset) + needed > len(data):
        raise SeriesError(
            f"voxels are missing: expected {needed} bytes from byte {int(image.dataobj.offset)}, got"
            f" {max(0, len(data) - int(image.dataobj.offset))}. The file is truncated: fetch it again",
            "damaged-nifti",
        )
    found: NDArray[Any] = np.frombuffer(data, dtype, count, start).reshape(shape[::-1])
    return found


def _scaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[np.float32]:
    """float32, slope and intercept applied in 64 bits where there are any; by slabs, in threads when it is much."""
    out = np.empty(stored.shape, np.float32)

    def convert(slab: slice) -> None:
        values = stored[slab]
        if slope != 1.0:
            values = np.multiply(values, np.float64(slope), dtype=np.float64)
        if intercept != 0.0:
            values = np.add(values, np.float64(intercept), dtype=np.float64)
        out[slab] = values

    workers = min(os.cpu_count() or 1, 4) if out.nbytes > _PIECE_BYTES * 16 else 1
    step = max(1, min(-(-len(stored) // workers), _PIECE_BYTES * 32 // max(1, out[:1].nbytes)))
    slabs = [slice(start, start + step) for start in range(0, len(stored), step)]
    if workers == 1:
        list(map(convert, slabs))
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(convert, slabs))
    return out


def _one_volume(shape: tuple[int, ...], time_point: int | None, notes: list[str]) -> tuple[tuple[int, ...], int | None]:
    """The three sizes to read, and the index along the fourth axis where there is one."""
    if min(shape, default=0) < 1:
        raise SeriesError(f"the file has the shape {shape}: it holds no voxels", "empty-image")
    if len(shape) > 3 and math.prod(shape[3:]) == 1:
        notes.append(f"trailing dimensions of size one dropped from {shape}")
        shape = shape[:3]
    if len(shape) == 2:
        notes.append("the file has two dimensions: read as one slice")
        shape = (*shape, 1)
    if len(shape) == 4 and time_point is not None and 0 <= time_point < shape[3]:
        notes.append(f"time point {time_point} of {shape[3]} (counted from 0)")
        return shape[:3], time_point
    if len(shape) != 3 or time_point not in (None, 0):
        told = f"; the time point {time_point} was asked for" if time_point is not None else ""
        raise SeriesError(
            f"the file has the shape {shape}{told}; expected three dimensions. Split a time series into volumes, or"
            " name one of four dimensions by time_point, counted from 0 (`medvlm convert --time-point`)",
            "not-3d",
        )
    return shape, None


def _note_scaling(image: Any, stated: tuple[float, float], notes: list[str]) -> None:
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    if (slope, intercept) != (1.0, 0.0):
        notes.append(f"values rescaled with slope {slope:g} and intercept {intercept:g}")
    if (stated[0] == 0 or not math.isfinite(stated[0])) and math.isfinite(stated[1]) and stated[1] != 0:
        notes.append(
            f"scl_slope is {stated[0]:g}, which means no scaling: scl_inter {stated[1]:g} was not applied (some readers"
            " add it)"
        )
