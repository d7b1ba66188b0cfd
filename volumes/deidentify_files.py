"""NIfTI, NRRD, PNG and JPEG without their texts. Voxels and pixels keep their bytes where no lettering was found."""

from __future__ import annotations

import gzip
import io
import math
import re
import struct
import zlib
from typing import Any

import numpy as np

from volumes.archive import MAX_FILE_BYTES
from volumes.deidentify_codestream import jpeg_without_comments
from volumes.deidentify_ocr import find_words
from volumes.deidentify_pixels import Box, Lettering, find_lettering
from volumes.volume import VolumeError

_NIFTI_1_TEXTS = ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16))  # data_type db_name descrip aux_file intent_name
_NIFTI_2_TEXTS = ((240, 80), (320, 24), (508, 16), (525, 15))  # descrip aux_file intent_name unused_str
_NRRD_FIELDS = frozenset(
    [
        "type", "dimension", "space", "space dimension", "sizes", "space directions", "kinds", "endian", "encoding",
        "space origin", "spacings", "thicknesses", "axis mins", "axis maxs", "centers", "centerings", "space units",
        "units", "measurement frame", "line skip", "byte skip", "old min", "old max",
    ]
)  # fmt: skip
_PNG_CHUNKS = frozenset(
    [b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs"]
)
_PNG_START = b"\x89PNG\r\n\x1a\n"


def clean_nifti(data: bytes) -> bytes:
    """The same voxels and geometry without description, file names and extensions; gzip without name and time.

    Raises: VolumeError ("damaged-nifti", "not-nifti", "detached-voxels").
    """
    packed = data[:2] == b"\x1f\x8b"
    raw = _inflated(data) if packed else data
    size, order = _nifti_kind(raw)
    texts, place = (_NIFTI_1_TEXTS, 108) if size == 348 else (_NIFTI_2_TEXTS, 168)
    bits_at, dim_at = (72, 40) if size == 348 else (14, 16)
    bits = struct.unpack_from(order + "h", raw, bits_at)[0]
    dims = struct.unpack_from(order + ("8h" if size == 348 else "8q"), raw, dim_at)
    offset = int(struct.unpack_from(order + ("f" if size == 348 else "q"), raw, place)[0])
    needed = math.prod(max(1, n) for n in dims[1 : 1 + dims[0]]) * bits // 8 if 1 <= dims[0] <= 7 else -1
    if needed < 0 or offset < size or len(raw) < offset + needed:
        raise VolumeError(
            f"the NIfTI header announces {needed} bytes of voxels after byte {offset}, the file holds {len(raw)}",
            "damaged-nifti",
        )
    header = bytearray(raw[:size])
    for start, length in texts:
        header[start : start + length] = bytes(length)
    struct.pack_into(order + ("f" if size == 348 else "q"), header, place, size + 4)
    whole = bytes(header) + b"\0\0\0\0" + raw[offset : offset + needed]
    return gzip.compress(whole, compresslevel=4, mtime=0) if packed else whole


def _inflated(data: bytes) -> bytes:
    engine = zlib.decompressobj(31)
    try:
        raw = engine.decompress(data, MAX_FILE_BYTES)
    except zlib.error as error:
        raise VolumeError("the gzip stream is damaged", "damaged-nifti") from error
    if not engine.eof:
        raise VolumeError("the gzip stream is truncated, or holds too much", "damaged-nifti")
    return raw


def _nifti_kind(raw: bytes) -> tuple[int, str]:
    for order in "<>":
        if len(raw) < 544:
            break
        size = struct.unpack_from(order + "i", raw)[0]
        magic = raw[344:348] if size == 348 else raw[4:8] if size == 540 else b""
        if magic in (b"n+1\0", b"n+2\0"):
            return size, order
        if magic in (b"ni1\0", b"ni2\0"):
            raise VolumeError("the voxels lie in another file; store both as one .nii", "detached-voxels")
    raise VolumeError("no NIfTI header", "not-nifti")


def clean_nrrd(data: bytes) -> bytes:
    """The same voxels, with those header fields only that describe the grid.

    Raises: VolumeError ("damaged-nrrd", "detached-voxels").
    """
    head, blank, voxels = data.partition(b"\n\n")
    if b"\r\n\r\n" in data[: len(head) + 4]:
        head, blank, voxels = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").splitlines()
    if not blank or not lines or not re.fullmatch(r"NRRD000[1-5]", lines[0].strip()):
        raise VolumeError("no NRRD header", "damaged-nrrd")
    kept = [lines[0].strip()]
    for line in lines[1:]:
        name, colon, value = line.partition(": ")
        if name.strip().lower().replace(" ", "") in ("datafile",):
            raise VolumeError("the voxels lie in another file; store both as one .nrrd", "detached-voxels")
        if colon and name.strip().lower() in _NRRD_FIELDS and value.isascii():
            kept.append(f"{name.strip()}: {value.strip()}")
    return "\n".join(kept).encode("ascii") + b"\n\n" + voxels


def clean_picture(data: bytes, *, look: bool, ocr: bool) -> tuple[bytes, str, tuple[Box, ...]]:
    """(bytes, suffix, blanked areas) of a PNG or JPEG without metadata. With lettering found it becomes a PNG.

    Raises: VolumeError ("damaged-picture") when it cannot be decoded or its frames are many.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as opened:
            kind, turned = opened.format, opened.getexif().get(0x0112, 1)
            if getattr(opened, "n_frames", 1) > 1:
                raise VolumeError("an animated picture is not cleaned; quarantined", "damaged-picture")
            opened.load()
            picture = opened.copy()
    except VolumeError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, DecompressionBombError and more
        raise VolumeError(f"the picture cannot be decoded: {type(error).__name__}", "damaged-picture") from error
    values, boxes = _lettering(picture, look=look, ocr=ocr)
    if boxes or turned != 1:
        return _png(picture, values, boxes, turned), ".png", boxes
    if kind == "PNG":
        return _png_chunks(data), ".png", ()
    return jpeg_without_comments(data), ".jpg", ()


def _lettering(picture: Any, *, look: bool, ocr: bool) -> tuple[np.ndarray[Any, Any], tuple[Box, ...]]:
    if picture.mode in ("P", "CMYK", "YCbCr", "LA", "PA", "1"):
        picture = picture.convert("L" if picture.mode in ("1", "LA") else "RGB")
    values = np.array(picture)
    if not look:
        return values, ()
    seen = values[..., :3] if values.ndim == 3 else values
    boxes = set(find_lettering(seen).boxes) | (set(find_words(seen)) if ocr else set())
    return values, tuple(sorted(boxes))


def _png(picture: Any, values: np.ndarray[Any, Any], boxes: tuple[Box, ...], turned: int) -> bytes:
    from PIL import Image

    values = values.copy()
    mask = Lettering(boxes).mask((values.shape[0], values.shape[1]))
    values[mask] = values.min() if values.ndim == 2 else 0
    found = Image.fromarray(values)
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    if turned in turns:
        found = found.transpose(turns[turned])
    stream = io.BytesIO()
    found.save(stream, "PNG")
    return stream.getvalue()


def _png_chunks(data: bytes) -> bytes:
    kept, place = bytearray(_PNG_START), len(_PNG_START)
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        name = data[place + 4 : place + 8]
        if name in _PNG_CHUNKS:
            kept += data[place:end]
        if name == b"IEND":
            return bytes(kept)
        place = end
    raise VolumeError("the PNG file has no end", "damaged-picture")
