"""RaTEScore: its arithmetic on given entities and embeddings, and its own models when they are here.

Zhao et al. 2024, arXiv:2406.16845, package RaTEScore 0.6.0. An entity of one report meets the most similar entity of
the other; a learned weight for the pair of their types weighs the cosine, and a penalty multiplies it where one affirms
what the other denies. The two directions give an F1. Versions disagree: without entities on a side 0.6.0 gives 0.5,
older code 0; and 0.6.0 has a penalty for each matrix (long reports, short reports), older code one for all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.originals import OriginalMissingError, find_original, load_package, metric_name, offline

TYPES: tuple[str, ...] = ("ABNORMALITY", "NON-ABNORMALITY", "DISEASE", "NON-DISEASE", "ANATOMY")
_METRIC = "RaTEScore"
_INSTALL = "pip install 'RaTEScore>=0.6,<0.7' medspacy"
_AFFIRMED = {"ABNORMALITY": True, "DISEASE": True, "NON-ABNORMALITY": False, "NON-DISEASE": False}
NO_ENTITIES = 0.5
"""The score where a report has no entity, in version 0.6.0."""


@dataclass(frozen=True)
class Affinity:
    """Weights W[type here, type there] and the factor of a pair that affirms what the other denies."""

    weights: dict[tuple[str, str], float]
    opposed: float
    source: str

    @classmethod
    def of(cls, given: Mapping[str, float], source: str, opposed: float | None = None) -> Affinity:
        """From the package's form {"disease_anatomy": 0.99, …, "neg_weight": 0.87}.

        opposed: the factor where the matrix has none (files of older versions). Raises: ValueError for a missing or a
        negative weight.
        """
        weights = {}
        for here in TYPES:
            for there in TYPES:
                key = f"{here}_{there}".lower()
                value = given.get(key)
                if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                    raise ValueError(f'the matrix {source} has {value!r} at "{key}", expected a number, 0 or more')
                weights[here, there] = float(value)
        factor = given.get("neg_weight", opposed)
        if factor is None:
            raise ValueError(f'the matrix {source} has no "neg_weight"; give the factor of its version as `opposed`')
        return cls(weights, float(factor), source)

    @classmethod
    def read(cls, path: Path, opposed: float | None = None) -> Affinity:
        """From a JSON file such as the original's affinity_matrix/long_weight.json. Raises: as `of`."""
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path.name} is not JSON: {error}") from error
        if not isinstance(given, dict):
            raise ValueError(f"{path.name} holds a {type(given).__name__}, expected an object of weights")
        return cls.of(given, path.name, opposed)


@dataclass(frozen=True)
class Typed:
    """The entities of one report: `types` (E,) of TYPES and `vectors` (E, C), one embedding for each."""

    types: tuple[str, ...]
    vectors: NDArray[np.float64]

    def __post_init__(self) -> None:
        strange = sorted(set(self.types) - set(TYPES))
        if strange:
            raise ValueError(f"entity type {strange[0]!r} is not known, expected one of {', '.join(TYPES)}")
        if len(self.vectors) != len(self.types) or (self.types and np.ndim(self.vectors) != 2):
            raise ValueError(f"there are {len(self.types)} types and vectors of shape {np.shape(self.vectors)}")
        if not np.isfinite(self.vectors).all():
            raise ValueError("an embedding holds a number that is not finite")


def one_way(here: Typed, there: Typed, affinity: Affinity) -> float:
    """Mean of cosine x factor over the entities of `here`, each against its most similar of `there`, weighed by type.

    0 if all weights are 0. The package calls the direction from the reference "precision"; the F1 does not mind.
    """
    similar = _unit(here.vectors) @ _unit(there.vectors).T
    best = similar.argmax(axis=1)
    above = below = 0.0
    for at, place in enumerate(best.tolist()):
        kinds = here.types[at], there.types[place]
        weight = affinity.weights[kinds]
        above += float(similar[at, place]) * weight * (affinity.opposed if _opposed(*kinds) else 1.0)
        below += weight
    return above / below if below else 0.0


