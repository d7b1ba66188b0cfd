"""How a file asks to be looked at: its windows and VOI look-up tables (PS3.3 C.11.2), as named transforms.

A window or table maps modality values (HU, or as rescaled) to gray in 0..1. A file may offer several; none is chosen
silently: `apply_voi` notes which one was used, and a file without any gets percentiles of its own values, noted too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from volumes.errors import VolumeError
from volumes.header import get, integer, items, text
from volumes.volume import Film, Volume

Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
_FUNCTIONS: tuple[Function, ...] = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
PERCENTILES = (0.5, 99.5)
_SAMPLES = 2**22  # percentiles of larger images are taken from every n-th value
_MOST = 32  # windows or tables of one file


@dataclass(frozen=True)
class Window:
    """Center and width in modality values, and how values between are mapped."""

    center: float
    width: float
    function: Function = "LINEAR"
    name: str = ""

    def __post_init__(self) -> None:
        low = 1.0 if self.function == "LINEAR" else 0.0
        if self.function not in _FUNCTIONS:
            raise VolumeError(f"VOI LUT Function {self.function!r}; expected {', '.join(_FUNCTIONS)}", "bad-window")
        if not np.isfinite([self.center, self.width]).all() or self.width < low or self.width == 0:
            wanted = "at least 1" if low else "above 0"
            raise VolumeError(
                f"window center {self.center:g}, width {self.width:g}; expected finite numbers, a {self.function} width"
                f" {wanted} (PS3.3 C.11.2.1.2)",
                "bad-window",
            )

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Modality values of any shape -> gray in 0..1, float32."""
        values = np.asarray(values, dtype=np.float32)
        if self.function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(-4 * (values - self.center) / self.width)), dtype=np.float32)
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.center) / self.width + 0.5, 0, 1).astype(np.float32)
        if self.width == 1:
            return (values > self.center - 0.5).astype(np.float32)
        return np.clip((values - (self.center - 0.5)) / (self.width - 1) + 0.5, 0, 1).astype(np.float32)

    @property
    def told(self) -> str:
        """In words."""
        return f"window {self.center:g} / {self.width:g} ({self.function}{', ' + self.name if self.name else ''})"


