"""Ingest under load: killers among the files, kills at random moments, full disks, two at once, Ray, and pages."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom.fileset import FileSet
from written_dicom import ct_slice, film, write

from benchmarks.million import _pss, digest, kill_and_resume, run_ingest, series_files, template, write_archive
from medvlm.ingest import IngestSummary
from medvlm.ingest import ingest as ingest_with_workers
from medvlm.ingest_engine import LocalEngine, RayEngine, engine_of
from medvlm.ingest_ledger import cut, headers_of, write_page
from medvlm.ingest_lock import sole_writer
from medvlm.ingest_read import Found, header_line, load_header, look
from medvlm.ingest_walk import Entry, walk
from volumes.archive import crawl
from volumes.catalog import Catalog
from volumes.instance import InstanceHeader
from volumes.volume import VolumeError


def ingest(*given: Any, **named: Any) -> IngestSummary:
    return ingest_with_workers(*given, **{"workers": 0, **named})


def archive_of(folder: Path, instances: int) -> Path:
    write_archive(folder, instances)
    return folder


def content(catalog: Path) -> str:
    with Catalog.open(catalog) as opened:
        return opened.content_digest()


def poisoned(location: str) -> Found:
    """Reads like `look`, but three files are the death of their reader."""
    name = Path(location).name
    if name == "00017.dcm":
        os.abort()
    if name == "00450.dcm":
        time.sleep(3600)
    if name == "00999.dcm":
        hoard = [bytearray(64 * 2**20) for _ in range(10_000)]
        raise AssertionError(len(hoard))
    return look(location)


def test_of_a_thousand_files_with_three_killers_997_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    made = template()
    for number in range(1000):
        (folder / f"{number:05d}.dcm").write_bytes(next(series_files(number, 0, 0, 1, made)))
    engine = LocalEngine(2, poisoned, seconds=1.0, memory_bytes=512 * 2**20)

    summary = ingest([folder], [], tmp_path / "c.db", engine=engine)

    assert (summary.files_read, summary.refusals) == (1000, 3)
    with Catalog.open(tmp_path / "c.db") as catalog:
        told = {Path(refusal.where).name: (refusal.reason, refusal.message) for refusal in catalog.refusals("refusal")}
        kept = catalog.connection.execute("SELECT COUNT(*) FROM instances").fetchone()[0]
    assert {name: reason for name, (reason, _) in told.items()} == {
        "00017.dcm": "reader-died",
        "00450.dcm": "reader-timeout",
        "00999.dcm": "reader-memory",
    }
    assert "SIGABRT" in told["00017.dcm"][1]
    assert kept == 997


def test_a_killed_reader_of_an_engine_leaves_the_others_lines_in_order(tmp_path: Path) -> None:
    folder = archive_of(tmp_path / "archive", 60)
    files = sorted(map(str, folder.rglob("*.dcm")))

    found = list(LocalEngine(2, poisoned).read(files))

    assert [study for study, _ in found] == [look(file)[0] if "00017" not in file else "" for file in files]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")
def test_killed_at_random_moments_the_catalog_ends_the_same(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", 12_000)
    first = run_ingest(archive, tmp_path / "whole.db", 2)
    second = run_ingest(archive, tmp_path / "whole.db", 2)

    # from the moment that the process has loaded its libraries, which is about what the second run takes
    killed, after_s = tmp_path / "killed.db", 0.7 * second.seconds
    found = list(kill_and_resume(archive, killed, 2, first.seconds, kills=4, after_s=after_s))
    run_ingest(archive, killed, 2)

    assert first.out.split() == ["12001", "0", "12000"]
    assert second.out.split() == ["0", "12001", "12000"]
    assert [*found, digest(killed)] == [digest(tmp_path / "whole.db")] * 5
    assert first.peak_bytes < 2 * 2**30


@pytest.mark.slow
def test_ray_gives_the_identical_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip('ray is not installed: pip install "medvlm-platform[ray]"')
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    archive = archive_of(tmp_path / "archive", 3000)
    (archive / "notes.txt").write_text("no image")

    with tempfile.TemporaryDirectory(prefix="r") as short:  # Ray's sockets have long names, which may not exceed 107
        monkeypatch.setenv("RAY_TMPDIR", short)
        on_ray = ingest([archive], [], tmp_path / "ray.db", engine=RayEngine(2))
    here = ingest([archive], [], tmp_path / "here.db", workers=2)

    assert (on_ray.files_read, on_ray.images, on_ray.refusals) == (here.files_read, 3000, here.refusals)
    assert content(tmp_path / "ray.db") == content(tmp_path / "here.db")


def test_an_engine_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VolumeError, match="the engine is 'spark'; expected 'local' or 'ray'"):
        engine_of("spark", 2)  # type: ignore[arg-type]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VolumeError, match=r'pip install "medvlm-platform\[ray\]"'):
        engine_of("ray", 2)


def test_a_script_without_a_guarded_main_may_ingest(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", 20)
    script = tmp_path / "script.py"
    script.write_text(
        "from medvlm.ingest import ingest\n"
        f"print(ingest([{str(archive)!r}], [], {str(tmp_path / 'c.db')!r}, workers=1).images)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    finished = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.stdout.strip() == "20", finished.stderr[-2000:]


# ---- the order of files, folders and workers does not matter


def test_the_content_does_not_depend_on_the_order_of_roots_or_on_earlier_calls(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", 900)
    parts = sorted(path for path in archive.iterdir() if path.is_dir())
    ingest([archive], [], tmp_path / "one.db")
    ingest([*reversed(parts), archive / ".complete-900"], [], tmp_path / "two.db")
    for part in parts:
        ingest([part], [], tmp_path / "three.db")
    ingest([archive, parts[1]], [], tmp_path / "three.db")

    assert content(tmp_path / "one.db") == content(tmp_path / "two.db") == content(tmp_path / "three.db")


def test_the_digest_of_the_content_sees_every_table(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", 100)
    ingest([archive], [], tmp_path / "c.db")
    before = content(tmp_path / "c.db")
    for change in (
        "UPDATE instances SET sha256 = 'x' WHERE place = 3",
        "UPDATE studies SET split = 'test'",
        "INSERT INTO remarks VALUES ('1', 'number-gap', 'x')",
        "DELETE FROM refusals",
    ):
        db = sqlite3.connect(tmp_path / "c.db")
        db.execute(change)
        db.commit()
        db.close()
        assert content(tmp_path / "c.db") != before
        before = content(tmp_path / "c.db")


# ---- what changes between two calls


def test_one_new_file_in_a_large_folder_rewrites_one_page(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for number, data in enumerate(series_files(0, 0, 0, 1500, template())):
        (folder / f"{number:05d}.dcm").write_bytes(data)
    ingest([folder], [], tmp_path / "c.db")
    pages = _pages(tmp_path / "c.db")
    (folder / "00700b.dcm").write_bytes(next(series_files(1, 0, 0, 1, template())))
    (folder / "00003.dcm").unlink()

    summary = ingest([folder], [], tmp_path / "c.db")

    assert (summary.files_read, summary.files_unchanged, summary.files_gone) == (1, 1499, 1)
    assert len(pages) > 3
    assert len(pages - _pages(tmp_path / "c.db")) == 2


def test_a_folder_that_was_half_written_and_then_went_back_is_whole(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for number, data in enumerate(series_files(0, 0, 0, 1200, template())):
        (folder / f"{number:05d}.dcm").write_bytes(data)
    ingest([folder], [], tmp_path / "c.db")
    before = content(tmp_path / "c.db")
    away = ("00001.dcm", "01199.dcm")  # on two pages

    def without(roots: Any) -> Any:
        for listing in walk(roots):
            listing.entries = [entry for entry in listing.entries if entry[0] not in away]
            yield listing

    monkeypatch.setattr("medvlm.ingest_files.walk", without)
    monkeypatch.setattr("medvlm.ingest_files._BATCH", 1)
    real, left = write_page, iter([True])

    def failing(*given: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        real(*given)

    monkeypatch.setattr("medvlm.ingest_files.write_page", failing)
    with pytest.raises(KeyboardInterrupt):
        ingest([folder], [], tmp_path / "c.db")
    monkeypatch.undo()

    summary = ingest([folder], [], tmp_path / "c.db")

    assert summary.images == 1200
    assert content(tmp_path / "c.db") == before
    with Catalog.open(tmp_path / "c.db") as catalog:
        assert catalog.connection.execute("SELECT SUM(files) FROM ingest_pages").fetchone()[0] == 1200


def _pages(catalog: Path) -> set[bytes]:
    with Catalog.open(catalog) as opened:
        return {row[0] for row in opened.connection.execute("SELECT digest FROM ingest_pages")}


def test_pages_end_where_names_say_so_and_never_grow_too_long() -> None:
    entries: list[Entry] = [(f"{number:07d}.dcm", number, 0, 0) for number in range(50_000)]
    pages = list(cut(entries))
    less = list(cut([entry for entry in entries if entry[1] != 25_000]))

    assert [entry for page in pages for entry in page] == entries
    assert max(map(len, pages)) <= 2048
    assert 100 < len(pages) < 400
    assert len({repr(page) for page in pages} - {repr(page) for page in less}) <= 2
    assert list(cut([])) == []


def test_a_file_exchanged_for_one_of_equal_size_and_time_is_read_again(tmp_path: Path) -> None:
    one, other = series_files(0, 0, 0, 2, template())
    assert len(one) == len(other)
    path = tmp_path / "a" / "1.dcm"
    path.parent.mkdir()
    path.write_bytes(one)
    os.utime(path, ns=(10**18, 10**18))
    ingest([path.parent], [], tmp_path / "c.db")
    before = content(tmp_path / "c.db")
    path.write_bytes(other)
    os.utime(path, ns=(10**18, 10**18))  # only the time of change tells, which nobody can set

    summary = ingest([path.parent], [], tmp_path / "c.db")

    assert (summary.files_read, summary.files_unchanged) == (1, 0)
    assert content(tmp_path / "c.db") != before


def test_a_file_whose_time_went_back_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "1.dcm", film())
    ingest([path.parent], [], tmp_path / "c.db")
    os.utime(path, (1, 1))

    assert ingest([path.parent], [], tmp_path / "c.db").files_read == 1
    assert ingest([path.parent], [], tmp_path / "c.db").files_read == 0


def test_a_folder_that_cannot_be_listed_keeps_its_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(tmp_path / "archive", 500)
    whole = ingest([archive], [], tmp_path / "c.db")
    real = os.scandir

    def closed(path: str) -> Any:
        if str(path).endswith("PAT000000"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("os.scandir", closed)
    summary = ingest([archive], [], tmp_path / "c.db")
    monkeypatch.undo()
    again = ingest([archive], [], tmp_path / "c.db")

    assert (summary.images, summary.files_gone) == (whole.images, 0)
    assert [p.reason for p in summary.problems if p.reason == "unreadable-folder"] == ["unreadable-folder"]
    assert (again.images, again.files_read, again.files_gone) == (whole.images, 0, 0)
    assert "unreadable-folder" not in [p.reason for p in again.problems]


def test_a_name_that_is_no_text_is_refused_and_its_neighbours_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.dcm", film())
    shutil.copy(tmp_path / "a" / "1.dcm", os.fsencode(tmp_path / "a") + b"/\xff.dcm")

    summary = ingest([tmp_path / "a"], [], tmp_path / "c.db")

    assert (summary.images, [p.reason for p in summary.problems]) == (1, ["unreadable-name"])
    assert ingest([tmp_path / "a"], [], tmp_path / "c.db").files_unchanged == 1


def test_files_given_one_by_one_are_one_folder(tmp_path: Path) -> None:
    files = [write(tmp_path / "a" / f"{n}.dcm", film(StudyInstanceUID=f"1.2.3.{n}")) for n in range(4)]

    first = ingest(files[:3], [], tmp_path / "c.db")
    second = ingest(files[2:], [], tmp_path / "c.db")

    assert (first.files_read, second.files_read, second.images) == (3, 1, 4)


@pytest.mark.parametrize("given", ["folder", "index"])
def test_a_dicomdir_tells_what_the_disc_lacks(tmp_path: Path, given: str) -> None:
    disc = FileSet()
    for number in (1, 2, 3):
        tags = {"StudyTime": "101112", "StudyID": "1", "SeriesNumber": 1, "InstanceNumber": number}
        disc.add(write(tmp_path / "in" / f"{number}.dcm", ct_slice(2.0 * number, **tags)))
    disc.write(tmp_path / "disc")
    sorted((tmp_path / "disc" / "PT000000").rglob("IM*"))[2].unlink()
    root = tmp_path / "disc" if given == "folder" else tmp_path / "disc" / "DICOMDIR"

    summary = ingest([root], [], tmp_path / "c.db")

    assert (summary.images, sorted(p.reason for p in summary.problems)) == (2, ["dicomdir", "dicomdir-missing"])


# ---- headers survive the ledger


def test_every_field_of_a_header_comes_back_from_its_line(real_data: Path) -> None:
    zips = ("ood_fruit_1005_ct_mr_basic_text_sr.zip", "liver_ct3slice_with_seg_dcmqi.zip", "breast_mr_UCSF-BR-06.zip")
    headers = [h for h in crawl([real_data / "dicom_series" / z for z in zips]) if isinstance(h, InstanceHeader)]
    headers += [h for h in crawl([real_data / "dicom_odd"], digests=False) if isinstance(h, InstanceHeader)]

    for header in headers:
        study, line = header_line(header)
        assert load_header(header.path, study, line) == header
    assert len(headers) > 150


def test_the_ledger_gives_the_headers_that_the_crawl_gave(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", 300)
    ingest([archive], [], tmp_path / "c.db")
    crawled = {h.path: h for h in crawl([archive]) if isinstance(h, InstanceHeader)}

    with Catalog.open(tmp_path / "c.db") as catalog:
        studies = [row.study_uid for row in catalog.studies()]
        kept = {h.path: h for uid in studies for h in headers_of(catalog.connection, uid)}
    assert kept == crawled


# ---- disks and neighbours


def test_two_ingests_at_once_are_refused_in_words(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.dcm", film())
    with (
        sole_writer(tmp_path / "c.db"),
        pytest.raises(VolumeError, match=r"c\.db: another ingest is writing to this catalog; wait for its end"),
    ):
        ingest([tmp_path / "a"], [], tmp_path / "c.db")

    assert ingest([tmp_path / "a"], [], tmp_path / "c.db").images == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c.db"]


def test_a_killed_ingest_leaves_no_lock(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from medvlm.ingest_lock import sole_writer
with sole_writer(Path({str(tmp_path / "c.db")!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    finished = subprocess.run([sys.executable, "-c", code], check=False)
    assert finished.returncode == -signal.SIGKILL
    with sole_writer(tmp_path / "c.db"):
        assert (tmp_path / "c.db.lock").exists()


def test_a_full_disk_is_said_in_words_and_the_next_call_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(tmp_path / "archive", 1200)
    ingest([archive], [], tmp_path / "whole.db")
    monkeypatch.setattr("medvlm.ingest._FOR_BULK", ("PRAGMA max_page_count = 90",))

    with pytest.raises(VolumeError, match=r"c\.db: the disk is full; make room and call again") as raised:
        ingest([archive], [], tmp_path / "c.db")
    monkeypatch.undo()
    ingest([archive], [], tmp_path / "c.db")

    assert raised.value.reason == "disk-full"
    assert content(tmp_path / "c.db") == content(tmp_path / "whole.db")


def test_a_folder_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.dcm", film())
    with pytest.raises(VolumeError, match=r"c\.db: the catalog cannot be written there .* name another folder"):
        ingest([tmp_path / "a"], [], Path("/proc/nowhere/c.db"))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(VolumeError, match="the catalog cannot be written there"):
        ingest([tmp_path / "a"], [], tmp_path / "file" / "c.db")


def test_a_catalog_on_a_disk_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", 100)
    weak: list[str] = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may write everywhere, and there is no setpriv to take that from it")
        weak = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    place = tmp_path / "closed" / "c.db"
    ingest([archive], [], place)
    place.chmod(0o444)
    place.parent.chmod(0o555)
    read = f"from volumes.catalog import Catalog\nprint(len(Catalog.open({str(place)!r}).studies()))"
    write_ = f"from volumes.catalog import Catalog\nCatalog.create({str(place)!r}).start_run('x')"
    told = [
        subprocess.run([*weak, sys.executable, "-c", code], capture_output=True, text=True, check=False)
        for code in (read, write_)
    ]
    place.parent.chmod(0o755)

    assert told[0].stdout.strip() == "1", told[0].stderr
    assert "the catalog cannot be written there" in told[1].stderr


def test_a_catalog_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", 100)
    ingest([archive], [], tmp_path / "c.db")
    before = content(tmp_path / "c.db")
    db = sqlite3.connect(tmp_path / "c.db")
    for statement in (
        "DROP TABLE remarks",
        "DROP TABLE facts",
        "DROP TABLE conclusion",
        "UPDATE ingest_state SET value = '2 path' WHERE key = 'format'",
        "UPDATE ingest_studies SET digest = 'of another form'",
        "PRAGMA user_version = 1",
    ):
        db.execute(statement)
    db.commit()
    db.close()
    with pytest.raises(VolumeError, match=r"catalog version 1, not 2; ingest the archive again"):
        Catalog.open(tmp_path / "c.db")

    assert ingest([archive], [], tmp_path / "c.db").files_read == 101
    assert content(tmp_path / "c.db") == before


def test_memory_of_a_process_is_measured() -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("memory is read from /proc")
    session, size = _pss(Path(f"/proc/{os.getpid()}"))
    assert session == os.getsid(0)
    assert 2**20 < size < 2 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
