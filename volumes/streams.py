"""Random numbers that depend on names, not on the order of calls."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(*names: object) -> np.random.Generator:
    """A counter-based generator keyed by `names`, for example `stream(seed, index, "ribs")`.

    The key of Philox (Salmon et al., SC 2011) is the start of the SHA-256 of the names, so two streams with different
    names are independent and a stream gives the same numbers in every process and in any order of calls.
    """
    digest = hashlib.sha256("\x1f".join(str(name) for name in names).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64)))


def subseed(*names: object) -> int:
    """A whole number below 2**62 keyed by `names`, to store in a state and to open further streams with."""
    digest = hashlib.sha256("\x1f".join(str(name) for name in names).encode()).digest()
    return int.from_bytes(digest[16:24], "little") >> 2
