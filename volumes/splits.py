"""Splits by patient."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

SPLITS = ("train", "validation", "test")


def split_of(patient_key: str, fractions: Sequence[float], seed: int) -> str:
    """Split of one patient: HMAC-SHA256 keyed by the seed, as a number in [0, 1), against the running fractions."""
    digest = hmac.new(f"medvlm split {seed}".encode(), patient_key.encode(), hashlib.sha256).digest()
    number = int.from_bytes(digest[:8], "big") / 2**64
    if number < fractions[0]:
        return SPLITS[0]
    return SPLITS[1] if number < fractions[0] + fractions[1] else SPLITS[2]
