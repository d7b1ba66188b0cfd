"""Films as other people's models want them: cropped, stretched or padded to the square, and the exact way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from volumes.transforms import FilmContract, _settle
from volumes.volume import Film, VolumeError

FITS = ("crop", "stretch", "pad")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class FittedFilmContract(FilmContract):
    """Film -> (1, size, size) float32 in [0, 1], resized by a rule that a published model states.

    - `fit` "crop": the shorter side becomes `resize` pixels, then the middle `size` x `size` is cut out (CLIP, BioViL).
    - `fit` "stretch": both sides become `size`, whatever the aspect (SigLIP).
    - `fit` "pad": zero pad to square, then resize, as `FilmContract` does.

    The percentile window comes first. Coordinates are edge-based, as in `FilmContract`; what a crop leaves out lies
    outside [0, size]. Source of the rules: the image processors of transformers and the preprocessing of open_clip.
    """

    fit: str = "crop"
    resize: int = 0  # pixels of the shorter side before the crop; 0 for `size`
    interpolation: str = "bicubic"

    kind: ClassVar[str] = "fitted-film"

    def __post_init__(self) -> None:
        super().__post_init__()
        _settle(self, resize=int(self.resize) or self.size)
        if self.fit not in FITS or self.interpolation not in INTERPOLATIONS or self.resize < self.size:
            raise VolumeError(
                f"fitted film contract has fit {self.fit!r}, interpolation {self.interpolation!r} and resize"
                f" {self.resize} for size {self.size}; expected one of {', '.join(FITS)}, one of"
                f" {', '.join(INTERPOLATIONS)}, and resize at least size",
                "bad-contract",
            )

    def __call__(self, film: Film) -> Tensor:
        """(1, size, size) float32 in [0, 1]. Raises VolumeError for another modality, a flat or a non-finite film."""
        self.check(film)
        low, high = self._window(film)
        pixels = ((film.pixels - low) / (high - low)).clamp_(0, 1)[None, None]
        if self.fit == "pad":
            side, top, left = self._square(film.shape)
            height, width = film.shape
            pixels = F.pad(pixels, (left, side - width - left, top, side - height - top))
        (rows, top), (columns, left) = self._sizes(film.shape)
        if tuple(pixels.shape[2:]) != (rows, columns):
            smooth = self.interpolation != "nearest"
            pixels = F.interpolate(pixels, (rows, columns), mode=self.interpolation, antialias=smooth)
        return pixels[0, :, top : top + self.size, left : left + self.size].clamp(0, 1)

    def place(self, row: float, col: float, film: Film | tuple[int, int]) -> tuple[float, float]:
        """Contract (row, col) -> film (row, col), edge-based pixels; `film` may be its shape (H, W)."""
        shape = film if isinstance(film, tuple) else film.shape
        if self.fit == "pad":
            return super().place(row, col, shape)
        (rows, top), (columns, left) = self._sizes(shape)
        return (row + top) * shape[0] / rows, (col + left) * shape[1] / columns

    def to_contract(self, row: float, col: float, film: Film | tuple[int, int]) -> tuple[float, float]:
        """Film (row, col) -> contract (row, col): the inverse of `place`."""
        shape = film if isinstance(film, tuple) else film.shape
        if self.fit == "pad":
            return super().to_contract(row, col, shape)
        (rows, top), (columns, left) = self._sizes(shape)
        return row * rows / shape[0] - top, col * columns / shape[1] - left

    def _sizes(self, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """For rows and columns: pixels after resizing, and how many of them the crop leaves out before the first."""
        if self.fit != "crop":
            return (self.size, 0), (self.size, 0)
        sides = [self.resize * side // min(shape) for side in shape]
        rows, columns = ((side, (side - self.size) // 2) for side in sides)
        return rows, columns
