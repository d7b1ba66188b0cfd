"""Flags on what training and test share: patients, images, report texts.

What is held against what: the studies a model learned from (training and validation together) and those it is measured
on. A copy that goes with a shared patient is told once, as the patient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import fisher_exact

from evaluation.flags import Flag

ALPHA = 0.001
MARGIN = 0.005
"""Share of copied reports beyond what the style of the house explains."""
LONG = 15
"""Words from which on a report is held against others: below that, equal texts are a matter of style."""


@dataclass(frozen=True)
class Sources:
    """Whose studies: patients (N,) as keys; images (N,) digests of pixels, one or several a study joined by a space;
    reports (N,) texts. "" is unknown."""

    patients: Sequence[str]
    images: Sequence[str] = ()
    reports: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, given in (("images", self.images), ("reports", self.reports)):
            if len(given) not in (0, len(self.patients)):
                raise ValueError(f"there are {len(given)} {name} for {len(self.patients)} studies, expected one each")


def leak_flags(learned: Sources, measured: Sources) -> list[Flag]:
    """leak.patient, leak.image, leak.report, and test.repeated (one image under several patients of the test)."""
    known = set(learned.patients) - {""}
    rows = [row for row, patient in enumerate(measured.patients) if patient in known]
    flags = []
    if rows:
        people = len({measured.patients[row] for row in rows})
        total = len(set(measured.patients))
        flags.append(
            Flag(
                "leak.patient",
                "serious",
                f"{people} of {total} test patients ({len(rows)} of {len(measured.patients)} test studies) were also"
                " learned from.",
                "A model recognises a patient it has seen: every number on these studies is too good.",
                "Split by patient, and measure again without them.",
                {"n": len(measured.patients), "patients": people, "studies": len(rows)},
            )
        )
    flags += _image_leaks(learned, measured)
    flags += _report_leaks(learned, measured)
    flags += _repeated(measured)
    return flags


def _image_leaks(learned: Sources, measured: Sources) -> list[Flag]:
    owners = _owners(learned)
    rows = [
        row
        for row, digests in enumerate(measured.images)
        if any(owners.get(digest, set()) - {measured.patients[row]} for digest in digests.split())
    ]
    if not rows:
        return []
    return [
        Flag(
            "leak.image",
            "serious",
            f"{len(rows)} of {len(measured.images)} test studies have an image that was learned from under another"
            " patient key.",
            "The same pixels under two keys are one patient twice: the split by patient did not keep them apart.",
            "Find out which key is right, keep both studies on one side of the split, and measure again.",
            {"n": len(measured.images), "studies": len(rows)},
        )
    ]


def _report_leaks(learned: Sources, measured: Sources) -> list[Flag]:
    """Texts that exactly one patient of training has, beyond how often training repeats itself so.

    A template stands under many keys, a copy under one. Two patients may come to the same words by chance: how often is
    counted within training, each report against those of the other patients.
    """
    told, asked = _long_reports(learned), _long_reports(measured)
    if not told or not asked:
        return []
    writers: dict[str, set[str]] = defaultdict(set)
    for text, patient in told:
        writers[text].add(patient)
    repeated = sum(len(writers[text] - {patient}) == 1 for text, patient in told)
    shared = sum(len(writers.get(text, set())) == 1 and patient not in writers[text] for text, patient in asked)
    usual = repeated / len(told)
    table = [[shared, len(asked) - shared], [repeated, len(told) - repeated]]
    if shared / len(asked) - usual <= MARGIN or float(fisher_exact(table, "greater")[1]) >= ALPHA:
        return []
    return [
        Flag(
            "leak.report",
            "serious",
            f"{shared} of {len(asked)} test reports of {LONG} words or more ({shared / len(asked):.1%}) stand word by"
            f" word under one other patient key of training; by the style of the house it would be {usual:.1%}"
            f" (n={len(told)}).",
            "Equal texts beyond that mean that studies were copied between the splits.",
            "Hold the studies with equal texts against each other, and keep copies on one side of the split.",
            {"n": len(asked), "studies": shared, "by_style": usual},
        )
    ]


def _repeated(measured: Sources) -> list[Flag]:
    owners = _owners(measured)
    twice = {digest for digest, people in owners.items() if len(people) > 1}
    rows = sum(any(digest in twice for digest in digests.split()) for digests in measured.images)
    if not rows:
        return []
    return [
        Flag(
            "test.repeated",
            "warning",
            f"{rows} of {len(measured.images)} test studies share an image with a study of another patient key.",
            "One study counted twice makes n too large and the intervals too short.",
            "Keep one of each, or give both one patient key.",
            {"n": len(measured.images), "studies": rows},
        )
    ]


def _owners(sources: Sources) -> dict[str, set[str]]:
    """Patients under which each image digest stands; a blank image of a whole batch would stand under many."""
    owners: dict[str, set[str]] = defaultdict(set)
    for digests, patient in zip(sources.images, sources.patients, strict=False):
        for digest in digests.split():
            owners[digest].add(patient)
    return owners


def _long_reports(sources: Sources) -> list[tuple[str, str]]:
    """(words of the report in lower case, patient) of the reports that are long enough to compare."""
    rows = zip(sources.reports, sources.patients, strict=False)
    split = [(text.lower().split(), patient) for text, patient in rows]
    return [(" ".join(words), patient) for words, patient in split if len(words) >= LONG]
