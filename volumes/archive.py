"""Walking an archive: every file becomes a header or a refusal with a written reason, never a log line only.

A location is a path, or `ARCHIVE.zip!/MEMBER` (see zips.py). Patient names are not read; the patient's ID only becomes
a pseudonym.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from volumes.errors import VolumeError
from volumes.instance import Format, InstanceHeader, Refusal
from volumes.zips import MAX_FILE_BYTES as MAX_FILE_BYTES
from volumes.zips import ZIP_MARK as ZIP_MARK
from volumes.zips import read_member, regular_file, split_zip
from volumes.zips import zip_locations as zip_locations

_SUFFIXES: dict[str, Format] = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nrrd": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
}
DIRECTORY_NAME = "DICOMDIR"  # PS3.10 8.6
NOT_A_FILE = "neither a regular file nor a folder (a broken link, socket or device)"


def file_format(name: str) -> Format | None:
    """The format that a file name announces, or None (DICOM files often have no suffix)."""
    lower = name.lower()
    return next((form for suffix, form in _SUFFIXES.items() if lower.endswith(suffix)), None)


def read_bytes(location: str | Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """All bytes of a location. Raises VolumeError when it is missing, damaged, no file, or more than `limit` bytes."""
    archive, member = split_zip(str(location))
    return read_member(archive, member, limit) if member else _read_file(archive, limit)


def _read_file(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb", opener=regular_file) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise VolumeError(f"the file holds {size} bytes; at most {limit} are read at once", "too-large")
            return stream.read(size)
    except OSError as error:
        raise VolumeError(f"the file cannot be read: {error.strerror or error}", "unreadable-file") from error


def locations(paths: Iterable[Path | str]) -> Iterator[str | Refusal]:
    """Every file below the paths, in a fixed order. Symlinked folders are not followed (loops) and are named.

    A path to a DICOMDIR stands for the files that it lists; below a folder every file is read, listed or not.
    """
    for path in map(str, paths):
        if os.path.isdir(path):
            yield from _walk(path)
        elif not os.path.lexists(path):
            yield Refusal(path, "missing-path", "no such file or folder; check the path")
        elif os.path.basename(path).upper() == DIRECTORY_NAME:
            from volumes.dicomdir import listed  # needs pydicom, which walking does not

            yield from listed(path)
        else:
            yield from _one(path)


def _walk(root: str) -> Iterator[str | Refusal]:
    """Folder by folder without recursion: archives may be nested deeper than Python may."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            why = f"the folder cannot be listed: {error.strerror or error}"
            yield Refusal(_shown(folder), "unreadable-folder", why)
            continue
        folders = [entry for entry in entries if entry.is_dir()]
        for entry in folders:
            if entry.is_symlink():
                why = "symlinked folders are not followed; give its target"
                yield Refusal(_shown(entry.path), "symlinked-folder", why)
        for entry in entries:
            if not entry.is_dir():
                yield from _one(entry.path)
        waiting += [entry.path for entry in reversed(folders) if not entry.is_symlink()]


def _one(path: str) -> Iterator[str | Refusal]:
    if _shown(path) != path:
        yield Refusal(_shown(path), "unreadable-name", "the name is no valid UTF-8, which no table can keep; rename it")
        return
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        regular = False
    if not regular:
        yield Refusal(path, "not-a-file", NOT_A_FILE)
    elif path[-4:].lower() == ".zip":
        yield from zip_locations(Path(path))
    else:
        yield path


def _shown(path: str) -> str:
    """A name as text that can be stored: bytes that are no UTF-8 are spelled out."""
    return path.encode(errors="backslashreplace").decode()


def crawl(paths: Iterable[Path | str], digests: bool = True) -> Iterator[InstanceHeader | Refusal]:
    """One header or refusal per file below `paths` (files, folders, zips), in a fixed order, one file in memory.

    With `digests` every file is read whole for its sha256; without, DICOM files on disk are read up to the pixels.
    After the refusal of a DICOMDIR, which is no image, come those of files that it lists and that are not there.
    """
    for location in locations(paths):
        found = location if isinstance(location, Refusal) else read_location(location, digests)
        yield found
        if isinstance(found, Refusal) and found.reason == "dicomdir":
            from volumes.dicomdir import audit

            yield from audit(found.where)


def read_location(location: str, digests: bool = True) -> InstanceHeader | Refusal:
    """The header of one location, or why it has none."""
    from volumes.header import read_header  # needs pydicom, which walking does not

    try:
        return read_header(location, digests)
    except VolumeError as error:
        return Refusal(location, error.reason, str(error))
