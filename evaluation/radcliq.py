"""RadCliQ: a linear model over four scores of a pair of reports that predicts how many errors a radiologist would find.

Yu et al. 2023, doi:10.1016/j.patter.2023.100802, code CXR-Report-Metric. Lower is better; v0 and v1 are on different
scales. The coefficients are the authors', read from their files; without them there is the arithmetic on given ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.originals import Original, OriginalMissingError, digest, metric_name
from evaluation.pickled_numbers import Built, PickleReadError, as_value, read_pickled

SCORES: tuple[str, ...] = ("radgraph_combined", "bertscore", "semb_score", "bleu_score")
"""The four scores in the order of the model: the combined RadGraph F1, BERTScore F1 (distilroberta-base, rescaled),
cosine of CheXbert's [CLS] embeddings, sentence BLEU-2 of the lower-cased words."""
_FILES = {"v0": ("normalizer.pkl", "composite_metric_model.pkl"), "v1": ("radcliq-v1.pkl",)}

Version = Literal["v0", "v1"]


@dataclass(frozen=True)
class Coefficients:
    """score = (scores x scale + shift) · weights + intercept; the first three hold four numbers."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercept: float
    version: Version
    source: str | Original

    def __post_init__(self) -> None:
        for name in ("scale", "shift", "weights"):
            values = getattr(self, name)
            if np.shape(values) != (len(SCORES),) or not np.isfinite(values).all():
                raise ValueError(f"{name} has shape {np.shape(values)}, expected {len(SCORES)} numbers, all finite")
        if not math.isfinite(self.intercept):
            raise ValueError(f"the intercept is {self.intercept}, expected a number")

    @classmethod
    def read(cls, path: Path) -> Coefficients:
        """From JSON: {"version": "v1", "scale": [4], "shift": [4], "weights": [4], "intercept": 1.2, "source": "…"}.

        Raises: ValueError that says what is wrong.
        """
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
            scale, shift, weights = (np.array(given[name], float) for name in ("scale", "shift", "weights"))
            version, intercept, source = given["version"], float(given["intercept"]), str(given["source"])
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path.name} does not hold scale, shift, weights, intercept, version and source: {error!r}"
            ) from error
        if version not in _FILES:
            raise ValueError(f'{path.name} is of version "{version}", expected v0 or v1')
        return cls(scale, shift, weights, intercept, version, source)


@dataclass(frozen=True)
class RadCliQ:
    """The mean predicted number and each report's; lower is better. `name` is what to print."""

    name: str
    value: float
    per_report: NDArray[np.float64]
    n: int
    variant: str


def radcliq(scores: ArrayLike, coefficients: Coefficients, by: str) -> RadCliQ:
    """The model on scores (N, 4), in the order of SCORES. by: who computed them.

    Only coefficients from the original's files give the metric its name, and `by` is said with it: the four scores are
    part of the definition. A report with a score that is not a number has none; nan without any.
    Raises: ValueError for another shape.
    """
    table = np.asarray(scores, np.float64)
    if table.ndim != 2 or table.shape[1] != len(SCORES):
        raise ValueError(f"scores have shape {table.shape}, expected (N, {len(SCORES)}): {', '.join(SCORES)}")
    each = (table * coefficients.scale + coefficients.shift) @ coefficients.weights + coefficients.intercept
    known = each[np.isfinite(each)]
    metric = f"RadCliQ-{coefficients.version}"
    source = coefficients.source
    name = metric_name(metric, source, "scores") if isinstance(source, Original) else metric_name(metric, by, "scores")
    variant = f"coefficients {source}; scores by {by}; lower is better"
    return RadCliQ(name, float(known.mean()) if known.size else math.nan, each, int(known.size), variant)


def original_coefficients(folder: Path, version: Version = "v1") -> Coefficients:
    """The authors' coefficients, from the files of CXR-Report-Metric in a folder. The pickles are read and never run.

    v0: normalizer.pkl (a scaler) and composite_metric_model.pkl (a linear regression); v1: radcliq-v1.pkl (both).
    Raises: OriginalMissingError when a file is missing or not as expected.
    """
    if version not in _FILES:
        raise ValueError(f'version is "{version}", expected v0 or v1')
    paths = [folder / name for name in _FILES[version]]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise OriginalMissingError(
            f"RadCliQ-{version} needs {', '.join(_FILES[version])} of CXR-Report-Metric; {', '.join(missing)} not found"
        )
    original = Original(f"RadCliQ-{version}", "CXR-Report-Metric", version, digest(paths))
    try:
        objects = [read_pickled(path) for path in paths]
        scaler, model = objects if version == "v0" else (objects[0].attributes["scaler"], objects[0])
        scale, shift = _scaler(scaler)
        weights, intercept = _linear(model)
        return Coefficients(scale, shift, weights, intercept, version, original)
    except (PickleReadError, KeyError, AttributeError, ValueError, TypeError) as error:
        raise OriginalMissingError(f"the files of RadCliQ-{version} are not as expected: {error}") from error


def _scaler(given: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """scale and shift of scikit-learn's MinMaxScaler (x scale_ + min_) or StandardScaler ((x - mean_) / scale_)."""
    held = _attributes(given)
    scale = np.asarray(held["scale_"], np.float64)
    if "min_" in held:
        return scale, np.asarray(held["min_"], np.float64)
    return 1 / scale, -np.asarray(held["mean_"], np.float64) / scale


def _linear(given: Any) -> tuple[NDArray[np.float64], float]:
    """Weights and intercept of a linear regression (coef_, intercept_) or of v1 (coefs, the intercept last)."""
    held = _attributes(given)
    if "coefs" in held:
        coefficients = np.asarray(held["coefs"], np.float64).ravel()
        return coefficients[:-1], float(coefficients[-1])
    return np.asarray(held["coef_"], np.float64).ravel(), float(np.ravel(held["intercept_"])[0])


def _attributes(given: Any) -> dict[str, Any]:
    if not isinstance(given, Built):
        raise ValueError(f"found a {type(given).__name__}, expected a scaler or a linear model")
    return {name: as_value(value) for name, value in given.attributes.items()}


def bleu2_words(text: str) -> list[str]:
    """The words that RadCliQ's BLEU-2 compares: lower case, points set apart, split at single spaces."""
    return [word for word in text.lower().replace(".", " .").split(" ") if word]


def embedding_cosines(pred: ArrayLike, ref: ArrayLike) -> NDArray[np.float64]:
    """Cosine of each pair of embeddings (N, C), CheXbert's in the original; nan where one is all zeros.

    Raises: ValueError for shapes that differ.
    """
    said, true = np.asarray(pred, np.float64), np.asarray(ref, np.float64)
    if said.shape != true.shape or said.ndim != 2:
        raise ValueError(f"embeddings have shapes {said.shape} and {true.shape}, expected both (N, C)")
    lengths = np.linalg.norm(said, axis=1) * np.linalg.norm(true, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lengths > 0, (said * true).sum(1) / lengths, math.nan)


def score_table(columns: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """The four columns (N,), in the order of SCORES, side by side. Raises: ValueError if they are not four alike."""
    if len(columns) != len(SCORES) or len({np.shape(column) for column in columns}) > 1:
        raise ValueError(f"got columns of shapes {[np.shape(c) for c in columns]}, expected {len(SCORES)} alike")
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
