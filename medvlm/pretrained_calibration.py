"""An imported model meets a catalog: where zero lies, calibration, thresholds, and what its images look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from medvlm import checkpoint as ckpt
from medvlm.finish import embed_split, measure
from medvlm.model import load_model
from medvlm.objectives import PairInfoNCE
from medvlm.shard_images import image_source
from reports.grammar import prompts
from volumes.catalog import Catalog


def calibrate(out: Path, catalog: Path, workers: int = 2) -> dict[str, Any]:
    """Fit calibration, thresholds and familiarity of an imported model on a catalog, as training does at its end.

    Args:
        out: Checkpoint folder that `medvlm.pretrained.import_model` wrote.
        catalog: A catalog with a training and a validation split.
        workers: Processes that read images.

    Returns:
        The metrics on the validation split, also written to metrics.json.
    """
    with Catalog.open(catalog) as opened:
        place_zero(out, opened, catalog, workers)
        metrics = measure(load_model(out), {"data": {"workers": workers}}, opened, catalog, out)
    ckpt.write_text(out / ckpt.METRICS, json.dumps(metrics, indent=1))
    return metrics


def place_zero(out: Path, opened: Catalog, catalog: Path, workers: int) -> None:
    """Move the log-odds of a model that was trained with a softmax, so that an average statement has 0.

    Such a model only ranks: its cosines are positive for every text, so that any phrase would be found somewhere. The
    bias becomes minus the mean log-odds of all statements of findings on the training images. Prompt pairs do not
    change, since it falls out of their difference. A sigmoid model knows its zero and is left alone.
    """
    from medvlm.data import load_examples

    model = load_model(out)
    if not isinstance(model.towers.objective, PairInfoNCE):
        return
    source = image_source(opened, catalog, model.contract, "train", "")
    _, seen = embed_split(model, source, load_examples(opened, model.contract, "train"), workers, keep_local=False)
    if seen is None:
        return
    texts = list(dict.fromkeys(text for name in model.concepts for text in prompts(name, None).positive))
    tensors = ckpt.read_tensors(out / ckpt.WEIGHTS)
    tensors["objective.bias"] = tensors["objective.bias"] - torch.mean(model.odds(seen, texts))
    ckpt.write_tensors(out / ckpt.WEIGHTS, tensors)
