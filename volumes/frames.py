"""The frames of an Enhanced multi-frame file as its functional groups describe them (PS3.3 C.7.6.16); no pixels.

One file may hold several stacks, time points, echoes or b-values. Its frames are split by the very rules that split
the single-frame files of a series, so each part is one image and can be named.
"""

from __future__ import annotations

from functools import lru_cache

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from volumes.errors import VolumeError
from volumes.grouping import MOST_STACKS, belongs, occasions
from volumes.header import integer, items, numbers, text, texts
from volumes.instance import InstanceHeader

MOST_FRAMES = 50_000  # a file that claims more is read as one image or refused, not taken apart


class _Groups:
    """Functional groups of one item, each looked up once: a file may hold ten thousand frames."""

    def __init__(self, item: Dataset) -> None:
        self.item = item
        self._found: dict[str, Dataset | None] = {}
        self._numbers: dict[tuple[str, str, int], tuple[float, ...]] = {}

    def find(self, group: str) -> Dataset | None:
        if group not in self._found:
            self._found[group] = next(iter(items(self.item, group)), None) if _holds(self.item, group) else None
        return self._found[group]

    def numbers(self, group: str, name: str, count: int) -> tuple[float, ...]:
        key = (group, name, count)
        if key not in self._numbers:
            item = self.find(group)
            self._numbers[key] = numbers(item, name, count) if item is not None and _holds(item, name) else ()
        return self._numbers[key]


class FrameGroups:
    """Functional groups of one frame: its own, else the shared ones."""

    def __init__(self, own: Dataset, shared: _Groups) -> None:
        self._own, self._shared = _Groups(own), shared

    def _holder(self, group: str) -> _Groups:
        return self._shared if self._own.find(group) is None else self._own

    def find(self, group: str) -> Dataset | None:
        """The first item of a functional group, or None."""
        return self._holder(group).find(group)

    def numbers(self, group: str, name: str, count: int, required: bool = True) -> tuple[float, ...]:
        """Numbers of a group; raises VolumeError when they are required and absent."""
        found = self._holder(group).numbers(group, name, count)
        if required and not found:
            raise VolumeError(f"a frame has no {name} in its functional groups", "no-position")
        return found

    def text(self, group: str, *names: str) -> str:
        """The first of some texts of a group that is there, else empty."""
        item = self.find(group)
        if item is None:
            return ""
        return next(filter(None, (text(item, name) for name in names if _holds(item, name))), "")


@lru_cache(maxsize=64)
def _tag(name: str) -> int:
    return int(tag_for_keyword(name) or 0)


def _holds(dataset: Dataset, name: str) -> bool:
    return _tag(name) in dataset.keys()  # noqa: SIM118, a look-up of the dataset itself costs ten times as much


def frame_groups(dataset: Dataset) -> list[FrameGroups]:
    """The groups of every frame; raises VolumeError when there is not one per frame."""
    frames, count = items(dataset, "PerFrameFunctionalGroupsSequence"), integer(dataset, "NumberOfFrames") or 1
    if len(frames) != count:
        raise VolumeError(
            f"the file has {count} frames and {len(frames)} per-frame functional groups; without one per"
            " frame (a cine or an old multi-frame) the frames have no place in the patient. Read one of them with"
            " read(frame=...)",
            "no-position",
        )
    shared = _Groups(next(iter(items(dataset, "SharedFunctionalGroupsSequence")), Dataset()))
    return [FrameGroups(frame, shared) for frame in frames]


def stacks_of(dataset: Dataset) -> tuple[str, ...]:
    """The frames (numbers from 0) of each image in a file that holds several; () when it holds one, or is unclear."""
    if (integer(dataset, "NumberOfFrames") or 1) > MOST_FRAMES:
        return ()
    try:
        frames = [_as_slice(n, groups) for n, groups in enumerate(frame_groups(dataset))]
    except VolumeError:
        return ()  # refused with its reason when it is read
    found: list[list[InstanceHeader]] = []
    for frame in frames:
        home = next((one for one in found if one[0].body_part == frame.body_part and belongs(one[0], frame)), None)
        if home is None:
            found.append([frame])
        else:
            home.append(frame)
        if len(found) > MOST_STACKS:
            return ()
    parts = [part for one in found for part in occasions(one)]
    if len(parts) < 2:
        return ()
    return tuple(" ".join(str(frame.instance_number) for frame in part) for part in parts)


def _as_slice(number: int, groups: FrameGroups) -> InstanceHeader:
    """A frame as if it were a file of its own, for the rules that split a series."""
    content = "FrameContentSequence"
    kind = next(
        filter(None, (groups.find(f"{one}FrameTypeSequence") for one in ("MRImage", "CTImage", "PETFrame", "PET"))),
        None,
    )
    diffusion = groups.find("MRDiffusionSequence")
    gradient = items(diffusion, "DiffusionGradientDirectionSequence") if diffusion is not None else []
    direction = numbers(gradient[0], "DiffusionGradientOrientation", 3) if gradient else ()
    return InstanceHeader(
        path="",
        format="dicom",
        study_uid="",
        series_uid="",
        sop_uid="",
        patient_key="",
        modality="",
        body_part=groups.text(content, "StackID"),  # an own stack is never merged with another
        instance_number=number,
        image_type=texts(kind, "FrameType") if kind is not None else (),
        position=groups.numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        orientation=groups.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        pixel_spacing=groups.numbers("PixelMeasuresSequence", "PixelSpacing", 2),
        time_point=groups.text(content, "TemporalPositionIndex"),
        echo=groups.text("MREchoSequence", "EffectiveEchoTime"),
        b_value=groups.text("MRDiffusionSequence", "DiffusionBValue"),
        direction="/".join(f"{v:.4f}" for v in direction),
        inversion=groups.text("MRModifierSequence", "InversionTimes"),
        phase=groups.text("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase")
        or groups.text("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
        acquisition=groups.text(content, "FrameAcquisitionNumber"),
        acquired=groups.text(content, "FrameAcquisitionDateTime").partition("+")[0],
    )
