"""Codes of the health record for studies: a table beside the catalog, for objectives that predict them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from medvlm.data import Example

COLUMNS = ("study_uid", "code")


def common_codes(path: Path, examples: Sequence[Example], least: int) -> list[str]:
    """Codes that at least `least` of the studies have, sorted. Raises ValueError where there is none."""
    table = _table(path)
    counts = Counter(code for example in examples for code in table.get(example.study_uid, ()))
    found = sorted(code for code, count in counts.items() if count >= least)
    if not found:
        raise ValueError(
            f"{path.name}: no code belongs to {least} or more of the {len(examples)} studies to learn from"
            f" ({len(counts)} codes do to any). Give a table of these studies, or lower data.least"
        )
    return found


def read_codes(path: Path, examples: Sequence[Example], codes: Sequence[str]) -> Tensor:
    """Codes by study. Shapes: (n, C), 1 or 0; NaN for a study that the table does not name."""
    table = _table(path)
    rows = [
        [float(code in held) for code in codes]
        if (held := table.get(e.study_uid)) is not None
        else [torch.nan] * len(codes)
        for e in examples
    ]
    return torch.tensor(rows)


def _table(path: Path) -> dict[str, set[str]]:
    """Study UID to codes, from a CSV file with one row for each code; an empty code says that the study has none."""
    if not path.is_file():
        raise ValueError(f"{path}: not there. data.codes takes a CSV file with the columns {', '.join(COLUMNS)}")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise ValueError(
                f"{path.name}: has the columns {', '.join(reader.fieldnames or ())}; expected {', '.join(COLUMNS)}"
            )
        table: dict[str, set[str]] = {}
        for row in reader:
            held = table.setdefault(str(row["study_uid"]).strip(), set())
            if code := str(row["code"] or "").strip():
                held.add(code)
    return table
