"""Burned-in lettering, found without reading it: thin strokes of one even brightness that stand in a line.

Drawn letters are equally bright, equally high and share a base line; film and tissue shade off and vary too much to
look like this. Which letters they are is not asked, so that no words need be known and every script counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Box = tuple[int, int, int, int]  # first row, first column, row after the last, column after the last

_LETTER_PX = (5, 72)  # height of letters that are looked for
_STROKE_PX = 9  # the widest stroke of a letter
_CONTRAST = 0.18  # of the image's range, by which a stroke stands out
_ALIKE = 0.1  # of the contrast: how far the brightest points of two letters of one line may lie apart
_SMALL_PX = 13  # below this height strokes are thinner than a pixel, so that no two are equally bright
_ALIKE_SMALL = 0.35
_EVEN = 0.05  # of the contrast: a stroke pixel this near to the brightest is drawn, not shaded
_DRAWN = 0.22  # share of such pixels among those of the strokes; tissue, which shades off, stays far below
_EVEN_SMALL = 0.2
_MARGIN_PX = 3


@dataclass(frozen=True)
class _Letter:
    """A component that could be a letter or several that touch."""

    box: Box
    top: float
    contrast: float
    strokes: NDArray[np.float32]
    runs: float  # how many strokes a row crosses, on average

    @property
    def height(self) -> int:
        return self.box[2] - self.box[0]


@dataclass(frozen=True)
class Lettering:
    """Lines of lettering in one frame (rows, columns)."""

    boxes: tuple[Box, ...]

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """True where the frame is to be blanked."""
        found = np.zeros(shape, dtype=bool)
        for top, left, bottom, right in self.boxes:
            found[top:bottom, left:right] = True
        return found


def find_lettering(frame: NDArray[Any]) -> Lettering:
    """Lines of burned-in letters in stored values (H, W), or colour (H, W, 3); no words are read.

    Letters are 5 to 72 pixels high, on films above 1,024 pixels also twice and four times as high.
    """
    values = frame.astype(np.float32)
    pictures = [values, -values] if values.ndim == 2 else [values.max(axis=-1), -values.min(axis=-1)]
    boxes: set[Box] = set()
    for picture in pictures:
        scale = 1
        while True:
            boxes.update(_scaled(box, scale) for box in _bright_lines(picture))
            if max(picture.shape) <= 1024 or scale == 4:
                break
            picture, scale = _halved(picture), scale * 2
    rows, columns = frame.shape[:2]
    return Lettering(tuple(sorted((t, left, min(b, rows), min(r, columns)) for t, left, b, r in boxes)))


def _scaled(box: Box, scale: int) -> Box:
    top, left, bottom, right = box
    return top * scale, left * scale, bottom * scale, right * scale


def _halved(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every second row and column, the brighter of the two: thin strokes stay."""
    rows, columns = (n // 2 * 2 for n in picture.shape)
    even = picture[:rows, :columns]
    halved: NDArray[np.float32] = even.reshape(rows // 2, 2, columns // 2, 2).max(axis=(1, 3))
    return halved


def _bright_lines(picture: NDArray[np.float32]) -> list[Box]:
    if min(picture.shape) < 16:
        return []
    spread = float(picture.max() - picture.min())
    low, high = (float(v) for v in np.percentile(picture[::2, ::2], (0.5, 99.5)))
    if spread <= 0:
        return []
    # a stroke rises above what remains when everything thinner than the widest stroke is wiped away
    rise = picture - ndimage.grey_opening(picture, size=(_STROKE_PX, _STROKE_PX))
    # lettering is drawn at the top of the range, or of what the tissue spans: either may be the scale that shows it
    scales = [spread, max(high - low, spread / 64)]
    if scales[1] > 0.7 * scales[0]:
        scales.pop()
    return [box for scale in scales for box in _lines_at(picture, rise, _CONTRAST * scale)]


def _lines_at(picture: NDArray[np.float32], rise: NDArray[np.float32], contrast: float) -> list[Box]:
    strokes = rise > contrast
    share = strokes.mean()
    if share == 0 or share > 0.35:
        return []
    labels, count = ndimage.label(strokes, structure=np.ones((3, 3)))
    if count > 40_000:
        return []
    return [_whole(_around(line), strokes) for line in _lines(_letters(picture, rise, labels)) if _is_text(line)]


def _letters(picture: NDArray[np.float32], rise: NDArray[np.float32], labels: NDArray[Any]) -> list[_Letter]:
    found = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        height, width = place[0].stop - place[0].start, place[1].stop - place[1].start
        if not _LETTER_PX[0] <= height <= _LETTER_PX[1] or width > 12 * height:
            continue
        inside = labels[place] == number
        if inside.sum() < 5 or (width > height and inside.mean() > 0.92):
            continue
        rises = rise[place][inside]
        contrast = float(rises.max())
        strokes = picture[place][inside][rises > 0.5 * contrast]
        box = (place[0].start, place[1].start, place[0].stop, place[1].stop)
        runs = float((inside[:, 1:] > inside[:, :-1]).sum() + inside[:, 0].sum()) / height
        found.append(_Letter(box, float(strokes.max()), contrast, strokes, runs))
    return found


def _lines(letters: list[_Letter]) -> list[list[_Letter]]:
    """Letters put together that stand side by side and are alike in height and brightness."""
    lines: list[list[_Letter]] = []
    open_lines: list[list[_Letter]] = []
    for letter in sorted(letters, key=lambda one: one.box[1]):
        left = letter.box[1]
        open_lines = [line for line in open_lines if left - line[-1].box[3] <= 2 * _LETTER_PX[1]]
        near = [line for line in open_lines if any(_beside(other, letter) for other in line[-3:])]
        if near:
            max(near, key=lambda line: line[-1].box[3]).append(letter)
        else:
            lines.append([letter])
            open_lines.append(lines[-1])
    return lines


def _beside(one: _Letter, other: _Letter) -> bool:
    small, tall = sorted((one.height, other.height))
    gap = other.box[1] - one.box[3]
    shared = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    alike = _ALIKE_SMALL if tall < _SMALL_PX else _ALIKE
    return (
        -tall <= gap <= 1.6 * tall
        and shared >= 0.4 * small
        and tall <= 2.4 * small
        and abs(one.top - other.top) <= alike * max(one.contrast, other.contrast)
    )


def _is_text(line: list[_Letter]) -> bool:
    """Several letters of one height on one base, drawn in one brightness; touching letters count by their width."""
    if len(line) < 2:
        return False
    boxes = np.array([letter.box for letter in line])
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    letters = float(np.maximum(1, np.rint(widths / (0.8 * heights.max()))).sum())
    slack = max(1.0, 0.1 * float(np.median(heights)))
    base = np.abs(boxes[:, 2] - np.median(boxes[:, 2])) <= slack
    head = np.abs(boxes[:, 0] - np.median(boxes[:, 0])) <= slack
    if len(line) < 6 and not base.all() and not head.all():
        return False
    if letters < 4 or (base | head).mean() < 0.75 or max(base.mean(), head.mean()) < 0.5:
        return False
    if sum(letter.runs for letter in line) < 0.9 * letters:  # each letter has one or two strokes in most rows
        return False
    strokes = np.concatenate([letter.strokes for letter in line])
    contrast = float(np.median([letter.contrast for letter in line]))
    even = _EVEN_SMALL if letters >= 6 and np.median(heights) < _SMALL_PX else _EVEN
    drawn = float((strokes >= np.percentile(strokes, 98) - even * contrast).mean())
    return drawn >= _DRAWN * (1.0 if letters >= 6 else 1.4)


def _around(line: list[_Letter]) -> Box:
    boxes = np.array([letter.box for letter in line])
    top, left = boxes[:, :2].min(axis=0)
    bottom, right = boxes[:, 2:].max(axis=0)
    return int(top), int(left), int(bottom), int(right)


def _whole(box: Box, strokes: NDArray[np.bool_]) -> Box:
    """The box drawn out over words that continue the line (punctuation, letters that touch a bone), and a margin."""
    top, left, bottom, right = box
    reach = 2 * (bottom - top)
    inked = np.flatnonzero(strokes[top:bottom].any(axis=0))
    for column in inked[inked >= right]:
        if column - right > reach:
            break
        right = int(column) + 1
    for column in inked[inked < left][::-1]:
        if left - column > reach:
            break
        left = int(column)
    margin = _MARGIN_PX + (bottom - top) // 2
    rows, columns = strokes.shape
    return max(0, top - margin), max(0, left - margin), min(rows, bottom + margin), min(columns, right + margin)
