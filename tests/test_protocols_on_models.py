"""Protocols and flags on a tiny trained model: phantom edits, a catalog asked in other ways, and a leak end to end."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Hospital

from evaluation.flag_leaks import Sources, leak_flags
from medvlm import protocols
from medvlm.evaluation_flags import sources, studies_of
from medvlm.model import Model, load_model
from medvlm.phantom_edits import edited_pairs, edits_of, image_of, moved_pairs
from medvlm.testset import load_test_set
from volumes.catalog import Catalog
from volumes.phantom import render_films
from volumes.study import read_study


@pytest.fixture(scope="module")
def model(film_run: Path) -> Model:
    return load_model(film_run)


class TestEditedPatients:
    def test_an_edit_changes_one_finding_and_leaves_the_rest_of_the_film_bit_for_bit(self) -> None:
        for pair in edited_pairs(["lung nodule", "rib fracture"], 2, seed=3001):
            names = [[n.name for n in state.lesions] for state in (pair.before, pair.after)]
            assert (pair.finding in names[0]) != (pair.finding in names[1])
            assert pair.inserted == (pair.finding in names[1])
            others = [[name for name in found if name != pair.finding] for found in names]
            assert others[0] == others[1]
        pair = edited_pairs(["lung nodule"], 1, seed=3001)[0]
        before, after = (render_films(state)[0] for state in (pair.before, pair.after))
        changed = before.pixels != after.pixels
        assert 0 < changed.mean() < 0.2

    def test_a_move_keeps_the_lesion_and_changes_its_side(self) -> None:
        for pair in moved_pairs(["pneumothorax", "lung nodule", "cardiomegaly"], 2, seed=3001):
            one, two = pair.before.lesions[-1], pair.after.lesions[-1]
            assert one.name == two.name == pair.finding != "cardiomegaly"
            assert {one.side, two.side} == {"left", "right"}
            assert (one.seed, one.size_mm) == (two.seed, two.size_mm)

    def test_a_rendered_patient_reads_as_its_file_would(self, model: Model, tiny_hospital: Hospital) -> None:
        lines = [json.loads(line) for line in (tiny_hospital.truth / "studies.jsonl").read_text().splitlines()]
        seen = set()
        for line in lines[:6]:
            from volumes.phantom import sample_patient

            visits = max(other["visit"] for other in lines if other["patient_index"] == line["patient_index"]) + 1
            states = sample_patient(line["seed"], line["patient_index"], visits)
            state = states[line["visit"]]
            seen.add(render_films(state)[0].photometric)
            study = read_study(tiny_hospital.archive / line["study_uid"])
            film = next(series for series in study.series if series.view == "PA").read()
            assert torch.equal(film.pixels, image_of(model, state).pixels)  # type: ignore[union-attr]
        assert seen == {"MONOCHROME1", "MONOCHROME2"}

    def test_edits_carry_their_truth(self, model: Model) -> None:
        names = list(model.concepts)
        edits = edits_of(model, names, 1, seed=3001)
        present = np.asarray(edits.present)
        rows = np.arange(len(present))
        assert np.asarray(edits.before).shape == present.shape == (len(names), len(names))
        assert (present[rows, np.array(edits.edited)] == 0).tolist() == list(edits.inserted)
        with pytest.raises(ValueError, match=r"the phantom knows none of \['scoliosis'\]"):
            edits_of(model, ["scoliosis"], 1, seed=1)


def test_the_command_runs_every_protocol_and_writes_the_outcomes(
    film_run: Path, unseen_hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "outcomes.json"
    protocols.command(film_run, unseen_hospital.catalog, "all", unseen_hospital.truth, each=1, out=out, json=True)
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told == json.loads(out.read_text(encoding="utf-8"))
    ran = {outcome["protocol"] for outcome in told}
    assert {"before_after", "paired_images", "moved_sides", "text_bias"} <= ran
    left = 7 - len(ran)
    assert printed.err.count("left out:") == left  # twenty studies are too few for what needs ten of each class
    assert all(m["n"] > 0 for outcome in told for m in outcome["metrics"])


def test_wordings_differ_and_thresholds_are_those_of_the_calibrated_model(
    model: Model, unseen_hospital: Hospital
) -> None:
    test = load_test_set(model, unseen_hospital.catalog, "all", unseen_hospital.truth)
    tokens = model.look_many(torch.from_numpy(np.array(test.images[:4])), ["PA"] * 4)
    one, two, told = (
        protocols.wording_odds(model, tokens, test.names, number, before)
        for number, before in ((0, ""), (1, ""), (0, protocols.KNOWN))
    )
    assert one.shape == (4, len(test.names))
    assert not np.allclose(one, two)
    assert not np.allclose(one, told)
    at = protocols.odds_thresholds(model, test.names)
    assert model.calibration is not None
    for k, name in enumerate(test.names):
        if name in model.calibration.scales and name not in model.calibration.unfitted and name in model.thresholds:
            p = model.calibration.apply(at[k : k + 1], [name])[0]
            assert p == pytest.approx(model.thresholds[name], abs=1e-9)


def test_a_contest_needs_a_catalog_with_both_splits_and_enough_studies(
    film_run: Path, model: Model, unseen_hospital: Hospital, tmp_path: Path
) -> None:
    catalog = tmp_path / "split.db"
    shutil.copy(unseen_hospital.catalog, catalog)
    with Catalog.open(catalog) as opened:
        keys = sorted({row.patient_key for row in opened.studies()})
    with closing(sqlite3.connect(catalog)) as database, database:
        for number, key in enumerate(keys):
            split = ("validation", "test")[number % 2]
            database.execute("UPDATE patients SET split = ? WHERE patient_key = ?", (split, key))
            database.execute("UPDATE studies SET split = ? WHERE patient_key = ?", (split, key))
    with pytest.raises(ValueError, match="no finding has 10 patients of each class on both splits"):
        protocols.contest(model, model, catalog, unseen_hospital.truth)
    with pytest.raises(ValueError, match="--against compares on the studies of a catalog: give --catalog"):
        protocols.command(film_run, against=film_run, each=0)


def test_a_copied_catalog_is_found_to_hold_the_patients_that_were_learned_from(
    model: Model, tiny_hospital: Hospital, unseen_hospital: Hospital, tmp_path: Path
) -> None:
    """A path does not give the copy away; the patients in it do."""
    copy = tmp_path / "another.db"
    shutil.copy(tiny_hospital.catalog, copy)
    with Catalog.open(copy) as opened:
        uids = [row.study_uid for row in opened.studies()]
    learned = sources(tiny_hospital.catalog, studies_of(tiny_hospital.catalog, ("train", "validation")))
    flags = leak_flags(learned, sources(copy, uids))
    assert "leak.patient" in [flag.name for flag in flags]
    with Catalog.open(unseen_hospital.catalog) as opened:
        others = [row.study_uid for row in opened.studies()]
    assert leak_flags(learned, sources(unseen_hospital.catalog, others)) == []
    renamed = sources(copy, uids)
    renamed = Sources([f"new {key}" for key in renamed.patients], renamed.images, renamed.reports)
    assert "leak.image" in [flag.name for flag in leak_flags(learned, renamed)]
