"""Workers that may die: each item is read in a process with a bound on time and memory, apart from this one.

C decoders abort, loop and allocate without end on damaged files. Here such a file costs its own refusal and nothing
else: the worker is killed and replaced, its other items are done again, and results come in the order of the items.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Generic, Self, TypeVar

from volumes.errors import VolumeError
from volumes.nursery import (
    ASKED,
    BORN,
    BUFFER_BYTES,
    DIED,
    TOLD,
    Limits,
    Outcome,
    one_thread_for_children,
    run_nursery,
    without_main,
)

T = TypeVar("T")
R = TypeVar("R")

_AHEAD_BYTES = BUFFER_BYTES // 4  # a second chunk is sent ahead only when it surely fits into the socket
READERS = ("volumes.header",)  # modules that readers import when they are first called
_AHEAD = 4  # chunks for each worker between the oldest item not yet given out and the newest taken in


@dataclass
class _Job:
    """A chunk of items on its way: their places in the order, and whether it must meet a worker without a past."""

    places: list[int]
    alone: bool = False


@dataclass
class _Worker:
    slot: int
    line: Connection
    pid: int
    jobs: deque[_Job] = field(default_factory=deque)  # the first is in work
    done: int = 0  # items that this process has answered
    answered: int = 0  # of the chunk in work


class Workers(Generic[T, R]):
    """A pool for `function`, importable by name, on items that may kill it. A context manager.

    `map` yields the result of each item, or a VolumeError: what the function raised itself, else with the reason
    "reader-died" (names the signal), "reader-timeout" (more than `seconds` of wall time), "reader-memory" (more than
    `memory_bytes` above what the idle worker holds) or "reader-error" (any other exception). An item is given up only
    after it was the first thing that its process did, so no file is blamed for what an earlier one left behind.
    Modules named in `preload` are imported once, not by every process that replaces another.
    """

    def __init__(
        self,
        function: Callable[[T], R],
        workers: int = 2,
        seconds: float = 5.0,
        memory_bytes: int = 2**30,
        chunk: int = 32,
        quiet: bool = True,
        preload: Sequence[str] = READERS,
    ) -> None:
        if min(workers, chunk) < 1 or workers > 255 or not seconds > 0 or memory_bytes < 2**20:
            raise ValueError(
                f"workers={workers}, chunk={chunk}, seconds={seconds}, memory_bytes={memory_bytes}; expected 1 to 255"
                " workers, a chunk of 1 or more, a positive time and at least one MiB"
            )
        self._function, self._count, self._chunk = function, workers, chunk
        self._quiet, self._preload = quiet, tuple(preload)
        self._limits = Limits(seconds, memory_bytes)
        self._workers: dict[int, _Worker] = {}
        self._statuses: dict[int, int] = {}

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")  # never forked from here: the caller may run threads
        self._beats = context.RawArray("d", 2 * self._count)
        self._control, far = socket.socketpair()
        with far:
            arguments = (far, self._beats, self._function, self._limits, self._quiet, self._preload)
            self._nursery = context.Process(target=run_nursery, args=arguments, daemon=True)
            with one_thread_for_children(), without_main(self._function):
                self._nursery.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.line.close()
        self._workers.clear()
        self._control.close()  # the nursery reads the end of it and leaves
        self._nursery.join(timeout=10)
        if self._nursery.is_alive():
            self._nursery.kill()
            self._nursery.join()
        self._nursery.close()

    def map(self, items: Iterable[T]) -> Iterator[tuple[T, R | VolumeError]]:
        """(item, result or refusal) in the order of the items, which are taken in as results are taken out.

        One `map` at a time. Whoever stops before the end loses the items in work and can call `map` again.
        """
        self._taken = enumerate(iter(items))
        self._held: dict[int, T] = {}
        self._found: dict[int, R | VolumeError] = {}
        self._again: deque[_Job] = deque()
        given = 0
        try:
            while True:
                while given in self._found:
                    yield self._held.pop(given), self._found.pop(given)
                    given += 1
                self._feed()
                if not self._held:
                    return
                if given not in self._found:
                    self._listen()
        finally:
            for worker in [w for w in self._workers.values() if w.jobs]:
                self._end(worker)

    # giving out work

    def _feed(self) -> None:
        """Give every worker its next chunk, those that wait for a second try first."""
        for slot in range(self._count):
            while job := self._next_job(self._workers.get(slot)):
                worker = self._workers.get(slot)
                if worker is not None and job.alone and worker.done:
                    self._end(worker)
                    worker = None
                if worker is None:
                    worker = self._start(slot)
                self._give(worker, job)

    def _next_job(self, worker: _Worker | None) -> _Job | None:
        """What this worker should do next, or None while it has enough to do or nothing is left."""
        queued = worker.jobs if worker else ()
        if len(queued) >= 2 or any(job.alone for job in queued):
            return None
        if self._again:
            return self._again.popleft() if not queued else None
        room = self._count * self._chunk * _AHEAD - len(self._held)
        if room < 1 or (queued and self._chunk == 1):
            return None
        places = []
        for place, item in islice(self._taken, min(self._chunk, room)):
            self._held[place] = item
            places.append(place)
        return _Job(places) if places else None

    def _give(self, worker: _Worker, job: _Job) -> None:
        payload = ForkingPickler.dumps([self._held[place] for place in job.places])
        if worker.jobs and len(payload) > _AHEAD_BYTES:
            self._again.append(job)  # both sides could wait for the other to read
            return
        worker.jobs.append(job)
        with suppress(OSError):  # it died: the end of its line says so
            worker.line.send_bytes(payload)

    # taking in results

    def _listen(self) -> None:
        """Wait for results, deaths, or the end of somebody's time, and note what came."""
        busy = {worker.line: worker for worker in self._workers.values() if worker.jobs}
        ends = [self._end_of_item(worker) for worker in busy.values()]
        # an item that begins while we wait may take as long as all, but nothing is noted in less than that
        patience = max(0.0, min(ends, default=math.inf) - time.monotonic())
        for line in wait(list(busy), min(patience, self._limits.seconds)):
            assert isinstance(line, Connection)
            if not self._hear(busy[line]):
                self._bury(busy[line])
        for worker in busy.values():
            if self._workers.get(worker.slot) is worker and time.monotonic() > self._end_of_item(worker):
                self._ask(DIED, worker.pid)
                while self._hear(worker):  # what it had sent before
                    pass
                self._bury(worker, late=True)

    def _end_of_item(self, worker: _Worker) -> float:
        began = self._beats[2 * worker.slot + 1]
        return began + self._limits.seconds if began else math.inf

    def _hear(self, worker: _Worker) -> bool:
        """Take one message of outcomes; False when the worker is dead."""
        try:
            outcomes: list[Outcome] = worker.line.recv()
        except (EOFError, OSError):
            return False
        for outcome in outcomes:
            place = worker.jobs[0].places[outcome.index]
            worker.answered += 1
            worker.done += 1
            if outcome.error is None or outcome.error.reason != "reader-memory" or worker.done == 1:
                self._found[place] = outcome.value if outcome.error is None else outcome.error
            else:  # earlier items may have left their memory behind
                self._again.appendleft(_Job([place], alone=True))
        if worker.answered == len(worker.jobs[0].places):
            worker.jobs.popleft()
            worker.answered = 0
        return True

    def _bury(self, worker: _Worker, late: bool = False) -> None:
        """Blame the item in work if its process was new, else try it again in a new one; its other items wait anew."""
        at, began = int(self._beats[2 * worker.slot]), self._beats[2 * worker.slot + 1]
        status = self._end(worker)
        late = late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM)
        if not worker.jobs:
            return
        for job in list(worker.jobs)[1:]:
            self._again.append(job)
        job = worker.jobs[0]
        rest = job.places[worker.answered :]
        suspects = [job.places[at]] if began else rest  # it died between two items: any may be the one
        if worker.done == 0 and (at == 0 if began else len(rest) == 1):
            self._found[suspects[0]] = self._verdict(status, late)
        else:
            self._again.extendleft(_Job([place], alone=True) for place in reversed(suspects))
        if innocent := [place for place in rest if place not in suspects]:
            self._again.appendleft(_Job(innocent))

    def _verdict(self, status: int, late: bool) -> VolumeError:
        if late:
            return VolumeError(
                f"reading it takes longer than {self._limits.seconds:g} s; it was stopped. The file is damaged, or the"
                " limit too low for it",
                "reader-timeout",
            )
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            names = {int(s): s.name for s in signal.Signals}
            how = f"was ended by {names.get(number, f'signal {number}')}"
        else:
            how = f"left with exit code {os.waitstatus_to_exitcode(status)}"
        return VolumeError(
            f"the process that read it {how}: the file is damaged in a way no decoder checks", "reader-died"
        )

    # processes

    def _start(self, slot: int) -> _Worker:
        self._beats[2 * slot + 1] = 0.0
        self._ask(BORN, slot)
        while True:
            what, pid, status, lines = self._told()
            if what == BORN:
                worker = self._workers[slot] = _Worker(slot, Connection(lines[0]), pid)
                return worker
            self._statuses[pid] = status

    def _end(self, worker: _Worker) -> int:
        """Make sure that a worker is dead; its wait status."""
        del self._workers[worker.slot]
        worker.line.close()
        self._ask(DIED, worker.pid)
        while worker.pid not in self._statuses:
            _, pid, status, _ = self._told()
            self._statuses[pid] = status
        return self._statuses.pop(worker.pid)

    def _ask(self, what: bytes, number: int) -> None:
        with suppress(BrokenPipeError):  # `_told` says so
            self._control.sendall(ASKED.pack(what, number))

    def _told(self) -> tuple[bytes, int, int, list[int]]:
        message, lines, _, _ = socket.recv_fds(self._control, TOLD.size, 1, socket.MSG_WAITALL)
        if len(message) < TOLD.size:
            raise VolumeError(
                "the process that starts readers has ended; it said why on standard error", "isolation-failed"
            )
        for line in lines:
            os.set_inheritable(line, False)
        what, pid, status = TOLD.unpack(message)
        return what, pid, status, list(lines)


def guarded(function: Callable[[T], R], item: T, seconds: float = 5.0, memory_bytes: int = 2**30) -> R:
    """`function(item)` in a process of its own; starting it takes seconds. Raises what `Workers` yields."""
    pool: Workers[T, R] = Workers(function, 1, seconds, memory_bytes, chunk=1)
    with pool as workers:
        _, found = next(workers.map([item]))
    if isinstance(found, VolumeError):
        raise found
    return found
