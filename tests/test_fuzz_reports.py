"""Damaged and hostile report files end as reports or refusals with a reason, in bounded time and memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_reports import fuzz
from report_files import bundle, cda, hl7, seeds, text_sr

from reports.sources import read_reports
from volumes.instance import Refusal

MIB = 2**20
SECONDS = 10.0  # a bound for a slow machine; each takes a fraction of it


def test_three_thousand_damaged_files_do_no_harm() -> None:
    ends, failures = fuzz(3000, seed=20)
    assert not failures, "\n".join(failures[:10])
    assert ends["read: final"] > 300  # some survive
    assert len([end for end in ends if end.startswith("refusal")]) > 15  # and others fail in many ways


@pytest.mark.slow
def test_eight_thousand_more() -> None:
    _, failures = fuzz(8_000, seed=21)
    assert not failures, "\n".join(failures[:10])


def test_undamaged_files_are_all_read(tmp_path: Path) -> None:
    for name, data in seeds().items():
        (tmp_path / name).write_bytes(data)
        found = list(read_reports([tmp_path / name]))
        assert [one for one in found if not isinstance(one, Refusal)], name
        assert not [one for one in found if isinstance(one, Refusal) and one.kind == "refusal"], name


def _obx(value: bytes) -> bytes:
    return hl7("OBR|1||A|X") + b"OBX|1|TX|X||" + value


def _section(text: str) -> bytes:
    return cda(
        f"<component><structuredBody><component><section>{text}</section></component></structuredBody></component>"
    )


_LAUGHS = b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"ha") for n in range(12))
HUGE: dict[str, Callable[[], bytes]] = {
    "pipes.hl7": lambda: _obx(b"|" * 50 * MIB),
    "repetitions.hl7": lambda: _obx(b"~" * 50 * MIB),
    "escapes.hl7": lambda: _obx(b"\\.br\\" * 10 * MIB),
    "backslashes.hl7": lambda: _obx(b"\\" * 50 * MIB),
    "lines.hl7": lambda: _obx(b"a\n" * 25 * MIB),
    "segments.hl7": lambda: _obx(b"a\r") + b"OBX|2|TX|X||a\r" * 4 * MIB,
    "name.hl7": lambda: hl7("PID|1||P||" + "Doe " * 12 * MIB, "OBR|1||A|X", "OBX|1|TX|X||text"),
    "cell.csv": lambda: b"accession,report\nA," + b"x " * 25 * MIB,
    "quoted.csv": lambda: b'accession,report\nA,"' + b"x\n" * 25 * MIB,
    "commas.csv": lambda: b"accession,report\n" + b"," * 50 * MIB,
    "header.csv": lambda: b"," * 50 * MIB,
    "nulls.csv": lambda: bytes(50 * MIB),
    "deep.json": lambda: b"[" * 100_000 + b"]" * 100_000,
    "deep.ndjson": lambda: (b'{"a":' * 100_000 + b"\n") * 20,
    "line.json": lambda: b'{"resourceType": "DiagnosticReport", "conclusion": "' + b"x" * 50 * MIB + b'"}',
    "markup.json": lambda: str(bundle(text={"div": "<" * 6 * MIB})).replace("'", '"').encode(),
    "comments.json": lambda: str(bundle(text={"div": "<!--<script" * 400_000})).replace("'", '"').encode(),
    "number.json": lambda: b"9" * 50 * MIB,
    "laughs.xml": lambda: (
        b"<!DOCTYPE l [%s]><ClinicalDocument xmlns='urn:hl7-org:v3'>&a11;</ClinicalDocument>" % _LAUGHS
    ),
    "deep.xml": lambda: _section("<a>" * 200_000 + "</a>" * 200_000),
    "narrative.xml": lambda: _section("<text>" + "<content>" * 50_000 + "x" + "</content>" * 50_000 + "</text>"),
    "long.txt": lambda: b"x" * 50 * MIB,
    "empty.txt": lambda: b"\n" * 50 * MIB,
    "nulls.txt": lambda: bytes(900_000),
    "long.dcm": lambda: text_sr("x " * 10 * MIB),
}
_READ = frozenset({"name.hl7", "comments.json"})


@pytest.mark.parametrize("name", HUGE)
def test_huge_and_deep_files_end_soon(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(HUGE[name]())
    began = time.monotonic()
    found = list(read_reports([path]))
    assert time.monotonic() - began < SECONDS
    path.unlink()
    refusals = [one for one in found if isinstance(one, Refusal) and one.kind == "refusal"]
    assert bool(refusals) == (name not in _READ)
    assert all(refusal.reason != "reader-error" and "expected" in refusal.message for refusal in refusals)
    assert all(len(refusal.message) < 1100 for refusal in refusals)
