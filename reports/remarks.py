"""What a report says besides findings: recommendations, calls to the ward, earlier studies, and what no image shows."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, cast

from reports.sections import section_sentences

_NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"a": 1, "an": 1} | {name: at for at, name in enumerate(_NAMES, 1)}
_DAYS = {"day": 1.0, "week": 7.0, "month": 30.4375, "year": 365.25}
_COUNT = rf"(?:\d+|{'|'.join(_NUMBERS)})"
_INTERVAL = re.compile(
    rf"\b(?P<low>{_COUNT})(?: ?(?:-|–|to|or) ?(?P<high>{_COUNT}))?[ -](?P<unit>day|week|month|year)s?\b"
    rf"|\b(?P<annual>annual(?:ly)?|yearly)\b",
    re.IGNORECASE,
)
_MODALITIES: dict[str, str] = {
    "CT": r"ct|computed tomograph\w+|cta|hrct|ldct",
    "MR": r"mri?|magnetic resonance\w*|mrcp|mra",
    "PET": r"pet(?:[/-]ct)?|positron\w*",
    "US": r"ultrasound|ultrasonograph\w+|sonograph\w+|us|echocardiogra\w+|doppler",
    "XR": r"radiographs?|x-?rays?|(?:chest |plain )?films?|(?:pa and lateral |lateral |oblique "
    r"|dedicated )views?|radiography|cxr",
    "MG": r"mammogra\w+",
    "NM": r"bone scan|scintigraph\w+|v/q scan",
    "biopsy": r"biops\w+|tissue sampling|fine[- ]needle\w*|thoracentesis|bronchoscop\w+|endoscop\w+",
}
_MODALITY = re.compile(
    r"\b(?:" + "|".join(f"(?P<{name}>{words})" for name, words in _MODALITIES.items()) + r")\b", re.IGNORECASE
)
_ADVISES = re.compile(
    r"\b(?:recommend\w*|advis\w+|suggest(?:ed)? (?:follow|further|repeat|obtain)\w*|should be (?:obtained"
    r"|performed|considered|repeated)"
    r"|consider (?:\w+ ){0,3}(?:ct|mri?|follow|repeat|correlation|biopsy|ultrasound|dedicated|further)"
    r"|follow[- ]?up (?:\w+ ){0,4}"
    r"(?:in|within|to|after|is|may|should)|(?:is|are|may be|would be) (?:\w+ )?(?:warranted|helpful|indicated"
    r"|useful|needed)"
    r"|further (?:evaluation|work-?up|imaging|assessment)|repeat (?:\w+ ){0,3}(?:in|after|to|within)"
    r"|correlat(?:e|ion)\b"
    r"|surveillance|please (?:obtain|repeat|follow))",
    re.IGNORECASE,
)
_DECLINES = re.compile(
    r"\bno (?:further |routine |specific |additional )*(?:follow[- ]?up|imaging|work-?up"
    r"|evaluation|surveillance)\b",
    re.IGNORECASE,
)
_CONDITION = re.compile(r"\b(?:if|when|should|as clinically|unless|in case)\b[^.;]*", re.IGNORECASE)
_TOLD = re.compile(
    r"\b(?:discussed|communicated|relayed|conveyed|telephoned|phoned|paged|called|notified|informed|reported"
    r"|made aware|aware of)\b"
    r"(?=.{0,60}\b(?:dr|doctor|nurse|physician|clinician|surgeon|team|ward|department|phone|telephone|provider"
    r"|emergency|icu|by|with"
    r"|to|at)\b)|\b(?:by|via|over the) (?:tele)?phone\b|\bread[- ]?back\b|\bverbal(?:ly)? (?:report|result"
    r"|communicat)\w*",
    re.IGNORECASE,
)
_CRITICAL = re.compile(
    r"\b(?:critical|urgent\w*|emergent\w*|immediate\w*|stat|life[- ]threatening|unexpected"
    r"|actionable)\b",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"\b(?:[01]?\d|2[0-3])[:.]?[0-5]\d ?(?:a\.?m\.?|p\.?m\.?|hours|hrs|h)?\b(?! ?(?:mm|cm))", re.IGNORECASE
)
_PRIOR = re.compile(
    r"\b(?:prior|previous(?:ly)?|earlier|interval|compared (?:to|with)|comparison|since|unchanged|stable|again"
    r"|no longer|increased"
    r"|decreased|improv\w+|worse\w*|resolv\w+|progress\w+|new|persist\w+|removed|last (?:exam|study|film|ct|year"
    r"|week|month))\b",
    re.IGNORECASE,
)

Unseen = Literal["history", "communication", "recommendation", "signature", "dictation", "technique"]
_UNSEEN: tuple[tuple[Unseen, re.Pattern[str]], ...] = (
    ("signature", re.compile(r"\b(?:electronically |digitally )?(?:signed|dictated|transcribed|verified|approved"
        r"|finalized) (?:by|and)\b|\battending radiologist\b|\bend of report\b", re.IGNORECASE)),
    ("dictation", re.compile(r"\b(?:voice|speech)[- ]recognition\b|\bdictation\b|\btypographical\b"
        r"|\btranscription\b", re.IGNORECASE)),
    ("communication", _TOLD),
    ("history", re.compile(
        r"\b(?:histor(?:y|ies) of|h/o|family history|complain\w*|presents? with|presented with|(?:is|was) (?:a "
        r"|an )?(?:\w+ )?smoker"
        r"|year[- ]old|symptom\w*|fever|cough(?:ing)?|shortness of breath|dyspn\w+|chest pain|admitted|allerg\w+"
        r"|(?:mother|father"
        r"|brother|sister) (?:had|has|with|died)|patient (?:reports?|states|denies|had|has a history))\b",
        re.IGNORECASE)),
    ("technique", re.compile(
        r"\b(?:was|were) (?:obtained|acquired|performed|administered)\b|\bintravenous contrast\b|\b(?:pa|ap"
        r"|frontal) and lateral"
        r" (?:views?|radiographs?|films?) (?:of|were)\b|\breconstruct(?:ed|ions)\b", re.IGNORECASE)),
)  # fmt: skip


class Recommendation(NamedTuple):
    """An advice of the report: what to do, when (days from now, first and last), on which condition.

    `modality`: CT, MR, PET, US, XR, MG, NM, biopsy or None where none is named; `sentence` counts as in
    `reports.sections.sentences`; `declined` for "no follow-up is needed".
    """

    modality: str | None
    days: tuple[float, float] | None
    condition: str | None
    declined: bool
    sentence: int


class Communication(NamedTuple):
    """A result that was told to somebody: is it called critical, is a time given. Names are not kept."""

    critical: bool
    timed: bool
    sentence: int


def recommendations(text: str) -> tuple[Recommendation, ...]:
    """The recommendations of a report: "follow-up CT in 3 months" is CT within (91, 91) days."""
    found = []
    for index, (section, sentence) in enumerate(section_sentences(text)):
        if section in ("indication", "technique", "comparison", "signature"):
            continue
        declined = _DECLINES.search(sentence) is not None
        if not declined and section != "recommendation" and _ADVISES.search(sentence) is None:
            continue
        modality = _MODALITY.search(sentence)
        condition = _CONDITION.search(sentence)
        found.append(
            Recommendation(
                modality.lastgroup if modality else None,
                interval_days(sentence),
                condition.group().rstrip(" .,") if condition else None,
                declined,
                index,
            )
        )
    return tuple(found)


def interval_days(text: str) -> tuple[float, float] | None:
    """The first interval of a text in days: "3-6 months" is (91, 183), "annual" (365, 365); None without one."""
    for match in _INTERVAL.finditer(text):
        if re.match(r"[ -](?:old|ago|history)", text[match.end() :], re.IGNORECASE):
            continue
        if match["annual"]:
            return 365.0, 365.0
        unit = _DAYS[match["unit"].lower()]
        low, high = (_count(match[end]) for end in ("low", "high"))
        return round((low or 0) * unit), round((high or low or 0) * unit)
    return None


def communications(text: str) -> tuple[Communication, ...]:
    """Where a report says that a result was told to somebody, or that it must be."""
    return tuple(
        Communication(
            _CRITICAL.search(sentence) is not None or section == "communication",
            _CLOCK.search(sentence) is not None,
            index,
        )
        for index, (section, sentence) in enumerate(section_sentences(text))
        if section == "communication" or (section not in ("indication", "signature") and _TOLD.search(sentence))
    )


def speaks_of_prior(sentence: str) -> bool:
    """Whether a sentence can only be understood with an earlier study beside it."""
    return _PRIOR.search(sentence) is not None


def not_in_image(sentence: str, section: str = "findings") -> Unseen | None:
    """Why no image shows what this sentence says (history, a phone call, an advice ...); None where one can show it."""
    if section in ("indication", "technique", "communication", "recommendation", "signature"):
        return "history" if section == "indication" else cast(Unseen, section)
    for reason, words in _UNSEEN:
        if words.search(sentence):
            return reason
    return "recommendation" if _ADVISES.search(sentence) or _DECLINES.search(sentence) else None


def _count(written: str | None) -> int | None:
    if written is None:
        return None
    return int(written) if written.isdigit() else _NUMBERS[written.lower()]
