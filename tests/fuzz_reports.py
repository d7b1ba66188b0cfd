"""A seeded fuzzer of report files: each damaged file must end as reports or refusals with a reason, in bounded time.

    python -m tests.fuzz_reports --count 100000 --seed 1          damage small files of every format
    python -m tests.fuzz_reports --seed 1 --only 4711 [--keep FILE]    one case again

A case is made from its number alone, so a failure is repeated by `--seed` and `--only`. Failures are exceptions, the
refusal "reader-error" (an exception that a reader did not foresee), results that no catalog could keep, and more than
5 s. Files with a PDF are few, since a PDF is read in another process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, os.path.dirname(__file__))  # `python -m` looks in the folder above

from fuzz_mutations import mutated
from report_files import encapsulated, pdf, seeds

from reports.sourced import MAX_CHARACTERS, SourcedReport
from reports.sources import read_reports
from volumes.instance import Refusal

SECONDS = 5
_PDF_SHARE = 1 / 200
_WORDS = (
    "\0", "\ufeff", "\x1b[31m", "\\X00\\", "\\XZZ\\", "\\", "|" * 600, "^" * 50, "~" * 200, "&", '"', '""', "'", "\r",
    "\n\n", "\r\n" * 40, "MSH|^~\\&|", "MSH||||", "BTS|9", "OBR|1||A|X", "OBX|1|ED|X||^^PDF^Base64^", "PID|1",
    "=HYPERLINK(\"http://x\",\"y\")", "=cmd|' /C calc'!A0", '="007"', "+1+1", "@SUM(A1)", "-2+3", "1e999", "-0", "NaN",
    "Infinity", "9" * 5000, "<!DOCTYPE x [<!ENTITY a 'b'>]>", "<!ENTITY % p SYSTEM 'file:///etc/passwd'>", "&a;",
    "&#0;", "&#xD800;", "<![CDATA[", "]]>", "<!--", "-->", "<x>" * 300, "</text>", "xsi:type='PQ'", "\\ud800",
    "\\u0000", "[" * 3000, "{\"a\":" * 3000, "}", "]", ",", ":", "null", "true", "#a", "Patient/p", "urn:oid:",
    "..\\..\\", "%s%n", "\u202e", "\U0001f9e0", "\u0130", "İ" * 30, "DROP TABLE", "{\\rtf1", "\\u-1 ?", "\\bin9999 ",
    "A" * 300, "\t", ";", "\x1e\x1f", "\x85", "\u2028", "ADDENDUM:", "12" * 2000,
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, 2**70, "", "x", "\ud800", "\0", [], {}, [[]], [{}], {"": {}}, [None], "9" * 300, "#a",
    {"reference": "#a"}, {"reference": "DiagnosticReport/r"}, [1, [2, [3]]], {"coding": "x"}, {"value": float("nan")},
)  # fmt: skip
Way = Callable[[bytes, random.Random, list[bytes]], bytes]


@lru_cache(maxsize=1)
def _stock() -> dict[str, bytes]:
    return seeds()


@lru_cache(maxsize=1)
def _documents() -> dict[str, bytes]:
    return {"scan.dcm": encapsulated(pdf("FINDINGS: Small left effusion.", pages=2))}


def make(seed: int, number: int) -> tuple[str, bytes, str]:
    """(file name, content, what was done) of one case."""
    chance = random.Random(f"{seed}/{number}")
    stock = _documents() if chance.random() < _PDF_SHARE else _stock()
    name = chance.choice(list(stock))
    data, told = stock[name], []
    for _ in range(chance.choice((1, 1, 2, 3))):
        way = chance.choice(_WAYS)
        data = way(data, chance, list(stock.values()))
        told.append(way.__name__.strip("_"))
    if chance.random() < 0.02:
        name = f"x{chance.choice(('.hl7', '.json', '.ndjson', '.csv', '.jsonl', '.xml', '.txt', '.dcm', '.parquet'))}"
    return name, data, f"{name}: {', '.join(told)}"


def _bytes(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    return mutated(data, others, chance)[0]


def _word(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """A hostile word somewhere, or in place of a token."""
    at = chance.randrange(len(data) + 1)
    word = chance.choice(_WORDS).encode(errors="surrogatepass")
    return data[:at] + word + data[at + chance.choice((0, 0, 1, 5, 20)) :]


def _line(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Lines left out, doubled or in another order."""
    mark = b"\r" if b"\r" in data else b"\n"
    lines = data.split(mark)
    at = chance.randrange(len(lines))
    what = chance.randrange(3)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines[at:at] = [lines[at]] * chance.choice((1, 2, 300))
    else:
        chance.shuffle(lines)
    return mark.join(lines)


