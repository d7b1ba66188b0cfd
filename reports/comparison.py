"""Which lesions are new, larger, smaller, unchanged or gone against a prior visit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reports.phrasing import DEVICES, LesionLike

SEVERITIES = ("tiny", "mild", "moderate", "severe")
_GRADED = frozenset({"pulmonary edema", "emphysema", "cardiomegaly"})  # compared by grade: they have no edge to measure


class Change(NamedTuple):
    """The course since the prior."""

    now: tuple[str | None, ...]  # per lesion: new, increased, decreased, unchanged; None without a prior
    resolved: tuple[LesionLike, ...]  # lesions of the prior that are gone


def compare(lesions: Sequence[LesionLike], prior: Sequence[LesionLike] | None) -> Change:
    """Match lesions with the prior's by name, location and side; a fifth more or less is a change of size.

    Equal sides are matched first, then sides that overlap (an effusion that was bilateral and is now left).
    """
    if prior is None:
        return Change((None,) * len(lesions), ())
    left_over = list(prior)
    now: list[str | None] = ["new"] * len(lesions)
    for exact in (True, False):
        for at, lesion in enumerate(lesions):
            same = [old for old in left_over if _is_same(old, lesion, exact)] if now[at] == "new" else []
            if same:
                now[at] = _trend(same[0], lesion)
                left_over.remove(same[0])
    return Change(tuple(now), tuple(left_over))


def _is_same(old: LesionLike, new: LesionLike, exact: bool) -> bool:
    if old.name != new.name or (old.location != new.location and None not in (old.location, new.location)):
        return False
    return old.side == new.side or (not exact and not {"left", "right"} <= {old.side, new.side})


def _trend(old: LesionLike, new: LesionLike) -> str:
    if new.name in DEVICES or new.name == "rib fracture":
        return "unchanged"
    if old.size_mm and new.size_mm and new.name not in _GRADED:
        ratio = new.size_mm / old.size_mm
        return "increased" if ratio > 1.2 else "decreased" if ratio < 1 / 1.2 else "unchanged"
    step = SEVERITIES.index(new.severity) - SEVERITIES.index(old.severity)
    return "increased" if step > 0 else "decreased" if step < 0 else "unchanged"
