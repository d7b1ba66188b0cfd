"""Training from shards: the same weights as from the archive, and a refusal wherever the two would differ."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import FILM, KILLED, REPORT, command, steps

from medvlm.cli import main
from medvlm.data import Schedule, StepData, load_examples, order
from medvlm.image_cache import ImageCache
from medvlm.ingest import ingest
from medvlm.shard import read_part, shard
from medvlm.shard_images import ShardImages, ShardSource, take_reading
from medvlm.simulate import simulate
from medvlm.train import TrainingError, train
from volumes.catalog import Catalog
from volumes.shard_order import ShardOrder
from volumes.shard_reader import ShardSet
from volumes.shards import shard_name
from volumes.transforms import FilmContract, VolumeContract
from volumes.volume import VolumeError

REPOSITORY = Path(__file__).resolve().parent.parent
CONTRACT = FilmContract(size=32)
SMALL = ("contract.size=32",)


@pytest.fixture(scope="module")
def sharded(tiny_hospital, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training split of the tiny hospital, four samples in a shard."""
    out = tmp_path_factory.mktemp("sharded") / "train"
    write_small(tiny_hospital.catalog, out)
    return out


def write_small(catalog: Path, out: Path, split: str = "train", per_shard: int = 4) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medvlm.shard._META_BYTES", 10**6 // per_shard - CONTRACT.size**2 * 4)
        summary = shard(catalog, "film_contrastive", out, SMALL, split, workers=0, megabytes=1)
    assert summary.whole


# ---- the command


def test_shards_hold_what_the_cache_holds(sharded: Path, tiny_hospital, tmp_path: Path) -> None:
    with Catalog.open(tiny_hospital.catalog) as opened:
        examples = load_examples(opened, CONTRACT, "train")
        images, kept, refused = ShardSource(str(sharded), CONTRACT, "train", opened, tmp_path).load(examples, 1)
    cached, _, _ = ImageCache(tmp_path / "cache", CONTRACT).load(examples, 1)
    assert kept == list(range(len(examples)))
    assert refused == []
    assert len(ShardSet.open(sharded).counts) >= 4
    assert all(np.array_equal(images[row], cached[row]) for row in kept)
    assert np.array_equal(images[3:9], cached[3:9])


def test_what_is_beside_an_image_holds_pseudonyms_and_no_paths(sharded: Path, tiny_hospital) -> None:
    shards = ShardSet.open(sharded)
    with Catalog.open(tiny_hospital.catalog) as opened:
        known = {e.study_uid: e for e in load_examples(opened, CONTRACT, "train")}
    for sample in shards.read(range(len(shards))):
        example = known[sample.study_uid]
        assert set(sample.meta) == {
            *("study_uid", "series_uid", "patient_key", "split", "view", "text", "findings", "notes"),
        }
        assert (sample.meta["text"], sample.meta["patient_key"]) == (example.text, example.patient_key)
        assert [f["name"] for f in sample.meta["findings"]] == [fact.name for fact in example.facts]
    for path in sharded.iterdir():
        data = path.read_bytes()
        assert b"SIMULATED^" not in data
        assert str(tiny_hospital.archive).encode() not in data


def test_the_command_writes_once_and_says_what_it_did(tiny_hospital, tmp_path: Path, capsys) -> None:
    words = ["shard", str(tiny_hospital.catalog), "--recipe", "film_contrastive", "--out", str(tmp_path / "out")]
    assert main([*words, "--contract.size", "32", "--workers", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["split"], told["shards"], told["written"], told["kept"]) == ("train", 1, 1, 0)
    assert main([*words, "--contract.size", "32"]) == 0
    assert "train: 0 shards written, 1 were already there and are whole (1 in all" in capsys.readouterr().out
    before = (tmp_path / "out" / shard_name(0)).stat().st_mtime_ns
    summary = shard(tiny_hospital.catalog, "film_contrastive", tmp_path / "out", SMALL, workers=0)
    assert (summary.written, summary.kept, summary.refused) == (0, 1, ())
    assert (tmp_path / "out" / shard_name(0)).stat().st_mtime_ns == before
    with pytest.raises(VolumeError, match=r"holds shards of another plan; .*\"size\": 32.*\"size\": 48"):
        shard(tiny_hospital.catalog, "film_contrastive", tmp_path / "out", ["contract.size=48"], workers=0)


def test_machines_can_share_the_work(sharded: Path, tiny_hospital, tmp_path: Path) -> None:
    wholes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medvlm.shard._META_BYTES", 10**6 // 4 - CONTRACT.size**2 * 4)
        for part in ("3/3", "1/3", "2/3"):
            out = tmp_path / "parts"
            summary = shard(tiny_hospital.catalog, "film_contrastive", out, SMALL, workers=0, megabytes=1, part=part)
            wholes.append(summary.whole)
            assert ("other parts are not written yet" in summary.text()) is not summary.whole
    assert wholes == [False, False, True]
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in sharded.iterdir()}
    for wrong in ("0/3", "4/3", "x", "1"):
        with pytest.raises(ValueError, match=rf"part is '{wrong}'; expected K/N with K from 1 to N"):
            read_part(wrong)


