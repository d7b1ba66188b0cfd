"""Zips, and zips in zips, that nobody needs to trust: members are read one at a time, within limits, never unpacked.

A member is named `ARCHIVE.zip!/MEMBER`, in nested zips `ARCHIVE.zip!/INNER.zip!/MEMBER`. An archive may lie about all
that it says: counts, sizes, names and places are checked before use, and again while members are read.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from volumes.errors import VolumeError
from volumes.instance import Refusal

ZIP_MARK = "!/"
MAX_ZIP_MEMBERS = 200_000  # of an archive and the zips in it, together
MAX_ZIP_BYTES = 32 * 2**30  # all members together, unpacked
MAX_ZIP_DEPTH = 4  # zips in zips
MAX_FILE_BYTES = 4 * 2**30  # one file or one member, unpacked
MAX_ZIP_RATIO = 250  # unpacked to packed, asked of members over 64 MiB only: blank images pack well
_RATIO_ASKED_BYTES = 64 * 2**20
_MAX_DIRECTORY_BYTES = 64 * 2**20
_IN_MEMORY_BYTES = 32 * 2**20  # of a zip in a zip; a larger one waits in a temporary file without a name
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ZIP_IN_PATH = re.compile(r"\.zip(?=!/)", re.IGNORECASE)
_END = struct.Struct("<4s4H2LH")  # APPNOTE.TXT 4.3.16
_END_64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR_64_BYTES = 20
_LOCAL_HEADER_BYTES = 30


def split_zip(location: str) -> tuple[str, str]:
    """(the zip on disk, the member), or (the location, "") for a plain file."""
    found = _ZIP_IN_PATH.search(location)
    if found is None:
        return location, ""
    return location[: found.end()], location[found.end() + len(ZIP_MARK) :]


def read_member(archive: str, member: str, limit: int = MAX_FILE_BYTES) -> bytes:
    """All bytes of a member, also of a nested zip. Raises VolumeError when it breaks a limit or is damaged."""
    try:
        opened, info = _find(archive, member)
        _check_member(info)
        with opened.open(info) as stream:
            data = stream.read(min(limit, info.file_size) + 1)  # headers may lie about the size: read one more byte
    except (VolumeError, MemoryError):
        raise
    except Exception as error:  # BadZipFile, zlib.error, lzma.LZMAError and others have no common base
        raise _damaged(error) from error
    if len(data) > min(limit, info.file_size):
        raise VolumeError(f"the zip member unpacks to more than the {info.file_size} bytes it announces", "zip-bomb")
    if len(data) < info.file_size:
        raise VolumeError(
            f"the zip member unpacks to {len(data)} bytes; expected the {info.file_size} it announces", "damaged-zip"
        )
    return data


def zip_locations(path: Path) -> Iterator[str | Refusal]:
    """Locations of the files in a zip and its inner zips, sorted by name; a refusal for each that breaks a limit."""
    try:
        opened = _open_zip(str(path), os.getpid(), path.stat().st_mtime_ns)
    except VolumeError as error:
        yield Refusal(str(path), error.reason, str(error))
        return
    except Exception as error:  # as in read_member
        yield Refusal(str(path), "damaged-zip", f"the zip archive cannot be opened: {_why(error)}")
        return
    yield from _members(str(path), opened, str(path), "", _Budget(), 1)


@dataclass
class _Budget:
    """What was announced so far by an archive and all zips in it."""

    members: int = 0
    unpacked: int = 0

    def spend(self, infos: list[zipfile.ZipInfo]) -> str:
        """Why it is overspent, or nothing."""
        self.members += len(infos)
        self.unpacked += sum(info.file_size for info in infos)
        if self.members <= MAX_ZIP_MEMBERS and self.unpacked <= MAX_ZIP_BYTES:
            return ""
        return _too_much(self.members, f"{self.unpacked} bytes unpacked")


def _too_much(members: int, found: str) -> str:
    return (
        f"the zip archive holds {members} members and {found}; at most {MAX_ZIP_MEMBERS} members"
        f" and {MAX_ZIP_BYTES} bytes are read. Unpack it yourself if you trust it"
    )


def _members(
    archive: str, opened: zipfile.ZipFile, where: str, inside: str, budget: _Budget, depth: int
) -> Iterator[str | Refusal]:
    """Members of an open zip at the location `where`; `inside` is its member path in the zip on disk, with a mark."""
    infos = opened.infolist()
    refused = _overlap(opened, infos) or budget.spend(infos)
    if refused:
        yield Refusal(where, "zip-bomb", refused)
        return
    for info in sorted(infos, key=lambda i: i.filename):
        if info.is_dir():
            continue
        place = f"{where}{ZIP_MARK}{info.filename}"
        try:
            _check_member(info)
            if opened.getinfo(info.filename) is not info:
                raise VolumeError("a later member of the zip has the same name; only that one is read", "same-name")
            if not info.filename.lower().endswith(".zip"):
                yield place
                continue
            if depth == MAX_ZIP_DEPTH:
                raise VolumeError(f"zips lie in zips more than {depth} deep; the inner ones are not opened", "zip-bomb")
            inner, _ = _find(archive, f"{inside}{info.filename}{ZIP_MARK}")
        except VolumeError as error:
            yield Refusal(place, error.reason, str(error))
            continue
        except Exception as error:  # as in read_member
            yield Refusal(place, "damaged-zip", f"the zip in the zip cannot be opened: {_why(error)}")
            continue
        yield from _members(archive, inner, place, f"{inside}{info.filename}{ZIP_MARK}", budget, depth + 1)


def _find(archive: str, member: str) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
    """The zip that holds a member, and its entry; for a member that ends with the mark, the inner zip itself."""
    changed = Path(archive).stat().st_mtime_ns
    chain: tuple[str, ...] = ()
    opened, rest = _open_zip(archive, os.getpid(), changed), member
    nothing = zipfile.ZipInfo()
    while rest:
        if rest in opened.NameToInfo:
            return opened, opened.NameToInfo[rest]
        splits = [rest[: found.end()] for found in _ZIP_IN_PATH.finditer(rest)]
        name = next((name for name in splits if name in opened.NameToInfo), None)
        if name is None or len(chain) >= MAX_ZIP_DEPTH:
            raise VolumeError("the zip archive holds no such member; list it again", "damaged-zip")
        chain, rest = (*chain, name), rest[len(name) + len(ZIP_MARK) :]
        opened = _open_inner(archive, os.getpid(), changed, chain)
    return opened, nothing


@lru_cache(maxsize=4)
def _open_zip(path: str, pid: int, mtime_ns: int) -> zipfile.ZipFile:
    # keyed by process: forked workers must not share one file offset; keyed by time: a replaced zip is opened anew
    stream = open(path, "rb", opener=regular_file)  # noqa: SIM115  # stays open as long as the zip
    return _opened(stream)


@lru_cache(maxsize=4)
def _open_inner(path: str, pid: int, mtime_ns: int, chain: tuple[str, ...]) -> zipfile.ZipFile:
    """A zip in a zip, inflated once: into memory, or when it is large into a temporary file without a name."""
    outer = _open_inner(path, pid, mtime_ns, chain[:-1]) if chain[1:] else _open_zip(path, pid, mtime_ns)
    info = outer.NameToInfo[chain[-1]]
    _check_member(info)
    copy: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115
    with outer.open(info) as stream:
        while piece := stream.read(2**20):
            copy.write(piece)
    return _opened(copy)


def _opened(stream: IO[bytes]) -> zipfile.ZipFile:
    try:
        _check_directory(stream)
        return zipfile.ZipFile(stream)
    except BaseException:
        stream.close()
        raise


def regular_file(path: str, flags: int) -> int:
    """An `opener` for `open` that never waits for a pipe nor touches a device: only regular files are opened."""
    opened = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise VolumeError("neither a regular file nor a folder (a pipe, socket or device)", "not-a-file")
    return opened


def _check_directory(stream: IO[bytes]) -> None:
    """Count the entries before a million objects are made of them. The end record may lie, so they are counted."""
    size = stream.seek(0, os.SEEK_END)
    begin = max(0, size - 2**16 - _END.size - _LOCATOR_64_BYTES - _END_64.size)
    stream.seek(begin)
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise VolumeError("the zip archive has no end record: it is truncated or no zip", "damaged-zip")
    _, _, _, _, announced, directory_bytes, _, _ = _END.unpack_from(tail, at)
    before = at - _LOCATOR_64_BYTES - _END_64.size
    if before >= 0 and tail[before : before + 4] == b"PK\x06\x06":
        fields = _END_64.unpack_from(tail, before)
        announced, directory_bytes = max(announced, fields[7]), max(directory_bytes % 0xFFFFFFFF, fields[8])
        at = before
    members = announced
    if directory_bytes <= _MAX_DIRECTORY_BYTES:
        stream.seek(max(0, begin + at - directory_bytes))
        members = max(announced % 0xFFFF, stream.read(directory_bytes).count(b"PK\x01\x02"))
    if members > MAX_ZIP_MEMBERS or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise VolumeError(_too_much(members, f"a directory of {directory_bytes} bytes"), "zip-bomb")
    stream.seek(0)


def _overlap(opened: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> str:
    """Members that share packed bytes unpack to far more than the archive holds (Fifield, WOOT 2019)."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    ends = [i.header_offset + _LOCAL_HEADER_BYTES + len(i.orig_filename) + i.compress_size for i in ordered]
    begins = [*(info.header_offset for info in ordered[1:]), opened.start_dir]
    shared = sum(begin < end for begin, end in zip(begins, ends, strict=True)) if ordered else 0
    if not shared:
        return ""
    return (
        f"{shared} of the {len(infos)} members of the zip archive overlap the next one, as in a bomb; no honest tool"
        " writes such a zip"
    )


def _check_member(info: zipfile.ZipInfo) -> None:
    parts = info.filename.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", parts[0]):
        raise VolumeError("the zip member points outside the archive; such a file is not read", "path-traversal")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise VolumeError("the zip member is a symbolic link; links in zips are not followed", "path-traversal")
    if info.flag_bits & 0x1:
        raise VolumeError("the zip member is encrypted; unpack it with its password first", "encrypted-zip")
    if info.compress_type not in _METHODS:
        raise VolumeError(
            f"the zip member is packed with method {info.compress_type}; stored, deflated, bzip2 and LZMA are read."
            " Unpack it yourself",
            "zip-method",
        )
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


def _damaged(error: Exception) -> VolumeError:
    return VolumeError(f"the zip member cannot be unpacked: {_why(error)}", "damaged-zip")


def _why(error: Exception) -> str:
    """What went wrong without the path, which messages of the system quote."""
    told = error.strerror if isinstance(error, OSError) else str(error)
    return (told or type(error).__name__)[:160]
