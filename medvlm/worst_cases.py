"""The studies on which a model did worst, for people to look at: what it missed, what it invented, and where."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from evaluation.case_errors import Errors, errors_of, marked
from evaluation.clinical import present, sides
from evaluation.scorecard import Case
from medvlm.diagnose import probabilities
from medvlm.encoders import ImageTokens
from medvlm.gallery import look_of
from medvlm.ground import REGION_LEVEL, finding_map, look_closer
from medvlm.model import Model
from medvlm.testset import TestSet, film_masks
from reports.findings import find
from volumes.transforms import FilmContract

MOST = 6
MISSED, INVENTED = "#d1495b", "#b9770e"
Box = tuple[float, float, float, float]
"""Top, left, bottom, right, in pixels."""


def worst_cases(
    model: Model,
    test: TestSet,
    tokens: ImageTokens,
    odds: np.ndarray,
    texts: Sequence[str],
    pictures: bool = True,
    most: int = MOST,
) -> list[Case]:
    """The studies with most errors in the draft; without drafts, in what was called present. Ties: the surest errors.

    `pictures` False leaves out the images.
    """
    p, _ = probabilities(model, odds, test.names)
    thresholds = np.array([model.thresholds.get(name, 0.5) for name in test.names])
    _, true = test.references()
    if texts:
        said = [sides(find(text)) for text in texts]
    else:
        said = [{n: set() for k, n in enumerate(test.names) if p[row, k] >= thresholds[k]} for row in range(len(p))]
    found = [errors_of(a, b, test.names) for a, b in zip(said, true, strict=True)]
    surprise = np.nansum(np.abs(p - test.labels), axis=1)
    worst = sorted(range(len(found)), key=lambda row: (-found[row].count, -surprise[row]))[:most]
    cases = []
    for row in worst:
        wrong = found[row]
        if not wrong.count:
            break
        drafted = marked(texts[row], wrong) if texts else ()
        reference = reference_sentences(test, row, (*wrong.missed, *wrong.wrong_side))
        png = picture(model, test, tokens, row, wrong) if pictures and test.images.ndim == 4 else None
        uid = test.examples[row].study_uid
        cases.append(Case(uid, png, wrong.missed, wrong.invented, wrong.wrong_side, drafted, reference))
    return cases


def reference_sentences(test: TestSet, row: int, wrong: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Sentences of the report that state a fact (others may name people), with the finding that was not said, or "".

    Where truth holds a finding that the report does not state, a line of its own says so.
    """
    rows = []
    for statement in test.examples[row].said:
        names = sorted(present(statement.facts) & set(wrong))
        rows.append((statement.text, names[0] if names else ""))
    told = {name for _, name in rows}
    if test.truth:
        for line in test.truth[row]["findings"]:
            if line["name"] in wrong and line["name"] not in told:
                where = f"{line['side']} " if line["side"] else ""
                rows.append((f"Truth, not in the report: {where}{line['name']}.", line["name"]))
    return tuple(rows)


def picture(model: Model, test: TestSet, tokens: ImageTokens, row: int, wrong: Errors) -> bytes:
    """The film with the true boxes of what was missed, and the region that the model gives for what it invented."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    look = look_of(model, test, tokens, row)
    image = look.image[0].numpy()
    figure = Figure(figsize=(3.4, 3.4), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    contract = model.contract
    taken: list[Box] = []
    if test.truth and isinstance(contract, FilmContract):
        masks = film_masks(test, row, contract)
        for name in (*wrong.missed, *wrong.wrong_side):
            if name in masks and bool(masks[name].any()):
                draw(axes, box(masks[name].numpy()), name, MISSED, "solid", taken)
    closer = look_closer(model, look)
    for name in (*wrong.invented, *wrong.wrong_side):
        heat = finding_map(model, closer, name, None)[0]
        heat = torch.nn.functional.interpolate(heat[None, None], image.shape, mode="bicubic", align_corners=False)[0, 0]
        level = heat.median() + REGION_LEVEL * (heat.max() - heat.median())
        draw(axes, box((heat >= level).numpy(), heat.numpy()), name, INVENTED, (0, (3, 2)), taken)
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return small_png(buffer.getvalue())


def box(mask: np.ndarray, heat: np.ndarray | None = None) -> Box:
    """(top, left, bottom, right) of a mask, or of its connected part that holds the peak of the map."""
    if heat is not None:
        from scipy import ndimage

        parts, _ = ndimage.label(mask)
        mask = parts == parts[np.unravel_index(heat.argmax(), heat.shape)]
    cells = np.argwhere(mask)
    (top, left), (bottom, right) = cells.min(0), cells.max(0) + 1
    return float(top), float(left), float(bottom), float(right)


def draw(axes: Any, place: Box, name: str, color: str, style: object, taken: list[Box]) -> None:
    """A box with its name above it, or where that would cover another name, the next free line below."""
    from matplotlib.patches import Rectangle

    top, left, bottom, right = place
    axes.add_patch(
        Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec=color, lw=1.6, ls=style)
    )
    size = float(axes.get_ylim()[0])
    height, width = 0.055 * size, 0.0195 * size * len(name)
    label_left = min(max(left, 0.0), size - width)
    label_top = max(top - height, 0.0)
    while any(
        label_top < low and high < label_top + height and label_left < far and near < label_left + width
        for high, near, low, far in taken
    ):
        label_top += height
    taken.append((label_top, label_left, label_top + height, label_left + width))
    box_style = {"facecolor": color, "edgecolor": "none", "pad": 1.0}
    axes.text(label_left, label_top, name, color="white", fontsize=7, va="top", bbox=box_style, clip_on=True)


def small_png(png: bytes) -> bytes:
    """The same picture in 128 colours: a third of the bytes, so that a page with many stays light."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
