"""From archives and reports to one catalog: what is joined, what is refused, and what a kill leaves behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import medvlm.ingest_reports
import volumes.archive
from medvlm.ingest import IngestSummary, without_path
from medvlm.ingest import ingest as ingest_with_workers
from medvlm.simulate import simulate
from reports.findings import find
from reports.messages import oru_message
from reports.store import ReportStore
from reports.tables import Columns
from volumes.catalog import Catalog
from volumes.dicom_writer import FilmTags, StudyTags, derived_uid, write_film
from volumes.instance import patient_key
from volumes.volume import VolumeError

SEED = 4
TEXT = "FINDINGS: Small left pleural effusion. No pneumothorax.\n\nIMPRESSION: Left pleural effusion."
TABLES = ("patients", "studies", "series", "instances", "refusals", "remarks", "facts", "reports", "findings")


def ingest(*given: Any, **named: Any) -> IngestSummary:
    """Reads in this process, which saves the seconds that workers take to start; they have tests of their own."""
    return ingest_with_workers(*given, **{"workers": 0, **named})


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ingest") / "sim"
    simulate(out, studies=6, seed=SEED, workers=1, trouble=True)
    return out


def _film(
    folder: Path, study: str, patient: str = "P1", accession: str = "", number: int = 1, shade: int | None = None
) -> Path:
    """One small film; the study's name becomes its UID, `shade` makes its pixels different."""
    uid = derived_uid(study)
    tags = StudyTags(uid, patient, "MUELLER^HANS", accession or f"A-{study}"[:16], date="20240102", time="101112")
    sop = derived_uid(study, number)
    shade = len(study) if shade is None else shade
    pixels = np.random.default_rng([number, shade, *study.encode()]).integers(0, 4096, (24, 20)).astype(np.uint16)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{study}-{number}.dcm"
    write_film(path, pixels, FilmTags(tags, derived_uid(study, "series"), sop, "PA", (1.0, 1.5), (2048, 4096)))
    return path


