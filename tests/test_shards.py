"""Writing shards: the same bytes whoever writes them, whenever he was killed, and however many write at once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from written_shards import FILM, REFUSED, VOLUME, image_of, plan, prepared, write

from volumes.shard_reader import ShardSet
from volumes.shard_store import Store
from volumes.shard_writer import claim, is_written, write_manifest, write_shard
from volumes.shards import MANIFEST, PLAN, Planned, ShardPlan, shard_name
from volumes.transforms import FilmContract
from volumes.volume import VolumeError

REPOSITORY = Path(__file__).resolve().parent.parent
# Writes the shards of the test plan; killed while it writes sample number argv[2] of all.
WRITER = """
import os, signal, sys
sys.path.insert(0, "tests")
import written_shards
from volumes import shard_writer as shards
last, count, sample = int(sys.argv[2]), 0, shards._write_sample
def killed(*arguments):
    global count
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    return sample(*arguments)
shards._write_sample = killed
wanted, store = written_shards.plan(), shards.Store(sys.argv[1])
shards.claim(store, wanted)
store.sweep()
held = store.sizes()
for job in wanted.jobs:
    if not shards.is_written(store, job, held):
        shards.write_shard(store, job, written_shards.prepared(job))
shards.write_manifest(store, wanted)
"""


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def run_writer(folder: Path, last: int) -> int:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-c", WRITER, str(folder), str(last)]
    return subprocess.run(words, cwd=REPOSITORY, env=environment, timeout=120, check=False).returncode


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write(tmp_path / "shards", plan())
    return tmp_path / "shards"


# ---- the form


def test_a_shard_is_a_plain_tar_without_times_owners_or_names(written: Path) -> None:
    keys = []
    for number in range(5):
        with tarfile.open(written / shard_name(number), "r:") as archive:
            members = archive.getmembers()
            assert all((m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) == (0, 0, 0, "", "", 0o644) for m in members)
            names = [m.name for m in members]
            keys += [name.removesuffix(".npy") for name in names[::2]]
            assert names[1::2] == [f"{key}.json" for key in keys[-len(names) // 2 :]]
    assert sorted(keys) == sorted(f"1_2_826_{n}" for n in range(23) if n != 3)


@pytest.mark.parametrize("contract", [FILM, VOLUME])
def test_what_was_written_is_read_bit_by_bit(contract, tmp_path: Path) -> None:
    write(tmp_path / "s", plan(contract=contract))
    shards = ShardSet.open(tmp_path / "s", contract)
    assert len(shards) == 22
    for sample in shards.read(range(22)):
        assert np.array_equal(sample.image, image_of(sample.study_uid, contract))
        assert sample.image.dtype == np.float32
        assert sample.meta["study_uid"] == sample.study_uid
        assert (sample.meta["text"], sample.meta["notes"]) == ("Kein Befund, außer Übung.", ["a repair"])
        assert np.array_equal(shards.image(sample.number), sample.image)
    assert shards.refused() == {REFUSED: ("archive-changed", f"{3:064x}")}


def test_half_the_size_is_off_by_no_more_than_it_says(tmp_path: Path) -> None:
    write(tmp_path / "s", plan(dtype="float16"))
    shards = ShardSet.open(tmp_path / "s", FILM)
    errors = [np.abs(s.image - image_of(s.study_uid)).max() for s in shards.read(range(len(shards)))]
    assert 0 < max(errors) <= 2.5e-4
    assert shards[0].image.dtype == np.float32


def test_webdataset_reads_the_same_files(written: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed: pip install webdataset")
    urls = [str(written / shard_name(number)) for number in range(5)]
    found = webdataset.WebDataset(urls, shardshuffle=False).decode().to_tuple("__key__", "npy", "json")
    samples = list(found)
    assert [meta["study_uid"] for _, _, meta in samples] == [
        s.study_uid for s in ShardSet.open(written).read(range(22))
    ]
    for key, image, meta in samples:
        assert key == meta["study_uid"].replace(".", "_")
        assert np.array_equal(image, image_of(meta["study_uid"]))


def test_neighbours_in_a_shard_are_no_neighbours_in_the_archive() -> None:
    wanted = plan(n=2000, per_shard=100)
    places = np.array([int(one.study_uid.rsplit(".", 1)[1]) for one in wanted.planned])
    assert abs(np.corrcoef(places, np.arange(2000))[0, 1]) < 0.1
    assert wanted.planned == plan(n=2000, per_shard=7).planned
    smaller = [one for one in wanted.planned if int(one.study_uid.rsplit(".", 1)[1]) < 1000]
    assert list(plan(n=1000).planned) == smaller  # a study more does not reorder the others


def test_an_odd_study_uid_gets_a_key_that_a_tar_can_hold() -> None:
    assert Planned("1.2.3", "", {}).key == "1_2_3"
    odd = Planned("../../etc/passwd", "", {}).key
    assert len(odd) == 32
    assert odd.isalnum()


def test_plans_that_make_no_sense_are_refused() -> None:
    with pytest.raises(VolumeError, match=r"a plan of 0 samples in a shard as float32; expected 1 or more"):
        plan(per_shard=0)
    with pytest.raises(VolumeError, match=r"as int8; expected 1 or more, as float32 or float16"):
        plan(dtype="int8")
    one = Planned("1.2", "", {})
    with pytest.raises(VolumeError, match=r"1 of 2 samples repeat a study; expected one for each"):
        ShardPlan((one, one), FILM, "train", 5)


# ---- the same bytes


def test_the_same_plan_gives_the_same_bytes_in_any_order(written: Path, tmp_path: Path) -> None:
    wanted = plan()
    other = Store(tmp_path / "other")
    claim(other, wanted)
    for job in reversed(wanted.jobs):
        write_shard(other, job, prepared(job))
    write_manifest(other, wanted)
    assert contents(tmp_path / "other") == contents(written)


def test_a_url_holds_the_same_files_as_a_folder(written: Path) -> None:
    store = write("memory://bucket/train", plan())
    found = {name: hashlib.sha256(store.read(name)).hexdigest() for name in store.sizes()}
    assert found == contents(written)


@pytest.mark.slow
def test_a_writer_that_was_killed_anywhere_goes_on_and_leaves_the_same_bytes(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    begun = set()
    for last in (0, 7, 12, 3):  # in the first shard, in the second, in one after that, and again
        assert run_writer(folder, last) == -signal.SIGKILL
        assert not (folder / MANIFEST).exists()
        with pytest.raises(VolumeError, match=r"no manifest\.json there; `medvlm shard` writes it when every shard is"):
            ShardSet.open(folder)
        whole = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*.json")}
        assert begun <= set(whole.items())  # what was whole is kept, not written again
        begun = set(whole.items())
    assert len(begun) >= 3
    assert list(folder.glob(".*.part"))
    assert run_writer(folder, 999) == 0
    assert contents(folder) == contents(written)  # and nothing unfinished is left


def test_two_writers_at_once_leave_the_same_bytes(written: Path, tmp_path: Path) -> None:
    folder, wanted = tmp_path / "both", plan()
    errors: list[BaseException] = []

    def work(reverse: bool) -> None:
        try:
            store = Store(folder)
            claim(store, wanted)
            for job in wanted.jobs[:: -1 if reverse else 1]:
                write_shard(store, job, prepared(job))
            write_manifest(store, wanted)
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=work, args=(reverse,)) for reverse in (False, True)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    assert contents(folder) == contents(written)


def test_what_is_whole_is_known_by_its_digest(written: Path) -> None:
    store, wanted = Store(written), plan()
    assert all(is_written(store, job, store.sizes()) for job in wanted.jobs)
    path = written / shard_name(2)
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    (written / "shard-000004.json").write_text("{")
    (written / shard_name(1)).unlink()
    sizes = store.sizes()
    assert [is_written(store, job, sizes) for job in wanted.jobs] == [True, False, False, True, False]
    other = plan(source=lambda number: "changed")
    assert not any(is_written(store, job, sizes) for job in other.jobs)


# ---- other plans


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (plan(contract=FilmContract(size=13)), r'then \{"contract": .*"size": 12\}.*now .*"size": 13\}'),
        (plan(n=24), r'then \{"planned": 23, .*now \{"planned": 24'),
        (plan(source=lambda number: "0"), r'holds shards of another plan; then \{"source_sha256"'),
        (plan(per_shard=6), r'"per_shard": 5\}, now \{"per_shard": 6\}\. Give another folder, or delete this one'),
    ],
)
def test_a_folder_of_another_plan_is_refused(other: ShardPlan, said: str, written: Path) -> None:
    with pytest.raises(VolumeError, match=said) as caught:
        claim(Store(written), other)
    assert caught.value.reason == "other-plan"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(VolumeError, match=r"is not empty and holds no shards, but thesis\.tex; give another folder"):
        claim(Store(tmp_path), plan())
    assert not (tmp_path / PLAN).exists()


def test_a_manifest_needs_every_shard_and_of_this_plan(tmp_path: Path) -> None:
    store, wanted, other = Store(tmp_path / "s"), plan(), plan(source=lambda number: "other")
    claim(store, wanted)
    for job in wanted.jobs[:3]:
        write_shard(store, job, prepared(job))
    with pytest.raises(VolumeError, match=r"2 of 5 shards are not written, such as shard-000003\.json; write them bef"):
        write_manifest(store, wanted)
    for job in (*wanted.jobs[3:4], *other.jobs[4:]):  # as if two writers had claimed the folder in the same moment
        write_shard(store, job, prepared(job))
    with pytest.raises(VolumeError, match=r"shard-000004\.json is of the plan \w+, not of \w+: two writers had"):
        write_manifest(store, wanted)


def test_as_many_images_as_samples_are_expected(tmp_path: Path) -> None:
    job = plan().jobs[0]
    with pytest.raises(ValueError, match="shorter"):
        write_shard(Store(tmp_path / "s"), job, prepared(job)[:-1])
    assert list((tmp_path / "s").iterdir()) == []  # neither half a shard nor what was begun


# ---- the store


def test_a_protocol_that_nobody_knows_is_refused() -> None:
    with pytest.raises(VolumeError, match=r"nowhere://bucket: cannot be reached: Protocol not known: nowhere"):
        Store("nowhere://bucket")


def test_unfinished_files_of_the_living_are_left_alone(written: Path) -> None:
    store = Store(written)
    with store.writing("mine") as stream:
        stream.write(b"half")
        store.sweep()
        assert len(list(written.glob(".mine+*.part"))) == 1
    assert (written / "mine").read_bytes() == b"half"


def test_the_manifest_says_what_was_sharded(written: Path) -> None:
    manifest = json.loads((written / MANIFEST).read_bytes())
    assert (manifest["format"], manifest["split"], manifest["planned"], manifest["samples"]) == (
        "medvlm-shards",
        "train",
        23,
        22,
    )
    assert manifest["contract_sha256"] == FILM.digest
    for shard in manifest["shards"]:
        assert hashlib.sha256((written / shard["name"]).read_bytes()).hexdigest() == shard["sha256"]
