"""The catalog: written study by study, the same twice, split by patient, and honest about doubles."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from written_dicom import STUDY_UID, film, write, write_ct

from volumes.archive import crawl
from volumes.catalog import Catalog, read_series
from volumes.instance import InstanceHeader, Refusal
from volumes.splits import split_of
from volumes.study import Study, group_studies
from volumes.volume import Film, StudyError, Volume, VolumeError


def studies_in(folder: Path) -> list[Study]:
    return group_studies(h for h in crawl([folder]) if isinstance(h, InstanceHeader))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.create(tmp_path / "out" / "catalog.sqlite")


def dump(catalog: Catalog) -> list[str]:
    return sorted(catalog.connection.iterdump())


def test_a_study_comes_back_as_it_went_in(catalog: Catalog, tmp_path: Path) -> None:
    write_ct(tmp_path / "a")
    (study,) = studies_in(tmp_path / "a")

    catalog.add_study(study)

    (row,) = catalog.studies()
    assert (row.study_uid, row.modality, row.accession, row.split) == (STUDY_UID, "ct", "ACC7", None)
    (series,) = catalog.series(STUDY_UID)
    assert (series.kind, series.n_instances, len(series.paths)) == ("volume", 5, 5)
    again = catalog.study(STUDY_UID).main_series().read()
    other = series.read()
    first = study.main_series().read()
    assert isinstance(again, Volume)
    assert isinstance(other, Volume)
    assert isinstance(first, Volume)
    assert np.array_equal(again.voxels, first.voxels)
    assert np.array_equal(other.voxels, first.voxels)


def test_adding_twice_changes_nothing(catalog: Catalog, tmp_path: Path) -> None:
    write_ct(tmp_path / "a")
    (study,) = studies_in(tmp_path / "a")
    catalog.add_study(study)
    before = dump(catalog)

    catalog.add_study(study)
    catalog.add_refusal(Refusal("x", "not-an-image", "why"))
    catalog.add_refusal(Refusal("x", "not-an-image", "why"))

    assert [line for line in dump(catalog) if "not-an-image" not in line] == before
    assert [(r.kind, r.reason) for r in catalog.refusals()] == [("refusal", "not-an-image")]


def test_a_later_film_joins_its_study(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.dcm", film())
    catalog.add_study(studies_in(tmp_path / "a")[0])
    write(tmp_path / "a" / "2.dcm", film(ViewPosition="LL"))

    catalog.add_study(studies_in(tmp_path / "a")[0])

    assert [(s.view, s.n_instances) for s in catalog.series(STUDY_UID)] == [("PA", 1), ("LATERAL", 1)]
    assert catalog.studies(modality="xray")[0].study_uid == STUDY_UID
    row = catalog.series(STUDY_UID)[1]
    lateral = read_series(row.paths, row.series_uid)
    assert isinstance(lateral, Film)
    assert lateral.view == "LATERAL"


def test_no_name_and_no_id_is_stored(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.dcm", film(SeriesDescription="portable"))
    catalog.add_study(studies_in(tmp_path / "a")[0])

    text = "\n".join(dump(catalog))

    assert "Secret" not in text
    assert "MRN-0042" not in text


def test_a_failure_inside_a_study_leaves_no_trace(catalog: Catalog, tmp_path: Path) -> None:
    write_ct(tmp_path / "a")
    (study,) = studies_in(tmp_path / "a")
    before = dump(catalog)
    catalog.connection.execute(
        "CREATE TEMP TRIGGER stop BEFORE INSERT ON instances WHEN new.place = 3"
        " BEGIN SELECT RAISE(ABORT, 'power cut'); END"
    )

    with pytest.raises(sqlite3.IntegrityError, match="power cut"):
        catalog.add_study(study)

    assert dump(catalog) == before


def test_a_study_under_another_patient_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.dcm", film())
    write(tmp_path / "b" / "1.dcm", film(PatientID="MRN-0043"))
    catalog.add_study(studies_in(tmp_path / "a")[0])

    with pytest.raises(StudyError, match="one study belongs to one patient"):
        catalog.add_study(studies_in(tmp_path / "b")[0])


def fill(catalog: Catalog, folder: Path, patients: int) -> None:
    for patient in range(patients):
        for visit in range(2):
            uid = f"1.2.826.0.1.9.{patient + 1}.{visit + 1}"
            pixels = np.full((6, 5), patient * 10 + visit, np.uint16).tobytes()
            tags = {"PatientID": f"P{patient}", "StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1"}
            tags["AccessionNumber"] = f"A{patient}-{visit}"
            write(folder / f"{uid}.dcm", film(**tags, PixelData=pixels))
    for study in studies_in(folder):
        catalog.add_study(study)


def test_splits_keep_patients_together_and_do_not_change(catalog: Catalog, tmp_path: Path) -> None:
    fill(catalog, tmp_path / "a", 40)

    counts = catalog.assign_splits((0.5, 0.25, 0.25), seed=3)
    first = {row.study_uid: row.split for row in catalog.studies()}

    assert sum(counts.values()) == 80
    assert min(counts.values()) > 0
    assert all(count % 2 == 0 for count in counts.values())
    assert len(catalog.studies(split="train")) == counts["train"]
    catalog.assign_splits((0.5, 0.25, 0.25), seed=3)
    assert {row.study_uid: row.split for row in catalog.studies()} == first
    assert catalog.audit() == []
    catalog.assign_splits((0.5, 0.25, 0.25), seed=4)
    assert {row.study_uid: row.split for row in catalog.studies()} != first


def test_the_share_of_a_split_is_what_was_asked() -> None:
    keys = [f"{n:012x}" for n in range(4000)]
    shares = [
        sum(split_of(k, (0.8, 0.1, 0.1), 0) == name for k in keys) / 4000 for name in ("train", "validation", "test")
    ]

    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_a_new_study_of_a_known_patient_takes_the_patients_split(catalog: Catalog, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.dcm", film())
    catalog.add_study(studies_in(tmp_path / "a")[0])
    catalog.assign_splits((0.0, 1.0, 0.0))
    write(tmp_path / "b" / "1.dcm", film(StudyInstanceUID="1.2.826.0.1.9.5", SeriesInstanceUID="1.2.826.0.1.9.5.1"))

    catalog.add_study(studies_in(tmp_path / "b")[0])

    assert [row.split for row in catalog.studies()] == ["validation", "validation"]


def test_fractions_that_do_not_add_up_are_refused(catalog: Catalog) -> None:
    with pytest.raises(VolumeError, match=r"fractions are \(0\.8, 0\.1, 0\.2\); expected three that add up to 1"):
        catalog.assign_splits((0.8, 0.1, 0.2))


def test_the_audit_finds_shared_patients_and_one_image_twice(catalog: Catalog, tmp_path: Path) -> None:
    fill(catalog, tmp_path / "a", 2)
    twin = {"PatientID": "P9", "StudyInstanceUID": "1.2.826.0.1.9.9.9", "SeriesInstanceUID": "1.2.826.0.1.9.9.9.1"}
    write(tmp_path / "b" / "1.dcm", film(**twin, PixelData=np.full((6, 5), 10, np.uint16).tobytes()))
    catalog.add_study(studies_in(tmp_path / "b")[0])
    assert any("5 of 5 studies have no split" in line for line in catalog.audit())
    catalog.assign_splits()
    with catalog.transaction() as db:
        db.execute("UPDATE studies SET split = 'test' WHERE study_uid = '1.2.826.0.1.9.1.1'")
        db.execute("UPDATE studies SET split = 'train' WHERE study_uid = '1.2.826.0.1.9.1.2'")

    told = catalog.audit()

    assert any("studies in several splits" in line for line in told)
    assert any(line.startswith("identical pixels") and "2 files, 2 patient(s)" in line for line in told)


def test_a_vanished_or_exchanged_file_is_told(catalog: Catalog, tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "1.dcm", film())
    catalog.add_study(studies_in(tmp_path / "a")[0])
    write(path, film())  # another instance under the same name

    with pytest.raises(StudyError, match=r"no longer holds instance .* Ingest the archive again"):
        catalog.study(STUDY_UID)
    path.unlink()
    with pytest.raises(StudyError, match="the file cannot be read"):
        catalog.study(STUDY_UID)


def test_a_second_process_may_read_while_one_writes(catalog: Catalog, tmp_path: Path) -> None:
    write_ct(tmp_path / "a")
    with catalog.transaction():
        catalog.add_study(studies_in(tmp_path / "a")[0])
        with Catalog.open(catalog.path) as other:
            assert other.studies() == []
    with Catalog.open(catalog.path) as other:
        assert len(other.studies()) == 1


def test_a_wrong_file_is_no_catalog(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("this is text, and long enough to be mistaken for a header " * 20)

    with pytest.raises(VolumeError, match="not a catalog"):
        Catalog.open(tmp_path / "x")
    with pytest.raises(VolumeError, match="no catalog there; `medvlm ingest` makes one"):
        Catalog.open(tmp_path / "absent")


def test_an_interrupted_run_can_be_told_from_a_finished_one(catalog: Catalog) -> None:
    first, second = catalog.start_run("ingest"), catalog.start_run("ingest")
    catalog.finish_run(second, "3 studies")

    rows = dict(catalog.connection.execute("SELECT run_id, finished IS NULL FROM runs").fetchall())
    assert rows == {first: 1, second: 0}
