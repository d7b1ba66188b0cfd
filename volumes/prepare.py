"""One series read and brought into its contract: what a worker process does that may die of a damaged file."""

from __future__ import annotations

from typing import Any

from volumes.catalog import read_series
from volumes.shards import Prepared
from volumes.transforms import contract_from_json


def prepare(item: tuple[tuple[Any, ...], str]) -> Prepared:
    """(arguments of `read_series`, contract as JSON) -> the image. Raises VolumeError when it cannot be read."""
    where, contract = item
    image = read_series(*where)
    return Prepared(contract_from_json(contract)(image).numpy(), image.notes)  # type: ignore[arg-type]
