"""Lungs, heart and fluid on CT: boxes of known size, the phantom hospital, and real scans."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from experts.card import Opinion
from experts.consult import Consultation, consult
from experts.ct_body import CtBody
from volumes.phantom import draw_lesion, insert, render_ct, sample_patient
from volumes.study import read_study
from volumes.volume import Source, Volume

SOURCE = Source("1.2.3", "1.2.3.4", ("1.2.3.4.5",), "CT")
SPACING = (4.0, 2.2, 2.5)  # mm along k, j, i
HEART_MM, THORAX_MM = 120.0, 260.0


def box_chest(smaller: str = "left") -> Volume:
    """A trunk with two box lungs around a box heart. Rows k to the head, j to the back, i to the patient's left."""
    z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip((60, 120, 160), SPACING, strict=True)), indexing="ij")
    z, y, x = z - 118, y - 131, x - 199
    hu = np.full(z.shape, -1000, np.float32)
    hu[(abs(x) < 170) & (abs(y) < 110)] = 50
    chest = (abs(z) < 90) & (abs(y) < 80)
    lungs = chest & (abs(x) < THORAX_MM / 2) & (abs(x) > 20)
    lungs &= ~((z < 20) & (abs(x) < HEART_MM / 2))
    short = (x > 0) if smaller == "left" else (x < 0)
    lungs &= ~(short & (z > 70))
    hu[lungs] = -850
    hu += np.random.default_rng(0).normal(0, 8, hu.shape).astype(np.float32)
    affine = torch.tensor(
        [[0, 0, SPACING[2], -199], [0, SPACING[1], 0, -131], [SPACING[0], 0, 0, 700], [0, 0, 0, 1]], dtype=torch.float64
    )
    return Volume(torch.from_numpy(hu), affine, "HU", SOURCE)


def turned(volume: Volume) -> Volume:
    """The same patient stored with other axes: (i, k, j), and i from left to right."""
    voxels = volume.voxels.permute(2, 0, 1).flip(0).contiguous()
    affine = volume.affine[:, [2, 0, 1, 3]].clone()
    affine[:3, 3] += affine[:3, 0] * (voxels.shape[0] - 1)
    affine[:3, 0] *= -1
    return replace(volume, voxels=voxels, affine=affine)


def value(found: Opinion | Consultation, name: str) -> float:
    return next(one.value for one in found.measurements if one.name == name)


def test_known_boxes_are_measured() -> None:
    found = CtBody().look(box_chest())

    right_ml = 0.18 * 0.16 * 0.11 * 1e6 - 0.16 * 0.04 * 0.11 * 1e6  # metres: lung box minus the heart's share
    assert value(found, "right lung volume") == pytest.approx(right_ml, rel=0.06)
    assert value(found, "left lung volume") < 0.95 * value(found, "right lung volume")
    assert value(found, "lung attenuation") == pytest.approx(-850, abs=2)
    assert value(found, "heart width") == pytest.approx(HEART_MM, abs=4)
    assert value(found, "thorax width") == pytest.approx(THORAX_MM, abs=4)
    ratio = next(one for one in found.measurements if one.name == "cardiothoracic ratio")
    assert ratio.value == pytest.approx(HEART_MM / THORAX_MM, abs=2 * ratio.uncertainty)
    assert {(one.name, one.status) for one in found.findings} == {
        ("cardiomegaly", "absent"),
        ("pleural effusion", "absent"),
    }


def test_the_side_comes_from_the_affine_and_not_from_the_order_of_the_voxels() -> None:
    straight, other = CtBody().look(box_chest("right")), CtBody().look(turned(box_chest("right")))

    assert value(straight, "left lung volume") > 1.05 * value(straight, "right lung volume")
    for one, again in zip(straight.measurements, other.measurements, strict=True):
        assert again.value == pytest.approx(one.value, rel=0.02)


