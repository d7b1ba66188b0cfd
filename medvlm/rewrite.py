"""`medvlm rewrite`: a table of reports in other words, each checked by its facts; and the same for training."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from tqdm import tqdm

from reports.cleaned import cleaned
from reports.labels import join_columns
from reports.minimal_sentences import minimal_sentences
from reports.negatives import negatives
from reports.paraphrase import paraphrase
from reports.prior_free import prior_free
from reports.report_rows import open_rows
from reports.rewriting import Refused, Rewritten, describe

How = Literal["prior-free", "cleaned", "minimal", "paraphrased", "negatives"]
TRAINING = ("prior-free", "cleaned")
_FIELDS = ("row", "kind", "text", "changed", "dropped", "reason")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def command(reports: Path, columns: tuple[str, ...], how: str, out: Path, *, seed: int = 0) -> None:
    """Rewrite a table, print how many reports were rewritten, and why the others were not.

    Raises: ValueError for an unknown way, a missing column, a strange ending of `out`, a damaged table.
    """
    if how not in get_args(How):
        raise ValueError(f'cannot rewrite as "{how}"; expected one of {", ".join(get_args(How))}')
    if out.suffix not in (".csv", ".jsonl"):
        raise ValueError(f'{out}: expected the name to end in .csv or .jsonl, found "{out.suffix}"')
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    part = out.with_name(f".{out.name}.part")
    try:
        with open_rows(reports) as (header, rows), part.open("w", encoding="utf-8", newline="") as sink:
            missing = [column for column in columns if column not in header]
            if missing or not columns:
                raise ValueError(f"{reports}: no column {', '.join(missing)}; the file has: {', '.join(header)}")
            put = _writer(sink, out.suffix)
            for number, row in enumerate(tqdm(rows, desc="rewrite", unit="report", mininterval=1, disable=None)):
                for line in _lines(number, join_columns(row, columns), how, seed):
                    counts["refused" if line["reason"] else "rewritten"] += 1
                    reasons.update([line.pop("why")] if line["reason"] else [])
                    put({field: line[field] for field in _FIELDS})
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    print(f"{out}: {counts['rewritten']} rewritten, {counts['refused']} refused")
    for reason, number in reasons.most_common():
        print(f"  {number:6d} refused  {reason}")


def rewriter(how: str, seed: int = 0) -> Callable[[str], Rewritten | Refused]:
    """The function that rewrites one text as `how` says; every way but negatives."""
    ways: dict[str, Callable[[str], Rewritten | Refused]] = {
        "prior-free": prior_free,
        "cleaned": cleaned,
        "minimal": minimal_sentences,
        "paraphrased": lambda text: paraphrase(text, np.random.default_rng(seed)),
    }
    return ways[how]


def training_text(text: str, how: str | None) -> str | None:
    """The text that a model learns from; None when it cannot be rewritten without a change of facts.

    Raises: ValueError unless `how` is None, prior-free or cleaned.
    """
    if how is None:
        return text
    if how not in TRAINING:
        raise ValueError(f'data.rewrite is "{how}"; expected one of {", ".join(TRAINING)}, or null')
    made = rewriter(how)(text)
    return made.text if isinstance(made, Rewritten) else None


def _lines(number: int, text: str, how: str, seed: int) -> Iterator[dict[str, Any]]:
    """One line per rewrite of a report: one, or one for each kind of negative."""
    if how == "negatives":
        made = negatives(text, np.random.default_rng((seed, number)))
    else:
        made = {how: rewriter(how, seed + number)(text)}
    for kind, one in made.items():
        line: dict[str, Any] = dict.fromkeys(_FIELDS, "") | {"row": number, "kind": kind}
        if isinstance(one, Refused):
            yield line | {"reason": one.reason, "why": one.kind, "dropped": len(one.dropped)}
        else:
            yield line | {"text": one.text, "changed": describe(one.changed), "dropped": len(one.dropped)}


def _writer(sink: Any, suffix: str) -> Callable[[dict[str, Any]], None]:
    if suffix == ".jsonl":
        return lambda line: print(json.dumps(line, ensure_ascii=False), file=sink)
    table = csv.DictWriter(sink, _FIELDS)
    table.writeheader()
    return lambda line: table.writerow({key: _harmless(value) for key, value in line.items()})


def _harmless(cell: Any) -> Any:
    """A cell that no spreadsheet runs as a formula: an apostrophe before it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
