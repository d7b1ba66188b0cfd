"""DICOMDIR: the index of a medium (PS3.3 annex F, PS3.10 8.6). It is compared with what is there, and never trusted.

The index names files by components below its own folder. Whatever it says, nothing outside that folder is opened.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from volumes.archive import read_bytes
from volumes.errors import VolumeError
from volumes.header import get
from volumes.instance import Refusal
from volumes.zips import split_zip, zip_locations

MAX_DIRECTORY_BYTES = 256 * 2**20


def listed(path: str) -> Iterator[str | Refusal]:
    """Locations of the files that a DICOMDIR on disk lists, once each, in its order, and what `audit` says."""
    yield from _compared(path, True)


def audit(location: str) -> Iterator[Refusal]:
    """A refusal for each file that a DICOMDIR, on disk or in a zip, lists and that is not there or not below it."""
    for found in _compared(location, False):
        if isinstance(found, Refusal):
            yield found


def _compared(location: str, give: bool) -> Iterator[str | Refusal]:
    """Refusals, and with `give` the files that are there."""
    try:
        files = dict.fromkeys(_file_ids(location))
    except VolumeError as error:
        yield Refusal(location, error.reason, str(error))
        return
    folder, given, outside = _Folder(location), set(), 0
    for components in files:
        try:
            place = folder.find(components)
        except VolumeError:
            outside += 1
            continue
        if place is None:
            message = "the DICOMDIR beside it lists this file, which is missing: the copy of the medium is incomplete"
            yield Refusal(folder.path("/".join(components)), "dicomdir-missing", message)
        elif give and place not in given:
            given.add(place)
            yield place
    if outside:
        message = f"{outside} of the {len(files)} files that the DICOMDIR lists lie outside its folder; none was opened"
        yield Refusal(location, "path-traversal", message)


def is_plain(components: Sequence[str]) -> bool:
    """Whether components name something below a folder: no step up, root, drive, separator or control character."""
    return bool(components) and all(
        part.strip(" .") and part.isprintable() and not set(part) & set("/\\:") for part in components
    )


def _file_ids(location: str) -> list[tuple[str, ...]]:
    """ReferencedFileID of every record, as components."""
    data = read_bytes(location, MAX_DIRECTORY_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), force=True, specific_tags=["DirectoryRecordSequence"])
        records = get(dataset, "DirectoryRecordSequence")
        found = []
        for record in records if isinstance(records, Sequence) and not isinstance(records, (str, bytes)) else ():
            value = get(record, "ReferencedFileID") if isinstance(record, Dataset) else None
            if value:
                found.append(tuple(map(str, value if isinstance(value, (MultiValue, list)) else [value])))
        return found
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises anything on damaged files
        raise VolumeError(f"the DICOMDIR is damaged: {type(error).__name__}", "damaged-dicom") from error


class _Folder:
    """What lies beside a DICOMDIR, by names in any case: media are copied through systems that change it."""

    def __init__(self, location: str) -> None:
        archive, member = split_zip(location)
        self._zip = archive if member else ""
        self._root = location.rpartition("/")[0] + "/" if member else os.path.dirname(location)
        self._inside: dict[str, str] | None = None
        self._names = lru_cache(maxsize=1024)(_names)

    def path(self, below: str) -> str:
        """The location of a file below the folder."""
        return self._root + below if self._zip else os.path.join(self._root, below)

    def find(self, components: Sequence[str]) -> str | None:
        """The location of a file by components; None when it is missing. Raises VolumeError when it lies elsewhere."""
        if not is_plain(components):
            raise VolumeError("the file lies outside of the folder of its DICOMDIR", "path-traversal")
        if self._zip:
            if self._inside is None:
                self._inside = {p.lower(): p for p in zip_locations(Path(self._zip)) if isinstance(p, str)}
            return self._inside.get(self.path("/".join(components)).lower())
        at = self._root
        for part in components:
            name = self._names(at).get(part.lower())
            if name is None:
                return None
            at = os.path.join(at, name)
        home = os.path.realpath(self._root)
        if not os.path.realpath(at).startswith(home.rstrip(os.sep) + os.sep):
            raise VolumeError("the file is a link to a place outside of the folder of its DICOMDIR", "path-traversal")
        return at if os.path.isfile(at) else None


def _names(folder: str) -> dict[str, str]:
    try:
        return {name.lower(): name for name in sorted(os.listdir(folder or "."))}
    except OSError:
        return {}
