"""Every reader of a public benchmark: it parses its format, refuses another split by checksum, names missing files."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from tiny_benchmarks import FILMS, put, table, text_of
from tiny_benchmarks_texts import TEXTS

from evaluation.benchmark import cards, cards_by_name, open_benchmark, recognise, write_lock
from evaluation.benchmark_check import LOCK, content_checksum, split_checksum
from evaluation.benchmark_item import BenchmarkError

TINY = {**FILMS, **TEXTS}
WITH_IMAGES = [name for name, tiny in TINY.items() if tiny.image]
WITH_EDIT = [name for name, tiny in TINY.items() if tiny.edit[0]]
WITH_TABLE = [name for name, tiny in TINY.items() if tiny.table]
WITH_COLUMN = [name for name, tiny in TINY.items() if tiny.column]


def written(name: str, folder: Path) -> Path:
    if name == "pathvqa":
        pytest.importorskip("pyarrow", reason='needs pip install "medvlm-platform[parquet]"')
    TINY[name].write(folder)
    return folder


def edited(path: Path, old: str, new: str) -> None:
    """Replace text in a file, also inside one that is packed."""
    if path.suffix == ".xlsx":
        with zipfile.ZipFile(path) as archive:
            parts = {part: archive.read(part).decode().replace(old, new) for part in archive.namelist()}
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for part, text in parts.items():
                archive.writestr(part, text)
        path.write_bytes(file.getvalue())
        return
    before = text_of(path)
    assert old in before
    put(path, before.replace(old, new))


def test_every_benchmark_has_a_card_a_reader_and_a_folder_to_try_it_on() -> None:
    assert {card.name for card in cards()} == set(TINY)
    for card in cards():
        assert card.title
        assert card.licence
        assert card.source.startswith("https://")
        assert card.reads
        for splits in card.official.values():
            assert all(counts["items"] > 0 and counts["source"] for counts in splits.values())


def test_official_counts_add_up() -> None:
    for card in cards():
        for splits in card.official.values():
            for what in ("items", "patients"):
                parts = [counts.get(what) for split, counts in splits.items() if split != "all"]
                whole = splits.get("all", {}).get(what)
                if whole is not None and parts and None not in parts:
                    assert sum(parts) == whole, f"{card.name}, {what}"


@pytest.mark.parametrize("name", TINY)
def test_a_reader_parses_its_format(name: str, tmp_path: Path) -> None:
    folder = written(name, tmp_path)

    benchmark = open_benchmark(name, folder, complete=False)

    assert Counter(item.split for item in benchmark.items) == TINY[name].items
    assert benchmark.checksum == split_checksum((item.id, item.split) for item in benchmark.items)
    assert any("a part of the benchmark" in warning for warning in benchmark.warnings)
    assert recognise(folder) == name
    for split, count in TINY[name].items.items():
        assert len(open_benchmark(name, folder, split, complete=False)) == count


@pytest.mark.parametrize("name", [card.name for card in cards() if card.official.get("*")])
def test_a_part_does_not_pass_for_the_whole(name: str, tmp_path: Path) -> None:
    folder = written(name, tmp_path)
    with pytest.raises(BenchmarkError, match=r" has [\d,]+ items, expected [\d,]+ \(") as error:
        open_benchmark(name, folder)
    assert "complete=False (--part)" in str(error.value)


@pytest.mark.parametrize("name", WITH_EDIT)
def test_a_reader_refuses_a_wrong_split_by_checksum(name: str, tmp_path: Path) -> None:
    folder = written(name, tmp_path)
    write_lock(name, folder, complete=False)
    assert "locked checksum" in " ".join(open_benchmark(name, folder, complete=False, images=False).verified)
    file, old, new = TINY[name].edit
    edited(folder / file, old, new)
    if name == "nih":  # the lists move with their table, as in another release
        edited(folder / "test_list.txt", old, new)
        edited(folder / "BBox_List_2017.csv", old, new)
    if name == "vindr-cxr":
        edited(folder / "annotations/annotations_train.csv", "b,R", "d,R")
    if name == "mimic-cxr-jpg":  # two patients in one split are no leak, so that the checksum alone can tell
        assert "11000002,train" in text_of(folder / file)

    moved = r"the split '[\w-]+' is not the one that benchmark\.lock\.json locks: \d+ items with checksum [0-9a-f]{16},"
    with pytest.raises(BenchmarkError, match=moved):
        open_benchmark(name, folder, complete=False, images=False)


def test_path_vqa_refuses_a_wrong_split_by_checksum(tmp_path: Path) -> None:
    folder = written("pathvqa", tmp_path)
    write_lock("pathvqa", folder, complete=False)
    shutil.copy(folder / "data/train-00000-of-00001.parquet", folder / "data/test-00001-of-00001.parquet")
    with pytest.raises(BenchmarkError, match=r"the split 'test' is not the one that .* locks: 4 items .* expected 2"):
        open_benchmark("pathvqa", folder, "test", complete=False)


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_a_reader_names_missing_images(name: str, tmp_path: Path) -> None:
    folder = written(name, tmp_path)
    (folder / TINY[name].image).unlink()
    with pytest.raises(BenchmarkError, match=r"1 of \d+ (files|reports) are missing") as error:
        open_benchmark(name, folder, complete=False)
    assert Path(TINY[name].image).stem.removesuffix(".nii") in str(error.value)


@pytest.mark.parametrize("name", WITH_TABLE)
def test_a_reader_names_missing_tables(name: str, tmp_path: Path) -> None:
    folder = written(name, tmp_path)
    (folder / TINY[name].table).unlink()
    for other in ("train.csv", "test.csv"):  # CheXpert can be read without one of its tables, but not without all
        (folder / other).unlink(missing_ok=True)
    with pytest.raises(BenchmarkError, match="tables are missing") as error:
        open_benchmark(name, folder, complete=False)
    assert Path(TINY[name].table).name.partition(".gz")[0] in str(error.value)


@pytest.mark.parametrize("name", [card.name for card in cards() if card.name != "pathvqa"])
def test_an_empty_folder_is_refused_with_what_was_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"missing|no XML reports") as error:
        open_benchmark(name, tmp_path, complete=False)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", WITH_COLUMN)
def test_a_column_that_is_missing_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = written(name, tmp_path)
    column = TINY[name].column
    optional = name == "chexpert"  # its table of the test set has no sex, so that the name alone is checked
    for path in folder.rglob("*"):
        if path.name.removesuffix(".gz").endswith((".csv", ".json", ".tsv")):
            put(path, text_of(path).replace(column, '"renamed"' if column.startswith('"') else "renamed", 1))
    with pytest.raises(BenchmarkError, match=r"renamed|lacks") as error:
        open_benchmark(name, folder, complete=False)
    assert optional or column.strip('"') in str(error.value)


def test_a_known_column_twice_and_a_strange_one_are_named(tmp_path: Path) -> None:
    folder = written("siim-acr", tmp_path)
    put(folder / "train-rle.csv", "ImageId,EncodedPixels,ImageId,Fold\n1,-1,1,2\n")
    with pytest.raises(BenchmarkError, match="has the unknown 'Fold' and has twice 'ImageId'"):
        open_benchmark("siim-acr", folder, complete=False)


def test_an_item_that_stands_twice_is_refused(tmp_path: Path) -> None:
    folder = written("chexpert", tmp_path)
    path = folder / "train.csv"
    put(path, text_of(path) + text_of(path).splitlines()[-1] + "\n")
    with pytest.raises(BenchmarkError, match="1 items stand more than once: train/patient00002"):
        open_benchmark("chexpert", folder, complete=False)


def test_a_patient_in_two_splits_is_refused_without_being_named(tmp_path: Path) -> None:
    folder = written("nih", tmp_path)
    edited(folder / "Data_Entry_2017.csv", ",0,2,58", ",0,1,58")
    with pytest.raises(
        BenchmarkError, match="1 of 1 patients stand in more than one of the splits test, train_val"
    ) as error:
        open_benchmark("nih", folder, "test", complete=False)  # also when the other split is not asked for
    assert "00000002_000.png" in str(error.value)


def test_images_that_the_official_split_shares_are_a_warning_with_their_number(tmp_path: Path) -> None:
    benchmark = open_benchmark("vqa-rad", written("vqa-rad", tmp_path), "test", complete=False)
    assert "1 of 2 images stand in more than one of the splits test, train" in benchmark.warnings


def test_twenty_missing_files_are_named_and_the_others_counted(tmp_path: Path) -> None:
    folder = written("siim-acr", tmp_path)
    put(folder / "train-rle.csv", table(("ImageId", "EncodedPixels"), [(f"m{at:02}", -1) for at in range(30)]))
    with pytest.raises(BenchmarkError, match="30 of 30 files are missing") as error:
        open_benchmark("siim-acr", folder, complete=False)
    assert "m19.dcm and 10 more" in str(error.value)
    assert "m20.dcm" not in str(error.value)
    assert len(open_benchmark("siim-acr", folder, complete=False, images=False)) == 30


def test_physionets_checksums_are_compared_when_they_are_there(tmp_path: Path) -> None:
    folder = written("vindr-cxr", tmp_path)
    name = "annotations/annotations_test.csv"
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    put(folder / "SHA256SUMS.txt", f"{digest} {name}\n")
    verified = open_benchmark("vindr-cxr", folder, complete=False).verified
    assert f"{name}: sha256 as SHA256SUMS.txt says" in verified
    edited(folder / name, "1.5,2", "1.6,2")
    with pytest.raises(BenchmarkError, match=rf"sha256 [0-9a-f]{{64}}, expected {digest} \(SHA256SUMS.txt\)"):
        open_benchmark("vindr-cxr", folder, complete=False)


def test_a_published_checksum_refuses_a_changed_file(tmp_path: Path) -> None:
    folder = written("gmai-mmbench", tmp_path)
    (folder / "GMAI_mm_bench_VAL.tsv").rename(folder / "GMAI-MMBench_VAL.tsv")
    with pytest.raises(
        BenchmarkError, match=r"md5 [0-9a-f]{32}, expected 254bd581627866f1c499d3d6b4422324 \(VLMEvalKit\)"
    ):
        open_benchmark("gmai-mmbench", folder, complete=False)


def test_a_changed_label_is_found_though_the_split_is_the_same(tmp_path: Path) -> None:
    folder = written("rsna-pneumonia", tmp_path)
    write_lock("rsna-pneumonia", folder, complete=False)
    edited(folder / "stage_2_train_labels.csv", "264.0", "265.0")
    with pytest.raises(BenchmarkError, match=r"they say something else .*Changed files: stage_2_train_labels.csv\."):
        open_benchmark("rsna-pneumonia", folder, "train", complete=False)
    assert len(open_benchmark("rsna-pneumonia", folder, "test", complete=False)) == 1  # the other split is untouched


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_a_lock_holds_wherever_the_images_lie(name: str, tmp_path: Path) -> None:
    folder = written(name, tmp_path)
    write_lock(name, folder, complete=False)
    before = open_benchmark(name, folder, complete=False)
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".jpg", ".png", ".dcm", ".dicom") or path.name.endswith(".nii.gz"):
            path.unlink()
    again = open_benchmark(name, folder, complete=False, images=False)
    assert again.checksum == before.checksum
    assert again.verified == before.verified


def test_a_lock_of_another_benchmark_version_or_split_is_refused(tmp_path: Path) -> None:
    folder = written("nih", tmp_path / "nih")
    other = written("siim-acr", tmp_path / "siim")
    lock = tmp_path / "nih.json"
    write_lock("nih", folder, lock, complete=False)
    assert not (folder / LOCK).exists()
    with pytest.raises(BenchmarkError, match="locks the benchmark 'nih', and 'siim-acr' was asked for"):
        open_benchmark("siim-acr", other, complete=False, lock=lock)
    (folder / "Data_Entry_2017.csv").rename(folder / "Data_Entry_2017_v2020.csv")
    with pytest.raises(BenchmarkError, match="locks version 'Data_Entry_2017', found 'Data_Entry_2017_v2020'"):
        open_benchmark("nih", folder, complete=False, lock=lock)
    put(lock, '{"format": 9}')
    with pytest.raises(BenchmarkError, match="no lock of a benchmark; remove it"):
        open_benchmark("nih", folder, complete=False, lock=lock)


def test_a_split_that_came_after_the_lock_is_refused(tmp_path: Path) -> None:
    folder = written("chexpert", tmp_path)
    test_set = text_of(folder / "test.csv")
    (folder / "test.csv").unlink()
    write_lock("chexpert", folder, complete=False)
    put(folder / "test.csv", test_set)
    with pytest.raises(BenchmarkError, match="does not lock the split 'test', only train, valid; lock again"):
        open_benchmark("chexpert", folder, "test", complete=False)


def test_checksums_ignore_the_order_of_rows_and_nothing_else(tmp_path: Path) -> None:
    assert split_checksum([("a", "train"), ("b", "test")]) == split_checksum([("b", "test"), ("a", "train")])
    assert split_checksum([("a", "train"), ("b", "test")]) != split_checksum([("a", "test"), ("b", "train")])
    assert split_checksum([]) == hashlib.sha256(b"").hexdigest()
    items = open_benchmark("nih", written("nih", tmp_path), complete=False).items
    assert content_checksum(items) == content_checksum(reversed(items))
    assert content_checksum(items) != content_checksum(items[:-1])


def test_an_unknown_name_split_or_folder_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no benchmark 'imagenet'; known: chestx-det, chexpert"):
        open_benchmark("imagenet", tmp_path)
    with pytest.raises(BenchmarkError, match="no such folder; expected NIH ChestX-ray14"):
        open_benchmark("nih", tmp_path / "none")
    with pytest.raises(BenchmarkError, match="no split 'val'; the tables that are here hold test, train_val"):
        open_benchmark("nih", written("nih", tmp_path), "val", complete=False)


def test_a_folder_of_no_benchmark_or_of_two_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="looks like none of the benchmarks"):
        recognise(tmp_path)
    written("nih", tmp_path)
    written("chexpert", tmp_path)
    with pytest.raises(BenchmarkError, match="looks like chexpert and nih; say which by name"):
        recognise(tmp_path)


def test_tables_cut_in_the_middle_are_refused(tmp_path: Path) -> None:
    folder = written("mimic-cxr", tmp_path)
    path = folder / "cxr-study-list.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(BenchmarkError, match="no table in UTF-8 that can be read"):
        open_benchmark("mimic-cxr", folder, complete=False)
    folder = written("slake", tmp_path / "slake")
    put(folder / "train.json", text_of(folder / "train.json")[:-5])
    with pytest.raises(BenchmarkError, match=r"train\.json: no JSON"):
        open_benchmark("slake", folder, complete=False)


def test_the_benchmarks_that_papers_name_are_there() -> None:
    text = " ".join(card.title for card in cards())
    films = "CheXpert MIMIC-CXR VinDr RSNA SIIM NIH PadChest Indiana MS-CXR ChestX-Det"
    others = "CT-RATE Merlin ROCO VQA-RAD SLAKE PathVQA PMC-VQA GMAI-MMBench MediConfusion ReXVal ReXrank"
    for name in f"{films} {others}".split():
        assert re.search(name, text), name
    assert cards_by_name()["nih"].counts("any")["test"]["items"] == 25596
