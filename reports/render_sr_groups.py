"""The findings of a draft as measurement groups of a DICOM SR (PS3.16 TID 1500 with TID 1410, 1411 and 1501).

A finding with a place on a film is a planar region of interest (SCOORD), one with a place in a volume a box in patient
space (SCOORD3D, two faces of the box), one without a place a group without coordinates. Absent findings are groups too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumeSurface,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset

from reports import finding_codes as codes
from reports.draft import Draft, DraftSentence
from reports.finding_codes import Coded
from reports.findings import Finding
from reports.render_text import mark
from volumes.instance import derived_uid
from volumes.volume import Region

Group: TypeAlias = (
    PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
    | MeasurementsAndQualitativeEvaluations
)


def groups(draft: Draft, headers: Sequence[Dataset]) -> list[Group]:
    """One group per finding of each sentence; for a draft without findings one that says so of the report itself."""
    images = {str(header.SOPInstanceUID): header for header in headers}
    frames = {
        str(header.SeriesInstanceUID): str(header.FrameOfReferenceUID)
        for header in headers
        if header.get("FrameOfReferenceUID")
    }
    made = [
        _group(draft, index, number, sentence, finding, images, frames)
        for index, sentence in enumerate(draft.sentences)
        for number, finding in enumerate(sentence.findings)
    ]
    return made or [_nothing(draft)]


def _group(
    draft: Draft,
    index: int,
    number: int,
    sentence: DraftSentence,
    finding: Finding,
    images: dict[str, Dataset],
    frames: dict[str, str],
) -> Group:
    name = f"{mark(sentence)}{finding.name}, sentence {index + 1}"
    uid = derived_uid(
        "draft finding", draft.study_uid, draft.made_by.get("model_digest", ""), f"{index}.{number}", name
    )
    site = codes.site_code(finding)
    side = codes.SIDES.get(finding.side or "")
    said = {
        "tracking_identifier": TrackingIdentifier(uid, name),
        "finding_type": concept(codes.finding_code(finding.name)),
        "algorithm_id": AlgorithmIdentification("medvlm", draft.made_by.get("model_digest") or "unknown"),
        "finding_sites": None
        if site is None
        else [FindingSite(concept(site), None if side is None else concept(side))],
        "measurements": _measurements(sentence, finding) or None,
        "qualitative_evaluations": _evaluations(sentence, finding),
    }
    region = _region(sentence, finding)
    if region is not None and len(region.start) == 2 and region.sop_uid in images:
        return PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=_film_region(region, images[region.sop_uid]), **said
        )
    frame = "" if region is None else frames.get(region.series_uid, "")
    if region is not None and region.start_mm is not None and len(region.start_mm) == 3 and frame:
        return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_volume_surface=_box(region, frame), **said)
    return MeasurementsAndQualitativeEvaluations(**said)


def _region(sentence: DraftSentence, finding: Finding) -> Region | None:
    """The place of one finding of a sentence: what is absent has none, and of several each needs its own."""
    if finding.status == "absent":
        return None
    places = [e for e in sentence.evidence if e.kind == "region" and e.region is not None]
    own = [e.region for e in places if finding.name in e.text]
    if not own and len(sentence.findings) == 1:
        own = [e.region for e in places]
    return own[0] if own else None


def _nothing(draft: Draft) -> Group:
    tracking = TrackingIdentifier(derived_uid("draft without findings", draft.study_uid), "draft without findings")
    told = codes.own_code("no finding stated")
    return MeasurementsAndQualitativeEvaluations(
        tracking, qualitative_evaluations=[QualitativeEvaluation(concept(codes.NOTE), concept(told))]
    )


def _measurements(sentence: DraftSentence, finding: Finding) -> list[Measurement]:
    """How sure the sentence is, and the size of what is supported."""
    found = []
    if sentence.confidence is not None and math.isfinite(sentence.confidence):
        found.append(Measurement(concept(codes.CERTAINTY), round(100 * sentence.confidence, 1), concept(codes.PERCENT)))
    if sentence.verdict == "supported" and finding.size_mm is not None and math.isfinite(finding.size_mm):
        found.append(Measurement(concept(codes.DIAMETER), float(f"{finding.size_mm:.6g}"), concept(codes.MM)))
    return found


def _evaluations(sentence: DraftSentence, finding: Finding) -> list[QualitativeEvaluation]:
    """Presence as far as the check goes, the verdict, and what a supported sentence adds."""
    status = codes.checked_status(sentence, finding)
    said: list[tuple[Coded, Coded]] = [
        (codes.PRESENCE, codes.STATUSES[status]),
        (codes.VERDICT, codes.own_code(sentence.verdict)),
    ]
    if status != finding.status:
        said.append((codes.STATED, codes.STATUSES[finding.status]))
    if finding.location:
        said.append((codes.LOCATION, codes.own_code(finding.location)))
    if finding.side in codes.SIDES and codes.site_code(finding) is None:
        said.append((codes.LATERALITY, codes.SIDES[finding.side]))
    if sentence.verdict == "supported":
        if finding.severity:
            said.append((codes.SEVERITY, codes.severity_code(finding.severity)))
        if finding.change:
            said.append((codes.CHANGE, codes.own_code(finding.change)))
    return [QualitativeEvaluation(concept(name), concept(value)) for name, value in said]


def corners(region: Region, image: Dataset | None = None) -> np.ndarray:
    """A closed rectangle (5, 2) of (column, row) in pixels, inside the image where its size is known.

    A half-open index box is an SCOORD as it stands: both count from the outer corner of the first pixel.
    """
    (row0, col0), (row1, col1) = region.start, region.stop
    points = np.array([[col0, row0], [col1, row0], [col1, row1], [col0, row1], [col0, row0]], dtype=float)
    most = (math.inf, math.inf)
    if image is not None and image.get("Rows") and image.get("Columns"):
        most = (float(image.Columns), float(image.Rows))
    return np.clip(points, 0.0, most)


def _film_region(region: Region, image: Dataset) -> ImageRegion:
    source = SourceImageForRegion(str(image.SOPClassUID), str(image.SOPInstanceUID))
    return ImageRegion("POLYLINE", corners(region, image), source)


def _box(region: Region, frame_of_reference_uid: str) -> VolumeSurface:
    """The lower and the upper face of a box in LPS mm."""
    assert region.start_mm is not None
    assert region.stop_mm is not None
    (x0, y0, z0), (x1, y1, z1) = region.start_mm, region.stop_mm
    around = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    faces = [np.array([(x, y, z) for x, y in around], dtype=float) for z in (z0, z1)]
    return VolumeSurface(
        "POLYGON", faces, frame_of_reference_uid, source_series=SourceSeriesForSegmentation(region.series_uid)
    )


def concept(code: Coded) -> CodedConcept:
    """A code as highdicom takes it."""
    return CodedConcept(code.value, code.scheme, code.meaning[: codes.MAX_MEANING])
