"""Search: studies like a text or like another study, with what was found in them."""

from __future__ import annotations

import hashlib
import json as json_module
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medvlm import checkpoint as ckpt
from medvlm.data import Example, load_examples
from medvlm.encoders import ImageTokens
from medvlm.finish import embed_split
from medvlm.image_cache import ImageCache, cache_folder
from medvlm.model import Model, load_model
from reports.store import ReportStore
from volumes.catalog import Catalog
from volumes.study import Study, read_study


@dataclass(frozen=True)
class Hit:
    """One study found. `score` is a cosine for a study, log-odds for a text; `excerpt` is from its own report."""

    study_uid: str
    score: float
    split: str
    excerpt: str


@dataclass(frozen=True)
class Index:
    """Vectors of a catalog's studies. Shapes: whole (n, E); local (n, N, E) float16."""

    examples: tuple[Example, ...]
    whole: Tensor
    local: Tensor
    grid: tuple[int, ...]


def build_index(model: Model, catalog: Path, split: str | None = None, workers: int = 2) -> Index:
    """Look at every study that the model can look at. Vectors are kept beside the catalog."""
    with Catalog.open(catalog) as opened:
        examples = load_examples(opened, model.contract, split, text=False)
    key = hashlib.sha256(
        "\n".join([model.digest, model.preprocess_digest, *(e.series_uid for e in examples)]).encode()
    ).hexdigest()
    path = cache_folder(catalog) / f"index-{key[:24]}.safetensors"
    cache = ImageCache(cache_folder(catalog), model.contract)
    if path.is_file():
        held = ckpt.read_tensors(path)
        return Index(
            tuple(examples[i] for i in held["kept"].tolist()),
            held["whole"],
            held["local"],
            tuple(held["grid"].tolist()),
        )
    read, tokens = embed_split(model, cache, examples, workers)
    if tokens is None:
        raise ValueError(
            f"{catalog.name}: no study has an image of {', '.join(model.contract.modality)}, so this model can"
            " search nothing here"
        )
    place = {example.study_uid: i for i, example in enumerate(examples)}
    kept = torch.tensor([place[example.study_uid] for example in read])
    local = tokens.local.half()
    ckpt.write_tensors(path, {"whole": tokens.whole, "local": local, "kept": kept, "grid": torch.tensor(tokens.grid)})
    return Index(tuple(read), tokens.whole, local, tokens.grid)


def search(query: str | Study, model: Model, catalog: Path, k: int = 5) -> list[Hit]:
    """The k studies that fit best.

    A text is scored by its log-odds on each image; a study by the cosine of whole-image vectors, without studies of the
    same patient, who would always look most like themselves.

    Raises:
        ValueError: An empty text, or no study that the model can look at.
        VolumeError: The study cannot be brought into the model's preprocessing contract.
    """
    if isinstance(query, str) and not query.strip():
        raise ValueError("query is empty: expected words, or the path of a study")
    index = build_index(model, catalog)
    scores = text_scores(model, index, query) if isinstance(query, str) else study_scores(model, index, query)
    order = np.argsort(-scores, kind="stable")[:k]
    with Catalog.open(catalog) as opened:
        store = ReportStore(opened.connection)
        rows = {row.study_uid: row for row in opened.studies()}
        hits = []
        for i in order:
            if not np.isfinite(scores[i]):
                continue
            uid = index.examples[i].study_uid
            report = store.get(uid)
            excerpt = "" if report is None else (report.impression or report.findings or report.text)
            hits.append(Hit(uid, float(scores[i]), rows[uid].split or "", " ".join(excerpt.split())[:200]))
    return hits


def text_scores(model: Model, index: Index, text: str) -> np.ndarray:
    """Log-odds (n,) that a text is true of each study."""
    parts = [
        model.odds(ImageTokens(index.local[s : s + 64].float(), index.whole[s : s + 64], index.grid), [text])[:, 0]
        for s in range(0, len(index.whole), 64)
    ]
    return torch.cat(parts).double().numpy()


def study_scores(model: Model, index: Index, study: Study) -> np.ndarray:
    """Cosines (n,) with each study; minus infinity for the same patient."""
    from medvlm.diagnose import fitting_series

    look = model.look(fitting_series(study, model).read())
    cosine = F.normalize(index.whole, dim=-1) @ F.normalize(look.whole, dim=-1)
    scores = cosine.double().numpy()
    scores[[e.patient_key == study.patient_key or e.study_uid == study.study_uid for e in index.examples]] = -np.inf
    return scores


def command(query: str, model: Path, catalog: Path, k: int = 5, json: bool = False) -> None:
    """`medvlm search`: print the hits."""
    asked = read_study(query) if os.path.exists(query) else query  # a long text is no path, which Path cannot say
    hits = search(asked, load_model(model), catalog, k)
    if json:
        print(json_module.dumps({"hits": [asdict(hit) for hit in hits]}, indent=1))
        return
    for hit in hits:
        print(f"{hit.score:7.3f}  {hit.study_uid}  [{hit.split}]  {hit.excerpt}")