def test_every_measurement_says_unit_uncertainty_place_and_maker() -> None:
    volume = box_chest()
    found = CtBody().look(volume)

    for one in found.measurements:
        assert one.unit in ("mm", "ml", "HU", "1")
        assert one.uncertainty is not None
        assert one.uncertainty > 0
        assert one.by == "ct-body"
        assert one.how
        assert one.region is not None
        assert all(0 <= a < b <= n for a, b, n in zip(one.region.start, one.region.stop, volume.shape, strict=True))
    left = next(one.region for one in found.measurements if one.name == "left lung volume")
    assert left is not None
    assert left.start_mm is not None
    assert left.start_mm[0] == pytest.approx(20, abs=5)  # the left lung begins 20 mm to the left of the middle


def test_a_region_lies_in_the_index_of_the_volume_that_was_read() -> None:
    volume = turned(box_chest())
    region = next(one.region for one in CtBody().look(volume).measurements if one.name == "left lung volume")

    assert region is not None
    inside = volume.voxels[tuple(slice(int(a), int(b)) for a, b in zip(region.start, region.stop, strict=True))]
    assert (inside < -700).float().mean() > 0.7  # the heart takes a part of the box
    x = volume.index_to_mm([region.start, region.stop])[:, 0]
    assert x.min() > 10  # patient's left, although this file counts from left to right


def test_a_scan_that_ends_inside_the_lungs_measures_no_volume() -> None:
    whole = box_chest()
    found = CtBody().look(replace(whole, voxels=whole.voxels[:30].contiguous()))

    assert {one.name for one in found.measurements} == {"body width"}
    assert all(one.status != "absent" for one in found.findings)
    assert any("ends inside the lungs at the top" in note for note in found.notes)


def test_a_body_without_lungs_is_refused() -> None:
    whole = box_chest()
    reports = consult(["ct-body"], replace(whole, voxels=whole.voxels.clamp(min=0))).reports
    empty = consult(["ct-body"], replace(whole, voxels=torch.full_like(whole.voxels, -1000.0))).reports

    assert reports[0].reason.startswith("no-lungs: 0 ml of aerated lung were found, expected at least 100 ml")
    assert empty[0].reason.startswith("no-body: no voxel is above -400 HU")


@cache
def phantom(index: int, lesion: str = "") -> tuple[float, Opinion]:
    (state,) = sample_patient(11, index)
    state = replace(state, lesions=())
    truth = state.anatomy.heart_ratio
    if lesion:
        state = insert(state, draw_lesion(np.random.default_rng(3), lesion))
        truth = state.lesions[0].ratio or truth
    return truth, CtBody().look(render_ct(state).volume)


def test_the_phantoms_ratio_is_found() -> None:
    errors = []
    for index in range(6):
        truth, found = phantom(index)
        ratios = [one.value for one in found.measurements if one.name == "cardiothoracic ratio"]
        errors += [abs(ratio - truth) for ratio in ratios]
        assert all(one.status != "present" for one in found.findings)

    assert len(errors) >= 4
    assert np.median(errors) < 0.05


def test_real_chest(real_data) -> None:
    found = consult(["ct-body"], read_study(real_data / "dicom_series" / "chest_ct_LUNG1-001.zip").main_series().read())

    assert found.reports[0].ok
    # The contours in the RTSTRUCT of the same file hold 2958 and 2268 ml, with vessels, which are not aerated.
    assert value(found, "right lung volume") == pytest.approx(2958, rel=0.08)
    assert value(found, "left lung volume") == pytest.approx(2268, rel=0.10)
    assert -900 < value(found, "lung attenuation") < -750
    assert 0.40 < value(found, "cardiothoracic ratio") < 0.58


def test_real_abdomen_has_lungs_that_are_cut(real_data) -> None:
    volume = read_study(real_data / "dicom_series" / "abdomen_ct_CRLM-CT-1004.zip").main_series().read()
    found = consult(["ct-body"], volume)

    assert "the scan ends inside the lungs at the top" in found.reports[0].reason
    assert [one.name for one in found.measurements] == ["body width"]


def test_real_mr_is_refused(real_data) -> None:
    volume = read_study(real_data / "dicom_series" / "breast_mr_UCSF-BR-06.zip").main_series().read()

    assert consult(["ct-body"], volume).reports[0].reason.startswith("wrong-modality: this is a volume of modality MR")
