"""Every row of the equality section for rankings, boxes, masks and answers lies within the limit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def rows():
    sys.path.insert(0, str(BENCHMARKS))
    import equality_places

    yield list(equality_places.main())
    sys.path.remove(str(BENCHMARKS))


def test_nothing_differs_from_its_original(rows) -> None:
    compared = [row for row in rows if row.difference is not None]

    assert len(compared) >= 30
    assert [row.name for row in compared if not row.difference <= 1e-6] == []
    assert all(row.n > 0 for row in rows)


def test_an_original_that_is_missing_is_named(rows) -> None:
    missing = {row.name.rpartition(" | ")[2] for row in rows if row.difference is None}

    assert missing <= {"pycocotools", "nltk"}


def test_the_comparison_is_not_of_constants(rows) -> None:
    originals = {row.name: row.original for row in rows if row.original is not None}

    assert all(0 < value < 10 for value in originals.values()), originals
    assert len(set(originals.values())) > 25
