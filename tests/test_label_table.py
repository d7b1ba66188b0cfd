from __future__ import annotations

import csv
import gzip
import json
import time
from pathlib import Path

import pytest

from medvlm.cli import main
from reports.label_table import label_reports
from reports.labels import label
from reports.report_rows import open_rows
from reports.schemes import CHEXPERT14
from volumes.instance import patient_key


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ROWS = [
    {"accession": "A1", "indication": "Rule out pneumothorax", "findings": "Left effusion.", "ward": "7"},
    {"accession": "A2", "indication": "", "findings": "No effusion. Possible pneumonia.", "ward": "8"},
    {"accession": "A3", "indication": "", "findings": " ", "ward": "8"},
]


def test_a_csv_file_is_labelled_row_by_row(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", ROWS)
    summary = label_reports(source, ["indication", "findings"], "chexpert14", tmp_path / "out.csv")
    made = read_csv(tmp_path / "out.csv")
    assert list(made[0]) == ["row", "accession", *CHEXPERT14]
    assert [row["Pleural Effusion"] for row in made] == ["1", "0", ""]
    assert [row["Pneumonia"] for row in made] == ["", "-1", ""]
    assert made[0]["Pneumothorax"] == ""
    assert (summary.rows, summary.empty, summary.present["Pleural Effusion"]) == (3, 1, 1)


def written(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"in{kind}"
    if kind == ".parquet":
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.Table.from_pylist([row | {"ward": int(row["ward"])} for row in ROWS]), path)
    elif kind == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS), encoding="utf-8")
    elif kind == ".tsv":
        lines = ["\t".join(ROWS[0]), *("\t".join(row.values()) for row in ROWS)]
        path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    else:
        path.write_bytes(gzip.compress(write_csv(tmp_path / "plain.csv", ROWS).read_bytes()))
    return path


@pytest.mark.parametrize("kind", [".tsv", ".csv.gz", ".jsonl", ".parquet"])
def test_every_kind_of_table_gives_the_same_labels(tmp_path: Path, kind: str) -> None:
    plain = tmp_path / "plain_out.csv"
    label_reports(write_csv(tmp_path / "same.csv", ROWS), ["findings"], "nih14", plain)
    label_reports(written(tmp_path, kind), ["findings"], "nih14", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == plain.read_bytes()


def test_labels_are_written_as_json_lines_and_parquet_with_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    source = write_csv(tmp_path / "in.csv", ROWS)
    label_reports(source, ["findings"], "nih14", tmp_path / "out.jsonl")
    label_reports(source, ["findings"], "nih14", tmp_path / "out.parquet")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["Effusion"] for line in lines] == [1, 0, None]
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == lines


def test_cells_that_a_spreadsheet_would_run_are_made_harmless(tmp_path: Path) -> None:
    keys = ["=1+1", "@SUM(A1)", "+49 30", "-cmd|' /C calc'!A0", "\t=1", "-7", "A1"]
    rows = [{"=HYPERLINK(1)_id": key, "report_id": key, "text": "Effusion."} for key in keys]
    label_reports(write_csv(tmp_path / "in.csv", rows), ["text"], "nih14", tmp_path / "out.csv")
    made = read_csv(tmp_path / "out.csv")
    assert list(made[0])[1] == "'=HYPERLINK(1)_id"
    assert [row["report_id"] for row in made] == [*(f"'{key.strip()}" for key in keys[:5]), "-7", "A1"]