@dataclass(frozen=True, eq=False)
class Table:
    """A VOI look-up table: gray (0..1) of `first`, first + 1 ...; values beyond either end take the end's gray."""

    first: int
    grays: NDArray[np.float32]
    name: str = ""

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Modality values of any shape, rounded to whole numbers -> gray in 0..1, float32."""
        index = np.clip(np.rint(np.asarray(values, dtype=np.float64)) - self.first, 0, len(self.grays) - 1)
        return self.grays[index.astype(np.int64)]

    @property
    def told(self) -> str:
        """In words."""
        return f"VOI table of {len(self.grays)} entries from {self.first}{' (' + self.name + ')' if self.name else ''}"


Voi = Window | Table
Image = TypeVar("Image", Volume, Film)


def voi_of(dataset: Dataset) -> tuple[Voi, ...]:
    """Every table, then every window that a file offers, in its order; () when it offers none.

    A multi-frame file offers the windows that its frames share, else each that some frame asks for.
    Raises VolumeError for a window or table that makes no sense.
    """
    found = _offered(dataset)
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for frame in items(dataset, groups) if not found else []:
            for item in items(frame, "FrameVOILUTSequence"):
                found += [one for one in _offered(item) if one not in found]
    return tuple(found[:_MOST])


def _offered(dataset: Dataset) -> list[Voi]:
    tables = [_table(item, dataset) for item in items(dataset, "VOILUTSequence")[:_MOST]]
    centers, widths = _floats(get(dataset, "WindowCenter")), _floats(get(dataset, "WindowWidth"))
    if len(centers) != len(widths):
        raise VolumeError(
            f"{len(centers)} window centers and {len(widths)} window widths; expected as many of each", "bad-window"
        )
    names = [str(v) for v in _several(get(dataset, "WindowCenterWidthExplanation"))]
    names += [""] * (len(centers) - len(names))
    function = text(dataset, "VOILUTFunction") or "LINEAR"
    if function not in _FUNCTIONS:
        raise VolumeError(f"VOI LUT Function {function!r}; expected {', '.join(_FUNCTIONS)}", "bad-window")
    known = next(one for one in _FUNCTIONS if one == function)
    windows = [Window(c, w, known, n) for c, w, n in zip(centers, widths, names, strict=False)]
    return [*tables, *windows[:_MOST]]


def named(offered: Sequence[Voi], wanted: str | int = 0) -> Voi:
    """One of several by its number (from 0) or name. Raises VolumeError listing what is offered."""
    chosen = [one for n, one in enumerate(offered) if wanted in (n, one.name)]
    if len(chosen) != 1:
        listed = "; ".join(f"{n}: {one.told}" for n, one in enumerate(offered)) or "none"
        raise VolumeError(f"the VOI transform {wanted!r} is not one of those offered: {listed}", "no-window")
    return chosen[0]


def percentile_window(values: NDArray[np.float32]) -> Window:
    """The window from the 0.5th to the 99.5th percentile, for files that offer none; named so."""
    flat = np.asarray(values).reshape(-1)
    low, high = np.percentile(flat[:: max(1, flat.size // _SAMPLES)], PERCENTILES)
    width = float(high - low) or 1.0
    told = f"percentiles {PERCENTILES[0]} to {PERCENTILES[1]}: the file offers no window"
    return Window(float(low + high) / 2, width, "LINEAR_EXACT", told)


def apply_voi(image: Image, offered: Sequence[Voi] = (), wanted: str | int = 0) -> Image:
    """The image in gray 0..1 (unit "1") with a note that names the transform; percentiles when none is offered.

    Raises VolumeError for an image in gray already, and for windows of a MONOCHROME1 film: they speak of its values
    before it was inverted.
    """
    tensor = image.voxels if isinstance(image, Volume) else image.pixels
    if image.unit == "1":
        raise VolumeError("the image carries the unit '1': it went through a window already", "wrong-unit")
    if offered and isinstance(image, Film) and any("MONOCHROME1 inverted" in note for note in image.notes):
        raise VolumeError(
            "the film was MONOCHROME1 and is inverted: the windows of the file speak of its values before that. Give no"
            " windows; percentiles are taken then",
            "inverted",
        )
    values = tensor.numpy()
    voi = named(offered, wanted) if offered else percentile_window(values)
    gray = torch.from_numpy(np.ascontiguousarray(voi.apply(values)))
    notes = (*image.notes, f"gray by {voi.told}")
    if isinstance(image, Volume):
        return replace(image, voxels=gray, unit="1", notes=notes)
    return replace(image, pixels=gray, unit="1", notes=notes)


def _table(item: Dataset, dataset: Dataset) -> Table:
    """PS3.3 C.11.2.1.1: number of entries (0 means 65536), first value mapped, bits of each entry."""
    stated, data = _floats(get(item, "LUTDescriptor")), get(item, "LUTData")
    if len(stated) != 3 or data is None:
        raise VolumeError("a VOI table without LUTDescriptor (3 numbers) or LUTData", "bad-window")
    count, first, bits = int(stated[0]) or 65536, int(stated[1]), int(stated[2])
    if integer(dataset, "PixelRepresentation") == 1 and first > 32767:
        first -= 65536  # written as unsigned although the values are signed
    if isinstance(data, bytes):
        wide = len(data) >= 2 * count
        entries = np.frombuffer(data, "<u2" if wide else "u1").astype(np.float32)
    else:
        entries = np.asarray(_several(data), dtype=np.float32)
    if len(entries) < count or not 1 <= bits <= 16:
        raise VolumeError(
            f"a VOI table of {len(entries)} entries of {bits} bits; its descriptor states {count} of 8 to 16",
            "bad-window",
        )
    return Table(first, entries[:count] / np.float32(2**bits - 1), text(item, "LUTExplanation"))


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) else [value]


def _floats(value: Any) -> list[float]:
    try:
        return [float(v) for v in _several(value)]
    except (TypeError, ValueError):
        return []
