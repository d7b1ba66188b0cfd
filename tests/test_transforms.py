"""Contracts: the same tensor each time, and an exact way back from it to the image."""

from __future__ import annotations

import json

import pytest
import torch

from volumes.transforms import FilmContract, VolumeContract, contract_from_json
from volumes.volume import Film, Source, Unit, Volume, VolumeError

FIELD = torch.tensor([0.5, -0.7, 0.9], dtype=torch.float64)  # HU per mm along x, y, z


def film(pixels: torch.Tensor, modality: str = "DX") -> Film:
    return Film(pixels.float(), None, "PA", "raw", Source("1.2", "1.2.3", ("1.2.3.4",), modality))


def volume(shape: tuple[int, int, int], affine: torch.Tensor, unit: Unit = "HU", modality: str = "CT") -> Volume:
    empty = Volume(torch.zeros(shape), affine, unit, Source("1.2", "1.2.3", (), modality))
    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij"), -1)
    return Volume((empty.index_to_mm(index) @ FIELD).float(), affine, unit, empty.source)


def oblique_affine(step: tuple[float, float, float]) -> torch.Tensor:
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.3, 0.1], [0.3, 0, -0.2], [-0.1, 0.2, 0]], dtype=torch.float64))
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = turn @ torch.eye(3, dtype=torch.float64).flip(0) * torch.tensor(step, dtype=torch.float64)
    affine[:3, 3] = torch.tensor([-31.0, 17.0, 43.0])
    return affine


def test_a_film_becomes_a_padded_square_in_0_1() -> None:
    pixels = torch.arange(60 * 90).reshape(60, 90)

    found = FilmContract(size=45)(film(pixels))

    assert (found.shape, found.dtype) == ((1, 45, 45), torch.float32)
    assert float(found.min()) == 0.0
    assert float(found.max()) <= 1.0
    assert not found[0, :7].any()  # 15 of 90 rows above are padding, 7.5 of 45
    assert bool((found[0, 9:36].diff(dim=0) > 0).all())


def test_a_mark_on_the_film_is_found_where_place_says() -> None:
    pixels = torch.zeros(73, 110)
    pixels[50:56, 20:26] = 1000.0
    contract = FilmContract(size=64, low_percentile=0, high_percentile=100)

    row, col = (int(v) for v in divmod(int(contract(film(pixels))[0].argmax()), 64))
    at = contract.place(row + 0.5, col + 0.5, (73, 110))

    assert 50 <= at[0] <= 56
    assert 20 <= at[1] <= 26


@pytest.mark.parametrize("shape", [(73, 110), (110, 73), (64, 64), (2500, 2048)])
def test_place_of_a_film_is_exactly_inverted(shape: tuple[int, int]) -> None:
    contract = FilmContract(size=160)
    for row, col in ((0.0, 0.0), (159.5, 3.25), (80.0, 160.0)):
        assert contract.to_contract(*contract.place(row, col, shape), shape) == pytest.approx((row, col), abs=1e-9)
    top, left = contract.place(0, 0, shape)
    bottom, right = contract.place(160, 160, shape)
    assert (bottom - top, right - left) == pytest.approx((max(shape), max(shape)))


def test_brightness_and_contrast_of_a_film_do_not_matter() -> None:
    pixels = torch.rand(50, 60)

    torch.testing.assert_close(
        FilmContract(16)(film(pixels)), FilmContract(16)(film(pixels * 3000 - 70)), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (film(torch.ones(20, 20)), r"film is flat: percentiles 0\.5 and 99\.5 are both 1"),
        (film(torch.rand(20, 20), "US"), r"film has the modality 'US'; this contract accepts CR, DX"),
        (film(torch.full((20, 20), float("nan"))), r"not finite"),
    ],
)
def test_a_film_outside_the_contract_is_refused(made: Film, told: str) -> None:
    with pytest.raises(VolumeError, match=told):
        FilmContract()(made)


@pytest.mark.parametrize("step", [(2.5, 0.8, 0.7), (6.0, 3.75, 3.75), (1.0, 1.9, 0.4)])
def test_a_resampled_field_holds_the_value_of_its_place(step: tuple[float, float, float]) -> None:
    made = volume((60, 90, 110), oblique_affine(step))
    contract = VolumeContract(shape_dhw=(5, 7, 6), spacing_mm=(4.0, 2.5, 2.0), window_hu=(-1000, 1000))

    found = contract(made)

    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in contract.shape_dhw], indexing="ij"), -1)
    truth = (contract.place(index, made) @ FIELD + 1000) / 2000
    torch.testing.assert_close(found[0].double(), truth, atol=1e-4, rtol=0)


def test_contract_axes_run_to_head_back_and_left() -> None:
    made = volume((20, 30, 40), oblique_affine((2.0, 1.0, 1.0)))
    contract = VolumeContract()

    steps = [contract.place(e, made) - contract.place((0, 0, 0), made) for e in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]

    assert [s.tolist() for s in steps] == [[0, 0, 6.0], [0, 3.75, 0], [3.75, 0, 0]]
    points = torch.rand(5, 3, dtype=torch.float64) * 90
    torch.testing.assert_close(contract.to_contract(contract.place(points, made), made), points)


def test_outside_the_scan_is_air() -> None:
    made = volume((8, 20, 20), oblique_affine((2.0, 1.0, 1.0)))
    made = Volume(torch.full((8, 20, 20), 400.0), made.affine, "HU", made.source)

    found = VolumeContract()(made)

    assert float(found[0, 0, 0, 0]) == 0.0
    assert float(found[0, 24, 48, 48]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("unit", "modality", "told"),
    [("raw", "CT", r"unit 'raw'; this contract needs 'HU'"), ("raw", "MR", r"modality 'MR'; this contract accepts CT")],
)
def test_a_volume_outside_the_contract_is_refused(unit: Unit, modality: str, told: str) -> None:
    with pytest.raises(VolumeError, match=told):
        VolumeContract()(volume((4, 5, 6), oblique_affine((2.0, 1.0, 1.0)), unit, modality))


@pytest.mark.parametrize("contract", [FilmContract(96, 1.0, 99.0), VolumeContract((8, 9, 10), (1.0, 2.0, 3.0))])
def test_contracts_survive_json_and_keep_their_digest(contract: FilmContract | VolumeContract) -> None:
    again = contract_from_json(contract.to_json())

    assert again == contract
    assert again.digest == contract.digest


def test_the_digest_is_the_same_on_every_machine_and_sees_each_value() -> None:
    assert FilmContract().digest == FilmContract(160).digest
    assert FilmContract().digest != FilmContract(161).digest
    assert FilmContract().to_json().startswith('{"high_percentile":99.5,"kind":"film"')
    assert FilmContract(160, 1, 99).digest == FilmContract(160, 1.0, 99.0).digest


@pytest.mark.parametrize(
    ("change", "told"),
    [({"sharpen": 1}, r"unknown \['sharpen'\]"), ({"kind": "audio"}, r"kind 'audio'"), ({"size": 0}, r"size 0 px")],
)
def test_a_foreign_contract_is_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(VolumeError, match=told):
        contract_from_json(json.dumps(json.loads(FilmContract().to_json()) | change))
