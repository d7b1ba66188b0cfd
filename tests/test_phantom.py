from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt

from volumes.painting import CLOUD, Grid, clouds, splat
from volumes.phantom import (
    FINDINGS,
    FOCAL,
    SCANNERS,
    Lesion,
    PatientState,
    RenderedFilm,
    draw_lesion,
    film_view,
    insert,
    move,
    remove,
    render_ct,
    render_films,
    render_volume,
    sample_patient,
)
from volumes.projection import SOURCE_DETECTOR_MM, View, integrate
from volumes.scanner import reach_px
from volumes.streams import stream


def normal(index: int = 3, scanner: int = 0) -> PatientState:
    """A patient without findings on a known machine."""
    return replace(sample_patient(5, index)[0], lesions=(), scanner=SCANNERS[scanner])


def with_lesion(name: str, side: str | None = None, index: int = 3, severity: str = "moderate") -> PatientState:
    lesion = draw_lesion(stream("test", name, index), name, side, severity=severity)  # type: ignore[arg-type]
    return insert(normal(index), lesion)


def gray(film: RenderedFilm) -> np.ndarray:
    """Pixels where bright means more attenuation."""
    pixels = film.pixels.astype(np.float32)
    return (2**film.bits - 1) - pixels if film.photometric == "MONOCHROME1" else pixels


def test_the_same_patient_in_any_order_and_with_or_without_a_prior() -> None:
    first = sample_patient(7, 4, visits=2)
    sample_patient(7, 99)
    np.random.seed(1)
    assert sample_patient(7, 4, visits=2) == first
    assert sample_patient(7, 4)[-1].lesions == first[-1].lesions
    assert sample_patient(7, 5)[0].anatomy != first[0].anatomy
    assert sample_patient(8, 4)[0].anatomy != first[0].anatomy
    state = first[-1]
    films = render_films(state)
    render_films(normal())
    for one, two in zip(films, render_films(state), strict=True):
        np.testing.assert_array_equal(one.pixels, two.pixels)
        assert one.boxes == two.boxes


def test_visits_share_the_anatomy_and_lesions_evolve() -> None:
    pairs = [sample_patient(7, index, visits=2) for index in range(200)]
    assert all(a.anatomy == b.anatomy and (a.visit, b.visit) == (0, 1) and b.days > a.days == 0 for a, b in pairs)
    seeds = [({n.seed: n for n in a.lesions}, {n.seed: n for n in b.lesions}) for a, b in pairs]
    assert any(old.keys() - new.keys() for old, new in seeds), "no lesion ever heals"
    assert any(new.keys() - old.keys() for old, new in seeds), "no lesion ever appears"
    assert any(new[k].size_mm > old[k].size_mm for old, new in seeds for k in old.keys() & new.keys()), "none grows"
    assert any(new[k] == old[k] for old, new in seeds for k in old.keys() & new.keys()), "none is stable"


def test_prevalence_company_and_severity() -> None:
    states = [sample_patient(3, index)[0] for index in range(1500)]
    names = [{lesion.name for lesion in state.lesions} for state in states]
    count = Counter(name for found in names for name in found)
    assert set(count) == set(FINDINGS)
    for name in FINDINGS:
        assert 0.06 < count[name] / len(states) < 0.24, (name, count[name])
    assert 0.24 < sum(not found for found in names) / len(states) < 0.34
    large = [found for found in names if "cardiomegaly" in found]
    edema = sum("pulmonary edema" in found for found in large) / len(large)
    assert edema > 2 * count["pulmonary edema"] / len(states), "edema does not come with a large heart"
    lesions = [lesion for state in states for lesion in state.lesions]
    assert 0.07 < sum(lesion.severity == "tiny" for lesion in lesions) / len(lesions) < 0.16
    assert all(lesion.ratio is not None and lesion.ratio > 0.5 for lesion in lesions if lesion.name == "cardiomegaly")
    assert all(lesion.side in ("left", "right", "bilateral") for lesion in lesions if lesion.name in FOCAL)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["pleural effusion", "pneumothorax", "lung mass", "consolidation", "rib fracture"])