def test_no_name_of_a_patient_is_taken_over_and_an_id_becomes_its_pseudonym(tmp_path: Path) -> None:
    row = {"patient_id": "4711", "patient_name": "Doe^Jane", "MRN": "4711", "name": "Doe", "study_id": "S1"}
    source = write_csv(tmp_path / "in.csv", [row | {"report": "Effusion."}])
    label_reports(source, ["report"], "nih14", tmp_path / "out.csv")
    (made,) = read_csv(tmp_path / "out.csv")
    assert list(made)[:4] == ["row", "patient_id", "MRN", "study_id"]
    assert made["patient_id"] == made["MRN"] == patient_key("4711")
    text = (tmp_path / "out.csv").read_text(encoding="utf-8")
    assert "Doe" not in text
    assert "4711" not in text


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("in.xlsx", b"PK", r'cannot read a table of kind "\.xlsx"; expected the name to end in \.csv, \.tsv'),
        ("in.csv", b"", r"line 1: no names of columns"),
        ("in.csv", b"id,id\n1,2\n", r"line 1: column 'id' stands twice"),
        ("in.csv", b"id,text\n1,a,b\n", r"line 2: 3 cells, expected 2; quote cells that hold commas"),
        ("in.csv", b'id,text\n1,"a\n', r"line \d: unexpected end of data; close the quotes"),
        ("in.csv", b"id,text\n1,\xff\n", r"near line \d: no text in UTF-8"),
        ("in.csv.gz", b"no gzip", r"near line 1: no text in UTF-8 \(Not a gzipped file"),
        ("in.jsonl", b'{"text": "a"}\n{"text":\n', r"line 2: no JSON .*; expected one object per line"),
        ("in.jsonl", b'{"text": "a"}\n[1]\n', r"line 2: found list, expected one object per line"),
        ("in.jsonl", b"[" * 100_000, r"line 1: no JSON"),
        ("in.parquet", b"PAR", r"no Parquet file"),
        ("in.csv", b"id,report\n1,a\n", r"text column\(s\) text not found; the file has: id, report\. Name the report"),
    ],
)
def test_a_damaged_table_is_refused_with_its_place_and_leaves_no_file(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    source = tmp_path / name
    source.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        label_reports(source, ["text"], "open", tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_an_unknown_ending_of_the_output_is_refused(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", ROWS)
    with pytest.raises(
        ValueError, match=r'cannot write a table of kind "\.xls"; expected .* \.csv, \.jsonl, \.parquet'
    ):
        label_reports(source, ["findings"], "open", tmp_path / "out.xls")


def test_a_text_that_no_reader_wrote_is_left_out_and_counted(tmp_path: Path) -> None:
    texts = ["no effusion or " * 80_000, "Effusion."]
    source = write_csv(tmp_path / "in.csv", [{"id": str(at), "text": text} for at, text in enumerate(texts)])
    summary = label_reports(source, ["text"], "nih14", tmp_path / "out.csv")
    assert (summary.rows, summary.empty, summary.too_long) == (2, 0, 1)
    assert [row["Effusion"] for row in read_csv(tmp_path / "out.csv")] == ["", "1"]


def test_a_sentence_without_end_is_read_in_bounded_time() -> None:
    begun = time.perf_counter()
    for words in ("no effusion or ", "lung ", "heart is ", "effusion ", "thickening of the "):
        label(words * (30_000 // len(words)), "nih14")
    assert time.perf_counter() - begun < 10


def test_rows_are_streamed(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "No effusion.\n" * 3 + '"broken', encoding="utf-8")
    with open_rows(source) as (header, rows):
        assert header == ["text"]
        assert [next(rows)["text"] for _ in range(3)] == ["No effusion."] * 3
        with pytest.raises(ValueError, match="line 5"):
            next(rows)


def test_the_command_labels_with_a_lexicon_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_csv(tmp_path / "in.csv", [{"id": "1", "text": "Silicosis. No effusion."}])
    own = tmp_path / "own.yaml"
    own.write_text("findings: {silicosis: {words: [silicosis]}}\nschemes: {dust: {Dust: [silicosis]}}\n")
    call = ["label", str(source), "--column", "text", "--lexicon", str(own), "--out", str(tmp_path / "out.csv")]
    assert main([*call, "--scheme", "dust"]) == 0
    assert read_csv(tmp_path / "out.csv") == [{"row": "0", "id": "1", "Dust": "1"}]
    assert "1 reports, 0 of them without text\n       1 present  Dust" in capsys.readouterr().out
    assert main([*call, "--scheme", "rust"]) == 1
    assert 'unknown labelling scheme "rust"; expected one of open,' in capsys.readouterr().err


def test_the_command_spreads_labels_to_parents(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", [{"id": "1", "text": "Atelectasis."}])
    call = ["label", str(source), "--column", "text", "--scheme", "chexpert14", "--out", str(tmp_path / "out.csv")]
    assert main([*call, "--parents"]) == 0
    (made,) = read_csv(tmp_path / "out.csv")
    assert (made["Atelectasis"], made["Lung Opacity"]) == ("1", "1")
