"""Words that change what a mention means: denials, hedges, "has resolved", "history of".

Each kind says in its name where it works: `_pre` on what follows, `_post` on what stands before, others on both. The
idea of forward and backward cues is that of NegEx (Chapman et al. 2001, J Biomed Inform 34:301-310), with hedges as a
third state as in CheXpert (Irvin et al. 2019, arXiv:1901.07031).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from reports.word_index import WordIndex

_SEEN = (
    r"(?:seen|identified|observed|detected|visuali[sz]ed|present|noted|evident|appreciated|found|demonstrated"
    r"|encountered"
    r"|apparent|visible|distinguished|shown|recogni[sz]ed|watched|selected|monitored|followed|discerned|depicted"
    r"|there)"
)
_DEGREE = (
    r"(?:(?:completely|entirely|fully|definitely|definitively|totally|clearly|readily|currently|reliably"
    r"|confidently|yet"
    r"|both|any more|now|since|convincingly|necessarily|really|again|safely|absolutely) )*"
)
_ANY = (
    r"(?: (?:any|significant|significantly|substantial|appreciable|definite|evident|interval|obvious|acute"
    r"|relevant|marked"
    r"|major|further|real|clear|apparent|overall|signs? of|evidence of|convincing|discernible|measurable))*"
)
_MOVES = (
    r"(?:change|changes(?! of (?!the\b|this|these|known))|increase|decrease|progression|difference|worsening"
    r"|improvement|enlargement|growth|regression"
    r"|reduction|deterioration|alteration|shrinkage|resolution|clearing)"
)
_BE = r"(?:is|are|was|were|be|been|remains?|appears?)"
_CANNOT = (
    r"(?:cannot|can not|can't|could not|couldn't|unable to|not able to|(?:difficult|hard|impossible|not possible) to"
    r"|(?:do|does|did|would|will|may|might) not|not)"
)
_KIN = (
    r"(?:mother|father|brother|sister|sibling|son|daughter|aunt|uncle|grand(?:mother|father|parent)s?"
    r"|parents?|relatives?)"
)
_PRIOR_STUDY = (
    r"(?:prior|previous|earlier|last|old|outside|comparison|preceding|older)(?: \w+)? "
    r"(?:study|exam|examination|film|radiographs?|ct|x-?ray|scan|image|mri|one)"
)

# In order of trial at one place.
CUES: dict[str, str] = {
    # Denies nothing: "no change in the effusion", "has not resolved", "not without", "not only".
    "pseudo": rf"(?:no|without|lack of|absence of){_ANY} {_MOVES}\b"
    r"|(?:no|not)(?: any| significantly| substantially| much)? (?:larger|bigger|smaller|worse|better|longer than"
    r"|wider|denser"
    r"|greater than before|as (?:dense|large|extensive|prominent|big|marked|severe|conspicuous))"
    r"|not(?: \w+ly)?(?: yet)? (?:changed|increased|decreased|progressed|improved|enlarged|grown|worsened|regressed"
    r"|resolved|cleared|disappeared|re-?expanded|been removed|been moved)"
    r"|(?:fail(?:s|ed|ure)? to|not|yet to|(?:does|do|did) not appear to have) (?:fully |completely )?"
    r"(?:resolved?|clear(?:ed)?|improved?|decreased?|change)"
    r"|(?:partial|incomplete|slight|some|slow) (?:interval )?(?:resolution|clearing) of"
    r"|not only|not without|not absent|no (?:residual |reasonable )?doubt|not just|not merely"
    r"|not well (?:seen|evaluated|assessed|visuali[sz]ed)|no prior\w*|without contrast|no comparison|no history"
    r"|not (?:included|evaluated|excluded from|limited|confined|calcified|enhanc\w+|invad\w+|loculated)"
    r"|(?:no|without) evidence to suggest absence of|(?:wrong|incorrect|mistake) to (?:say"
    r"|state) that there (?:is|are) no"
    rf"|(?:(?:is|was|were) )?not (?:seen|present|visible|there|noted|identified|apparent|evident) (?:on|in"
    rf"|at) (?:the |any |a )?{_PRIOR_STUDY}",
    # A finding that cannot be told from another, or one of two.
    "either": r"versus|vs\.?|favou?red over|(?:cannot|can not|could not) (?:\w+ )?be (?:\w+ )?"
    r"(?:distinguished|differentiated|separated|told) from|(?:to|not) (?:separate|differentiate|distinguish|tell)"
    r"|indistinguishable from",
    "unsure_post": rf"(?:cannot|can not|can't|could not|couldn't|can neither) be {_DEGREE}(?:excluded|ruled out"
    rf"|assured"
    r"|assumed|denied|dismissed|confirmed)"
    rf"|(?:(?:is|are|was|were|has|have|had) )?not {_DEGREE}(?:been )?{_DEGREE}(?:excluded|ruled out)"
    r"|(?:is|are|was|were|be|remains?)? ?(?:difficult|hard|impossible) to (?:\w+ )?(?:exclude|assess|rule out"
    r"|confirm)"
    r"(?=\s*(?:[.,;)]|$)| (?:on|in|by|with|without|given|due|because|radiographically|entirely|completely)\b)"
    rf"|{_BE} (?:also |still |again )?(?:a |an )?(?:possible|possibility|suspected|questioned|questionable"
    rf"|considered|equivocal"
    r"|unlikely|in the differential|on the differential|a consideration|consideration|probable|likely|favou?red"
    r"|uncertain(?! (?:whether|if))"
    r"|unclear(?! (?:whether|if))|doubtful|conceivable|concern|thought to be|believed to be|felt to be)"
    r"|(?:suspected|possible|probable|questioned)(?=\.?$)|less likely(?=\.?$)",
    "absent_post": rf"(?:(?:is|are|was|were|has been|have been|had been) )?(?:(?:cannot|can not|could not) be|not) "
    rf"(?:been )?{_DEGREE}{_SEEN}"
    rf"|(?:is|are|was|were|has been|have been) {_DEGREE}(?:negative(?! for)|absent|none|ruled out|excluded|nil"
    rf"|lacking)"
    r"|nowhere (?:to be )?(?:seen|found)|not a feature|(?:does|do|did) not exist",
    "gone_pre": r"(?:interval |complete |near[- ]complete |total )*(?:resolution|clearing|removal|disappearance"
    r"|withdrawal"
    r"|explantation|extraction) of",
    "gone_post": r"(?:has|have|had|is|are|was|were)(?: been)?(?: now| since)? "
    rf"{_DEGREE}(?:resolved|cleared|disappeared|removed|withdrawn|gone|vanished|re-?expanded|taken out|extracted"
    rf"|pulled)"
    r"|(?:completely|totally) (?:regressed|cleared)|removed|withdrawn",
    "gone_any": rf"no longer(?: (?:be )?{_SEEN})?|no more",
    # Nothing is said of the present image: the past, the family, another study, a question, what imitates a finding.
    "skip": r"histor(?:y|ies)(?: is significant)? (?:of|for)"
    r"|(?<!view of )(?<!view of the )(?<!given the )(?<!given )(?<!patient's )(?<!with the )histor(?:y|ies)|h/o"
    r"|hx(?: of)?|evaluat(?:e|ion) (?:for|of possible)"
    r"|assess(?:ment)? for|concern for possible interval|looking for|to look for|sensitive (?:in|for|to)(?: \w+ing)?"
    r"|follow(?:-| |ed )?up (?:of|for)|(?:is|was) (?:being )?followed for|signs? of prior|risk (?:of|for)"
    r"|screening for"
    r"|(?:was|were|been) treated for|treatment (?:for|of)|treated for|therapy for|years? ago|as a child|in childhood"
    rf"|{_KIN} (?:with|had|has|died|was|is)|family (?:history|member)s?|admitted (?:for|with)|presents? with"
    rf"|complain\w+ of"
    r"|patient (?:had|reports?|reported|states|denies|complains)|mimic(?:s|king|ked)?|simulat(?:es|ing)|mistaken for"
    r"|confused with|(?:what )?looked like|^(?:is|are|was|were) there"
    rf"|{_PRIOR_STUDY}(?: \w+){{0,3}} (?:showed|demonstrated|revealed|described|reported|documented|had)"
    r"|(?:study|exam|examination|film|radiograph|ct|scan) (?:that|which) (?:showed|demonstrated|revealed"
    r"|described|had)"
    r"|than (?:the |a |any )?(?:prior|previous|old|earlier)",
    "skip_post": r"(?:may|might|could|would|should|will) (?:also )?be (?:needed|required|necessary|inserted"
    r"|helpful|ordered)",
    "unsure_pre": rf"{_CANNOT} (?:\w+ly )*(?:exclude|rule out)"
    r"|(?:not (?:allow|permit)|preclud\w+|prevents?|limits?|impairs?)(?: \w+){0,2} exclusion of"
    r"|possible|possibly|possibility of|probable|probably|presumably|presumed?|questionable|question(?: of)?"
    r"|query|queried"
    r"|may|might|could|cannot|can not|can't|suspicious for|suspicion (?:of|for)|suspect(?:ed|s)?|concern(?:ing"
    r"|s)? (?:for|of)"
    r"|worrisome for|suggest(?:s|ed|ing|ive|ions?)?(?: of)?|suspicious of|differential|equivocal|potential(?:ly)?"
    r"|to exclude"
    r"|to rule out|rule[- ]out|r/o|borderline|perhaps|likely|conceivabl[ey]|indeterminate for|raises?"
    r"|favou?r(?:s|ed|ing)?"
    r"|appears? to (?:be|represent|have)|seems? to (?:be|represent|have)|unclear (?:whether|if)"
    r"|uncertain (?:whether|if)"
    r"|(?<!more )(?<!less )apparent|doubtful|correlat\w+ (?:\w+ )?for(?: (?:signs?|symptoms|evidence) of)?"
    r"|which can be seen (?:with|in)|thought to|believed to|felt to",
    # "A few", "too", "as" before them are no denial: they are ordinary words of lists.
    "absent_pre": r"no(?: evidence (?:of|for)| sign of| indication of)?|not|without|w/o|negative for|free of|clear of"
    r"|(?:absence|lack|devoid|zero evidence|exclusion) of|denies|rather than|nor|neither|non(?=e)|never"
    r"|fails? to|instead of"
    r"|excludes?|nothing|none of|zero|rules? out|ruled out|lacks?|lacking",
}
_INDEX = WordIndex(list(CUES.items()), after=r"(?![\w-])", before=r"(?<!-)")
_GONE = re.compile(
    r"\b(?:(?P<partly>(?:not|partial(?:ly)?|partly|incomplete(?:ly)?|near(?:ly)?|almost|mostly|largely|yet|un|to)"
    r"(?: \w+ly)?) )?resolved\b"
)
# After the name of a finding and a colon: "Pneumothorax: none."
_ANSWERED = re.compile(
    r": ?(?:(?P<absent_post>(?:no|none|nil|absent|negative|not (?:present|seen|identified|detected"
    r"|visible))(?=\s*(?:[.,;]|$)))"
    r"|(?P<unsure_post>(?:possible|probable|suspected|questionable|equivocal|likely|suspicious)(?=\s*(?:[.,;]|$))))"
)


class Cue(NamedTuple):
    """A word or phrase that changes what a mention means; `kind` is a key of `CUES`, "gone_either" or "asked"."""

    start: int
    stop: int
    kind: str


def cues_in(low: str, starts: list[int] | None = None) -> list[Cue]:
    """The cues of a lower-case sentence; `starts` are its `word_starts` where they are known."""
    cues = [Cue(m.start(), m.end(), m.lastgroup or "") for m in _INDEX.finditer(low, starts)]
    if "?" in low:
        cues += [Cue(at, at + 1, "asked") for at, letter in enumerate(low) if letter == "?"]
    if ":" in low:
        cues += [Cue(m.start(), m.end(), m.lastgroup or "") for m in _ANSWERED.finditer(low)]
    if "resolved" in low:
        taken = [(cue.start, cue.stop) for cue in cues if cue.kind.startswith("gone") or cue.kind == "pseudo"]
        for match in _GONE.finditer(low):
            if match["partly"] is None and not any(a <= match.start() < b for a, b in taken):
                cues.append(Cue(match.start(), match.end(), "gone_either"))
    return cues
