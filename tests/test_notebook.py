"""The notebook is the script, and the script runs from the first cell to the last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def test_notebook_and_script_say_the_same() -> None:
    jupytext = pytest.importorskip("jupytext")
    script = jupytext.read(NOTEBOOKS / "road.py")
    notebook = jupytext.read(NOTEBOOKS / "road.ipynb")
    said = [(cell.cell_type, cell.source) for cell in script.cells]
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == said, "run `make docs`"
    assert sum(kind == "code" for kind, _ in said) == 10
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"


@pytest.mark.slow
def test_the_road_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    # No kernel of the user's is looked up: `python3` is then this interpreter, which holds medvlm.
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parent))
    notebook = nbformat.read(NOTEBOOKS / "road.ipynb", as_version=4)

    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()

    printed = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "120 studies" in printed
    assert "Draft for review by a radiologist" in printed
    assert re.search(r"\[\s*(supported|unsupported|contradicted)\] \w", printed), "no drafted sentence was printed"
    assert '"metrics"' in printed
