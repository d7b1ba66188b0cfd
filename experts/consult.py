"""Ask experts about one image. Whoever declines or fails is in the answer, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from experts.card import ExpertCard
from experts.catalog import cards, find
from experts.measure import Measurement
from reports.findings import Finding
from volumes.volume import Film, Volume, VolumeError


class ExpertReport(NamedTuple):
    """How one expert fared. `reason` holds what it noted if it answered, and why not if it did not."""

    expert: str
    ok: bool
    reason: str


@dataclass(frozen=True)
class Consultation:
    """What all experts said together, and how each fared."""

    findings: tuple[Finding, ...]
    measurements: tuple[Measurement, ...]
    reports: tuple[ExpertReport, ...]


def consult(names: Sequence[str] | None, image: Volume | Film) -> Consultation:
    """Ask the named experts, or all (None), about a volume or a film.

    An expert that declines the image, cannot be loaded, or breaks, does not stop the others: `reports` says which and
    why. Raises: KeyError for a name that no card has, before anybody is asked.
    """
    asked = cards() if names is None else [find(name) for name in names]
    findings: list[Finding] = []
    measurements: list[Measurement] = []
    reports: list[ExpertReport] = []
    for card in asked:
        report, found, measured = _ask(card, image)
        reports.append(report)
        findings += found
        measurements += measured
    return Consultation(tuple(findings), tuple(measurements), tuple(reports))


def _ask(card: ExpertCard, image: Volume | Film) -> tuple[ExpertReport, tuple[Finding, ...], tuple[Measurement, ...]]:
    try:
        refusal = card.takes.refusal(image)
        if refusal is not None:
            raise refusal
        opinion = card.expert().look(image)
    except VolumeError as error:
        return ExpertReport(card.name, False, f"{error.reason}: {error}"), (), ()
    except Exception as error:  # somebody else's code may fail in any way; the failure is reported, never dropped
        return ExpertReport(card.name, False, f"failed: {type(error).__name__}: {error}"), (), ()
    said = f"{len(opinion.findings)} finding(s), {len(opinion.measurements)} measurement(s)"
    return ExpertReport(card.name, True, "; ".join((said, *opinion.notes))), opinion.findings, opinion.measurements
