"""The audit: every planted contradiction is named, near-duplicates are found and nothing else is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from linear_field import LATER_HU, enhanced, plane, positions, rotated, save
from PIL import Image
from pydicom.uid import RLELossless
from written_dicom import ct_slice, film, image, write

from medvlm.ingest import IngestSummary
from medvlm.ingest import ingest as ingest_with_workers
from volumes.catalog import Catalog
from volumes.instance import conflict_digest
from volumes.likeness import MIN_CORRELATION, MOST_BITS, perceptual_hash, thumbnail

STUDY = "1.2.826.0.1.9.7"


def ingest(*given: Any, **named: Any) -> IngestSummary:
    return ingest_with_workers(*given, **{"workers": 0, **named})


def told(summary: IngestSummary, kind: str) -> str:
    """The one remark that begins like this, out of the audit."""
    (found,) = [text for text in summary.audit if kind in text]
    return found


def one_film(folder: Path, study: int, **tags: Any) -> Path:
    """A film of a study and patient of its own, with its own pixels."""
    uid = f"{STUDY}.{study}"
    own = {
        "StudyInstanceUID": uid,
        "SeriesInstanceUID": f"{uid}.1",
        "PatientID": f"P{study}",
        "AccessionNumber": f"A{study}",
        "PixelData": np.random.default_rng(study).integers(0, 4096, 30).astype(np.uint16).tobytes(),
    }
    return write(folder / f"{study}.dcm", film(**{**own, **tags}))


def test_one_patient_with_two_birth_dates_and_sexes_is_named_without_either(tmp_path: Path) -> None:
    one_film(tmp_path / "a", 1, PatientID="P1", PatientBirthDate="19600102", PatientSex="M")
    one_film(tmp_path / "a", 2, PatientID="P1", PatientBirthDate="19710304", PatientSex="F")
    one_film(tmp_path / "a", 3, PatientID="P3", PatientBirthDate="19710304", PatientSex="F")

    summary = ingest([tmp_path / "a"], [], tmp_path / "c.db")

    assert summary.audit_counts["conflicting-person"] == 2
    assert f"studies {STUDY}.1,{STUDY}.2" in told(summary, "2 different birth dates: one ID may stand for two people")
    with Catalog.open(tmp_path / "c.db") as catalog:
        facts = catalog.connection.execute("SELECT DISTINCT value FROM facts WHERE name = 'birth'").fetchall()
        everything = "\n".join(catalog.connection.iterdump())
    assert len(facts) == 3  # keyed by patient: equal dates of two patients cannot be joined
    assert "19600102" not in everything
    assert "19710304" not in everything


def test_a_conflict_digest_is_short_keyed_and_forgives_blanks() -> None:
    assert conflict_digest("P1", "m ") == conflict_digest("P1", "M")
    assert len(conflict_digest("P1", "M")) == 4
    assert conflict_digest("P1", "M") != conflict_digest("P2", "M")
    assert conflict_digest("P1", "") == ""


def test_one_accession_in_two_studies_and_one_instance_in_two_are_named(tmp_path: Path) -> None:
    one_film(tmp_path / "a", 1, AccessionNumber="SAME", SOPInstanceUID="1.2.826.0.1.9.99")
    one_film(tmp_path / "a", 2, AccessionNumber="SAME", SOPInstanceUID="1.2.826.0.1.9.99")

    summary = ingest([tmp_path / "a"], [], tmp_path / "c.db")

    assert "2 studies of 2 patient(s)" in told(summary, "one accession number")
    assert "SAME" not in summary.text()
    assert "has 2 different contents: 2 files, 2 patient(s)" in told(summary, "SOP instance 1.2.826.0.1.9.99")


def test_missing_series_images_and_numbers_are_named(tmp_path: Path) -> None:
    for number in (1, 2, 3, 6, 7):
        tags = {"NumberOfStudyRelatedSeries": 3, "NumberOfStudyRelatedInstances": 40}
        write(tmp_path / "a" / f"{number}.dcm", ct_slice(number % 4 * 2.0, InstanceNumber=number, **tags))
    mask = image(
        np.zeros((4, 4), np.uint16), "1.2.840.10008.5.1.4.1.1.66.4", "SEG", SeriesInstanceUID="1.2.826.0.1.9.5"
    )
    item = pydicom.Dataset()
    item.SeriesInstanceUID = "1.2.826.0.1.9.404"
    mask.ReferencedSeriesSequence = [item]
    write(tmp_path / "a" / "mask.dcm", mask)

    summary = ingest([tmp_path / "a"], [], tmp_path / "c.db")

    assert "should have 3 series by its own header (0020,1206), found 2" in told(summary, "(0020,1206)")
    assert "should have 40 images by its own header (0020,1208), found 6" in told(summary, "(0020,1208)")
    assert "images are numbered 1 to 7, 2 numbers are missing: 4, 5" in told(summary, "are numbered")
    assert "speaks of series 1.2.826.0.1.9.404, which is not in the catalog" in told(summary, "a report, mask")


def test_a_complete_archive_passes(tmp_path: Path) -> None:
    for study in range(1, 41):
        one_film(tmp_path / "a", study)

    summary = ingest([tmp_path / "a"], [], tmp_path / "c.db", split_fractions=(0.5, 0.25, 0.25))

    assert summary.audit == ()
    assert summary.audit_counts == {}


def test_one_file_that_holds_two_images_is_no_duplicate(tmp_path: Path) -> None:
    turn = rotated(15, -25, 40)
    slices = [plane(at, turn, (20, 28), add_hu=more) for more in (0.0, LATER_HU) for at in positions(4, turn)]
    whole = enhanced(slices)
    for number, frame in enumerate(whole.PerFrameFunctionalGroupsSequence):
        if "FrameContentSequence" not in frame:
            frame.FrameContentSequence = [pydicom.Dataset()]
        frame.FrameContentSequence[0].TemporalPositionIndex = 1 + (number >= 4)
    save(tmp_path / "a" / "one.dcm", whole)

    summary = ingest([tmp_path / "a"], [], tmp_path / "c.db")

    assert (summary.series, summary.images, summary.files_read) == (2, 1, 1)
    assert set(summary.audit_counts) <= {"empty-split"}
    with Catalog.open(tmp_path / "c.db") as catalog:
        study = catalog.study(catalog.studies()[0].study_uid)
        assert [one.n_frames for one in study.series] == [4, 4]


def test_many_examples_of_one_kind_are_cut_and_counted(tmp_path: Path) -> None:
    with Catalog.create(tmp_path / "c.db") as catalog:
        with catalog.transaction() as db:
            rows = [(f"1.2.{n}", "missing-images", f"series 1.2.{n}: ...") for n in range(130)]
            db.executemany("INSERT INTO remarks VALUES (?, ?, ?)", rows)
        found = catalog.audit()

    assert len(found) == 101
    assert found[-1] == "missing-images: 30 more of the same kind"


# ---- images that are nearly the same


def chest(seed: int, side: int = 240) -> np.ndarray:
    """Something with large shapes, other ones for each seed (H, W), 0 to 1."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0 : side - 20] / side
    total = np.zeros_like(rows)
    for _ in range(9):
        y, x, height, width, shade = *rng.uniform(0.1, 0.9, 2), *rng.uniform(0.05, 0.3, 2), rng.uniform(-1, 1)
        total += shade * np.exp(-(((rows - y) / height) ** 2) - ((columns - x) / width) ** 2)
    return (total - total.min()) / (total.max() - total.min())


