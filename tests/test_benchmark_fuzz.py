"""Damaged tables of public benchmarks: every one is read or refused in words, none ends in a surprise."""

from __future__ import annotations

import json
import random
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_benchmarks import FILMS, put, text_of
from tiny_benchmarks_texts import TEXTS

from evaluation.benchmark import open_benchmark
from evaluation.benchmark_item import BenchmarkError

MUTATIONS = 12
TINY = {name: tiny for name, tiny in {**FILMS, **TEXTS}.items() if name != "pathvqa"}


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value inside a JSON document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, one in inner for found in places(one, (*place, key)))]


def another_value(document: Any, rng: random.Random) -> Any:
    """The document with one value, somewhere inside, replaced by one of another kind."""
    *way, last = rng.choice(places(document)[1:])
    parent = document
    for key in way:
        parent = parent[key]
    parent[last] = rng.choice([None, 7, "x", [], {}, [None], -1.5, True])
    return document


def another_text(text: str, rng: random.Random) -> str:
    """The text cut, with a strange letter inside, with another cell, or without one of its letters."""
    at = rng.randrange(len(text))
    lines = text.split("\n")
    row = rng.randrange(len(lines))
    cells = lines[row].split(",")
    cells[rng.randrange(len(cells))] = rng.choice(["", "nan", "1e999", "x", "-5"])
    return rng.choice(
        [
            text[:at],
            text[:at] + rng.choice('",\n\0é-|\t') + text[at:],
            "\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]),
            text.replace(text[at], "", 1),
        ]
    )


def damage(path: Path, rng: random.Random) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(another_value(json.loads(path.read_text(encoding="utf-8")), rng)), encoding="utf-8")
    elif path.suffix == ".xlsx":
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
    else:
        put(path, another_text(text_of(path), rng))


@pytest.mark.parametrize("name", TINY)
def test_a_damaged_table_is_read_or_refused_in_words(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    TINY[name].write(tmp_path)
    films = (".png", ".jpg", ".dcm", ".dicom", ".nii.gz")
    tables = sorted(path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(films))
    outcomes: Counter[str] = Counter()
    for _ in range(MUTATIONS):
        path = rng.choice(tables)
        before = path.read_bytes()
        damage(path, rng)
        try:
            open_benchmark(name, tmp_path, complete=False, images=False)
            outcomes["read"] += 1
        except BenchmarkError:
            outcomes["refused"] += 1
        path.write_bytes(before)
    assert outcomes["refused"] > 0, "no damage was noticed"
    open_benchmark(name, tmp_path, complete=False, images=False)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("<v>1</v>", "<v>99</v>", "a cell names text '99' of"),
        ("<sheetData>", "<sheet", "no spreadsheet that can be read"),
    ],
)
def test_a_damaged_spreadsheet_is_refused(old: str, new: str, why: str, tmp_path: Path) -> None:
    TEXTS["merlin"].write(tmp_path)
    path = tmp_path / "reports_final.xlsx"
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part).decode() for part in archive.namelist()}
    assert any(old in text for text in parts.values())
    with zipfile.ZipFile(path, "w") as archive:
        for part, text in parts.items():
            archive.writestr(part, text.replace(old, new, 1))
    with pytest.raises(BenchmarkError, match=why):
        open_benchmark("merlin", tmp_path, complete=False)