def _oru(folder: Path, name: str, text: str = TEXT, **named: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    message = oru_message(text, **{"accession": f"A-{name}", "study_uid": "", "patient_id": "P1", **named})
    (folder / f"{len(list(folder.iterdir()))}.hl7").write_text(message, newline="")


def _content(catalog: Path) -> dict[str, list[Any]]:
    db = sqlite3.connect(catalog)
    found = {table: sorted(map(repr, db.execute(f"SELECT * FROM {table}").fetchall())) for table in TABLES}
    db.close()
    return found


def _refusals(catalog: Path) -> list[tuple[str, str]]:
    with Catalog.open(catalog) as opened:
        return sorted((refusal.kind, refusal.reason) for refusal in opened.refusals())


def test_a_hospital_arrives_whole_and_every_planted_fault_is_named(hospital, tmp_path) -> None:
    out = tmp_path / "catalog.db"
    summary = ingest([hospital / "dicom"], [hospital / "messages"], out)
    truth = [json.loads(line) for line in (hospital / "truth" / "studies.jsonl").read_text().splitlines()]
    planted = json.loads((hospital / "truth" / "trouble.json").read_text())
    assert _refusals(out) == sorted(("refusal", one["reason"]) for one in planted)
    assert (summary.studies, summary.reports_matched, summary.reports_read) == (8, 6, 8)  # two share an accession
    assert (summary.refusals, summary.repairs, summary.files_read) == (4, 0, 26)
    assert summary.modalities == {"xray": 8}
    with Catalog.open(out) as catalog:
        store = ReportStore(catalog.connection)
        rows = {row.study_uid: row for row in catalog.studies(modality="xray")}
        for line in truth:
            row, report = rows[line["study_uid"]], store.get(line["study_uid"])
            assert (row.patient_key, row.accession) == (line["patient_key"], line["accession"])
            assert report is not None
            assert " ".join(report.text.split()) == " ".join(line["report"].split())
            assert report.matched_by == "study_uid"
            assert report.findings
            assert report.impression
            assert store.findings(report.report_id) == find(report.text)
            assert [s.view for s in catalog.series(line["study_uid"])] in (["PA", "LATERAL"], ["LATERAL", "PA"])
        two_visits = [line for line in truth if line["visit"] == 1]
        for line in two_visits:
            assert rows[line["study_uid"]].split == rows[line["prior_study_uid"]].split
        assert two_visits
        assert store.counts()["reports"] == 6
        assert catalog.study(truth[0]["study_uid"]).accession == truth[0]["accession"]


def test_a_second_call_opens_no_file_and_changes_nothing(hospital, tmp_path, monkeypatch) -> None:
    out = tmp_path / "catalog.db"
    ingest([hospital / "dicom"], [hospital / "messages"], out)
    before = _content(out)

    def closed(*_: object) -> None:
        raise AssertionError("an unchanged file was read again")

    monkeypatch.setattr(volumes.archive, "read_location", closed)
    monkeypatch.setattr("medvlm.ingest_read.read_location", closed)
    monkeypatch.setattr(medvlm.ingest_reports, "read_reports", closed)
    monkeypatch.setattr(medvlm.ingest_reports, "find", closed)
    summary = ingest([hospital / "dicom"], [hospital / "messages"], out)
    assert (summary.files_read, summary.files_unchanged) == (0, 26)
    assert _content(out) == before


def test_new_changed_and_removed_files_are_followed(tmp_path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "catalog.db"
    kept, removed = _film(archive, "kept"), _film(archive, "removed", "P2")
    _oru(tmp_path / "hl7", "removed", patient_id="P2")
    ingest([archive], [tmp_path / "hl7"], out)
    removed.unlink()
    _film(archive, "new", "P3")
    _film(archive, "kept", "P4")
    os.utime(kept, (1, 1))
    summary = ingest([archive], [tmp_path / "hl7"], out)
    assert (summary.files_read, summary.files_unchanged, summary.files_gone) == (2, 0, 1)
    assert (summary.studies, summary.patients, summary.reports_matched) == (2, 2, 0)
    assert _refusals(out) == [("refusal", "no-study")]
    fresh = tmp_path / "fresh.db"
    ingest([archive], [tmp_path / "hl7"], fresh)
    assert _content(fresh) == _content(out)


def test_another_archive_leaves_the_first_in_the_catalog(tmp_path) -> None:
    out = tmp_path / "catalog.db"
    _film(tmp_path / "a", "one")
    _film(tmp_path / "b", "two")
    _oru(tmp_path / "hl7", "one")
    _oru(tmp_path / "more", "two")
    ingest([tmp_path / "a"], [tmp_path / "hl7"], out)
    summary = ingest([tmp_path / "b"], [tmp_path / "more"], out)
    assert (summary.studies, summary.reports_matched, summary.files_gone) == (2, 2, 0)


def _killed_in(target: str, calls: int) -> Callable[[pytest.MonkeyPatch], None]:
    """A patch that ends the process, as kill -9 does, when `target` is called for the n-th time."""

    def arm(patch: pytest.MonkeyPatch) -> None:
        module, _, name = target.rpartition(".")
        owner = Catalog if module == "Catalog" else __import__(module, fromlist=[name])
        real, left = getattr(owner, name), iter(range(calls - 1))

        def deadly(*args: Any, **named: Any) -> Any:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)

        patch.setattr(owner, name, deadly)

    return arm


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to kill a process in the middle of ingest")
@pytest.mark.parametrize(
    ("target", "calls"),
    [
        ("medvlm.ingest_read.read_location", 9),
        ("medvlm.ingest_files.write_page", 3),
        ("medvlm.ingest_files._forget", 1),
        ("Catalog.add_study", 1),
        ("Catalog.add_study", 5),
        ("medvlm.ingest_reports._match", 3),
        ("medvlm.ingest_reports._report_row", 4),
        ("medvlm.ingest_reports.find", 5),
        ("Catalog.assign_splits", 1),
        ("Catalog.finish_run", 1),
    ],
)
def test_after_kill_9_the_next_call_ends_with_the_same_catalog(hospital, tmp_path, monkeypatch, target, calls) -> None:
    monkeypatch.setattr("medvlm.ingest_files._BATCH", 4)
    monkeypatch.setattr("medvlm.ingest_reports._BATCH", 2)
    given = ([hospital / "dicom"], [hospital / "messages"])
    whole, out = tmp_path / "whole.db", tmp_path / "catalog.db"
    ingest(*given, whole)
    child = os.fork()
    if child == 0:
        try:
            with pytest.MonkeyPatch.context() as patch:
                _killed_in(target, calls)(patch)
                ingest(*given, out)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    ingest(*given, out)
    assert _content(out) == _content(whole)


def test_reports_are_joined_by_uid_then_accession_then_patient(tmp_path) -> None:
    archive, hl7, out = tmp_path / "archive", tmp_path / "hl7", tmp_path / "catalog.db"
    _film(archive, "uid")
    _film(archive, "accession")
    _film(archive, "twin1", "P1", "A-TWIN")
    _film(archive, "twin2", "P2", "A-TWIN")
    _oru(hl7, "uid", accession="A-OTHER", study_uid=derived_uid("uid"))
    _oru(hl7, "accession")
    _oru(hl7, "twin", accession="A-TWIN", patient_id="P2")
    summary = ingest([archive], [hl7], out)
    assert summary.reports_matched == 3
    with Catalog.open(out) as catalog:
        store = ReportStore(catalog.connection)
        joined = {row.study_uid: row.matched_by for row in store.all()}
    assert joined == {
        derived_uid("uid"): "study_uid",
        derived_uid("accession"): "accession",
        derived_uid("twin2"): "accession and patient",
    }


def test_nothing_is_joined_where_it_is_not_clear(tmp_path) -> None:
    archive, hl7, out = tmp_path / "archive", tmp_path / "hl7", tmp_path / "catalog.db"
    _film(archive, "twin1", "P1", "A-TWIN")
    _film(archive, "twin2", "P1", "A-TWIN")
    _film(archive, "other", "P1")
    _oru(hl7, "twin", accession="A-TWIN")
    _oru(hl7, "other", patient_id="P9")
    _oru(hl7, "nobody")
    assert ingest([archive], [hl7], out).reports_matched == 0
    with Catalog.open(out) as catalog:
        told = {refusal.reason: refusal.message for refusal in catalog.refusals()}
    assert set(told) == {"ambiguous-accession", "other-patient", "no-study"}
    assert "2 studies have this accession number" in told["ambiguous-accession"]
    assert derived_uid("twin1") in told["ambiguous-accession"]
    assert (
        f"about the patient {patient_key('P9')}, study {derived_uid('other')} is of {patient_key('P1')}"
        in (told["other-patient"])
    )
    assert "P9" not in told["other-patient"].replace(patient_key("P9"), "")


def test_of_several_reports_the_corrected_counts_and_equals_are_refused(tmp_path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "catalog.db"
    for name in ("mended", "unclear", "gone", "same"):
        _film(archive, name)
    # read from two places, so that the reader of messages cannot compare them
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, status, text in ((first, "final", "Old."), (second, "corrected", TEXT)):
        _oru(folder, "mended", text, accession=f"X-{folder.name}", study_uid=derived_uid("mended"), status=status)
    for folder, text in ((first, "No effusion."), (second, "Large effusion.")):
        _oru(folder, "unclear", text, accession=f"Y-{folder.name}", study_uid=derived_uid("unclear"))
        _oru(folder, "same", TEXT, accession=f"S-{folder.name}", study_uid=derived_uid("same"))
    _oru(first, "gone", "Wrong patient.", accession="Z", study_uid=derived_uid("gone"), status="cancelled")
    ingest([archive], [first, second], out)
    with Catalog.open(out) as catalog:
        reports = {row.study_uid: row.text for row in ReportStore(catalog.connection).all()}
    assert set(reports) == {derived_uid("mended"), derived_uid("same")}
    assert "pleural effusion" in reports[derived_uid("mended")]
    assert _refusals(out) == [
        ("refusal", "several-reports"),
        ("refusal", "several-reports"),
        ("refusal", "withdrawn"),
        ("repair", "duplicate-report"),
        ("repair", "superseded"),
    ]


def test_equal_copies_are_dropped_and_unequal_ones_are_all_refused(tmp_path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "catalog.db"
    path = _film(archive, "copied")
    shutil.copy(path, archive / "copy.dcm")
    _film(archive / "x", "forged", shade=1)
    _film(archive / "y", "forged", shade=2)
    _film(archive, "forged", number=2)
    ingest([archive], [], out)
    assert _refusals(out) == [("refusal", "duplicate-uid"), ("refusal", "duplicate-uid"), ("repair", "duplicate-file")]
    with Catalog.open(out) as catalog:
        assert [len(s.paths) for s in catalog.series(derived_uid("copied"))] == [1]
        assert [s.sop_uids for s in catalog.series(derived_uid("forged"))] == [(derived_uid("forged", 2),)]
        assert not [remark for remark in catalog.audit() if "SOP instance" in remark]


def test_a_study_without_a_readable_series_is_refused_and_its_report_says_so(tmp_path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "catalog.db"
    _film(archive / "x", "forged", shade=1)
    _film(archive / "y", "forged", shade=2)
    _oru(tmp_path / "hl7", "forged", study_uid=derived_uid("forged"))
    summary = ingest([archive], [tmp_path / "hl7"], out)
    assert (summary.studies, summary.patients) == (0, 0)
    assert _refusals(out)[-1] == ("refusal", "study-refused")


def test_a_zip_is_an_archive_like_a_folder(tmp_path) -> None:
    paths = [_film(tmp_path / "archive", name, name) for name in ("one", "two")]
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as packed:
        for path in paths:
            packed.write(path, f"MUELLER^HANS/{path.name}")
    summary = ingest([tmp_path / "archive.zip"], [], tmp_path / "catalog.db")
    assert (summary.studies, summary.images, summary.refusals) == (2, 2, 0)
    (tmp_path / "archive.zip").unlink()
    _film(tmp_path / "rest", "three")
    shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "rest")
    summary = ingest([tmp_path / "archive.zip"], [], tmp_path / "catalog.db")
    assert (summary.studies, summary.files_read, summary.files_gone) == (1, 1, 2)


def _table(folder: Path, rows: list[dict[str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        name = row["file"]
        if name and "missing" not in name:
            shade = np.random.default_rng(list(name.encode())).integers(0, 255, (30, 26)).astype(np.uint8)
            Image.fromarray(shade).save(folder / name)
    path = folder / "films.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


ROWS = [
    {"file": "a.png", "patient_key": "p1", "view": "PA", "text": "No pneumothorax."},
    {"file": "b.png", "patient_key": "p1", "view": "AP Supine", "text": ""},
    {"file": "c.jpg", "patient_key": "p2", "view": "L", "text": "Left pleural effusion."},
    {"file": "missing.png", "patient_key": "p3", "view": "PA", "text": "Lost."},
    {"file": "", "patient_key": "p3", "view": "PA", "text": "Nothing."},
]


@pytest.mark.parametrize("given", ["table", "table and folder"])
def test_a_table_of_films_gives_one_study_per_row(tmp_path, given) -> None:
    table, out = _table(tmp_path / "films", ROWS), tmp_path / "catalog.db"
    archives = [table] if given == "table" else [table.parent]
    summary = ingest(archives, [table], out)
    assert (summary.studies, summary.patients, summary.reports_matched) == (3, 2, 2)
    reasons = [reason for _, reason in _refusals(out) if reason != "not-an-image"]  # the table itself, in its folder
    assert reasons == ["missing-file", "no-image"]
    with Catalog.open(out) as catalog:
        store = ReportStore(catalog.connection)
        found = {}
        for row in catalog.studies(modality="xray"):
            (series,) = catalog.series(row.study_uid)
            report = store.get(row.study_uid)
            found[Path(series.paths[0]).name] = (row.patient_key, series.view, report.text if report else None)
            assert catalog.study(row.study_uid).series[0].read().shape == (30, 26)
            assert report is None or report.matched_by == "table row"
    assert found == {
        "a.png": (patient_key("p1"), "PA", "No pneumothorax."),
        "b.png": (patient_key("p1"), "AP", None),
        "c.jpg": (patient_key("p2"), "LATERAL", "Left pleural effusion."),
    }
    again = ingest(archives, [table], out)
    assert (again.files_read, again.studies) == (0, 3)


def test_a_study_column_joins_films_and_other_columns_can_be_named(tmp_path) -> None:
    rows = [
        {"file": "a.png", "who": "p1", "study": "7", "note": "Left pleural effusion."},
        {"file": "b.png", "who": "p1", "study": "7", "note": ""},
        {"file": "c.png", "who": "p2", "study": "8", "note": ""},
    ]
    table = _table(tmp_path / "films", rows)
    columns = Columns(text=("note",), patient="who")
    summary = ingest([table], [], tmp_path / "catalog.db", columns=columns)
    assert (summary.studies, summary.patients, summary.images, summary.reports_matched) == (2, 2, 3, 1)


def test_rows_that_contradict_each_other_are_named(tmp_path) -> None:
    table = _table(tmp_path / "films", [ROWS[0], {**ROWS[0], "patient_key": "p9", "text": ""}])
    out = tmp_path / "catalog.db"
    assert ingest([table], [], out).studies == 1
    assert _refusals(out) == [("refusal", "conflicting-row")]


def test_one_picture_of_two_patients_is_refused(tmp_path) -> None:
    table = _table(tmp_path / "films", ROWS[:3])
    shutil.copy(table.parent / "a.png", table.parent / "c.jpg")
    out = tmp_path / "catalog.db"
    summary = ingest([table], [], out)
    assert (summary.studies, summary.reports_matched) == (1, 0)
    assert _refusals(out) == [("refusal", "duplicate-uid")] * 2 + [("refusal", "study-refused")] * 2


def test_no_name_and_no_path_leaves_the_catalog(tmp_path, capsys) -> None:
    archive = tmp_path / "MUELLER^HANS" / "1960"
    path = _film(archive, "one")
    (archive / "MUELLER report.doc").write_bytes(b"x" * 400)
    path.with_name("short.dcm").write_bytes(path.read_bytes()[:300])
    _film(archive, "two")
    _oru(tmp_path / "hl7", "nobody", patient_name="MUELLER^HANS")
    summary = ingest([archive], [tmp_path / "hl7"], tmp_path / "catalog.db")
    printed = capsys.readouterr()
    said = summary.text() + json.dumps(summary.to_dict()) + printed.out + printed.err
    assert summary.refusals >= 2
    assert "MUELLER" not in said
    assert str(tmp_path) not in said
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        details = catalog.connection.execute("SELECT command || detail FROM runs").fetchall()
        assert "MUELLER" not in repr(details)
        for table in ("studies", "patients", "series", "reports", "findings"):
            assert "MUELLER" not in repr(catalog.connection.execute(f"SELECT * FROM {table}").fetchall())


def test_without_path_keeps_uids_and_drops_names() -> None:
    message = "/data/MUELLER^HANS/1.2.840/x.dcm: series 1.2.840 ends early, see /data/MUELLER^HANS/1.2.840"
    assert without_path(message, "/data/MUELLER^HANS/1.2.840/x.dcm") == "…: series 1.2.840 ends early, see …"
    told = without_path("zip member 'HANS/1.dcm' is encrypted", "/data/a.zip!/HANS/1.dcm")
    assert told == "zip member '…' is encrypted"


def test_problems_stand_worst_first(tmp_path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "catalog.db"
    path = _film(archive, "one", "P1")
    shutil.copy(path, archive / "again.dcm")
    (archive / "notes.txt").write_text("nothing")
    (archive / "more.txt").write_text("nothing at all")
    _oru(tmp_path / "hl7", "one", patient_id="P2")
    summary = ingest([archive], [tmp_path / "hl7"], out)
    assert [p.reason for p in summary.problems] == ["other-patient", "not-an-image", "duplicate-file"]
    assert [p.count for p in summary.problems] == [1, 2, 1]
    assert "other-patient x 1" in summary.text()


def test_calls_that_make_no_sense_are_refused(tmp_path) -> None:
    out = tmp_path / "catalog.db"
    with pytest.raises(VolumeError, match=r"neither archives nor reports were given"):
        ingest([], [], out)
    with pytest.raises(VolumeError, match=r"no such file or folder: nowhere, nothing; check the paths"):
        ingest([tmp_path / "nowhere"], [tmp_path / "nothing"], out)
    _film(tmp_path / "archive", "one")
    ingest([tmp_path / "archive"], [], out)
    with pytest.raises(VolumeError, match=r"catalog\.db is there already; continue it with resume"):
        ingest([tmp_path / "archive"], [], out, resume=False)
    other = tmp_path / "other.db"
    other.write_bytes(b"this is no database, and it must stay as it is" * 50)
    with pytest.raises(VolumeError, match=r"not a catalog"):
        ingest([tmp_path / "archive"], [], other)
    assert other.read_bytes().startswith(b"this is no database")


def test_many_files_are_read_by_processes_to_the_same_catalog(tmp_path, monkeypatch) -> None:
    for n in range(12):
        _film(tmp_path / "archive", f"study{n}", f"P{n}")
    ingest([tmp_path / "archive"], [], tmp_path / "one.db", workers=1)
    monkeypatch.setattr("medvlm.ingest_engine._CHUNK", 2)
    ingest([tmp_path / "archive"], [], tmp_path / "two.db", workers=2)
    assert _content(tmp_path / "one.db") == _content(tmp_path / "two.db")


def test_real_dicom_series(real_data, tmp_path) -> None:
    names = ("liver_ct3slice_with_seg_dcmqi", "ood_fruit_1007_ct_mr_basic_text_sr", "breast_mr_UCSF-BR-06")
    zips = [real_data / "dicom_series" / f"{name}.zip" for name in names]
    summary = ingest(zips, [], tmp_path / "catalog.db")
    assert summary.studies >= 3
    assert {"ct", "mr"} <= set(summary.modalities)
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        for row in catalog.studies(modality="mr"):
            assert [s for s in catalog.series(row.study_uid) if s.kind == "volume"]
        known = catalog.connection.execute("SELECT SUM(files) FROM ingest_folders").fetchone()[0]
    assert summary.files_read == known
    again = ingest(zips, [], tmp_path / "catalog.db")
    assert (again.files_read, again.studies, again.repairs) == (0, summary.studies, summary.repairs)


def test_a_real_series_with_a_missing_slice_is_refused(real_data, tmp_path) -> None:
    folder = real_data / "dicom_odd" / "geometry"
    summary = ingest([folder], [], tmp_path / "catalog.db")
    told = [p for p in summary.problems if p.reason == "missing-slice"]
    assert told
    assert "5.00 to 10.00 mm apart" in told[0].example


def test_real_nifti(real_data, tmp_path) -> None:
    folder = real_data / "nifti" / "orientation_same_brain"
    summary = ingest([folder], [], tmp_path / "catalog.db", unit="raw", modality="MR")
    assert summary.modalities.get("mr", 0) == summary.studies > 0


def test_real_films_with_text(real_data, tmp_path) -> None:
    table, out = real_data / "cxr" / "cxr.csv", tmp_path / "catalog.db"
    summary = ingest([table], [table], out)
    assert summary.files_read == 298
    # ten pictures are filed under two patients each time; they and their texts are refused
    assert (summary.studies, summary.reports_matched, summary.refusals) == (288, 168, 20)
    assert summary.findings > 200
    with Catalog.open(out) as catalog:
        assert not [remark for remark in catalog.audit() if "several splits" in remark]
        views = {series.view for row in catalog.studies() for series in catalog.series(row.study_uid)}
    assert {"PA", "AP", "LATERAL"} <= views
