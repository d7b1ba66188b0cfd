"""Reading shards: no damaged byte is ever used, and every refusal says what is wrong where."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from written_shards import FILM, VOLUME, image_of, plan, write

from volumes.shard_reader import ShardSet
from volumes.shard_store import Store
from volumes.shards import MANIFEST, canonical, index_name, shard_name
from volumes.volume import VolumeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "shards", plan())
    return tmp_path / "shards"


def use(url: Path | str, copies: Path | None = None) -> list[str]:
    """Every sample, as training would use them; each image is compared with what was written."""
    shards = ShardSet.open(url, FILM, copies)
    seen = []
    for number in np.random.default_rng(0).permutation(len(shards)):
        sample = shards[int(number)]
        assert np.array_equal(sample.image, image_of(sample.study_uid)), "a damaged image was used"
        assert sample.meta["text"] == "Kein Befund, außer Übung.", "a damaged text was used"
        seen.append(sample.study_uid)
    return sorted(seen)


def flip(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


# ---- damage


@pytest.mark.parametrize("seed", range(4))
def test_one_flipped_bit_anywhere_is_noticed_before_use(folder: Path, seed: int) -> None:
    """In 60 random places of every kind of file: tar headers, pixels, padding, end of archive, indexes, manifest."""
    rng = random.Random(seed)
    files = [path for path in sorted(folder.iterdir()) if path.name != "plan.json"]
    whole = use(folder)
    for _ in range(60):
        path = rng.choice(files)
        place, bit = rng.randrange(path.stat().st_size), rng.randrange(8)
        flip(path, place, bit)
        with pytest.raises(VolumeError, match=r"damaged") as caught:
            use(folder)
        assert caught.value.reason.startswith("damaged")
        flip(path, place, bit)
    assert use(folder) == whole


def test_every_byte_of_a_shard_counts(folder: Path) -> None:
    """Each place once, in one sample's whole span and in the end of the archive."""
    path = folder / shard_name(0)
    index = json.loads((folder / index_name(0)).read_text())
    span = index["samples"][1]
    for place in (*range(span["start"], span["stop"], 7), *range(index["end"], index["bytes"], 131)):
        flip(path, place)
        with pytest.raises(VolumeError, match="damaged"):
            _ = ShardSet.open(folder)[1]
        flip(path, place)
    assert len(ShardSet.open(folder)[1].image) == 1


def test_the_message_names_shard_study_and_both_digests(folder: Path) -> None:
    span = json.loads((folder / index_name(2)).read_text())["samples"][1]
    flip(folder / shard_name(2), span["image"][0] + 200)
    shards = ShardSet.open(folder)
    number = sum(shards.counts[:2]) + 1
    said = (
        rf"shard-000002\.tar: sample {span['study_uid']} is damaged: sha256 is \w{{64}}, expected {span['sha256']}\."
        " Delete this shard and run `medvlm shard` again"
    )
    with pytest.raises(VolumeError, match=said):
        shards.image(number)
    assert shards[number - 1].number == number - 1  # its neighbours are whole
    verdicts = list(shards.verify())
    assert [bool(verdict) for verdict in verdicts] == [False, False, True, False, False]
    assert verdicts[2].startswith("shard-000002.tar: sha256 is ")


def test_a_damaged_sample_can_be_left_out_and_is_counted(folder: Path) -> None:
    span = json.loads((folder / index_name(0)).read_text())["samples"][2]
    flip(folder / shard_name(0), span["meta"][0])
    shards = ShardSet.open(folder)
    with pytest.raises(VolumeError, match=r"is damaged"):
        list(shards.read(range(len(shards))))
    damaged: list[str] = []
    found = [sample.number for sample in shards.read(range(len(shards)), damaged)]
    assert found == [n for n in range(22) if n != 2]
    assert len(damaged) == 1
    assert span["study_uid"] in damaged[0]


@pytest.mark.parametrize("left", [0, 1, 511, 5000, -1])
def test_a_shard_that_is_cut_off_is_refused_at_once(folder: Path, left: int) -> None:
    path = folder / shard_name(3)
    size = path.stat().st_size
    os.truncate(path, left % size)
    said = rf"1 of 5 shards are not whole: shard-000003\.tar has {left % size} of {size} bytes\. Copy them again, or"
    with pytest.raises(VolumeError, match=said):
        ShardSet.open(folder)


def test_a_shard_that_is_cut_off_after_it_was_opened_is_refused_and_kills_nobody(folder: Path) -> None:
    shards = ShardSet.open(folder)
    _ = shards[0]
    os.truncate(folder / shard_name(0), 2000)
    with pytest.raises(VolumeError, match=r"is damaged: sha256 is \w+ \(\d+ of \d+ bytes\), expected"):
        _ = shards[3]


def test_damage_after_the_first_reading_is_noticed_too(folder: Path) -> None:
    shards = ShardSet.open(folder)
    whole = {number: shards.image(number) for number in range(len(shards))}
    span = json.loads((folder / index_name(0)).read_text())["samples"][3]
    rng = random.Random(0)
    for _ in range(100):
        place, bit = rng.randrange(span["start"], span["stop"]), rng.randrange(8)
        flip(folder / shard_name(0), place, bit)
        with pytest.raises(VolumeError, match=r"sample \S+ is damaged: sha256"):
            shards.image(3)
        flip(folder / shard_name(0), place, bit)
        assert np.array_equal(shards.image(3), whole[3])


