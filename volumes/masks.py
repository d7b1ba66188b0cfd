"""Masks that somebody drew or a program made (DICOM SEG, RTSTRUCT) -> voxels on the grid of their image."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydicom.dataset import Dataset, FileDataset
from torch import Tensor

from volumes.archive import crawl
from volumes.header import get, read_header, text
from volumes.instance import InstanceHeader, Refusal
from volumes.planes import open_image
from volumes.study import Study
from volumes.volume import Volume, VolumeError

Drawn = Literal["series", "frame-of-reference", "anything"]
MASK_MODALITIES = ("SEG", "RTSTRUCT")
MAX_MASK_BYTES = 8 * 2**30  # of all masks of one object together, a byte per voxel


@dataclass(frozen=True, eq=False)
class Mask:
    """One segment or structure: bool (D, H, W) on the grid of an image, and what its object says about it.

    `fraction` is float32 (D, H, W) in [0, 1] for a FRACTIONAL segment; its `voxels` are those of 0.5 and more.
    """

    name: str
    voxels: Tensor
    number: int = 1
    meaning: str = ""  # of the coded property type, such as Liver
    category: str = ""  # of the coded category, such as Tissue
    algorithm: str = ""  # AUTOMATIC, SEMIAUTOMATIC, MANUAL
    object_uid: str = ""  # SOP instance UID of the SEG or RTSTRUCT
    fraction: Tensor | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or self.voxels.dtype != torch.bool:
            raise VolumeError(
                f"mask {self.name!r} is {self.voxels.dtype} of shape {tuple(self.voxels.shape)}; expected bool"
                " (D, H, W)",
                "bad-mask",
            )

    def volume_ml(self, image: Volume) -> float:
        """Volume in ml: number of voxels times the volume of one."""
        return int(self.voxels.sum()) * image.voxel_ml


class Masks(dict[str, Mask]):
    """Masks by name, in the order of their objects; a name met twice gets a number. `refusals`: what was not taken."""

    refusals: tuple[Refusal, ...] = ()


def read_masks(
    where: Study | Path | str | Sequence[InstanceHeader],
    image: Volume,
    *,
    drawn_on: Drawn = "series",
    only: Collection[str] = (),
) -> Masks:
    """Every SEG segment and RTSTRUCT structure of a study, path or list of objects, on the grid of `image`.

    Taken are objects that refer to the image's series, or to none and share its frame of reference; with
    `drawn_on="frame-of-reference"` also those drawn on other series that share it; with "anything" the caller
    vouches that they lie in the same patient space (an image that came as NIfTI cannot show it). `only` names the
    segments and structures to read, all when empty.
    Frames are placed one by one by their own positions, so a missing frame is zeros and a tilted stack is no problem;
    a SEG on another grid is resampled to the nearest voxel, which its notes say. Raises VolumeError when an object
    that was chosen is damaged, or when none fits the image.
    """
    headers = _objects(where)
    frame = _frame_of_reference(image)
    found, refusals = Masks(), list[Refusal]()
    for header in headers:
        dataset = open_image(header)
        why = _stranger(dataset, image, frame, drawn_on)
        if why:
            refusals.append(Refusal(header.path, "other-image", why))
            continue
        masks, refused = _read(dataset, header, image, Wanted(frozenset(only), frame if drawn_on != "anything" else ""))
        refusals += refused
        for mask in masks:
            found[_free(mask.name, found)] = mask
    if not found and (refusals or only):
        told = "; ".join(dict.fromkeys(r.message for r in refusals[:4])) or f"none is called {', '.join(only)}"
        raise VolumeError(f"none of {len(headers)} SEG and RTSTRUCT objects gives a mask here: {told}", "no-mask")
    found.refusals = tuple(refusals)
    return found


def _objects(where: Study | Path | str | Sequence[InstanceHeader]) -> list[InstanceHeader]:
    headers: Iterable[InstanceHeader | Refusal]
    if isinstance(where, Study):
        headers = where.objects
    else:
        headers = crawl([where], digests=False) if isinstance(where, Path | str) else where
    objects = [h for h in headers if isinstance(h, InstanceHeader) and h.modality in MASK_MODALITIES]
    if not objects:
        raise VolumeError("no SEG or RTSTRUCT object is there; expected one or more", "no-mask")
    return objects


@dataclass(frozen=True)
class Wanted:
    """Which masks of an object are read: by name (all when empty), and in one frame of reference (any when empty)."""

    names: frozenset[str] = frozenset()
    frame: str = ""

    def takes(self, name: str) -> bool:
        """Whether a mask of this name was asked for."""
        return not self.names or name in self.names


def check_room(count: int, image: Volume) -> None:
    """Refuse an object whose masks would take more memory than is read at once."""
    needed = count * image.voxels.numel()
    if needed > MAX_MASK_BYTES:
        raise VolumeError(
            f"the object holds {count} masks, which take {needed} bytes on the image of {image.shape} voxels; at most"
            f" {MAX_MASK_BYTES} are read at once. Name the ones to read with only=",
            "too-large",
        )


def _read(
    dataset: FileDataset, header: InstanceHeader, image: Volume, wanted: Wanted
) -> tuple[list[Mask], list[Refusal]]:
    try:
        if header.modality == "SEG":
            from volumes.segmentation import read_segments

            return read_segments(dataset, image, wanted), []
        from volumes.contours import read_structures

        return read_structures(dataset, image, header.path, wanted)
    except VolumeError as error:
        raise VolumeError(f"{header.modality} {header.sop_uid}: {error}", error.reason) from error


def _free(name: str, taken: Masks) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def _frame_of_reference(image: Volume) -> str:
    """Of the image's first file; empty when it is no DICOM file, is gone, or names none."""
    try:
        header = read_header(image.source.path, digests=False) if image.source.path else None
    except VolumeError:
        return ""
    return header.frame_of_reference if header and header.series_uid == image.source.series_uid else ""


