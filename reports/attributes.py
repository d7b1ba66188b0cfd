"""Side, place, severity, size and change, read from the words around a mention."""

from __future__ import annotations

import re
from typing import NamedTuple

from reports.measurements import measurements

_SIDE = re.compile(
    r"\b(?:(?P<both>bilateral(?:ly)?|bibasilar|bibasal|biapical|bihilar|left and right|right and left|left or right"
    r"|both(?= (?:of )?(?:the )?(?:\w+ )?(?:lungs?|sides?|bases|apices|lobes?|upper|lower|middle|mid|hil\w+"
    r"|hemithora\w+"
    r"|costophrenic|cp|pleura\w*|hemidiaphragms?|ribs?|clavicles|fissures|perihilar|basal|apical|chest)\b)"
    r"|(?:either|neither|each) (?:lung|side|hemithorax|pleural|base|apex))"
    r"|(?P<left>left|lt|lul|lll|lingula\w*)|(?P<right>right|rt|rul|rml|rll|middle lobe)"
    r"|(?P<letter>[lr])(?= {1,2}(?:picc|ij|sided|lung|base|pleural|effusion|upper|lower|mid|middle|chest tube"
    r"|port|subclavian"
    r"|hemithorax|apical|hilar|pneumothorax|costophrenic|cp)\b))\b"
    r"(?![- ]*(?:atri\w+|ventric\w+|heart|main(?:stem)? bronch\w+|mainstem))"
)
_PAIRED = re.compile(r"\b(?:(?:lung|pulmonary) )?(?:bases|apices)\b|\bhila\b")  # two of them, unless a side is named
_LOBES = {"rul": "upper lobe", "lul": "upper lobe", "rml": "middle lobe", "rll": "lower lobe", "lll": "lower lobe"}
_RIBS = (
    *("first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"),
)
_RIB = rf"(?:{'|'.join(_RIBS)}|\d{{1,2}}(?:st|nd|rd|th))"
_LOCATION = re.compile(
    r"\b(?:(?P<lobe>(?:upper|middle|lower)(?=(?: and| or|/| to)? (?:middle |lower )?lobes?)|(?:upper|middle"
    r"|lower) lobes?)"
    r"|(?P<short>rul|lul|rml|rll|lll)|(?P<zone>(?:upper|mid(?:dle)?|lower)"
    r" (?:lung )?(?:zone|field)|(?:upper|mid|lower) lung|mid-?lung)s?|(?P<lingula>lingula\w*)"
    r"|(?P<apex>apex|apices|apical\w*|biapical)|(?P<base>base|bases|basal|basilar|bibasilar|bibasal|retrocardiac)"
    r"|(?P<hilum>hilum|hila|hilar|perihilar|parahilar|bihilar)"
    rf"|(?P<rib>{_RIB})(?=(?:[ ,-]*(?:{_RIB}|and|through|to|posterior|anterior|lateral|left|right))* ribs?\b))\b"
)
_NOT_HERE = re.compile(r"\b(?:sparing|spares|not (?:confined|limited|restricted) to|away from|other than in) [^,;]*")
_SEVERITY_WORDS = {
    "tiny": "tiny trace minimal minute subtle faint slight minuscule",
    "mild": "mild small mildly minor",
    "moderate": "moderate moderately medium",
    "severe": "severe large marked massive extensive severely markedly huge gross diffuse advanced considerable"
    " substantial",
}
_SEVERITY = {word: level for level, words in _SEVERITY_WORDS.items() for word in words.split()}
_LEVELS = ("tiny", "mild", "moderate", "severe")
_SEVERITY_RE = re.compile(r"\b(?:" + "|".join(_SEVERITY) + r")(?:ly)?\b")
# Degrees of a change or of a comparison, not of the finding: "slightly larger", "more extensive", "most marked in".
_DEGREE = re.compile(
    r"\b(?:more|most|less|least|as) (?:" + "|".join(_SEVERITY) + r")\b|\b(?:" + "|".join(_SEVERITY) + r")(?:ly)?"
    r"(?: interval)? (?:larger|smaller|bigger|wors\w+|improv\w+|increas\w+|decreas\w+|progress\w+|regress\w+"
    r"|reduc\w+|more"
    r"|less|chang\w+|better|denser|resol\w+|clearing|grown|growth|decline|shift)\b"
)

