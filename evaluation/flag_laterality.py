"""Flags on sides: left must stay left, from the detector to the sentence."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evaluation.flags import Flag
from evaluation.influence import rate_estimate
from evaluation.labelled import numbered_patients
from evaluation.score_table import ENOUGH

ALPHA = 0.01
KNOWS = 0.75
"""Share of right sides below which a model does not know sides well enough to name one."""
SIDES = ("left", "right")


@dataclass(frozen=True)
class SideAnswers:
    """Sides of findings that are truly on one side: said and true (M,), "left" or "right"; other words are left out.

    One row is one finding of one study; patients (M,) are their keys.
    """

    said: Sequence[str]
    true: Sequence[str]
    patients: Sequence[Hashable]


@dataclass(frozen=True)
class MirrorScores:
    """Scores of "on the left" and "on the right" (M,) on each image and on its mirror image, of one-sided findings."""

    left: ArrayLike
    right: ArrayLike
    mirrored_left: ArrayLike
    mirrored_right: ArrayLike
    patients: Sequence[Hashable]


def side_flags(answers: SideAnswers) -> list[Flag]:
    """laterality.flipped: sides are wrong more often than by guessing. laterality.guessed: below three in four."""
    rows = zip(answers.said, answers.true, answers.patients, strict=True)
    kept = [(said == true, patient) for said, true, patient in rows if said in SIDES and true in SIDES]
    if len({patient for _, patient in kept}) < ENOUGH:
        return []
    right = [float(hit) for hit, _ in kept]
    who = numbered_patients([patient for _, patient in kept], len(kept))
    found = rate_estimate(right, who, int(who.max()) + 1)
    low, high = found.bounds()
    numbers = {"n": found.n, "right": found.value, "low": low, "high": high}
    said = f"{found.value:.0%} of sides are right ({low:.0%} to {high:.0%}, n={found.n} findings)"
    if found.p_below(0.5) < ALPHA:
        return [
            Flag(
                "laterality.flipped",
                "serious",
                f"Left and right are exchanged: {said}.",
                "A treatment on the wrong side is the worst that a report can cause.",
                "Look for a mirrored image or exchanged words between the files and the model; use no side until then.",
                numbers,
            )
        ]
    if found.p_below(KNOWS) < ALPHA:
        return [
            Flag(
                "laterality.guessed",
                "serious",
                f"Sides are hardly better than a guess: {said}.",
                "A side that is named is believed, and half of these are wrong.",
                "Let the model name no side, or show it both sides in training.",
                numbers,
            )
        ]
    return []


def mirror_flags(scores: MirrorScores) -> list[Flag]:
    """laterality.mirror_ignored: the preferred side stays when the image is mirrored. Ties count as staying."""
    first = np.asarray(scores.left, dtype=np.float64) - np.asarray(scores.right, dtype=np.float64)
    second = np.asarray(scores.mirrored_left, dtype=np.float64) - np.asarray(scores.mirrored_right, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or len(scores.patients) != first.size:
        raise ValueError(
            f"scores {first.shape}, mirrored scores {second.shape} and {len(scores.patients)} patients must be equally"
            " many, one a finding"
        )
    if not np.isfinite(np.concatenate([first, second])).all():
        raise ValueError("scores of sides hold nan or infinity, expected numbers")
    if len(set(scores.patients)) < ENOUGH:
        return []
    who = numbered_patients(scores.patients, first.size)
    follows = rate_estimate((first * second < 0).astype(float), who, int(who.max()) + 1)
    if follows.p_below(KNOWS) >= ALPHA:
        return []
    low, high = follows.bounds()
    return [
        Flag(
            "laterality.mirror_ignored",
            "serious",
            f"When the image is mirrored, the side follows in {follows.value:.0%} ({low:.0%} to {high:.0%}) of"
            f" {follows.n} findings.",
            "A side that does not turn with the image was not read from it.",
            "Let the model name no side; look for mirrored images in training.",
            {"n": follows.n, "follows": follows.value, "low": low, "high": high},
        )
    ]
