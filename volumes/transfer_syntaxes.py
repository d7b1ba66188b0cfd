"""Every transfer syntax of pixel data, what decodes it here, and which extra brings the decoder (PS3.5 section 10).

pydicom tries whichever plugin happens to be installed, gdcm first, and gdcm aborts the process on damaged files; so
each transfer syntax names its own decoders, the first that is installed is taken, and gdcm is never one of them.
`python -m volumes.transfer_syntaxes > docs/transfer_syntaxes.md` writes the table for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

from pydicom.uid import UID

from volumes.errors import VolumeError

_DICOM = "1.2.840.10008.1.2"
RLE = f"{_DICOM}.5"
JPEG_LS = (f"{_DICOM}.4.80", f"{_DICOM}.4.81")
NATIVE_LITTLE = (_DICOM, f"{_DICOM}.1")
# not compressed, or deflated as a whole: pydicom reads them itself
NATIVE = (*NATIVE_LITTLE, f"{_DICOM}.2", f"{_DICOM}.1.99")


@dataclass(frozen=True)
class Codec:
    """One way to decode a transfer syntax. `plugin` names pydicom's plugin; without one, `frame_decoders` has it."""

    name: str
    modules: tuple[str, ...]  # what must be installed
    extra: str = ""  # of this distribution; empty: always installed
    plugin: str = ""


_PYJPEGLS = Codec("pyjpegls", ("jpeg_ls",), plugin="pyjpegls")
_OPENJPEG = Codec("pylibjpeg-openjpeg", ("pylibjpeg", "openjpeg"), plugin="pylibjpeg")
_OPENJPEG_PART_2 = Codec("pylibjpeg-openjpeg", ("openjpeg",))
_CHARLS = Codec("imagecodecs (CharLS)", ("imagecodecs",), "codecs")
_RLE = Codec("pylibjpeg-rle", ("pylibjpeg", "rle"), plugin="pylibjpeg")
_PILLOW = Codec("pillow", ("PIL",), plugin="pillow")
_TURBO = Codec("imagecodecs (libjpeg-turbo)", ("imagecodecs",), "codecs")
_JXL = Codec("imagecodecs (libjxl)", ("imagecodecs",), "codecs")
_LIBJPEG = Codec("pylibjpeg-libjpeg (GPL-3.0)", ("pylibjpeg", "libjpeg"), "jpeg", plugin="pylibjpeg")
_ZLIB = Codec("zlib", ())
_NONE = Codec("none needed", ())
_VIDEO = Codec("PyAV (FFmpeg)", ("av",), "video")

CODECS: dict[str, tuple[Codec, ...]] = {
    f"{_DICOM}.1.98": (_NONE,),
    f"{_DICOM}.8.1": (_ZLIB,),
    RLE: (_RLE,),
    f"{_DICOM}.4.50": (_PILLOW,),
    f"{_DICOM}.4.51": (_TURBO, _LIBJPEG),
    **{f"{_DICOM}.4.{n}": (_TURBO,) for n in (52, 53, 54, 55, 56)},  # retired: selection, progression, arithmetic
    f"{_DICOM}.4.57": (_TURBO, _LIBJPEG),
    f"{_DICOM}.4.70": (_TURBO, _LIBJPEG),
    **dict.fromkeys(JPEG_LS, (_PYJPEGLS, _CHARLS)),  # the second takes streams of old encoders that the first refuses
    **{f"{_DICOM}.4.{n}": (_OPENJPEG,) for n in (90, 91, 201, 202, 203)},
    **{f"{_DICOM}.4.{n}": (_OPENJPEG_PART_2,) for n in (92, 93)},
    **{f"{_DICOM}.4.{n}": (_JXL,) for n in (110, 111, 112)},
    **{f"{_DICOM}.4.{n}{part}": (_VIDEO,) for n in range(100, 107) for part in ("", ".1")},
    **{f"{_DICOM}.4.{n}": (_VIDEO,) for n in (107, 108)},
}
VIDEO = frozenset(syntax for syntax, codecs in CODECS.items() if codecs == (_VIDEO,))

