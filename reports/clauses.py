"""Where the clauses of a sentence begin and end, from its conjunctions, verbs and punctuation.

A light chunker, not a parser: a joint (comma, "and", "with", colon) parts two statements when each side has a head of
its own, a finding or a verb. "No effusion, small nodule" is two statements; "no effusion, mass or nodule" is one list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from reports.lexicon import Mention

_HARD = re.compile(
    r";|(?:^|[\s,])(?:but|however|although|though|except(?:ing)?(?: for)?|with the exception of|save for"
    r"|other than|apart"
    r" from|aside from|whereas|while|otherwise|besides|despite|because|yet(?! to\b)|only (?=an?\b)"
    r"|just (?=an?\b))(?![\w-])"
    r"|(?<=[a-z)])\.\s"
)
# "Consistent with", "compared with" tie to what stands before and part nothing.
WITH = r"(?<!consistent)(?<!compatible)(?<!keeping)(?<!compared)(?<!associated)(?<!line)\swith\s"
_JOIN = re.compile(rf",(?: and| with| or| but)?\s|\s(?:and|or)\s|{WITH}")
_POSITIVE = re.compile(
    r"(?:there (?:is|are|was|were|has)|an?\b|the\b|tiny|trace|minimal|small|mild|moderate|severe|marked|stable"
    r"|unchanged"
    r"|persistent|new\b|increas|worsen|decreas|improv|slight|chronic|old\b|left|right|bilateral|bibasilar"
    r"|probabl|possibl"
    r"|calcified|prior|known|multiple|several|few|some\b|just\b|only\b|large\b|considerable)"
)
_DENIAL = re.compile(r"(?:no|without|negative|nor)\b")
_ADVERB = re.compile(r"(?:probably|possibly|perhaps|presumably|(?:most )?likely)\b")
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|demonstrates?|remains?|appears?|may|might|could|can|cannot"
    r"|excluded|seen"
    r"|noted|suggests?|represents?|persists?|reveals?|contains?|lies|measures?|ends?)\b"
)
_CONDITION = re.compile(
    r"(?:^|[\s,(])(?P<word>if|unless|in case of|in the event of|should(?= (?:an? |the |\w+ )*\w+ (?:be|develop"
    r"|occur|persist"
    r"|recur|worsen|appear|enlarge))|when there is (?:\w+ )?(?:concern|suspicion)|when (?:\w+ )?suspected|assuming)\b"
)


def clause_borders(sentence: str, mentions: Sequence[Mention], cue_starts: Sequence[int]) -> tuple[int, ...]:
    """Clause borders, ascending, with both ends: hard words, and joints where a new statement starts."""
    # "Small left and moderate right effusions" is one statement: nothing is said or denied before its joint.
    said = [*(m.start for m in mentions), *cue_starts]
    hard = {m.start() for m in _HARD.finditer(sentence)} | {0, len(sentence)}
    if ":" in sentence:
        hard |= _colons(sentence, mentions, hard)
    borders = set(hard)
    last = mentions[-1].stop if mentions else 0
    joints = [
        joint
        for joint in _JOIN.finditer(sentence)
        if joint.start() >= last or not any(one.start < joint.start() < one.stop for one in mentions)
    ]
    for at, joint in enumerate(joints):
        if joint.end() > last:
            break
        if joint.group().strip(" ,") == "or":
            continue
        left = max(border for border in borders if border <= joint.start())
        end = min(border for border in hard if border > joint.start())
        following = joints[at + 1].start() if at + 1 < len(joints) else end
        if not any(joint.end() <= m.stop <= end for m in mentions):
            continue
        if not _VERB.search(sentence, left, joint.start()) and not any(left <= place < joint.start() for place in said):
            continue
        segment = sentence[joint.end() : end]
        if _ADVERB.match(segment) and not any(left <= m.start < joint.start() for m in mentions):
            continue  # "the angle is blunted, probably by an effusion"
        if _starts_clause(sentence[left : joint.start()], segment, sentence[joint.end() : min(following, end)]):
            borders.add(joint.start())
    return tuple(sorted(borders))


def _colons(sentence: str, mentions: Sequence[Mention], hard: set[int]) -> set[int]:
    """A colon parts two statements. It parts nothing after a topic ("right lung: nodule") or before an answer."""
    found = set()
    for match in re.finditer(r":(?!\d)", sentence):
        at = match.start()
        left = max(border for border in hard if border <= at)
        right = min(border for border in hard if border > at)
        before = any(left <= m.start < at for m in mentions)
        after = any(at < m.start < right for m in mentions)
        if (before and after) or (not before and len(sentence[left:at].split()) > 4):
            found.add(at)
    return found


def conditions(sentence: str) -> tuple[tuple[int, int], ...]:
    """Start and end of each conditional clause ("if pneumonia is suspected, ...")."""
    spans = []
    for match in _CONDITION.finditer(sentence):
        start = match.start("word")
        comma = sentence.find(",", start)
        spans.append((start, comma if comma > 0 else len(sentence)))
    return tuple(spans)


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
