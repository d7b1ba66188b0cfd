"""Compressed slices in processes, one per core: no decoder lets go of the interpreter, so threads do not help.

A process is a plain child with two pipes, never a fork and never `multiprocessing`: it runs no line of the caller's
script, ends when its parent ends for whatever reason, and holds no shared memory that could be left behind. Requests
are lines of JSON; a reply is a line of JSON and the slice as float32, which lands in its place of the volume.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import multiprocessing
import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from volumes.errors import VolumeError
from volumes.instance import InstanceHeader
from volumes.planes import Plane, read_plane
from volumes.transfer_syntaxes import NATIVE, RLE

SECONDS_PER_SLICE = 60.0  # a decoder that takes longer hangs; the slowest honest slice takes well under one second
_START_SECONDS = 30.0
_MANY_BYTES = 16 * 2**20  # fewer bytes of pixels are decoded before a process has started
_RUNNING_BYTES = 2 * 2**20  # the same where processes run already
_QUICK = (*NATIVE, RLE)  # decoded in less time than a process takes to hand over the slice
_ROOT = str(Path(__file__).resolve().parent.parent)


class Decoder:
    """One child process that reads slices. `start` returns at once; `ready` waits for it."""

    def __init__(self) -> None:
        code = f"import sys; sys.path.insert(0, {_ROOT!r}); from volumes.decoding import serve; serve()"
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | one_thread,
            bufsize=0,
        )
        _widen(self.process.stdout)
        self.is_ready = False

    def ready(self) -> bool:
        """Whether the process has come up; False when it died or took too long."""
        if not self.is_ready:
            try:
                self.is_ready = self._line(time.monotonic() + _START_SECONDS) == {"ready": True}
            except (OSError, VolumeError):
                self.is_ready = False
        return self.is_ready

    def read(self, header: InstanceHeader, out: NDArray[np.float32]) -> Plane:
        """Fill `out` (rows, columns) with one slice. Raises VolumeError, also when the process dies or hangs."""
        request = {
            "path": header.path,
            "sop_uid": header.sop_uid,
            "modality": header.modality,
            "pixel_sha256": header.pixel_sha256,
            "shape": out.shape,
        }
        deadline = time.monotonic() + SECONDS_PER_SLICE
        try:
            self._ask(json.dumps(request).encode() + b"\n")
            reply = self._line(deadline)
            if "reason" in reply:
                raise VolumeError(str(reply["message"]), str(reply["reason"]))
            self._exactly(out.data.cast("B"), deadline)
        except OSError as error:
            self.close()
            raise VolumeError(
                f"instance {header.sop_uid}: the decoder of {header.transfer_syntax} died. The file is damaged: export"
                " it again",
                "decoder-died",
            ) from error
        return _plane(reply)

    def _ask(self, line: bytes) -> None:
        assert self.process.stdin is not None
        _write(self.process.stdin.fileno(), memoryview(line))

    def _line(self, deadline: float) -> dict[str, Any]:
        size = memoryview(bytearray(4))
        self._exactly(size, deadline)
        body = memoryview(bytearray(int.from_bytes(size, "little")))
        self._exactly(body, deadline)
        found: dict[str, Any] = json.loads(bytes(body))
        return found

    def _exactly(self, view: memoryview, deadline: float) -> None:
        assert self.process.stdout is not None
        descriptor, done = self.process.stdout.fileno(), 0
        while done < len(view):
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.close()
                raise VolumeError(f"a decoder gave no slice within {SECONDS_PER_SLICE:g} s", "decoder-timeout")
            got = os.readv(descriptor, [view[done:]])
            if not got:
                raise BrokenPipeError("the decoder closed its pipe")
            done += got

    def close(self) -> None:
        """End the process."""
        self.is_ready = False
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.wait()


class _Pool:
    """The processes of this process, kept for the next series."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.decoders: list[Decoder] = []

    def grow(self) -> None:
        """As many processes as there are cores; dead ones are replaced."""
        self.decoders = [one for one in self.decoders if one.process.poll() is None]
        while len(self.decoders) < _cores():
            self.decoders.append(Decoder())

    def close(self) -> None:
        """End all processes."""
        for one in self.decoders:
            one.close()
        self.decoders = []

    def forget(self) -> None:
        """In a forked child: the processes are the parent's."""
        for one in self.decoders:
            for stream in (one.process.stdin, one.process.stdout):
                if stream is not None:
                    stream.close()
        self.__init__()  # type: ignore[misc]


