"""Side, place, severity, size and change, read from the words around a mention."""

from __future__ import annotations

import re
from typing import NamedTuple

_SIDE = re.compile(
    r"\b(?:(?P<both>bilateral(?:ly)?|both|bibasilar|bibasal|biapical|left and right|right and left"
    r"|(?:lung|pulmonary) (?:bases|apices)|hila)"
    r"|(?P<left>left|lul|lll|lingula\w*)|(?P<right>right|rul|rml|rll|middle lobe))\b"
    r"(?![- ]*(?:atri\w+|ventric\w+|heart|main(?:stem)? bronch\w+|mainstem))"
)
_LOBES = {"rul": "upper lobe", "lul": "upper lobe", "rml": "middle lobe", "rll": "lower lobe", "lll": "lower lobe"}
_RIBS = (
    *("first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"),
)
_LOCATION = re.compile(
    r"\b(?:(?P<lobe>(?:upper|middle|lower) lobe)s?|(?P<short>rul|lul|rml|rll|lll)|(?P<zone>(?:upper|mid(?:dle)?|lower)"
    r" (?:lung )?(?:zone|field)|(?:upper|mid|lower) lung)s?|(?P<lingula>lingula\w*)"
    r"|(?P<apex>apex|apices|apical\w*|biapical)|(?P<base>base|bases|basal|basilar|bibasilar|bibasal|retrocardiac)"
    r"|(?P<hilum>hilum|hila|hilar|perihilar|parahilar)"
    rf"|(?P<rib>{'|'.join(_RIBS)}|\d{{1,2}}(?:st|nd|rd|th))(?: posterior| anterior| lateral)* ribs?)\b"
)
_SEVERITY_WORDS = {
    "tiny": "tiny trace minimal minute subtle faint slight",
    "mild": "mild small mildly minor",
    "moderate": "moderate moderately medium",
    "severe": "severe large marked massive extensive severely markedly huge gross diffuse",
}
_SEVERITY = {word: level for level, words in _SEVERITY_WORDS.items() for word in words.split()}
_LEVELS = ("tiny", "mild", "moderate", "severe")
_SEVERITY_RE = re.compile(r"\b(?:" + "|".join(_SEVERITY) + r")(?:ly)?\b")

_NUMBER = r"\d+(?:[.,]\d+)?"
_SIZE = re.compile(
    rf"(?<![\d.,-])(?P<numbers>{_NUMBER}(?: ?(?:mm|cm)?\.? ?(?:x|×|by) ?{_NUMBER}){{0,2}})[ -]?(?P<unit>mm|cm"
    rf"|millimet\w+"
    r"|centimet\w+)\b"
)
# A number that is a distance or an old size, not the size of the finding now.
_NOT_SIZE_AFTER = re.compile(
    r"\s*(?:above|below|from the|proximal|distal|beyond|superior to|deep to|previously|before|thick sections|slice)"
)
_NOT_SIZE_BEFORE = re.compile(
    r"(?:previous(?:ly)?|prior|formerly|was|were|from|used to (?:be|measure))(?: (?:measured|measuring|about"
    r"|a))?[ (:,]*$"
    r"|(?:larger|greater|more|bigger|smaller|less) than ?$|> ?$"
)

_STATIC = (
    r"(?:no|without|not)(?: (?:any|significant(?:ly)?|substantial(?:ly)?|appreciabl[ey]|definite|evident|interval"
    r"|obvious|relevant))*"
)
_CHANGE = re.compile(
    rf"\b(?:(?P<unchanged>{_STATIC} (?:change[ds]?|difference|increase|progression)|unchanged|stable|stationary|similar"
    r"|as before|persist(?:s|ent|ing)|constant)"
    r"|(?P<new>new|newly|interval development|has developed|have developed)"
    r"|(?P<increased>increas(?:ed?|ing|es)(?! (?:interstitial|density|densities|opacit\w+|marking\w*|lung"
    r"|attenuation|in density"
    r"|vascular\w*|bronch\w*|thickness|in thickness|cardiothoracic|ap|retrosternal))|larger|bigger|worse(?:n(?:ed"
    r"|ing))?|progress(?:ed|ion|ing|ive)"
    r"|enlarging|grown|more (?:extensive|prominent|conspicuous)|interval enlargement)"
    r"|(?P<decreased>decreas(?:ed?|ing)(?! (?:lung|volume|inspir\w*|density|aeration|in height))|smaller"
    r"|improv(?:ed|ing|ement)|resolving"
    r"|regress(?:ed|ion|ing)|diminished|partial(?:ly)? (?:resolved|resolution)|reduced|less (?:extensive"
    r"|prominent|conspicuous)))\b"
)


class Attributes(NamedTuple):
    """What is said of one mention; None where nothing is said."""

    side: str | None = None
    location: str | None = None
    severity: str | None = None
    size_mm: float | None = None
    change: str | None = None


def side_in(text: str) -> str | None:
    """left, right, bilateral (also when both are named) or None."""
    kinds = {match.lastgroup for match in _SIDE.finditer(text)}
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
    if kind == "zone":
        return {"u": "upper zone", "m": "mid zone", "l": "lower zone"}[words[0]]
    if kind == "rib":
        number = int(re.sub(r"\D", "", words)) if words[0].isdigit() else _RIBS.index(words) + 1
        return f"{_RIBS[number - 1]} rib" if 1 <= number <= 12 else None
    return words


def severity_in(text: str) -> str | None:
    """The highest of tiny, mild, moderate, severe that is named."""
    found = [match.group() for match in _SEVERITY_RE.finditer(text)]
    levels = [_SEVERITY.get(word) or _SEVERITY[word.removesuffix("ly")] for word in found]
    return max(levels, key=_LEVELS.index) if levels else None


def size_in(text: str) -> float | None:
    """The largest stated extent in mm: "12 x 8 mm" is 12.0, "1.4 cm" is 14.0; distances and old sizes do not count."""
    sizes = []
    for match in _SIZE.finditer(text):
        if _NOT_SIZE_AFTER.match(text, match.end()) or _NOT_SIZE_BEFORE.search(text[: match.start()]):
            continue
        scale = 10.0 if match["unit"].startswith("c") else 1.0
        numbers = re.findall(_NUMBER, match["numbers"])
        sizes.append(max(round(float(number.replace(",", ".")) * scale, 3) for number in numbers))
    return max(sizes) if sizes else None


def change_in(text: str) -> str | None:
    """new, increased, decreased, unchanged or None; the first word that says so."""
    match = _CHANGE.search(text)
    return match.lastgroup if match else None


def read_attributes(before: str, inside: str, after: str) -> Attributes:
    """Attributes from the words before, in and after a mention; the nearest side of the mention wins."""
    near = f"{before} {inside}"
    return Attributes(
        side_in(near) or side_in(after),
        location_in(near) or location_in(after),
        severity_in(near) or severity_in(after),
        size_in(f"{before} | {after}"),
        change_in(before) or change_in(after),
    )
