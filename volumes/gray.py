"""Decoded pixels of a film or an ultrasound image -> one gray plane of one frame, whatever the colours were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.pixels import apply_color_lut

from volumes.errors import VolumeError
from volumes.header import text
from volumes.instance import InstanceHeader

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_COLOURED = 16 / 255  # channels that differ by more are no gray with rounding


def one_frame(header: InstanceHeader, frame: int | None) -> tuple[int, list[str]]:
    """The frame to read and what is noted of it. Raises VolumeError when a cine run is read without naming one."""
    if frame is None:
        if header.frames > 1:
            raise VolumeError(
                f"{header.frames} frames; a film has one. Name one of them, from 0 to {header.frames - 1}, with"
                " read(frame=...)",
                "multi-frame",
            )
        return 0, []
    if not 0 <= frame < header.frames:
        raise VolumeError(f"frame {frame} was asked for; the file holds {header.frames}, numbered from 0", "no-frame")
    return frame, [f"frame {frame} of {header.frames} (numbered from 0)"] if header.frames > 1 else []


def gray(
    dataset: FileDataset, stored: NDArray[Any], header: InstanceHeader, frame: int = 0
) -> tuple[NDArray[Any], list[str]]:
    """Stored values of all frames -> (rows, columns) of one, with notes. Raises VolumeError on another shape."""
    palette = text(dataset, "PhotometricInterpretation") == "PALETTE COLOR"
    plane = stored[frame] if header.frames > 1 else stored
    notes: list[str] = []
    if palette and plane.ndim == 2:
        plane = _palette(dataset, plane)
        notes.append("palette colours looked up")
    if plane.ndim == 3 and plane.shape[-1] in (3, 4):
        rgb = plane[..., :3].astype(np.float32)
        whole = float(np.iinfo(plane.dtype).max) if plane.dtype.kind in "ui" else float(rgb.max() or 1)
        coloured = float((np.ptp(rgb, axis=-1) > _COLOURED * whole).mean())
        plane = rgb @ LUMINANCE
        notes.append(f"colour image turned into luminance (ITU-R BT.601); {100 * coloured:.1f} % of it was in colour")
    if plane.shape != (header.rows, header.columns):
        raise VolumeError(
            f"pixels have the shape {plane.shape}; expected (rows, columns) = ({header.rows}, {header.columns})",
            "bad-description",
        )
    return plane, notes


def _palette(dataset: FileDataset, plane: NDArray[Any]) -> NDArray[Any]:
    try:
        return np.asarray(apply_color_lut(plane, dataset))
    except Exception as error:  # a damaged table raises anything
        raise VolumeError(
            f"the palette cannot be applied: {type(error).__name__}; expected red, green and blue tables", "bad-palette"
        ) from error
