"""The phantom hospital: what lies on disk, that it is true, and that neither kills nor workers change a byte."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch

import medvlm.simulate as simulate_module
from medvlm.simulate import SimulationError, plan_studies, simulate
from reports.sources import read_reports
from volumes.phantom import FINDINGS
from volumes.study import read_study
from volumes.volume import Film, Volume

SEED = 4  # its first two patients come twice


def _truth(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "truth" / "studies.jsonl").read_text().splitlines()]


def _tree(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hospital") / "sim"
    simulate(out, studies=6, seed=SEED, workers=1)
    return out


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("both") / "sim"
    simulate(out, studies=2, seed=SEED, modality="both", workers=1)
    return out


def test_every_file_has_its_place_and_nothing_else_is_there(hospital) -> None:
    expected = {"truth/studies.jsonl", "truth/simulation.json"}
    for line in _truth(hospital):
        expected |= {f"dicom/{line['study_uid']}/{film['series_uid']}/1.dcm" for film in line["films"]}
        expected.add(f"truth/masks/{line['study_uid']}.npz")
    messages = {name for name in _tree(hospital) if name.startswith("messages/")}
    assert set(_tree(hospital)) == expected | messages
    accessions = {line["accession"] for line in _truth(hospital)}
    assert {Path(name).stem for name in messages} == accessions
    assert len([name for name in messages if name.endswith(".hl7")]) == 3
    assert len([name for name in messages if name.endswith(".json")]) == 3


def test_the_truth_says_what_the_readers_say(hospital) -> None:
    for line in _truth(hospital):
        study = read_study(hospital / "dicom" / line["study_uid"])
        assert (study.study_uid, study.accession, study.patient_key) == (
            line["study_uid"],
            line["accession"],
            line["patient_key"],
        )
        assert not study.refusals
        said = {film["series_uid"]: film for film in line["films"]}
        assert sorted(film["view"] for film in said.values()) == ["LATERAL", "PA"]
        for series in study.films():
            film = series.read()
            assert isinstance(film, Film)
            told = said[series.series_uid]
            read = (film.view, list(film.shape), film.source.sop_uids[0])
            assert read == (told["view"], told["shape"], told["sop_uid"])
            assert film.spacing_mm == pytest.approx(told["spacing_mm"])
            assert not [note for note in film.notes if "contradicts" in note or "shows bone dark" in note]


def test_masks_boxes_and_labels_agree(hospital) -> None:
    checked = 0
    for line in _truth(hospital):
        present = {finding["name"] for finding in line["findings"]}
        assert line["labels"] == {name: int(name in present) for name in FINDINGS}
        assert line["simulated"] is True
        with np.load(hospital / "truth" / "masks" / f"{line['study_uid']}.npz") as masks:
            for film in line["films"]:
                for n, finding in enumerate(line["findings"]):
                    height, width = film["shape"]
                    bits = np.unpackbits(masks[f"{film['sop_uid']}/{n}"], count=height * width)
                    mask = bits.reshape(height, width).astype(bool)
                    box = finding["boxes"].get(film["sop_uid"])
                    assert (box is not None) == bool(mask.any())
                    if box is not None:
                        row0, col0, row1, col1 = box
                        assert 0 <= row0 < row1 <= height
                        assert 0 <= col0 < col1 <= width
                        assert mask[row0:row1, col0:col1].sum() == mask.sum()
                        checked += 1
    assert checked > 5


def test_sentences_are_in_the_report_and_point_to_lesions(hospital) -> None:
    for line in _truth(hospital):
        assert line["sentences"]
        stated = {n for sentence in line["sentences"] for n in sentence["findings"]}
        assert stated == set(range(len(line["findings"])))
        for sentence in line["sentences"]:
            assert sentence["text"] in line["report"]


def test_messages_carry_the_report_to_its_study(hospital) -> None:
    truth = {line["study_uid"]: line for line in _truth(hospital)}
    found = list(read_reports([hospital / "messages"]))
    assert len(found) == len(truth)
    for report in found:
        line = truth[report.study_uid]
        assert (report.accession, report.patient_key) == (line["accession"], line["patient_key"])
        assert report.status == "final"
        assert " ".join(report.text.split()) == " ".join(line["report"].split())


def test_every_image_says_that_it_is_simulated_and_has_a_plausible_date(hospital) -> None:
    for path in (hospital / "dicom").rglob("*.dcm"):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        assert "simulated" in ds.StudyDescription
        assert "SIMULATED" in ds.ImageComments
        assert str(ds.PatientName).startswith("SIMULATED^P")
        assert "20190101" <= ds.StudyDate <= "20261231"
        years = (int(ds.StudyDate) - int(ds.PatientBirthDate)) // 10000
        assert abs(years - int(ds.PatientAge[:3])) <= 2


def test_dciodvfy_accepts_the_files(hospital, both) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (apt-get install dicom3tools): the objects cannot be checked here")
    films = sorted((hospital / "dicom").rglob("*.dcm"))
    for path in [*films, *sorted((both / "dicom").rglob("5.dcm"))]:
        done = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in done.stdout + done.stderr


def test_two_visits_share_the_patient_and_name_the_prior(hospital) -> None:
    lines = {line["study_uid"]: line for line in _truth(hospital)}
    later = next(line for line in lines.values() if line["visit"] == 1)
    prior = lines[later["prior_study_uid"]]
    assert (prior["patient_key"], prior["visit"], prior["prior_study_uid"]) == (later["patient_key"], 0, None)
    assert prior["accession"] != later["accession"]
    files = [next((hospital / "dicom" / line["study_uid"]).rglob("*.dcm")) for line in (prior, later)]
    dates = [pydicom.dcmread(path, stop_before_pixels=True).StudyDate for path in files]
    assert dates[0] < dates[1]


def test_about_three_in_ten_patients_come_twice_and_longer_plans_begin_with_shorter_ones() -> None:
    plans = list(plan_studies(SEED, "xray", 2000))
    patients = {plan.index for plan in plans}
    assert 0.26 < sum(plan.visit for plan in plans) / len(patients) < 0.34
    assert list(plan_studies(SEED, "xray", 100)) == plans[:100]
    assert len({plan.accession for plan in plans}) == len({plan.study_uid for plan in plans}) == 2000
    assert not {p.patient_id for p in plans} & {p.patient_id for p in plan_studies(SEED + 1, "xray", 100)}


def test_films_and_ct_of_one_patient_share_the_state(both) -> None:
    film, scan = _truth(both)
    assert (film["modality"], scan["modality"]) == ("xray", "ct")
    assert film["patient_key"] == scan["patient_key"]
    assert film["labels"] == scan["labels"]
    assert film["accession"] != scan["accession"]
    volume = read_study(both / "dicom" / scan["study_uid"]).main_series().read()
    assert isinstance(volume, Volume)
    told = scan["volumes"][0]
    assert (volume.unit, list(volume.shape), volume.source.series_uid) == ("HU", told["shape"], told["series_uid"])
    torch.testing.assert_close(volume.affine, torch.tensor(told["affine"], dtype=torch.float64), rtol=0, atol=1e-5)
    inside = float(volume.voxels.median())
    assert -1024 <= float(volume.voxels.min()) < inside <= 3071
    with np.load(both / "truth" / "masks" / f"{scan['study_uid']}.npz") as masks:
        for n, finding in enumerate(scan["findings"]):
            mask = np.unpackbits(masks[f"{told['series_uid']}/{n}"], count=volume.voxels.numel()).reshape(volume.shape)
            if mask.any():
                k0, j0, i0, k1, j1, i1 = finding["boxes"][told["series_uid"]]
                assert mask[k0:k1, j0:j1, i0:i1].sum() == mask.sum()


def test_a_killed_simulation_continues_to_the_same_bytes(hospital, tmp_path, monkeypatch) -> None:
    real, calls = simulate_module.write_study, iter(range(100))

    def failing(plan: Any, folder: Path) -> dict[str, Any]:
        if next(calls) == 3:
            (folder / "dicom").mkdir()  # half a study
            raise KeyboardInterrupt
        return real(plan, folder)

    out = tmp_path / "sim"
    monkeypatch.setattr(simulate_module, "write_study", failing)
    with pytest.raises(KeyboardInterrupt):
        simulate(out, studies=6, seed=SEED, workers=1)
    assert not (out / "truth" / "studies.jsonl").exists()
    monkeypatch.setattr(simulate_module, "write_study", real)
    summary = simulate(out, studies=6, seed=SEED, workers=1)
    assert (summary.written, summary.kept) == (3, 3)
    assert _tree(out) == _tree(hospital)


def test_processes_give_the_same_bytes_and_a_hospital_can_grow(hospital, tmp_path) -> None:
    out = tmp_path / "sim"
    simulate(out, studies=2, seed=SEED, workers=1)
    simulate(out, studies=6, seed=SEED, workers=2)
    assert _tree(out) == _tree(hospital)
    again = simulate(out, studies=6, seed=SEED, workers=2)
    assert (again.written, again.kept) == (0, 6)
    assert "6 simulated studies" in again.text()


def test_planted_trouble_is_outside_the_truth_and_repeatable(tmp_path) -> None:
    out = tmp_path / "sim"
    summary = simulate(out, studies=1, seed=SEED, workers=1, trouble=True)
    assert (summary.studies, summary.trouble) == (1, 4)
    planted = json.loads((out / "truth" / "trouble.json").read_text())
    assert [one["reason"] for one in planted] == ["missing-slice", "truncated-file", "no-study", "ambiguous-accession"]
    assert not {one["study_uid"] for one in planted} & {line["study_uid"] for line in _truth(out)}
    before = _tree(out)
    simulate(out, studies=1, seed=SEED, workers=1, trouble=True)
    assert _tree(out) == before


def _cases() -> Iterator[Any]:
    yield {"studies": 0}, r"asked for 0 studies with 1 workers; expected at least 1 of each"
    yield {"modality": "mr"}, r"modality is 'mr'; expected xray, ct or both"
    yield {"seed": SEED + 1}, r"holds the simulation .*'seed': 4.*asked for .*'seed': 5.*use a new folder"
    yield {"studies": 5}, r"holds 6 studies, more than the 5 asked for"


@pytest.mark.parametrize(("change", "text"), list(_cases()))
def test_calls_that_make_no_sense_are_refused(hospital, change, text) -> None:
    before = sorted(_tree(hospital))
    with pytest.raises(SimulationError, match=text):
        simulate(hospital, **{"studies": 6, "seed": SEED, "workers": 1, **change})
    assert sorted(_tree(hospital)) == before


def test_a_folder_with_other_things_is_refused(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SimulationError, match=r"is not empty and holds no simulation: use a new folder"):
        simulate(tmp_path, studies=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
