"""De-identification: nothing that was planted remains, and everything that describes the image does."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from deidentified import AFFINE, KEY, ct, film, outputs, run, study_tags, walk, write_key
from PIL import Image, PngImagePlugin
from planted_identifiers import (
    ENCODINGS,
    SCRIPTS,
    Planter,
    found_in,
    plant_elsewhere,
    plant_other_texts,
    plant_table,
    put,
    save,
    seen_in,
    zip_folder,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from written_dicom import write as write_dicom

from medvlm.cli import main
from volumes.archive import locations, read_bytes
from volumes.deidentify_keys import Pseudonyms
from volumes.deidentify_profile import table
from volumes.study import read_study
from volumes.volume import VolumeError

DATA = Path(__file__).parents[2] / "shared/data"
DEFLATED = "1.2.840.10008.1.2.1.99"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path)


# --- nothing remains -------------------------------------------------------------------------------------------------


def plant_archive(folder: Path, planter: Planter) -> None:
    """Films full of identifiers, two for each character set."""
    for number, (charset, script) in enumerate(SCRIPTS.items()):
        last, first = planter.word(10), planter.word(9)
        tags = study_tags(f"{last}^{first}", planter.patient())
        base = film(folder / "base.dcm", tags)
        for kind in ("table", "others"):
            dataset = pydicom.dcmread(folder / "base.dcm")
            dataset.PatientName, dataset.PatientID = f"{last}^{first}", tags.patient_id
            dataset.SOPInstanceUID = planter.uid()
            plant_table(dataset, planter) if kind == "table" else plant_other_texts(dataset, planter, last)
            plant_elsewhere(dataset, planter)
            dataset.SpecificCharacterSet = ["", charset] if "2022" in charset else charset
            native = f"{script[:2]}^{script[2:]}"
            put(dataset, 0x00101001, native, "PN")
            put(dataset, 0x00104000, f"{script} {last}", "LT")
            planter.planted += [script, script[:2] * 2]
            name = f"{planter.word()}_{planter.number()}.dcm"
            save(folder / planter.word() / name, dataset, planter, implicit=number % 2 == 1)
        assert base.PatientName == f"{last}^{first}"
    (folder / "base.dcm").unlink()


def plant_report(folder: Path, planter: Planter) -> None:
    """A structured report whose text, names, dates, codes and UIDs all name somebody."""

    def item(kind: str, **values: Any) -> Dataset:
        found = Dataset()
        found.RelationshipType, found.ValueType = "CONTAINS", kind
        found.ConceptNameCodeSequence = Sequence([code("121071", "DCM", "Finding")])
        for name, value in values.items():
            setattr(found, name, value)
        return found

    def code(value: str, scheme: str, meaning: str) -> Dataset:
        found = Dataset()
        found.CodeValue, found.CodingSchemeDesignator, found.CodeMeaning = value, scheme, meaning
        return found

    root = film(folder / "sr.dcm", study_tags(f"{planter.word()}^{planter.word()}", planter.patient()))
    for name in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        del root[name]
    last = str(root.PatientName).split("^")[0]
    root.SOPClassUID = root.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    root.Modality, root.ValueType, root.ContinuityOfContent = "SR", "CONTAINER", "SEPARATE"
    root.CompletionFlag, root.VerificationFlag = "COMPLETE", "UNVERIFIED"
    inner = item("TEXT", TextValue=f"Mr. {last} has no pneumothorax. Compared to {planter.word()} of 2019-03-04.")
    deep = item("CONTAINER", ContentSequence=Sequence([inner, item("PNAME", PersonName=planter.value("PN"))]))
    root.ContentSequence = Sequence(
        [
            item("TEXT", TextValue=f"Small left pleural effusion, {planter.word()} {planter.number()}."),
            item("PNAME", PersonName=planter.value("PN")),
            item("UIDREF", UID=planter.uid()),
            item("DATE", Date="20210405"),
            item("CODE", ConceptCodeSequence=Sequence([code(planter.word(), "99LOCAL", planter.value("LO"))])),
            deep,
        ]
    )
    save(folder / "sr.dcm", root, planter)


@pytest.mark.slow
def test_of_five_thousand_planted_identifiers_none_is_left(tmp_path: Path, key: Path) -> None:
    planter = Planter(11)
    folder = tmp_path / "archive"
    plant_archive(folder / planter.word(), planter)
    plant_report(folder, planter)
    ct_name = f"{planter.word()}^{planter.word()}"
    for path in ct(folder / "ct" / planter.word(), study_tags(ct_name, planter.patient())):
        dataset = pydicom.dcmread(path)
        plant_table(dataset, planter)
        plant_elsewhere(dataset, planter)
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        save(path, dataset, planter)
    zip_folder(folder / "ct", folder / f"{planter.word()}.zip")
    shutil.rmtree(folder / "ct")
    assert len(planter.planted) > 5000
    before = found_in_zip_and_folder(folder, planter.planted)
    assert len(before) > 0.99 * len(set(planter.planted)), "the plants are not where the search can see them"

    out = tmp_path / "out"
    audit = run(folder, out, key)
    assert audit.counts()["written"] == 14, audit.text()
    assert found_in(out, planter.planted) == {}
    known = planter.dates | {"20210405"}
    for dataset in outputs(out):
        moved = {str(e.value)[:8] for e in walk(dataset) if e.VR in ("DA", "DT") and str(e.value)[:2] == "20"}
        moved = {str(value)[:8] for value in moved if value.isdigit()}
        assert moved, "no date is left at all"
        shifts = [Pseudonyms(KEY.encode()).shift(patient) for patient in planter.patients]
        back = [{f"{datetime.date.fromisoformat(day) - shift:%Y%m%d}" for day in moved} for shift in shifts]
        assert sum(days <= known for days in back) == 1, "the dates of a file did not all move by one patient's shift"


def found_in_zip_and_folder(folder: Path, needles: list[str]) -> set[str]:
    """What a search sees in the originals: the proof that it would see it in the output."""
    found: set[str] = set()
    for location in locations([folder]):
        assert isinstance(location, str)
        data = read_bytes(location)
        for text in (location, *(data.decode(code, "ignore") for code in ENCODINGS)):
            found |= seen_in(text, needles)
    return found


# --- what describes the image stays ----------------------------------------------------------------------------------


def test_geometry_and_every_voxel_of_a_ct_are_the_same(tmp_path: Path, key: Path) -> None:
    ct(tmp_path / "in" / "Zorvath Quenby", study_tags())
    before = read_study(tmp_path / "in").series[0].read()
    run(tmp_path / "in", tmp_path / "out", key)
    after = read_study(tmp_path / "out").series[0].read()
    assert torch.equal(before.voxels, after.voxels)
    assert torch.equal(before.affine, after.affine)
    assert before.unit == after.unit == "HU"
    assert before.source.study_uid != after.source.study_uid


def test_stored_pixels_keep_their_bytes_in_every_compression(tmp_path: Path, key: Path) -> None:
    for number, syntax in enumerate(("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5")):
        dataset = film(tmp_path / "base.dcm", study_tags(), f"1.2.826.0.1.3680043.8.77.{number}")
        write_dicom(tmp_path / "in" / f"{number}.dcm", dataset, syntax)
    run(tmp_path / "in", tmp_path / "out", key)
    before = [pydicom.dcmread(path) for path in sorted((tmp_path / "in").glob("*.dcm"))]
    after = {d.file_meta.TransferSyntaxUID: d for d in outputs(tmp_path / "out")}
    for dataset in before:
        cleaned = after[dataset.file_meta.TransferSyntaxUID]
        assert cleaned.PixelData == dataset.PixelData
        assert cleaned.ImagerPixelSpacing == dataset.ImagerPixelSpacing


def test_intervals_between_studies_of_a_patient_stay_to_the_day(tmp_path: Path, key: Path) -> None:
    dates = ("20191231", "20200301", "20240229")
    for number, date in enumerate(dates):
        film(tmp_path / "in" / f"{number}.dcm", study_tags(date=date), f"1.2.826.0.1.3680043.8.77.{number}")
    film(tmp_path / "in" / "x.dcm", study_tags("Bevok^Talim", "99120-1"), "1.2.826.0.1.3680043.8.77.9")
    run(tmp_path / "in", tmp_path / "out", key)
    by_patient: dict[str, list[datetime.date]] = {}
    for dataset in outputs(tmp_path / "out"):
        assert dataset.StudyDate == dataset.AcquisitionDate == dataset.ContentDate
        assert dataset.StudyTime == "101500"
        assert dataset.PatientID == dataset.PatientName != ""
        by_patient.setdefault(dataset.PatientID, []).append(datetime.date.fromisoformat(dataset.StudyDate))
    assert sorted(map(len, by_patient.values())) == [1, 3]
    moved = sorted(max(by_patient.values(), key=len))
    given = [datetime.date.fromisoformat(date) for date in dates]
    assert [b - a for a, b in itertools.pairwise(moved)] == [given[1] - given[0], given[2] - given[1]]
    shift = given[0] - moved[0]
    assert 7 <= shift.days <= 3647
    assert shift.days % 7 == 0
    shifts = {given[0] - moved[0], datetime.date(2021, 4, 5) - min(by_patient.values(), key=len)[0]}
    assert len(shifts) == 2, "two patients moved by the same number of days"


def test_references_between_files_still_point_to_one_another(tmp_path: Path, key: Path) -> None:
    first = film(tmp_path / "in/1.dcm", study_tags())
    second = film(tmp_path / "in/2.dcm", study_tags(), "1.2.826.0.1.3680043.8.77.2")
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = first.SOPClassUID, first.SOPInstanceUID
    second.SourceImageSequence = Sequence([item])
    second.ImageComments = f"Chest compared to {first.SOPInstanceUID}"
    second.save_as(tmp_path / "in/2.dcm")
    run(tmp_path / "in", tmp_path / "out", key)
    found = {d.SOPInstanceUID: d for d in outputs(tmp_path / "out")}
    with_reference = next(d for d in found.values() if "SourceImageSequence" in d)
    named = with_reference.SourceImageSequence[0]
    assert named.ReferencedSOPInstanceUID in found
    assert named.ReferencedSOPInstanceUID != with_reference.SOPInstanceUID
    assert named.ReferencedSOPClassUID == first.SOPClassUID
    assert with_reference.ImageComments == f"Chest compared to {named.ReferencedSOPInstanceUID}"
    for dataset in found.values():
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.preamble == b"\0" * 128


def test_options_retain_what_they_name_and_say_so(tmp_path: Path, key: Path) -> None:
    dataset = film(tmp_path / "in/1.dcm", study_tags())
    dataset.PatientWeight, dataset.DeviceSerialNumber, dataset.PatientAge = "71.5", "SN 12-A", "093Y"
    dataset.save_as(tmp_path / "in/1.dcm")
    run(tmp_path / "in", tmp_path / "plain", key)
    run(tmp_path / "in", tmp_path / "kept", key, device=True, patient=True, institution=True, dates="keep", uids=True)
    (plain,), (kept,) = outputs(tmp_path / "plain"), outputs(tmp_path / "kept")
    for name in ("PatientWeight", "PatientAge", "InstitutionName", "DeviceSerialNumber", "StationName"):
        assert name not in plain or not plain[name].value, name
    assert plain.PatientSex == "" == plain.PatientBirthDate
    assert kept.PatientBirthDate == ""
    assert (kept.PatientWeight, kept.DeviceSerialNumber, kept.PatientAge) == (71.5, "SN 12-A", "090Y")
    assert (kept.PatientSex, kept.StationName, kept.StudyDate) == ("F", "STATION7", "20210405")
    assert kept.InstitutionName == "General Hospital of", "the patient's own name leaves a retained value too"
    assert kept.SOPInstanceUID == dataset.SOPInstanceUID
    assert plain.LongitudinalTemporalInformationModified == "MODIFIED"
    assert kept.LongitudinalTemporalInformationModified == "UNMODIFIED"
    codes = {"113100", "113101", "113104", "113105", "113111"}
    assert {c.CodeValue for c in plain.DeidentificationMethodCodeSequence} == codes | {"113107"}
    added = {"113106", "113108", "113109", "113110", "113112"}
    assert {c.CodeValue for c in kept.DeidentificationMethodCodeSequence} == codes | added
    assert plain.PatientIdentityRemoved == "YES"


def test_dates_removed_leave_no_date_at_all(tmp_path: Path, key: Path) -> None:
    film(tmp_path / "in/1.dcm", study_tags())
    run(tmp_path / "in", tmp_path / "out", key, dates="remove")
    (dataset,) = outputs(tmp_path / "out")
    left = {e.keyword: str(e.value) for e in walk(dataset) if e.VR in ("DA", "DT") and e.value}
    assert set(left.values()) <= {"19000101"}, left
    assert dataset.StudyDate == ""
    assert dataset.LongitudinalTemporalInformationModified == "REMOVED"


def test_a_second_pass_changes_pseudonyms_uids_and_dates_and_nothing_else(tmp_path: Path, key: Path) -> None:
    planter = Planter(5)
    dataset = film(tmp_path / "in/1.dcm", study_tags())
    plant_table(dataset, planter)
    plant_elsewhere(dataset, planter)
    save(tmp_path / "in/1.dcm", dataset, planter)
    run(tmp_path / "in", tmp_path / "once", key)
    run(tmp_path / "once", tmp_path / "twice", key)
    (once,), (twice,) = outputs(tmp_path / "once"), outputs(tmp_path / "twice")
    differing = {a.VR for a, b in zip(walk(once), walk(twice), strict=True) if a.VR != "SQ" and a.value != b.value}
    assert differing == {"UI", "DA", "DT", "LO", "SH", "PN", "LT"}
    texts = {
        a.keyword
        for a, b in zip(walk(once), walk(twice), strict=True)
        if a.VR in ("LO", "SH", "PN", "LT") and a.value != b.value
    }
    assert texts == {"PatientName", "PatientID", "AccessionNumber", "StudyID", "ImageComments"}
    assert re.sub(r"[\d.-]+", "", once.ImageComments) == re.sub(r"[\d.-]+", "", twice.ImageComments)
    assert once.PixelData == twice.PixelData


# --- what cannot be cleaned does not leave ---------------------------------------------------------------------------


def test_what_cannot_be_cleaned_is_quarantined_with_a_reason(tmp_path: Path, key: Path) -> None:
    def changed(name: str, **tags: Any) -> None:
        dataset = film(tmp_path / "in" / f"{name}.dcm", study_tags(), f"1.2.826.0.1.3680043.8.77.{len(name)}")
        for tag, value in tags.items():
            setattr(dataset, tag, value)
        dataset.save_as(tmp_path / "in" / f"{name}.dcm")

    changed(
        "encapsulated-document", EncapsulatedDocument=b"%PDF-1.4 Zorvath", SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1"
    )
    changed("raw-data", SOPClassUID="1.2.840.10008.5.1.4.1.1.66")
    changed("screen-capture", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    changed("ultrasound-without-regions", Modality="US", SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1")
    changed("burned-in-text", BurnedInAnnotation="YES")
    changed("damaged-pixels", Rows=4000)
    (tmp_path / "in" / "Zorvath.txt").write_text("Zorvath^Quenby was here")
    audit = run(tmp_path / "in", tmp_path / "out", key)
    reasons = {Path(where).stem: reason for where, reason in audit.quarantined}
    assert reasons.pop("Zorvath") == "not-an-image"
    assert {name: name for name in reasons} == reasons
    assert len(reasons) == 6
    assert audit.counts()["written"] == 0
    assert found_in(tmp_path / "out", ["zorvath", "quenby"]) == {}


def test_the_audit_names_actions_and_no_value_of_the_original(tmp_path: Path, key: Path) -> None:
    film(tmp_path / "in/Zorvath/1.dcm", study_tags())
    (tmp_path / "in/Zorvath/Quenby.pdf").write_bytes(b"%PDF-1.4 4471-8823")
    run(tmp_path / "in", tmp_path / "out", key)
    lines = [json.loads(line) for line in (tmp_path / "out/audit.jsonl").read_text().splitlines()]
    assert sorted(line["status"] for line in lines) == ["quarantined", "written"]
    written = next(line for line in lines if line["status"] == "written")
    assert written["actions"]["pseudonym"] == 4
    assert written["pixels"] == "checked"
    assert (tmp_path / "out" / written["output"]).is_file()
    texts = (tmp_path / "out/audit.jsonl").read_text() + (tmp_path / "out/audit.txt").read_text()
    for value in ("Zorvath", "Quenby", "4471", "20210405", KEY, "STATION7", str(tmp_path)):
        assert value not in texts


def test_a_stopped_run_goes_on_and_another_key_is_refused(tmp_path: Path, key: Path) -> None:
    for number in range(4):
        film(tmp_path / "in" / f"{number}.dcm", study_tags(), f"1.2.826.0.1.3680043.8.77.{number}")
    run(tmp_path / "in", tmp_path / "whole", key)
    audit = tmp_path / "out/audit.jsonl"
    run(tmp_path / "in", tmp_path / "out", key)
    lines = audit.read_text().splitlines()
    for line in lines[2:]:  # killed while the third file was written
        (tmp_path / "out" / json.loads(line)["output"]).unlink()
    audit.write_text("\n".join(lines[:2]) + "\n" + lines[2][:40])
    again = run(tmp_path / "in", tmp_path / "out", key)
    assert again.skipped == 2
    names = [
        {p.relative_to(out): p.read_bytes() for p in out.rglob("*.dcm")}
        for out in (tmp_path / "whole", tmp_path / "out")
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 4
    with pytest.raises(VolumeError, match="was begun with other options"):
        run(tmp_path / "in", tmp_path / "out", key, device=True)
    with pytest.raises(VolumeError, match="was begun with another key"):
        run(tmp_path / "in", tmp_path / "out", None)


def test_without_a_key_nothing_can_be_linked_again(tmp_path: Path) -> None:
    film(tmp_path / "in/1.dcm", study_tags())
    run(tmp_path / "in", tmp_path / "a", None)
    run(tmp_path / "in", tmp_path / "b", None)
    (one,), (other,) = outputs(tmp_path / "a"), outputs(tmp_path / "b")
    assert one.PatientID != other.PatientID
    assert one.StudyInstanceUID != other.StudyInstanceUID


def test_the_output_may_not_lie_in_the_archive(tmp_path: Path, key: Path) -> None:
    film(tmp_path / "in/1.dcm", study_tags())
    with pytest.raises(VolumeError, match="lie in one another; choose a folder apart"):
        run(tmp_path / "in", tmp_path / "in/out", key)


def test_uids_that_point_out_of_the_folder_do_not(tmp_path: Path, key: Path) -> None:
    dataset = film(tmp_path / "in/1.dcm", study_tags())
    put(dataset, 0x0020000D, "../../../zorvath", "UI")
    dataset.save_as(tmp_path / "in/1.dcm")
    run(tmp_path / "in", tmp_path / "out", key, uids=True)
    assert [p.name for p in tmp_path.iterdir() if "zorvath" in p.name] == []
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 1


# --- other formats ---------------------------------------------------------------------------------------------------


def test_nifti_keeps_voxels_and_affine_and_loses_its_texts(tmp_path: Path, key: Path) -> None:
    (tmp_path / "in").mkdir()
    voxels = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    affine = np.array(AFFINE)
    for make, name in ((nib.Nifti1Image, "Zorvath.nii.gz"), (nib.Nifti2Image, "Quenby.nii")):
        image = make(voxels, affine)
        image.header["descrip"], image.header["aux_file"], image.header["intent_name"] = (
            b"Zorvath",
            b"Quenby",
            b"Zorvath",
        )
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Zorvath Quenby 4471-8823"))
        nib.save(image, tmp_path / "in" / name)
    run(tmp_path / "in", tmp_path / "out", key)
    found = sorted((tmp_path / "out/files").iterdir())
    assert [p.suffix for p in found] == [".gz", ".nii"] or [p.suffix for p in found] == [".nii", ".gz"]
    for path in found:
        image = nib.load(path)
        assert np.array_equal(np.asanyarray(image.dataobj), voxels)
        assert np.array_equal(image.affine, affine.astype(np.float32).astype(np.float64)) or np.allclose(
            image.affine, affine
        )
        assert not image.header.extensions
        data = path.read_bytes() if path.suffix == ".nii" else image.header.binaryblock
        assert b"orvath" not in data
        assert b"uenby" not in data


def test_pictures_lose_their_metadata_and_keep_their_pixels(tmp_path: Path, key: Path) -> None:
    (tmp_path / "in").mkdir()
    rows, columns = np.mgrid[0:90, 0:70]
    picture = Image.fromarray((100 + 60 * np.sin(rows / 9) * np.cos(columns / 11)).astype(np.uint8))
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "Zorvath Quenby")
    picture.save(tmp_path / "in/Zorvath.png", pnginfo=notes)
    exif = Image.Exif()
    exif[0x010E] = "Zorvath Quenby"
    picture.save(tmp_path / "in/Quenby.jpg", exif=exif, comment=b"4471-8823", quality=90)
    with (tmp_path / "in/Quenby.jpg").open("ab") as stream:
        stream.write(b"Zorvath after the end")
    run(tmp_path / "in", tmp_path / "out", key)
    assert found_in(tmp_path / "out", ["zorvath", "quenby", "4471-8823"]) == {}
    for before in (tmp_path / "in").iterdir():
        (after,) = (tmp_path / "out/files").glob(f"*{before.suffix}")
        assert np.array_equal(np.array(Image.open(before)), np.array(Image.open(after)))


# --- the standard ----------------------------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    rows = table()
    assert len(rows) == 655
    assert rows["00100010"] == {"name": "Patient's Name", "basic": "Z"}
    assert rows["00080020"]["dates"] == "C"
    assert rows["00181000"] == {"name": "Device Serial Number", "basic": "X/Z/D", "device": "K"}
    assert set("".join(row["basic"] for row in rows.values())) == set("DZXU/*")
    dates = [name for name, row in rows.items() if "dates" in row]
    assert len(dates) == 164
    assert "00100030" not in dates, "the birth date is emptied whatever happens to other dates"


def errors(path: Path) -> set[str]:
    finished = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, errors="replace", check=False)
    lines = (finished.stdout + finished.stderr).splitlines()
    return {re.sub(r"(<2\.25|<1\.|= <).*", "", line) for line in lines if line.startswith("Error")}


def compared(archive: Path, out: Path, key: Path) -> tuple[int, dict[str, set[str]]]:
    """(files compared, errors of dciodvfy in the output that the input had not)."""
    audit = run(archive, out, key)
    pseudonyms = Pseudonyms(KEY.encode())
    written = {record.digest: record.output for record in audit.records if record.output}
    new: dict[str, set[str]] = {}
    count = 0
    for location in locations([archive]):
        assert isinstance(location, str)
        data = read_bytes(location)
        digest = pseudonyms.digest("bytes", hashlib.sha256(data).hexdigest()).hex()[:24]
        if digest in written and written[digest].endswith(".dcm"):
            original = out.parent / "original.dcm"
            original.write_bytes(data)
            if (
                pydicom.dcmread(original, stop_before_pixels=True, force=True).file_meta.get("TransferSyntaxUID", "")
                == DEFLATED
            ):
                continue  # dciodvfy cannot read them
            count += 1
            added = errors(out / written[digest]) - errors(original)
            if added:
                new[location.rpartition("/")[2]] = added
    return count, new


needs_dciodvfy = pytest.mark.skipif(
    not shutil.which("dciodvfy"), reason="dciodvfy (Debian dicom3tools) is not installed"
)
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"real data are not at {DATA}")


@needs_dciodvfy
def test_dciodvfy_finds_no_new_error_in_phantoms(tmp_path: Path, key: Path) -> None:
    film(tmp_path / "in/film.dcm", study_tags())
    ct(tmp_path / "in/ct", study_tags("Bevok^Talim", "99120-1"))
    count, new = compared(tmp_path / "in", tmp_path / "out", key)
    assert count == 6
    assert new == {}


@needs_dciodvfy
@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("folder", ["rt_seg_sr", "multiframe", "transfer_syntax", "charset", "mosaic"])
def test_dciodvfy_finds_no_new_error_in_real_files(folder: str, tmp_path: Path, key: Path) -> None:
    count, new = compared(DATA / "dicom_odd" / folder, tmp_path / "out", key)
    assert count >= 1
    assert new == {}


def test_a_colour_profile_keeps_its_colours_and_loses_its_texts() -> None:
    from PIL import ImageCms

    from volumes.deidentify_icc import icc_without_texts

    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    cleaned = icc_without_texts(made)
    assert cleaned is not None
    assert b"sRGB built-in".decode().encode("utf-16-be") in made or b"sRGB built-in" in made
    assert b"b\0u\0i\0l\0t" not in cleaned
    assert b"built-in" not in cleaned
    source, target = (ImageCms.ImageCmsProfile(__import__("io").BytesIO(data)) for data in (made, cleaned))
    swatch = Image.fromarray(np.random.default_rng(1).integers(0, 255, (9, 7, 3), dtype=np.uint8))
    lab = ImageCms.createProfile("LAB")
    shown = [ImageCms.profileToProfile(swatch, profile, lab, outputMode="LAB") for profile in (source, target)]
    assert np.array_equal(np.array(shown[0]), np.array(shown[1]))
    assert icc_without_texts(b"Zorvath" * 40) is None


def test_a_number_that_names_the_patient_is_no_instance_number(tmp_path: Path, key: Path) -> None:
    dataset = film(tmp_path / "in/1.dcm", study_tags(number="44718823"))
    dataset.InstanceNumber, dataset.SeriesNumber = 44718823, 3
    dataset.save_as(tmp_path / "in/1.dcm")
    run(tmp_path / "in", tmp_path / "out", key)
    (after,) = outputs(tmp_path / "out")
    assert after.InstanceNumber != 44718823
    assert after.SeriesNumber == 3


def test_the_command_writes_the_copy_and_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film(tmp_path / "in/Zorvath/1.dcm", study_tags())
    command = ["deidentify", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--key", str(tmp_path / "new.key")]
    assert main([*command, "--workers", "1", "--retain-patient", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["written"], said["quarantined"]) == (1, 0)
    (after,) = outputs(tmp_path / "out")
    assert after.PatientSex == "F"
    assert (tmp_path / "new.key").stat().st_mode & 0o777 == 0o600
    assert main([*command, "--workers", "1", "--retain-patient"]) == 0
    assert "1 skipped" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_and_started_again_it_writes_what_one_run_writes(tmp_path: Path, key: Path) -> None:
    for number in range(30):
        film(tmp_path / "in" / f"{number}.dcm", study_tags(), f"1.2.826.0.1.3680043.8.77.{number}")
    run(tmp_path / "in", tmp_path / "whole", key)
    out, audit = tmp_path / "out", tmp_path / "out" / "audit.jsonl"
    command = ["deidentify", str(tmp_path / "in"), "--out", str(out), "--key", str(key), "--workers", "1"]
    stopped = 0
    for lines in (3, 14):
        with subprocess.Popen([sys.executable, "-m", "medvlm.cli", *command], stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not (audit.exists() and audit.read_text().count("\n") >= lines):
                time.sleep(0.01)
            process.kill()
            stopped += process.wait() < 0
    assert stopped == 2, "the run was over before it could be killed"
    assert main(command) == 0
    names = [
        {p.relative_to(place): p.read_bytes() for p in place.rglob("*.dcm")} for place in (tmp_path / "whole", out)
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 30
    assert list(out.rglob(".part-*")) == []
    inputs = [json.loads(line)["input"] for line in audit.read_text().splitlines()]
    assert len(set(inputs)) == 30
