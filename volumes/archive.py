"""Walking an archive: every file becomes a header or a refusal with a written reason, never a log line only.

A location is a path, or `ARCHIVE.zip!/MEMBER`. Zips are read in memory and never unpacked, with limits on what they
may hold. Patient names are not read; the patient's ID only becomes a pseudonym.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from volumes.instance import Format, InstanceHeader, Refusal
from volumes.volume import VolumeError

ZIP_MARK = "!/"
MAX_ZIP_MEMBERS = 200_000
MAX_ZIP_BYTES = 32 * 2**30  # all members together, unpacked
MAX_FILE_BYTES = 4 * 2**30  # one file or one member, unpacked
MAX_ZIP_RATIO = 250  # unpacked to packed, asked of members over 64 MiB only: blank images pack well
_RATIO_ASKED_BYTES = 64 * 2**20

_SUFFIXES: dict[str, Format] = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nrrd": "nrrd",
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
}


def file_format(name: str) -> Format | None:
    """The format that a file name announces, or None (DICOM files often have no suffix)."""
    lower = name.lower()
    return next((form for suffix, form in _SUFFIXES.items() if lower.endswith(suffix)), None)


def read_bytes(location: str | Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """All bytes of a location. Raises VolumeError when it is missing, damaged, or larger than `limit` bytes."""
    archive, mark, member = str(location).partition(ZIP_MARK)
    if not mark or not archive.lower().endswith(".zip"):
        return _read_file(Path(location), limit)
    try:
        opened = _open_zip(archive, os.getpid(), Path(archive).stat().st_mtime_ns)
        info = opened.getinfo(member)
        _check_member(info)
        with opened.open(info) as stream:
            data = stream.read(min(limit, info.file_size) + 1)  # headers may lie about the size: read one more byte
    except (OSError, KeyError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, VolumeError):
            raise
        raise VolumeError(f"the zip member cannot be unpacked: {error}", "damaged-zip") from error
    except Exception as error:  # zlib.error, lzma.LZMAError and others have no common base
        raise VolumeError(f"the zip member cannot be unpacked: {error}", "damaged-zip") from error
    if len(data) > min(limit, info.file_size):
        raise VolumeError(f"the zip member unpacks to more than the {info.file_size} bytes it announces", "zip-bomb")
    return data


def _read_file(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise VolumeError(f"the file holds {size} bytes; at most {limit} are read at once", "too-large")
        return path.read_bytes()
    except OSError as error:
        raise VolumeError(f"the file cannot be read: {error.strerror or error}", "unreadable-file") from error


@lru_cache(maxsize=4)
def _open_zip(path: str, pid: int, mtime_ns: int) -> zipfile.ZipFile:
    # keyed by process: forked workers must not share one file offset; keyed by time: a replaced zip is opened anew
    return zipfile.ZipFile(path)


def _check_member(info: zipfile.ZipInfo) -> None:
    if info.filename.startswith(("/", "\\")) or ".." in Path(info.filename.replace("\\", "/")).parts:
        raise VolumeError("the zip member points outside the archive; such a file is not read", "path-traversal")
    if info.flag_bits & 0x1:
        raise VolumeError("the zip member is encrypted; unpack it with its password first", "encrypted-zip")
    if info.file_size > MAX_FILE_BYTES:
        raise VolumeError(
            f"the zip member unpacks to {info.file_size} bytes; at most {MAX_FILE_BYTES} are read", "zip-bomb"
        )
    ratio = info.file_size / max(1, info.compress_size)
    if info.file_size > _RATIO_ASKED_BYTES and ratio > MAX_ZIP_RATIO:
        raise VolumeError(
            f"the zip member unpacks {ratio:.0f}-fold to {info.file_size} bytes; at most {MAX_ZIP_RATIO}-fold is"
            " taken for an image. Unpack it yourself if you trust it",
            "zip-bomb",
        )


def zip_locations(path: Path) -> Iterator[str | Refusal]:
    """Locations of the files in a zip, sorted by name, and a refusal for each that breaks a limit."""
    try:
        infos = _open_zip(str(path), os.getpid(), path.stat().st_mtime_ns).infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        yield Refusal(str(path), "damaged-zip", f"the zip archive cannot be opened: {error}")
        return
    total = sum(info.file_size for info in infos)
    if len(infos) > MAX_ZIP_MEMBERS or total > MAX_ZIP_BYTES:
        message = (
            f"the zip archive holds {len(infos)} members and {total} bytes unpacked; at most {MAX_ZIP_MEMBERS} members"
            f" and {MAX_ZIP_BYTES} bytes are read. Unpack it yourself if you trust it"
        )
        yield Refusal(str(path), "zip-bomb", message)
        return
    for info in sorted(infos, key=lambda i: i.filename):
        if info.is_dir():
            continue
        where = f"{path}{ZIP_MARK}{info.filename}"
        try:
            _check_member(info)
        except VolumeError as error:
            yield Refusal(where, error.reason, str(error))
            continue
        yield where


def locations(paths: Iterable[Path | str]) -> Iterator[str | Refusal]:
    """Every file below the paths, in a fixed order. Symlinked folders are not followed (loops) and are named."""
    for path in map(Path, paths):
        if path.is_dir():
            for folder, folders, files in os.walk(path):
                folders.sort()
                for name in folders:
                    if os.path.islink(os.path.join(folder, name)):
                        where = os.path.join(folder, name)
                        yield Refusal(where, "symlinked-folder", "symlinked folders are not followed; give its target")
                for name in sorted(files):
                    yield from _one(Path(folder) / name)
        elif path.exists():
            yield from _one(path)
        else:
            yield Refusal(str(path), "missing-path", "no such file or folder; check the path")


def _one(path: Path) -> Iterator[str | Refusal]:
    if path.suffix.lower() == ".zip":
        yield from zip_locations(path)
    elif path.is_file():
        yield str(path)
    else:
        yield Refusal(str(path), "not-a-file", "neither a regular file nor a folder (a broken link, socket or device)")


def crawl(paths: Iterable[Path | str], digests: bool = True) -> Iterator[InstanceHeader | Refusal]:
    """One header or refusal per file below `paths` (files, folders, zips), in a fixed order, one file in memory.

    With `digests` every file is read whole for its sha256; without, DICOM files on disk are read up to the pixels.
    """
    for location in locations(paths):
        yield location if isinstance(location, Refusal) else read_location(location, digests)


def read_location(location: str, digests: bool = True) -> InstanceHeader | Refusal:
    """The header of one location, or why it has none."""
    from volumes.header import read_header  # needs pydicom, which walking does not

    try:
        return read_header(location, digests)
    except VolumeError as error:
        return Refusal(location, error.reason, str(error))
