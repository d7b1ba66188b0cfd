"""Where a model points: the pointing game on findings that are there, the lit area for those that are not."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from evaluation.grounding import Pointing, pointing_game
from evaluation.intervals import patient_bootstrap
from evaluation.scorecard import Metric
from medvlm.diagnose import probabilities
from medvlm.encoders import ImageTokens
from medvlm.ground import finding_map
from medvlm.measures import FOCAL
from medvlm.model import Model
from medvlm.testset import TestSet, film_masks, tokens_of
from volumes.transforms import FilmContract

TOLERANCE_MM = 10.0
MARGINS = (0.0, TOLERANCE_MM)


def grounding(model: Model, test: TestSet, odds: np.ndarray) -> tuple[list[Metric], dict[str, np.ndarray]]:
    """Pointing game on findings that are there, and lit area for those that are not.

    Returns also what each study scored (n,), nan where it does not count, by name of metric.
    """
    contract = model.contract
    if not isinstance(contract, FilmContract):
        return [], {}
    boxes = {
        margin: [film_masks(test, row, contract, margin) for row in range(len(test.examples))] for margin in MARGINS
    }
    p, _ = probabilities(model, odds, test.names)
    closer = tokens_of(model, test.images, test.examples, "look closely", closely=True)
    games: dict[float, dict[str, Pointing]] = {margin: {} for margin in MARGINS}
    areas = np.full((len(test.examples), len(test.names)), np.nan)
    for k, name in enumerate(test.names):
        maps = upsampled(model, closer, name, contract.size)
        for margin, masks in boxes.items():
            targets = [found[name].numpy() if name in found and bool(found[name].any()) else None for found in masks]
            games[margin][name] = pointing_game([heat.numpy() for heat in maps], targets)
        threshold = model.thresholds.get(name, 0.5)
        for row in np.flatnonzero(test.labels[:, k] == 0):
            areas[row, k] = lit_share(maps[row]) if p[row, k] >= threshold else 0.0
    metrics = pointing_metrics("ground.pointing_game", games[0.0], test, "no tolerance")
    metrics += pointing_metrics(
        "ground.near.pointing_game", games[TOLERANCE_MM], test, f"{TOLERANCE_MM:g} mm tolerance"
    )
    values = {f"ground.pointing_game.{name}": game.hits for name, game in games[0.0].items() if game.n}
    values["ground.false_area"] = np.nanmean(areas, axis=1)
    return [*metrics, *false_area_metrics(areas, test)], values


def upsampled(model: Model, closer: ImageTokens, name: str, size: int, batch: int = 32) -> torch.Tensor:
    """Maps (n, size, size) of a finding, bicubic from the token grid, so that a peak may lie between tokens."""
    parts = []
    for s in range(0, len(closer.local), batch):
        part = ImageTokens(closer.local[s : s + batch], closer.whole[s : s + batch], closer.grid)
        heat = finding_map(model, part, name, None)
        parts.append(F.interpolate(heat[:, None], (size, size), mode="bicubic", align_corners=False)[:, 0])
    return torch.cat(parts)


def lit_share(heat: torch.Tensor) -> float:
    """Share of the image inside the region that `medvlm ground` would draw, before it is boxed."""
    from medvlm.ground import REGION_LEVEL

    level = heat.median() + REGION_LEVEL * (heat.max() - heat.median())
    return float((heat >= level).float().mean())


def pointing_metrics(name: str, games: dict[str, Pointing], test: TestSet, tolerance: str) -> list[Metric]:
    """The pooled rate over focal findings, what a random point would reach, and one rate for each finding.

    Source: Zhang et al. 2016, arXiv:1608.00507, who allow 15 pixels around the object. The main figure allows
    none; the one called near allows some mm.
    """
    variant = f"peak of the bicubic map inside the finding's box, {tolerance}"
    focal = [games[finding] for finding in games if finding in FOCAL]
    if not any(game.n for game in focal):
        return []
    hits = np.concatenate([game.hits for game in focal])
    pooled = patient_bootstrap(hits, [patient for _ in focal for patient in test.patients])
    chance = float(np.nanmean([game.chance for game in focal]))
    by_chance = f"mean share of the image inside the boxes, {tolerance}"
    metrics = [
        Metric.of(name, pooled, f"{variant}; focal findings pooled", test.data),
        Metric(name.replace("ground", "ground.chance", 1), chance, chance, chance, pooled.n, by_chance, test.data),
    ]
    for finding, game in games.items():
        if game.n:
            found = patient_bootstrap(game.hits, test.patients)
            metrics.append(Metric.of(f"{name}.{finding}", found, variant, test.data))
    return metrics


def false_area_metrics(areas: np.ndarray, test: TestSet) -> list[Metric]:
    """Mean share of the image lit for absent findings; 0 where the model rightly says nowhere."""
    rows = np.nanmean(areas, axis=1)
    variant = "share of the image lit for a finding that is absent; 0 where the answer is nowhere; mean over findings"
    return [Metric.of("ground.false_area", patient_bootstrap(rows, test.patients), variant, test.data)]
