"""How far "no", "possible" and "has resolved" reach: cues, and the borders of clauses.

The idea of forward and backward cues within a clause is that of NegEx (Chapman et al. 2001, J Biomed Inform
34:301-310), with hedges as a third state as in CheXpert (Irvin et al. 2019, arXiv:1901.07031).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from reports.lexicon import Mention

_SEEN = (
    r"(?:seen|identified|observed|detected|visuali[sz]ed|present|noted|evident|appreciated|found|demonstrated"
    r"|encountered"
    r"|apparent|visible|distinguished|shown|recogni[sz]ed|watched|selected|monitored|followed)"
)
_DEGREE = r"(?:completely |entirely |fully |definitely |definitively |totally |clearly |readily |currently )?"

# Kinds, in order of trial at one place: pseudo ("no change": denies nothing), unsure_post, absent_post, gone_*, skip,
# unsure_pre, either (both directions), absent_pre.
_CUES: dict[str, str] = {
    "pseudo": r"(?:no|without)(?: (?:any|significant|substantial|appreciable|definite|evident|interval|obvious"
    r"|acute|relevant"
    r"|marked|major|further|real))* (?:change|changes|increase|decrease|progression|difference|worsening|improvement)\b"
    r"|not (?:significantly |substantially |appreciably )?changed|not only|no doubt|not well (?:seen|evaluated"
    r"|assessed)"
    r"|not (?:included|evaluated|excluded from|limited)|no prior\w*|without contrast|no comparison",
    "unsure_post": rf"(?:cannot|can not|can't|could not|couldn't) be {_DEGREE}(?:excluded|ruled out)"
    rf"|(?:is|are|was|were)? ?not {_DEGREE}(?:excluded|ruled out)|difficult to (?:\w+ )?exclude"
    r"|(?:is|are|was|were|be|remains?) (?:a )?(?:possible|possibility|suspected|questioned|questionable"
    r"|considered|equivocal"
    r"|unlikely|in the differential|a consideration)|suspected(?=\.?$)",
    "absent_post": rf"(?:is |are |was |were |has been |have been )?not (?:been )?{_DEGREE}{_SEEN}"
    r"|(?:is|are|was|were) (?:negative(?! for)|absent|none|ruled out|excluded|not there)",
    "gone_pre": r"(?:interval |complete |near[- ]complete )*(?:resolution|clearing|removal|disappearance) of",
    "gone_post": r"(?:has|have|had|is|are|was|were)(?: been)?(?: now| since)? "
    rf"{_DEGREE}(?:resolved|cleared|disappeared|removed|withdrawn|gone)"
    rf"|(?:completely|totally) regressed",
    "gone_any": rf"no longer(?: {_SEEN})?",
    "skip": r"histor(?:y|ies) of|h/o|evaluat(?:e|ion) for|assess(?:ment)? for|concern for possible interval"
    r"|correlat\w+ (?:clinically )?for|sensitive (?:in|for|to)(?: \w+ing)?|follow(?:-| )?up (?:of|for)"
    r"|signs? of prior|risk of|screening for",
    "unsure_pre": r"possible|possibly|possibility of|probable|probably|presumably|presumed|questionable"
    r"|question(?: of)?|query"
    r"|may|might|could|cannot|can not|can't|suspicious for|suspicion (?:of|for)|suspect(?:ed|s)?|concern(?:ing)? for"
    r"|worrisome for|suggest(?:s|ed|ing|ive)?(?: of)?|differential|equivocal|potential(?:ly)?|to exclude"
    r"|to rule out|rule[- ]out"
    r"|r/o|borderline appearance of|if there is",
    "either": r"versus|vs\.?",
    "absent_pre": r"no(?: evidence (?:of|for)| sign of| indication of)?|not|without|w/o|negative for|free of|clear of"
    r"|(?:absence|lack) of|denies|rather than|nor|neither|non(?=e)|never|fails? to|instead of|excludes?",
}
_CUE = re.compile(
    r"(?<![\w-])(?:" + "|".join(f"(?P<{kind}>{cue})" for kind, cue in _CUES.items()) + r")(?![\w-])|(?P<asked>\?)"
)
_ASKED_WITHIN = 20  # characters between a finding and its question mark: "(pneumonia?)"
_BARE_GONE = re.compile(r"\b(?<!not )(?<!partially )(?<!partly )(?<!incompletely )resolved\b")

_HARD = re.compile(
    r";|:(?!\d)|(?:^|[\s,])(?:but|however|although|though|except(?: for)?|other than|apart from|aside from|whereas"
    r"|while|otherwise|besides|despite|because)\b|(?<=[a-z)])\.\s"
)
# "Consistent with", "compared with" tie to what stands before and part nothing.
WITH = r"(?<!consistent)(?<!compatible)(?<!keeping)(?<!compared)(?<!associated)(?<!line)\swith\s"
_JOIN = re.compile(rf",(?: and| with| or| but)?\s|\s(?:and|or)\s|{WITH}")
_POSITIVE = re.compile(
    r"(?:there (?:is|are|was|were|has)|an?\b|the\b|tiny|trace|minimal|small|mild|moderate|severe|marked|stable"
    r"|unchanged"
    r"|persistent|new\b|increas|worsen|decreas|improv|slight|chronic|old\b|left|right|bilateral|bibasilar|probabl"
    r"|possibl"
    r"|calcified|prior|known|multiple|several|few|some\b)"
)
_DENIAL = re.compile(r"(?:no|without|negative)\b")
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|demonstrates?|remains?|appears?|may|might|could|can|cannot|excluded|seen"
    r"|noted|suggests?|represents?)\b"
)
_MODAL = re.compile(r"\b(?:may|might|could|likely|probably)\b")


class Cue(NamedTuple):
    """A word that changes what a mention means."""

    start: int
    stop: int
    kind: str


class Scope(NamedTuple):
    """The cues of a sentence and the borders of its clauses (positions, ascending, with both ends)."""

    cues: tuple[Cue, ...]
    borders: tuple[int, ...]
    modals: tuple[int, ...]

    def clause(self, position: int) -> tuple[int, int]:
        """Start and end of the clause that holds `position`."""
        at = bisect_right(self.borders, position) - 1
        at = min(max(at, 0), len(self.borders) - 2)
        return self.borders[at], self.borders[at + 1]


def read_scope(sentence: str, mentions: Sequence[Mention]) -> Scope:
    """Cues and clause borders of a lower-case sentence."""
    cues = [Cue(m.start(), m.end(), m.lastgroup or "") for m in _CUE.finditer(sentence)]
    taken = [(cue.start, cue.stop) for cue in cues if cue.kind.startswith("gone")]
    cues += [
        Cue(m.start(), m.end(), "gone_either")
        for m in _BARE_GONE.finditer(sentence)
        if not any(a <= m.start() < b for a, b in taken)
    ]
    modals = tuple(m.start() for m in _MODAL.finditer(sentence))
    return Scope(tuple(cues), _borders(sentence, mentions, cues), modals)


def _borders(sentence: str, mentions: Sequence[Mention], cues: Sequence[Cue]) -> tuple[int, ...]:
    """Clause borders: hard words, and joints (comma, and, with) where a new statement starts."""
    inside = [(m.start, m.stop) for m in mentions]
    # "Small left and moderate right effusions" is one statement: nothing is said or denied before its joint.
    said = [m.start for m in mentions] + [cue.start for cue in cues]
    hard = {m.start() for m in _HARD.finditer(sentence)} | {0, len(sentence)}
    joints = [m for m in _JOIN.finditer(sentence) if not any(a < m.start() < b for a, b in inside)]
    borders = set(hard)
    for at, joint in enumerate(joints):
        if joint.group().strip(" ,") == "or":
            continue
        left = max(border for border in borders if border <= joint.start())
        end = min([border for border in hard if border > joint.start()])
        following = joints[at + 1].start() if at + 1 < len(joints) else end
        segment = sentence[joint.end() : end]
        if not any(joint.end() <= m.stop <= end for m in mentions):
            continue
        if not _VERB.search(sentence, left, joint.start()) and not any(left <= place < joint.start() for place in said):
            continue
        if _starts_clause(sentence[left : joint.start()], segment, sentence[joint.end() : min(following, end)]):
            borders.add(joint.start())
    return tuple(sorted(borders))


def _starts_clause(before: str, rest: str, part: str) -> bool:
    """Whether what follows a joint is a statement of its own, and not one more item of a list."""
    if _DENIAL.match(rest):
        return True
    if rest.startswith(("which", "that", "who", "as ", "or ")):
        return False
    if _VERB.search(before) and _VERB.search(part):
        return True
    # "No effusion, small nodule": the second item is stated. "No focal consolidation, large effusion, or mass": a list.
    return _POSITIVE.match(rest) is not None and not re.search(r"\b(?:or|nor)\b", rest)


def status_of(mention: Mention, scope: Scope) -> tuple[str, bool]:
    """(status, gone): present, absent, uncertain or "skip" (not a statement); gone = absent because it resolved."""
    start, stop = scope.clause(mention.start)
    kinds = {cue.kind for cue in scope.cues if _reaches(cue, mention, scope, start, stop)}
    if "skip" in kinds:
        return "skip", False
    if kinds & {"unsure_post", "asked"}:
        return "uncertain", False
    if any(kind.startswith("gone") for kind in kinds):
        return ("uncertain" if "unsure_pre" in kinds else "absent"), True
    if "absent_pre" in kinds or "absent_post" in kinds:
        return "absent", False
    return ("uncertain", False) if kinds & {"unsure_pre", "either"} else ("present", False)


def _reaches(cue: Cue, mention: Mention, scope: Scope, start: int, stop: int) -> bool:
    if not start <= cue.start < stop:
        return False
    if cue.kind == "asked":
        return 0 <= cue.start - mention.stop <= _ASKED_WITHIN
    forward = cue.start < mention.stop  # also a cue inside the words of the mention: "heart is not enlarged"
    if cue.kind == "absent_pre":
        return forward and not any(cue.stop <= modal < mention.start for modal in scope.modals)
    if cue.kind.endswith("_pre") or cue.kind == "skip":
        return forward
    if cue.kind.endswith("_post"):
        return cue.stop > mention.start
    return True