def test_an_image_that_cannot_be_read_is_left_out_with_its_reason(tiny_hospital, tmp_path: Path) -> None:
    catalog = Path(shutil.copy(tiny_hospital.catalog, tmp_path / "copy.db"))
    with Catalog.open(catalog) as opened:
        gone = load_examples(opened, CONTRACT, "train")[2]
        with opened.transaction() as db:
            moved = str(tmp_path / "gone.dcm")
            db.execute("UPDATE instances SET path = ? WHERE path = ?", (moved, gone.paths[0]))
    summary = shard(catalog, "film_contrastive", tmp_path / "out", SMALL, workers=0)
    assert [uid for uid, _ in summary.refused] == [gone.study_uid]
    assert f"left out: study {gone.study_uid}: " in summary.text()
    with Catalog.open(catalog) as opened:
        examples = load_examples(opened, CONTRACT, "train")
        source = ShardSource(str(tmp_path / "out"), CONTRACT, "train", opened, tmp_path)
        images, kept, refused = source.load(examples, 1)
    assert kept == [row for row in range(len(examples)) if row != 2]
    assert len(images) == len(kept)
    assert refused[0].startswith(f"{gone.study_uid}: ")
    assert refused[0].endswith("(when the shards were written)")


def test_a_catalog_without_such_images_is_refused(tiny_hospital, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no study of the train split has a report and an image of CT; expected"):
        shard(tiny_hospital.catalog, "ct_contrastive", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shards_of_ct_hold_what_the_cache_holds(tmp_path: Path) -> None:
    simulate(tmp_path / "sim", studies=3, seed=9, modality="ct", workers=1)
    ingest([tmp_path / "sim" / "dicom"], [tmp_path / "sim" / "messages"], tmp_path / "ct.db", workers=1)
    contract = VolumeContract(shape_dhw=(10, 24, 20), spacing_mm=(28.0, 15.0, 19.0))
    overrides = ["contract.shape_dhw=[10, 24, 20]", "contract.spacing_mm=[28.0, 15.0, 19.0]"]
    summary = shard(tmp_path / "ct.db", "ct_contrastive", tmp_path / "out", overrides, "all", workers=0)
    assert (summary.samples, summary.refused) == (3, ())
    with Catalog.open(tmp_path / "ct.db") as opened:
        examples = load_examples(opened, contract, None)
        images, kept, _ = ShardSource(str(tmp_path / "out"), contract, "all", opened, tmp_path).load(examples, 1)
    cached, _, _ = ImageCache(tmp_path / "cache", contract).load(examples, 1)
    assert kept == [0, 1, 2]
    assert images[0:3].shape == (3, 1, 10, 24, 20)
    assert np.array_equal(images[0:3], cached)


# ---- shards that do not fit


def test_shards_of_another_state_of_the_catalog_are_refused(sharded: Path, tiny_hospital, tmp_path: Path) -> None:
    catalog = Path(shutil.copy(tiny_hospital.catalog, tmp_path / "copy.db"))
    with Catalog.open(catalog) as opened:
        uids = [e.study_uid for e in load_examples(opened, CONTRACT, "train")]
        with opened.transaction() as db:
            db.execute("UPDATE reports SET text = text || ' No pneumothorax.' WHERE study_uid = ?", (uids[0],))
            db.execute("UPDATE instances SET sha256 = 'another file' WHERE study_uid = ?", (uids[1],))
            db.execute("UPDATE studies SET split = 'test' WHERE study_uid IN (?, ?)", (uids[2], uids[3]))
            db.execute("UPDATE studies SET split = 'train' WHERE split = 'validation'")
        found = load_examples(opened, CONTRACT, "train")
        new = len(found) - len(uids) + 2
        said = rf"another state of the catalog: {new} studies are not in the shards, 2 have another image or report now"
        with pytest.raises(VolumeError, match=said) as caught:
            ShardSource(str(sharded), CONTRACT, "train", opened, tmp_path).load(found, 1)
    assert caught.value.reason == "other-catalog"


def test_a_moved_archive_is_the_same_archive(sharded: Path, tiny_hospital, tmp_path: Path) -> None:
    catalog = Path(shutil.copy(tiny_hospital.catalog, tmp_path / "copy.db"))
    with Catalog.open(catalog) as opened:
        with opened.transaction() as db:
            db.execute("UPDATE instances SET path = '/elsewhere' || path")
        examples = load_examples(opened, CONTRACT, "train")
        _, kept, _ = ShardSource(str(sharded), CONTRACT, "train", opened, tmp_path).load(examples, 1)
    assert len(kept) == len(examples)


def test_shards_of_another_recipe_or_split_are_refused(sharded: Path, tiny_hospital, tmp_path: Path) -> None:
    shards = f"data.shards={sharded}"
    with pytest.raises(VolumeError, match=r"hold images of the contract .*\"size\":32.*, asked for .*\"size\":48"):
        train("film_contrastive", tiny_hospital.catalog, tmp_path / "run", [*FILM, shards, "contract.size=48"])
    with pytest.raises(VolumeError, match=r"asked for .*\"kind\":\"volume\""):
        ShardSet.open(sharded, VolumeContract())
    write_small(tiny_hospital.catalog, tmp_path / "validation", "validation")
    with pytest.raises(VolumeError, match=r"holds the validation split, asked for train; write it with `medvlm shard"):
        train(
            "film_contrastive", tiny_hospital.catalog, tmp_path / "run", [*FILM, f"data.shards={tmp_path}/validation"]
        )
    assert not (tmp_path / "run").exists()


def test_a_shuffle_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.shuffle is 'some'; expected all or shards"):
        take_reading({"data": {"shuffle": "some"}})
    with pytest.raises(ValueError, match=r"orders studies by shard; give --data\.shards FOLDER too"):
        take_reading({"data": {"shuffle": "shards"}})
    with pytest.raises(ValueError, match=r"data\.readers is -1; expected 0 \(this process reads\) or more"):
        take_reading({"data": {"readers": -1}})
    recipe = {"data": {"shards": "here", "shuffle": "all", "workers": 2}}
    assert take_reading(recipe) == ("here", 0)
    assert recipe == {"data": {"workers": 2}}  # so that the run is the same one with and without shards


# ---- training


def weights(run: Path) -> dict[str, bytes]:
    names = ("model.safetensors", "familiar.safetensors", "config.yaml", "preprocess.json")
    return {name: (run / name).read_bytes() for name in names}


def test_shards_give_the_same_weights_as_the_archive(film_run, sharded, tiny_hospital, tmp_path, monkeypatch) -> None:
    """Also where the archive is gone: nothing but the validation split is read from it."""
    write_small(tiny_hospital.catalog, tmp_path / "both" / "train", "train")
    write_small(tiny_hospital.catalog, tmp_path / "both" / "validation", "validation", per_shard=2)

    def refuse(*_: object) -> None:
        raise AssertionError("the archive was read")

    monkeypatch.setattr("medvlm.image_cache.read_series", refuse)
    monkeypatch.setattr("medvlm.image_cache.ImageCache.load", refuse)
    overrides = [*FILM, *steps(12, 5), f"data.shards={tmp_path}/both/{{split}}"]
    out = train("film_contrastive", tiny_hospital.catalog, tmp_path / "run", overrides)
    assert weights(out) == weights(film_run)
    # A run that was begun from the archive may go on from shards: it is the same run.
    assert (out / "run.json").read_text() == (film_run / "run.json").read_text()


@pytest.mark.slow
def test_a_killed_run_goes_on_from_shards_and_ends_with_the_same_bytes(
    film_run: Path, sharded: Path, tiny_hospital, tmp_path: Path
) -> None:
    """Killed in the middle of an epoch, and resumed with another number of reading processes."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    overrides = (*FILM, *steps(12, 5), f"data.shards={sharded}")
    program = [sys.executable, "-c", KILLED.format(module="contrastive", name="Contrastive"), "8"]
    program += command("film_contrastive", tiny_hospital.catalog, tmp_path / "run", overrides)
    killed = subprocess.run(program, env=environment, capture_output=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    train("film_contrastive", tiny_hospital.catalog, tmp_path / "run", [*overrides, "data.readers=2"])
    assert weights(tmp_path / "run") == weights(film_run)


def test_batches_from_few_shards_at_a_time_are_another_run_that_learns_too(
    sharded: Path, tiny_hospital, film_run: Path, tmp_path: Path
) -> None:
    overrides = [*FILM, *steps(4, 2), f"data.shards={sharded}", "data.shuffle=shards"]
    out = train("film_contrastive", tiny_hospital.catalog, tmp_path / "run", overrides)
    assert json.loads((out / "run.json").read_text())["recipe"]["data"]["shuffle"] == "shards"
    assert weights(out)["model.safetensors"] != weights(film_run)["model.safetensors"]
    with pytest.raises(TrainingError, match=r"holds another run; recipe differ"):
        train("film_contrastive", tiny_hospital.catalog, out, [*FILM, *steps(4, 2), f"data.shards={sharded}"])


def test_a_writer_learns_from_shards_too(film_run, report_run, sharded, tiny_hospital, tmp_path) -> None:
    overrides = [*REPORT, *steps(30, 15), f"start.run={film_run}", f"data.shards={sharded}"]
    out = train("film_report", tiny_hospital.catalog, tmp_path / "report", overrides)
    assert (out / "model.safetensors").read_bytes() == (report_run / "model.safetensors").read_bytes()


def test_a_damaged_sample_stops_training_before_it_is_learned(sharded: Path, tiny_hospital, tmp_path: Path) -> None:
    copy = tmp_path / "shards"
    shutil.copytree(sharded, copy)
    data = bytearray((copy / shard_name(1)).read_bytes())
    data[2000] ^= 1
    (copy / shard_name(1)).write_bytes(data)
    with pytest.raises(VolumeError, match=r"shard-000001\.tar: sample \S+ is damaged: sha256 is \w+, expected \w+"):
        train(
            "film_contrastive", tiny_hospital.catalog, tmp_path / "run", [*FILM, *steps(12, 5), f"data.shards={copy}"]
        )
    assert not (tmp_path / "run" / "model.safetensors").exists()


# ---- schedules


def test_a_schedule_by_shards_shows_each_study_once_an_epoch(sharded: Path) -> None:
    shards = ShardSet.open(sharded)
    n = len(shards)
    rows = np.random.default_rng(1).permutation(n)
    by_shard = ShardImages(shards, rows).schedule(seed=3, batch=3, window=1)
    expected = ShardOrder(shards.counts, 3, 1).at(1, 0, n)
    per_epoch = n // 3
    seen = np.concatenate([by_shard(step) for step in range(per_epoch, 2 * per_epoch)])
    assert rows[seen].tolist() == expected[: 3 * per_epoch].tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_share_the_batch_that_one_process_would_see(world: int) -> None:
    for step in range(7):
        parts = []
        for rank in range(world):
            schedule = Schedule(5, 23, 8)
            schedule.divide(rank, world)
            parts.append(schedule(step).tolist())
        assert sorted(row for part in parts for row in part) == sorted(order(5, 23, 8, step).tolist())
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_each_process_of_a_group_gets_its_part_of_the_batch() -> None:
    class Steps:
        schedule = Schedule(5, 23, 8)

        def __getitem__(self, step: int) -> list[int]:
            return self.schedule(step).tolist()

    class Group:
        global_step, max_steps, global_rank, world_size = 3, 6, 1, 2

    data = StepData(Steps())
    data.trainer = Group()  # type: ignore[assignment]
    assert list(data.train_dataloader()) == [order(5, 23, 8, step)[1::2].tolist() for step in (3, 4, 5)]


def test_ranks_draw_differently_and_one_process_as_ever() -> None:
    first, second = Schedule(5, 23, 8), Schedule(5, 23, 8)
    second.divide(1, 2)
    assert first.rng("batch", 3).random() != second.rng("batch", 3).random()
    with pytest.raises(ValueError, match=r"a batch has 2 studies for 3 processes; expected one for each or more"):
        Schedule(5, 23, 2).divide(0, 3)
