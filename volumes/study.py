"""Studies: what one visit holds, sorted into series that can be read whole, without reading a pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np

from volumes.archive import crawl
from volumes.geometry import MAX_COSINE_ERROR, same_place
from volumes.instance import Format, InstanceHeader, Refusal
from volumes.volume import Film, SeriesError, Source, StudyError, Unit, View, Volume

FILM_MODALITIES = ("CR", "DX", "DR", "RG", "RF", "SC", "XA", "MG", "PX", "IO")
VOLUME_MODALITIES = ("CT", "MR", "PT")
FRONTAL = ("PA", "AP", "unknown")

Kind = Literal["film", "volume", "other"]


@dataclass(frozen=True)
class Series:
    """Instances that make one image. A DICOM series that mixes planes, sizes or time points becomes several parts."""

    study_uid: str
    series_uid: str
    modality: str
    view: View
    body_part: str
    description: str
    instances: tuple[InstanceHeader, ...]
    part: str = ""  # which part of a split DICOM series; empty when it was not split
    unit: Unit = "raw"  # of NIfTI and NRRD only, as the caller said

    @property
    def n_instances(self) -> int:
        """Number of files."""
        return len(self.instances)

    @property
    def format(self) -> Format:
        """dicom, nifti, nrrd or picture."""
        return self.instances[0].format

    @property
    def kind(self) -> Kind:
        """What `read` gives: a film, a volume, or a refusal (other)."""
        if self.format == "picture" or (self.format == "dicom" and self.modality in FILM_MODALITIES):
            return "film"
        if self.format in ("nifti", "nrrd") or self.modality in VOLUME_MODALITIES:
            return "volume"
        return "other"

    @property
    def is_localizer(self) -> bool:
        """Whether the file says that the image only served to plan the scan."""
        return "LOCALIZER" in self.instances[0].image_type

    def read(self) -> Volume | Film:
        """The image: a Volume or a Film. Raises SeriesError that says what was found and what to do."""
        first = self.instances[0]
        if self.kind == "film":
            from volumes.radiograph import read_film, read_picture

            return read_picture(first) if first.format == "picture" else read_film(first)
        if first.format == "nifti":
            from volumes.nifti import read_nifti

            return read_nifti(first.path, self.unit, self._source())
        if first.format == "nrrd":
            from volumes.nrrd import read_nrrd

            return read_nrrd(first.path, self.unit, self._source())
        if self.kind == "volume":
            from volumes.dicom import read_volume

            return read_volume(self.instances)
        raise SeriesError(
            f"series {self.series_uid} has the modality {self.modality or 'not stated'!r}; images of"
            f" {', '.join(VOLUME_MODALITIES + FILM_MODALITIES)} are read",
            "unsupported-modality",
        )

    def _source(self) -> Source:
        first = self.instances[0]
        return Source(self.study_uid, self.series_uid, (first.sop_uid,), self.modality, self.body_part, path=first.path)

    def label(self) -> str:
        """One line for messages: no patient, no free text."""
        part = f", {self.part}" if self.part else ""
        return f"{self.series_uid} ({self.modality or '?'}, {self.n_instances} images{part})"


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

        Narrow the choice with `modality` or `series_uid`. Raises StudyError, listing the series, when several remain
        or none: nothing is picked silently.
        """
        readable = [s for s in self.series if s.kind != "other"]
        asked = [s for s in readable if modality in ("", s.modality) and series_uid in ("", s.series_uid)]
        volumes = [s for s in asked if s.kind == "volume" and not s.is_localizer]
        films = [s for s in asked if s.kind == "film"]
        frontal = [s for s in films if s.view in FRONTAL]
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
            " one by series_uid (--series-uid) or modality",
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
        chosen = [replace(s, series=tuple(one for one in s.series if one.series_uid == series_uid)) for s in chosen]
        chosen = [s for s in chosen if s.series]
        if not chosen:
            raise StudyError(f"{path}: the series {series_uid} is not there; found {held}", "no-series")
    if len(chosen) > 1:
        raise StudyError(
            f"{path}: holds {len(chosen)} studies: {uids}. Name one by study_uid (--study-uid)", "several-studies"
        )
    return chosen[0]


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
            objects.append(header)
        else:
            by_series.setdefault(header.series_uid, []).append(header)
    series: list[Series] = []
    for members in by_series.values():
        parts = list(_parts(members))
        if len(parts) > 1 and parts[0][0].modality not in FILM_MODALITIES:
            sizes = " + ".join(str(len(p)) for p in parts)
            message = f"series {members[0].series_uid} mixes planes, sizes or time points: read as {sizes} images"
            refusals.append(Refusal(members[0].path, "split-series", message, "repair"))
        for number, part in enumerate(parts, 1):
            name = f"part {number} of {len(parts)}" if len(parts) > 1 else ""
            series.append(_series(part, name, unit, modality))
    accession = next((h.accession for h in headers if h.accession), "")
    date = next((h.date for h in headers if h.date), "")
    return Study(first.study_uid, first.patient_key, accession, tuple(series), tuple(refusals), tuple(objects), date)


