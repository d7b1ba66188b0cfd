"""Dealing reports to parts by a keyed hash, so that a split depends on the key of a report and on nothing else."""

from __future__ import annotations

import hashlib


def share_of(key: str, purpose: str) -> float:
    """A number in [0, 1) that looks random and is always the same for a key and a purpose."""
    digest = hashlib.blake2b(key.encode(), key=purpose.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
