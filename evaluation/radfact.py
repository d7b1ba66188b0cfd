"""RadFact: its arithmetic on phrases whose entailment has been judged, with and without boxes.

Bannur et al. 2024 (MAIRA-2), arXiv:2406.04449, code microsoft/RadFact. A language model splits reports into phrases and
says of each whether the other report entails it, and by which phrases. Its judgements are given here, in the form in
which RadFact writes them; the language model is not part of this package.
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

from evaluation.originals import metric_name

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max as shares of the image's width and height."""
_METRIC = "RadFact"
_ENTAILED = "entailment"
GRID = 224
LEAST_PRECISION = 0.5


@dataclass(frozen=True)
class Phrase:
    """One phrase: whether the other report entails it, its boxes (None: it has no place), the boxes of its evidence."""

    entailed: bool
    boxes: tuple[Box, ...] | None = None
    evidence: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        if self.boxes is not None and not self.boxes:
            raise ValueError("a phrase has an empty list of boxes, expected None where it has no place")
        for x0, y0, x1, y1 in (*(self.boxes or ()), *self.evidence):
            if not (0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1):
                raise ValueError(f"the box {(x0, y0, x1, y1)} is not within the image, expected shares in [0, 1]")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Phrase:
        """From RadFact's form: {"status": "entailment", "boxes": [{"x_min": …}] or null, "evidence": [{…}]}."""
        boxes = given.get("boxes")
        evidence = [box for one in given.get("evidence") or () for box in one.get("boxes") or ()]
        return cls(
            str(given["status"]) == _ENTAILED,
            None if boxes is None else tuple(_box(box) for box in boxes),
            tuple(_box(box) for box in evidence),
        )

    def in_place(self) -> bool:
        """Spatially entailed: entailed, and more than half of its boxes' pixels lie in the boxes of its evidence."""
        return self.entailed and bool(self.boxes) and _precision(self.boxes or (), self.evidence) > LEAST_PRECISION


def _box(given: Mapping[str, float]) -> Box:
    return float(given["x_min"]), float(given["y_min"]), float(given["x_max"]), float(given["y_max"])


def _precision(boxes: Sequence[Box], evidence: Sequence[Box]) -> float:
    """Share of the boxes' pixels inside the evidence, on a grid of 224 x 224; 0 without evidence or pixels."""
    drawn = _mask(boxes)
    return float((drawn & _mask(evidence)).sum() / drawn.sum()) if evidence and drawn.any() else 0.0


def _mask(boxes: Sequence[Box]) -> NDArray[np.bool_]:
    mask = np.zeros((GRID, GRID), bool)
    for box in boxes:
        x0, y0, x1, y1 = (int(share * GRID) for share in box)
        mask[x0:x1, y0:y1] = True
    return mask


@dataclass(frozen=True)
class OneWay:
    """Shares of one report's phrases: entailed of all; spatially entailed of all with boxes; and of those entailed with
    boxes. nan where there is nothing to divide by."""

    entailed: float
    spatial: float
    grounding: float
    phrases: int
    boxed: int


def one_way(phrases: Sequence[Phrase]) -> OneWay:
    """The shares of one report."""
    entailed = sum(phrase.entailed for phrase in phrases)
    boxed = [phrase for phrase in phrases if phrase.boxes is not None]
    placed = sum(phrase.in_place() for phrase in boxed)
    return OneWay(
        _ratio(entailed, len(phrases)),
        _ratio(placed, len(boxed)),
        _ratio(placed, sum(phrase.entailed for phrase in boxed)),
        len(phrases),
        len(boxed),
    )


@dataclass(frozen=True)
class RadFact:
    """Mean over reports of precision (shares of the generated report) and recall (of the reference), F1 of the means.

    logical: entailed / all. spatial: spatially entailed / with boxes. grounding: spatially entailed / entailed with
    boxes. A report without phrases (or boxes) is left out of that mean: `reports` says how many each rests on. F1 is
    nan where precision and recall are both 0 (the original divides by 0). `per_report` (N,) of each, for resampling.
    """

    name: str
    logical_precision: float
    logical_recall: float
    logical_f1: float
    spatial_precision: float
    spatial_recall: float
    spatial_f1: float
    grounding_precision: float
    grounding_recall: float
    grounding_f1: float
    per_report: dict[str, NDArray[np.float64]]
    reports: dict[str, int]
    invalid: int
    n: int
    variant: str


def radfact(
    generated: Sequence[Sequence[Phrase] | None], reference: Sequence[Sequence[Phrase] | None], by: str
) -> RadFact:
    """The arithmetic on judged phrases. by: which model split and judged them.

    A report whose judging failed is None on either side: left out, and counted as invalid.
    Raises: ValueError if there are not as many generated reports as references.
    """
    if len(generated) != len(reference):
        raise ValueError(f"there are {len(generated)} drafts and {len(reference)} references, expected as many")
    pairs = [(g, r) for g, r in zip(generated, reference, strict=True) if g is not None and r is not None]
    ways = [(one_way(g), one_way(r)) for g, r in pairs]
    each = {
        f"{kind}_{side}": np.array([getattr(way[at], field) for way in ways], float)
        for kind, field in (("logical", "entailed"), ("spatial", "spatial"), ("grounding", "grounding"))
        for at, side in enumerate(("precision", "recall"))
    }
    means = {name: _mean(values) for name, values in each.items()}
    for kind in ("logical", "spatial", "grounding"):
        means[f"{kind}_f1"] = _f1(means[f"{kind}_precision"], means[f"{kind}_recall"])
    return RadFact(
        name=metric_name(_METRIC, by, "judgements"),
        **means,
        per_report=each,
        reports={name: int(np.isfinite(values).sum()) for name, values in each.items()},
        invalid=len(generated) - len(pairs),
        n=len(pairs),
        variant=f"mean of shares per report, F1 of means; {GRID} x {GRID} pixels, precision > {LEAST_PRECISION}",
    )


def read_judgements(path: Path) -> tuple[list[list[Phrase] | None], list[list[Phrase] | None]]:
    """Phrases of generated reports and of references from a JSON list of RadFact's per-sample results.

    Each entry has `candidate_phrases` and `reference_phrases`, and `scores` null where judging failed.
    Raises: ValueError that names the entry.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(given, list):
        raise ValueError(f"{path.name} holds a {type(given).__name__}, expected a list of per-sample results")
    sides: tuple[list[list[Phrase] | None], list[list[Phrase] | None]] = ([], [])
    for at, sample in enumerate(given):
        try:
            failed = sample.get("scores", True) is None
            for side, key in zip(sides, ("candidate_phrases", "reference_phrases"), strict=True):
                side.append(None if failed else [Phrase.of(phrase) for phrase in sample[key]])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.name}, entry {at}: {error!r}") from error
    return sides


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else math.nan
