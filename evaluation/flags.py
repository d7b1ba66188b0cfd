"""Flags: what on a score card must not be overlooked, each with what was found, why it matters and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Severity = Literal["serious", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""Worst first. serious: a number on the card does not mean what it says, or patients would be harmed where the model is
used. warning: this may be so. note: a reader should know."""


@dataclass(frozen=True)
class Flag:
    """One warning of a score card.

    `name` is dotted and stable ("leak.patients"); `found` is one sentence with its numbers and their n; `why` says why
    that matters; `do` says what to do about it; `numbers` holds the evidence for programs. No patient's name or ID.
    """

    name: str
    severity: Severity
    found: str
    why: str
    do: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"flag {self.name!r} has severity {self.severity!r}, expected one of {SEVERITIES}")
        for part in ("name", "found", "why", "do"):
            if not getattr(self, part).strip():
                raise ValueError(f"flag {self.name!r} has an empty {part!r}: a flag says what, why and what to do")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; nan is written as null."""
        numbers = {key: float(value) if math.isfinite(value) else None for key, value in self.numbers.items()}
        return {
            "name": self.name,
            "severity": self.severity,
            "found": self.found,
            "why": self.why,
            "do": self.do,
            "numbers": numbers,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Flag:
        """Read what `to_dict` wrote. Raises: ValueError that names what is missing or wrong."""
        try:
            numbers = {str(key): math.nan if v is None else float(v) for key, v in row.get("numbers", {}).items()}
            name, found, why, do = (str(row[key]) for key in ("name", "found", "why", "do"))
            return cls(name, row["severity"], found, why, do, numbers)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a flag: {error!r}; expected name, severity, found, why, do, numbers") from error


def worst_first(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Flags by severity, then by name; one that was found twice in the same words is kept once."""
    kept = {(flag.name, flag.found): flag for flag in flags}
    return tuple(sorted(kept.values(), key=lambda flag: (SEVERITIES.index(flag.severity), flag.name, flag.found)))
