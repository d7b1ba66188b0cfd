"""What a run of de-identification did, file by file and in sum, without a value of any original."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["written", "duplicate", "quarantined"]


@dataclass(frozen=True)
class FileRecord:
    """One line of the audit: what became of one file. `input` is a keyed digest of where it was, its size and time."""

    input: str
    status: Status
    reason: str = ""  # why it was quarantined
    output: str = ""  # relative to the output folder
    digest: str = ""  # keyed, of the bytes that were read
    actions: dict[str, int] = field(default_factory=dict)
    odd: dict[str, int] = field(default_factory=dict)
    blanked: tuple[tuple[int, int, int, int], ...] = ()  # first row, first column, row and column after the last
    pixels: str = ""  # "checked", "not checked"; then what else happened to them
    profile: str = ""


@dataclass(frozen=True)
class Audit:
    """What a run did. `quarantined` names the files that were left out; it stays in memory, for those who may know."""

    folder: Path
    records: tuple[FileRecord, ...]
    quarantined: tuple[tuple[str, str], ...] = field(repr=False)
    skipped: int = 0

    def counts(self) -> dict[str, int]:
        """Files by status, and the areas that were blanked."""
        found = Counter(record.status for record in self.records)
        blanked = sum(len(record.blanked) for record in self.records)
        return {
            "written": found["written"],
            "duplicate": found["duplicate"],
            "quarantined": found["quarantined"],
            "skipped": self.skipped,
            "areas blanked": blanked,
        }

    def reasons(self) -> dict[str, int]:
        """Quarantined files by reason."""
        return dict(Counter(r.reason for r in self.records if r.status == "quarantined").most_common())

    def to_dict(self) -> dict[str, Any]:
        """For machines; no value of an original is in it."""
        return {"folder": str(self.folder), **self.counts(), "reasons": self.reasons(), "actions": self.actions()}

    def actions(self) -> dict[str, int]:
        """How often each action was taken, over all files."""
        found: Counter[str] = Counter()
        for record in self.records:
            found.update(record.actions)
            found.update({f"odd value: {name}": count for name, count in record.odd.items()})
        return dict(found.most_common())

    def text(self) -> str:
        """For people."""
        lines = [f"{self.folder}: " + ", ".join(f"{count} {name}" for name, count in self.counts().items())]
        lines += [f"  {count:7d} quarantined  {reason}" for reason, count in self.reasons().items()]
        lines += [f"  {count:7d} x  {name}" for name, count in self.actions().items()]
        lines.append(
            "Everything that the rules know was removed. What they do not know (a face in a head CT, a rare disease, a"
            " date written in words) can remain: read a sample before the data leave the house."
        )
        return "\n".join(lines)
