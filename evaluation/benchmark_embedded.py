"""PathVQA and GMAI-MMBench: questions whose image lies inside the row of their table, as bytes or as base64.

Sources: He et al. 2020, arXiv:2003.10286; Chen et al. 2024, arXiv:2408.03361.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluation.benchmark_item import BenchmarkError, Item, Reading
from evaluation.benchmark_tables import Row, check_columns, find_file, listed, need_files, one_of, read_table

_GMAI_GROUPS = ("clinical vqa task", "department", "perceptual granularity", "modality")


def path_vqa(reading: Reading) -> None:
    """PathVQA as Parquet: {train,validation,test}-*.parquet with the image inside each row.

    The first release is in pickle files, which run whatever they hold when they are opened; they are refused.
    """
    tables = {split: sorted(reading.folder.rglob(f"{split}-*.parquet")) for split in ("train", "validation", "test")}
    if not any(tables.values()):
        pickles = sorted(path.name for path in reading.folder.rglob("*.pkl"))
        found = (
            f"found only {listed(pickles, 3)}, and pickle files are not opened because they can run code; "
            if pickles
            else ""
        )
        raise BenchmarkError(
            f"{reading.folder}: {found}expected test-00000-of-00003.parquet and the like (extra `parquet`)"
        )
    for split, paths in tables.items():
        number = 0
        for path in paths:
            reading.files.append(path)
            for row, question in enumerate(_parquet_rows(path)):
                image = hashlib.sha256(_image_of(question, path)).hexdigest()[:16]
                answer, item = str(question["answer"]), f"{split}/{number}"
                number += 1
                if reading.lists(item, split, image):
                    place = f"{path.relative_to(reading.folder).as_posix()}#{row}"
                    kind = "closed" if answer.strip().lower() in ("yes", "no") else "open"
                    reading.items.append(
                        Item(
                            item, split, (place,), image, question=question["question"], answer=answer, answer_type=kind
                        )
                    )
    reading.version = "parquet"


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    from reports.report_rows import pyarrow_parquet

    file = pyarrow_parquet("reading PathVQA").ParquetFile(path)
    check_columns(path, file.schema_arrow.names, ("image", "question", "answer"), (), False)
    for batch in file.iter_batches(256):
        yield from batch.to_pylist()


def _image_of(row: dict[str, Any], path: Path) -> bytes:
    data = row["image"].get("bytes") if isinstance(row["image"], dict) else None
    if not isinstance(data, bytes):
        raise BenchmarkError(f"{path}: a row has no image inside, expected its bytes")
    return data


def _parquet_image(path: Path, row: int) -> bytes:
    from reports.report_rows import pyarrow_parquet

    file = pyarrow_parquet("reading PathVQA").ParquetFile(path)
    first = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if first <= row < first + rows:
            return _image_of(file.read_row_group(group, columns=["image"]).slice(row - first, 1).to_pylist()[0], path)
        first += rows
    raise BenchmarkError(f"{path}: has {first} rows, asked for row {row}")


def gmai_mmbench(reading: Reading) -> None:
    """GMAI-MMBench as TSV with the image inside each row; the answers of the test split were not published."""
    tables = [
        ("val", path)
        for name in ("GMAI-MMBench_VAL.tsv", "GMAI_mm_bench_VAL.tsv")
        if (path := find_file(reading, name))
    ][:1]
    tables += [("test", path) for path in sorted(reading.folder.glob("GMAI*TEST*.tsv"))]
    if not tables:
        need_files(reading, ("GMAI-MMBench_VAL.tsv", "GMAI_mm_bench_VAL.tsv", "GMAI_mm_bench_TEST_part_1.tsv"))
    unanswered = 0
    columns = ("index", "image", "question", "A", "B")
    for split, path in tables:
        for where, row in read_table(reading, path, columns, others=True, delimiter="\t"):
            if not reading.lists(f"{split}/{row['index']}", split):
                continue
            options = {letter: row[letter] for letter in "ABCDE" if row.get(letter) and row[letter].lower() != "nan"}
            answer = _gmai_answer(row, options)
            unanswered += not answer and split == "val"
            if answer:
                one_of(answer, options, "answer", where)
            about = {name.lower(): cell for name, cell in row.items()}
            details = {name: about[name] for name in _GMAI_GROUPS if about.get(name)}
            reading.items.append(
                Item(
                    f"{split}/{row['index']}",
                    split,
                    (f"{path.name}#{row['index']}",),
                    question=row["question"],
                    answer=answer,
                    answer_type="choice",
                    options=options,
                    details=details,
                )
            )
    if unanswered:
        reading.notes.append(f"{unanswered} questions of the split val name no answer that is one of their options")


def _gmai_answer(row: Row, options: Row) -> str:
    """The letter of the answer: from the column `answer`, else of the option that `category` repeats word for word."""
    if row.get("answer", "").strip():
        return row["answer"].strip()
    said = row.get("category", "").strip().lower()
    return next((letter for letter, text in options.items() if said and text.strip().lower() == said), "")


def embedded_image(path: Path, row: str) -> bytes:
    """The bytes of the image in a row of a table: its number from 0 in Parquet, its `index` in TSV.

    Raises: BenchmarkError if there is none.
    """
    if path.suffix == ".parquet":
        return _parquet_image(path, int(row))
    for _ in range(2):
        for index, image in _table_images(path):
            if index == row:
                try:
                    return base64.b64decode(image, validate=True)
                except binascii.Error as error:
                    raise BenchmarkError(f"{path}: the image of row {row} is no base64 ({error})") from None
        _table_images.cache_clear()  # the row lies before the one that was asked for last
    raise BenchmarkError(f"{path}: no row {row!r} with an image")


@lru_cache(maxsize=1)
def _table_images(path: Path) -> Iterator[tuple[str, str]]:
    """(index, image) of each row; one iterator per table goes on where it stopped, so that items in their order cost
    one pass and no table of some hundred megabytes is kept in memory."""
    rows = read_table(Reading(lambda _: True, path.parent), path, ("index", "image"), others=True, delimiter="\t")
    return ((row["index"], row["image"]) for _, row in rows)