def test_patient_right_is_image_left_and_negative_x(name: str, side: str) -> None:
    state = with_lesion(name, side)
    film = render_films(state)[0]
    assert film.view == "PA"
    change = np.abs(gray(film) - gray(render_films(normal())[0]))
    middle = film.pixels.shape[1] / 2
    column = float((change.sum(0) * np.arange(len(change[0]))).sum() / change.sum())
    box = film.boxes[0]
    assert (column < middle) == (side == "right")
    assert ((box[1] + box[3]) / 2 < middle) == (side == "right")
    for rendered in (render_volume(state), render_ct(state)):
        assert rendered.volume.orientation == "SPL"
        where = rendered.volume.index_to_mm(rendered.masks[0].nonzero().double())
        assert (float(where[:, 0].mean()) < 0) == (side == "right")


def test_an_effusion_is_brighter_and_a_pneumothorax_darker() -> None:
    before = gray(render_films(normal())[0])
    for name, sign in (("pleural effusion", 1), ("pneumothorax", -1), ("consolidation", 1), ("emphysema", -1)):
        film = render_films(with_lesion(name, severity="severe"))[0]
        change = (gray(film) - before)[film.masks[0]].mean()
        assert sign * change > 0.01 * 2**film.bits, (name, change)


@pytest.mark.parametrize("size_mm", [9.0, 16.0, 28.0])
def test_nodule_measures_what_it_says(size_mm: float) -> None:
    state = insert(normal(), Lesion("lung nodule", "right", "upper lobe", "moderate", size_mm, 17))
    rendered = render_volume(state, step_mm=1.5)
    mask = rendered.masks[0]
    diameter = (6 / np.pi * float(mask.sum()) * rendered.volume.voxel_ml * 1000) ** (1 / 3)
    assert diameter == pytest.approx(size_mm, rel=0.08)
    center = mask.nonzero().double().mean(0).round().long()
    line = rendered.volume.voxels[center[0], center[1]]
    assert float(line[center[2]]) == pytest.approx(500, abs=15)
    index = int(center[2])
    reach = int(size_mm / 1.5) + 3
    profile = line[index - reach : index + reach + 1]
    inside = profile > (30 - 850) / 2
    left, right = reach, reach
    while inside[left - 1]:
        left -= 1
    while inside[right + 1]:
        right += 1
    assert (right - left + 1) * 1.5 == pytest.approx(size_mm, abs=3.0)


def test_heart_width_follows_the_ratio() -> None:
    widths = []
    for ratio in (0.55, 0.65):
        lesion = Lesion("cardiomegaly", None, None, "moderate", 150.0, 3, ratio)
        state = insert(normal(), lesion)
        mask = render_volume(state).masks[0]
        columns = mask.any(0).any(0).nonzero()
        widths.append(float(columns[-1] - columns[0] + 1) * 2.5)
        assert widths[-1] == pytest.approx(state.lesions[0].size_mm, abs=7.5)
    assert widths[1] / widths[0] == pytest.approx(0.65 / 0.55, rel=0.06)


def _footprint(before: PatientState, after: PatientState, film: int) -> np.ndarray:
    """Film pixels that any ray through a changed voxel can reach, with the reach of the film's processing."""
    one, two = render_volume(before), render_volume(after)
    changed = binary_dilation((one.volume.voxels != two.volume.voxels).numpy()).astype(np.float32)
    offset = np.array(before.anatomy.offset)
    start = one.volume.affine[:3, 3].numpy() - offset
    grid = Grid((float(start[2]), float(start[1]), float(start[0])), one.volume.shape, 2.5)
    view = film_view(before, grid, ("PA", "LATERAL")[film])
    seen = integrate(changed, grid, view, 1) > 0
    return binary_dilation(seen, iterations=reach_px(before.scanner) + 8, structure=np.ones((3, 3)))


