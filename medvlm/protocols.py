"""Protocols on this platform's models: edited phantom patients, and the studies of a catalog under other questions."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.special import logit

from evaluation.protocols import (
    Contender,
    Outcome,
    Studies,
    before_after,
    blind,
    head_to_head,
    look_alike,
    moved_sides,
    paired_images,
    prompt_wording,
    text_bias,
)
from medvlm.diagnose import finding_odds
from medvlm.encoders import ImageTokens
from medvlm.model import Model, load_model
from medvlm.phantom_edits import edits_of, moves_of
from medvlm.testset import TestSet, load_test_set, other_patient, tokens_of
from reports.grammar import prompts

EACH = 12
"""Edits of each finding."""
WORDINGS = 3
PHANTOM = "edited patients of the phantom hospital (simulated)"
KNOWN, RESOLVED = "History of {name}.", "{name} has resolved."
"""What stands before both sentences of a pair: that the finding is known, or that it is gone."""


def on_edits(model: Model, each: int = EACH, seed: int = 3001) -> list[Outcome]:
    """before_after, paired_images and moved_sides on `each` edits of every finding that phantom and model share.

    The seed is one that no demo or training hospital has. Raises: ValueError if they share no finding.
    """
    names = list(model.concepts)
    edits = edits_of(model, names, each, seed)
    before, after = np.asarray(edits.before), np.asarray(edits.after)
    at = odds_thresholds(model, names)
    column, inserted, rows = np.array(edits.edited), np.array(edits.inserted), np.arange(len(before))
    first, second = (scores[rows, column] - at[column] for scores in (before, after))
    with_finding, without = np.where(inserted, second, first), np.where(inserted, first, second)
    outcomes = [before_after(edits, PHANTOM, at), paired_images(with_finding, without, edits.patients, PHANTOM)]
    moves = moves_of(model, names, each, seed)
    if moves is not None:
        outcomes.append(moved_sides(moves.before, moves.after, moves.from_left, moves.patients, PHANTOM))
    return outcomes


def on_studies(model: Model, test: TestSet) -> list[Outcome]:
    """blind, prompt_wording, text_bias and look_alike; one that the studies are too few for is left out."""
    tokens = tokens_of(model, test.images, test.examples, "look")
    odds = finding_odds(model, tokens, test.names)
    at = odds_thresholds(model, test.names)
    names, labels, patients, data = test.names, test.labels, test.patients, test.data
    empty = np.zeros((1, *test.images.shape[1:]), dtype=np.float32)
    blank = finding_odds(model, tokens_of(model, empty, test.examples[:1], "blank"), names)
    controls = {"swapped": odds[other_patient(patients)], "blank": np.repeat(blank, len(odds), 0)}
    worded = np.stack([wording_odds(model, tokens, names, number) for number in range(WORDINGS)])
    neutral = wording_odds(model, tokens, names, 0)
    known, gone = (wording_odds(model, tokens, names, 0, before) for before in (KNOWN, RESOLVED))
    asked = (
        lambda: blind(names, odds, controls, labels, patients, data),
        lambda: prompt_wording(names, worded, labels, patients, data, at),
        lambda: text_bias(names, neutral, np.where(labels == 1, gone, known), labels, patients, data, at),
        lambda: look_alike(names, odds, labels, patients, data, at),
    )
    outcomes = []
    for ask in asked:
        try:
            outcomes.append(ask())
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr)
    return outcomes


def wording_odds(model: Model, tokens: ImageTokens, names: Sequence[str], number: int, before: str = "") -> np.ndarray:
    """Log-odds (n, K) by one prompt pair only, its `number`th wording, with a sentence before both if given."""
    columns = []
    for name in names:
        pair = prompts(name)
        said, denied = (texts[number % len(texts)] for texts in (pair.positive, pair.negative))
        context = before.format(name=name).capitalize() + " " if before else ""
        odds = model.odds(tokens, [context + said, context + denied])
        columns.append((odds[:, 0] - odds[:, 1]) / 2)
    return torch.stack(columns, 1).double().numpy()


def odds_thresholds(model: Model, names: Sequence[str]) -> np.ndarray:
    """The model's thresholds (K,) as log-odds before calibration, so that uncalibrated scores can be called."""
    at = np.array([float(logit(np.clip(model.thresholds.get(name, 0.5), 1e-6, 1 - 1e-6))) for name in names])
    if model.calibration is not None:
        for k, name in enumerate(names):
            scale = model.calibration.scales.get(name)
            if scale is not None and name not in model.calibration.unfitted:
                at[k] = (at[k] - scale.intercept) / scale.slope
    return at


