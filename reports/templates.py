"""Templates ("Heart: mildly enlarged. Pleura: no effusion or thickening.") and sentences that leave their subject out
("has cleared on the left but persists on the right") as the sentences that they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from reports.lexicon import Mention

_OF = re.compile(
    r"^(?:the )?(?:(?P<subject>heart(?: size)?|cardiac (?:silhouette|size|contours?)|(?:cardio)?mediastin(?:um"
    r"|al silhouette|al"
    r" contours?)|hila|pulmonary vasculature|costophrenic angles)"
    r"|(?P<pleura>(?:lungs? ?(?:/|and|&) ?)?pleura(?:l (?:spaces?|cavit(?:y|ies)))?)"
    r"|(?P<pericardium>pericardi(?:um|al space))"
    r"|(?P<nodes>lymph nodes?|mediastinum(?: and hila)?))(?: ?: ?| [-–] )",
)
_SAME_SUBJECT = re.compile(
    r"\b(?:left|right)\b[^,;.]*,? (?:but|while|yet|and) "
    r"(?P<verb>(?:is|are|was|were|has|have|persists?|remains?)\b[^,;.]*"
    r"\b(?:left|right)\b)"
)
_VERB = re.compile(r"(?:is|are|was|were|has|have|appears?|shows?|remains?)\b")
_BARE_THICKENING = re.compile(r"(?<!pleural )(?<!wall )(?<!septal )\bthickening\b")
_BARE_EFFUSION = re.compile(r"(?<!pericardial )(?<!pleural )\b(?=(?:effusions?|fluid)\b)")
_QUALITY = re.compile(
    r"(?:(?:mildly|moderately|severely|markedly|borderline|slightly|not|top|upper|within|normal|enlarged"
    r"|unremarkable|widened"
    r"|stable|clear|sharp)\b)"
)


def as_prose(low: str) -> str:
    """A lower-case template line as a sentence; any other sentence comes back as it is.

    "heart: mildly enlarged" becomes "heart is mildly enlarged"; in the pleura's line "thickening" is pleural, in that
    of the pericardium "effusion" is pericardial.
    """
    match = _OF.match(low)
    if match is None:
        return low
    head, rest = low[: match.end()], low[match.end() :]
    if match["pleura"]:
        return head + _BARE_THICKENING.sub("pleural thickening", rest)
    if match["pericardium"]:
        return head + _BARE_EFFUSION.sub("pericardial ", rest, count=1)
    if _QUALITY.match(rest) and not _VERB.match(rest):
        subject = match["subject"] or match["nodes"]
        return f"{subject} is {rest}"
    return low


def with_subject(low: str, mentions: Sequence[Mention]) -> str:
    """A lower-case sentence with the subject repeated where a second predicate tells of the other side without it.

    "effusion has cleared on the left but persists on the right" becomes "... but effusion persists on the right".
    """
    match = _SAME_SUBJECT.search(low)
    if match is None or not mentions:
        return low
    at = match.start("verb")
    before = [one for one in mentions if one.stop <= at]
    if len(before) != 1 or any(at <= one.start < match.end() for one in mentions):
        return low
    return f"{low[:at]}{low[before[0].start : before[0].stop]} {low[at:]}"
