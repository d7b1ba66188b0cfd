"""The benchmark of reading compares what it says, on data that every reader agrees on, and admits a missed goal."""

from __future__ import annotations

import runpy
import time
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def reading() -> dict[str, Any]:
    path = Path(__file__).resolve().parent.parent / "benchmarks" / "reading.py"
    return runpy.run_path(str(path), run_name="reading")


def test_medians_ratios_and_goals(reading: dict[str, Any]) -> None:
    found = reading["measure"]({"quick": lambda: None, "slow": lambda: time.sleep(0.02)}, rounds=3)
    assert found["quick"] < 0.01 < found["slow"]
    rows = [reading["Row"]("task", "peer", 0.3, 0.1, 2.0), reading["Row"]("task", "other", 0.1, 0.1, 1.5)]
    lines = reading["table"](rows).splitlines()
    assert lines[2].endswith("| 3.00 | ≥ 2 | yes |")
    assert lines[3].endswith("| 1.00 | ≥ 1.5 | **no** |")


def test_a_reader_that_reads_other_voxels_stops_the_benchmark(reading: dict[str, Any]) -> None:
    truth = reading["body"](2)
    readers = {"ours": lambda: truth, "pydicom loop without checks": lambda: truth + 1}
    with pytest.raises(SystemExit, match="read other voxels than were written"):
        reading["check"](readers, truth)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["dicom", "nifti", "headers", "cache"])
def test_each_part_runs_small(reading: dict[str, Any], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    if part == "cache":
        pytest.importorskip("blosc2", reason="blosc2 (extra cache) is not installed")
    code = reading["main"](["--slices", "3", "--rounds", "1", "--only", part])
    printed = capsys.readouterr().out
    assert code in (0, 1)
    assert "median of 1 rounds" in printed
    assert (code == 1) == ("**no**" in printed)
