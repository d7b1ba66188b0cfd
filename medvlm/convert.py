"""`medvlm convert`: volumes and masks from DICOM to research files and back, with their geometry."""

from __future__ import annotations

import re
from pathlib import Path

from volumes.masks import Mask, Masks, read_masks
from volumes.nifti_writer import write_mask_nifti, write_nifti
from volumes.nrrd_writer import write_nrrd
from volumes.reorient import reorient
from volumes.study import Reading, Series, Study, read_study
from volumes.volume import Volume, VolumeError

NIFTI = (".nii", ".nii.gz")


def convert(
    study: Path,
    out: Path,
    *,
    masks: Path | None = None,
    overlays: bool = False,
    orientation: str = "",
    time_point: int | None = None,
    reading: Reading | None = None,
) -> list[str]:
    """Write what `out` names and return one line per file or refusal; see `medvlm convert --help`.

    Raises VolumeError when the one volume that was asked for cannot be read, or nothing could be written.
    """
    found = read_study(study, **(reading or {}))
    name = out.name.lower()
    if name.endswith(".dcm"):
        return [_segmentation(found, out, masks)]
    if name.endswith((*NIFTI, ".nrrd")):
        if overlays:
            raise VolumeError("overlays are many files; name a folder as --out", "bad-out")
        series = found.main_series(series_uid=(reading or {}).get("series_uid", ""))
        return _one(found, series, out, masks, orientation, time_point)
    if out.suffix:
        raise VolumeError(f"{out.name}: --out ends in .nii, .nii.gz, .nrrd or .dcm, or is a folder", "bad-out")
    return _folder(found, out, masks, overlays, orientation)


def _one(
    study: Study, series: Series, out: Path, masks: Path | None, orientation: str, time_point: int | None
) -> list[str]:
    image = _volume(series, time_point)
    lines = [_write(image, out, orientation)]
    if masks is not None:
        lines += _write_masks(_masks(study, masks, image), image, out, orientation)
    return lines


def _folder(study: Study, out: Path, masks: Path | None, overlays: bool, orientation: str) -> list[str]:
    """Every volume of the study, and what masks fit each of them."""
    lines: list[str] = []
    written = 0
    for series in study.volumes():
        place = out / f"{series.address.replace('#', '_')}.nii.gz"
        try:
            image = _volume(series, None)
            lines.append(_write(image, place, orientation))
            written += 1
            drawn = _masks(study, masks, image) if masks is not None or study.objects else Masks()
        except VolumeError as error:
            if error.reason != "no-mask":
                lines.append(f"refused: {error}")
            continue
        lines += _write_masks(drawn, image, place, orientation)
        if overlays and drawn:
            lines += _overlays(series, image, drawn, out / "overlays")
    if not written:
        raise VolumeError("; ".join(lines) or "the study holds no volume (CT, MR or PET series)", "no-volume")
    return lines


def _volume(series: Series, time_point: int | None) -> Volume:
    image = series.read(frame=time_point)
    if not isinstance(image, Volume):
        raise VolumeError(f"series {series.label()} is no volume; films are not converted", "not-a-volume")
    return image


def _masks(study: Study, masks: Path | None, image: Volume) -> Masks:
    """From DICOM objects (of the study itself where nothing is named), or from a file of labels."""
    if masks is not None and masks.name.lower().endswith((*NIFTI, ".nrrd", ".mha")):
        from volumes.mask_files import read_mask_file

        return read_mask_file(masks, image)
    return read_masks(study if masks is None else masks, image)


def _write(image: Volume, out: Path, orientation: str) -> str:
    turned = reorient(image, orientation) if orientation else image
    if out.name.lower().endswith(".nrrd"):
        write_nrrd(out, turned)
    else:
        write_nifti(out, turned)
    spacing = " x ".join(f"{v:.3f}" for v in turned.spacing_mm)
    notes = "".join(f"\n    {note}" for note in turned.notes)
    return f"{out}: {turned.shape} voxels of {spacing} mm, unit {turned.unit}, axes {turned.orientation}{notes}"


def _write_masks(drawn: Masks, image: Volume, out: Path, orientation: str) -> list[str]:
    stem = re.sub(r"(\.nii\.gz|\.nii|\.nrrd)$", "", out.name, flags=re.IGNORECASE)
    lines = []
    for number, mask in enumerate(drawn.values(), 1):
        place = out.with_name(f"{stem}_mask{number:02d}_{_safe(mask.name)}.nii.gz")
        grid = Volume(mask.voxels.float(), image.affine, "raw", image.source)
        turned = reorient(grid, orientation) if orientation else grid
        write_mask_nifti(place, turned.voxels > 0, turned)
        told = "".join(f"\n    {note}" for note in mask.notes)
        lines.append(f"{place}: {int(mask.voxels.sum())} voxels, {mask.volume_ml(image):.2f} ml{told}")
    return lines + [f"refused: {r.message}" for r in drawn.refusals if r.reason != "other-image"]


def _safe(name: str) -> str:
    """A mask's name as part of a file name: letters, digits, dash and underline."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:40].strip("_") or "mask"


def _segmentation(study: Study, out: Path, masks: Path | None) -> str:
    from medvlm import __version__
    from volumes.segment_writer import Maker, write_segmentation

    if masks is None:
        raise VolumeError("a SEG is made from masks; name a file of labels with --masks", "no-mask")
    series = study.main_series()
    image = _volume(series, None)
    drawn: dict[str, Mask] = _masks(study, masks, image)
    uid = write_segmentation(out, drawn, image, series.instances, maker=Maker(version=__version__))
    return f"{out}: SEG {uid} of {len(drawn)} segments, draft for review"


def _overlays(series: Series, image: Volume, drawn: Masks, folder: Path) -> list[str]:
    from volumes.overlay_writer import write_overlays

    place = folder / series.address.replace("#", "_")
    try:
        paths = write_overlays(place, image, series.instances, masks=drawn)
    except VolumeError as error:
        return [f"no overlays of series {series.label()}: {error}"]
    return [f"{place}: {len(paths)} overlays, drafts for review"]
