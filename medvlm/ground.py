"""Grounding: the place in the image that a phrase speaks of, in pixels and in millimetres, or nowhere."""

from __future__ import annotations

import json as json_module
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from medvlm.encoders import ImageTokens
from medvlm.model import Look, Model, load_model
from reports.findings import find
from volumes.study import Reading, Study, read_study
from volumes.transforms import FilmContract, VolumeContract
from volumes.volume import Film, Region, Volume, volume_region

REGION_LEVEL = 0.5
"""A region is where the map exceeds this share of the way from its median to its peak."""


@dataclass(frozen=True)
class Grounding:
    """Where a phrase was found. `region` None means nowhere; `odds` are the log-odds that the phrase is true.

    `heat` (*grid) holds cosines in [-1, 1] on the token grid, for drawing.
    """

    phrase: str
    region: Region | None
    odds: float
    heat: Tensor

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the map."""
        return {
            "phrase": self.phrase,
            "region": None if self.region is None else self.region.to_dict(),
            "odds": self.odds,
        }

    def text(self) -> str:
        """The place in words."""
        if self.region is None:
            return f"nowhere (log-odds {self.odds:.2f})"
        start, stop = (", ".join(f"{v:.0f}" for v in corner) for corner in (self.region.start, self.region.stop))
        said = f"pixels ({start}) to ({stop})" if len(self.region.start) == 2 else f"voxels ({start}) to ({stop})"
        if self.region.start_mm is not None and self.region.stop_mm is not None:
            start, stop = (
                ", ".join(f"{v:.0f}" for v in corner) for corner in (self.region.start_mm, self.region.stop_mm)
            )
            said += f", ({start}) to ({stop}) mm"
        return said


def ground(study: Study, phrase: str, model: Model) -> Grounding:
    """Find a phrase in the image of a study that the model can look at.

    The answer is "nowhere" when the phrase is less probable than the threshold that was chosen on validation studies,
    or when it denies its own finding ("no effusion").

    Raises:
        VolumeError: The study cannot be brought into the model's preprocessing contract.
        ValueError: An empty phrase.
    """
    if not phrase.strip():
        raise ValueError("phrase is empty: expected words such as 'left pleural effusion'")
    from medvlm.diagnose import fitting_series, pair_odds, probabilities

    look = model.look(fitting_series(study, model).read())
    facts = [fact for fact in find(phrase) if fact.name in model.concepts]
    if not facts:
        return locate_text(model, look, phrase)
    fact = facts[0]
    odds = pair_odds(model, look.tokens(), fact.name, fact.side).double().numpy()[:, None]
    p = float(probabilities(model, odds, [fact.name])[0][0, 0])
    found = locate(model, look, fact.name, fact.side)
    if fact.status == "absent" or p < model.thresholds.get(fact.name, 0.5):
        return Grounding(phrase, None, found.odds, found.heat)
    return Grounding(phrase, found.region, found.odds, found.heat)


def finding_map(model: Model, closer: ImageTokens, name: str, side: str | None) -> Tensor:
    """Map (B, *grid): cosine with the shortest statement of the finding, such as "Left pleural effusion."

    `closer` are the tokens of `Model.look_closely`. Longer prompts locate less well on simulated films (LOG.md): their
    extra words look for places of their own.
    """
    phrase = f"{side} {name}" if side else name
    return phrase_map(model, closer, f"{phrase[0].upper()}{phrase[1:]}.")


def phrase_map(model: Model, closer: ImageTokens, phrase: str) -> Tensor:
    """Map (B, *grid) of a phrase; of a film the mean over 3 x 3 cells of half a token: where the looks agree."""
    heat = model.maps(closer, [phrase])
    if len(closer.grid) == 2:
        heat = F.avg_pool2d(F.pad(heat, [1] * 4, mode="replicate"), 3, stride=1)
    return heat[:, 0]


def look_closer(model: Model, look: Look) -> ImageTokens:
    """The tokens for maps of what was looked at."""
    return model.look_closely(look.image[None], [look.view])


def locate(model: Model, look: Look, name: str, side: str | None) -> Grounding:
    """The region of a finding that is taken to be there."""
    from medvlm.diagnose import pair_odds

    heat = finding_map(model, look_closer(model, look), name, side)[0]
    odds = float(pair_odds(model, look.tokens(), name, side)[0])
    phrase = f"{side} {name}" if side else name
    return Grounding(phrase, region_of(heat, look, model), odds, heat)


def locate_text(model: Model, look: Look, phrase: str) -> Grounding:
    """Free text without a known finding: its region when its log-odds are above 0."""
    odds = float(model.odds(look.tokens(), [phrase])[0, 0])
    heat = phrase_map(model, look_closer(model, look), phrase)[0]
    return Grounding(phrase, region_of(heat, look, model) if odds > 0 else None, odds, heat)


def region_of(heat: Tensor, look: Look, model: Model) -> Region:
    """Box around the connected part of the map that holds its peak."""
    values = heat.double().numpy()
    level = np.median(values) + REGION_LEVEL * (values.max() - np.median(values))
    parts, _ = ndimage.label(values >= level)
    cells = np.argwhere(parts == parts[np.unravel_index(values.argmax(), values.shape)])
    shape = tuple(look.image.shape[1:])
    step = np.array(shape) / np.array(values.shape)
    start, stop = cells.min(0) * step, (cells.max(0) + 1) * step
    return place_box(tuple(start.tolist()), tuple(stop.tolist()), look, model, float(values.max()))


def place_box(start: tuple[float, ...], stop: tuple[float, ...], look: Look, model: Model, score: float) -> Region:
    """A box of the preprocessed image as a Region of the original: indices and millimetres, cut at the borders."""
    original = look.original
    uid = original.source.sop_uids[0] if isinstance(original, Film) and original.source.sop_uids else ""
    if isinstance(original, Film) and isinstance(model.contract, FilmContract):
        corners = [model.contract.place(corner[0], corner[1], original) for corner in (start, stop)]
        limits = original.shape
        low, high = (tuple(min(max(v, 0.0), float(n)) for v, n in zip(c, limits, strict=True)) for c in corners)
        mm = original.spacing_mm
        scaled = [tuple(v * s for v, s in zip(c, mm, strict=True)) if mm else None for c in (low, high)]
        return Region(original.source.series_uid, uid, low, high, scaled[0], scaled[1], score)
    assert isinstance(original, Volume)
    assert isinstance(model.contract, VolumeContract)
    # Token boxes are edges; the contract's indices are voxel centers, half a voxel further in.
    edges = torch.tensor(_corners(start, stop), dtype=torch.float64) - 0.5
    points = original.mm_to_index(model.contract.place(edges, original)) + 0.5  # (8, 3), edges of the original
    limit = torch.tensor(original.shape, dtype=torch.float64)
    # A token may lie in the padding; its box is then the layer of voxels next to it, never an empty one.
    low_index = torch.minimum(points.amin(0).clamp(min=0), limit - 1)
    high_index = torch.maximum(torch.minimum(points.amax(0), limit), low_index + 1)
    return volume_region(original, low_index.tolist(), high_index.tolist(), score)


def _corners(start: tuple[float, ...], stop: tuple[float, ...]) -> list[tuple[float, ...]]:
    return [(a, b, c) for a in (start[0], stop[0]) for b in (start[1], stop[1]) for c in (start[2], stop[2])]


def overlay_png(look: Look, found: Grounding) -> bytes:
    """The image with the map in colour and the region as a box, as PNG. Of a volume, the slice with the peak."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Rectangle

    image, heat = look.image[0], found.heat
    if image.ndim == 3:
        k = int(heat.amax((1, 2)).argmax())
        image, heat = image[int((k + 0.5) * image.shape[0] / heat.shape[0])], heat[k]
    full = F.interpolate(heat[None, None].float(), image.shape, mode="bicubic", align_corners=False)[0, 0]
    figure, axes = plt.subplots(figsize=(5, 5), dpi=110)
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    if found.region is not None:
        alpha = ((full - full.median()) / (full.max() - full.median() + 1e-6)).clamp(0, 1) * 0.55
        axes.imshow(full, cmap="inferno", alpha=alpha.numpy())
        values = heat.double().numpy()
        level = np.median(values) + REGION_LEVEL * (values.max() - np.median(values))
        parts, _ = ndimage.label(values >= level)
        cells = np.argwhere(parts == parts[np.unravel_index(values.argmax(), values.shape)])
        step = np.array(image.shape) / np.array(values.shape)
        (top, left), (bottom, right) = cells.min(0) * step, (cells.max(0) + 1) * step
        axes.add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color="#4cc9f0", linewidth=2)
        )
    axes.set_title(
        f"{found.phrase}: {'nowhere' if found.region is None else 'here'} (log-odds {found.odds:.1f})", fontsize=10
    )
    axes.axis("off")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def command(
    study: Path, phrase: str, model: Path, out: Path | None, json: bool = False, **reading: Unpack[Reading]
) -> None:
    """`medvlm ground`: print the place, and draw it when `out` is given."""
    from medvlm.diagnose import fitting_series

    read, loaded = read_study(study, **reading), load_model(model)
    found = ground(read, phrase, loaded)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(overlay_png(loaded.look(fitting_series(read, loaded).read()), found))
    print(
        json_module.dumps(found.to_dict() | {"study_uid": read.study_uid}, indent=1)
        if json
        else f"{phrase}: {found.text()}"
    )
