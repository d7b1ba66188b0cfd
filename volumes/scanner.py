"""Simulated X-ray and CT equipment: each machine has its own matrix, spacing, noise, sharpness and gray scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from volumes.painting import Array
from volumes.streams import stream


@dataclass(frozen=True)
class Scanner:
    """One machine. Lengths in mm; `photons` per pixel in an unattenuated beam; blur and edge radius in pixels."""

    name: str
    matrix: tuple[int, int]
    spacing_mm: tuple[float, float]
    photons: float
    scatter: float
    blur_px: float
    edge_px: float
    edge_gain: float
    contrast: float
    gamma: float
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    bits: int
    border_px: int
    ct_pixel_mm: float
    ct_slice_mm: float
    ct_matrix: int
    ct_kernel: Literal["soft", "standard", "sharp"]
    ct_noise_hu: float

    @property
    def window(self) -> tuple[float, float]:
        """Center and width of the gray scale of the stored pixels."""
        return float(2 ** (self.bits - 1)), float(2**self.bits)


SCANNERS: tuple[Scanner, ...] = (
    Scanner(
        "SIM-DX-100",
        (352, 320),
        (1.18, 1.18),
        90000,
        0.004,
        0.5,
        8.0,
        1.9,
        1.00,
        1.00,
        "MONOCHROME2",
        12,
        0,
        2.6,
        4.0,
        144,
        "standard",
        18,
    ),
    Scanner(
        "SIM-DX-240",
        (352, 296),
        (1.18, 1.26),
        50000,
        0.006,
        0.7,
        9.0,
        1.5,
        0.92,
        1.12,
        "MONOCHROME1",
        12,
        0,
        3.2,
        5.0,
        120,
        "soft",
        12,
    ),
    Scanner(
        "SIM-CR-7",
        (310, 276),
        (1.36, 1.36),
        30000,
        0.008,
        0.8,
        6.0,
        1.4,
        0.88,
        0.92,
        "MONOCHROME1",
        10,
        4,
        3.5,
        6.0,
        112,
        "soft",
        22,
    ),
    Scanner(
        "SIM-DX-900",
        (384, 352),
        (1.08, 1.08),
        160000,
        0.003,
        0.4,
        10.0,
        2.4,
        1.08,
        1.05,
        "MONOCHROME2",
        14,
        0,
        2.4,
        3.0,
        160,
        "sharp",
        38,
    ),
    Scanner(
        "SIM-CR-30",
        (304, 264),
        (1.36, 1.44),
        40000,
        0.006,
        0.6,
        5.0,
        1.8,
        0.95,
        0.86,
        "MONOCHROME2",
        12,
        6,
        3.0,
        4.0,
        128,
        "sharp",
        28,
    ),
)


@lru_cache(maxsize=64)
def _blur_matrix(size: int, sigma_px: float) -> Array:
    """Rows are Gaussian weights cut at three sigma, so that blurring never carries a change any further."""
    reach = max(int(np.ceil(3 * sigma_px)), 1)
    offset = np.arange(size)[:, None] - np.arange(size)[None, :]
    weight = np.where(np.abs(offset) <= reach, np.exp(-0.5 * (offset / max(sigma_px, 1e-3)) ** 2), 0.0)
    return np.asarray(weight / weight.sum(1, keepdims=True), np.float32)


def blur(image: Array, sigma_px: float) -> Array:
    """Gaussian blur as two banded matrix products: exact zeros outside the kernel keep far pixels bit-identical."""
    return np.asarray(
        _blur_matrix(image.shape[0], sigma_px) @ image @ _blur_matrix(image.shape[1], sigma_px).T, np.float32
    )


def reach_px(scanner: Scanner) -> int:
    """How far, in pixels, a change of one ray can spread in the finished film."""
    return max(int(np.ceil(3 * scanner.blur_px)), 1) + int(np.ceil(3 * scanner.edge_px)) + 1


def expose(attenuation: Array, scanner: Scanner, center: float, key: tuple[object, ...]) -> NDArray[np.uint16]:
    """Stored pixels of a film from line integrals (H, W) of the attenuation.

    Detector response with a constant veil for scatter, noise that grows where few photons arrive, blur, edge
    enhancement and a sigmoid gray scale about `center`. Every step is local and none depends on the rest of the film;
    the noise field is keyed by `key` alone.
    """
    noise = stream(*key, "film noise").standard_normal(attenuation.shape, dtype=np.float32)
    transmitted = np.exp(-attenuation)
    transmitted += np.float32(scanner.scatter)
    noise *= np.float32(1.0 / np.sqrt(scanner.photons)) / np.sqrt(transmitted)
    signal = blur(-np.log(transmitted), scanner.blur_px)
    signal += noise
    signal += np.float32(scanner.edge_gain) * (signal - blur(signal, scanner.edge_px))
    gray = 1.0 / (1.0 + np.exp(np.float32(-1.25 * scanner.contrast) * (signal - np.float32(center))))
    gray = gray ** np.float32(scanner.gamma)
    top = 2**scanner.bits - 1
    stored = np.clip(np.rint(gray * np.float32(top)), 0, top).astype(np.uint16)
    if scanner.border_px:
        stored = _collimate(stored, scanner.border_px)
    return np.asarray(top - stored if scanner.photometric == "MONOCHROME1" else stored, np.uint16)


def _collimate(stored: NDArray[np.uint16], border_px: int) -> NDArray[np.uint16]:
    framed = np.zeros_like(stored)
    inner = (slice(border_px, -border_px),) * 2
    framed[inner] = stored[inner]
    return framed


_KERNELS = {"soft": (0.8, 0.0, 0.9), "standard": (0.45, 0.15, 0.6), "sharp": (0.0, 0.55, 0.35)}


def ct_kernel(values: Array, noise: Array, scanner: Scanner) -> Array:
    """CT values (D, H, W) in whole HU: in-plane blur or sharpening, noise with the texture of the kernel, clipped."""
    smooth, sharpen, grain = _KERNELS[scanner.ct_kernel]
    out = _blur_slices(values, smooth) if smooth else values.copy()
    if sharpen:
        out += np.float32(sharpen) * (out - _blur_slices(out, 1.0))
    texture = _blur_slices(noise, grain)
    out += texture * np.float32(scanner.ct_noise_hu / _noise_left(grain))
    return np.clip(np.rint(out), -1024, 3071).astype(np.float32)


def _blur_slices(values: Array, sigma_px: float) -> Array:
    rows, columns = _blur_matrix(values.shape[1], sigma_px), _blur_matrix(values.shape[2], sigma_px)
    return np.asarray(np.matmul(np.matmul(rows, values), columns.T), np.float32)


@lru_cache(maxsize=8)
def _noise_left(sigma_px: float) -> float:
    """Standard deviation of white noise of deviation 1 after the blur."""
    row = _blur_matrix(41, sigma_px)[20]
    return float((row**2).sum())
