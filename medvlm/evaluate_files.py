"""`medvlm evaluate --references … --predictions …`: a score card from plain tables, without any model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluation.plain_card import score_files
from evaluation.plain_files import Columns, Uncertain
from evaluation.scorecard import ScoreCard

_SHOWN = ("classification.auroc.macro", "classification.ece", "classification.f1.micro", "draft.", "text.")


def command(
    references: Path, predictions: Path, columns: Columns, out: Path, shared: bool, sentences: bool, json: bool
) -> None:
    """Write the score card and print its numbers. Raises: ValueError as evaluation.plain_files.read_pair."""
    card = score_files(references, predictions, columns, shared, _bar, sentences)
    card.write(out)
    if json:
        print(card.to_json(), end="")
        return
    print(summary(card))
    print(f"score card: {out / 'card.html'}")


def columns_of(
    study: str,
    patient: str,
    labels: Sequence[str] | None,
    text: Sequence[str] | None,
    groups: Sequence[str] | None,
    uncertain: Uncertain,
) -> Columns:
    """From the options of the command. Raises: ValueError for more than two columns of text."""
    named = tuple(text or ())
    if len(named) > 2:
        raise ValueError(
            f"--text names {len(named)} columns, expected one, or two: in the references, in the predictions"
        )
    return Columns(
        study, patient, tuple(labels or ()), (named[0], named[-1]) if named else None, tuple(groups or ()), uncertain
    )


def summary(card: ScoreCard) -> str:
    """What was measured on, and its numbers, one line each."""
    lines = [card.data]
    for metric in card.metrics:
        if metric.name.startswith(_SHOWN) and metric.value == metric.value:
            lines.append(
                f"  {metric.name:40s} {metric.value:8.3f}  ({metric.low:.3f} to {metric.high:.3f}, n={metric.n})"
            )
    lines += [f"  {flag.severity}: {flag.found}" for flag in card.flags]
    return "\n".join(lines)


def _bar(texts: Iterable[str], what: str) -> Iterable[str]:
    from tqdm import tqdm

    return iter(tqdm(texts, desc=what, unit="report", mininterval=1, disable=None, file=sys.stderr))