def contender(model: Model, name: str, splits: Mapping[str, TestSet], names: Sequence[str]) -> Contender:
    """A model under its settings: all prompt pairs with sides (the default), and each single wording."""
    scores: dict[str, dict[str, np.ndarray]] = {}
    for split, test in splits.items():
        tokens = tokens_of(model, test.images, test.examples, f"look ({name}, {split})")
        scores[split] = {"all prompts": finding_odds(model, tokens, names)}
        for number in range(WORDINGS):
            scores[split][f"wording {number + 1}"] = wording_odds(model, tokens, names, number)
    return Contender(name, scores["validation"], scores["test"])


def contest(first: Model, second: Model, catalog: Path, truth: Path | None = None) -> Outcome:
    """head_to_head on a catalog: settings are chosen on its validation split, the test split decides.

    Raises: ValueError if the models share no finding, or read different studies of the catalog.
    """
    tests = {
        number: {split: load_test_set(model, catalog, split, truth) for split in ("validation", "test")}
        for number, model in enumerate((first, second))
    }
    names = [name for name in tests[0]["test"].names if name in tests[1]["test"].names]
    if not names:
        raise ValueError(f"{first.folder.name} and {second.folder.name} share no finding: there is nothing to compare")
    for split in ("validation", "test"):
        read = [[example.study_uid for example in tests[number][split].examples] for number in (0, 1)]
        if read[0] != read[1]:
            raise ValueError(
                f"the {split} split gives {len(read[0])} studies to {first.folder.name} and {len(read[1])} to"
                f" {second.folder.name}, expected the same ones: both must accept the same images"
            )
    studies = {
        split: Studies(test.labels[:, [test.names.index(name) for name in names]], test.patients)
        for split, test in tests[0].items()
    }
    labels = [first.folder.name, second.folder.name]
    if labels[0] == labels[1]:
        labels = [f"{labels[0]} (first)", f"{labels[1]} (second)"]
    sides = [
        contender(model, label, tests[n], names)
        for n, (model, label) in enumerate(zip((first, second), labels, strict=True))
    ]
    return head_to_head(names, sides[0], sides[1], studies["validation"], studies["test"], tests[0]["test"].data)


def command(
    model: Path,
    catalog: Path | None = None,
    split: str = "test",
    truth: Path | None = None,
    against: Path | None = None,
    each: int = EACH,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """`medvlm protocols`: run every protocol that the call allows, print the outcomes, and write them if asked."""
    from medvlm.evaluate import refuse_training_studies

    loaded = load_model(model)
    if against is not None and catalog is None:
        raise ValueError("--against compares on the studies of a catalog: give --catalog")
    outcomes = on_edits(loaded, each) if each else []
    if catalog is not None:
        refuse_training_studies(loaded, catalog, split)
        outcomes += on_studies(loaded, load_test_set(loaded, catalog, split, truth))
    if catalog is not None and against is not None:
        outcomes.append(contest(loaded, load_model(against), catalog, truth))
    text = json_module.dumps([outcome.to_dict() for outcome in outcomes], indent=1, ensure_ascii=False) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    print(text if json else "\n".join(outcome.text() for outcome in outcomes), end="" if json else "\n")
