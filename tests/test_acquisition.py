"""Sex, age, site and scanner from headers: what is said is read, what is not stays empty, names never come along."""

from __future__ import annotations

from pathlib import Path

import pytest

from volumes.acquisition import Acquisition, age_years, read_acquisition


def test_a_header_gives_groups_and_nobody_s_name(unseen_hospital) -> None:
    path = next(unseen_hospital.archive.rglob("*.dcm"))
    found = read_acquisition(str(path))
    assert found.sex in ("male", "female")
    assert found.age_years is not None
    assert 18 <= found.age_years <= 100
    assert found.site == "Simulated hospital"
    assert found.scanner.startswith("Simulated SIM-")
    assert "SIMULATED^" not in repr(found)


@pytest.mark.parametrize(
    ("age", "birth", "study", "years"),
    [
        ("064Y", "", "", 64),
        ("018M", "", "", 1.5),
        ("026W", "", "", pytest.approx(0.498, abs=1e-3)),
        ("", "19590629", "20230628", 63),
        ("", "19590629", "20230629", 64),
        ("", "", "20230629", None),
        ("999Y", "", "", None),
        ("old", "1959", "20230629", None),
    ],
)
def test_ages_come_from_the_age_string_or_else_from_two_dates(age: str, birth: str, study: str, years) -> None:
    assert age_years(age, birth, study) == years


def test_what_is_no_dicom_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"\x89PNG")
    (tmp_path / "odd").write_bytes(b"not DICOM at all")
    for name in ("film.png", "odd", "absent"):
        assert read_acquisition(str(tmp_path / name)) == Acquisition()