def changed(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """The same image in other clothes."""
    buffer = io.BytesIO()
    Image.fromarray((pixels * 255).astype(np.uint8)).save(buffer, "JPEG", quality=30)
    yield np.asarray(Image.open(buffer)) / 255.0
    yield np.clip((pixels - 0.1) / 0.75, 0, 1)
    yield pixels**0.5
    yield pixels[::2, ::2]
    yield pixels + np.random.default_rng(1).normal(0, 0.02, pixels.shape)


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """What the search decides of two images."""
    first, second = thumbnail(one.astype(np.float32)), thumbnail(other.astype(np.float32))
    assert first is not None
    assert second is not None
    bits = (perceptual_hash(first) ^ perceptual_hash(second)).bit_count()
    return bits <= MOST_BITS and float(np.corrcoef(first.ravel(), second.ravel())[0, 1]) >= MIN_CORRELATION


def test_a_film_in_other_clothes_is_the_same_and_a_turned_or_other_one_is_not() -> None:
    for seed in range(12):
        pixels = chest(seed)
        assert all(alike(pixels, other) for other in changed(pixels))
        assert not alike(pixels, np.rot90(pixels))
        assert not alike(pixels, pixels[:, ::-1])
        assert not any(alike(pixels, chest(other)) for other in range(12, 24))


def test_blank_and_tiny_images_have_no_thumbnail() -> None:
    assert thumbnail(np.zeros((50, 40), np.float32)) is None
    assert thumbnail(np.ones((4, 4), np.float32)) is None
    assert thumbnail(np.full((50, 40), np.nan, np.float32)) is None


def _shown(folder: Path, study: int, pixels: np.ndarray) -> None:
    stored = (pixels * 4000).astype(np.uint16)
    tags = {"Rows": stored.shape[0], "Columns": stored.shape[1], "PixelData": stored.tobytes()}
    one_film(folder, study, **tags)


def test_ingest_finds_near_duplicates_when_asked(tmp_path: Path) -> None:
    for study in range(1, 7):
        _shown(tmp_path / "a", study, chest(study))
    _shown(tmp_path / "a", 7, np.clip(chest(3) * 0.8 + 0.05, 0, 1))
    _shown(tmp_path / "a", 8, np.rot90(chest(4)))

    silent = ingest([tmp_path / "a"], [], tmp_path / "c.db")
    asked = ingest_with_workers([tmp_path / "a"], [], tmp_path / "c.db", near_duplicates=True, workers=1)
    again = ingest([tmp_path / "a"], [], tmp_path / "c.db", near_duplicates=True)

    assert not [text for text in silent.audit if "look the same" in text]
    assert "correlation 1.000): 2 patient(s)" in told(asked, "look the same")
    assert f"studies {STUDY}.3,{STUDY}.7" in told(asked, "look the same")
    assert again.audit == asked.audit
    with Catalog.open(tmp_path / "c.db") as catalog:
        assert catalog.connection.execute("SELECT COUNT(*) FROM likenesses").fetchone()[0] == 8


def test_pixels_that_do_not_decode_are_named_when_asked(tmp_path: Path) -> None:
    for study in (1, 2):
        dataset = film(
            StudyInstanceUID=f"{STUDY}.{study}", SeriesInstanceUID=f"{STUDY}.{study}.1", PatientID=f"P{study}"
        )
        write(tmp_path / "a" / f"{study}.dcm", dataset, RLELossless)
    broken = tmp_path / "a" / "2.dcm"
    data = bytearray(broken.read_bytes())
    at = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xfe\xff\x00\xe0") + 8)  # the first fragment
    data[at + 8 : at + 72] = b"\xff" * 64  # the table of its segments
    broken.write_bytes(data)

    silent = ingest([tmp_path / "a"], [], tmp_path / "c.db")
    asked = ingest_with_workers([tmp_path / "a"], [], tmp_path / "c.db", verify=True, workers=1)
    again = ingest([tmp_path / "a"], [], tmp_path / "c.db", verify=True)

    assert "damaged-pixels" not in silent.audit_counts
    assert f"study {STUDY}.2, series {STUDY}.2.1: the pixels of instance" in told(asked, "cannot be decoded")
    assert again.audit == asked.audit
    with Catalog.open(tmp_path / "c.db") as catalog:
        query = "SELECT study_uid, shape, dtype, length(sha256) FROM verified WHERE reason = ''"
        assert catalog.connection.execute(query).fetchall() == [(f"{STUDY}.1", "1 6 5", "<u2", 64)]


def test_real_films_of_two_patients_are_told_apart(real_data: Path) -> None:
    with (real_data / "cxr" / "cxr.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    small = {}
    for row in rows:
        pixels = np.asarray(Image.open(real_data / "cxr" / row["file"]).convert("L"), np.float32)
        found = thumbnail(pixels)
        assert found is not None
        small[row["file"]] = (row["patient_key"], found.ravel().astype(np.float64))
    names = list(small)
    alike_pairs = np.argwhere(np.triu(np.corrcoef([small[name][1] for name in names]), 1) >= MIN_CORRELATION)
    pairs = [(names[one], names[other]) for one, other in alike_pairs]
    # these pictures are filed under two patients each in the public collections that they come from
    assert len(pairs) == 6
    assert all(float(np.abs(small[a][1] - small[b][1]).mean()) < 1.5 for a, b in pairs)
