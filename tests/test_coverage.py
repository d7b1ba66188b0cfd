"""Intervals over patients hold what they promise, and intervals over studies do not; and the table says so."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def loaded(script: str) -> ModuleType:
    """A benchmark under a name of its own: `coverage` alone is the name of a package."""
    name = f"benchmark_{script}"
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


coverage, equality_statistics = loaded("coverage"), loaded("equality_statistics")


@pytest.mark.slow
def test_nominal_95_percent_holds_with_clustered_patients_where_the_naive_way_fails() -> None:
    cells = coverage.simulate(100, 400, 11, coverage.truths())

    for name in coverage.STATISTICS:
        held, naive = cells[name, "patients, jackknife"].coverage, cells[name, "studies, percentile"].coverage
        assert 0.93 <= held <= 0.97, (name, held)
        assert naive < 0.85, (name, naive)
        assert cells[name, "patients, expanded"].coverage >= 0.91, name
        assert cells[name, "patients, jackknife"].undefined <= 5


def test_the_table_names_every_method_and_what_fails() -> None:
    cells = coverage.simulate(20, 4, 1, coverage.truths())
    text = coverage.table({20: cells}, coverage.truths())

    assert all(f"| {name} |" in text for name in coverage.STATISTICS)
    assert all(method in text for method in coverage.METHODS)
    assert "## 20 patients" in text
    bad = {("AUROC", "patients, jackknife"): coverage.Cell(80, 0.1, 100, 0)}
    assert coverage.failures({50: bad}) == ["AUROC, patients, jackknife, 50 patients: 80.0%"]


def test_every_statistic_equals_its_original_where_that_is_installed() -> None:
    rows = list(equality_statistics.main())

    assert equality_statistics.differing(rows) == []
    assert sum(row.original is not None for row in rows) >= 25
    assert len({row.name for row in rows}) == len(rows)
    assert all(" | " in row.name for row in rows)
