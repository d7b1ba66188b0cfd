"""The benchmark of the contrastive losses prints a table, and tiles save memory already at a small size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "contrastive_loss.py"


@pytest.mark.slow
def test_the_table_compares_dense_and_tiled_in_fresh_processes() -> None:
    words = [sys.executable, str(SCRIPT), "--sizes", "4096", "--losses", "info_nce", "--memory", "1"]
    finished = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in finished.stdout.splitlines() if "|" in line]
    (large,) = rows[2:]
    assert large[:2] == ["info_nce", "4,096"]
    # A tile of 2048 x 2048 is a quarter of the matrix, of which the dense loss holds several: 2 to 4 times as measured.
    assert float(large[4]) > 1.5
    assert float(large[7]) < 1.2


def test_what_does_not_fit_is_not_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import contrastive_loss

    ran: list[tuple[str, int]] = []

    def pretend(loss: str, form: str, size: int, repeat: int) -> dict[str, float]:
        ran.append((form, size))
        return {"grown_bytes": 20.0 * size**2 if form == "dense" else 1e6, "seconds": 2.0 if form == "dense" else 1.0}

    monkeypatch.setattr(contrastive_loss, "in_process", pretend)
    monkeypatch.setattr(sys, "argv", ["contrastive_loss.py", "--sizes", "1000", "4000", "--losses", "info_nce",
                                      "--memory", "0.1"])  # fmt: skip
    contrastive_loss.main()
    assert ran == [("tiled", 1000), ("dense", 1000), ("tiled", 4000)]
    printed = capsys.readouterr().out
    assert "| info_nce | 1,000 | 0.02 | 0.001 | 20.0 | 2.00 | 1.00 | 0.50 |" in printed
    assert "| info_nce | 4,000 | ~0.32 | 0.001 | ~320.0 |  | 1.00 |  |" in printed
