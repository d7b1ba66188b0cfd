"""Side, place, size and change of each mention of a sentence: what is its own, and what coordinated mentions share.

"Left effusion and adjacent atelectasis" share a side; "atelectasis or consolidation at the left base" a place; an
"opacity at the left base, likely pneumonia" is one thing in one place; "small right and moderate left effusions" are
two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from reports.attributes import Attributes, named_side, read_attributes, severity_in, side_in
from reports.clauses import WITH
from reports.lexicon import Mention
from reports.scope import Scope

_JOINT = re.compile(rf",\s|\s(?:and|or)\s|{WITH}|;")
_EITHER = re.compile(r",? (?:and/)?or (?:\w+ ){0,2}")
_HEDGED = (
    r"(?:(?:most |very |more |less )?likely|probabl[ye]|possibl[ye]|perhaps|presumably|presumed|suspected"
    r"|suspicious for)"
)
EXPLAINS = re.compile(
    r"\b(?:represent\w*|reflect\w*|suggest\w*|(?:consistent|compatible|keeping) with|(?:due|secondary|related) to"
    rf"|(?:concerning|suspicious|worrisome) for|shows? an?|(?:may|might|could) be)\b|^,? {_HEDGED}\b"
    rf"|\b{_HEDGED} (?:an? |early "
    rf"|due to )?\w*\s?$"
)
_ALTERNATIVE = re.compile(r",? (?:or|and/or|versus|vs\.?|favou?red over|rather than|from)(?: \w+){0,2} ")
_LIST = re.compile(r",? and (?:(?!an? |the |\d)\w+ ){0,2}")
_APPOSED = re.compile(rf", {_HEDGED}(?: \w+){{0,2}} ")
_PHRASE = re.compile(
    r"(?<= )(?:(?<=represent )|(?<=represents )|(?<=reflect )|(?<=reflects )|(?<=representing )|(?<=reflecting )"
    r"|(?<=suggest )"
    r"|(?<=suggests )|(?<=suggesting )|(?<=for )|(?<=with )|(?<=from )|(?<=to )|(?<=by )|(?=an? ))(?:[\w-]+ ){1,4}$"
)
_BOTH_SIDES = re.compile(
    r"(?P<first>(?:[\w-]+ ){0,3}?(?:left|right)(?:[- ]sided)?) (?:and|but"
    r"|with) (?P<second>(?:[\w-]+ ){0,3}?(?:left|right)"
    r"(?:[- ]sided)?)(?P<shared>(?: [\w-]+){0,2}) $"
)


class Window(NamedTuple):
    """The words of one mention: before, in and after it, cut at its clause and its neighbours."""

    before: str
    inside: str
    after: str
    joined: bool  # a joint parts it from the mention before it in the same clause


def attributes_of(
    low: str, mentions: Sequence[Mention], scope: Scope, statuses: Sequence[str]
) -> list[tuple[Attributes, ...]]:
    """The attributes of every mention of a lower-case sentence; two where one phrase tells two sides apart.

    `statuses` are "present", "absent", "uncertain" or "skip", one for each mention.
    """
    windows = windows_of(low, mentions, scope)
    read = [read_attributes(window.before, window.inside, window.after) for window in windows]
    if len(mentions) > 1:
        _share_forward(low, mentions, windows, statuses, read)
        _share_backward(low, mentions, windows, read)
    return [_apart(window, one) if window.before and " and " in window.before else (one,)
            for window, one in zip(windows, read, strict=True)]  # fmt: skip


def windows_of(low: str, mentions: Sequence[Mention], scope: Scope) -> list[Window]:
    """The words that belong to each mention of a lower-case sentence."""
    return [_window(low, mentions, at, scope) for at in range(len(mentions))]


def is_alternative(low: str, mentions: Sequence[Mention], at: int, scope: Scope) -> bool:
    """ "Atelectasis or infiltrate": one of both, so neither is certain; "no change in A or B" states both."""
    if any(cue.kind == "pseudo" for cue in scope.cues):
        return False
    around = mentions[max(at - 1, 0) : at + 2]
    gaps = [low[one.stop : other.start] for one, other in pairwise(around)]
    return any(_EITHER.fullmatch(gap) for gap in gaps)


def _window(low: str, mentions: Sequence[Mention], at: int, scope: Scope) -> Window:
    """The clause of a mention, cut between neighbours at the last joint ("and", comma) that parts them."""
    mention = mentions[at]
    start, stop = scope.clause(mention.start)
    joined = False
    if at > 0 and mentions[at - 1].stop > start:
        gap = low[mentions[at - 1].stop : mention.start]
        parted, joined = _parting(gap)
        start = mentions[at - 1].stop + parted[1]
    if at + 1 < len(mentions) and mentions[at + 1].start < stop:
        stop = mention.stop + _parting(low[mention.stop : mentions[at + 1].start])[0][0]
    after = low[mention.stop : max(stop, mention.stop)]
    return Window(low[start : mention.start], low[mention.start : mention.stop], after, joined)


def _parting(gap: str) -> tuple[tuple[int, int], bool]:
    """Where the words between two mentions are cut, and whether by a joint.

    At the last joint; without one, before the phrase of the second mention: "air at the apex represents "
        "| a small ...".
    """
    joints = list(_JOINT.finditer(gap))
    if joints:
        return joints[-1].span(), True
    phrase = _PHRASE.search(gap)
    return ((phrase.start(), phrase.start()) if phrase else (len(gap), len(gap))), False


def _share_forward(
    low: str, mentions: Sequence[Mention], windows: Sequence[Window], statuses: Sequence[str], read: list[Attributes]
) -> None:
    previous: Attributes | None = None
    for at, (mention, window) in enumerate(zip(mentions, windows, strict=True)):
        if statuses[at] == "skip":
            continue
        if previous is not None and statuses[at] != "absent" and at > 0:
            own = read[at]
            gap = low[mentions[at - 1].stop : mention.start]
            one_place = EXPLAINS.search(gap) or _ALTERNATIVE.fullmatch(gap)
            if own.side is None and own.location is None and len(gap) < 60 and one_place:
                read[at] = own._replace(side=previous.side, location=previous.location)
            elif own.side is None and window.joined:
                read[at] = own._replace(side=previous.side)
        previous = read[at]


def _share_backward(low: str, mentions: Sequence[Mention], windows: Sequence[Window], read: list[Attributes]) -> None:
    """A place after the last of several coordinated mentions belongs to all of them."""
    for at in range(len(mentions) - 2, -1, -1):
        one, other = read[at], read[at + 1]
        if one.side is not None or one.location is not None or (other.side is None and other.location is None):
            continue
        following = windows[at + 1]
        if side_in(f"{following.before} {following.inside}") is not None:
            continue
        gap = low[mentions[at].stop : mentions[at + 1].start]
        if any(shared.fullmatch(gap) for shared in (_ALTERNATIVE, _LIST, _APPOSED)):
            read[at] = one._replace(side=other.side, location=other.location)


def _apart(window: Window, read: Attributes) -> tuple[Attributes, ...]:
    """One mention as two, where "small right and moderate left" gives each side a severity of its own."""
    match = _BOTH_SIDES.search(window.before)
    if match is None or read.side != "bilateral":
        return (read,)
    sides = named_side(match["first"]), named_side(match["second"])
    levels = severity_in(match["first"]), severity_in(match["second"])
    if None in levels or levels[0] == levels[1] or sides[0] == sides[1]:
        return (read,)
    return tuple(read._replace(side=side, severity=level) for side, level in zip(sides, levels, strict=True))
