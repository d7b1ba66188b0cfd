"""Studies: what one visit holds, sorted into series that can be read whole, without reading a pixel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from volumes.archive import crawl
from volumes.errors import StudyError
from volumes.grouping import FILM_MODALITIES as FILM_MODALITIES
from volumes.grouping import SINGLE_IMAGES, Part, parts
from volumes.instance import InstanceHeader, Refusal
from volumes.series import VOLUME_FORMATS
from volumes.series import Series as Series

if TYPE_CHECKING:
    from volumes.volume import Film, Unit, Volume

FRONTAL = ("PA", "AP", "unknown")


@dataclass(frozen=True)
class Study:
    """One visit: its series, the objects that are no images (SR, SEG, RTSTRUCT ...), and what was refused."""

    study_uid: str
    patient_key: str
    accession: str
    series: tuple[Series, ...]
    refusals: tuple[Refusal, ...] = ()
    objects: tuple[InstanceHeader, ...] = ()
    date: str = ""

    @property
    def simulated(self) -> bool:
        """Whether every image says that it is simulated."""
        return bool(self.series) and all(i.simulated for s in self.series for i in s.instances)

    def films(self) -> list[Series]:
        """Every single-frame radiograph, in the order of the archive."""
        return [s for s in self.series if s.kind == "film"]

    def volumes(self) -> list[Series]:
        """Every CT, MR or PET series that is no localizer."""
        return [s for s in self.series if s.kind == "volume" and not s.is_localizer]

    def main_series(self, modality: str = "", series_uid: str = "") -> Series:
        """The one series to read: the only volume, else the only film, else the only frontal film.

        Narrow the choice with `modality` or `series_uid` (a UID, or the address of a part: "UID#2"). Ultrasound is
        read only when it is asked for so. Raises StudyError, listing the series, when several remain
        or none: nothing is picked silently.
        """
        readable = [s for s in self.series if s.kind != "other"]
        asked = [s for s in readable if modality in ("", s.modality) and series_uid in ("", s.series_uid, s.address)]
        if not modality and not series_uid:
            asked = [s for s in asked if s.kind != "ultrasound"]
        elif series_uid and len(asked) == 1:
            return asked[0]
        volumes = [s for s in asked if s.kind == "volume" and not s.is_localizer]
        films = [s for s in asked if s.kind == "film"]
        films = films or [s for s in asked if s.kind == "ultrasound"]
        frontal = [s for s in films if s.view in FRONTAL and s.kind == "film"]
        for candidates in (volumes, films if not volumes else [], frontal if not volumes else []):
            if len(candidates) == 1:
                return candidates[0]
        found = "; ".join(s.label() for s in self.series) or "no series"
        if not asked:
            raise StudyError(
                f"study {self.study_uid} holds no image to read (asked: modality {modality or 'any'}, series"
                f" {series_uid or 'any'}). It holds {found} and {len(self.objects)} other objects",
                "no-series",
            )
        raise StudyError(
            f"study {self.study_uid} holds {len(volumes) or len(films)} series that could be meant: {found}. Name"
            " one by series_uid (--series-uid; a part of a split series as UID#1) or modality",
            "ambiguous-series",
        )

    def subject_check(self, image: Volume | Film | None = None) -> tuple[str, ...]:
        """Reasons to doubt that this shows a human chest of the claimed modality, each with how sure it is.

        Reads every volume and film unless an `image` already read is given. An empty tuple is no proof: it means that
        none of the few things measured looked wrong.
        """
        from volumes.subject import doubts, study_doubts

        return doubts(image) if image is not None else study_doubts(self)


class Reading(TypedDict, total=False):
    """The keywords of `read_study`, for whoever passes them on."""

    unit: Unit
    modality: str
    study_uid: str
    series_uid: str


def read_study(
    path: Path | str, *, unit: Unit = "raw", modality: str = "", study_uid: str = "", series_uid: str = ""
) -> Study:
    """The study in a folder, zip or file, from headers only.

    `unit` and `modality` describe NIfTI and NRRD files, which name neither; `series_uid` leaves the other series out.
    Raises StudyError when the path holds no image, not what was named, or several studies and nothing says which.
    """
    found = read_studies(path, unit=unit, modality=modality)
    chosen = [s for s in found if study_uid in ("", s.study_uid)]
    uids = ", ".join(s.study_uid for s in found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    if not chosen:
        raise StudyError(f"{path}: the study {study_uid} is not there; found {uids}", "no-study")
    if series_uid:
        held = "; ".join(one.label() for s in chosen[:8] for one in s.series)
        chosen = [replace(s, series=_named(s.series, series_uid)) for s in chosen]
        chosen = [s for s in chosen if s.series]
        if not chosen:
            raise StudyError(f"{path}: the series {series_uid} is not there; found {held}", "no-series")
    if len(chosen) > 1:
        raise StudyError(
            f"{path}: holds {len(chosen)} studies: {uids}. Name one by study_uid (--study-uid)", "several-studies"
        )
    return chosen[0]


def _named(series: Iterable[Series], series_uid: str) -> tuple[Series, ...]:
    return tuple(one for one in series if series_uid in (one.series_uid, one.address))


def read_studies(path: Path | str, *, unit: Unit = "raw", modality: str = "") -> list[Study]:
    """All studies below a path, from headers only. Raises StudyError with the reasons when there is none."""
    headers: list[InstanceHeader] = []
    refusals: list[Refusal] = []
    for found in crawl([path], digests=False):
        if isinstance(found, Refusal):
            refusals.append(found)
        else:
            headers.append(found)
    studies = group_studies(headers, unit=unit, modality=modality)
    if not studies:
        reasons = "; ".join(dict.fromkeys(f"{r.reason}: {r.message}" for r in refusals[:5])) or "the folder is empty"
        reason = refusals[0].reason if refusals else "empty"
        raise StudyError(f"{path}: holds no image that can be read. {reasons}", reason)
    if len(studies) == 1:
        return [replace(studies[0], refusals=(*studies[0].refusals, *refusals))]
    return studies


def group_studies(headers: Iterable[InstanceHeader], *, unit: Unit = "raw", modality: str = "") -> list[Study]:
    """Headers -> studies, in order of first appearance. Files that crawl gave in any order end up in one study."""
    by_study: dict[str, list[InstanceHeader]] = {}
    for header in headers:
        by_study.setdefault(header.study_uid, []).append(header)
    return [_study(members, unit, modality) for members in by_study.values()]


def _study(headers: list[InstanceHeader], unit: Unit, modality: str) -> Study:
    first = headers[0]
    refusals = [Refusal(h.path, "repaired-header", note, "repair") for h in headers for note in h.notes]
    keys = {h.patient_key for h in headers}
    if len(keys) > 1:
        message = f"the study names {len(keys)} different patients; files of the first patient met are kept"
        refusals += [
            Refusal(h.path, "several-patients", message) for h in headers if h.patient_key != first.patient_key
        ]
        headers = [h for h in headers if h.patient_key == first.patient_key]
    by_series: dict[str, list[InstanceHeader]] = {}
    objects: list[InstanceHeader] = []
    for header in headers:
        if header.format == "dicom" and (not header.rows or header.modality in ("SEG", "RTDOSE", "PR", "KO", "SR")):
            if not header.rows and _is_image(header.sop_class):
                message = (
                    f"instance {header.sop_uid} is by its class an image, and states no rows and columns; expected"
                    " positive numbers. Export it again"
                )
                refusals.append(Refusal(header.path, "bad-description", message))
            objects.append(header)
        else:
            by_series.setdefault(header.series_uid, []).append(header)
    series: list[Series] = []
    for members in by_series.values():
        found = parts(members)
        if len(found) > 1 and found[0].instances[0].modality not in SINGLE_IMAGES:
            refusals.append(_split_note(found))
        for number, part in enumerate(found, 1):
            name = f"part {number} of {len(found)}" if len(found) > 1 else ""
            series.append(_series(part, name, unit, modality))
    accession = next((h.accession for h in headers if h.accession), "")
    date = next((h.date for h in headers if h.date), "")
    return Study(first.study_uid, first.patient_key, accession, tuple(series), tuple(refusals), tuple(objects), date)


@lru_cache(maxsize=256)
def _is_image(sop_class: str) -> bool:
    from pydicom.uid import UID

    return "Image Storage" in UID(sop_class).name


def _split_note(found: list[Part]) -> Refusal:
    sizes = [str(len(p.frames) or len(p.instances)) for p in found]
    listed = " + ".join(sizes) if len(sizes) <= 12 else f"{' + '.join(sizes[:12])} + ... ({len(sizes)} parts)"
    first = found[0].instances[0]
    message = f"series {first.series_uid} mixes planes, sizes or time points: read as {listed} images"
    return Refusal(first.path, "split-series", message, "repair")


def _series(found: Part, part: str, unit: Unit, modality: str) -> Series:
    from volumes.radiograph import film_view

    first = found.instances[0]
    stated = first.modality or (modality if first.format != "dicom" else "")
    film = first.format == "dicom" and stated in FILM_MODALITIES
    return Series(
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        modality=stated,
        view=film_view(first) if film else "unknown",
        body_part=first.body_part,
        description=first.description,
        instances=found.instances,
        part=part,
        unit=unit if first.format in VOLUME_FORMATS else "raw",
        frames=found.frames,
    )