def pair_score(pred: Typed, ref: Typed, affinity: Affinity, no_entities: float = NO_ENTITIES) -> float:
    """F1 of the two directions; `no_entities` where either report has none; 0 where both directions are 0."""
    if not pred.types or not ref.types:
        return no_entities
    there, back = one_way(ref, pred, affinity), one_way(pred, ref, affinity)
    return 2 * there * back / (there + back) if there + back else 0.0


def _opposed(here: str, there: str) -> bool:
    sides = _AFFIRMED.get(here), _AFFIRMED.get(there)
    return None not in sides and sides[0] != sides[1]


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float64)  # the bound of torch's normalize


@dataclass(frozen=True)
class RaTE:
    """The mean score and each report's. `name` is what to print."""

    name: str
    value: float
    per_report: list[float]
    n: int
    variant: str


def rate_score(
    pred: Sequence[Typed], ref: Sequence[Typed], affinity: Affinity, by: str, no_entities: float = NO_ENTITIES
) -> RaTE:
    """The arithmetic on given entities and embeddings. by: who found and embedded the entities.

    Raises: ValueError if there are not as many drafts as references.
    """
    if len(pred) != len(ref):
        raise ValueError(f"there are {len(pred)} drafts and {len(ref)} references, expected as many")
    scores = [pair_score(said, true, affinity, no_entities) for said, true in zip(pred, ref, strict=True)]
    variant = f"weights {affinity.source}, opposed x {affinity.opposed:.4f}; without entities {no_entities:g}"
    return RaTE(metric_name(_METRIC, by, "entities"), _mean(scores), scores, len(scores), variant)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


class OriginalRaTE:
    """The package itself with its two models in folders: `weights`/ner (RaTE-NER-Deberta) and `weights`/embedding
    (BioLORD-2023-C), each as transformers saves them."""

    def __init__(self, weights: Path, matrix: str = "long") -> None:
        """matrix: "long" or "short". Raises: OriginalMissingError when something is not here; ValueError for matrix."""
        if matrix not in ("long", "short"):
            raise ValueError(f'matrix is "{matrix}", expected long or short')
        files = ("ner/config.json", "ner/model.safetensors", "embedding/config.json", "embedding/model.safetensors")
        self.original = find_original(_METRIC, "RaTEScore", weights, files, _INSTALL)
        self.matrix = matrix
        package = load_package("RaTEScore")
        with offline():
            try:
                self._scorer: Any = package.RaTEScore(
                    bert_model=str(weights / "ner"),
                    eval_model=str(weights / "embedding"),
                    use_gpu=False,
                    affinity_matrix=matrix,
                )
            except (OSError, KeyError, RuntimeError) as error:
                raise OriginalMissingError(f"RaTEScore found its weights and did not load: {error!r}") from error

    def score(self, pred: Sequence[str], ref: Sequence[str]) -> RaTE:
        """The package's own scores.

        It drops a text without a sentence and pairs the ones after it with the wrong reports, so pairs with an empty or
        shorter than three letters long text are scored here, with the package's 0.5 for no entities.
        """
        if len(pred) != len(ref):
            raise ValueError(f"there are {len(pred)} drafts and {len(ref)} references, expected as many")
        asked = [at for at in range(len(ref)) if min(len(pred[at].strip()), len(ref[at].strip())) >= 3]
        with offline():
            answers = self._scorer.compute_score([pred[at] for at in asked], [ref[at] for at in asked]) if asked else []
        if len(answers) != len(asked):
            raise ValueError(
                f"RaTEScore gave {len(answers)} scores for {len(asked)} pairs; a text lost all its sentences"
            )
        scores = [NO_ENTITIES] * len(ref)
        for at, answer in zip(asked, answers, strict=True):
            scores[at] = float(answer)
        variant = f"the package's own scores, matrix {self.matrix}"
        return RaTE(metric_name(_METRIC, self.original, "entities"), _mean(scores), scores, len(scores), variant)