_ELSEWHERE = "the pixels are not in the file but at a network address, which is never opened. Fetch the image itself"
_LIVE = "a live video stream, which no file holds"
_NO_DECODER = {
    **{f"{_DICOM}.4.{n}": _ELSEWHERE for n in (94, 95, 204, 205)},
    **{f"{_DICOM}.7.{n}": _LIVE for n in (1, 2, 3)},
}
_NAMES = {  # newer than pydicom's dictionary
    f"{_DICOM}.4.110": "JPEG XL Lossless",
    f"{_DICOM}.4.111": "JPEG XL JPEG Recompression",
    f"{_DICOM}.4.112": "JPEG XL",
    f"{_DICOM}.8.1": "Deflated Image Frame Compression",
}
_HIERARCHICAL = tuple(f"{_DICOM}.4.{n}" for n in range(58, 67))


def codecs(syntax: str) -> tuple[Codec, ...]:
    """The decoders to use, in order; several only where they are of one mind (JPEG-LS, lossless and checked).

    Raises VolumeError that names the syntax and what would decode it.
    """
    known = CODECS.get(syntax, ())
    usable = tuple(filter(is_installed, known))
    if usable:
        return usable if syntax in JPEG_LS else usable[:1]
    told = f"the transfer syntax is {name_of(syntax)} ({syntax})"
    if known:
        extras = [f'`pip install "medvlm-platform[{one.extra}]"`' for one in known if one.extra]
        brings = f"{' or '.join(one.name for one in known)}, is not installed: {' or '.join(extras) or 'install it'}"
        raise VolumeError(
            f"{told}; its decoder, {brings}. Or convert the file to Explicit VR Little Endian", "transfer-syntax"
        )
    if syntax in _NO_DECODER:
        raise VolumeError(f"{told}: {_NO_DECODER[syntax]}", "transfer-syntax")
    tool = "dcmdjpeg or dcmconv of dcmtk" if syntax not in _HIERARCHICAL else "the viewer of the archive it came from"
    raise VolumeError(
        f"{told}, which nothing here decodes. Convert the file to Explicit VR Little Endian, for example with {tool}",
        "transfer-syntax",
    )


@lru_cache(maxsize=64)
def is_installed(one: Codec) -> bool:
    """Whether a decoder can be used, without loading it."""
    return all(find_spec(name) is not None for name in one.modules)


def table() -> str:
    """Markdown: every transfer syntax, its decoders in the order of choice, and the extra that brings them."""
    lines = ["| transfer syntax | UID | decoder | extra |", "|---|---|---|---|"]
    lines += [f"| {name_of(syntax)} | {syntax} | pydicom | |" for syntax in NATIVE]
    for syntax, known in sorted(CODECS.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
        extras = ", ".join(dict.fromkeys(f"`{one.extra}`" for one in known if one.extra))
        lines.append(f"| {name_of(syntax)} | {syntax} | {', else '.join(one.name for one in known)} | {extras} |")
    lines += [f"| {name_of(syntax)} | {syntax} | none: {why} | |" for syntax, why in _NO_DECODER.items()]
    lines += [
        f"| {name_of(syntax)} | {syntax} | none: hierarchical or arithmetic lossless | |" for syntax in _HIERARCHICAL
    ]
    return "\n".join(lines)


def name_of(syntax: str) -> str:
    """The name of a transfer syntax, or its UID when nobody knows it."""
    return _NAMES.get(syntax) or str(UID(syntax).name)


def document() -> str:
    """docs/transfer_syntaxes.md."""
    return f"""# Transfer syntaxes

Written by `python -m volumes.transfer_syntaxes`. Each syntax names its decoders; the first that is installed is used.
Extras are installed with `pip install "medvlm-platform[codecs]"` and so on; the extra `jpeg` is GPL-3.0. What a file
of a syntax without a decoder says is in the last rows. Not tried for want of an encoder: the arithmetic-coded retired
JPEG processes (.52, .54, .56), which libjpeg-turbo claims to decode.

{table()}
"""


if __name__ == "__main__":
    print(document(), end="")
