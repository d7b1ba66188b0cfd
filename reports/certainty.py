"""How sure a hedged statement is: probable, one of two, or only possible.

Readers weigh these apart. Whoever codes "probable effusion" or "atelectasis versus scar" counts the finding as seen,
but not one that "may represent atelectasis" (so the indexing of the Indiana reports: Demner-Fushman et al. 2016,
J Am Med Inform Assoc 23:304-310). A labelling scheme can follow either habit.
"""

from __future__ import annotations

import re
from typing import Literal

Hedge = Literal["probable", "alternative", "possible"]
STRENGTH: dict[str | None, int] = {None: 0, "possible": 1, "alternative": 2, "probable": 3}

_STRONG = r"(?:strongly|highly|most|very|almost certainly) "
_PROBABLE = re.compile(
    rf"\b(?:probabl[ey]|likely|presum(?:ed|ably)|{_STRONG}(?:suggest\w+|suspicious|concerning|compatible|consistent)"
    r"|favou?r(?:s|ed|ing)?|borderline)\b"
)
_POSSIBLE = re.compile(
    r"\b(?:may|might|could|would|possib\w+|perhaps|suggest\w*|question\w*|query|equivocal|suspect\w*|suspicio\w+"
    r"|concern\w*|worrisome|potential\w*|differential|consider\w*|exclude[ds]?|ruled? out|rule-out|r/o|unlikely"
    r"|less likely|not likely)\b|\?"
)
_ALTERNATIVE = re.compile(r"\b(?:versus|vs)\b|\b(?:and/)?or\b")


def hedge_of(clause: str) -> Hedge:
    """The kind of hedge in a lower-case clause that was read as uncertain.

    A word of mere possibility outweighs the others ("may represent atelectasis versus scar"), save one that a strong
    word makes firm ("strongly suggestive of"). Without any known word the answer is "possible".
    """
    firm = _PROBABLE.search(clause)
    rest = _PROBABLE.sub(" ", clause) if firm and not re.search(r"\b(?:un|less |not )likely\b", clause) else clause
    if _POSSIBLE.search(rest):
        return "possible"
    if firm:
        return "probable"
    return "alternative" if _ALTERNATIVE.search(clause) else "possible"
