"""The score card: every number with its interval, its n and its variant, as JSON and as a page for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.evidence import Check
from evaluation.flags import Flag
from evaluation.intervals import Interval
from evaluation.population import Population
from evaluation.predictions import FILE, StudyPrediction, data_digest, write_predictions
from evaluation.provenance import versions

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Metric:
    """One number. `name` is dotted and stable ("zero_shot.auroc.pleural effusion": the finding's canonical name last);
    `variant` says which of several definitions, `data` says on what. nan is written as null."""

    name: str
    value: float
    low: float
    high: float
    n: int
    variant: str
    data: str

    @classmethod
    def of(cls, name: str, interval: Interval, variant: str, data: str) -> Metric:
        """From an interval. Patients, and resamples in which the number was undefined, go into the variant."""
        if interval.groups:
            kinds = {
                "jackknife t, logit": "jackknife t interval",
                "exact": "exact interval",
                "t": "cluster-robust t interval",
                "bca": "BCa bootstrap",
            }
            variant += f"; 95% {kinds.get(interval.method, 'bootstrap')} over {interval.groups} patients"
        if interval.undefined:
            variant += f" ({interval.undefined} resamples undefined)"
        return cls(name, interval.value, interval.low, interval.high, interval.n, variant, data)

    def to_dict(self) -> dict[str, Any]:
        """The seven fields of the contract, JSON-ready."""
        return {
            "name": self.name,
            "value": _or_none(self.value),
            "low": _or_none(self.low),
            "high": _or_none(self.high),
            "n": self.n,
            "variant": self.variant,
            "data": self.data,
        }


@dataclass(frozen=True)
class FindingScores:
    """What the plots of one finding need: probabilities (N,) and labels (N,), 1, 0 or nan (unknown)."""

    name: str
    probabilities: ArrayLike
    labels: ArrayLike

    def known(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities and labels of the rows whose label is known."""
        probability = np.asarray(self.probabilities, dtype=np.float64)
        label = np.asarray(self.labels, dtype=np.float64)
        kept = ~np.isnan(label)
        return probability[kept], label[kept]


@dataclass(frozen=True)
class Picture:
    """A PNG for the gallery (an overlay, say), its caption, and text beside it (a draft, say). No patient identity."""

    png: bytes
    caption: str
    text: str = ""

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG):
            raise ValueError(f"picture {self.caption!r} starts with {self.png[:8]!r}, expected the bytes of a PNG file")


@dataclass(frozen=True)
class Case:
    """One study where the model went wrong: what it drafted and what the reference says, the errors named.

    `missed` and `invented` are findings; `wrong_side` those on the other side. `drafted` and `reference` are sentences
    with the finding that makes the sentence right or wrong ("" for none); `png` may be None where there is no picture.
    """

    study: str
    png: bytes | None
    missed: tuple[str, ...]
    invented: tuple[str, ...]
    wrong_side: tuple[str, ...] = ()
    drafted: tuple[tuple[str, str], ...] = ()
    reference: tuple[tuple[str, str], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class ScoreCard:
    """Everything an evaluation found. `notes` are the caveats a reader must know, one sentence each.

    `simulated` says that the data come from the phantom hospital: the page says so at the top and in every figure.
    `predictions`, one for each study, are written beside card.json, so that cards can be compared in pairs. `checks`
    lists what was looked for and `flags` what was found; `cases` are the worst studies, worst first.
    """

    title: str
    data: str
    simulated: bool
    metrics: tuple[Metric, ...]
    notes: tuple[str, ...] = ()
    made_by: Mapping[str, str] = field(default_factory=dict)
    scores: tuple[FindingScores, ...] = ()
    pictures: tuple[Picture, ...] = ()
    population: Population | None = None
    flags: tuple[Flag, ...] = ()
    checks: tuple[Check, ...] = ()
    cases: tuple[Case, ...] = ()
    predictions: tuple[StudyPrediction, ...] = ()

    def __post_init__(self) -> None:
        seen: set[tuple[str, str, str]] = set()
        for metric in self.metrics:
            key = (metric.name, metric.variant, metric.data)
            if key in seen:
                raise ValueError(f"metric {metric.name!r} is there twice with the same variant and data: {key}")
            seen.add(key)

    def get(self, name: str) -> Metric | None:
        """The first metric of that name, or None."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def to_json(self) -> str:
        """The text of card.json."""
        content = {
            "metrics": [metric.to_dict() for metric in self.metrics],
            "title": self.title,
            "data": self.data,
            "simulated": self.simulated,
            "notes": list(self.notes),
            "made_by": self.provenance(),
            "flags": [flag.to_dict() for flag in self.flags],
            "checks": [check.to_dict() for check in self.checks],
        }
        if self.population is not None:
            content["population"] = self.population.to_dict()
        return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def provenance(self) -> dict[str, str]:
        """What made the numbers: `made_by`, a digest of studies and labels, versions and a digest of the metrics."""
        data = {"data_digest": data_digest(self.predictions)} if self.predictions else {}
        return dict(self.made_by) | data | versions()

    def write(self, folder: Path | str) -> tuple[Path, Path]:
        """Write card.json and card.html (one file that needs nothing else) into a folder, made if need be.

        With predictions also predictions.jsonl.
        """
        from evaluation.page import page  # draws with matplotlib, which reading a card does not need

        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        card, html = out / "card.json", out / "card.html"
        card.write_text(self.to_json(), encoding="utf-8")
        html.write_text(page(self), encoding="utf-8")
        if self.predictions:
            write_predictions(out / FILE, self.predictions)
        return card, html


def read_metrics(path: Path | str) -> tuple[Metric, ...]:
    """Metrics of a card.json; null becomes nan. Raises: ValueError naming the file if a field is missing."""
    read = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        return tuple(
            Metric(
                str(row["name"]),
                _or_nan(row["value"]),
                _or_nan(row["low"]),
                _or_nan(row["high"]),
                int(row["n"]),
                str(row["variant"]),
                str(row["data"]),
            )
            for row in read["metrics"]
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a score card: {error!r}; expected a list `metrics` of 7 fields") from error


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