_STATIC = (
    r"(?:no|without|not|lack of)(?: (?:any|significant(?:ly)?|substantial(?:ly)?|appreciabl[ey]|definite(?:ly)?"
    r"|evident"
    r"|interval|obvious|relevant|acute|further|much|really|overall|major|marked(?:ly)?))*"
)
_GONE_PARTLY = r"(?:near(?:ly)?|almost|mostly|largely|partial(?:ly)?|partly|incomplete(?:ly)?)(?: complete(?:ly)?)?"
_CHANGE = re.compile(
    rf"\b(?:(?P<unchanged>{_STATIC} (?:chang(?:e[ds]?|ing)|difference|increas\w+|decreas\w+|progress\w+"
    rf"|improv\w+|wors\w+"
    r"|enlarge\w*|growth|grown|regress\w+|reduction|larger|bigger|smaller|better)|unchanged|stable|stationary|similar"
    r"|as before|persist(?:s|ed|ent|ing)|constant|again (?:seen|noted|demonstrated|identified|visuali[sz]ed"
    r"|present|shown)"
    r"|re-?demonstrat\w+|static|unaltered)"
    r"|(?P<new>new|newly|(?:interval )?(?:development|appearance) of|interval (?:placement|insertion)"
    r"|(?:has|have) (?:now |since )?(?:developed|appeared)|recurrent|recurrence of"
    r"|not (?:seen|present|visible|there|noted|identified) (?:on|in) (?:the |any |a )?"
    r"(?:prior|previous|earlier|last|older|old|comparison))"
    r"|(?P<increased>increas(?:ed?|ing|es)(?! (?:interstitial|density|densities|opacit\w+|marking\w*|lung|attenuation"
    r"|in density|vascular\w*|bronch\w*|thickness|in thickness|cardiothoracic|ap|retrosternal))|(?:larger"
    r"|bigger)(?! than \d)"
    r"|worse(?:n(?:ed|ing))?|progress(?:ed|ion|ing|ive)|enlarging|(?:has|have) (?:\w+ )?enlarged|grown|grew"
    r"|more (?:extensive|prominent|conspicuous|pronounced|marked|severe|dense)|interval enlargement)"
    r"|(?P<decreased>not as (?:dense|large|extensive|prominent|big|marked|severe|conspicuous)"
    r"|decreas(?:ed?|ing)(?! (?:lung|volume|inspir\w*|density|aeration|in height))|smaller(?! than \d)"
    rf"|improv(?:ed|ing|ement)|resolving|regress(?:ed|ion|ing)|diminished|{_GONE_PARTLY} (?:resolved|resolution"
    rf"|cleared"
    r"|clearing)|reduced|shr(?:unk|ank|inking|inkage)"
    r"|less(?: (?:extensive|prominent|conspicuous|pronounced|marked|severe|dense))?(?= \w)(?! (?:than|likely))))\b"
)
_DIGIT = re.compile(r"\d")
_GROWTH_MM = 2.0  # a difference that counts as growth: MacMahon et al. 2017, Radiology 284:228-243


class Attributes(NamedTuple):
    """What is said of one mention; None where nothing is said."""

    side: str | None = None
    location: str | None = None
    severity: str | None = None
    size_mm: float | None = None
    change: str | None = None


def side_in(text: str) -> str | None:
    """left, right, bilateral (also when both are named) or None; "the bases" are both unless one side is named."""
    return named_side(text) or ("bilateral" if _PAIRED.search(text) else None)


