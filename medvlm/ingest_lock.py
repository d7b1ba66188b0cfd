"""One writer at a time: two ingests into one catalog would forget each other's files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volumes.errors import VolumeError


@contextmanager
def sole_writer(catalog: Path) -> Iterator[None]:
    """Hold `CATALOG.lock` while writing. The system lets go of it when the process dies, however it dies.

    Raises VolumeError ("catalog-busy") when another process holds it, ("not-writable") when it cannot be made.
    """
    path = catalog.with_name(catalog.name + ".lock")
    handle = _locked(path, catalog.name)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who opens it now waits for a file that is no more
        os.close(handle)


def _locked(path: Path, name: str) -> int:
    import fcntl

    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"{name}: the catalog cannot be written there ({error.strerror}); name another folder"
            raise VolumeError(message, "not-writable") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            message = f"{name}: another ingest is writing to this catalog; wait for its end, then call again"
            raise VolumeError(message, "catalog-busy") from error
        except OSError as error:
            os.close(handle)
            message = f"{name}: this file system gives no locks ({error.strerror}); name a folder on a local disk"
            raise VolumeError(message, "no-locks") from error
        if path.exists() and os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
        os.close(handle)  # it was removed between opening and locking
