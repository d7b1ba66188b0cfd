"""predictions.jsonl: what was predicted for each study, beside a score card, so that two models can be paired later.

One JSON object a line. Studies carry their UID only; patients are numbered within the file, in order of appearance.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "predictions.jsonl"
Sides = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class StudyPrediction:
    """One study.

    labels: finding to 1, 0 or nan (unknown). scores: to any number that ranks; probabilities: in [0, 1]; called:
    whether the finding was called present at its validation threshold. reference, drafted: present findings of the
    reference and of the draft, each with its sides; None where there is no draft. values: what was measured on this
    study alone and is averaged over studies, by name of metric. groups: attribute to value.
    """

    study: str
    patient: int
    labels: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    probabilities: Mapping[str, float] = field(default_factory=dict)
    called: Mapping[str, bool] = field(default_factory=dict)
    reference: Sides | None = None
    drafted: Sides | None = None
    draft: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line without its end; nan is written as null, what is empty is left out."""
        row: dict[str, Any] = {"study": self.study, "patient": self.patient}
        for key in ("labels", "scores", "probabilities", "values"):
            numbers = {name: _or_none(value) for name, value in getattr(self, key).items()}
            row |= {key: numbers} if numbers else {}
        row |= {"called": {name: bool(value) for name, value in self.called.items()}} if self.called else {}
        for key in ("reference", "drafted"):
            sides = getattr(self, key)
            row |= {} if sides is None else {key: {name: sorted(found) for name, found in sides.items()}}
        row |= {} if self.draft is None else {"draft": self.draft}
        row |= {"groups": dict(self.groups)} if self.groups else {}
        return json.dumps(row, ensure_ascii=False, allow_nan=False)


def numbered(patients: Sequence[Hashable]) -> list[int]:
    """Patients as numbers from 0 in order of appearance: the same clusters, and nobody's key."""
    seen: dict[Hashable, int] = {}
    return [seen.setdefault(patient, len(seen)) for patient in patients]


def write_predictions(path: Path, rows: Sequence[StudyPrediction]) -> None:
    """Write them, one line each."""
    path.write_text("".join(f"{row.to_json()}\n" for row in rows), encoding="utf-8")


def read_predictions(path: Path | str) -> list[StudyPrediction]:
    """Read the file, or the one in a score card's folder.

    Raises: ValueError that names the file and the line for what is no such row, an empty file, or a study twice.
    """
    path = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: not there; expected the {FILE} that `medvlm evaluate` writes beside card.json")
    rows: list[StudyPrediction] = []
    seen: dict[str, int] = {}
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            row = _row(path, number, line)
            if row.study in seen:
                raise ValueError(f"{path}: study {row.study} is in lines {seen[row.study]} and {number}; expected once")
            seen[row.study] = number
            rows.append(row)
    if not rows:
        raise ValueError(f"{path}: 0 studies, expected at least one line")
    return rows


def _row(path: Path, number: int, line: str) -> StudyPrediction:
    try:
        held = json.loads(line)
        return StudyPrediction(
            study=str(held["study"]),
            patient=int(held["patient"]),
            labels=_numbers(held.get("labels")),
            scores=_numbers(held.get("scores")),
            probabilities=_numbers(held.get("probabilities")),
            called={str(name): bool(value) for name, value in (held.get("called") or {}).items()},
            reference=held.get("reference"),
            drafted=held.get("drafted"),
            draft=held.get("draft"),
            values=_numbers(held.get("values")),
            groups=held.get("groups") or {},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: line {number} is no row of predictions: {error!r}") from error


def table(rows: Sequence[StudyPrediction], what: str, names: Sequence[str]) -> NDArray[np.float64]:
    """ "labels", "scores", "probabilities", "called" or "values" as (N, K), nan where a study has none."""
    return np.array([[float(getattr(row, what).get(name, math.nan)) for name in names] for row in rows], np.float64)


def names_of(rows: Sequence[StudyPrediction], what: str) -> tuple[str, ...]:
    """Every name that occurs in that part of a row, in order of appearance."""
    return tuple(dict.fromkeys(name for row in rows for name in getattr(row, what)))


def data_digest(rows: Sequence[StudyPrediction]) -> str:
    """sha256 (16 hex digits) of study UIDs, labels and references: equal where two cards measured on the same."""
    told = [
        [row.study, sorted((k, _or_none(v)) for k, v in row.labels.items()),
         sorted((k, sorted(v)) for k, v in (row.reference or {}).items())]
        for row in sorted(rows, key=lambda row: row.study)
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _numbers(held: Mapping[str, Any] | None) -> dict[str, float]:
    return {str(name): math.nan if value is None else float(value) for name, value in (held or {}).items()}


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
