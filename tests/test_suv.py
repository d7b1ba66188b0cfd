"""SUV by body weight, each branch of the vendor-neutral recipe worked out by hand; what is missing is named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_field import plane, positions, write
from pydicom.dataset import Dataset

from volumes.study import read_studies, read_study
from volumes.suv import body_weight_suv
from volumes.volume import SeriesError, Volume, VolumeError

# 70 kg, 350 MBq, injected one half-life (6588 s) before the scan: 175 MBq are left,
# so 1 Bq/ml is 70000 g / 175e6 Bq = 4e-4 g/ml
FACTOR = 4e-4


def pet(**tags: Any) -> Dataset:
    """A PET header of which everything is known; `tags` change it, None deletes. Tracer tags begin with T_."""
    tracer = Dataset()
    tracer.RadionuclideHalfLife, tracer.RadionuclideTotalDose = 6588, 350e6
    tracer.RadiopharmaceuticalStartTime = "101012"
    dataset = Dataset()
    dataset.Units, dataset.DecayCorrection, dataset.CorrectedImage = "BQML", "START", ["ATTN", "DECY", "SCAT"]
    dataset.SeriesDate, dataset.SeriesTime = "20240131", "120000"  # 6588 s after 10:10:12
    dataset.AcquisitionDate, dataset.AcquisitionTime, dataset.PatientWeight = "20240131", "120000", 70
    dataset.RadiopharmaceuticalInformationSequence = [tracer]
    for name, value in tags.items():
        holder, key = (tracer, name[2:]) if name.startswith("T_") else (dataset, name)
        if value is None:
            delattr(holder, key)
        else:
            setattr(holder, key, value)
    return dataset


def private(dataset: Dataset, group: int, creator: str, **elements: tuple[str, Any]) -> Dataset:
    block = dataset.private_block(group, creator, create=True)
    for offset, (vr, value) in elements.items():
        block.add_new(int(offset[1:], 16), vr, value)
    return dataset


def test_activity_is_divided_by_the_dose_that_was_left_at_the_scan() -> None:
    suv = body_weight_suv(pet())

    assert suv.factor == pytest.approx(FACTOR, rel=1e-12)
    assert suv.told == "70 kg, 3.5e+08 Bq injected 109.8 min before the series time"


def test_correction_to_the_injection_needs_no_times() -> None:
    dataset = pet(DecayCorrection="ADMIN", SeriesTime=None, AcquisitionTime=None, T_RadiopharmaceuticalStartTime=None)

    assert body_weight_suv(dataset).factor == pytest.approx(70000 / 350e6)


def test_gml_is_suv_already_unless_it_is_lean_body_mass() -> None:
    assert body_weight_suv(pet(Units="GML", PatientWeight=None)).factor == 1
    with pytest.raises(VolumeError, match=r"SUVType is LBM, expected BW \(body weight\)"):
        body_weight_suv(pet(Units="GML", SUVType="LBM"))


def test_philips_counts_take_the_private_factors() -> None:
    philips = "Philips PET Private Group"
    direct = private(pet(Units="CNTS", PatientWeight=None), 0x7053, philips, x00=("DS", "0.00123"))
    indirect = private(pet(Units="CNTS"), 0x7053, philips, x00=("DS", "0"), x09=("DS", "2.5"))

    assert body_weight_suv(direct).factor == pytest.approx(0.00123)
    assert body_weight_suv(indirect).factor == pytest.approx(2.5 * FACTOR)
    for bare in (pet(Units="CNTS"), private(pet(Units="CNTS"), 0x7053, "SOMEBODY", x00=("DS", "0.00123"))):
        with pytest.raises(VolumeError, match=r"Philips scale factors \(7053,1000\) and \(7053,1009\) are missing"):
            body_weight_suv(bare)


def test_a_series_made_later_takes_the_earliest_acquisition() -> None:
    made_later = pet(SeriesTime="153000", AcquisitionTime="120400")

    suv = body_weight_suv(made_later, ["20240131120400", "20240131120000.00", "20240131120800"])

    assert suv.factor == pytest.approx(FACTOR, rel=1e-9)
    assert "before the earliest acquisition of the series" in suv.told


def test_a_series_made_later_by_ge_takes_the_private_scan_time() -> None:
    made_later = pet(SeriesTime="153000", AcquisitionTime="120400")
    told = private(made_later, 0x0009, "GEMS_PETD_01", x0D=("DT", "20240131120000.00"))

    suv = body_weight_suv(told, ["20240131120400"])

    assert suv.factor == pytest.approx(FACTOR, rel=1e-9)
    assert "scan time of GE (0009,100D)" in suv.told


def test_the_start_is_computed_back_from_the_frame_reference_time() -> None:
    # a frame of 600 s that began 300 s after the start: its counts average at 1/l * ln(l T / (1 - exp(-l T))) into it
    decay = math.log(2) / 6588
    average = math.log(decay * 600 / (1 - math.exp(-decay * 600))) / decay
    assert average == pytest.approx(300 - decay * 600**2 / 24, abs=0.01)  # 298.42 s, by the series
    dataset = pet(
        SeriesTime="153000",
        AcquisitionTime="120500",
        FrameReferenceTime=(300 + average) * 1000,
        ActualFrameDuration=600_000,
    )

    suv = body_weight_suv(dataset, ["20240131120500"])

    assert suv.factor == pytest.approx(FACTOR, rel=1e-7)
    assert "start computed from the frame reference time" in suv.told


def test_an_injection_before_midnight() -> None:
    late = {"SeriesTime": "003000", "AcquisitionTime": "003000", "T_RadiopharmaceuticalStartTime": "224012"}

    suv = body_weight_suv(pet(**late))

    assert suv.factor == pytest.approx(FACTOR, rel=1e-12)  # 22:40:12 to 00:30:00 are 6588 s
    assert "across midnight" in suv.told


def test_the_date_of_the_injection_counts_where_it_fits_the_scan() -> None:
    fits = pet(T_RadiopharmaceuticalStartDateTime="20240131101012.00+0100", T_RadiopharmaceuticalStartTime="090000")
    shifted = pet(T_RadiopharmaceuticalStartDateTime="20240201101012")

    assert body_weight_suv(fits).factor == pytest.approx(FACTOR, rel=1e-12)
    suv = body_weight_suv(shifted)
    assert suv.factor == pytest.approx(FACTOR, rel=1e-12)
    assert "RadiopharmaceuticalStartDateTime lies after the scan: its time alone was used" in suv.told


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"PatientWeight": None}, "PatientWeight is missing"),
        ({"PatientWeight": 0}, "PatientWeight is missing"),
        ({"PatientWeight": 70000}, "PatientWeight is 70000, expected 0.2 to 500 kg"),
        ({"T_RadionuclideTotalDose": None}, "RadionuclideTotalDose is missing"),
        ({"T_RadionuclideTotalDose": 350}, "RadionuclideTotalDose is 350, expected at least 100000 Bq"),
        ({"T_RadionuclideHalfLife": None}, "RadionuclideHalfLife is missing"),
        ({"T_RadiopharmaceuticalStartTime": None}, "RadiopharmaceuticalStartTime is missing"),
        ({"RadiopharmaceuticalInformationSequence": None}, "RadionuclideTotalDose is missing"),
        ({"SeriesTime": None, "AcquisitionTime": None}, "SeriesTime and AcquisitionTime"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection is NONE, expected START or ADMIN"),
        ({"DecayCorrection": None}, "DecayCorrection is missing"),
        ({"CorrectedImage": ["DECY"]}, "CorrectedImage does not hold ATTN"),
        ({"CorrectedImage": "ATTN"}, "CorrectedImage does not hold DECY"),
        ({"CorrectedImage": None}, "CorrectedImage does not hold ATTN and DECY"),
        ({"Units": "PROPCPS"}, "Units are PROPCPS, expected BQML, GML or CNTS"),
        ({"Units": None}, "Units are missing"),
        ({"T_RadiopharmaceuticalStartDateTime": "20240120101012"}, "lies 265.8 h before the scan, over 20 half-lives"),
    ],
)
def test_what_is_missing_or_contradictory_is_named(tags: dict[str, Any], told: str) -> None:
    with pytest.raises(VolumeError, match=told) as refused:
        body_weight_suv(pet(**tags))
    assert refused.value.reason == "no-suv"


def write_pet(folder: Path, **tags: Any) -> None:
    """Six slices of the field as PET in Bq/ml, each with a slope of its own, from two bed positions."""
    slices = []
    for n, at in enumerate(positions(6)):
        one = plane(at, slope=0.1 + 0.01 * n, intercept=0.0, Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128")
        one.update(pet(**tags))
        one.SeriesTime, one.AcquisitionTime = "153000", "120000" if n < 3 else "120400"
        slices.append(one)
    write(folder, slices)


def test_a_pet_series_reads_in_suv_and_says_how(tmp_path: Path) -> None:
    write_pet(tmp_path)
    volume = read_study(tmp_path).main_series().read(require="SUV")
    assert isinstance(volume, Volume)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.shape), indexing="ij"), axis=-1)
    activity = volume.index_to_mm(index).numpy() @ (2.0, 3.0, 5.0)

    assert volume.unit == "SUV"
    assert np.abs(volume.voxels.numpy() - activity * FACTOR).max() < 0.1 * FACTOR
    assert any("values times 0.0004 (70 kg" in note and "earliest acquisition" in note for note in volume.notes)


def test_a_pet_without_weight_stays_raw_and_is_refused_where_suv_is_demanded(tmp_path: Path) -> None:
    write_pet(tmp_path, PatientWeight=None)
    series = read_study(tmp_path).main_series()
    volume = series.read()
    assert isinstance(volume, Volume)

    assert volume.unit == "raw"
    assert any("not converted to SUV, because PatientWeight is missing" in note for note in volume.notes)
    with pytest.raises(SeriesError, match=r"unit 'raw', expected 'SUV'\. PET.*PatientWeight is missing") as refused:
        series.read(require="SUV")
    assert refused.value.reason == "no-suv"


@pytest.mark.parametrize("name", ["sarcoma_STS_002_ct_mr_pet_rtstruct.zip", "sarcoma_STS_008_ct_mr_pet_rtstruct.zip"])
def test_the_real_pet_is_suv_as_its_maker_stored_it(real_data: Path, name: str) -> None:
    (one,) = (
        s for study in read_studies(real_data / "dicom_series" / name) for s in study.series if s.modality == "PT"
    )
    volume = one.read(require="SUV")
    assert isinstance(volume, Volume)

    assert any("Units GML" in note for note in volume.notes)
    assert 1 < float(volume.voxels.max()) < 40
    assert float(volume.voxels.median()) < 1
