"""Enhanced multi-frame files: frames in any order, several images in one file, one image in several files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_field import LATER_HU, Image, enhanced, error_mm, plane, positions, rotated, save
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from witness import assert_same_place, dcm2niix, needs_dcm2niix

from volumes.catalog import Catalog
from volumes.study import Series, read_study
from volumes.volume import SeriesError, Volume

TURN = rotated(15, -25, 40)
SHAPE = (20, 28)
COUNT = 6


def frames(add_hu: float = 0.0, turn: Sequence[float] = TURN, count: int = COUNT, **options: Any) -> list[Dataset]:
    """Slices of the field, each with a rescale of its own."""
    at = positions(count, turn)
    return [plane(p, turn, SHAPE, add_hu=add_hu, slope=0.2 + 0.01 * n, **options) for n, p in enumerate(at)]


def group(dataset: Dataset, frame: int, sequence: str, **values: Any) -> None:
    """Set elements of a functional group of one frame, made where it is absent."""
    holder = dataset.PerFrameFunctionalGroupsSequence[frame]
    if sequence not in holder:
        setattr(holder, sequence, [Dataset()])
    for name, value in values.items():
        setattr(holder[sequence].value[0], name, value)


def shuffled(slices: list[Dataset], seed: int = 3) -> tuple[Dataset, list[int]]:
    """One file of the slices in random order, and that order."""
    order = [int(n) for n in np.random.default_rng(seed).permutation(len(slices))]
    return enhanced([slices[n] for n in order]), order


def parts(path: Path) -> tuple[Series, ...]:
    return read_study(path).series


def image(one: Series) -> Image:
    volume = one.read()
    assert isinstance(volume, Volume)
    return volume.voxels.numpy(), volume.affine.numpy()


def by_temporal_index(whole: Dataset, n: int, second: bool) -> None:
    group(whole, n, "FrameContentSequence", TemporalPositionIndex=1 + second)


def by_echo(whole: Dataset, n: int, second: bool) -> None:
    group(whole, n, "MREchoSequence", EffectiveEchoTime=30.0 if second else 5.0)


def by_b_value(whole: Dataset, n: int, second: bool) -> None:
    group(whole, n, "MRDiffusionSequence", DiffusionBValue=1000.0 if second else 0.0)


def by_kind(whole: Dataset, n: int, second: bool) -> None:
    kind = ["ORIGINAL", "PRIMARY", "M", "PHASE" if second else "MAGNITUDE"]
    group(whole, n, "MRImageFrameTypeSequence", FrameType=kind)


def by_cardiac_phase(whole: Dataset, n: int, second: bool) -> None:
    group(whole, n, "CardiacSynchronizationSequence", NominalPercentageOfCardiacPhase=70.0 if second else 35.0)


def by_acquisition_time(whole: Dataset, n: int, second: bool) -> None:
    when = f"202401311015{30 if second else 0:02d}.{n:03d}"  # every frame has a time of its own
    group(whole, n, "FrameContentSequence", FrameAcquisitionDateTime=when)


@pytest.mark.parametrize(
    "tell", [by_temporal_index, by_echo, by_b_value, by_kind, by_cardiac_phase, by_acquisition_time]
)
def test_two_images_of_the_same_places_in_one_file_become_two_parts(tmp_path: Path, tell: Any) -> None:
    whole, order = shuffled(frames() + frames(LATER_HU))
    for n, was in enumerate(order):
        tell(whole, n, was >= COUNT)
    save(tmp_path / "one.dcm", whole)

    found = parts(tmp_path)

    assert [one.part for one in found] == ["part 1 of 2", "part 2 of 2"]
    assert [(one.n_instances, one.n_frames) for one in found] == [(1, COUNT)] * 2
    errors = [[error_mm(image(one), later)[1] < 0.05 for later in (False, True)] for one in found]
    expected = [[True, False], [False, True]]
    assert errors in (expected, expected[::-1])
    assert tell is by_kind or errors == expected  # all but texts are in the order of their values


def test_diffusion_directions_of_one_b_value_are_told_apart(tmp_path: Path) -> None:
    whole, order = shuffled([one for k in range(4) for one in frames(100.0 * k)])
    for n, was in enumerate(order):
        volume = was // COUNT
        group(whole, n, "MRDiffusionSequence", DiffusionBValue=0.0 if volume == 0 else 1000.0)
        if volume:
            direction = Dataset()
            direction.DiffusionGradientOrientation = [float(volume == axis) for axis in (1, 2, 3)]
            group(whole, n, "MRDiffusionSequence", DiffusionGradientDirectionSequence=[direction])
    save(tmp_path / "one.dcm", whole)

    found = parts(tmp_path)

    assert [one.n_frames for one in found] == [COUNT] * 4
    means = sorted(float(image(one)[0].mean()) for one in found)
    assert np.diff(means) == pytest.approx([100.0] * 3, abs=0.2)
    assert float(image(found[0])[0].mean()) == pytest.approx(means[0])  # b = 0 comes first


def test_stacks_of_other_planes_are_parts_of_their_own(tmp_path: Path) -> None:
    other = rotated(90, 10, 0)
    slices = frames() + frames(turn=other, count=4)
    whole = enhanced(slices)
    for n, one in enumerate(slices):
        orientation, measures = Dataset(), Dataset()
        orientation.ImageOrientationPatient = one.ImageOrientationPatient
        measures.PixelSpacing = one.PixelSpacing
        whole.PerFrameFunctionalGroupsSequence[n].PlaneOrientationSequence = [orientation]
        whole.PerFrameFunctionalGroupsSequence[n].PixelMeasuresSequence = [measures]
        group(whole, n, "FrameContentSequence", StackID="1" if n < COUNT else "2")
    save(tmp_path / "one.dcm", whole)

    found = parts(tmp_path)

    assert [one.n_frames for one in found] == [COUNT, 4]
    assert [error_mm(image(one))[1] < 0.05 for one in found] == [True, True]


def test_a_part_is_found_again_through_the_catalog(tmp_path: Path) -> None:
    whole, order = shuffled(frames() + frames(LATER_HU))
    for n, was in enumerate(order):
        by_temporal_index(whole, n, was >= COUNT)
    save(tmp_path / "in" / "one.dcm", whole)
    with Catalog.create(tmp_path / "catalog.db") as catalog:
        catalog.add_study(read_study(tmp_path / "in"))
        catalog.add_study(read_study(tmp_path / "in"))  # a second ingest changes nothing
        rows = catalog.series(read_study(tmp_path / "in").study_uid)

        assert [row.part for row in rows] == ["part 1 of 2", "part 2 of 2"]
        for later, row in enumerate(rows):
            volume = row.read()
            assert isinstance(volume, Volume)
            assert error_mm((volume.voxels.numpy(), volume.affine.numpy()), bool(later))[1] < 0.05


def cut(sizes: Sequence[int], **tags: Any) -> list[Dataset]:
    """The frames of one image in several files of a concatenation."""
    slices, out = frames(), []
    for n, size in enumerate(sizes):
        one = enhanced([slices.pop() for _ in range(size)])
        one.ConcatenationUID, one.InConcatenationNumber = "1.2.826.0.1.7.77", n + 1
        one.InConcatenationTotalNumber, one.InstanceNumber = len(sizes), 1
        for name, value in tags.items():
            setattr(one, name, value)
        out.append(one)
    return out


def test_a_concatenation_is_joined(tmp_path: Path) -> None:
    for n, one in enumerate(cut((2, 3, 1))):
        save(tmp_path / f"{9 - n}.dcm", one)
    (whole,) = parts(tmp_path)
    volume = whole.read()
    assert isinstance(volume, Volume)

    assert (whole.n_instances, whole.n_frames, volume.shape) == (3, COUNT, (COUNT, *SHAPE))
    assert error_mm(image(whole))[1] < 0.05
    assert "6 frames of 3 concatenated multi-frame files placed by their functional groups" in volume.notes


def test_a_concatenation_with_a_file_missing_is_refused(tmp_path: Path) -> None:
    for n, one in enumerate(cut((2, 2, 2))):
        if n != 1:
            save(tmp_path / f"{n}.dcm", one)

    with pytest.raises(
        SeriesError, match="concatenation of 3 multi-frame files, of which the files 1, 3 are here"
    ) as no:
        parts(tmp_path)[0].read()
    assert no.value.reason == "incomplete-concatenation"


def test_enhanced_files_of_one_frame_each_make_one_stack(tmp_path: Path) -> None:
    for n, one in enumerate(frames()):
        save(tmp_path / f"{(n * 5) % COUNT}.dcm", enhanced([one]))
    (whole,) = parts(tmp_path)

    assert (whole.n_instances, whole.n_frames) == (COUNT, COUNT)
    assert error_mm(image(whole))[1] < 0.05


def test_two_files_that_are_no_concatenation_are_two_images(tmp_path: Path) -> None:
    save(tmp_path / "a.dcm", enhanced(frames()))
    save(tmp_path / "b.dcm", enhanced(frames(LATER_HU)))

    assert [error_mm(image(one), n == 1)[1] < 0.05 for n, one in enumerate(sorted(parts(tmp_path), key=_mean))] == [
        True
    ] * 2


def _mean(one: Series) -> float:
    return float(image(one)[0].mean())


def test_a_missing_frame_is_refused_and_resampled_when_asked(tmp_path: Path) -> None:
    slices = frames()
    del slices[2]
    save(tmp_path / "one.dcm", enhanced(slices))
    (one,) = parts(tmp_path)

    with pytest.raises(SeriesError, match=r"about 1 slice\(s\) of 6 are missing"):
        one.read()
    volume = one.read(gaps="resample")
    assert isinstance(volume, Volume)
    assert volume.shape[0] == COUNT
    assert error_mm((volume.voxels.numpy(), volume.affine.numpy()))[1] < 0.05


def test_a_legacy_converted_file_without_frame_content_is_placed(tmp_path: Path) -> None:
    whole = enhanced(frames(), "1.2.840.10008.5.1.4.1.1.2.2")
    for frame in whole.PerFrameFunctionalGroupsSequence:
        del frame.FrameContentSequence
    save(tmp_path / "one.dcm", whole)

    assert error_mm(image(parts(tmp_path)[0]))[1] < 0.05


def test_a_frame_without_a_place_refuses_the_file(tmp_path: Path) -> None:
    whole = enhanced(frames())
    del whole.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence
    save(tmp_path / "one.dcm", whole)

    with pytest.raises(SeriesError, match="a frame has no ImagePositionPatient in its functional groups"):
        parts(tmp_path)[0].read()


def test_a_file_that_lost_its_frames_since_is_refused(tmp_path: Path) -> None:
    whole = enhanced(frames() + frames(LATER_HU))
    for n in range(2 * COUNT):
        by_temporal_index(whole, n, n >= COUNT)
    path = save(tmp_path / "one.dcm", whole)
    second = parts(tmp_path)[1]
    save(path, enhanced(frames()))

    with pytest.raises(SeriesError, match="frame 11 of the image is not in the file, which holds 6: it has changed"):
        second.read()


def test_an_old_multiframe_without_places_gives_its_frames_one_by_one(real_data: Path) -> None:
    (one,) = read_study(real_data / "dicom_odd" / "broken_or_odd" / "multiframe-test1.dcm").series

    with pytest.raises(SeriesError, match=r"16 frames and 0 per-frame.*read\(frame=\.\.\.\)"):
        one.read()
    assert one.read(frame=15).shape == (256, 256)
    with pytest.raises(SeriesError, match="frame 16 was asked for; the file holds 16"):
        one.read(frame=16)


@needs_dcm2niix
@pytest.mark.parametrize("name", ["001.dcm", "IM-0001-0001-0001.dcm", "IM-0001-0170-0001.dcm", "IM-0001-9600-0001.dcm"])
def test_dcm2niix_reads_the_same_from_real_multiframes(real_data: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    path = real_data / "dicom_odd" / "multiframe" / name
    (tmp_path / "in" / name).write_bytes(path.read_bytes())
    theirs = dcm2niix(tmp_path / "in", tmp_path / "out")
    ours = parts(path)

    assert len(theirs) == len(ours)
    for one, other in zip(ours, theirs, strict=True):  # time points in the same order
        assert_same_place(image(one), other)


def test_real_multiframes_are_read_whole(real_data: Path) -> None:
    folder = real_data / "dicom_odd" / "multiframe"
    shapes = {}
    for path in sorted(folder.iterdir()):
        read = [one.read() for one in parts(path)]
        shapes[path.name] = [volume.shape for volume in read]

    assert shapes == {
        "001.dcm": [(8, 138, 112)],
        "IM-0001-0001-0001.dcm": [(8, 256, 256)],
        "IM-0001-0170-0001.dcm": [(8, 256, 256)],
        "IM-0001-9600-0001.dcm": [(8, 64, 64)] * 4,  # four time points of one fMRI in a file
    }


def test_functional_groups_that_are_no_sequences_are_refused_and_break_nothing(tmp_path: Path) -> None:
    whole = enhanced(frames())
    for n, name in enumerate(("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")):
        broken = enhanced(frames())
        del broken[name]
        broken.add_new(tag_for_keyword(name), "US", 7)
        save(tmp_path / f"{n}" / "one.dcm", broken)

        with pytest.raises(SeriesError) as refused:
            parts(tmp_path / f"{n}")[0].read()
        assert refused.value.reason == "no-position"
    for frame in whole.PerFrameFunctionalGroupsSequence:
        frame.add_new(tag_for_keyword("MRDiffusionSequence"), "FD", 1.5)
        frame.add_new(tag_for_keyword("MREchoSequence"), "LO", "echo")
    save(tmp_path / "odd" / "one.dcm", whole)

    assert error_mm(image(parts(tmp_path / "odd")[0]))[1] < 0.05
