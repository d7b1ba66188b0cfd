"""The cache of preprocessed images: read again when anything changed, and never damaged in silence."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medvlm.data import Example, load_examples
from medvlm.image_cache import ImageCache
from volumes.catalog import Catalog
from volumes.shards import image_shape
from volumes.transforms import FilmContract

CONTRACT = FilmContract(size=16)


@pytest.fixture
def films(tiny_hospital, tmp_path: Path) -> list[Example]:
    """Three studies whose files lie in a folder of their own, so that a test may change them."""
    with Catalog.open(tiny_hospital.catalog) as catalog:
        found = load_examples(catalog, CONTRACT, None)[:3]
    moved = []
    for number, example in enumerate(found):
        path = tmp_path / f"{number}.dcm"
        shutil.copy(example.paths[0], path)
        moved.append(replace(example, paths=(str(path),)))
    return moved


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.npy")}


def test_the_cache_holds_what_the_contract_makes_and_is_read_again(films, tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache", CONTRACT)
    images, kept, refused = cache.load(films, 1)
    assert images.shape == (3, *image_shape(CONTRACT)) == (3, 1, 16, 16)
    assert (images.dtype, kept, refused) == (np.float32, [0, 1, 2], [])
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert len(written) == 1
    again, _, _ = ImageCache(tmp_path / "cache", CONTRACT).load(films, 1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")} == written
    assert np.array_equal(again, images)
    assert not list((tmp_path / "cache").rglob("*.tmp*"))


def test_a_changed_file_is_read_again(films, tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache", CONTRACT)
    before = np.array(cache.load(films, 1)[0])
    held = entries(tmp_path / "cache")
    shutil.copy(films[1].paths[0], films[0].paths[0])
    os.utime(films[0].paths[0], ns=(1, 1))
    changed = [replace(films[0], series_uid=films[1].series_uid), *films[1:]]
    after = cache.load(changed, 1)[0]
    assert entries(tmp_path / "cache") > held
    assert np.array_equal(after[0], before[1])
    os.utime(films[2].paths[0], ns=(2, 2))  # a new time alone is enough to look again
    held = entries(tmp_path / "cache")
    cache.load(changed, 1)
    assert entries(tmp_path / "cache") > held


def test_a_changed_contract_is_another_entry(films, tmp_path: Path) -> None:
    first = ImageCache(tmp_path / "cache", CONTRACT).load(films, 1)[0]
    darker = ImageCache(tmp_path / "cache", FilmContract(size=16, low_percentile=20.0)).load(films, 1)[0]
    assert len(entries(tmp_path / "cache")) == 2 or len({p.parent for p in (tmp_path / "cache").rglob("*.npy")}) == 2
    assert not np.array_equal(first, darker)


def test_an_image_that_cannot_be_read_is_named_and_the_rest_moves_up(films, tmp_path: Path) -> None:
    broken = replace(films[0], series_uid="1.2.3")
    images, kept, refused = ImageCache(tmp_path / "cache", CONTRACT).load([broken, *films[1:]], 1)
    whole = ImageCache(tmp_path / "cache", CONTRACT).load(films, 1)[0]
    assert kept == [1, 2]
    assert len(refused) == 1
    assert refused[0].startswith(f"{films[0].study_uid}: a file of series 1.2.3 has changed")
    assert np.array_equal(images, whole[1:])  # and no row is left over


def test_a_kill_while_the_cache_is_written_leaves_nothing_that_is_taken_for_whole(films, tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache", CONTRACT)
    whole = np.array(cache.load(films, 1)[0])
    (index,) = (tmp_path / "cache").rglob("*.json")
    index.unlink()  # as if killed between the two renames
    np.save(index.with_suffix(".npy"), np.zeros((3, 1, 16, 16), np.float32))
    assert np.array_equal(cache.load(films, 1)[0], whole)


def test_a_damaged_cache_is_noticed_and_made_again(films, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = ImageCache(tmp_path / "cache", CONTRACT)
    whole = np.array(cache.load(films, 1)[0])
    (path,) = (tmp_path / "cache").rglob("*.npy")
    for place in (3, 200, path.stat().st_size - 1):  # in the header, in the first image, at the end
        data = bytearray(path.read_bytes())
        data[place] ^= 16
        path.write_bytes(data)
        assert np.array_equal(cache.load(films, 1)[0], whole)
        assert "sha256 is" in (said := capsys.readouterr().err)
        assert "the images are read again" in said
    os.truncate(path, 1000)
    assert np.array_equal(cache.load(films, 1)[0], whole)
    path.with_suffix(".json").write_text('{"kept": [0, 1, 2], "refused": []}')  # as an older version wrote it
    capsys.readouterr()
    assert np.array_equal(cache.load(films, 1)[0], whole)
    assert "expected that of an older version" in capsys.readouterr().err
    assert np.array_equal(cache.load(films, 1)[0], whole)
    assert capsys.readouterr().err == ""
