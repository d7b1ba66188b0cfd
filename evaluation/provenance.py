"""Which code made a number: versions of what computes it, and one digest of the metrics' own source."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

_LIBRARIES = ("numpy", "scipy", "torch")


@cache
def metrics_digest() -> str:
    """sha256 (16 hex digits) of the source of this package: equal digests compute equal numbers."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_bytes()
        digest.update(path.name.encode() + b"\0" + len(text).to_bytes(8, "big") + text)
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """What computed the numbers, for a card's provenance: the metrics' digest, Python and the libraries."""
    found = {"metrics_digest": metrics_digest(), "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
