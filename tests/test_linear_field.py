"""Every named series of the linear-field suite is read right or rightly refused, and so are random ones."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from linear_field import (
    CASES,
    GRADIENT,
    LATER_HU,
    ORIGIN,
    RIGHT_MM,
    SHAPE,
    Case,
    Image,
    can_write,
    error_mm,
    judge,
    normal_of,
    plane,
    rotated,
    save,
    stack,
    write,
)

from volumes.study import Series, read_studies, read_study
from volumes.tilt import tilt_degrees
from volumes.volume import SeriesError, StudyError, Volume


def series_of(folder: Path) -> list[Series]:
    """Every image of a folder that is no localizer."""
    return [one for study in read_studies(folder) for one in study.volumes()]


def as_image(volume: object) -> Image:
    assert isinstance(volume, Volume)
    return volume.voxels.numpy(), volume.affine.numpy()


def read_all(folder: Path) -> list[Image]:
    return [as_image(one.read()) for one in series_of(folder)]


def test_the_suite_holds_forty_cases_of_which_five_must_be_refused() -> None:
    assert len(CASES) == len({one.name for one in CASES}) == 40
    assert sorted(int(one.name[:2]) for one in CASES) == list(range(1, 41))
    assert [one.name[:2] for one in CASES if one.reason] == ["10", "11", "12", "24", "25"]


@pytest.mark.parametrize("one", CASES, ids=lambda c: c.name)
def test_every_named_case_is_right_or_rightly_refused(one: Case, tmp_path: Path) -> None:
    if not can_write(one.name):
        pytest.skip("dcmcjpeg of dcmtk, which writes JPEG lossless, is not installed")
    one.build(tmp_path)

    if one.reason:
        with pytest.raises(SeriesError) as refused:
            read_all(tmp_path)
        assert refused.value.reason == one.reason
        return

    if one.name == "30_jpeg_lossless" and judge(one, read_all, tmp_path) != "right":
        with pytest.raises(SeriesError, match=r"JPEG Lossless.*its decoder is not installed. It comes with"):
            read_all(tmp_path)
        return
    assert judge(one, read_all, tmp_path) == "right"


def test_the_judge_sees_a_flip_a_shear_and_a_shift(tmp_path: Path) -> None:
    write(tmp_path, stack(rotated(10, 20, 30)))
    (voxels, affine), one = read_all(tmp_path)[0], CASES[0]
    shifted, sheared = affine.copy(), affine.copy()
    shifted[2, 3] += 0.7
    sheared[:3, 0] += affine[:3, 1] * 0.1

    assert error_mm((voxels, affine))[1] < 0.03
    for wrong in ((voxels[::-1], affine), (voxels[:, :, ::-1], affine), (voxels, shifted), (voxels, sheared)):
        assert judge(one, lambda _, w=wrong: [w], tmp_path).startswith("wrong")


def test_two_time_points_are_two_parts_that_must_be_named(tmp_path: Path) -> None:
    next(c for c in CASES if c.name.startswith("21")).build(tmp_path)
    study = read_study(tmp_path)

    with pytest.raises(StudyError, match=r"2 series that could be meant.*as UID#1"):
        study.main_series()
    addresses = [one.address for one in study.series]
    second = study.main_series(series_uid=addresses[1])
    first = read_study(tmp_path, series_uid=addresses[0]).main_series()

    assert addresses == [f"{first.series_uid}#1", f"{first.series_uid}#2"]
    assert (first.part, second.part) == ("part 1 of 2", "part 2 of 2")
    assert error_mm(as_image(first.read()))[1] < RIGHT_MM
    assert error_mm(as_image(second.read()), later=True)[1] < RIGHT_MM


def test_the_gap_is_told_in_mm_and_filled_only_when_asked(tmp_path: Path) -> None:
    next(c for c in CASES if c.name.startswith("11")).build(tmp_path)
    (one,) = series_of(tmp_path)

    with pytest.raises(SeriesError, match=r"2\.30 to 6\.90 mm apart.*about 5 slice\(s\) of 24 are missing"):
        one.read()
    volume = one.read(gaps="resample")

    assert isinstance(volume, Volume)
    assert volume.shape == SHAPE
    assert error_mm(as_image(volume))[1] < RIGHT_MM
    assert any("5 of 24 slices interpolated between neighbours up to 6.90 mm" in note for note in volume.notes)


def test_two_slices_are_read_and_doubted(tmp_path: Path) -> None:
    write(tmp_path, stack(count=2))
    (one,) = series_of(tmp_path)
    volume = one.read()
    assert isinstance(volume, Volume)

    assert volume.notes == ("two slices, 2.30 mm apart: nothing shows whether one is missing between them",)


def test_a_series_with_gaps_can_be_cut_into_runs_that_read_as_they_are(tmp_path: Path) -> None:
    next(c for c in CASES if c.name.startswith("11")).build(tmp_path)
    (one,) = series_of(tmp_path)

    found = one.regular_runs()

    assert [(run.part, run.n_instances) for run in found] == [
        ("run 1 of 5", 3), ("run 2 of 5", 4), ("run 3 of 5", 5), ("run 4 of 5", 4), ("run 5 of 5", 3)
    ]  # fmt: skip
    assert all(error_mm(as_image(run.read()))[1] < RIGHT_MM for run in found)
    assert found[0].regular_runs() == [found[0]]


@pytest.mark.parametrize("number", ["02", "03", "09", "13", "14", "21", "40"])
def test_names_and_order_of_files_change_no_bit(number: str, tmp_path: Path) -> None:
    one = next(c for c in CASES if c.name.startswith(number))
    one.build(tmp_path / "a")
    files = sorted((tmp_path / "a").iterdir())
    random.Random(7).shuffle(files)
    (tmp_path / "b").mkdir()
    for n, path in enumerate(files):
        (tmp_path / "b" / f"{n:02d}").write_bytes(path.read_bytes())

    first, second = series_of(tmp_path / "a"), series_of(tmp_path / "b")

    assert [s.part for s in first] == [s.part for s in second]
    for a, b in zip(first, second, strict=True):
        volume, other = a.read(), b.read()
        assert isinstance(volume, Volume)
        assert isinstance(other, Volume)
        assert np.array_equal(volume.voxels, other.voxels)
        assert np.array_equal(volume.affine, other.affine)
        assert volume.source.sop_uids == other.source.sop_uids


angles = st.floats(-180, 180, allow_nan=False)
series_options = st.fixed_dictionaries(
    {
        "turn": st.tuples(angles, angles, angles),
        "count": st.integers(3, 8),
        "shape": st.tuples(st.integers(5, 9), st.integers(10, 14)),
        "spacing": st.tuples(st.floats(0.4, 4.0), st.floats(0.3, 1.4), st.floats(0.3, 1.4)),
        "tilt": st.sampled_from([0.0, 0.0, 6.0, -17.0, 25.0]),
        "origin": st.tuples(st.floats(-150, 150), st.floats(-150, 150), st.floats(-150, 150)),
        "jitter": st.sampled_from([0.0, 0.02]),
        "rounded": st.sampled_from([9, 5]),
        "per_slice": st.booleans(),
        "signed": st.booleans(),
        "descending": st.booleans(),
        "seed": st.integers(0, 2**31),
    }
)


def write_random(folder: Path, asked: dict) -> tuple[np.ndarray, list[np.ndarray]]:
    """A random series in `folder`; returns the true step between slices and the true positions."""
    rng = np.random.default_rng(asked["seed"])
    orientation = rotated(*asked["turn"])
    normal, along_j = normal_of(orientation), np.array(orientation[3:])
    dk, dj, di = asked["spacing"]
    step = normal * dk + along_j * dk * np.tan(np.radians(asked["tilt"]))
    if asked["descending"]:
        step = -step
    places = [np.array(asked["origin"]) + k * step for k in range(asked["count"])]
    wobble = min(asked["jitter"], 0.02 * dk)
    slices = []
    for at in places:
        slope = rng.uniform(0.12, 0.4) if asked["per_slice"] else 0.25
        signed = asked["signed"]
        options = {"slope": slope, "intercept": 0.0 if signed else -3000.0, "signed": signed}
        one = plane(at + rng.uniform(-wobble, wobble, 3), orientation, asked["shape"], (dj, di), **options)
        one.ImageOrientationPatient = [round(float(v), asked["rounded"]) for v in orientation]
        one.InstanceNumber = int(rng.integers(1, 5))
        slices.append(one)
    for name, n in enumerate(rng.permutation(len(slices))):
        save(folder / f"{name}", slices[n])
    return step, places


def check_random(asked: dict) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        step, places = write_random(folder, asked)
        volume = read_study(folder).main_series().read()
        assert isinstance(volume, Volume)
        voxels, affine = as_image(volume)

        assert voxels.shape == (asked["count"], *asked["shape"])
        assert error_mm((voxels, affine))[1] < 0.1  # rounding of 0.2 HU, jitter of 0.03 mm, cosines of five digits
        assert tilt_degrees(volume) == pytest.approx(abs(asked["tilt"]), abs=1.5)
        upwards = step if float(step @ normal_of(rotated(*asked["turn"]))) > 0 else -step
        assert np.allclose(affine[:3, 0], upwards, atol=0.03)
        start = places[0] if np.allclose(upwards, step) else places[-1]
        assert np.allclose(affine[:3, 3], start, atol=0.05)


quick = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@quick
@given(series_options)
def test_any_regular_series_is_placed_right(asked: dict) -> None:
    check_random(asked)


@pytest.mark.slow
@thorough
@given(series_options)
def test_any_of_many_regular_series_is_placed_right(asked: dict) -> None:
    check_random(asked)


@quick
@given(series_options, st.data())
def test_any_series_that_lost_a_slice_is_refused_or_resampled_right(asked: dict, data: st.DataObject) -> None:
    asked = asked | {"count": asked["count"] + 2}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        _, places = write_random(folder, asked)
        lost = data.draw(st.integers(1, asked["count"] - 2))
        for path in folder.iterdir():
            at = np.array(read_study(path).series[0].instances[0].position)
            if np.linalg.norm(at - places[lost]) < 0.1:
                path.unlink()
        (one,) = read_study(folder).series

        with pytest.raises(SeriesError) as refused:
            one.read()
        assert refused.value.reason == "missing-slice"
        voxels, affine = as_image(one.read(gaps="resample"))
        assert voxels.shape[0] == asked["count"]
        assert error_mm((voxels, affine))[1] < 0.1


def test_slices_at_random_distances_are_refused_and_resampled_right(tmp_path: Path) -> None:
    heights = np.cumsum(np.random.default_rng(5).uniform(1.0, 4.0, 12))
    write(tmp_path, [plane(ORIGIN + np.array([0.1 * z, 0, z])) for z in heights])
    (one,) = series_of(tmp_path)

    with pytest.raises(SeriesError, match="the spacing varies") as refused:
        one.read()
    assert refused.value.reason == "variable-spacing"
    assert error_mm(as_image(one.read(gaps="resample")))[1] < RIGHT_MM


def test_the_later_time_point_differs_by_more_than_any_tolerance() -> None:
    assert LATER_HU / np.linalg.norm(GRADIENT) > 100 * RIGHT_MM
