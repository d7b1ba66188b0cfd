"""References and predictions from plain tables (CSV, TSV, JSON Lines, Parquet), paired by the ID of the study.

Nothing is guessed: an ID that one side lacks, one that stands twice, or a score that is no number is an error that
names and counts what it found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reports.report_rows import Row, open_rows

Uncertain = Literal["unknown", "positive", "negative"]
_SHOWN = 5
_LABELS = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "true": 1.0, "false": 0.0, "": math.nan, "nan": math.nan,
           "none": math.nan, "-1": -1.0, "-1.0": -1.0}  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """Which columns hold what. `text` names the report in the references and in the predictions, or is empty.

    `labels` are columns of both files: 1, 0, -1 (uncertain) or empty in the references, a score in the predictions.
    `patient` and `groups` are columns of the references; without a patient each study is taken as one of its own.
    """

    study: str = "study"
    patient: str = ""
    labels: tuple[str, ...] = ()
    text: tuple[str, str] | None = None
    groups: tuple[str, ...] = ()
    uncertain: Uncertain = "unknown"


@dataclass(frozen=True)
class Paired:
    """What both files say of the same N studies, in the order of the references.

    labels, scores (N, K): nan for an unknown label. references, generated: N texts, empty without a text column.
    left_out: how many studies only one file has, where that was allowed.
    """

    studies: tuple[str, ...]
    patients: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.float64]
    scores: NDArray[np.float64]
    references: tuple[str, ...]
    generated: tuple[str, ...]
    groups: Mapping[str, Sequence[str]]
    left_out: tuple[int, int] = (0, 0)


def read_pair(references: Path, predictions: Path, columns: Columns, shared: bool = False) -> Paired:
    """Both tables, paired. `shared` takes the studies that both have and counts the others.

    Raises: ValueError for missing columns, IDs that are empty, stand twice or are in one file only, strange labels and
    scores, and nothing to measure; each names the file and counts what it found.
    """
    if not columns.labels and columns.text is None:
        raise ValueError("nothing to measure: name a column of reports (--text) or columns of labels (--label-columns)")
    own = (columns.text[0],) if columns.text else ()
    theirs = (columns.text[1],) if columns.text else ()
    patient = (columns.patient,) if columns.patient else ()
    true = _read(references, columns.study, (*patient, *columns.labels, *columns.groups, *own))
    said = _read(predictions, columns.study, (*columns.labels, *theirs))
    studies, left_out = _shared(references, true, predictions, said, shared)
    labels = [[_label(references, s, n, true[s][n], columns.uncertain) for n in columns.labels] for s in studies]
    scores = [[_score(predictions, s, n, said[s][n]) for n in columns.labels] for s in studies]
    shape = (len(studies), len(columns.labels))
    _refuse_strange(references, studies, columns.labels, np.array(labels).reshape(shape), "label")
    _refuse_strange(predictions, studies, columns.labels, np.array(scores).reshape(shape), "score")
    return Paired(
        studies,
        tuple(_patient(references, s, true[s], columns.patient) for s in studies),
        columns.labels,
        np.array(labels, dtype=np.float64).reshape(shape),
        np.array(scores, dtype=np.float64).reshape(shape),
        tuple(true[s][columns.text[0]] for s in studies) if columns.text else (),
        tuple(said[s][columns.text[1]] for s in studies) if columns.text else (),
        {name: [true[s][name].strip() for s in studies] for name in columns.groups},
        left_out,
    )


def _read(path: Path, study: str, wanted: Sequence[str]) -> dict[str, Row]:
    """ID to row, only with the columns that are wanted."""
    rows: dict[str, Row] = {}
    twice: dict[str, int] = {}
    with open_rows(path) as (header, read):
        missing = [name for name in dict.fromkeys((study, *wanted)) if name not in header]
        if missing:
            has = ", ".join(header) or "no columns at all"
            raise ValueError(f"{path}: no column {', '.join(missing)}; the file has: {has}")
        for number, row in enumerate(read, 1):
            uid = row.get(study, "").strip()
            if not uid:
                raise ValueError(f"{path}: row {number} has no {study}; expected an ID in every row")
            if uid in rows:
                twice[uid] = twice.get(uid, 1) + 1
            rows[uid] = {name: row.get(name, "") for name in wanted}
    if twice:
        raise ValueError(
            f"{path}: {len(twice)} {study} stand more than once, such as {_some(twice)}; expected one row a study"
        )
    if not rows:
        raise ValueError(f"{path}: 0 rows, expected at least one study")
    return rows


def _shared(
    references: Path, true: Mapping[str, Row], predictions: Path, said: Mapping[str, Row], shared: bool
) -> tuple[tuple[str, ...], tuple[int, int]]:
    without = [uid for uid in true if uid not in said]
    extra = [uid for uid in said if uid not in true]
    both = tuple(uid for uid in true if uid in said)
    if (without or extra) and not (shared and both):
        told = [
            f"{len(uids)} of {total} studies of {path.name} are not in {other.name}, such as {_some(uids)}"
            for uids, total, path, other in (
                (without, len(true), references, predictions),
                (extra, len(said), predictions, references),
            )
            if uids
        ]
        hint = "add --shared to measure on the others" if both else "no study is in both: check the column of IDs"
        raise ValueError(f"{'; '.join(told)}; expected the same studies in both; {hint}")
    return both, (len(without), len(extra))


def _label(path: Path, study: str, name: str, cell: str, uncertain: Uncertain) -> float:
    value = _LABELS.get(cell.strip().lower())
    if value is None:
        raise ValueError(f"{path}: study {study}, column {name}: {cell!r}, expected 1, 0, -1 (uncertain) or nothing")
    if value == -1:
        return {"unknown": math.nan, "positive": 1.0, "negative": 0.0}[uncertain]
    return value


def _score(path: Path, study: str, name: str, cell: str) -> float:
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError:
        raise ValueError(f"{path}: study {study}, column {name}: {cell!r}, expected a number") from None


def _refuse_strange(
    path: Path, studies: Sequence[str], names: Sequence[str], table: NDArray[np.float64], what: str
) -> None:
    if what == "label":
        for k, name in enumerate(names):
            if np.isnan(table[:, k]).all():
                raise ValueError(f"{path}: column {name} has no label in any of {len(studies)} studies")
        return
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        row, k = bad[0]
        raise ValueError(
            f"{path}: {len(bad)} of {table.size} scores are no finite number, the first of study {studies[row]},"
            f" column {names[k]}; expected a score for every study and label"
        )


def _patient(path: Path, study: str, row: Row, column: str) -> str:
    if not column:
        return study
    patient = row[column].strip()
    if not patient:
        raise ValueError(f"{path}: study {study} has no {column}; expected a patient for every study")
    return patient


def _some(uids: Sequence[str] | Mapping[str, int]) -> str:
    shown = list(uids)[:_SHOWN]
    return ", ".join(shown) + (", …" if len(uids) > _SHOWN else "")
