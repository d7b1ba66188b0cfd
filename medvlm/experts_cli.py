"""`medvlm experts`: list the cards, or ask one expert about a study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from experts.card import ExpertCard, ExpertError, listing
from experts.catalog import cards, find
from experts.consult import Consultation, consult
from experts.measure import Measurement
from reports.findings import Finding
from volumes.study import Reading, Series, Study, read_study

NOTICE = "Draft for review by a radiologist. Not a diagnosis."


def list_experts(as_json: bool = False) -> None:
    """Print one line per expert, or every card as one JSON object; no expert's code is imported."""
    if as_json:
        print(json.dumps({"experts": [asdict(card) for card in cards()]}, indent=2))
        return
    print(listing(cards()))
    for card in cards():
        print(f"\n{card.name} is not for {card.not_for}.")
        print(f"  licence {card.licence}; network {card.network}; {card.source}")


def run_expert(name: str, study: Path, as_json: bool = False, **reading: Unpack[Reading]) -> None:
    """Ask one expert about every suitable series of a study, and print what it says.

    Raises:
        KeyError: No expert has that name.
        ExpertError: The study has no series for this expert, or it declined all of them; says why.
    """
    card = find(name)
    opened = read_study(study, **reading)
    answers = [(series, consult([name], series.read())) for series in suitable(opened, card)]
    doubts = opened.subject_check()
    if as_json:
        print(json.dumps(answer_json(opened, card, answers, doubts), indent=2))
    else:
        print(answer_text(opened, card, answers, doubts))
    reasons = [report.reason for _, answer in answers for report in answer.reports if not report.ok]
    if len(reasons) == len(answers):
        raise ExpertError(f"{name} declined every series of study {opened.study_uid}: {'; '.join(reasons)}", "declined")


def suitable(study: Study, card: ExpertCard) -> list[Series]:
    """The series of the expert's modality; of volumes the main one, since a study holds many reformats of one scan."""
    found = [series for series in study.series if series.modality in card.takes.modality]
    if not found:
        present = ", ".join(sorted({series.modality for series in study.series})) or "no image"
        wanted = " or ".join(card.takes.modality)
        raise ExpertError(f"study {study.study_uid} has {present}; {card.name} takes {wanted}", "wrong-modality")
    if card.takes.kind == "volume" and len(found) > 1:
        return [study.main_series()]
    if card.takes.views:
        return [series for series in found if series.view in card.takes.views] or found
    return found


def answer_text(
    study: Study, card: ExpertCard, answers: Sequence[tuple[Series, Consultation]], doubts: Sequence[str]
) -> str:
    """The answers for people: per series the findings, the measurements with units, and what the expert noted."""
    lines = [f"study {study.study_uid}, expert {card.name} {card.version}", NOTICE, f"Not for {card.not_for}."]
    lines += [f"doubt: {doubt}" for doubt in doubts]
    for series, answer in answers:
        lines += ["", f"series {series.series_uid} ({series.modality} {series.view})"]
        lines += [f"  {describe(finding)}" for finding in answer.findings]
        lines += [f"  {measurement}" for measurement in answer.measurements]
        lines += [f"  {'noted' if report.ok else 'declined'}: {report.reason}" for report in answer.reports]
    return "\n".join(lines)


def answer_json(
    study: Study, card: ExpertCard, answers: Sequence[tuple[Series, Consultation]], doubts: Sequence[str]
) -> dict[str, Any]:
    """The answers for programs."""
    return {
        "study_uid": study.study_uid,
        "expert": card.name,
        "version": card.version,
        "notice": NOTICE,
        "not_for": card.not_for,
        "doubts": list(doubts),
        "series": [
            {
                "series_uid": series.series_uid,
                "ok": all(report.ok for report in answer.reports),
                "reasons": [report.reason for report in answer.reports],
                "findings": [to_dict(finding) for finding in answer.findings],
                "measurements": [to_dict(measurement) for measurement in answer.measurements],
            }
            for series, answer in answers
        ],
    }


def to_dict(item: Finding | Measurement) -> dict[str, Any]:
    """A finding or a measurement, JSON-ready."""
    return asdict(item) | {"region": None if item.region is None else item.region.to_dict()}


def describe(finding: Finding) -> str:
    """`present: left pleural effusion (0.93)`."""
    words = " ".join(part for part in (finding.severity, finding.side, finding.name) if part)
    score = "" if finding.score is None else f" ({finding.score:.2f})"
    return f"{finding.status}: {words}{score}"
