"""One DICOM dataset without its patient: PS3.15 Annex E, applied to every element at every depth.

The engine is an allow-list. What table E.1-1 names is treated as the table says; what it does not name stays only
when its kind cannot name anyone (numbers, defined terms) or when it is known to describe the image; the rest goes:
private and retired groups, overlays and curves, unknown elements, values that do not fit their VR.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from volumes.deidentify_keys import Pseudonyms
from volumes.deidentify_profile import Action, Profile, action_of, resolve, safe_private, type_of
from volumes.deidentify_text import Identifiers, TextCleaner
from volumes.deidentify_values import (
    BYTES,
    DUMMIES,
    FREE,
    NUMERIC,
    TECHNICAL,
    Cleaning,
    Values,
    fits,
    is_blank,
    readable,
    values_of,
    vrs_of,
)
from volumes.instance import derived_uid
from volumes.volume import VolumeError

IMPLEMENTATION = derived_uid("medvlm", "volumes.deidentify", "1")
VERSION = "MEDVLM"
_DEEPEST = 32
_NAMING_TEXT = re.compile(
    r"ID$|IDs$|Number$|Numbers$|Identifier$|Identification$|Name$|Names$|Issuer$|Author$|Locator$"
)
_PLACE_TEXT = re.compile(
    r"Institution|Address|Department|Location|Residence|Country|Region|Station|Organization|Service"
)
_NOT_NAMING = re.compile(
    r"^(Instance|Series|Acquisition|Frame|Referenced|Clinical|Device|Container)|Manufacturer|Protocol"
)


def deidentify_dataset(dataset: FileDataset, profile: Profile, pseudonyms: Pseudonyms) -> tuple[FileDataset, Cleaning]:
    """A new dataset with what may stay, ready to be written; pixels are the caller's to clean (`deidentify_pixels`).

    Raises: VolumeError when the object cannot be made safe (`encapsulated-document`, `raw-data`, `dicomdir`,
    `nested-too-deep`) or not be written again (`no-sop-class`, `transfer-syntax`).
    """
    _refuse_unsafe(dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = _Engine(dataset, profile, pseudonyms)
        cleaned = engine.clean(dataset, "", 0)
        _say_what_was_done(cleaned, profile)
        meta = _file_meta(dataset, cleaned, engine.values.text.uid)
    found = FileDataset(None, cleaned, preamble=b"\0" * 128, file_meta=meta,
                        is_implicit_VR=meta.TransferSyntaxUID.is_implicit_VR,
                        is_little_endian=meta.TransferSyntaxUID.is_little_endian)  # fmt: skip
    return found, engine.cleaning


def patient_of(dataset: Dataset) -> str:
    """What tells patients apart, for the shift of their dates: the ID, else name and birth date, else the study."""
    patient = _plain(dataset, "PatientID")
    if patient:
        return patient
    named = "\x1e".join(_plain(dataset, name) for name in ("PatientName", "PatientBirthDate"))
    return named if named.strip("\x1e") else _plain(dataset, "StudyInstanceUID")


def identifiers_in(dataset: Dataset, profile: Profile) -> Identifiers:
    """Every word by which a dataset, at any depth, names people, places and numbers that do not stay."""
    found = Identifiers()
    _collect(dataset, found, profile, 0)
    return found


def _collect(dataset: Dataset, found: Identifiers, profile: Profile, depth: int) -> None:
    if depth > _DEEPEST:
        return
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset converts, and conversion may fail
        element = readable(dataset, tag)
        if element is None:
            continue
        action = action_of(tag, profile)
        if element.VR == "SQ":
            for item in element.value or ():
                _collect(item, found, profile, depth + 1)
        elif action == "K":
            continue
        elif element.VR == "PN":
            for value in values_of(element):
                found.add(str(value))
        elif element.VR in ("LO", "SH", "UC", "UT", "ST", "AE", "LT"):
            number = _NAMING_TEXT.search(element.keyword) and not _NOT_NAMING.search(element.keyword)
            if _PLACE_TEXT.search(element.keyword) or (number and action is not None):
                for value in values_of(element):
                    found.add(str(value), known_words_too=False)


def _refuse_unsafe(dataset: Dataset) -> None:
    sop_class = _plain(dataset, "SOPClassUID")
    if sop_class == "1.2.840.10008.1.3.10" or "DirectoryRecordSequence" in dataset:
        raise VolumeError(
            "a DICOMDIR names the files of a medium that are written under other names here: make a new one", "dicomdir"
        )
    if "EncapsulatedDocument" in dataset or sop_class.startswith("1.2.840.10008.5.1.4.1.1.104."):
        raise VolumeError(
            "an encapsulated document (PDF, CDA, STL) can show a patient anywhere in it and cannot be cleaned; it is"
            " quarantined. De-identify the document itself",
            "encapsulated-document",
        )
    if sop_class == "1.2.840.10008.5.1.4.1.1.66":
        raise VolumeError("raw data of a scanner are private bytes that cannot be checked; quarantined", "raw-data")


_CODED = ("CodeValue", "LongCodeValue", "CodingSchemeDesignator")
_PSEUDONYMS = {"PatientName": "patient", "PatientID": "patient", "AccessionNumber": "accession", "StudyID": "study"}


@dataclass(frozen=True)
class _Place:
    """Where an element stands: its tag and keyword, the type that the IOD gives it, how deep, in what."""

    tag: Any
    keyword: str
    kind: str
    depth: int
    hollow: bool


class _Engine:
    def __init__(self, dataset: Dataset, profile: Profile, pseudonyms: Pseudonyms) -> None:
        self.profile = profile
        self.sop_class = _plain(dataset, "SOPClassUID")
        self.patient = patient_of(dataset)
        shift = pseudonyms.shift(self.patient)
        uid = (lambda value: value) if profile.uids else pseudonyms.uid
        kept_shift = shift if profile.dates == "shift" else None
        text = TextCleaner(identifiers_in(dataset, profile), uid, kept_shift, profile.dates == "keep")
        self.values = Values(profile, pseudonyms, text, shift)
        self.cleaning = self.values.cleaning

    def clean(self, dataset: Dataset, parent: str, depth: int, *, hollow: bool = False) -> Dataset:
        """A dataset or item without what must go; in a `hollow` one all texts and codes are dummies."""
        if depth > _DEEPEST:
            raise VolumeError(f"sequences are nested more than {_DEEPEST} deep; quarantined", "nested-too-deep")
        cleaned = Dataset()
        for tag in sorted(dataset.keys()):
            if tag.is_private:
                kept = None if hollow else self._private(dataset, tag)
            else:
                kept = self._standard(dataset, tag, parent, depth, hollow)
            if kept is not None:
                cleaned.add(kept)
        self._creators(dataset, cleaned)
        if not hollow:
            self._codes(dataset, cleaned)
        return cleaned

    def _codes(self, dataset: Dataset, cleaned: Dataset) -> None:
        """Codes stay by their scheme, which is another element of the item."""
        scheme = _plain(dataset, "CodingSchemeDesignator")
        if scheme and "CodingSchemeDesignator" in cleaned:
            cleaned.CodingSchemeDesignator = self.values.code(scheme, "")[0]
        for name in ("CodeValue", "LongCodeValue"):
            value = _plain(dataset, name)
            if value and name in cleaned:
                cleaned.CodingSchemeDesignator, cleaned[name].value = self.values.code(scheme, value)

    def _private(self, dataset: Dataset, tag: Any) -> DataElement | None:
        if not tag.is_private_creator:
            element = readable(dataset, tag)
            creator = readable(dataset, (tag.group << 16) | (tag.element >> 8))
            name = str(creator.value) if creator is not None else ""
            vr = safe_private(name, tag.group, tag.element) if self.profile.private else ""
            if element is not None and vr and fits(element, vr):
                self.cleaning.actions["kept safe private"] += 1
                return DataElement(tag, vr, element.value)
            self.cleaning.actions["removed private"] += 1
        return None

    def _creators(self, dataset: Dataset, cleaned: Dataset) -> None:
        for tag in [tag for tag in cleaned.keys() if tag.is_private]:  # noqa: SIM118
            place = (tag.group << 16) | (tag.element >> 8)
            cleaned.add_new(place, "LO", str(dataset[place].value).strip())

    def _standard(self, dataset: Dataset, tag: Any, parent: str, depth: int, hollow: bool) -> DataElement | None:
        keyword = keyword_for_tag(tag)
        if not keyword or tag.element == 0 or tag.group < 8 or tag.group in (0x4000, 0xFFFA, 0xFFFC):
            self.cleaning.actions["removed unknown"] += 1
            return None
        place = _Place(tag, keyword, type_of(self.sop_class, parent, keyword), depth, hollow)
        code = action_of(tag, self.profile)
        if 0x6000 <= tag.group <= 0x60FF and not self._overlay_stays(keyword):
            code = "X"
        element = readable(dataset, tag)
        if element is None or element.VR not in vrs_of(tag):
            self.cleaning.odd["unreadable or of a wrong VR"] += 1
            return self._finish(place, None, resolve("X", place.kind))
        if keyword in _CODED and not hollow:
            return DataElement(tag, element.VR, "REMOVED")  # _codes puts what may stay
        if keyword in _PSEUDONYMS:
            return self._pseudonym(element, place, parent)
        action: Action = resolve(code, place.kind) if code is not None else self._unlisted(element, place)
        if hollow and action in ("keep", "clean") and element.VR not in NUMERIC and element.VR != "SQ":
            action = resolve("X", place.kind)
        return self._finish(place, element, action, code or "")

    def _overlay_stays(self, keyword: str) -> bool:
        return self.profile.graphics and keyword not in ("OverlayDescription", "OverlayLabel", "OverlayComments")

    def _unlisted(self, element: DataElement, place: _Place) -> Action:
        """What the table does not name: by VR, and for texts by name."""
        vr = element.VR
        if vr in NUMERIC or vr == "SQ":
            return "keep"
        if vr in ("OB", "OW", "UN"):
            return "clean" if place.keyword in BYTES or place.keyword == "ICCProfile" else resolve("X", place.kind)
        if vr == "UI":
            return "uid"
        if vr in ("CS", "DS", "IS", "DA", "DT", "TM") or place.keyword in FREE or place.keyword in TECHNICAL:
            return "clean"
        return resolve("X", place.kind)

    def _pseudonym(self, element: DataElement, place: _Place, parent: str) -> DataElement:
        kind = _PSEUDONYMS[place.keyword]
        value = str(element.value or "").strip()
        base = self.patient if kind == "patient" and not parent else value
        found = self.values.pseudonyms.identifier(kind, base) if value else ""
        if not found and place.kind in ("1", "1C"):
            found = "REMOVED"
        self.cleaning.actions["pseudonym"] += 1
        return DataElement(element.tag, element.VR, found)

    def _finish(self, place: _Place, element: DataElement | None, action: Action, code: str = "") -> DataElement | None:
        """The element after one action; what cannot stay as it is falls back to what the IOD asks for."""
        if element is not None and element.VR == "SQ":
            return self._sequence(place, element, action, code)
        if element is not None and action == "uid":
            return self.values.uids(element, place.keyword)
        if element is not None and action in ("keep", "clean"):
            done = self.values.cleaned(element, place.keyword, keep=action == "keep")
            if done is not None and (not is_blank(done) or is_blank(element)):
                return done
            action = resolve("X", place.kind)
        if action == "remove":
            self.cleaning.actions["removed"] += 1
            return None
        vr = element.VR if element is not None else vrs_of(place.tag)[0]
        if action == "empty" or (element is not None and is_blank(element)) or vr not in DUMMIES:
            self.cleaning.actions["emptied"] += 1
            return DataElement(place.tag, vr, [] if vr == "SQ" else None)
        self.cleaning.actions["replaced by a dummy"] += 1
        dummy = self.values.pseudonyms.uid(f"dummy {place.keyword}") if vr == "UI" else DUMMIES[vr]
        return DataElement(place.tag, vr, dummy)

    def _sequence(self, place: _Place, element: DataElement, action: Action, code: str) -> DataElement | None:
        if action == "remove":
            self.cleaning.actions["removed"] += 1
            return None
        if action == "empty":
            self.cleaning.actions["emptied"] += 1
            return DataElement(element.tag, "SQ", Sequence([]))
        hollow = place.hollow or action == "dummy"
        items = [self.clean(item, place.keyword, place.depth + 1, hollow=hollow) for item in element.value or ()]
        return DataElement(element.tag, "SQ", Sequence(items))


def _say_what_was_done(dataset: Dataset, profile: Profile) -> None:
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = ["medvlm", "DICOM PS3.15 Annex E Basic Profile"]
    codes = []
    for value, meaning in profile.codes():
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning[:64]
        codes.append(item)
    dataset.DeidentificationMethodCodeSequence = Sequence(codes)
    words = {"shift": "MODIFIED", "keep": "UNMODIFIED", "remove": "REMOVED"}
    dataset.LongitudinalTemporalInformationModified = words[profile.dates]


def _file_meta(source: FileDataset, cleaned: Dataset, uid: Callable[[str], str]) -> FileMetaDataset:
    """A meta group of our own: nothing of the sender stays."""
    old = getattr(source, "file_meta", None) or Dataset()
    sop_class = _plain(cleaned, "SOPClassUID") or _plain(old, "MediaStorageSOPClassUID")
    instance = _plain(cleaned, "SOPInstanceUID") or uid(_plain(old, "MediaStorageSOPInstanceUID"))
    if not sop_class or not instance:
        raise VolumeError("the file names no SOP class or no instance; it cannot be written again", "no-sop-class")
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, instance
    meta.TransferSyntaxUID = _transfer_syntax(source)
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION, VERSION
    return meta


def _transfer_syntax(source: FileDataset) -> UID:
    named = UID(_plain(getattr(source, "file_meta", None) or Dataset(), "TransferSyntaxUID"))
    if not named:
        implicit, little = source.original_encoding  # a file without meta group: found by looking at the bytes
        return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    if named.is_private or not named.is_transfer_syntax:
        raise VolumeError(
            f"the transfer syntax {named} is not known here, so the file cannot be written again; convert it to"
            " Explicit VR Little Endian first",
            "transfer-syntax",
        )
    return named


def _plain(dataset: Dataset, name: str) -> str:
    try:
        value = dataset.get(name)
    except Exception:
        return ""
    return "" if value is None or isinstance(value, (bytes, Sequence)) else str(value).strip("\0 ")
