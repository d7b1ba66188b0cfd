"""The far side of isolation: a process that forks workers, each of which may die without harm to anybody else.

A nursery imports what the work needs once and then only forks, so that a worker that was killed is replaced in
milliseconds; importing a reader anew would take seconds for each damaged file of an archive. It never touches the
items itself. Linux and macOS; the bound on memory needs Linux.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from volumes.errors import VolumeError

ASKED = struct.Struct("<ci")  # b"+" and a slot: fork a worker; b"-" and a pid: kill it
TOLD = struct.Struct("<cii")  # b"+", pid, 0 with the descriptor of the line to it; b"-", pid, wait status
BORN, DIED = b"+", b"-"
BUFFER_BYTES = 2**18  # of each socket between a worker and its owner
_FLUSH_S = 0.02  # outcomes are sent together, at most this late
_SPARE_S = 2.0  # a worker whose owner is gone ends itself this long after the limit of an item


@dataclass(frozen=True)
class Limits:
    """What one item may take."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Outcome:
    """What became of one item; `error` is set when the function raised."""

    index: int  # within its chunk
    value: Any = None
    error: VolumeError | None = None


def run_nursery(
    control: socket.socket,
    beats: MutableSequence[float],
    function: Callable[[Any], Any],
    limits: Limits,
    quiet: bool,
    preload: Sequence[str],
) -> None:
    """Fork and kill workers as `control` asks, tell of births and deaths, and end with the owner."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who ends everything in order
    for name in preload:
        importlib.import_module(name)
    _one_thread()
    gc.collect()
    gc.freeze()  # keeps the pages of what was imported shared with the workers
    living: dict[int, int] = {}  # the pipe that only this worker holds open -> its pid
    try:
        while True:
            ready, _, _ = select.select([control.fileno(), *living], [], [])
            for pipe in living.keys() & set(ready):
                os.close(pipe)
                pid, status = os.waitpid(living.pop(pipe), 0)
                control.sendall(TOLD.pack(DIED, pid, status))
            if control.fileno() in ready:
                asked = control.recv(ASKED.size, socket.MSG_WAITALL)
                if len(asked) < ASKED.size:
                    return
                what, number = ASKED.unpack(asked)
                if what == BORN:
                    pipe, pid = _bear(control, beats, number, function, limits, quiet, list(living))
                    living[pipe] = pid
                elif number in living.values():  # not reaped yet, so the number is no other process's
                    os.kill(number, signal.SIGKILL)
    except OSError:  # the owner is gone
        return
    finally:
        for pid in living.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _one_thread() -> None:
    """Threads of linear algebra do not survive a fork, and would fight the other workers for cores."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _bear(
    control: socket.socket,
    beats: MutableSequence[float],
    slot: int,
    function: Callable[[Any], Any],
    limits: Limits,
    quiet: bool,
    others: Sequence[int],
) -> tuple[int, int]:
    """Fork one worker, hand its line to the owner, and return (pipe that closes when it dies, pid)."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    watch, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            control.close()
            theirs.close()
            for pipe in (watch, *others):
                os.close(pipe)
            _confine(limits, quiet)
            _serve(Connection(ours.detach()), beats, 2 * slot, function, limits)
        finally:
            os._exit(70)  # EX_SOFTWARE; nothing of the nursery's may run on in a worker
    os.close(held)
    ours.close()
    socket.send_fds(control, [TOLD.pack(BORN, pid, 0)], [theirs.fileno()])
    theirs.close()
    return watch, pid


def _confine(limits: Limits, quiet: bool) -> None:
    """Bounds of this process: memory, no core files, no noise of decoders, death with the nursery."""
    import resource

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    held = _data_bytes()
    if held:
        # what may be written, not what is mapped: reserved addresses and shared libraries cost no memory
        resource.setrlimit(resource.RLIMIT_DATA, (held + limits.memory_bytes,) * 2)
    with suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
    if quiet:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)


def _data_bytes() -> int:
    """Writable private memory of this process as RLIMIT_DATA counts it; 0 where the system does not say."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)
    except OSError:
        return 0


def _serve(
    line: Connection, beats: MutableSequence[float], at: int, function: Callable[[Any], Any], limits: Limits
) -> NoReturn:
    """Work on chunks until the owner hangs up. `beats[at]` is the item in work, `beats[at + 1]` when it began."""
    while True:
        try:
            chunk = line.recv()
        except (EOFError, OSError):
            os._exit(0)
        outcomes: list[Outcome] = []
        flushed = time.monotonic()
        for index, item in enumerate(chunk):
            beats[at + 1] = 0.0
            beats[at] = index
            beats[at + 1] = time.monotonic()
            # kills this process by the kernel's hand, should the owner be gone while a decoder hangs
            signal.setitimer(signal.ITIMER_REAL, limits.seconds + _SPARE_S)
            outcomes.append(_attempt(function, index, item, limits))
            signal.setitimer(signal.ITIMER_REAL, 0)
            if time.monotonic() - flushed > _FLUSH_S or index + 1 == len(chunk):
                beats[at + 1] = 0.0
                _send(line, outcomes)
                outcomes, flushed = [], time.monotonic()
            item = None  # not held while the next is read
        chunk = None


def _attempt(function: Callable[[Any], Any], index: int, item: Any, limits: Limits) -> Outcome:
    try:
        return Outcome(index, function(item))
    except VolumeError as error:
        # the chain of causes may hold whole files
        return Outcome(index, error=error.with_traceback(None))
    except MemoryError:
        return Outcome(index, error=out_of_memory(limits))
    except BaseException as error:  # a panic of a Rust decoder is no Exception
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "unknown"
        # the text of the error may quote the file, so only its type and place are told
        message = f"the reader failed with {type(error).__name__} in {where}; this is a fault of the reader"
        return Outcome(index, error=VolumeError(message, "reader-error"))


def _send(line: Connection, outcomes: list[Outcome]) -> None:
    try:
        line.send(outcomes)
    except OSError:  # the owner hung up
        os._exit(0)
    except Exception as error:  # a value that cannot travel between processes; nothing of the message has been sent
        if len(outcomes) > 1:
            for outcome in outcomes:
                _send(line, [outcome])
            return
        message = f"the result cannot leave the reader: {type(error).__name__}"
        line.send([Outcome(outcomes[0].index, error=VolumeError(message, "reader-error"))])


def out_of_memory(limits: Limits) -> VolumeError:
    """The refusal of an item that needed more memory than it may take."""
    allowed = limits.memory_bytes / 2**20
    return VolumeError(
        f"reading it takes more than the {allowed:.0f} MiB that one item may; raise the limit if the file is"
        " trusted to be so large",
        "reader-memory",
    )


@contextmanager
def without_main(function: Callable[..., object]) -> Iterator[None]:
    """Keep a spawned process from running the caller's script again, which need not guard its `__main__`."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: main.__dict__[name] for name in ("__file__", "__spec__") if name in main.__dict__}
    if function.__module__ == "__main__":  # then the script is needed
        hidden = {}
    main.__dict__.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        main.__dict__.update(hidden)


@contextmanager
def one_thread_for_children() -> Iterator[None]:
    """Pools of threads that a library opens when it is loaded do not survive the forks of a nursery."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
