"""Workers that abort, crash, hang or eat memory cost one item and nothing else."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from volumes.isolation import Workers, guarded
from volumes.volume import SeriesError, VolumeError

SOURCE = Path(__file__).resolve()


class PanicException(BaseException):
    """What decoders written in Rust raise: no Exception."""


def work(item: object) -> object:
    """Twice the item, or the accident that it names."""
    match item:
        case "abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)
        case "hang":
            while True:
                pass
        case "sleep":  # releases the lock of the interpreter
            time.sleep(600)
        case "allocate":
            return len(bytearray(4 * 2**30))
        case "creep":  # in pieces, as a decoder that grows its output does
            held = []
            while True:
                held.append(np.empty(2**21))
        case "leave":
            os._exit(3)
        case "quit":
            sys.exit("enough")
        case "raise":
            raise KeyError("Secret^Name")
        case "refuse":
            raise SeriesError("two slices lie at one place", "duplicate-position")
        case "panic":
            raise PanicException("index out of bounds")
        case "shout":
            os.write(2, b"decoder: corrupt data\n")
            os.write(1, b"decoder: corrupt data\n")
        case "unsendable":
            return threading.Lock()
    return (item, item)


def identify(_: object) -> tuple[int, str]:
    """The process that works, and its thread settings."""
    return os.getpid(), os.environ.get("OMP_NUM_THREADS", "")


def leak(item: int) -> int:
    """Leaves 20 MiB behind at every call, as some decoders do."""
    _LEAKED.append(np.ones(20 * 2**17))
    return item


_LEAKED: list[np.ndarray] = []


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers[object, object]]:
    with Workers(work, 2, seconds=1.5, memory_bytes=2**29, chunk=8) as workers:
        yield workers


REASONS = {
    "abort": ("reader-died", "ended by SIGABRT"),
    "segfault": ("reader-died", "ended by SIGSEGV"),
    "leave": ("reader-died", "left with exit code 3"),
    "hang": ("reader-timeout", r"longer than 1\.5 s; it was stopped"),
    "sleep": ("reader-timeout", r"longer than 1\.5 s; it was stopped"),
    "allocate": ("reader-memory", "more than the 512 MiB that one item may"),
    "creep": ("reader-memory", "more than the 512 MiB that one item may"),
    "raise": ("reader-error", r"KeyError in test_isolation\.py:\d+"),
    "panic": ("reader-error", r"PanicException in test_isolation\.py:\d+"),
    "quit": ("reader-error", r"SystemExit in test_isolation\.py:\d+"),
    "unsendable": ("reader-error", "the result cannot leave the reader: TypeError"),
    "refuse": ("duplicate-position", "two slices lie at one place"),
}


def test_each_accident_costs_its_own_item_and_the_order_is_kept(pool: Workers[object, object]) -> None:
    items: list[object] = list(range(300))
    for number, accident in enumerate(REASONS):
        items.insert(number * 17 + 3, accident)

    found = list(pool.map(items))

    assert [item for item, _ in found] == items
    for item, result in found:
        if isinstance(item, int):
            assert result == (item, item)
        else:
            reason, message = REASONS[str(item)]
            assert isinstance(result, VolumeError), item
            assert result.reason == reason
            with pytest.raises(VolumeError, match=message):
                raise result
            assert "Secret" not in str(result)


def test_what_a_reader_refuses_keeps_its_type(pool: Workers[object, object]) -> None:
    ((_, result),) = pool.map(["refuse"])
    assert type(result) is SeriesError


def test_only_killers_in_a_row_are_all_refused(pool: Workers[object, object]) -> None:
    found = [result for _, result in pool.map(["abort", "segfault", "abort", "leave", "segfault"] * 3)]
    assert [r.reason for r in found if isinstance(r, VolumeError)] == ["reader-died"] * 15


def test_items_are_taken_in_only_as_results_are_taken_out(pool: Workers[object, object]) -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = pool.map(source())
    for _ in range(50):
        next(results)
    results.close()

    assert taken <= 50 + 2 * 8 * 4
    assert list(pool.map([7])) == [(7, (7, 7))]  # a map that was left early does not spoil the next


def test_results_larger_than_any_buffer_do_not_lock_the_two_sides(pool: Workers[object, object]) -> None:
    items = [bytes([n]) * 700_000 for n in range(40)]
    assert all(result == (item, item) for item, result in pool.map(items))


def test_an_owner_that_looks_away_finds_the_hanging_item_named(pool: Workers[object, object]) -> None:
    results = pool.map([1, "sleep", 2, *range(40)])
    assert next(results) == (1, (1, 1))
    time.sleep(4.0)  # longer than the worker waits for its owner
    item, result = next(results)
    assert item == "sleep"
    assert isinstance(result, VolumeError)
    assert result.reason == "reader-timeout"
    assert next(results) == (2, (2, 2))
    results.close()


def test_decoders_that_print_are_not_heard(pool: Workers[object, object], capfd: pytest.CaptureFixture[str]) -> None:
    assert list(pool.map(["shout"])) == [("shout", ("shout", "shout"))]
    assert capfd.readouterr() == ("", "")


def test_memory_that_earlier_items_left_behind_is_not_held_against_the_next() -> None:
    with Workers(leak, 1, memory_bytes=2**27, chunk=5) as workers:
        assert [result for _, result in workers.map(range(30))] == list(range(30))


def test_the_limit_on_memory_is_on_top_of_what_the_imports_take() -> None:
    """A worker that holds torch and numpy still gives its item all of the bound, and little more."""
    with Workers(_take, 1, seconds=60, memory_bytes=2**30, chunk=1) as workers:
        fits, exceeds = (result for _, result in workers.map([900, 1100]))
    assert fits == 900
    assert isinstance(exceeds, VolumeError)
    assert exceeds.reason == "reader-memory"


def _take(mebibytes: int) -> int:
    return len(np.ones(mebibytes * 2**17)) // 2**17


def test_nothing_runs_on_after_the_block() -> None:
    with Workers(identify, 2, chunk=1) as workers:
        found = [result for _, result in workers.map(range(50))]
        nursery = workers._nursery.pid
    pids = {pid for pid, _ in found} | {nursery}
    assert 2 <= len(pids) <= 3
    assert os.getpid() not in pids
    assert {threads for _, threads in found} == {"1"}
    assert not [pid for pid in pids if alive(pid)]


def alive(pid: int | None) -> bool:
    """Whether a process, or its zombie, is still there."""
    return Path(f"/proc/{pid}").exists()


def test_an_error_of_the_owner_ends_the_workers() -> None:
    pids: list[int | None] = []

    def interrupted() -> None:
        with Workers(work, 2, seconds=30, chunk=1) as workers:
            for _ in workers.map([1, "sleep", "hang"]):
                pids.extend([workers._nursery.pid, *(worker.pid for worker in workers._workers.values())])
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(pids) == 3
    assert not [pid for pid in pids if alive(pid)]


@pytest.mark.parametrize("accident", ["hang", "sleep"])
def test_an_owner_that_is_killed_leaves_no_orphan(accident: str) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(SOURCE.parent)!r})
from test_isolation import work
from volumes.isolation import Workers
if __name__ == "__main__":
    with Workers(work, 2, seconds=60, chunk=1) as workers:
        for item, _ in workers.map([1, 2, {accident!r}, {accident!r}, {accident!r}]):
            if item == 2:
                print(workers._nursery.pid, *(worker.pid for worker in workers._workers.values()), flush=True)
"""
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent.parent)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 3
        time.sleep(0.3)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if alive(pid)]


