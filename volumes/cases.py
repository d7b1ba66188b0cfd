"""Which findings a simulated patient has, and how they change between visits.

Patients come with a story (heart failure, trauma, intensive care, ...), because findings come in company: an effusion
with a large heart, a tube with a line, a pneumothorax with a broken rib. About 28 % are normal; every finding is
present in roughly 10 to 20 % of the visits, and about one lesion in ten is barely visible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from volumes.lesions import RATIOS, RIBS, SEVERITIES, SIZES_MM, Lesion, Severity, Side
from volumes.streams import stream

Rng = np.random.Generator
NORMAL = 0.28
_SEVERITY_ODDS = (0.10, 0.22, 0.38, 0.30)


def draw_lesion(
    rng: Rng, name: str, side: Side | None = None, location: str | None = None, severity: Severity | None = None
) -> Lesion:
    """One lesion of a given name; what is not given is drawn."""
    severity = severity or SEVERITIES[int(rng.choice(4, p=_SEVERITY_ODDS))]
    rank = SEVERITIES.index(severity)
    seed = int(rng.integers(1 << 40))
    if name in ("cardiomegaly", "endotracheal tube"):
        side = None
    elif name in ("pulmonary edema", "emphysema"):
        side = "bilateral"
    elif side is None:
        side = "right" if rng.random() < 0.5 else "left"
        if name == "pleural effusion" and rng.random() < 0.2:
            side = "bilateral"
    location = location or _draw_location(rng, name, side)
    low, high = SIZES_MM[name][rank]
    ratio = float(rng.uniform(*RATIOS[rank])) if name == "cardiomegaly" else None
    size = 150.0 if ratio is not None else round(float(rng.uniform(low, high)), 1)
    if name in ("endotracheal tube", "central venous catheter"):
        severity = "tiny" if rank == 0 else "moderate"  # for a device: how well it is seen
    return Lesion(name, side, location, severity, size, seed, ratio)


def _draw_location(rng: Rng, name: str, side: Side | None) -> str | None:
    if name in ("cardiomegaly", "pulmonary edema", "emphysema", "endotracheal tube", "central venous catheter"):
        return None
    if name == "rib fracture":
        return f"{RIBS[int(rng.integers(3, 9))]} rib"
    if name == "pleural effusion":
        return "base"
    if name == "pneumothorax":
        return "apex"
    if name == "atelectasis":
        return str(rng.choice(["base", "base", "lower lobe", "upper lobe"]))
    lobes = ["upper lobe", "lower lobe", *(["middle lobe"] if side == "right" else [])]
    if name == "lung mass":
        lobes.append("hilum")
    return str(rng.choice(lobes))


def _maybe(rng: Rng, chances: Sequence[tuple[str, float]]) -> list[Lesion]:
    return [draw_lesion(rng, name) for name, chance in chances if rng.random() < chance]


def _heart_failure(rng: Rng) -> list[Lesion]:
    lesions = _maybe(rng, (("cardiomegaly", 0.85), ("pulmonary edema", 0.7), ("atelectasis", 0.15)))
    if rng.random() < 0.65:
        lesions.append(draw_lesion(rng, "pleural effusion", "bilateral" if rng.random() < 0.5 else None))
    return lesions


def _trauma(rng: Rng) -> list[Lesion]:
    side: Side = "right" if rng.random() < 0.5 else "left"
    first = int(rng.integers(3, 8))
    lesions = [
        draw_lesion(rng, "rib fracture", side, f"{RIBS[first + k]} rib") for k in range(1 + int(rng.random() < 0.35))
    ]
    if rng.random() < 0.45:
        lesions.append(draw_lesion(rng, "pneumothorax", side))
    if rng.random() < 0.25:
        lesions.append(draw_lesion(rng, "pleural effusion", side))
    return lesions + _maybe(rng, (("endotracheal tube", 0.1),))


def _intensive_care(rng: Rng) -> list[Lesion]:
    return _maybe(
        rng,
        (
            ("endotracheal tube", 0.75),
            ("central venous catheter", 0.75),
            ("consolidation", 0.3),
            ("pulmonary edema", 0.35),
            ("pleural effusion", 0.3),
            ("atelectasis", 0.35),
            ("pneumothorax", 0.12),
            ("cardiomegaly", 0.2),
        ),
    )


def _infection(rng: Rng) -> list[Lesion]:
    lesions = [draw_lesion(rng, "consolidation") for _ in range(1 + int(rng.random() < 0.3))]
    if rng.random() < 0.3:
        lesions.append(draw_lesion(rng, "pleural effusion", lesions[0].side))
    return lesions + _maybe(rng, (("atelectasis", 0.12), ("central venous catheter", 0.1)))


def _tumor(rng: Rng) -> list[Lesion]:
    lesions = _maybe(rng, (("lung mass", 0.65), ("lung nodule", 0.6), ("emphysema", 0.2), ("pleural effusion", 0.15)))
    if rng.random() < 0.3:
        lesions.append(draw_lesion(rng, "lung nodule"))
    return lesions + _maybe(rng, (("atelectasis", 0.15), ("central venous catheter", 0.2)))


def _smoker(rng: Rng) -> list[Lesion]:
    return _maybe(rng, (("emphysema", 0.95), ("lung nodule", 0.2), ("pneumothorax", 0.15), ("consolidation", 0.12)))


_ALONE = (
    "pneumothorax",
    "lung nodule",
    "rib fracture",
    "atelectasis",
    "consolidation",
    "lung mass",
    "central venous catheter",
    "cardiomegaly",
    "emphysema",
    "pleural effusion",
    "endotracheal tube",
    "pulmonary edema",
)
_ALONE_ODDS = (0.16, 0.13, 0.13, 0.13, 0.08, 0.08, 0.07, 0.07, 0.05, 0.04, 0.03, 0.03)


def _alone(rng: Rng) -> list[Lesion]:
    names = rng.choice(_ALONE, size=1 + int(rng.random() < 0.4), replace=False, p=_ALONE_ODDS)
    return [draw_lesion(rng, str(name)) for name in names]


_STORIES: tuple[tuple[Callable[[Rng], list[Lesion]], float], ...] = (
    (_heart_failure, 0.16),
    (_trauma, 0.12),
    (_intensive_care, 0.18),
    (_infection, 0.10),
    (_tumor, 0.13),
    (_smoker, 0.12),
    (_alone, 0.19),
)


def draw_lesions(rng: Rng) -> tuple[Lesion, ...]:
    """The lesions of one visit: empty for a normal chest."""
    if rng.random() < NORMAL:
        return ()
    story = _STORIES[int(rng.choice(len(_STORIES), p=[odds for _, odds in _STORIES]))][0]
    return settle(story(rng))


def settle(lesions: Sequence[Lesion]) -> tuple[Lesion, ...]:
    """Drops what cannot coexist: a second effusion or pneumothorax on one side, a second fracture of one rib."""
    kept: list[Lesion] = []
    for lesion in lesions:
        several = lesion.name in ("lung nodule", "consolidation", "rib fracture")
        rivals = [other for other in kept if other.name == lesion.name]
        if rivals and not several:
            continue
        if any((o.side, o.location) == (lesion.side, lesion.location) for o in rivals):
            continue
        kept.append(lesion)
    return tuple(kept)


def earlier(lesions: tuple[Lesion, ...], seed: int, index: int) -> tuple[Lesion, ...]:
    """The lesions of the visit before: some not there yet, some smaller or larger, some healed since."""
    rng = stream(seed, index, "earlier visit")
    before: list[Lesion] = []
    for lesion in lesions:
        fate = rng.random()
        if fate < 0.30:
            continue
        if fate < 0.62 or lesion.name in ("endotracheal tube", "central venous catheter", "rib fracture"):
            before.append(lesion)
        else:
            before.append(resized(lesion, -1 if fate < 0.82 else 1, rng))
    if rng.random() < 0.35:
        before.extend(draw_lesions(stream(seed, index, "healed since"))[:1])
    return settle(before)


def resized(lesion: Lesion, steps: int, rng: Rng) -> Lesion:
    """The same lesion, `steps` degrees of severity more or less; unchanged where the scale ends."""
    rank = SEVERITIES.index(lesion.severity) + steps
    if not 0 <= rank < len(SEVERITIES):
        return lesion
    low, high = SIZES_MM[lesion.name][rank]
    ratio = float(rng.uniform(*RATIOS[rank])) if lesion.ratio is not None else None
    size = lesion.size_mm if ratio is not None else round(float(rng.uniform(low, high)), 1)
    return replace(lesion, severity=SEVERITIES[rank], size_mm=size, ratio=ratio)
