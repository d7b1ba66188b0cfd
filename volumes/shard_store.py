"""Where shards lie: a folder, or any fsspec URL; files appear whole or not at all, and are read by ranges."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from volumes.volume import VolumeError

_BLOCK = 2**22  # bytes that are hashed or copied at a time


class Store:
    """Named files of one flat folder. Cheap to make; it may be pickled and sent to another process.

    Args:
        url: A folder ("shards/train") or an fsspec URL ("s3://bucket/train", "memory://train").
    """

    def __init__(self, url: Path | str) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self.url = str(url)
        try:
            self._system, self._root = url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # a protocol whose package is not installed, or that nobody knows
            raise VolumeError(f"{self.url}: cannot be reached: {error}", "no-store") from error
        self.local = isinstance(self._system, LocalFileSystem)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.url,)

    def sizes(self) -> dict[str, int]:
        """Name to size in bytes of every file; empty where there is no such folder."""
        if self.local:
            return _local_sizes(Path(self._root))
        try:
            found = self._system.ls(self._root, detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        return {str(entry["name"]).rsplit("/", 1)[-1]: int(entry["size"] or 0) for entry in found}

    def read(self, name: str) -> bytes:
        """The whole file. Raises VolumeError when it is not there."""
        try:
            return bytes(self._system.cat_file(self._path(name)))
        except FileNotFoundError as error:
            raise VolumeError(f"{self.url}: has no {name}", "missing-file") from error

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop); fewer where the file ends before."""
        try:
            return bytes(self._system.cat_file(self._path(name), start=start, end=stop))
        except FileNotFoundError as error:
            raise VolumeError(f"{self.url}: has no {name}", "missing-file") from error

    def open_local(self, name: str) -> BinaryIO:
        """The file for reading by position; only of a folder on this machine."""
        try:
            return open(self._path(name), "rb", buffering=0)
        except FileNotFoundError as error:
            raise VolumeError(f"{self.url}: has no {name}", "missing-file") from error

    def fetch(self, name: str, target: Path) -> str:
        """Copy a file to `target`, which appears whole; returns the sha256 of what was copied."""
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(_beside(target.name))
        try:
            with self._system.open(self._path(name), "rb") as source, beside.open("wb") as sink:
                shutil.copyfileobj(source, sink, _BLOCK)
        except FileNotFoundError as error:
            raise VolumeError(f"{self.url}: has no {name}", "missing-file") from error
        digest = sha256_of(beside)
        os.replace(beside, target)
        return digest

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file that is flushed to disk and takes its name only when the block ends without an error."""
        folder = Path(self._root) if self.local else Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / _beside(name)
        try:
            with beside.open("wb") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
            if self.local:
                os.replace(beside, folder / name)
                _sync_folder(folder)
            else:  # an object appears in an object store when its upload is complete
                self._system.makedirs(self._root, exist_ok=True)
                self._system.put_file(str(beside), self._path(name))
        finally:
            beside.unlink(missing_ok=True)

    def sha256(self, name: str) -> str:
        """sha256 (hex) of a file, read once from start to end."""
        digest = hashlib.sha256()
        try:
            with self._system.open(self._path(name), "rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
        except FileNotFoundError as error:
            raise VolumeError(f"{self.url}: has no {name}", "missing-file") from error
        return digest.hexdigest()

    def sweep(self) -> None:
        """Remove unfinished files of processes of this machine that are gone."""
        if not self.local or not Path(self._root).is_dir():
            return
        for path in Path(self._root).glob(".*.part"):
            *_, host, process, _ = path.name.rsplit("+", 3) if path.name.count("+") >= 3 else ("", "", "", "")
            if host == socket.gethostname() and process.isdigit() and not _alive(int(process)):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def _local_sizes(folder: Path) -> dict[str, int]:
    """Listed by ourselves: fsspec fails on a file that another writer renames between its name and its size."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            found[path.name] = path.stat().st_size
    return found


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file on this machine."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _beside(name: str) -> str:
    return f".{name}+{socket.gethostname()}+{os.getpid()}+{uuid4().hex}.part"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync_folder(folder: Path) -> None:
    """The rename itself must reach the disk before anything that tells of it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
