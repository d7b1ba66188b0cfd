"""What tells apart two images of one place: time, phase, echo, diffusion weighting, and the stacks of one file.

Diffusion tags: PS3.3 C.8.13.5.9, and the private blocks in which Siemens, Philips and GE wrote them before.
"""

from __future__ import annotations

import struct
import warnings
from typing import Any, TypedDict

from pydicom.dataset import Dataset

from volumes.elements import Elements
from volumes.header import integer, numbers, text

_SIEMENS, _PHILIPS, _GE = "SIEMENS MR HEADER", "Philips Imaging DD 001", "GEMS_PARM_01"
_GE_OFFSET = 10**9  # GE adds it to the b-value of some sequences


class Occasion(TypedDict):
    """The fields of an InstanceHeader that this module reads."""

    b_value: str
    direction: str
    inversion: str
    phase: str
    acquired: str
    photometric: str
    concatenation: str
    concatenation_number: int | None
    concatenation_total: int | None
    stacks: tuple[str, ...]


def occasion(dataset: Dataset) -> Occasion:
    """When and how one file was taken, as far as its header says."""
    return Occasion(
        b_value=text(dataset, "DiffusionBValue") or _private_b_value(dataset),
        direction=_direction(dataset),
        inversion=text(dataset, "InversionTime"),
        phase=next(filter(None, (text(dataset, name) for name in _PHASES)), ""),
        acquired=acquired(dataset),
        photometric=text(dataset, "PhotometricInterpretation"),
        concatenation=text(dataset, "ConcatenationUID"),
        concatenation_number=integer(dataset, "InConcatenationNumber"),
        concatenation_total=integer(dataset, "InConcatenationTotalNumber"),
        stacks=_stacks(dataset),
    )


_PHASES = ("NominalPercentageOfCardiacPhase", "TriggerTime", "FrameReferenceTime")


def acquired(dataset: Dataset) -> str:
    """Date and time of acquisition as YYYYMMDDHHMMSS.ffffff without zone, or the time alone; empty when unknown."""
    whole = text(dataset, "AcquisitionDateTime")
    if whole:
        return whole.partition("+")[0].partition("-")[0]
    return text(dataset, "AcquisitionDate") + text(dataset, "AcquisitionTime")


def _stacks(dataset: Dataset) -> tuple[str, ...]:
    if (integer(dataset, "NumberOfFrames") or 1) < 2 or text(dataset, "Modality") == "SEG":
        return ()
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return ()
    from volumes.frames import stacks_of  # which needs the grouping of whole series

    return stacks_of(dataset)


def _direction(dataset: Dataset) -> str:
    found = numbers(dataset, "DiffusionGradientOrientation", 3)
    if not found and _creator(dataset, 0x0019) == _SIEMENS:
        found = _private_numbers(dataset, 0x0019100E, "d")
    return "/".join(f"{v:.4f}" for v in found) if len(found) == 3 else ""


def _private_b_value(dataset: Dataset) -> str:
    places = ((0x0019100C, _SIEMENS, ""), (0x20011003, _PHILIPS, "f"), (0x00431039, _GE, ""))
    for tag, creator, code in places:
        if _creator(dataset, tag >> 16) == creator:
            found = _private_numbers(dataset, tag, code)
            if found:
                value = found[0] % _GE_OFFSET if creator == _GE else found[0]
                return f"{value:g}"
    return ""


def _creator(dataset: Dataset, group: int) -> str:
    value = _private(dataset, group << 16 | 0x0010)
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")).strip()


def _private(dataset: Dataset, tag: int) -> Any:
    try:
        if isinstance(dataset, Elements):  # most files, and no warnings to be muted
            element = dataset.get(tag)
            return None if element is None else element.value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            element = dataset.get(tag)
            return None if element is None else element.value
    except Exception:  # a damaged value fails when it is first used, with any error
        return None


def _private_numbers(dataset: Dataset, tag: int, code: str) -> tuple[float, ...]:
    """Numbers of a private element, also where its type was lost (UN): text, or little-endian floats of `code`."""
    value = _private(dataset, tag)
    try:
        if isinstance(value, bytes):
            if code:
                return struct.unpack(f"<{len(value) // struct.calcsize(code)}{code}", value)
            value = value.decode("ascii").strip(" \0").split("\\")
        return tuple(float(v) for v in (value if isinstance(value, (list, tuple)) or _many(value) else [value]))
    except (struct.error, TypeError, ValueError):
        return ()


def _many(value: object) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, (str, bytes))
