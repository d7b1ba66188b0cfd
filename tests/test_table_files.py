"""Tables of reports in CSV, JSON Lines and Parquet, packed or not, with the cells that spreadsheets leave behind."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from fuzz_mutations import mutated
from report_files import RTF, TABLE, pdf, seeds

from reports.sourced import MAX_CHARACTERS, SourcedReport
from reports.sources import read_reports
from reports.table_files import read_csv, read_json_lines, read_parquet
from reports.tables import Columns
from volumes.instance import Refusal, patient_key


def csv(text: str | bytes, encoding: str = "") -> list[SourcedReport | Refusal]:
    data = text if isinstance(text, bytes) else text.encode()
    return [one for one in read_csv(data, "t.csv", Columns(), encoding) if getattr(one, "kind", "") != "repair"]


def reason(text: str | bytes) -> str:
    (found,) = csv(text)
    assert isinstance(found, Refusal), found
    return found.reason


def test_a_row_keeps_modality_times_and_status() -> None:
    (report,) = csv(TABLE)
    assert isinstance(report, SourcedReport)
    assert (report.accession, report.modality, report.performed) == ("ACC1", "CT", "2024-01-01T00:00:00")
    assert (report.text, report.patient_key) == ("Small; left effusion", patient_key("P7"))


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_states_the_encoding(codec: str) -> None:
    (report,) = csv("accession,report\nA,Größe\n".encode(codec))
    assert isinstance(report, SourcedReport)
    assert report.text == "Größe"


def test_another_encoding_must_be_stated() -> None:
    data = "accession,report\nA,Größe\n".encode("latin-1")
    assert reason(data) == "undecodable-text"
    (report,) = csv(data, "latin-1")
    assert isinstance(report, SourcedReport)
    assert report.text == "Größe"
    (refusal,) = csv(data, "klingon")
    assert isinstance(refusal, Refusal)
    assert "bytes that are not 'klingon'" in refusal.message


@pytest.mark.parametrize(
    "cell", ["=HYPERLINK(A1)", "=cmd|' /C calc'!A0", "@SUM(1)", "+CMD|x!A", "-2+3+cmd|' /C calc'!A0", "=1+1"]
)
def test_a_formula_where_a_number_should_stand_is_refused(cell: str) -> None:
    (refusal,) = csv(f'accession,report\n"{cell}",text\n')
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "formula-in-cell"
    assert "found a formula in 'accession'; expected a number or a name" in refusal.message
    assert cell not in refusal.message


def test_protected_zeros_are_undone_and_text_stays_text() -> None:
    (report,) = csv('accession,report\n"=""007""","=1+1 effusion, -5 mm"\n')
    assert isinstance(report, SourcedReport)
    assert (report.accession, report.text) == ("007", "=1+1 effusion, -5 mm")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accession,report,report\nA,x,y\n", "ambiguous-column"),
        ("accession,report\n" + "A" * 300 + ",text\n", "read"),  # cut down by the last check of all reports
        ('accession,report\nA,"open\n', "damaged-table"),
        (",".join(f"c{n}" for n in range(5000)) + "\n", "damaged-table"),
        ("accession,report,status\nA,x,maybe\n", "unknown-status"),
        ("a,b\n1,2\n", "no-text-column"),
        ("report\nx\n", "no-link"),
        ("", "no-text-column"),
    ],
)
def test_damaged_tables_say_why(text: str, expected: str) -> None:
    (found,) = csv(text)
    assert ("read" if isinstance(found, SourcedReport) else found.reason) == expected


def test_the_last_check_refuses_what_no_catalog_can_hold(tmp_path: Path) -> None:
    rows = [
        ("A" * 300, "text"), ("B\x00B", "text"), ("C", "a\x00\x1b[31mb"), ("D", "x" * (MAX_CHARACTERS + 1)),
        ("E", "\x00"),
    ]  # fmt: skip
    (tmp_path / "t.csv").write_text("accession,report\n" + "".join(f"{a},{b}\n" for a, b in rows))
    found = [one for one in read_reports([tmp_path]) if getattr(one, "kind", "") != "repair"]
    assert [getattr(one, "reason", "read") for one in found] == [
        "damaged-field", "damaged-field", "read", "too-long", "empty-report",
    ]  # fmt: skip
    taken = found[2]
    assert isinstance(taken, SourcedReport)
    assert (taken.text, taken.notes) == ("a[31mb", ("2 control character(s) were left out",))


def test_halves_of_surrogate_pairs_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(
        '{"accession": "A", "text": "a \\ud800 b"}\n{"accession": "\\ud800", "text": "x"}\n'
    )
    found = [one for one in read_reports([tmp_path]) if getattr(one, "kind", "") != "repair"]
    assert isinstance(found[0], SourcedReport)
    assert (found[0].text, found[0].notes) == ("a \ufffd b", ("1 character(s) that are no Unicode became U+FFFD",))
    assert isinstance(found[1], Refusal)
    assert found[1].reason == "damaged-field"


