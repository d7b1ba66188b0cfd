"""One study of the phantom hospital: images as DICOM, the report as a message, and the truth about both.

Everything depends on the plan alone (seed, patient, visit, kind), never on the process or the order of the work.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reports.grammar import write_report
from reports.messages import diagnostic_report, oru_message
from volumes.dicom_writer import CtTags, DeviceTags, FilmTags, StudyTags, derived_uid, write_ct, write_film
from volumes.phantom import FINDINGS, PatientState, render_ct, render_films, sample_patient
from volumes.streams import stream

Kind = Literal["xray", "ct"]
INSTITUTION = "Simulated hospital"
FIRST_DAY = dt.date(2019, 1, 7)
DAYS_OF_ADMISSION = 1800  # first visits are spread over about five years
TWO_VISITS = 0.3  # share of patients who come twice


@dataclass(frozen=True)
class Plan:
    """Which study: `ordinal` counts the studies of the hospital, `visit` the visits of the patient, both from 0."""

    seed: int
    ordinal: int
    index: int
    visit: int
    visits: int
    kind: Kind

    @property
    def study_uid(self) -> str:
        """Study instance UID."""
        return self._uid(self.visit)

    @property
    def prior_study_uid(self) -> str | None:
        """Study of the same kind at the visit before."""
        return self._uid(self.visit - 1) if self.visit else None

    @property
    def accession(self) -> str:
        """Accession number, at most 16 characters, different for every study of every seed."""
        hospital = hashlib.sha256(f"hospital {self.seed}".encode()).hexdigest()[:5].upper()
        return f"S{hospital}{self.kind[0].upper()}{self.index:06d}{self.visit}"

    @property
    def patient_id(self) -> str:
        """Patient ID; two seeds never share a patient."""
        return f"SIM{self.seed}-{self.index:06d}"

    @property
    def patient_key(self) -> str:
        """The pseudonym that `volumes.study.read_study` gives this patient."""
        return hashlib.sha256(self.patient_id.encode()).hexdigest()[:12]

    @property
    def form(self) -> Literal["hl7", "fhir"]:
        """Which kind of message carries the report: half each."""
        return "hl7" if self.ordinal % 2 == 0 else "fhir"

    def _uid(self, visit: int) -> str:
        return derived_uid("simulated study", self.seed, self.index, visit, self.kind)


def visits_of(seed: int, index: int) -> int:
    """How often a patient comes: 1 or 2."""
    return 2 if stream(seed, index, "visits").random() < TWO_VISITS else 1


def write_study(plan: Plan, folder: Path) -> dict[str, Any]:
    """Write one study into an empty folder and return its line of truth.

    The folder gets `dicom/<series_uid>/<n>.dcm`, `message` and `masks.npz`; `medvlm.simulate` moves them into place.
    """
    states = sample_patient(plan.seed, plan.index, plan.visits)
    state = states[plan.visit]
    prior = states[plan.visit - 1] if plan.visit else None
    tags = _study_tags(plan, states)
    images = _write_films(plan, state, tags, folder) if plan.kind == "xray" else _write_ct(plan, state, tags, folder)
    _write_masks(folder / "masks.npz", images.masks)
    written = write_report(
        state.lesions,
        modality=plan.kind,
        prior=None if prior is None else prior.lesions,
        sex=state.sex,
        age=state.age,
        rng=stream(plan.seed, plan.index, plan.visit, plan.kind, "report"),
        style=int(stream(plan.seed, plan.index, "report style").integers(2**16)),
    )
    message = _message(plan, tags, written.text, written.sections.get("impression", ""))
    (folder / "message").write_text(message, encoding="utf-8", newline="")
    present = {lesion.name for lesion in state.lesions}
    return {
        "study_uid": plan.study_uid,
        "accession": plan.accession,
        "patient_key": plan.patient_key,
        "visit": plan.visit,
        "prior_study_uid": plan.prior_study_uid,
        "modality": plan.kind,
        "seed": plan.seed,
        "patient_index": plan.index,
        "sex": state.sex,
        "age": state.age,
        "findings": [
            {
                "name": lesion.name,
                "side": lesion.side,
                "location": lesion.location,
                "severity": lesion.severity,
                "size_mm": lesion.size_mm,
                "boxes": images.boxes.get(n, {}),
            }
            for n, lesion in enumerate(state.lesions)
        ],
        "labels": {name: int(name in present) for name in FINDINGS},
        "sentences": [
            {"section": section, "text": text, "findings": list(lesions)}
            for section, text, lesions in written.sentences
        ],
        images.key: images.truth,
        "report": written.text,
        "simulated": True,
    }


@dataclass(frozen=True)
class _Images:
    """What one kind of imaging adds to the truth: boxes by lesion and image, packed masks, facts on the images."""

    key: Literal["films", "volumes"]
    truth: list[dict[str, Any]]
    boxes: Mapping[int, Mapping[str, Sequence[int]]]
    masks: Mapping[str, NDArray[np.uint8]]


def _write_films(plan: Plan, state: PatientState, tags: StudyTags, folder: Path) -> _Images:
    truth: list[dict[str, Any]] = []
    boxes: dict[int, dict[str, Sequence[int]]] = {}
    masks: dict[str, NDArray[np.uint8]] = {}
    for n, film in enumerate(render_films(state)):
        series_uid = derived_uid(plan.study_uid, "series", n)
        sop_uid = derived_uid(series_uid, "film")
        target = folder / "dicom" / series_uid
        target.mkdir(parents=True)
        pixels = np.asarray(film.pixels, dtype=np.uint16)
        film_tags = FilmTags(
            study=tags,
            series_uid=series_uid,
            sop_uid=sop_uid,
            view=film.view,
            spacing_mm=film.spacing_mm,
            window=film.window,
            device=_device(state),
            photometric=film.photometric,
            storage=_storage(state),
            bits_stored=film.bits,
            series_number=n + 1,
        )
        write_film(target / "1.dcm", pixels, film_tags)
        truth.append(
            {
                "sop_uid": sop_uid,
                "series_uid": series_uid,
                "view": film.view,
                "shape": [int(v) for v in pixels.shape],
                "spacing_mm": [float(v) for v in film.spacing_mm],
            }
        )
        for lesion, mask in film.masks.items():
            masks[f"{sop_uid}/{lesion}"] = np.packbits(np.asarray(mask, dtype=bool))
        for lesion, box in film.boxes.items():
            boxes.setdefault(lesion, {})[sop_uid] = [int(v) for v in box]
    return _Images("films", truth, boxes, masks)


def _write_ct(plan: Plan, state: PatientState, tags: StudyTags, folder: Path) -> _Images:
    """Like the films, with the series in place of the image: boxes are (k0, j0, i0, k1, j1, i1), half-open."""
    rendered = render_ct(state)
    series_uid = derived_uid(plan.study_uid, "series", 0)
    ct_tags = CtTags(tags, series_uid, _device(state), kernel=rendered.kernel, kvp=120.0)
    write_ct(folder / "dicom" / series_uid, rendered.volume, ct_tags)
    boxes: dict[int, dict[str, Sequence[int]]] = {}
    masks: dict[str, NDArray[np.uint8]] = {}
    for lesion, mask in rendered.masks.items():
        inside = np.asarray(mask, dtype=bool)
        masks[f"{series_uid}/{lesion}"] = np.packbits(inside)
        if inside.any():
            boxes[lesion] = {series_uid: _box(inside)}
    truth = {
        "series_uid": series_uid,
        "shape": list(rendered.volume.shape),
        "spacing_mm": list(rendered.volume.spacing_mm),
        "affine": rendered.volume.affine.tolist(),
    }
    return _Images("volumes", [truth], boxes, masks)


def _box(mask: NDArray[np.bool_]) -> list[int]:
    axes = range(mask.ndim)
    filled = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != axis))) for axis in axes]
    return [int(rows[0]) for rows in filled] + [int(rows[-1]) + 1 for rows in filled]


def _write_masks(path: Path, masks: Mapping[str, NDArray[np.uint8]]) -> None:
    """Like `numpy.savez_compressed`, whose keywords are not free: any name is allowed here."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, packed in masks.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, always
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w") as stream:
                np.lib.format.write_array(stream, packed, allow_pickle=False)