def _field(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Another value between two delimiters."""
    mark = chance.choice([m for m in (b"|", b"^", b";", b",", b'"', b">", b" ") if m in data] or [b"\n"])
    parts = data.split(mark)
    parts[chance.randrange(len(parts))] = chance.choice(_WORDS).encode(errors="surrogatepass")
    return mark.join(parts)


def _encoding(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """The same text in other bytes than it says."""
    text = data.decode("latin-1")
    return text.encode(chance.choice(("utf-16", "utf-16-be", "utf-32", "utf-8", "utf-7", "cp037", "utf-8-sig")))


def _node(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Another value somewhere in a JSON document."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _field(data, chance, others)
    here, holder, key = document, None, None
    while isinstance(here, (dict, list)) and here and (holder is None or chance.random() < 0.85):
        holder, key = here, chance.choice(list(here) if isinstance(here, dict) else range(len(here)))
        here = here[key]
    if holder is None:
        return json.dumps(chance.choice(_VALUES)).encode()
    holder[key] = chance.choice(_VALUES)
    return json.dumps(document).encode()


_WAYS: tuple[Way, ...] = (_bytes, _bytes, _word, _word, _line, _field, _field, _encoding, _node, _node)


def run(name: str, data: bytes, folder: Path) -> tuple[str, ...]:
    """Read one file; how it ended. Raises AssertionError for a result that no catalog could keep."""
    path = folder / name
    path.write_bytes(data)
    try:
        found = list(read_reports([path]))
    finally:
        path.unlink()
    assert found, "a file that gave neither a report nor a refusal"
    return tuple(sorted({_checked(one) for one in found}))


def _checked(one: SourcedReport | Refusal) -> str:
    if isinstance(one, Refusal):
        assert one.reason != "reader-error", one.message
        assert one.message, "a refusal without words"
        (one.where + one.message).encode()  # storable
        return f"{one.kind}: {one.reason}"
    stored = json.dumps(one.to_json(), allow_nan=False)
    stored.encode()
    (one.text + one.accession + one.study_uid + one.source).encode()
    assert SourcedReport.from_json(json.loads(stored)) == one, "a report that changes when it is kept"
    assert one.text or one.status == "cancelled", "a report without text"
    assert len(one.text) <= MAX_CHARACTERS, "a text without end"
    assert "\0" not in one.text, "a NUL in the text"
    assert one.can_be_placed, "a report that nothing could join to a study"
    return f"read: {one.status}"


def fuzz(count: int, seed: int, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Run cases in this process; how they ended, and those that failed."""
    ends: Counter[str] = Counter()
    failures: list[str] = []

    def late(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    try:
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(prefix="fuzz-reports-", dir=memory) as scratch:
            for number in range(first, first + count):
                name, data, done = make(seed, number)
                signal.alarm(SECONDS if "scan.dcm" not in done else 30)
                try:
                    ends.update(run(name, data, Path(scratch)))
                except Exception as error:  # every kind is a failure
                    last = traceback.extract_tb(error.__traceback__)[-1]
                    where = f"{Path(last.filename).name}:{last.lineno}"
                    failures.append(
                        f"--seed {seed} --only {number}: {type(error).__name__} {error} at {where} [{done}]"
                    )
                finally:
                    signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, before)
    return ends, failures


def main(words: list[str] | None = None) -> int:
    """The command line; 1 when a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_reports", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="run one case and let its error through")
    parser.add_argument("--keep", type=Path, help="with --only: write the damaged file here instead of reading it")
    asked = parser.parse_args(words)
    if asked.only is not None:
        name, data, done = make(asked.seed, asked.only)
        print(done, flush=True)
        if asked.keep:
            asked.keep.write_bytes(data)
            return 0
        with tempfile.TemporaryDirectory() as scratch:
            print(*run(name, data, Path(scratch)), sep="\n")
        return 0
    began = time.monotonic()
    ends, failures = fuzz(asked.count, asked.seed, asked.first)
    for end, count in ends.most_common():
        print(f"{count:8d}  {end}")
    print(f"{asked.count} cases in {time.monotonic() - began:.0f} s, {len(failures)} failed", *failures[:30], sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
