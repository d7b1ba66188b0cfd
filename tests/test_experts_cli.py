"""`medvlm experts`: cards without code, and one expert asked about one simulated study."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medvlm.cli import main
from medvlm.simulate import simulate


@pytest.fixture(scope="module")
def film_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one simulated study with a frontal and a lateral film."""
    hospital = tmp_path_factory.mktemp("hospital")
    simulate(hospital, studies=1, seed=5, workers=1)
    return next((hospital / "dicom").iterdir())


def test_the_list_names_each_expert_and_what_it_is_not_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experts"]) == 0
    printed = capsys.readouterr().out
    assert "film-thorax" in printed
    assert "film-thorax is not for children; lateral films" in printed
    assert "network none" in printed


def test_listing_imports_no_expert() -> None:
    code = (
        "import sys; from medvlm.cli import main; main(['experts', '--json']);"
        "print([name for name in ('experts.ct_body', 'experts.film_thorax') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parent.parent
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120, check=True
    )
    assert finished.stdout.strip().endswith("[]")


def test_an_expert_measures_a_film_and_leaves_the_lateral_alone(
    film_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experts", "run", "film-thorax", str(film_study), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["study_uid"] == film_study.name
    assert answer["notice"].startswith("Draft for review by a radiologist")
    (series,) = answer["series"]
    assert series["ok"], series["reasons"]
    ratio = next(item for item in series["measurements"] if item["name"] == "cardiothoracic ratio")
    assert 0.3 < ratio["value"] < 0.75
    assert ratio["by"] == "film-thorax"


def test_the_text_says_it_is_a_draft(film_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experts", "run", "film-thorax", str(film_study)]) == 0
    printed = capsys.readouterr().out
    assert "Draft for review by a radiologist" in printed
    assert "cardiothoracic ratio 0." in printed


def test_an_expert_for_another_modality_is_refused(film_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experts", "run", "ct-body", str(film_study)]) == 1
    error = capsys.readouterr().err
    assert f"study {film_study.name} has " in error
    assert "ct-body takes CT" in error


def test_an_unknown_expert_is_named_beside_the_known_ones(film_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experts", "run", "film-torax", str(film_study)]) == 1
    assert (
        "no expert 'film-torax'; there are ct-body, film-thorax; did you mean 'film-thorax'?" in capsys.readouterr().err
    )