def _study_tags(plan: Plan, states: Sequence[PatientState]) -> StudyTags:
    draw = stream(plan.seed, plan.index, "dates")
    first = FIRST_DAY + dt.timedelta(days=int(draw.integers(0, DAYS_OF_ADMISSION)))
    since_birthday = int(draw.integers(0, 365))
    born = first - dt.timedelta(days=int(states[0].age * 365.25) + since_birthday)
    state = states[plan.visit]
    day = first + dt.timedelta(days=state.days - states[0].days)
    minute = int(stream(plan.seed, plan.index, plan.visit, plan.kind, "time").integers(7 * 60, 18 * 60))
    return StudyTags(
        study_uid=plan.study_uid,
        patient_id=plan.patient_id,
        patient_name=f"SIMULATED^P{plan.index:06d}",
        accession=plan.accession,
        birth_date=born.strftime("%Y%m%d"),
        sex=state.sex,
        age=int(state.age),
        date=day.strftime("%Y%m%d"),
        time=f"{minute // 60:02d}{minute % 60:02d}00",
        description="Chest CT (simulated)" if plan.kind == "ct" else "Chest radiograph (simulated)",
        comments="SIMULATED: made by a program, no patient exists",
    )


def _device(state: PatientState) -> DeviceTags:
    scanner = state.scanner
    return DeviceTags(manufacturer="Simulated", model=str(scanner.name), station="SIM", institution=INSTITUTION)


def _storage(state: PatientState) -> Literal["DX", "CR"]:
    return "CR" if "-CR-" in state.scanner.name else "DX"


def _message(plan: Plan, tags: StudyTags, text: str, impression: str) -> str:
    taken = dt.datetime.strptime(tags.date + tags.time, "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC)
    issued = taken + dt.timedelta(minutes=40)
    if plan.form == "hl7":
        return oru_message(
            text,
            accession=plan.accession,
            study_uid=plan.study_uid,
            patient_id=plan.patient_id,
            patient_name=tags.patient_name,
            sex="F" if tags.sex == "F" else "M",
            issued=issued,
            procedure=tags.description,
        )
    resource = diagnostic_report(
        text,
        accession=plan.accession,
        study_uid=plan.study_uid,
        patient_id=plan.patient_id,
        issued=issued,
        procedure=tags.description,
        modality="CT" if plan.kind == "ct" else "DX",
        conclusion=impression,
    )
    return json.dumps(resource, indent=1, ensure_ascii=False) + "\n"
