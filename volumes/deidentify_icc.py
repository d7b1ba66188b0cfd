"""A colour profile without its texts: ICC.1 profiles name their maker, and can name anybody else."""

from __future__ import annotations

_HEADER_BYTES = 128
_ENTRY_BYTES = 12
_MOST_TAGS = 200
_COLOUR_TAGS = frozenset(
    b"rXYZ gXYZ bXYZ wtpt bkpt rTRC gTRC bTRC kTRC chad chrm lumi gamt A2B0 A2B1 A2B2 B2A0 B2A1 B2A2 D2B0 B2D0".split()
)


def icc_without_texts(profile: bytes) -> bytes | None:
    """The profile with zeros where it does not describe colour, as long as before; None when it is no profile."""
    if len(profile) < _HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        return None
    count = int.from_bytes(profile[_HEADER_BYTES : _HEADER_BYTES + 4], "big")
    end = _HEADER_BYTES + 4 + count * _ENTRY_BYTES
    if count > _MOST_TAGS or end > len(profile):
        return None
    kept = bytearray(len(profile))
    kept[:end] = profile[:end]
    kept[24:36] = bytes(12)  # when it was made
    kept[80:_HEADER_BYTES] = bytes(_HEADER_BYTES - 80)  # who made it, its digest, and bytes that nobody uses
    for place in range(_HEADER_BYTES + 4, end, _ENTRY_BYTES):
        start, size = (int.from_bytes(profile[place + n : place + n + 4], "big") for n in (4, 8))
        colour = profile[place : place + 4] in _COLOUR_TAGS
        last = min(len(profile), start + (size if colour else 8))  # of a text its kind alone
        if start >= end:
            kept[start:last] = profile[start:last]
    return bytes(kept)
