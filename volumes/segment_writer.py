"""Masks -> DICOM Segmentation (SEG) of the series that they were made from. PS3.3 A.51; written by highdicom.

Every frame carries the position of its own source image, so that tilted stacks come back to the same millimetre.
The object belongs to the patient's study and carries the patient's name as the source images do.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from torch import Tensor

from volumes.archive import read_bytes
from volumes.header import get, numbers, open_dataset, text
from volumes.instance import InstanceHeader, derived_uid
from volumes.masks import Mask
from volumes.volume import Volume, VolumeError

Code = tuple[str, str, str]  # value, coding scheme, meaning
ON_SLICE = 0.2  # in voxels: how far a source image may lie from the slice that it gave (readers even out rounding)
_TISSUE: Code = ("85756007", "SCT", "Tissue")
_ABNORMAL: Code = ("49755003", "SCT", "Morphologically Abnormal Structure")
_ANATOMY: Code = ("91723000", "SCT", "Anatomical Structure")
_TYPES: dict[str, tuple[Code, Code]] = {
    "liver": (_ANATOMY, ("10200004", "SCT", "Liver")),
    "spleen": (_ANATOMY, ("78961009", "SCT", "Spleen")),
    "kidney": (_ANATOMY, ("64033007", "SCT", "Kidney")),
    "heart": (_ANATOMY, ("80891009", "SCT", "Heart")),
    "lung": (_ANATOMY, ("39607008", "SCT", "Lung")),
    "aorta": (_ANATOMY, ("15825003", "SCT", "Aorta")),
    "bone": (_ANATOMY, ("272673000", "SCT", "Bone")),
    "nodule": (_ABNORMAL, ("27925004", "SCT", "Nodule")),
    "mass": (_ABNORMAL, ("4147007", "SCT", "Mass")),
    "lesion": (_ABNORMAL, ("52988006", "SCT", "Lesion")),
}

# Of the patient and study modules (PS3.3 C.7.1.1, C.7.2.1): a derived object repeats them, and archives lack some.
_TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)


@dataclass(frozen=True)
class Maker:
    """The program that made the masks, as the object names it."""

    name: str = "medvlm"
    version: str = "unknown"
    algorithm: Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"] = "AUTOMATIC"


def write_segmentation(
    path: Path | str,
    masks: Mapping[str, Mask | Tensor],
    image: Volume,
    instances: Sequence[InstanceHeader],
    *,
    maker: Maker | None = None,
    kind: Literal["BINARY", "FRACTIONAL"] = "BINARY",
) -> str:
    """Write one SEG with a segment per mask and return its SOP instance UID.

    `masks` are bool (D, H, W) on the grid of `image`, which was read from `instances` (one series: single-frame files
    or one multi-frame file). With "FRACTIONAL" the `fraction` of a Mask is kept in steps of 1/255. The UIDs come from
    the content: equal masks give an equal object. Raises VolumeError when a slice of the volume has no source image
    (it was resampled), the sources have no frame of reference, or nothing is inside any mask.
    """
    maker = maker or Maker()
    sources = [source_header(header) for header in instances]
    if any(not text(source, "FrameOfReferenceUID") for source in sources):
        raise VolumeError(
            "the source images name no FrameOfReferenceUID, which ties a SEG to them; write the masks as NIfTI instead",
            "no-frame-of-reference",
        )
    slices = source_slices(sources, image)
    frames = np.stack([_frames(mask, image, kind)[slices] for mask in masks.values()], axis=-1) if masks else None
    if frames is None or not frames.any():
        raise VolumeError("there is no mask, or no voxel inside any; a SEG needs one", "no-mask")
    digest = hashlib.sha256(frames.tobytes() + repr((list(masks), kind, maker)).encode()).hexdigest()
    series_uid = derived_uid("segmentation series", image.source.series_uid, digest)
    sop_uid = derived_uid("segmentation", series_uid)
    with quiet():
        segmentation = _segmentation(sources, frames, masks, kind, maker, (series_uid, sop_uid))
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        segmentation.save_as(path, enforce_file_format=True)
    return sop_uid


def _segmentation(
    sources: Sequence[FileDataset],
    frames: NDArray[Any],
    masks: Mapping[str, Mask | Tensor],
    kind: str,
    maker: Maker,
    uids: tuple[str, str],
) -> Any:
    import highdicom as hd

    descriptions = [_description(n, name, masks[name], maker, uids[1]) for n, name in enumerate(masks, 1)]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=uids[0],
        series_number=_series_number(sources[0]),
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer=maker.name,
        manufacturer_model_name=maker.name,
        software_versions=maker.version,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description="Draft for review",
        series_description="Segmentation, draft for review",
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings: highdicom and pydicom quote the patient's name in theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def source_header(header: InstanceHeader) -> FileDataset:
    """The header of a source image, from disk or a zip, without its pixels; what type 2 asks for is there or empty."""
    source = open_dataset(io.BytesIO(read_bytes(header.path)), stop_before_pixels=True)
    for name in _TYPE_2:
        if name not in source:
            setattr(source, name, None)
    return source


def _frames(mask: Mask | Tensor, image: Volume, kind: str) -> NDArray[Any]:
    voxels = mask.voxels if isinstance(mask, Mask) else mask
    if tuple(voxels.shape) != image.shape:
        raise VolumeError(f"a mask has the shape {tuple(voxels.shape)}, its image {image.shape}", "other-grid")
    if kind == "BINARY":
        return voxels.numpy().astype(np.uint8)
    fraction = mask.fraction if isinstance(mask, Mask) else None
    return (voxels if fraction is None else fraction).numpy().astype(np.float32)


def source_slices(sources: Sequence[Dataset], image: Volume) -> list[int]:
    """For every source frame the slice k of the volume that it gave. Raises VolumeError when they do not match."""
    places = [place for source in sources for place in frame_places(source)]
    index = image.mm_to_index(torch.from_numpy(np.array([position for position, _, _ in places]))).numpy()
    inverse = np.linalg.inv(image.affine[:3, :3].numpy())
    down = np.array([inverse @ row for _, row, _ in places])
    right = np.array([inverse @ column for _, _, column in places])
    k = np.rint(index[:, 0]).astype(int)
    off = max(
        float(np.abs(index - np.stack([k, 0 * k, 0 * k], axis=1)).max()),
        float(np.abs(down - [0, 1, 0]).max()) * image.shape[1],
        float(np.abs(right - [0, 0, 1]).max()) * image.shape[2],
    )
    doubled = len(k) - len(set(k.tolist()))
    if off > ON_SLICE or sorted(set(k.tolist())) != list(range(image.shape[0])) or doubled:
        raise VolumeError(
            f"the volume has {image.shape[0]} slices and the series {len(k)} images, which lie up to {off:.2f} voxels"
            f" off them ({doubled} of them doubled); expected one image per slice. Place the mask on the grid of the"
            " series first",
            "other-grid",
        )
    return k.tolist()


def frame_places(source: Dataset) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """(first pixel, step to the next row, step to the next column) in mm, of each frame of one file."""
    shared = (get(source, "SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = get(source, "PerFrameFunctionalGroupsSequence") or [None]
    found = []
    for frame in frames:
        position = _of(source, frame, shared, "PlanePositionSequence", "ImagePositionPatient", 3)
        orientation = _of(source, frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
        spacing = _of(source, frame, shared, "PixelMeasuresSequence", "PixelSpacing", 2)
        found.append((position, orientation[3:] * spacing[0], orientation[:3] * spacing[1]))
    return found


def _of(source: Dataset, frame: Dataset | None, shared: Dataset, group: str, name: str, count: int) -> Any:
    if frame is None:
        values = numbers(source, name, count)
    else:
        items = get(frame, group) or get(shared, group)
        values = numbers(items[0], name, count) if items else ()
    if not values:
        raise VolumeError(f"a source image has no {name}: its place in the patient is unknown", "no-position")
    return np.array(values)


def _description(number: int, name: str, mask: Mask | Tensor, maker: Maker, sop_uid: str) -> Any:
    import highdicom as hd

    category, kind = _codes(name)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=hd.sr.CodedConcept(*category),
        segmented_property_type=hd.sr.CodedConcept(*kind),
        algorithm_type=(mask.algorithm if isinstance(mask, Mask) else "") or maker.algorithm,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=maker.name,
            version=maker.version,
            family=hd.sr.CodedConcept("123109", "DCM", "Manual Processing")
            if maker.algorithm == "MANUAL"
            else hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
        ),
        tracking_uid=derived_uid("segment", sop_uid, str(number)),
        tracking_id=name[:64],
    )


def _codes(name: str) -> tuple[Code, Code]:
    """Category and type (SNOMED CT) of a mask's name; Tissue, the most general one, where it is not in our list."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((codes for word, codes in _TYPES.items() if word in words), (_TISSUE, _TISSUE))


def _series_number(source: FileDataset) -> int:
    number = text(source, "SeriesNumber")
    return 1000 + (int(number) if number.isdigit() and len(number) < 7 else 0)
