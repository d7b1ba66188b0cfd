"""The table of agreement: nothing unexplained on real images, and a reader that is wrong is called wrong."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from written_dicom import ct_slice, write, write_ct

from volumes.study import Series, read_study

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def agreement(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed (apt-get install dcm2niix): there is nothing to compare with")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("agreement")


def rows(agreement: ModuleType, folder: Path) -> dict[str, object]:
    parts: tuple[Series, ...] = read_study(folder).series
    return {row.reader: row for row in agreement._series_rows("x", parts)}


def test_an_ordinary_series_is_the_same_for_all(agreement: ModuleType, tmp_path: Path) -> None:
    found = rows(agreement, write_ct(tmp_path / "ct", Manufacturer="X", SeriesNumber=3))

    assert {row.status for row in found.values()} == {"same"}
    assert set(found) == {"dcm2niix", "SimpleITK"}


def test_a_wrong_affine_or_voxel_of_ours_is_called_ours(
    agreement: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_ct(tmp_path / "ct", Manufacturer="X", SeriesNumber=3)
    honest = agreement._read

    def shifted(series: Series):  # type: ignore[no-untyped-def]
        ours, refusal = honest(series)
        affine = ours.affine.copy()
        affine[2, 3] += 0.4
        return agreement.Other(ours.voxels, affine, ours.said), refusal

    def swapped(series: Series):  # type: ignore[no-untyped-def]
        ours, refusal = honest(series)
        return agreement.Other(ours.voxels[[0, 2, 1, 3, 4]], ours.affine, ours.said), refusal

    monkeypatch.setattr(agreement, "_read", shifted)
    assert {row.status for row in rows(agreement, folder).values()} == {"they are right"}
    monkeypatch.setattr(agreement, "_read", swapped)
    assert {row.status for row in rows(agreement, folder).values()} == {"they are right"}


def test_a_tilted_gantry_is_decided_by_the_headers(agreement: ModuleType, tmp_path: Path) -> None:
    lean = np.array([0.0, 0.0, 0.3])
    for number, distance in enumerate((0.0, 2.0, 4.0, 6.0, 8.0)):
        shift = tuple(lean * distance)
        write(tmp_path / "ct" / f"{number}.dcm", ct_slice(distance, shift=shift, Manufacturer="X", SeriesNumber=3))

    found = rows(agreement, tmp_path / "ct")

    assert found["SimpleITK"].status == "we are right"
    assert "off the headers, ours" in found["SimpleITK"].why or "of the headers, ours" in found["SimpleITK"].why


@pytest.mark.slow
def test_no_disagreement_on_real_images_is_unexplained(agreement: ModuleType, real_data: Path) -> None:
    found = [*agreement.dicom_rows(real_data), *agreement.file_rows(real_data)]

    open_ones = [(row.name, row.reader, row.why) for row in found if row.status in ("UNEXPLAINED", "they are right")]
    assert open_ones == []
    assert len(found) > 350
    same = [row for row in found if row.status == "same"]
    assert len(same) > 270
    text = agreement.table(found, [])
    assert "mosaic/IM-0001-0001" in text
    assert str(real_data) not in text
