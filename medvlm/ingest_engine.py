"""Where the files of an ingest are read: in this process, in worker processes that may die, or on a Ray cluster.

An engine is given locations and yields one line for each, in order. Whoever asks is the only writer of the catalog, so
every engine gives the same catalog.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

from medvlm.ingest_read import Found, Look, error_line, look
from volumes.errors import VolumeError

SECONDS = 5.0  # for one file
MEMORY_BYTES = 2**30  # for one file
_CHUNK = 64  # files per message
_RAY_CHUNK = 1024  # files per task of a cluster: a task costs milliseconds
Name = Literal["local", "ray"]


class Engine(Protocol):
    """Reads files somewhere."""

    def read(self, locations: Iterable[str]) -> Iterator[Found]:
        """One line for each location, in order. A file that kills, hangs or bloats its reader becomes a refusal."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    """Worker processes of this machine, each file bounded in time and memory; with 0 workers this process, unbounded.

    The workers start with the first file: an unchanged archive needs none.
    """

    workers: int = 2
    look: Look = look
    seconds: float = SECONDS
    memory_bytes: int = MEMORY_BYTES

    def read(self, locations: Iterable[str]) -> Iterator[Found]:
        """See `Engine`."""
        every = iter(locations)
        if self.workers < 1:
            yield from map(self.look, every)
            return
        first = next(every, None)
        if first is None:
            return
        from volumes.isolation import Workers

        with Workers(self.look, self.workers, self.seconds, self.memory_bytes, chunk=_CHUNK) as pool:
            for group in ([first], every):  # not chained: the first must not wait for a second
                for _, found in pool.map(group):
                    yield error_line(found) if isinstance(found, VolumeError) else found


@dataclass(frozen=True)
class RayEngine:
    """Actors of a Ray cluster, each of which reads its share in an isolated worker as `LocalEngine` does.

    Joins the cluster that RAY_ADDRESS names, or else starts one on this machine with `workers` processes. Every
    machine must see the archive under the same path.
    """

    workers: int = 2
    look: Look = look

    def read(self, locations: Iterable[str]) -> Iterator[Found]:
        """See `Engine`."""
        every = iter(locations)
        chunk = list(islice(every, _RAY_CHUNK))
        if not chunk:
            return
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            _start_ray(ray, max(1, self.workers))
        try:
            yield from _read_on(ray, max(1, self.workers), self.look, chunk, every)
        finally:
            if started:
                ray.shutdown()


def engine_of(name: Name | Engine, workers: int) -> Engine:
    """The engine that a user names. Raises VolumeError for an unknown name or a missing package."""
    if not isinstance(name, str):
        return name
    if name == "local":
        return LocalEngine(workers)
    if name == "ray":
        _ray()
        return RayEngine(workers)
    raise VolumeError(f"the engine is {name!r}; expected 'local' or 'ray'", "unknown-engine")


def _ray() -> Any:
    if importlib.util.find_spec("ray") is None:
        message = 'the engine "ray" needs a package that is not here: pip install "medvlm-platform[ray]"'
        raise VolumeError(message, "missing-package")
    import os

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    import ray

    return ray


def _start_ray(ray: Any, workers: int) -> None:
    """Join the cluster of RAY_ADDRESS, or start one that listens to this machine only."""
    import logging
    import os

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            object_store_memory=100 * 2**20,
            **quiet,
        )


class _Reader:
    """Lives in a process of the cluster, with one isolated worker that is started once."""

    def __init__(self, function: Look) -> None:
        from volumes.isolation import Workers

        self._pool = Workers(function, 1, SECONDS, MEMORY_BYTES, chunk=_CHUNK)
        self._pool.__enter__()

    def read(self, locations: Sequence[str]) -> list[Found]:
        """One line for each location, in order."""
        found = self._pool.map(locations)
        return [error_line(one) if isinstance(one, VolumeError) else one for _, one in found]


def _read_on(ray: Any, workers: int, function: Look, chunk: list[str], every: Iterator[str]) -> Iterator[Found]:
    reader = ray.remote(num_cpus=1, max_restarts=2, max_task_retries=2)(_Reader)
    readers = [reader.remote(function) for _ in range(workers)]
    waiting: deque[Any] = deque()
    turn = 0
    while chunk or waiting:
        while chunk and len(waiting) < 2 * workers:
            waiting.append(readers[turn % workers].read.remote(chunk))
            turn += 1
            chunk = list(islice(every, _RAY_CHUNK))
        yield from ray.get(waiting.popleft())
