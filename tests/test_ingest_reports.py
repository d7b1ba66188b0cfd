"""Reports in a catalog: every version is kept, matches carry rule and certainty, and the order of files is nothing."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import shutil
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_files import STUDY, cda, measurement_sr

from medvlm.ingest import ingest as ingest_with_workers
from medvlm.ingest_summary import IngestSummary
from reports.findings import find
from reports.messages import diagnostic_report, oru_message
from reports.sourced import ReportStatus
from reports.store import ReportStore, StoredVersion
from volumes.catalog import Catalog
from volumes.dicom_writer import FilmTags, StudyTags, derived_uid, write_film

TABLES = ("refusals", "reports", "findings", "report_versions", "report_measurements")
Arrival = tuple[str, bytes]


def ingest(*given: Any) -> IngestSummary:
    return ingest_with_workers(*given, workers=0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for number, name in enumerate(("one", "two", "three", "four", "five")):
        tags = StudyTags(derived_uid(name), f"P-{name}", "SIM^SIM", f"A-{name}", date="20240102", time="101112")
        pixels = np.random.default_rng(number).integers(0, 4096, (24, 20)).astype(np.uint16)
        film = FilmTags(tags, derived_uid(name, "series"), derived_uid(name, 1), "PA", (1.0, 1.5), (2048, 4096))
        write_film(folder / f"{name}.dcm", pixels, film)
    return folder


def oru(name: str, text: str, status: ReportStatus = "final", day: int = 2, **named: Any) -> Arrival:
    issued = dt.datetime(2024, 1, day, 12, tzinfo=dt.UTC)
    links = {"accession": f"A-{name}", "study_uid": derived_uid(name), "patient_id": f"P-{name}", **named}
    return f"{name}-{status}-{day}-{len(text)}.hl7", oru_message(text, status=status, issued=issued, **links).encode()


def arrivals() -> list[Arrival]:
    """Versions of four reports, and reports that join nothing."""
    wrong = oru("two", "Right effusion.", "final", 2)
    return [
        oru("one", "Nodule in the left lung?", "preliminary", 2),
        oru("one", "Nodule of 6 mm in the left lung.", "final", 3),
        oru("one", "No change to older films.", "addendum", 4),
        wrong,
        ("again.hl7", wrong[1]),
        oru("two", "Left effusion.", "corrected", 3),
        oru("three", "Pneumothorax.", "final", 2),
        oru("three", "Pneumothorax.", "cancelled", 3),
        oru("four", "No effusion.", "final", 2),
        oru("four", "Large effusion.", "final", 2),
        oru("nobody", "Nothing.", "final", 2),
        ("broken.hl7", b"MSH|"),
    ]


def write(folder: Path, found: list[Arrival]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in found:
        (folder / name).write_bytes(data)
    return folder


def content(catalog: Path) -> dict[str, list[str]]:
    db = sqlite3.connect(catalog)
    found = {table: sorted(map(repr, db.execute(f"SELECT * FROM {table}").fetchall())) for table in TABLES}
    db.close()
    return found


def history(catalog: Path, name: str) -> tuple[StoredVersion, ...]:
    with Catalog.open(catalog) as opened:
        return ReportStore(opened.connection).history(derived_uid(name))


def text(catalog: Path, name: str) -> str | None:
    with Catalog.open(catalog) as opened:
        row = ReportStore(opened.connection).get(derived_uid(name))
    return row.text if row else None


def test_the_current_text_and_every_version_are_kept(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "catalog.db"
    summary = ingest([archive], [write(tmp_path / "hl7", arrivals())], out)
    assert text(out, "one") == "Nodule of 6 mm in the left lung.\n\nADDENDUM: No change to older films."
    assert text(out, "two") == "Left effusion."
    assert (text(out, "three"), text(out, "four")) == (None, None)
    assert [(v.role, v.status, v.issued[:10], v.text) for v in history(out, "one")] == [
        ("superseded", "preliminary", "2024-01-02", "Nodule in the left lung?"),
        ("used", "final", "2024-01-03", "Nodule of 6 mm in the left lung."),
        ("appended", "addendum", "2024-01-04", "No change to older films."),
    ]
    assert [v.role for v in history(out, "two")] == ["duplicate", "superseded", "used"]
    assert [v.role for v in history(out, "three")] == ["withdrawn", "withdrawal"]
    assert [v.role for v in history(out, "four")] == ["conflicting"] * 2
    assert {(v.matched_by, v.certainty) for v in history(out, "one")} == {("study_uid", 1.0)}
    assert history(out, "five") == ()
    with Catalog.open(out) as catalog:
        store = ReportStore(catalog.connection)
        row = store.get(derived_uid("one"))
        assert row is not None
        assert store.findings(row.report_id) == find(row.text)
        reasons = sorted((r.kind, r.reason) for r in catalog.refusals() if r.reason != "repaired-report")
    assert reasons == [
        ("refusal", "damaged-message"), ("refusal", "no-study"), ("refusal", "several-reports"),
        ("refusal", "several-reports"), ("refusal", "withdrawn"), ("refusal", "withdrawn"), ("repair", "addendum"),
        ("repair", "duplicate-report"), ("repair", "superseded"), ("repair", "superseded"),
    ]  # fmt: skip
    assert (summary.reports_read, summary.reports_matched, summary.reports_refused) == (11, 2, 6)
    assert "2 of 11 reports joined a study, 6 were refused;" in summary.text()


def test_the_order_in_which_files_are_given_changes_nothing(archive: Path, tmp_path: Path) -> None:
    chance, digests = random.Random(3), set()
    files = sorted(write(tmp_path / "hl7", arrivals()).iterdir())
    for number in range(6):
        chance.shuffle(files)
        out = tmp_path / f"{number}.db"
        ingest([archive], files, out)
        with Catalog.open(out) as catalog:
            digests.add(catalog.content_digest())
    assert len(digests) == 1


def test_the_names_of_files_change_nothing_but_the_names(archive: Path, tmp_path: Path) -> None:
    chance, told, found = random.Random(4), [], [data for _, data in arrivals()]
    for number in range(4):
        chance.shuffle(found)
        out = tmp_path / f"{number}.db"
        ingest([archive], [write(tmp_path / "hl7", [(f"{n}.hl7", data) for n, data in enumerate(found)])], out)
        with Catalog.open(out) as catalog:
            store = ReportStore(catalog.connection)
            reports = [replace(row, source="") for row in store.all()]
            versions = [replace(v, source="") for row in catalog.studies() for v in store.history(row.study_uid)]
            refusals = sorted((r.kind, r.reason, r.message) for r in catalog.refusals())
        told.append((reports, versions, refusals))
    assert all(one == told[0] for one in told)


def test_versions_that_arrive_later_join_the_earlier_ones(archive: Path, tmp_path: Path) -> None:
    found, out, whole = arrivals(), tmp_path / "catalog.db", tmp_path / "whole.db"
    for count in (1, 3, 6, len(found)):
        ingest([archive], [write(tmp_path / "hl7", found[:count])], out)
    ingest([archive], [tmp_path / "hl7"], whole)
    assert content(out) == content(whole)
    ingest([archive], [write(tmp_path / "hl7", found[:1])], out)  # and what is taken away is forgotten
    assert [v.role for v in history(out, "one")] == ["used"]
    assert history(out, "two") == ()


def test_formats_meet_in_one_history(archive: Path, tmp_path: Path) -> None:
    uid = derived_uid("five")
    links = {"accession": "A-five", "study_uid": uid, "patient_id": "P-five"}
    issued = dt.datetime(2024, 1, 5, tzinfo=dt.UTC)
    resource = diagnostic_report("No nodule.", status="corrected", issued=issued, **links)  # type: ignore[arg-type]
    document = cda(extra='<relatedDocument typeCode="APND"/>').decode()
    for old, new in (("ACC1", "A-five"), ("20240102", "20240109"), (STUDY, uid), ('"P7"', '"P-five"')):
        document = document.replace(old, new)
    tags = {"StudyInstanceUID": uid, "AccessionNumber": "A-five", "PatientID": "P-five", "CompletionFlag": "PARTIAL"}
    files = [
        oru("five", "Nodule.", "final", 2),
        ("a.json", json.dumps(resource).encode()),
        ("b.xml", document.encode()),
        ("c.dcm", measurement_sr(**tags)),
    ]
    out = tmp_path / "catalog.db"
    summary = ingest([archive], [write(tmp_path / "mixed", files)], out)
    assert (summary.reports_read, summary.reports_matched) == (4, 1)
    assert [(v.status, v.role) for v in history(out, "five")] == [
        ("preliminary", "superseded"), ("final", "superseded"), ("corrected", "used"), ("addendum", "appended"),
    ]  # fmt: skip
    assert (text(out, "five") or "").startswith("No nodule.\n\nADDENDUM: FINDINGS: A nodule in the left lung.")
    with Catalog.open(out) as catalog:
        numbers = ReportStore(catalog.connection).measurements(uid)
    assert [(one.name, one.value, one.unit, one.site) for one in numbers] == [("Nodule size", 6.0, "mm", "Left lung")]
    assert len(history(out, "five")[0].measurements) == 3


def test_a_weak_match_keeps_its_rule_and_certainty(archive: Path, tmp_path: Path) -> None:
    rows = "patient_id,modality,study_date,report\nP-one,CR,20240102,Small effusion.\nP-two,CT,20240102,No effusion.\n"
    out = tmp_path / "catalog.db"
    ingest([archive], [write(tmp_path / "table", [("t.csv", rows.encode())])], out)
    (version,) = history(out, "one")
    assert (version.matched_by, version.certainty, version.text) == (
        "patient, modality and time",
        1.0,
        "Small effusion.",
    )
    with Catalog.open(out) as catalog:
        told = catalog.refusals("refusal")
    assert [r.reason for r in told] == ["no-study"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to kill a process in the middle of ingest")
@pytest.mark.parametrize(
    ("target", "calls"),
    [
        ("medvlm.ingest_reports.settle", 3),
        ("reports.store.ReportStore.set_history", 2),
        ("medvlm.ingest_reports._write", 1),
    ],
)
def test_a_kill_in_the_middle_is_made_good_by_the_next_call(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, calls: int
) -> None:
    monkeypatch.setattr("medvlm.ingest_reports._BATCH", 1)
    folder, out, whole = write(tmp_path / "hl7", arrivals()), tmp_path / "catalog.db", tmp_path / "whole.db"
    ingest([archive], [folder], whole)
    child = os.fork()
    if child == 0:
        left = iter(range(calls - 1))

        def deadly(*args: Any, **named: Any) -> Any:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)

        try:
            with pytest.MonkeyPatch.context() as patch:
                name = target.rpartition(".")[2]
                owner: Any = (
                    ReportStore if "ReportStore" in target else __import__("medvlm.ingest_reports", fromlist=[name])
                )
                real = getattr(owner, name)
                patch.setattr(owner, name, deadly)
                ingest([archive], [folder], out)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    ingest([archive], [folder], out)
    assert content(out) == content(whole)


def test_a_catalog_of_an_older_version_gets_its_history(archive: Path, tmp_path: Path) -> None:
    folder, out, whole = write(tmp_path / "hl7", arrivals()), tmp_path / "catalog.db", tmp_path / "whole.db"
    ingest([archive], [folder], out)
    with sqlite3.connect(out) as db:
        db.execute("DROP TABLE report_versions")
        db.execute("DROP TABLE report_measurements")
        db.execute("UPDATE ingest_state SET value = '1' WHERE key = 'report format'")
        db.execute("DELETE FROM conclusion")
    ingest([archive], [folder], out)
    ingest([archive], [folder], whole)
    assert content(out) == content(whole)


def test_no_name_of_a_person_is_in_any_refusal(archive: Path, tmp_path: Path) -> None:
    name = "MUELLER^HANS"
    found = [
        oru("one", "Mr. Mueller: effusion.", patient_name=name),
        oru("two", "Hans Mueller.", day=3, patient_id="X"),
    ]
    ingest([archive], [write(tmp_path / "MUELLER", found)], tmp_path / "catalog.db")
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        said = " ".join(refusal.message for refusal in catalog.refusals())
    assert "other-patient" not in said
    assert "mueller" not in said.lower()
    assert text(tmp_path / "catalog.db", "one") == "[name]: effusion."
