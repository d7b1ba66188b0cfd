"""A draft as a DICOM SR measurement report (PS3.16 TID 1500): PARTIAL, UNVERIFIED, PRELIMINARY.

TID 1500 is extensible: beside its measurement groups the report holds the sentences, in sections as in TID 2000, each
with its mark, so that a viewer that shows text shows the whole draft. A report with a place in a volume is a
Comprehensive 3D SR (PS3.3 A.35.13), any other a Comprehensive SR (A.35.3), which more receivers take.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from highdicom import UID
from highdicom.sr import (
    Comprehensive3DSR,
    ComprehensiveSR,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    ScoordContentItem,
    TextContentItem,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.coding import Code
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from reports import finding_codes as codes
from reports.draft import Draft, DraftSentence
from reports.draft_links import refuse_other_study
from reports.evidence import Evidence
from reports.render_sr_groups import concept, corners, groups
from reports.render_text import evidence_words, in_order, mark, notices, place, provenance
from volumes.instance import derived_uid

_CONTAINS = RelationshipTypeValues.CONTAINS
_PROPERTIES = RelationshipTypeValues.HAS_PROPERTIES
_INFERRED = RelationshipTypeValues.INFERRED_FROM
_CLASSES = {"CR": ComputedRadiographyImageStorage, "CT": CTImageStorage}

# (code of the section, code of its sentences): DICOM CID 7001 and CID 7002
_SECTIONS = {
    "indication": (("121060", "History"), ("121060", "History")),
    "technique": (("121064", "Current Procedure Descriptions"), ("121065", "Procedure Description")),
    "comparison": (("121068", "Previous Findings"), ("121071", "Finding")),
    "findings": (("121070", "Findings"), ("121071", "Finding")),
    "impression": (("121072", "Impressions"), ("121073", "Impression")),
    "recommendation": (("121074", "Recommendations"), ("121075", "Recommendation")),
}


def structured_report(draft: Draft, headers: Sequence[Dataset] = ()) -> bytes:
    """The bytes of a DICOM Part 10 file. Every call makes a new instance of one series per study.

    Args:
        headers: Headers of images of the study, whose patient and study the report takes over. Without them, patient
            attributes stay empty and only the study UID is known: a PACS will ask to whom the report belongs.

    Raises: ValueError when the headers are of another study, or no image of the draft is known by its SOP UID.
    """
    evidence = list(headers) or _stand_ins(draft)
    refuse_other_study(draft, evidence)
    found = groups(draft, evidence)
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(draft)),
        procedure_reported=Code("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=found,
    )
    root = report[0]
    # What a reader must know stands before the measurements: viewers show the content in its order.
    measured = root.ContentSequence.pop()
    for container in (_preface(draft), *_narrative(draft, evidence), measured):
        root.ContentSequence.append(container)
    in_space = any(isinstance(group, VolumetricROIMeasurementsAndQualitativeEvaluations) for group in found)
    sr = (Comprehensive3DSR if in_space else ComprehensiveSR)(
        evidence=evidence,
        content=root,
        series_instance_uid=derived_uid("draft series", draft.study_uid),
        series_number=9000,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="medvlm",
        is_complete=False,
        is_final=False,
        is_verified=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="Draft report, not verified" + (", SIMULATED" if draft.simulated else ""),
        specific_character_set="ISO_IR 192",
    )
    buffer = io.BytesIO()
    sr.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _observer(draft: Draft) -> ObserverContext:
    """The device as observer (TID 1001, TID 1004): which model, and the digest of its weights as serial number."""
    digest = draft.made_by.get("model_digest", "")
    return ObserverContext(
        observer_type=_dcm("121007", "Device"),
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derived_uid("medvlm", digest),
            name="medvlm",
            manufacturer_name="medvlm",
            model_name=draft.made_by.get("model") or "unnamed",
            serial_number=digest or "unknown",
        ),
    )


def _preface(draft: Draft) -> ContainerContentItem:
    """What the reader must know first, and what made the draft."""
    lines = [*notices(draft), *(f"{what}: {which}" for what, which in provenance(draft))]
    heading = ContainerContentItem(_dcm("121111", "Summary"), is_content_continuous=False, relationship_type=_CONTAINS)
    heading.ContentSequence = ContentSequence([TextContentItem(concept(codes.NOTE), line, _CONTAINS) for line in lines])
    return heading


def _narrative(draft: Draft, headers: Sequence[Dataset]) -> Iterator[ContainerContentItem]:
    """One container per section, as in TID 2000."""
    for section, sentences in in_order(draft):
        named, each = _SECTIONS.get(section, _SECTIONS["findings"])
        container = ContainerContentItem(_dcm(*named), is_content_continuous=False, relationship_type=_CONTAINS)
        container.ContentSequence = ContentSequence([_sentence(s, each, headers) for _, s in sentences])
        yield container


def _sentence(sentence: DraftSentence, code: tuple[str, str], headers: Sequence[Dataset]) -> TextContentItem:
    """A sentence as TEXT, marked when nothing supports it, with its verdict, reason and evidence below it."""
    item = TextContentItem(_dcm(*code), mark(sentence) + sentence.text, _CONTAINS)
    verdict = f"{sentence.verdict}: {sentence.reason}" if sentence.reason else sentence.verdict
    below: list[ContentItem] = [TextContentItem(concept(codes.NOTE), verdict, _PROPERTIES)]
    below += [_evidence(evidence, headers) for evidence in sentence.evidence]
    item.ContentSequence = ContentSequence(below)
    return item


def _evidence(evidence: Evidence, headers: Sequence[Dataset]) -> ContentItem:
    region = evidence.region
    image = None
    if evidence.kind == "region" and region is not None and len(region.start) == 2:
        image = next((h for h in headers if h.SOPInstanceUID == region.sop_uid), None)
    if image is None or region is None:
        where = f" [{place(evidence)}]" if region is not None else ""
        quote = f" “{evidence.passage.text}”" if evidence.passage is not None else ""
        by = f" ({evidence.by})" if evidence.by else ""
        return TextContentItem(
            concept(codes.NOTE), f"{evidence.kind}: {evidence_words(evidence)}{where}{by}{quote}", _INFERRED
        )
    box = ScoordContentItem(
        _dcm("111030", "Image Region"), "POLYLINE", corners(region, image), relationship_type=_INFERRED
    )
    source = _dcm("260753009", "Source", "SCT")
    reference = ImageContentItem(
        source, image.SOPClassUID, image.SOPInstanceUID, relationship_type=RelationshipTypeValues.SELECTED_FROM
    )
    box.ContentSequence = ContentSequence([reference])
    return box


def _stand_ins(draft: Draft) -> list[Dataset]:
    """Headers made of what the draft knows: UIDs and modality, and empty patient attributes (type 2)."""
    series_of = {
        uid: draft.series_uids[0] for uid in draft.extents if uid not in draft.series_uids and draft.series_uids
    }
    regions = (e.region for s in draft.sentences for e in s.evidence if e.region is not None)
    series_of |= {region.sop_uid: region.series_uid for region in regions if region.sop_uid}
    if not series_of:
        raise ValueError(
            f"draft of study {draft.study_uid} names no image by its SOP instance UID, which a DICOM SR must refer to;"
            " pass `headers` of the images it was read from"
        )
    stand_ins = []
    for sop_uid, series_uid in series_of.items():
        header = Dataset()
        header.StudyInstanceUID, header.SeriesInstanceUID = draft.study_uid, series_uid
        header.SOPInstanceUID = sop_uid
        header.SOPClassUID = _CLASSES.get(draft.modality, DigitalXRayImageStorageForPresentation)
        header.Modality = draft.modality
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"):
            setattr(header, keyword, "")
        header.StudyID = header.StudyDate = header.StudyTime = ""
        stand_ins.append(header)
    return stand_ins


def _dcm(value: str, meaning: str, scheme: str = "DCM") -> Code:
    return Code(value, scheme, meaning)
