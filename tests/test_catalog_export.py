"""The catalog on the command line: what it holds in words, and its tables as Parquet."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from written_dicom import film, write

from medvlm.catalog_export import export
from medvlm.cli import main
from medvlm.ingest import ingest
from reports.messages import oru_message
from volumes.catalog import Catalog
from volumes.volume import VolumeError


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    folder = tmp_path / "MUELLER^HANS"
    for number in range(5):
        uid = f"1.2.826.0.1.9.{number + 1}"
        tags = {"PatientID": f"P{number}", "AccessionNumber": f"A{number}", "SeriesInstanceUID": f"{uid}.1"}
        write(folder / f"{number}.dcm", film(StudyInstanceUID=uid, PixelData=bytes([number] * 60), **tags))
    (folder / "letter.txt").write_text("no image")
    text = "FINDINGS: Small left pleural effusion.\n\nIMPRESSION: Left pleural effusion."
    message = oru_message(text, accession="A1", study_uid="", patient_id="P1")
    (tmp_path / "hl7").mkdir()
    (tmp_path / "hl7" / "1.hl7").write_text(message, newline="")
    ingest([folder], [tmp_path / "hl7"], tmp_path / "c.db", workers=0)
    return tmp_path / "c.db"


def test_the_summary_counts_and_names_the_worst(catalog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "summary", str(catalog)]) == 0
    said = capsys.readouterr().out
    assert "5 studies of 5 patients (5 xray): 5 series, 5 images" in said
    assert "1 of 1 reports joined a study; 4 studies have none" in said
    assert "refusal not-an-image x 1" in said
    assert "MUELLER" not in said


def test_the_summary_as_json_with_the_digest_of_the_content(catalog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "summary", str(catalog), "--json", "--digest"]) == 0
    found = json.loads(capsys.readouterr().out)
    with Catalog.open(catalog) as opened:
        assert found["content_digest"] == opened.content_digest()
    assert (found["studies"], found["reports_matched"], found["files_read"]) == (5, 1, 0)
    assert main(["catalog", "summary", str(catalog), "--digest"]) == 0
    assert f"content {found['content_digest']}" in capsys.readouterr().out


def test_every_table_arrives_in_parquet_without_a_path(catalog: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason='pip install "medvlm-platform[parquet]"')
    monkeypatch.setattr("medvlm.catalog_export._ROWS", 2)  # several batches

    assert main(["catalog", "export", str(catalog), "--out", str(tmp_path / "out"), "--json"]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert rows["instances"] == rows["studies"] == 5
    assert rows["reports"] == rows["refusals"] == rows["runs"] == 1
    found = {name: parquet.read_table(tmp_path / "out" / f"{name}.parquet").to_pylist() for name in rows}
    with Catalog.open(catalog) as opened:
        studies = {row.study_uid: row.split for row in opened.studies()}
        sizes = dict(opened.connection.execute("SELECT sop_uid, size FROM instances"))
    assert {row["study_uid"]: row["split"] for row in found["studies"]} == studies
    assert {row["sop_uid"]: row["size"] for row in found["instances"]} == sizes
    assert "path" not in found["instances"][0]
    assert "MUELLER" not in repr(found)
    assert str(tmp_path) not in repr(found)


def test_paths_come_when_asked_for_and_nothing_is_overwritten(catalog: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason='pip install "medvlm-platform[parquet]"')
    export(catalog, tmp_path / "out", paths=True)
    paths = parquet.read_table(tmp_path / "out" / "instances.parquet").column("path").to_pylist()
    assert sorted(Path(path).name for path in paths) == [f"{n}.dcm" for n in range(5)]
    with pytest.raises(VolumeError, match=r"out holds patients, studies, .* already; name a new folder"):
        export(catalog, tmp_path / "out")


def test_a_missing_package_is_named(catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VolumeError, match=r'pip install "medvlm-platform\[parquet\]"'):
        export(catalog, tmp_path / "out")
