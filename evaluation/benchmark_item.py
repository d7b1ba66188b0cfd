"""One item of a public benchmark, and what a reader collects about a folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.benchmark_regions import Box, Mask

PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED = 1.0, 0.0, -1.0, math.nan
"""Values of a label. Uncertain and not mentioned are two things, and neither is absent."""


class BenchmarkError(ValueError):
    """A folder that is not the benchmark it should be; the message says what was found and what was expected."""


@dataclass(frozen=True)
class Item:
    """One row of a benchmark: an image, a study, a report, a question, a phrase or a pair of reports.

    `images` are paths relative to the folder, with "/"; "table.tsv#7" is an image stored inside a table. `patient` is
    the benchmark's own pseudonym, empty where it tells none. `labels` map a finding to PRESENT, ABSENT, UNCERTAIN or
    NOT_MENTIONED, `readings` hold what each reader or labeller said. `options` map a letter to its text; `answer` is
    the letter where there are options. `details` are what else the benchmark tells, as text.
    """

    id: str
    split: str
    images: tuple[str, ...] = ()
    patient: str = ""
    study: str = ""
    view: str = ""
    labels: Mapping[str, float] = field(default_factory=dict)
    readings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    masks: tuple[Mask, ...] = ()
    text: str = ""
    sections: Mapping[str, str] = field(default_factory=dict)
    question: str = ""
    answer: str = ""
    answer_type: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Reading:
    """What a reader found: a roster of everything, and items of the splits that are wanted.

    The roster holds (item, split, patient) of all splits whose tables are there, so that a patient in two splits is
    found even when one split is read. `files` are the tables that were read; `notes` say what was left out.
    """

    wanted: Callable[[str], bool]
    folder: Path
    version: str = ""
    items: list[Item] = field(default_factory=list)
    roster: list[tuple[str, str, str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lists(self, item: str, split: str, patient: str = "") -> bool:
        """Enter an item into the roster; True if its split is wanted, so that the rest of it is worth reading."""
        self.roster.append((item, split, patient))
        return self.wanted(split)


Read = Callable[[Reading], None]
"""A reader fills the `Reading` that it is given. Raises: BenchmarkError."""
