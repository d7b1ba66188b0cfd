"""Walks an archive folder by folder, with the size and times of every file and without opening one.

A zip counts as a folder whose files all carry the times of the zip; it is opened only when it has changed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from volumes.archive import NOT_A_FILE as NO_REGULAR_FILE
from volumes.archive import ZIP_MARK, zip_locations
from volumes.instance import Refusal

Entry = tuple[str, int, int, int]  # name, size in bytes, time of content and time of change in ns
NOT_A_FILE = -1  # the size of what walking itself refused; its second number is a checksum of the reason


@dataclass
class Listing:
    """One folder or zip: its files sorted by name, and what is no file that can be read, by name."""

    folder: str
    mark: str  # stands between the folder and the name of a file
    entries: list[Entry] = field(default_factory=list)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> reason and message
    whole: bool = True  # False: only these files were asked for, others may lie beside them
    unreadable: bool = False  # nothing is known of what lies below: it is not gone
    stamp: bytes = b""  # of a zip that was not opened yet

    def digest(self) -> bytes:
        """16 bytes that change with any name, size or time."""
        return hashlib.blake2b(self.stamp, digest_size=16).digest() if self.stamp else entries_digest(self.entries)

    def refuse(self, name: str, reason: str, message: str) -> None:
        """Note what cannot be read; it takes part in the digest like a file."""
        while name in self.refused:
            name += "~"  # a zip may hold one name many times
        self.refused[name] = (reason, message)
        self.entries.append((name, NOT_A_FILE, zlib.crc32(f"{reason} {message}".encode()), 0))


def entries_digest(entries: Sequence[Entry]) -> bytes:
    """16 bytes that change with any name, size or time."""
    return hashlib.blake2b(repr(entries).encode(), digest_size=16).digest()


def walk(roots: Iterable[Path]) -> Iterator[Listing]:
    """Every folder and zip below the roots, which are such, in a fixed order.

    Links to folders are not followed, and named.
    """
    for root in map(str, roots):
        if os.path.isdir(root):
            yield from _walk_folder(root)
        else:
            yield _zip(root)


def listed(folder: str, names: Iterable[str]) -> Listing:
    """Some files of a folder, by name."""
    listing = Listing(folder, os.sep, whole=False)
    for name in sorted(set(names)):
        _add(listing, name, os.path.join(folder, name))
    return listing


def open_zip(listing: Listing) -> None:
    """Fill in the files of a zip."""
    size, modified, changed = map(int, listing.stamp.decode().split()[1:])
    for place in zip_locations(Path(listing.folder)):
        where = place.where if isinstance(place, Refusal) else place
        name = where[len(listing.folder) + len(ZIP_MARK) :]
        if isinstance(place, Refusal):
            name += "~" if place.reason == "same-name" else ""
            listing.refuse(name, place.reason, place.message)
        else:
            listing.entries.append((name, size, modified, changed))
    listing.entries.sort()


def _zip(path: str) -> Listing:
    try:
        found = os.stat(path)
    except OSError as error:
        listing = Listing(path, ZIP_MARK, unreadable=True)
        listing.refuse("", "damaged-zip", f"the zip archive cannot be opened: {error.strerror}")
        return listing
    stamp = f"zip {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode()
    return Listing(path, ZIP_MARK, stamp=stamp)


def _walk_folder(root: str) -> Iterator[Listing]:
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        listing, folders, zips = _list(folder)
        yield listing
        for path in zips:
            yield _zip(path)
        waiting += reversed(folders)


def _list(folder: str) -> tuple[Listing, list[str], list[str]]:
    """The files of one folder, its folders and its zips, each sorted."""
    listing, folders, zips = Listing(folder.rstrip(os.sep) or os.sep, os.sep), [], []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                name = entry.name
                plain = name.isascii() or _is_text(name)
                if plain and entry.is_file(follow_symlinks=False) and name[-4:].lower() != ".zip":
                    at = entry.stat(follow_symlinks=False)  # the usual case: a million times
                    listing.entries.append((name, at.st_size, at.st_mtime_ns, at.st_ctime_ns))
                elif not plain:
                    shown = name.encode(errors="backslashreplace").decode()
                    message = "the name is no valid UTF-8, which no table can keep; rename it"
                    listing.refuse(shown, "unreadable-name", message)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_dir():
                    listing.refuse(name, "symlinked-folder", "symlinked folders are not followed; give its target")
                elif name[-4:].lower() == ".zip" and entry.is_file():
                    zips.append(entry.path)
                else:
                    _add(listing, name, entry.path)
    except OSError as error:
        listing.unreadable = True
        listing.refuse("", "unreadable-folder", f"the folder cannot be listed: {error.strerror or error}")
    listing.entries.sort()
    return listing, sorted(folders), sorted(zips)


def _add(listing: Listing, name: str, path: str) -> None:
    """Note one file, also through a link."""
    try:
        found = os.stat(path)
    except OSError:
        found = None
    if found is not None and stat.S_ISREG(found.st_mode):
        listing.entries.append((name, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    else:
        listing.refuse(name, "not-a-file", NO_REGULAR_FILE)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