def _stranger(dataset: Dataset, image: Volume, frame: str, drawn_on: Drawn) -> str:
    """Why the object does not belong to the image, or nothing."""
    series, instances = referenced(dataset)
    own = image.source.series_uid in series or bool(instances & set(image.source.sop_uids))
    frames = _frames(dataset)
    if drawn_on == "anything":
        return ""
    if frame and frames and frame not in frames:
        return (
            f"the object lies in the frame of reference {sorted(frames)[0]}, the image in {frame}; expected one and"
            " the same (register them, or vouch for it with drawn_on='anything')"
        )
    if own:
        return ""
    shared = bool(frame) and frame in frames
    if (series or instances) and not (shared and drawn_on == "frame-of-reference"):
        return f"the object was drawn on series {min(series, default='unknown')}, not on {image.source.series_uid}" + (
            " (drawn_on='frame-of-reference' takes it: both share one)" if shared else ""
        )
    if not shared:
        return "neither a reference nor a frame of reference ties the object to the image (see drawn_on)"
    return ""


def _frames(dataset: Dataset) -> set[str]:
    found = {text(dataset, "FrameOfReferenceUID")}
    found |= {text(roi, "ReferencedFrameOfReferenceUID") for roi in get(dataset, "StructureSetROISequence") or ()}
    return found - {""}


def referenced(dataset: Dataset) -> tuple[set[str], set[str]]:
    """UIDs of the series and of the instances that a SEG or RTSTRUCT says it was drawn on."""
    series: set[str] = set()
    instances: set[str] = set()
    for item in get(dataset, "ReferencedSeriesSequence") or ():
        series.add(text(item, "SeriesInstanceUID"))
        instances |= {text(one, "ReferencedSOPInstanceUID") for one in get(item, "ReferencedInstanceSequence") or ()}
    for frame in get(dataset, "ReferencedFrameOfReferenceSequence") or ():
        for study in get(frame, "RTReferencedStudySequence") or ():
            for item in get(study, "RTReferencedSeriesSequence") or ():
                series.add(text(item, "SeriesInstanceUID"))
                images = get(item, "ContourImageSequence") or ()
                instances |= {text(one, "ReferencedSOPInstanceUID") for one in images}
    return series - {""}, instances - {""}
