"""Which modality a report speaks of, where its source says so: DICOM codes, HL7 table 0074, and names of procedures."""

from __future__ import annotations

import re

_OTHER_CODES = {
    "NMR": "MR", "MRI": "MR", "RUS": "US", "VUS": "US", "CUS": "US", "OUS": "US", "NMS": "NM", "RX": "DX", "XR": "DX",
    "XRAY": "DX", "X-RAY": "DX", "DR": "DX", "MAM": "MG", "PET": "PT", "CTA": "CT", "MRA": "MR", "CAT": "CT",
    "SONO": "US", "XRC": "RF",
}  # fmt: skip
_CODES = frozenset(
    ("CR", "CT", "DX", "IO", "IVUS", "MG", "MR", "NM", "OCT", "OPT", "PT", "PX", "RF", "RG", "SC", "US", "XA", "BMD")
)
_FIRST_WORD = re.compile(r"\s*(CTA?|MR[IA]?|XR|X-?RAY|CR|DX|US|SONO|PET|MG|NM)\b", re.IGNORECASE)


def modality_code(stated: str) -> str:
    """The DICOM code of what a message states, or nothing: "RAD" (radiology) says no more than that."""
    word = stated.strip().upper()
    return word if word in _CODES else _OTHER_CODES.get(word, "")


def procedure_modality(name: str) -> str:
    """The DICOM code at the beginning of a procedure's name ("CT chest with contrast"), or nothing."""
    found = _FIRST_WORD.match(name[:80])
    return modality_code(found[1]) if found else ""


def same_modality(stated: str, word: str) -> bool:
    """Whether a DICOM code and the catalog's word for a study ("xray", "ct", ...) mean one kind of examination."""
    films = ("CR", "DX", "DR", "RG", "RF", "SC")
    return word == ("xray" if stated.upper() in films else stated.lower())