def test_missing_shards_are_named(folder: Path) -> None:
    (folder / shard_name(1)).unlink()
    (folder / shard_name(4)).unlink()
    with pytest.raises(VolumeError, match=r"2 of 5 shards are not whole: shard-000001\.tar is missing, shard-000004\."):
        ShardSet.open(folder)


def test_a_missing_index_is_named(folder: Path) -> None:
    (folder / index_name(1)).unlink()
    with pytest.raises(VolumeError, match=r"has no shard-000001\.json"):
        use(folder)


def test_a_folder_without_manifest_or_with_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"nowhere: no manifest\.json there; `medvlm shard` writes it when every"):
        ShardSet.open(tmp_path / "nowhere")
    for text in ("", "[]", "{}", '{"sha256": 3}'):
        (folder / MANIFEST).write_text(text)
        with pytest.raises(VolumeError, match=r"manifest\.json: damaged"):
            ShardSet.open(folder)


def forge(folder: Path, change: Callable[[dict, list[dict]], None]) -> None:
    """Change what manifest and indexes say, and make every digest fit again, as somebody of ill will can."""
    manifest = json.loads((folder / MANIFEST).read_text())
    indexes = [json.loads((folder / index_name(n)).read_text()) for n in range(len(manifest["shards"]))]
    change(manifest, indexes)
    for number, index in enumerate(indexes):
        (folder / index_name(number)).write_bytes(canonical(index))
        manifest["shards"][number]["index_sha256"] = hashlib.sha256(canonical(index)).hexdigest()
    del manifest["sha256"]
    manifest["sha256"] = hashlib.sha256(canonical(manifest)).hexdigest()
    (folder / MANIFEST).write_bytes(canonical(manifest))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m, i: m["shards"][0].update(name="../../secret.tar"), r"names shards \['\.\./\.\./secret\.tar'"),
        (
            lambda m, i: i[0]["samples"][0].update(stop=2**60),
            r"in places that a shard of \d+ bytes and 5 samples",
        ),
        (lambda m, i: i[0]["samples"][0].update(image=[0, -5]), r"5 samples in places that a shard"),
        (lambda m, i: i[0].update(end=-1), r"5 samples in places that a shard"),
        (lambda m, i: i[0]["samples"].pop(), r"4 samples in places that a shard of \d+ bytes and 5 samples"),
        (lambda m, i: m["contract"].update(size=13), r"'shape': \(1, 12, 12\).*; expected .* of shape \(1, 13, 13\)"),
    ],
)
def test_forged_shards_are_refused(folder: Path, change: Callable[[dict, list[dict]], None], said: str) -> None:
    forge(folder, lambda manifest, indexes: None)
    assert len(use(folder)) == 22  # what fits is read
    forge(folder, change)
    with pytest.raises(VolumeError, match=said):
        ShardSet.open(folder).image(0)


# ---- contracts


def test_shards_of_another_contract_are_refused_with_both(folder: Path) -> None:
    said = rf"hold images of the contract {FILM.digest[:16]} .*\"size\":12.*, asked for {VOLUME.digest[:16]} .*; write"
    with pytest.raises(VolumeError, match=said) as caught:
        ShardSet.open(folder, VOLUME)
    assert caught.value.reason == "other-contract"


# ---- places


def test_shards_far_away_are_read_by_ranges_or_as_copies(folder: Path, tmp_path: Path) -> None:
    store = write("memory://far/away", plan())
    assert use("memory://far/away") == use(folder)
    copies = tmp_path / "copies"
    assert use("memory://far/away", copies) == use(folder)
    assert len(list(copies.iterdir())) == 5
    for name in store.sizes():
        if name.endswith(".tar"):
            store._system.rm(store._path(name))
    with pytest.raises(VolumeError, match=r"5 of 5 shards are not whole"):
        use("memory://far/away", copies)


def test_a_copy_is_compared_before_use(tmp_path: Path) -> None:
    store = write("memory://far/damaged", plan())
    data = bytearray(store.read(shard_name(1)))
    data[3000] ^= 4
    store._system.pipe_file(store._path(shard_name(1)), bytes(data))
    with pytest.raises(VolumeError, match=r"shard-000001\.tar: damaged: sha256 of what was fetched is \w+, expected"):
        use("memory://far/damaged", tmp_path / "copies")
    assert len(list((tmp_path / "copies").iterdir())) < 5


def test_the_folder_of_copies_stays_within_its_limit(tmp_path: Path) -> None:
    write("memory://far/many", plan())
    one = Store("memory://far/many").sizes()[shard_name(0)]
    shards = ShardSet.open("memory://far/many", FILM, tmp_path / "copies", copies_bytes=3 * one)
    for number in (*range(len(shards)), *range(len(shards))):
        assert np.array_equal(shards.image(number), image_of(shards[number].study_uid))
    assert sum(path.stat().st_size for path in (tmp_path / "copies").iterdir()) <= 3 * one


def test_a_set_may_be_sent_to_another_process_and_holds_few_files_open(tmp_path: Path) -> None:
    write(tmp_path / "s", plan(n=80, per_shard=1))
    shards = ShardSet.open(tmp_path / "s")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    assert len({sample.study_uid for sample in shards.read(range(len(shards)))}) == 79
    if before:
        assert len(os.listdir("/proc/self/fd")) - before <= 33
    again = pickle.loads(pickle.dumps(shards))
    assert np.array_equal(again.image(5), shards.image(5))


def test_a_number_that_no_sample_has_is_an_index_error(folder: Path) -> None:
    shards = ShardSet.open(folder)
    for number in (-1, 22):
        with pytest.raises(IndexError, match=rf"sample {number} of 22"):
            shards.image(number)