@pytest.mark.parametrize("name", [*FOCAL, "endotracheal tube", "central venous catheter"])
def test_edits_leave_the_rest_of_the_film_bit_identical(name: str) -> None:
    company = insert(normal(6), Lesion("lung mass", "left", "upper lobe", "moderate", 45.0, 4))
    after = insert(company, draw_lesion(stream("edit", name), name, "right", severity="moderate"))
    assert remove(after, name).lesions == tuple(n for n in company.lesions if n.name != name)
    for k, (one, two) in enumerate(zip(render_films(company), render_films(after), strict=True)):
        differs = one.pixels != two.pixels
        allowed = _footprint(company, after, k)
        assert differs.any(), "the finding cannot be seen at all"
        assert not (differs & ~allowed).any()
        assert allowed.mean() < 0.9


@pytest.mark.parametrize(("name", "pad_mm"), [("lung nodule", 12.0), ("pneumothorax", 90.0), ("rib fracture", 48.0)])
def test_edits_leave_the_rest_of_the_ct_bit_identical(name: str, pad_mm: float) -> None:
    before = normal(6, scanner=3)
    after = insert(before, draw_lesion(stream("edit", name), name, "left", severity="severe"))
    one, two = render_ct(before).volume.voxels, render_ct(after)
    differs = (one != two.volume.voxels).numpy()
    away = distance_transform_edt(~two.masks[0].numpy(), sampling=two.volume.spacing_mm)
    assert differs.any()
    assert float(away[differs].max()) < pad_mm


def test_move_takes_the_lesion_to_the_other_side() -> None:
    state = with_lesion("lung mass", "right")
    moved = move(state, "lung mass", side="left", location="upper lobe")
    assert moved.lesions[0].seed == state.lesions[0].seed
    old, new = render_films(state)[0], render_films(moved)[0]
    middle = old.pixels.shape[1] / 2
    assert old.boxes[0][3] < middle < new.boxes[0][1]
    volume, other = render_volume(normal()).volume.voxels, render_volume(remove(moved, "lung mass")).volume.voxels
    assert torch.equal(volume, other)


def test_every_finding_renders_with_mask_and_box_on_every_scanner() -> None:
    styles = set()
    for k, name in enumerate(FINDINGS):
        scanner = SCANNERS[k % len(SCANNERS)]
        state = replace(with_lesion(name, index=k, severity="severe"), scanner=scanner)
        films = render_films(state)
        assert [film.view for film in films] == ["PA", "LATERAL"]
        for film in films:
            assert film.pixels.dtype == np.uint16
            assert int(film.pixels.max()) < 2**scanner.bits
            assert film.masks[0].shape == film.pixels.shape
            assert film.masks[0].any()
            r0, c0, r1, c1 = film.boxes[0]
            rows, columns = np.nonzero(film.masks[0])
            assert r0 <= rows.min() <= rows.max() < r1
            assert c0 <= columns.min() <= columns.max() < c1
            if name == "rib fracture":
                assert (r1 - r0) * film.spacing_mm[0] >= 24 or r0 == 0 or r1 == film.pixels.shape[0]
            styles.add((film.photometric, film.spacing_mm, film.bits))
    assert len(styles) >= 4
    assert {style[0] for style in styles} == {"MONOCHROME1", "MONOCHROME2"}


