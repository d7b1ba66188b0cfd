"""Whether a mention is present, absent or uncertain: which cues reach it, by their clause and their phrase."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from reports.clauses import WITH, clause_borders, conditions
from reports.cues import Cue, cues_in
from reports.lexicon import Mention

__all__ = ["WITH", "Cue", "Scope", "read_scope", "status_of"]

_ASKED_WITHIN = 20  # characters between a finding and its question mark: "(pneumonia?)"
_MODAL = re.compile(r"\b(?:may|might|could|likely|probably)\b")
_BEFORE_NOW = re.compile(r"\b(?:previous(?:ly)?|prior|earlier|formerly|known)\b")
# "No enlargement of the mass": what a definite phrase names behind another noun is taken for granted, not denied.
_GRANTED = re.compile(
    r"\b(?P<head>\w+) (?:in|within|of|to|near|around|after|following|at|from|beneath|behind|with|adjacent to"
    r"|surrounding)"
    r" (?:the|this|these|his|her|known|prior|existing)(?: [\w-]+){0,3} $"
)
_EVIDENCE = re.compile(
    r"evidence|signs?|suggestion|indication|features?|findings?|residua|remnants?|remains|trace|recurrence|presence"
    r"|stigmata|demonstration|hint|appearance|development"
)
_DEFINITE = re.compile(r"\b(?:the|this|these|known|previously \w+)(?: [\w-]+){0,3} $")
_EXPLAINS = re.compile(
    r"\b(?:represent|reflect|suggest|indicat|due to|related to|secondary to|(?:consist|compat)\w+ with)"
)
_INTO_MENTION = re.compile(r"\b(?:after|following|since|status post|s/p) [^,;]*$")


class Scope(NamedTuple):
    """The cues of a sentence, the borders of its clauses (positions, ascending, with both ends), its modal verbs."""

    sentence: str
    cues: tuple[Cue, ...]
    borders: tuple[int, ...]
    modals: tuple[int, ...]
    conditions: tuple[tuple[int, int], ...] = ()

    def clause(self, position: int) -> tuple[int, int]:
        """Start and end of the clause that holds `position`."""
        at = bisect_right(self.borders, position) - 1
        at = min(max(at, 0), len(self.borders) - 2)
        return self.borders[at], self.borders[at + 1]


def read_scope(sentence: str, mentions: Sequence[Mention], starts: list[int] | None = None) -> Scope:
    """Cues and clause borders of a lower-case sentence; `starts` are its `word_starts` where they are known."""
    cues = cues_in(sentence, starts)
    borders = clause_borders(sentence, mentions, [cue.start for cue in cues if cue.kind != "pseudo"])
    modals = tuple(m.start() for m in _MODAL.finditer(sentence)) if cues else ()
    return Scope(sentence, tuple(cues), borders, modals, conditions(sentence))


def status_of(mention: Mention, scope: Scope) -> tuple[str, bool]:
    """(status, gone): present, absent, uncertain or "skip" (not a statement); gone = absent because it resolved."""
    for start, stop in scope.conditions:
        if start <= mention.start < stop:
            return ("present" if _DEFINITE.search(scope.sentence[start : mention.start]) else "skip"), False
    if not scope.cues:
        return "present", False
    start, stop = scope.clause(mention.start)
    kinds = {_kind(cue, mention) for cue in scope.cues if _reaches(cue, mention, scope, start, stop)}
    if not kinds:
        return "present", False
    if kinds & {"skip", "skip_post"}:
        return "skip", False
    if kinds & {"unsure_post", "asked"}:
        return "uncertain", False
    if any(kind.startswith("gone") for kind in kinds):
        return ("uncertain" if "unsure_pre" in kinds else "absent"), True
    if "absent_pre" in kinds or "absent_post" in kinds:
        past = "absent_post" in kinds and _BEFORE_NOW.search(scope.sentence, start, mention.start) is not None
        return "absent", past
    return ("uncertain", False) if kinds & {"unsure_pre", "either"} else ("present", False)


def _kind(cue: Cue, mention: Mention) -> str:
    """A denial within a mention's words denies it: "heart is not enlarged", "no enlargement of the heart"."""
    overlaps = mention.start < cue.stop and cue.start < mention.stop
    return "absent_pre" if cue.kind == "pseudo" and overlaps else cue.kind


def _reaches(cue: Cue, mention: Mention, scope: Scope, start: int, stop: int) -> bool:
    if not start <= cue.start < stop:
        return False
    if cue.kind == "asked":
        if scope.sentence[cue.stop : cue.stop + 1].isalpha():  # "?granuloma"
            return mention.start == cue.stop
        return 0 <= cue.start - mention.stop <= _ASKED_WITHIN
    forward = cue.start < mention.stop  # also a cue inside the words of the mention: "heart is not enlarged"
    if cue.kind == "either" and not forward:  # "consolidation may represent A versus B": only A and B are in doubt
        return _EXPLAINS.search(scope.sentence, mention.stop, cue.start) is None
    if cue.kind == "absent_pre":
        if not forward or any(cue.stop <= modal < mention.start for modal in scope.modals):
            return False
        return not _granted(scope.sentence[cue.stop : mention.start])
    if cue.kind.endswith("_pre") or cue.kind == "skip":
        return forward
    if cue.kind.endswith("_post"):
        return cue.stop > mention.start
    return True


def _granted(between: str) -> bool:
    """Whether a denial reaches only another noun: "no cavitation within the mass" denies no mass."""
    match = _GRANTED.search(between)
    return match is not None and _EVIDENCE.fullmatch(match["head"]) is None