_pool = _Pool()
atexit.register(lambda: _pool.close())
os.register_at_fork(after_in_child=_pool.forget)


def close_decoders() -> None:
    """End the decoding processes now; they end with the program in any case."""
    with _pool.lock:
        _pool.close()


def worth_processes(instances: Sequence[InstanceHeader]) -> bool:
    """Whether a series is compressed and large enough. Workers of a pool decode alone: their siblings use the cores."""
    packed = [h for h in instances if h.transfer_syntax and h.transfer_syntax not in _QUICK]
    if len(packed) < 2 or _cores() < 2 or not sys.executable or multiprocessing.current_process().daemon:
        return False
    volume = sum(2 * h.rows * h.columns for h in packed)
    return volume >= (_RUNNING_BYTES if _pool.decoders else _MANY_BYTES) and not _pool.lock.locked()


def decode_planes(instances: Sequence[InstanceHeader], out: NDArray[np.float32]) -> list[Plane]:
    """As `read_planes`. While the processes start, this one decodes too. The first slice that fails decides."""
    with _pool.lock:
        _pool.grow()
        work = _Work(instances, out)
        threads = [threading.Thread(target=work.serve, args=(one,), daemon=True) for one in _pool.decoders]
        for thread in threads:
            thread.start()
        while not any(one.is_ready for one in _pool.decoders) and any(thread.is_alive() for thread in threads):
            if not work.one(read_plane):
                break
        for thread in threads:
            thread.join()
        while work.one(read_plane):  # what is left when processes could not be started
            pass
    return work.result()


class _Work:
    def __init__(self, instances: Sequence[InstanceHeader], out: NDArray[np.float32]) -> None:
        self.instances, self.out = instances, out
        self.waiting = deque(range(len(instances)))
        self.found: dict[int, Plane | VolumeError] = {}

    def serve(self, decoder: Decoder) -> None:
        """Give slices to one process until none waits or it is gone."""
        if decoder.ready():
            while decoder.is_ready and self.one(decoder.read):
                pass

    def one(self, read: Callable[[InstanceHeader, NDArray[np.float32]], Plane]) -> bool:
        """Read the next slice; False when none waits. After a failure the later ones are dropped."""
        try:
            index = self.waiting.popleft()
        except IndexError:
            return False
        try:
            self.found[index] = read(self.instances[index], self.out[index])
        except VolumeError as error:
            self.found[index] = error
            self.waiting.clear()
        return True

    def result(self) -> list[Plane]:
        for index in sorted(self.found):
            found = self.found[index]
            if isinstance(found, VolumeError):
                raise found
        return [found for _, found in sorted(self.found.items()) if isinstance(found, Plane)]


def serve() -> None:
    """What a child does: read the slices that it is asked for until its input ends."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a decoder prints must not end up between the pixels
    _reply(channel, {"ready": True})
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        header = InstanceHeader(
            path=asked["path"],
            format="dicom",
            study_uid="",
            series_uid="",
            sop_uid=asked["sop_uid"],
            patient_key="",
            modality=asked["modality"],
            pixel_sha256=asked["pixel_sha256"],
        )
        out = np.empty(asked["shape"], np.float32)
        try:
            plane = read_plane(header, out)
        except VolumeError as error:
            _reply(channel, {"message": str(error), "reason": error.reason})
            continue
        _reply(channel, plane.__dict__)
        _write(channel.fileno(), out.data.cast("B"))


def _plane(told: dict[str, Any]) -> Plane:
    return Plane(told["unit"], int(told["padded"]), str(told["sha256"]), bool(told["finite"]))


def _reply(channel: BinaryIO, answer: dict[str, object]) -> None:
    body = json.dumps(answer).encode()
    _write(channel.fileno(), memoryview(len(body).to_bytes(4, "little") + body))


def _write(descriptor: int, view: memoryview) -> None:
    while len(view):
        view = view[os.write(descriptor, view) :]


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold a whole slice: at its usual 64 kB the two ends wake each other sixteen times for one."""
    with contextlib.suppress(OSError, AttributeError):  # Linux only, and within the limits of the user
        assert pipe is not None
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 2**20)


def _cores() -> int:
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        count = os.cpu_count() or 1
    return min(count, 16)