def test_one_item_alone() -> None:
    assert guarded(work, 4) == (4, 4)
    with pytest.raises(VolumeError, match="ended by SIGSEGV") as caught:
        guarded(work, "segfault")
    assert caught.value.reason == "reader-died"
    with pytest.raises(SeriesError, match="two slices"):
        guarded(work, "refuse")


def test_many_small_items_are_not_slowed() -> None:
    """At least 5,000 trivial items a second through two workers; a quiet machine does forty times more."""
    with Workers(work, 2) as workers:
        list(workers.map(range(100)))
        began = time.monotonic()
        assert sum(1 for _ in workers.map(range(20_000))) == 20_000
        assert 20_000 / (time.monotonic() - began) > 5000


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"workers=0, chunk=32, seconds=5\.0"):
        Workers(work, 0)
    with pytest.raises(ValueError, match="at least one MiB"):
        Workers(work, memory_bytes=10)


def test_a_script_without_a_guard_is_not_run_twice(tmp_path: Path) -> None:
    """Scripts and notebooks call readers at their top level; the processes must not run them again."""
    (tmp_path / "script.py").write_text(
        "from volumes.archive import read_location\nfrom volumes.isolation import guarded\n"
        f"print('found', guarded(read_location, {str(tmp_path / 'absent.dcm')!r}).reason)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent.parent)}
    finished = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert finished.stdout == "found unreadable-file\n", finished.stderr


def test_what_every_worker_needs_is_imported_once() -> None:
    with Workers(loaded, 1, chunk=1, preload=("colorsys",)) as workers:
        found = [result for _, result in workers.map(["colorsys", "mailcap", "abort", "colorsys"])]
    assert found[:2] == [True, False]
    assert isinstance(found[2], VolumeError)
    assert found[3] is True


def loaded(name: str) -> bool:
    """Whether a module was imported already."""
    if name == "abort":
        os.abort()
    return name in sys.modules
