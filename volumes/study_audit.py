"""What one study says of itself that does not add up, from headers only: what is missing, and who it claims to be.

`remarks` can be judged inside the study; `facts` only against other studies, which `volumes.audit` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from volumes.instance import InstanceHeader
from volumes.study import FILM_MODALITIES, Study

_SHOWN = 8  # missing numbers named in one message


@dataclass(frozen=True)
class Remark:
    """One thing that does not add up: a short name for machines and a sentence without any path."""

    kind: str
    message: str


@dataclass(frozen=True)
class Fact:
    """One thing that a study says and that other studies may contradict."""

    name: str  # "sex", "birth" (digests, see `conflict_digest`) or "reference" (a series UID)
    value: str


def headers_of(study: Study) -> list[InstanceHeader]:
    """Every file of a study, images first."""
    return [*(header for series in study.series for header in series.instances), *study.objects]


def facts(study: Study) -> list[Fact]:
    """What other studies of the patient, or the series of the archive, may contradict."""
    found: set[tuple[str, str]] = set()
    for header in headers_of(study):
        found |= {("sex", header.sex_digest), ("birth", header.birth_digest)}
        found |= {("reference", uid) for uid in header.references}
    return [Fact(name, value) for name, value in sorted(found) if value]


def remarks(study: Study) -> list[Remark]:
    """What is missing by the study's own numbers: series, images, or places in the count of images."""
    by_series: dict[str, list[InstanceHeader]] = {}
    everything = headers_of(study)
    for header in everything:
        by_series.setdefault(header.series_uid, []).append(header)
    found = list(_fewer_than_stated(study.study_uid, everything, len(by_series)))
    for uid, members in by_series.items():
        stated = max((h.series_instances or 0 for h in members), default=0)
        if stated > len(members):
            text = f"series {uid} should have {stated} images by its own header (0020,1209), found {len(members)}"
            found.append(Remark("missing-images", text))
        found += _gaps(uid, members)
    return found


def _fewer_than_stated(study_uid: str, members: Sequence[InstanceHeader], series: int) -> Iterator[Remark]:
    stated_series = max((h.study_series or 0 for h in members), default=0)
    stated_images = max((h.study_instances or 0 for h in members), default=0)
    if stated_series > series:
        text = f"study {study_uid} should have {stated_series} series by its own header (0020,1206), found {series}"
        yield Remark("missing-series", text)
    if stated_images > len(members):
        text = (
            f"study {study_uid} should have {stated_images} images by its own header (0020,1208), found {len(members)}"
        )
        yield Remark("missing-images", text)


def _gaps(series_uid: str, members: Sequence[InstanceHeader]) -> Iterator[Remark]:
    """Holes in the numbers of a series of slices. More holes than images mean that the numbers count something else."""
    numbers = {h.instance_number for h in members if h.instance_number is not None}
    if len(numbers) < 3 or members[0].modality in FILM_MODALITIES or any(h.frames > 1 for h in members):
        return
    first, last = min(numbers), max(numbers)
    holes = last - first + 1 - len(numbers)
    if not 0 < holes < len(numbers):
        return
    missing = [number for number in range(first, last) if number not in numbers][:_SHOWN]
    shown = ", ".join(map(str, missing)) + (", ..." if holes > _SHOWN else "")
    text = f"series {series_uid}: images are numbered {first} to {last}, {holes} numbers are missing: {shown}"
    yield Remark("number-gap", text)
