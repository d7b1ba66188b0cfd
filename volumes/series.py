"""A series: the files that make one image, what kind of image that is, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from volumes.errors import SeriesError
from volumes.grouping import ENHANCED, FILM_MODALITIES, ULTRASOUND_MODALITIES, is_mosaic
from volumes.instance import Format, InstanceHeader

if TYPE_CHECKING:
    from volumes.gaps import Gaps
    from volumes.volume import Film, Source, Unit, View, Volume

VOLUME_MODALITIES = ("CT", "MR", "PT")
VOLUME_FORMATS = ("nifti", "nrrd", "metaimage")

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame sisters, .7.1 to .7.4

Kind = Literal["film", "volume", "ultrasound", "other"]


@dataclass(frozen=True)
class Series:
    """Instances that make one image. A DICOM series that mixes planes, sizes or time points becomes several parts.

    Parts share a series UID; `address` tells them apart, and is taken wherever a series UID is asked for.
    """

    study_uid: str
    series_uid: str
    modality: str
    view: View
    body_part: str
    description: str
    instances: tuple[InstanceHeader, ...]
    part: str = ""  # which part of a split DICOM series; empty when it was not split
    unit: Unit = "raw"  # of NIfTI and NRRD only, as the caller said
    frames: tuple[int, ...] = ()  # of a multi-frame file that holds several images: those of this one, from 0

    @property
    def address(self) -> str:
        """The series UID, followed by # and the number of the part where the series was split: "1.2.3#2"."""
        return f"{self.series_uid}#{self.part.split()[1]}" if self.part.startswith("part ") else self.series_uid

    @property
    def n_frames(self) -> int:
        """How many planes the files hold: one each, or the frames of multi-frame files."""
        return len(self.frames) or sum(h.frames for h in self.instances)

    @property
    def n_instances(self) -> int:
        """Number of files."""
        return len(self.instances)

    @property
    def format(self) -> Format:
        """dicom, nifti, nrrd, metaimage or picture."""
        return self.instances[0].format

    @property
    def kind(self) -> Kind:
        """What `read` gives: a film, a volume, an ultrasound image (as a Film), or a refusal (other)."""
        if self.format == "picture" or (self.format == "dicom" and self.modality in FILM_MODALITIES):
            return "film"
        if self.format in VOLUME_FORMATS or (self.modality in VOLUME_MODALITIES and not self.is_capture):
            return "volume"
        return "ultrasound" if self.modality in ULTRASOUND_MODALITIES else "other"

    @property
    def is_capture(self) -> bool:
        """Whether it is a picture of a screen, a result or a dose sheet, filed under the modality that it came from."""
        first = self.instances[0]
        colour = bool(first.photometric) and not first.photometric.startswith("MONOCHROME")
        return self.format == "dicom" and (colour or first.sop_class.startswith(SECONDARY_CAPTURE))

    @property
    def is_stack(self) -> bool:
        """Whether it is made of slices, one a file, whose headers place them: what can be checked without pixels."""
        return self.kind == "volume" and all(
            h.format == "dicom"
            and h.frames == 1
            and not h.concatenation
            and not is_mosaic(h)
            and (bool(h.orientation) or h.sop_class not in ENHANCED)
            for h in self.instances
        )

    @property
    def is_localizer(self) -> bool:
        """Whether the file says that the image only served to plan the scan."""
        return "LOCALIZER" in self.instances[0].image_type

    def read(self, frame: int | None = None, *, gaps: Gaps = "refuse", require: Unit | None = None) -> Volume | Film:
        """The image: a Volume or a Film. Raises SeriesError that says what was found and what to do.

        `frame` (from 0) names one frame of a cine run or one volume of a NIfTI time series. `gaps="resample"` puts
        DICOM slices with gaps or varying spacing on a regular grid, with a note. `require` refuses a volume in another
        unit (a PET without SUV).
        """
        first = self.instances[0]
        if frame is not None:
            return self._read_file(require, frame) if first.format == "nifti" else self._read_frame(frame)
        if self.kind == "film":
            from volumes.radiograph import read_film, read_picture

            return read_picture(first) if first.format == "picture" else read_film(first)
        if self.kind == "ultrasound":
            from volumes.ultrasound import read_ultrasound

            return read_ultrasound(first)
        if first.format != "dicom":
            return self._read_file(require)
        if self.kind == "volume":
            from volumes.dicom import read_volume

            return read_volume(self.instances, self.frames, gaps, require)
        if self.modality in VOLUME_MODALITIES:
            raise SeriesError(
                f"series {self.series_uid} ({self.modality}) is a picture of a result or of a screen"
                f" ({first.photometric or 'secondary capture'}), not a measured image; expected the original images",
                "capture",
            )
        raise SeriesError(
            f"series {self.series_uid} has the modality {self.modality or 'not stated'!r}; images of"
            f" {', '.join(VOLUME_MODALITIES + FILM_MODALITIES + ULTRASOUND_MODALITIES)} are read",
            "unsupported-modality",
        )

    def regular_runs(self) -> list[Series]:
        """The slices cut wherever their distance changes, each run readable as it is; [self] when it never does.

        For series that `read` refuses for a missing slice or varying spacing, where resampling is not wanted.
        """
        if (
            not self.is_stack
            or len(self.instances) < 2
            or not all(h.position and h.orientation for h in self.instances)
        ):
            return [self]
        import numpy as np

        from volumes.gaps import runs

        places = np.array([h.position for h in self.instances]), np.array([h.orientation for h in self.instances])
        found = runs(*places)
        if len(found) == 1:
            return [self]
        chosen = [tuple(self.instances[n] for n in run) for run in found]
        return [replace(self, instances=c, part=f"run {n} of {len(found)}") for n, c in enumerate(chosen, 1)]

    def _read_frame(self, frame: int) -> Film:
        """One frame as a Film; of a volume too (an old multi-frame MR without places), as it is stored."""
        first = self.instances[0]
        alone = self.kind in ("film", "ultrasound") or (self.n_instances == 1 and first.frames > 1)
        if first.format == "dicom" and alone and self.kind != "other":
            from volumes.radiograph import read_film
            from volumes.ultrasound import read_ultrasound

            return read_ultrasound(first, frame) if self.kind == "ultrasound" else read_film(first, frame)
        raise SeriesError(
            f"series {self.series_uid} holds no frames that can be read by number; read() gives all of it",
            "no-frame",
        )

    def _read_file(self, require: Unit | None, time_point: int | None = None) -> Volume:
        first = self.instances[0]
        if first.format == "nifti":
            from volumes.nifti import read_nifti

            volume = read_nifti(first.path, self.unit, self._source(), time_point=time_point)
        elif first.format == "metaimage":
            from volumes.metaimage import read_metaimage

            volume = read_metaimage(first.path, self.unit, self._source())
        else:
            from volumes.nrrd import read_nrrd

            volume = read_nrrd(first.path, self.unit, self._source())
        if require not in (None, volume.unit):
            raise SeriesError(f"the volume carries the unit {volume.unit!r}, expected {require!r}", "wrong-unit")
        return volume

    def _source(self) -> Source:
        first = self.instances[0]
        from volumes.volume import Source

        return Source(self.study_uid, self.series_uid, (first.sop_uid,), self.modality, self.body_part, path=first.path)

    def label(self) -> str:
        """One line for messages: no patient, no free text."""
        part = f", {self.part}" if self.part else ""
        return f"{self.address} ({self.modality or '?'}, {self.n_instances} images{part})"