def test_json_lines_lose_only_their_damaged_lines() -> None:
    data = b'{"accession": "A", "text": "x"}\n{broken\n[1]\n{"accession": 12.0, "text": "y"}\n' + b"[" * 100_000
    found = [one for one in read_json_lines(data, "t", Columns()) if getattr(one, "kind", "") != "repair"]
    assert [getattr(one, "accession", getattr(one, "reason", "")) for one in found] == [
        "not-json", "not-json", "not-json", "A", "12",
    ]  # fmt: skip


def test_parquet_gives_the_same_reports(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs the parquet extra")
    from pyarrow import parquet

    table = pa.table({"accession": ["A", "B", None], "text": ["x", None, "z"], "vector": [[1.0], [2.0], [3.0]]})
    parquet.write_table(table, tmp_path / "t.parquet")
    found = [one for one in read_reports([tmp_path]) if getattr(one, "kind", "") != "repair"]
    assert [getattr(one, "text", getattr(one, "reason", "")) for one in found] == ["x", "empty-report", "no-link"]
    numbers = pa.table({"accession": [1.0, 2.0], "text": [["a"], ["b"]]})
    stream = io.BytesIO()
    parquet.write_table(numbers, stream)
    found = [one for one in read_parquet(stream.getvalue(), "t", Columns()) if getattr(one, "kind", "") != "repair"]
    assert [getattr(one, "reason", "") for one in found] == ["damaged-row"] * 2
    whole = (tmp_path / "t.parquet").read_bytes()
    for damaged in (whole[:-9], whole[: len(whole) // 2], b"PAR1", b"", whole[:40] + b"\xff" * 40 + whole[80:]):
        ends = [one for one in read_parquet(damaged, "t", Columns()) if getattr(one, "kind", "") != "repair"]
        assert {getattr(one, "reason", "read") for one in ends} <= {"damaged-table", "read", "empty-report", "no-link"}


def test_damaged_parquet_does_no_harm() -> None:
    pa = pytest.importorskip("pyarrow", reason="needs the parquet extra")
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pa.table({"accession": ["A", "B"] * 20, "text": ["No effusion.", None] * 20}), stream)
    reasons: Counter[str] = Counter()
    for number in range(400):
        damaged, _ = mutated(stream.getvalue(), [stream.getvalue()], random.Random(number))
        for one in read_parquet(damaged, "t", Columns()):
            reasons[one.reason if isinstance(one, Refusal) else "read"] += 1
    assert reasons["read"] > 100
    assert reasons["damaged-table"] > 100


def test_packed_files_and_zips_are_read_within_limits(tmp_path: Path) -> None:
    stock = seeds()
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        packed.writestr("folder/result.hl7", stock["result.hl7"])
        packed.writestr("document.xml", stock["document.xml"])
        packed.writestr("picture.png", b"x")
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress(stock["lines.jsonl"]) + gzip.compress(b"\n"))
    found = list(read_reports([tmp_path]))
    assert len([one for one in found if isinstance(one, SourcedReport)]) == 4
    assert [one.reason for one in found if isinstance(one, Refusal)] == ["unknown-format", "columns-detected"]
    bomb = tmp_path / "bomb.csv.gz"
    bomb.write_bytes(gzip.compress(bytes(80 * 2**20)))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(stock["table.csv"])[:-20])
    ends = [getattr(one, "reason", "read") for path in (bomb, cut) for one in read_reports([path])]
    assert ends == ["gzip-bomb", "damaged-gzip"]


def test_a_text_is_named_after_a_study_uid_or_an_accession_number(tmp_path: Path) -> None:
    for name in ("1.2.826.0.1.txt", "s50414267.txt", "wide.txt"):
        text = "No effusion. Größe 5 mm."
        (tmp_path / name).write_bytes(text.encode("utf-16" if name == "wide.txt" else "utf-8"))
    found = [one for one in read_reports([tmp_path]) if isinstance(one, SourcedReport)]
    assert [(one.study_uid, one.accession) for one in found] == [("1.2.826.0.1", ""), ("", "s50414267"), ("", "wide")]
    assert {one.text for one in found} == {"No effusion. Größe 5 mm."}


def test_documents_in_a_folder_are_read_by_their_suffix(tmp_path: Path) -> None:
    (tmp_path / "A1.pdf").write_bytes(pdf("No effusion."))
    (tmp_path / "A2.rtf").write_bytes(RTF)
    (tmp_path / "A3.html").write_bytes(b"<html><title>Report</title><p>No nodule.</html>")
    (tmp_path / "A4.pdf").write_bytes(pdf())
    found = list(read_reports([tmp_path]))
    assert [(one.accession, one.text) for one in found if isinstance(one, SourcedReport)] == [
        ("A1", "No effusion."), ("A2", "Kleiner Herd links,\n6 mm groß."), ("A3", "Report\nNo nodule."),
    ]  # fmt: skip
    assert [one.reason for one in found if isinstance(one, Refusal)] == ["image-only-pdf"]
