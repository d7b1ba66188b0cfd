"""A draft as DICOM Enhanced SR: PARTIAL, UNVERIFIED, PRELIMINARY. Sources: DICOM PS3.3 A.35.2, PS3.16 TID 2000."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
from highdicom import UID
from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    EnhancedSR,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    ScoordContentItem,
    TextContentItem,
    UIDRefContentItem,
)
from highdicom.sr.coding import Code
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from reports.draft import DRAFT_NOTICE, SIMULATED_NOTICE, Draft, DraftSentence
from reports.evidence import Evidence
from reports.render import in_order, place
from volumes.instance import derived_uid

_CONTAINS = RelationshipTypeValues.CONTAINS
_PROPERTIES = RelationshipTypeValues.HAS_PROPERTIES
_INFERRED = RelationshipTypeValues.INFERRED_FROM
_CONTEXT = RelationshipTypeValues.HAS_OBS_CONTEXT
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
    others = {str(header.StudyInstanceUID) for header in evidence} - {draft.study_uid}
    if others:
        raise ValueError(
            f"headers of study {', '.join(sorted(others))}; expected the study of the draft, {draft.study_uid}"
        )
    root = ContainerContentItem(
        _dcm("18748-4", "Diagnostic imaging report", "LN"), is_content_continuous=False, template_id="2000"
    )
    root.ContentSequence = ContentSequence(list(_preface(draft)))
    for section, sentences in in_order(draft):
        codes = _SECTIONS.get(section, _SECTIONS["findings"])
        container = ContainerContentItem(_dcm(*codes[0]), is_content_continuous=False, relationship_type=_CONTAINS)
        container.ContentSequence = ContentSequence(
            [_sentence(sentence, codes[1], evidence) for _, sentence in sentences]
        )
        root.ContentSequence.append(container)
    sr = EnhancedSR(
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


def _preface(draft: Draft) -> Iterator[ContentItem]:
    """Language (TID 1204), the device as observer (TID 1001), and what the reader must know first."""
    language = _dcm("121049", "Language of Content Item and Descendants")
    yield CodeContentItem(
        language, Code("en-US", "RFC5646", "English (United States)"), RelationshipTypeValues.HAS_CONCEPT_MOD
    )
    yield CodeContentItem(_dcm("121005", "Observer Type"), _dcm("121007", "Device"), _CONTEXT)
    made_by = "; ".join(f"{key}: {value}" for key, value in draft.made_by.items())
    observer = derived_uid("medvlm", draft.made_by.get("model_digest", ""))
    yield UIDRefContentItem(_dcm("121012", "Device Observer UID"), observer, _CONTEXT)
    yield TextContentItem(_dcm("121013", "Device Observer Name"), "medvlm", _CONTEXT)
    notice = [DRAFT_NOTICE, *([SIMULATED_NOTICE] if draft.simulated else []), f"Made by {made_by}."]
    notice += [f"Series read: {uid}." for uid in draft.series_uids] + [f"Note: {note}." for note in draft.notes]
    heading = ContainerContentItem(_dcm("121111", "Summary"), is_content_continuous=False, relationship_type=_CONTAINS)
    heading.ContentSequence = ContentSequence([TextContentItem(_dcm("121106", "Comment"), " ".join(notice), _CONTAINS)])
    yield heading


def _sentence(sentence: DraftSentence, code: tuple[str, str], headers: Sequence[Dataset]) -> TextContentItem:
    """A sentence as TEXT, marked when nothing supports it, with its confidence, reason and evidence below it."""
    mark = "" if sentence.verdict == "supported" else f"[{sentence.verdict.upper()}] "
    item = TextContentItem(_dcm(*code), mark + sentence.text, _CONTAINS)
    below: list[ContentItem] = []
    if sentence.confidence is not None:
        percent = Code("%", "UCUM", "%")
        certainty = _dcm("111012", "Certainty of Finding")
        below.append(
            NumContentItem(certainty, round(100 * sentence.confidence, 1), percent, relationship_type=_PROPERTIES)
        )
    verdict = f"{sentence.verdict}: {sentence.reason}" if sentence.reason else sentence.verdict
    below.append(TextContentItem(_dcm("121106", "Comment"), verdict, _PROPERTIES))
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
            _dcm("121106", "Comment"), f"{evidence.kind}: {evidence.text}{where}{by}{quote}", _INFERRED
        )
    (row0, col0), (row1, col1) = region.start, region.stop
    corners = [[col0, row0], [col1, row0], [col1, row1], [col0, row1], [col0, row0]]  # SCOORD is column, row
    box = ScoordContentItem(
        _dcm("111030", "Image Region"),
        "POLYLINE",
        np.maximum(np.array(corners), 0.0),
        relationship_type=_INFERRED,
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
