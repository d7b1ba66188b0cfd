"""Sentences that no image can prove: technique, indication and comparison, checked against the header and the order."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reports.evidence import Evidence
from reports.verdict import Grounds, Judgement

HEADER_SECTIONS = ("technique", "indication", "comparison")

_MODALITY_WORDS = {
    "xray": r"radiographs?|x-?rays?|films?|cxr|portable",
    "ct": r"ct|cta|computed tomograph\w+|hrct",
    "mr": r"mri?|magnetic resonance\w*",
    "pet": r"pet|positron emission\w*",
    "us": r"ultraso\w+|sonogra\w+",
}
_FAMILY = {
    "CR": "xray",
    "DX": "xray",
    "DR": "xray",
    "RF": "xray",
    "XRAY": "xray",
    "CT": "ct",
    "MR": "mr",
    "PT": "pet",
    "US": "us",
}
_VIEW_WORDS = {"PA": r"pa|postero-?anterior", "AP": r"ap|antero-?posterior", "LATERAL": r"lateral|ll"}
_CONTRAST = r"contrast|enhanced|unenhanced|non-?contrast|iv\b"
_COUNT = re.compile(r"\b(one|single|two|1|2)[ -]views?\b", re.IGNORECASE)
_NO_PRIOR = r"\b(none|no (prior|previous|comparison)|not available|unavailable|without comparison)\b"


def judge_header(section: str, text: str, grounds: Grounds) -> Judgement:
    """Verdict on a sentence of a section in HEADER_SECTIONS. Its confidence stays None: a header has no probability."""
    if section == "comparison":
        return _comparison(text, grounds)
    if section == "indication":
        return _indication(text, grounds)
    return _technique(text, grounds)


def _technique(text: str, grounds: Grounds) -> Judgement:
    header = {key: value for key, value in grounds.header.items() if value}
    said_modalities = _mentioned(text, _MODALITY_WORDS)
    said_views = _mentioned(text, _VIEW_WORDS)
    count = _COUNT.search(text)
    if not said_modalities and not said_views and count is None:
        return Judgement("unsupported", "technique: states nothing that the header could confirm")
    evidence = tuple(
        Evidence("header", f"{key.replace('_', ' ')}: {header[key]}", by="DICOM header")
        for key in ("modality", "view", "body_part", "contrast")
        if key in header
    )
    have_modalities = {_FAMILY.get(m, m.lower()) for m in _items(header.get("modality", ""))}
    have_views = set(_items(header.get("view", "")))
    said_count = 0 if count is None else 2 if count[1].lower() in {"two", "2"} else 1
    wrong = [
        f"says {', '.join(sorted(said - have))}, the header says {', '.join(sorted(have))}"
        for said, have in ((said_modalities, have_modalities), (said_views, have_views))
        if have and said - have
    ]
    if said_count and have_views and said_count != len(have_views):
        wrong.append(f"says {said_count} view(s), the header gives {len(have_views)}")
    if wrong:
        return Judgement("contradicted", f"technique: {'; '.join(wrong)}", None, evidence)
    unknown = [
        name
        for name, said, have in (
            ("modality", said_modalities, have_modalities),
            ("view", said_views or said_count, have_views),
        )
        if said and not have
    ]
    if re.search(rf"\b({_CONTRAST})", text, re.IGNORECASE) and "contrast" not in header:
        unknown.append("contrast")
    if unknown:
        return Judgement("unsupported", f"technique: the header does not give {', '.join(unknown)}", None, evidence)
    return Judgement("supported", "technique: as in the header", None, evidence)


def _indication(text: str, grounds: Grounds) -> Judgement:
    given = grounds.header.get("indication", "")
    if given and set(_words(text)) <= set(_words(given)) | {"indication", "history", "clinical"}:
        evidence = (Evidence("header", f"indication: {given}", by="order"),)
        return Judgement("supported", "indication: as in the order", None, evidence)
    found = "the order gives another indication" if given else "no order was read"
    return Judgement("unsupported", f"indication: {found}")


def _comparison(text: str, grounds: Grounds) -> Judgement:
    says_none = re.search(_NO_PRIOR, text, re.IGNORECASE) is not None
    if says_none != grounds.has_prior:
        found = "prior study read" if grounds.has_prior else "no prior study was given"
        return Judgement("supported", f"comparison: {found}", None, (Evidence("header", found, by="request"),))
    if says_none:
        return Judgement("contradicted", "comparison: says there is no prior study, but one was read")
    return Judgement("unsupported", "comparison: names a prior study, but none was read")


def _mentioned(text: str, words: dict[str, str]) -> set[str]:
    return {name for name, pattern in words.items() if re.search(rf"\b({pattern})\b", text, re.IGNORECASE)}


def _items(value: str) -> Iterable[str]:
    return (item.strip().upper() for item in re.split(r"[,;/\\]| and ", value) if item.strip())


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
