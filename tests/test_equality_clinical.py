"""The comparison with the originals runs without them, and differs by nothing where they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "equality_clinical", Path(__file__).parents[1] / "benchmarks/equality_clinical.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
equality_clinical = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(equality_clinical)


def test_on_random_labels_every_installed_original_gives_the_same_numbers(tmp_path: Path) -> None:
    rows = list(equality_clinical.main(tmp_path))

    compared = [row for row in rows if row.difference is not None]
    assert sum("scikit-learn" in row.name for row in compared) >= 20
    assert all(row.difference <= 1e-6 for row in compared)
    assert all(row.n >= 500 for row in rows)
    absent = [row for row in rows if row.difference is None]
    assert all(
        "not installed" in row.name and "original not installed" in equality_clinical.shown(row) for row in absent
    )


def test_real_reports_are_paired_and_compared() -> None:
    path = Path(__file__).parents[2] / "shared/data/reports/openi_cxr_reports.csv"
    if not path.is_file():
        pytest.skip("the real reports (../shared/data/reports/openi_cxr_reports.csv) are not here")
    data = equality_clinical.real_pairs(path)

    rows = [*equality_clinical.label_rows(data), *equality_clinical.class_rows(data)]
    assert {row.n for row in rows} == {2348}
    assert max(row.difference for row in rows if row.difference is not None) <= 1e-6


def test_a_difference_is_seen() -> None:
    row = equality_clinical._row("x", 2, [0.5, 0.25], [0.5, 0.75])

    assert row.difference == 0.5
    assert "5.0e-01" in equality_clinical.shown(row)
