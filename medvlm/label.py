"""`medvlm label` and `medvlm label-fit`: labels for a table of reports, by rules or by a head on top of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from reports.label_table import Row, label_reports
from reports.labels import join_columns, scheme_names
from reports.lexicon import Lexicon
from reports.lexicon import lexicon as read_lexicon
from reports.report_rows import open_rows

if TYPE_CHECKING:
    from evaluation.label_agreement import Agreement
    from reports.learned_labels import LabelHead

_YES = {"1", "1.0", "true", "yes", "y"}


def command(
    reports: Path,
    columns: Sequence[str],
    scheme: str,
    out: Path,
    *,
    lexicon: Path | None = None,
    head: Path | None = None,
    parents: bool = False,
) -> None:
    """Label a table, print how many reports have each finding. Raises: ValueError for a head of another scheme."""
    book = None if lexicon is None else read_lexicon(extra=lexicon)
    learned = None if head is None else _head(head, scheme)
    summary = label_reports(
        reports,
        columns,
        scheme,
        out,
        lexicon=book,
        parents=parents,
        labeller=None if learned is None else lambda text: learned.label(text, book),
        progress=_bar,
    )
    too_long = f", {summary.too_long} too long to read" if summary.too_long else ""
    print(f"{out}: {summary.rows} reports, {summary.empty} of them without text{too_long}")
    for name, present in sorted(summary.present.items(), key=lambda item: -item[1]):
        print(f"  {present:6d} present  {name}")


def _head(path: Path, scheme: str) -> LabelHead:
    from reports.learned_labels import load_head

    head = load_head(path)
    if head.scheme != scheme:
        raise ValueError(f"{path}: learned for scheme {head.scheme}, asked for {scheme}; add --scheme {head.scheme}")
    return head


def _bar(rows: Iterator[Row]) -> Iterator[Row]:
    return iter(tqdm(rows, desc="label", unit="report", mininterval=1, disable=None))


def fit_command(
    reports: Path,
    columns: Sequence[str],
    scheme: str,
    out: Path,
    *,
    gold: str = "",
    patient: str = "",
    lexicon: Path | None = None,
) -> None:
    """Fit a head on a labelled table, write it, and print rules and head (cross-validated) side by side.

    Raises: ValueError for a missing column, a strange ending of `out` and too few reports.
    """
    import numpy as np

    from evaluation.label_agreement import label_agreement
    from reports.learned_labels import cross_validated, fit_head, read_report

    if out.suffix != ".safetensors":
        raise ValueError(f'{out}: expected the name of a head to end in .safetensors, found "{out.suffix}"')
    book = None if lexicon is None else read_lexicon(extra=lexicon)
    texts, said, groups, all_names = _labelled(reports, columns, scheme, gold, patient, book)
    truth = np.array(said, dtype=bool).reshape(len(texts), len(all_names))
    kept = np.flatnonzero(truth.any(axis=0)).tolist()
    names, truth = [all_names[at] for at in kept], truth[:, kept]
    for name in sorted({*all_names} - {*names}):
        print(f"{name}: no report has it, so nothing is learnt or compared")
    read = [read_report(text, scheme, book) for text in _progress(texts)]
    rules = np.array([[report.labels[name] == 1 for name in names] for report in read], dtype=bool)
    learned = cross_validated(read, truth, names, scheme, groups)
    fit_head(read, truth, names, scheme).save(out)
    scores = [label_agreement(table, truth, names, groups) for table in (rules, learned)]
    unit = f"{len(set(groups))} patients" if patient else "no patient is named, so folds are of reports"
    print(f"{out}: {len(texts)} reports, {unit}, 5 folds; F1 with 95% intervals")
    _print_beside(names, *scores)


def _progress(texts: list[str]) -> Iterator[str]:
    return iter(tqdm(texts, desc="read reports", unit="report", mininterval=1, disable=None))


def _labelled(
    reports: Path, columns: Sequence[str], scheme: str, gold: str, patient: str, book: Lexicon | None
) -> tuple[list[str], list[list[bool]], list[str], list[str]]:
    """(texts, gold per report, group per report, names of labels that the table has)."""
    with open_rows(reports) as (header, rows):
        names = [name for name in scheme_names(scheme, book) if f"{gold}{name}" in header]
        missing = [column for column in (*columns, *([patient] if patient else [])) if column not in header]
        if missing or not names:
            wanted = ", ".join(missing) or f"{gold} + a label of {scheme}"
            raise ValueError(f"{reports}: no column {wanted}; the file has: {', '.join(header)}")
        texts: list[str] = []
        said: list[list[bool]] = []
        groups: list[str] = []
        for number, row in enumerate(rows):
            text = join_columns(row, columns)
            cells = [row.get(f"{gold}{name}", "").strip().lower() for name in names]
            if text and any(cells):
                texts.append(text)
                said.append([cell in _YES for cell in cells])
                groups.append(row.get(patient, "") or f"row {number}" if patient else f"row {number}")
    if not texts:
        raise ValueError(f"{reports}: no row has text in {', '.join(columns)} and labels")
    return texts, said, groups, names


def _print_beside(names: Sequence[str], rules: Agreement, head: Agreement) -> None:
    width = max(map(len, (*names, "micro F1")))
    print(f"{'':{width}}  {'rules':^22}  {'head':^22}  reports with it", file=sys.stdout)
    for name in names:
        one, other = rules.labels[name], head.labels[name]
        print(f"{name:{width}}  {_said(one.f1)}  {_said(other.f1)}  {one.hit + one.missed:6d}")
    print(f"{'micro F1':{width}}  {_said(rules.micro)}  {_said(head.micro)}")
    print(f"{'macro F1':{width}}  {_said(rules.macro)}  {_said(head.macro)}")


def _said(interval: object) -> str:
    value, low, high = (getattr(interval, name) for name in ("value", "low", "high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})" if value == value else f"{'none':^22}"