def test_ct_is_a_plausible_chest_in_hu() -> None:
    rendered = render_ct(normal(scanner=3))
    volume = rendered.volume
    assert volume.unit == "HU"
    assert volume.spacing_mm[0] == pytest.approx(3.0)
    assert not torch.allclose(volume.affine[:3, 3], torch.zeros(3, dtype=torch.float64), atol=5.0)
    values = volume.voxels
    assert torch.equal(values, values.round())
    assert float((values < -950).double().mean()) > 0.2, "no air around the patient"
    assert float(((values > -950) & (values < -700)).double().mean()) > 0.05, "no lung"
    assert float(((values > 0) & (values < 120)).double().mean()) > 0.1, "no soft tissue"
    assert float(values.max()) > 250, "no bone"
    assert not torch.equal(values, values.flip(2))


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"remove: this patient has no 'lung mass'; the findings are: none"):
        remove(normal(), "lung mass")
    with pytest.raises(ValueError, match=r"move: this patient has no 'lung nodule'"):
        move(normal(), "lung nodule", side="left")
    with pytest.raises(ValueError, match=r"lesion 'cold' is not one of the phantom's findings: cardiomegaly, "):
        Lesion("cold", None, None, "mild", 1.0, 0)
    with pytest.raises(ValueError, match=r"lung nodule of 0 mm: expected a size above 0 mm"):
        Lesion("lung nodule", "left", "upper lobe", "mild", 0, 0)
    with pytest.raises(ValueError, match=r"severity 'huge' is not one of tiny, mild, moderate, severe"):
        Lesion("lung nodule", "left", "upper lobe", "huge", 10, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"lung nodule at 'elbow': expected one of apex, "):
        render_films(insert(normal(), Lesion("lung nodule", "left", "elbow", "mild", 10, 0)))
    with pytest.raises(ValueError, match=r"visits is 3; expected 1 or 2"):
        sample_patient(1, 1, visits=3)


def test_beam_magnifies_about_its_focus() -> None:
    grid = Grid((-100.0, -100.0, -100.0), (81, 81, 81), 2.5)
    volume = np.zeros(grid.shape, np.float32)
    volume[70, 10, 60] = volume[20, 70, 15] = 1.0
    view = View("PA", 1, -120.0, 1.0, (10.0, -5.0), (0.0, 0.0), (300, 280), (1.0, 1.0))
    film = integrate(volume, grid, view, 1)
    for index in ((70, 10, 60), (20, 70, 15)):
        point = np.array([grid.start_mm[a] + 2.5 * index[a] for a in range(3)])
        row, column = view.place(point)
        window = film[int(row) - 4 : int(row) + 6, int(column) - 4 : int(column) + 6]
        rows, columns = np.mgrid[int(row) - 4 : int(row) + 6, int(column) - 4 : int(column) + 6]
        assert float((window * rows).sum() / window.sum()) == pytest.approx(row, abs=0.3)
        assert float((window * columns).sum() / window.sum()) == pytest.approx(column, abs=0.3)
        m = SOURCE_DETECTOR_MM / (SOURCE_DETECTOR_MM - (point[1] + 120.0))
        assert column == pytest.approx(139.5 + (-5.0 + m * (point[2] + 5.0)), abs=1e-6)


def test_a_splat_keeps_its_mass_and_texture_its_place() -> None:
    grid = Grid((0.0, 0.0, 0.0), (8, 8, 8), 2.0)
    field = np.zeros(grid.shape, np.float32)
    splat(field, grid, np.array([[5.3, 6.1, 7.7], [500.0, 0.0, 0.0]]), np.array([16.0, 99.0]))
    assert float(field.sum()) * 8.0 == pytest.approx(16.0, rel=1e-5)
    whole = clouds((slice(0, 40), slice(0, 40), slice(0, 40)), 12345)
    part = clouds((slice(7, 20), slice(3, 9), slice(11, 30)), 12345)
    np.testing.assert_array_equal(whole[7:20, 3:9, 11:30], part)
    wide = clouds((slice(0, 2), slice(0, 2), slice(0, 300)), 12345)
    np.testing.assert_array_equal(wide[:, :, :40], whole[:2, :2])
    np.testing.assert_array_equal(wide[:, :, CLOUD : 2 * CLOUD], wide[:, :, :CLOUD])
