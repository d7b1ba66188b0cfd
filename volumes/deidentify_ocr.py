"""Words in pixels by optical character recognition: the extra `ocr`, beside the detector that reads nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumes.deidentify_pixels import Box
from volumes.volume import VolumeError

_SURE = 60  # Tesseract's confidence in percent, from which a word counts
_SMALLEST_PX = 900  # frames below this size are enlarged: Tesseract wants letters of 20 pixels and more


def check_ocr() -> None:
    """Raise VolumeError ("no-ocr") when Tesseract or its binding is absent."""
    try:
        import pytesseract

        pytesseract.get_tesseract_version()
    except ImportError as error:
        raise VolumeError(
            'reading burned-in text needs pytesseract: pip install "medvlm-platform[ocr]"', "no-ocr"
        ) from error
    except Exception as error:  # TesseractNotFoundError and what its start may raise
        raise VolumeError(
            "reading burned-in text needs the program tesseract, which is not found: install tesseract-ocr", "no-ocr"
        ) from error


def find_words(frame: NDArray[Any]) -> tuple[Box, ...]:
    """Boxes of the words of two characters or more that Tesseract reads in a frame (H, W) or (H, W, 3)."""
    import pytesseract
    from PIL import Image

    picture, scale = _picture(frame)
    boxes: list[Box] = []
    for shown in (picture, 255 - picture):
        read = pytesseract.image_to_data(Image.fromarray(shown), config="--psm 11", output_type=pytesseract.Output.DICT)
        for word, sure, left, top, width, height in zip(
            read["text"], read["conf"], read["left"], read["top"], read["width"], read["height"], strict=True
        ):
            if float(sure) >= _SURE and sum(c.isalnum() for c in word) >= 2:
                boxes.append(_unscaled((top, left, top + height, left + width), scale, frame.shape))
    return tuple(sorted(set(boxes)))


def _picture(frame: NDArray[Any]) -> tuple[NDArray[np.uint8], int]:
    values = frame.astype(np.float32) if frame.ndim == 2 else frame.astype(np.float32).max(axis=-1)
    low, high = np.percentile(values, 1), values.max()
    shown = (np.clip((values - low) / max(float(high - low), 1e-6), 0, 1) * 255).astype(np.uint8)
    scale = 2 if max(shown.shape) < _SMALLEST_PX else 1
    return np.kron(shown, np.ones((scale, scale), dtype=np.uint8)), scale


def _unscaled(box: Box, scale: int, shape: tuple[int, ...]) -> Box:
    margin = 4
    top, left, bottom, right = (n // scale for n in box)
    return max(0, top - margin), max(0, left - margin), min(shape[0], bottom + margin), min(shape[1], right + margin)