def named_side(text: str) -> str | None:
    """As `side_in`, by words for a side alone."""
    kinds = set()
    for match in _SIDE.finditer(text):
        kind = match.lastgroup
        kinds.add({"l": "left", "r": "right"}[match["letter"]] if kind == "letter" else kind)
    if "both" in kinds or {"left", "right"} <= kinds:
        return "bilateral"
    return "left" if "left" in kinds else "right" if "right" in kinds else None


def location_in(text: str) -> str | None:
    """The first lobe, lingula, zone, apex, base, hilum or rib, in canonical words ("upper lobe", "sixth rib")."""
    match = _LOCATION.search(text)
    if match is None:
        return None
    kind, words = match.lastgroup or "", match.group(match.lastgroup or 0)
    if kind in ("apex", "base", "hilum", "lingula"):
        return kind
    if kind == "short":
        return _LOBES[words]
    if kind == "lobe":
        return f"{words.split()[0]} lobe"
    if kind == "zone":
        return {"u": "upper zone", "m": "mid zone", "l": "lower zone"}[words[0]]
    number = int(re.sub(r"\D", "", words)) if words[0].isdigit() else _RIBS.index(words) + 1
    return f"{_RIBS[number - 1]} rib" if 1 <= number <= 12 else None


def severity_in(text: str) -> str | None:
    """The highest of tiny, mild, moderate, severe that is named."""
    found = [match.group() for match in _SEVERITY_RE.finditer(text)]
    levels = [_SEVERITY.get(word) or _SEVERITY[word.removesuffix("ly")] for word in found]
    return max(levels, key=_LEVELS.index) if levels else None


def size_in(text: str) -> float | None:
    """The largest stated extent in mm: "12 x 8 mm" is 12.0, "1.4 cm" is 14.0; distances and old sizes do not count."""
    sizes = [
        one.largest
        for one in measurements(text)
        if one.kind in ("size", "range") and one.unit == "mm" and not one.prior
    ]
    return max(sizes) if sizes else None


def change_in(text: str) -> str | None:
    """new, increased, decreased, unchanged or None; the first word that says so."""
    match = _CHANGE.search(text)
    return match.lastgroup if match else None


def measured_change(text: str) -> str | None:
    """What an old and a present size say: "11 mm, previously 8 mm" is increased; None below two millimetres."""
    lengths = [one for one in measurements(text) if one.unit == "mm" and one.kind in ("size", "range")]
    old = [one.largest for one in lengths if one.prior]
    now = [one.largest for one in lengths if not one.prior]
    if not old or not now:
        return None
    grown = max(now) - max(old)
    if abs(grown) < _GROWTH_MM:
        return "unchanged" if grown == 0 else None
    return "increased" if grown > 0 else "decreased"


def read_attributes(before: str, inside: str, after: str) -> Attributes:
    """Attributes from the words before, in and after a mention; the nearest side of the mention wins."""
    near = f"{before} {inside}"
    here = _NOT_HERE.sub("", after) if after else ""
    side = named_side(near) or (named_side(here) if here else None)
    if side is None and _PAIRED.search(f"{near} {here}"):
        side = "bilateral"
    size = change = None
    if _DIGIT.search(near) or _DIGIT.search(after):
        both = f"{before} | {after}"
        size, change = size_in(both), measured_change(both)
    return Attributes(
        side,
        location_in(near) or (location_in(here) if here else None),
        _level(before, inside) or (_level(after) if after else None),
        size,
        change_in(before) or (change_in(after) if after else None) or change,
    )


def _level(words: str, inside: str = "") -> str | None:
    """Severity in the words around or in a mention, those left out that tell the degree of a change."""
    text = f"{words} {inside}"
    if _SEVERITY_RE.search(text) is None:
        return None
    return severity_in(f"{_DEGREE.sub(' ', words)} {inside}")
