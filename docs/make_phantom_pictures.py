"""Writes the pictures of docs/phantom.md: one sheet for each finding of the phantom, first mild, then severe.

Run from the repository: python docs/make_phantom_pictures.py [FOLDER]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from volumes.phantom import FINDINGS, SCANNERS, RenderedFilm, draw_lesion, insert, render_films, sample_patient  # noqa: E402
from volumes.streams import stream  # noqa: E402

HEIGHT = 250  # pixels of one film
LEVELS = 40  # gray levels kept: enough to read, small enough for a repository
LIMIT = 60_000  # bytes
DEVICES = ("endotracheal tube", "central venous catheter")


def display(film: RenderedFilm) -> NDArray[np.uint8]:
    """8-bit picture, bright = more attenuation, windowed between the 0.5 and 99.5 percentiles."""
    pixels = film.pixels.astype(np.float32)
    if film.photometric == "MONOCHROME1":
        pixels = 2**film.bits - 1 - pixels
    low, high = np.percentile(pixels, [0.5, 99.5])
    return np.asarray(np.clip((pixels - low) / (high - low), 0, 1) * 255, np.uint8)


def picture(film: RenderedFilm, caption: str) -> Image.Image:
    """A film at `HEIGHT`, with the corners of the finding's box and a caption."""
    height_mm = film.pixels.shape[0] * film.spacing_mm[0]
    width = round(HEIGHT * film.pixels.shape[1] * film.spacing_mm[1] / height_mm)
    image = Image.fromarray(display(film)).resize((width, HEIGHT), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    if film.boxes:
        r0, c0, r1, c1 = film.boxes[0]
        sy, sx = HEIGHT / film.pixels.shape[0], width / film.pixels.shape[1]
        x0, y0, x1, y1 = (
            max(c0 * sx - 3, 0),
            max(r0 * sy - 3, 0),
            min(c1 * sx + 3, width - 1),
            min(r1 * sy + 3, HEIGHT - 1),
        )
        for x, dx in ((x0, 6), (x1, -6)):
            for y, dy in ((y0, 6), (y1, -6)):
                draw.line([(x + dx, y), (x, y), (x, y + dy)], fill=255)
    draw.text((4, HEIGHT - 13), caption, fill=255, stroke_width=2, stroke_fill=0, font=ImageFont.load_default(10))
    return image


def sheet(name: str, patient: int) -> Image.Image:
    """PA films of one patient with a mild and a severe form of `name`, and the lateral of the severe form."""
    normal = replace(sample_patient(1, patient)[0], lesions=(), scanner=SCANNERS[3])
    images = []
    for severity in ("mild", "severe"):
        state = insert(normal, draw_lesion(stream("picture", name), name, severity=severity))
        lesion = state.lesions[0]
        size = f"ratio {lesion.ratio:.2f}" if lesion.ratio else f"{lesion.size_mm:.0f} mm"
        if name in DEVICES:
            size = f"tip {size} from carina"
        where = " ".join(word for word in (lesion.side, lesion.location) if word)
        films = render_films(state)
        images.append(picture(films[0], f"{severity}, {size} {where}"))
    images.append(picture(films[1], f"{severity}, lateral"))
    whole = Image.new("L", (sum(i.width for i in images) + 4 * (len(images) - 1), HEIGHT))
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + 4
    return whole


def main(folder: Path) -> None:
    """Writes one PNG for each finding into `folder` and prints their sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(FINDINGS):
        path = folder / f"{name.replace(' ', '_')}.png"
        image, levels = sheet(name, number), LEVELS
        while True:
            image.quantize(levels, dither=Image.Dither.NONE).save(path, optimize=True)
            if path.stat().st_size <= LIMIT or levels <= 8:
                break
            levels = levels * 3 // 4
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {levels} gray levels")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "docs" / "phantom")
