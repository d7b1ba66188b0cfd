"""`medvlm compare`: two score cards on the same studies, side by side."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from evaluation.comparison_page import side_by_side


def command(a: Path, b: Path, out: Path | None = None, json: bool = False) -> None:
    """Print the comparison, and write it where `out` is given. Raises: ValueError where the studies differ."""
    both = side_by_side(a, b)
    if out is not None:
        both.write(out)
    if json:
        print(json_module.dumps(both.to_dict(), indent=1))
        return
    print(both.text())
    if out is not None:
        print(f"comparison: {out / 'comparison.html'}")