def _series(members: Sequence[InstanceHeader], part: str, unit: Unit, modality: str) -> Series:
    from volumes.radiograph import film_view

    first = members[0]
    stated = first.modality or (modality if first.format != "dicom" else "")
    film = first.format == "dicom" and stated in FILM_MODALITIES
    return Series(
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        modality=stated,
        view=film_view(first) if film else "unknown",
        body_part=first.body_part,
        description=first.description,
        instances=tuple(members),
        part=part,
        unit=unit if first.format in ("nifti", "nrrd") else "raw",
    )


def _parts(members: list[InstanceHeader]) -> Iterator[list[InstanceHeader]]:
    """Split one DICOM series into images: one per film or multi-frame file, else by plane, size, kind and time."""
    alone = [h for h in members if h.frames > 1 or h.modality in FILM_MODALITIES or h.format != "dicom"]
    for header in alone:
        yield [header]
    groups: list[list[InstanceHeader]] = []
    for header in members:
        if header in alone:
            continue
        home = next((g for g in groups if _belongs(g[0], header)), None)
        if home is None:
            groups.append([header])
        else:
            home.append(header)
    for group in groups:
        yield from _time_points(group)


def _belongs(a: InstanceHeader, b: InstanceHeader) -> bool:
    """Whether two slices can lie in one stack: same matrix, plane, spacing and kind of image."""
    if (a.rows, a.columns, a.modality, a.frame_of_reference) != (b.rows, b.columns, b.modality, b.frame_of_reference):
        return False
    if ("LOCALIZER" in a.image_type) != ("LOCALIZER" in b.image_type):
        return False
    planes = (a.orientation, b.orientation, MAX_COSINE_ERROR), (a.pixel_spacing, b.pixel_spacing, 1e-3)
    for one, other, tolerance in planes:
        if len(one) != len(other) or any(abs(x - y) > tolerance for x, y in zip(one, other, strict=True)):
            return False
    return bool(a.position) == bool(b.position)


_TIME: tuple[Callable[[InstanceHeader], object], ...] = (
    lambda h: h.time_point,
    lambda h: h.echo,
    lambda h: h.b_value,
    lambda h: h.acquisition,
    lambda h: h.image_type,
)


def _time_points(group: list[InstanceHeader]) -> Iterator[list[InstanceHeader]]:
    """Split where one tag tells complete scans of the same places apart; else leave the doubles to the reader."""
    if not group[0].position or len({h.position for h in group}) == len(group):
        yield group
        return
    places = len(same_place(np.array([h.position for h in group])))
    for tag in _TIME:
        by_value: dict[object, list[InstanceHeader]] = {}
        for header in group:
            by_value.setdefault(tag(header), []).append(header)
        if len(by_value) > 1 and all(
            len(g) == places == len(same_place(np.array([h.position for h in g]))) for g in by_value.values()
        ):
            yield from by_value.values()
            return
    yield group
