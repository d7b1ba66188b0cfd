"""Places in an image as the public benchmarks write them down: boxes, run lengths, polygons and mask files.

Boxes and polygons are in pixels of the image that the benchmark distributes, x to the right, y down, counted from the
outer corner of the first pixel: pixel 3 spans 3 to 4. A box is half-open, so its width is x1 - x0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """A rectangle with the name of what it surrounds; `reader` is who drew it, where several did.

    Raises: ValueError if it has no area.
    """

    label: str
    x0: float
    y0: float
    x1: float
    y1: float
    reader: str = ""

    def __post_init__(self) -> None:
        if not (self.x1 > self.x0 and self.y1 > self.y0):
            raise ValueError(
                f"box ({self.x0:g}, {self.y0:g}, {self.x1:g}, {self.y1:g}) of {self.label!r} has no area, expected"
                " x1 > x0 and y1 > y0"
            )

    @classmethod
    def from_corner(cls, label: str, x: float, y: float, width: float, height: float) -> Box:
        """A box given by its upper left corner and its size, all in pixels."""
        return cls(label, x, y, x + width, y + height)

    def rows_columns(self) -> tuple[float, float, float, float]:
        """(row0, column0, row1, column1), the order that `evaluation.grounding` takes."""
        return (self.y0, self.x0, self.y1, self.x1)


@dataclass(frozen=True)
class RunLengths:
    """A mask as pairs of gap and length along the columns of the image (SIIM-ACR): each gap counts from the end of the
    run before it. `size` is (height, width) in pixels."""

    label: str
    runs: tuple[int, ...]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        height, width = self.size
        if not self.runs or len(self.runs) % 2 or min(self.runs) < 0:
            raise ValueError(
                f"run lengths of {self.label!r}: {len(self.runs)} numbers, the smallest"
                f" {min(self.runs, default=0)}; expected pairs of gap and length, none below 0"
            )
        if sum(self.runs) > height * width:
            raise ValueError(
                f"run lengths of {self.label!r} end at pixel {sum(self.runs)} of an image with {height * width}"
                f" ({height} x {width}); is this another image, or are the gaps counted from the first pixel?"
            )

    def array(self) -> NDArray[np.bool_]:
        """The mask (H, W)."""
        flat = np.zeros(self.size[0] * self.size[1], dtype=np.bool_)
        place = 0
        for gap, length in zip(self.runs[::2], self.runs[1::2], strict=True):
            place += gap
            flat[place : place + length] = True
            place += length
        return flat.reshape(self.size[1], self.size[0]).T.copy()


@dataclass(frozen=True)
class Polygon:
    """A closed outline, (x, y) points in pixels."""

    label: str
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.points) < 3:
            raise ValueError(f"outline of {self.label!r} has {len(self.points)} points, expected 3 or more")

    def array(self, height: int, width: int) -> NDArray[np.bool_]:
        """The mask (H, W): pixels whose center lies inside, by the even-odd rule."""
        outline = np.asarray(self.points, dtype=np.float64)
        start, end = outline, np.roll(outline, -1, axis=0)
        columns = np.arange(width) + 0.5
        mask = np.zeros((height, width), dtype=np.bool_)
        for row in range(max(0, int(outline[:, 1].min())), min(height, int(outline[:, 1].max()) + 1)):
            y = row + 0.5
            crossing = (start[:, 1] <= y) != (end[:, 1] <= y)
            first, last = start[crossing], end[crossing]
            x = first[:, 0] + (y - first[:, 1]) * (last[:, 0] - first[:, 0]) / (last[:, 1] - first[:, 1])
            mask[row] = (x[None, :] < columns[:, None]).sum(1) % 2 == 1
        return mask


@dataclass(frozen=True)
class MaskFile:
    """A mask in a file of its own, by its path relative to the benchmark's folder."""

    label: str
    path: str


Mask = RunLengths | Polygon | MaskFile
