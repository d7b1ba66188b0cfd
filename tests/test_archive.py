"""The crawl: every file becomes a header or a refusal, and a zip cannot hurt the machine."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import time
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from written_dicom import film, write, write_ct

import volumes.archive as archive
import volumes.zips as zips
from volumes.archive import crawl, read_bytes
from volumes.instance import InstanceHeader, Refusal, derived_uid, patient_key
from volumes.volume import VolumeError


def refusals(path: Path) -> list[tuple[str, str]]:
    return [(r.reason, r.message) for r in crawl([path]) if isinstance(r, Refusal)]


def test_every_file_is_a_header_or_a_refusal_in_a_fixed_order(tmp_path: Path) -> None:
    write_ct(tmp_path / "b")
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "empty.dcm").touch()

    found = list(crawl([tmp_path]))

    assert len(found) == 7
    assert found == list(crawl([tmp_path]))
    assert [r.reason for r in found if isinstance(r, Refusal)] == ["not-an-image", "not-an-image"]


def test_digests_name_the_file_and_its_pixels(tmp_path: Path) -> None:
    one = write(tmp_path / "1.dcm", film())
    write(tmp_path / "2.dcm", film(AccessionNumber="OTHER"))

    first, second = (h for h in crawl([tmp_path]) if isinstance(h, InstanceHeader))

    assert first.sha256 == hashlib.sha256(one.read_bytes()).hexdigest()
    assert first.sha256 != second.sha256
    assert first.pixel_sha256 == second.pixel_sha256 != ""
    quick = next(iter(crawl([one], digests=False)))
    assert isinstance(quick, InstanceHeader)
    assert (quick.sha256, quick.sop_uid) == ("", first.sop_uid)


def test_headers_do_not_show_names_ids_or_paths(tmp_path: Path) -> None:
    write(tmp_path / "Secret^Name" / "1.dcm", film())

    shown = repr(list(crawl([tmp_path])))

    assert "Secret" not in shown
    assert "MRN-0042" not in shown
    assert patient_key("MRN-0042") in shown


def test_the_pseudonym_is_the_start_of_a_sha256() -> None:
    assert patient_key(" MRN-0042 ") == hashlib.sha256(b"MRN-0042").hexdigest()[:12]


def test_derived_uids_are_valid_and_do_not_run_together() -> None:
    assert derived_uid("ab", "c") != derived_uid("a", "bc")
    assert derived_uid("ab", "c") == derived_uid("ab", b"c")
    assert len(derived_uid("x")) <= 64


def test_a_zip_member_that_points_outside_is_refused(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("../../evil.dcm", b"x")
        packed.writestr("/etc/evil.dcm", b"x")
        packed.write(write(tmp_path / "in" / "1.dcm", film()), "good.dcm")

    found = list(crawl([tmp_path / "a.zip"]))

    assert sorted(r.reason for r in found if isinstance(r, Refusal)) == ["path-traversal", "path-traversal"]
    assert sum(isinstance(h, InstanceHeader) for h in found) == 1
    with pytest.raises(VolumeError, match="points outside the archive"):
        read_bytes(f"{tmp_path / 'a.zip'}!/../../evil.dcm")


def test_a_zip_bomb_is_refused_with_numbers(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w", ZIP_DEFLATED) as packed:
        packed.writestr("bomb.dcm", bytes(80 * 2**20))

    ((reason, message),) = refusals(tmp_path / "a.zip")

    assert reason == "zip-bomb"
    assert f"to {80 * 2**20} bytes; at most 250-fold" in message


def test_a_zip_of_too_much_is_refused_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "MAX_ZIP_BYTES", 1000)
    with ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("a", bytes(600))
        packed.writestr("b", bytes(600))

    ((reason, message),) = refusals(tmp_path / "a.zip")

    assert reason == "zip-bomb"
    assert "2 members and 1200 bytes unpacked; at most" in message


def test_damaged_and_encrypted_zips_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 not a zip")
    with ZipFile(tmp_path / "b.zip", "w") as packed:
        packed.writestr("1.dcm", b"DICM" * 50)
    raw = bytearray((tmp_path / "b.zip").read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # the encryption flag of the directory entry
    (tmp_path / "b.zip").write_bytes(raw)

    assert refusals(tmp_path / "a.zip")[0][0] == "damaged-zip"
    assert refusals(tmp_path / "b.zip")[0][0] == "encrypted-zip"


def test_a_corrupt_member_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.write(write(tmp_path / "in" / "1.dcm", film()), "1.dcm")
        packed.write(write(tmp_path / "in" / "2.dcm", film()), "2.dcm")
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    raw[300] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(raw)

    found = list(crawl([tmp_path / "a.zip"]))

    assert [type(f).__name__ for f in found] == ["Refusal", "InstanceHeader"]
    assert isinstance(found[0], Refusal)
    assert found[0].reason == "damaged-zip"


def test_links_in_a_circle_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "1.dcm", film())
    os.symlink(tmp_path, tmp_path / "loop", target_is_directory=True)
    os.symlink(tmp_path / "gone", tmp_path / "broken")

    assert sorted(reason for reason, _ in refusals(tmp_path)) == ["not-a-file", "symlinked-folder"]


def test_a_missing_path_is_a_refusal_not_a_crash(tmp_path: Path) -> None:
    assert refusals(tmp_path / "absent") == [("missing-path", "no such file or folder; check the path")]


def test_pipes_and_sockets_are_named_and_never_opened(tmp_path: Path) -> None:
    """To open a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "a.dcm")
    os.mkfifo(tmp_path / "b.zip")
    os.mkfifo(tmp_path / "c.nii")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "d.dcm"))
        os.symlink("/dev/zero", tmp_path / "e.dcm")

        assert [reason for reason, _ in refusals(tmp_path)] == ["not-a-file"] * 5
        for name in ("a.dcm", "b.zip", "c.nii", "d.dcm", "e.dcm"):
            ((reason, message),) = refusals(tmp_path / name)
            assert reason == "not-a-file"
            assert "neither a regular file nor a folder" in message


@pytest.mark.parametrize("digests", [True, False])
def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, digests: bool) -> None:
    os.mkfifo(tmp_path / "a.dcm")
    found = archive.read_location(str(tmp_path / "a.dcm"), digests)
    assert isinstance(found, Refusal)
    assert found.reason == "not-a-file"


def test_folders_nested_deeper_than_python_may_recurse(tmp_path: Path) -> None:
    """At the limit of paths a folder is refused by name; nothing above it is lost."""
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    with open(os.open("deep.dcm", os.O_WRONLY | os.O_CREAT, dir_fd=at), "wb") as stream:
        stream.write(write(tmp_path / "top.dcm", film()).read_bytes())
    os.close(at)

    try:
        found = list(crawl([tmp_path]))
    finally:
        remove(tmp_path)

    assert [Path(f.path).name for f in found if isinstance(f, InstanceHeader)] == ["top.dcm", "deep.dcm"]


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    name, at = "n" * 250, os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    try:
        assert refusals(tmp_path) == [("unreadable-folder", "the folder cannot be listed: File name too long")]
        ((reason, _),) = refusals(tmp_path / ("x" * 5000))
        assert reason == "missing-path"
    finally:
        remove(tmp_path)


def remove(folder: Path) -> None:
    """Pytest removes temporary folders by recursion, which stops at such depths."""
    subprocess.run(["rm", "-rf", *folder.iterdir()], check=True)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "closed" / "1.dcm", film())
    write(tmp_path / "open" / "1.dcm", film())
    scandir = os.scandir

    def closed(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)

    assert refusals(tmp_path) == [("unreadable-folder", "the folder cannot be listed: Permission denied")]


def test_names_that_are_no_text_are_refused_and_spelled_out(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/M\xfcller.dcm", "wb"):
        pass
    (found,) = crawl([tmp_path])
    assert isinstance(found, Refusal)
    assert found.reason == "unreadable-name"
    assert found.where.encode().endswith(rb"M\udcfcller.dcm")


def test_a_hundred_thousand_files_in_one_folder(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for number in range(100_000):
        os.close(os.open(f"{number:06d}", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    began = time.monotonic()
    assert sum(1 for _ in archive.locations([tmp_path])) == 100_000
    assert time.monotonic() - began < 10


def test_a_file_larger_than_asked_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "huge.dcm", "wb") as stream:
        stream.truncate(2**40)  # takes no room: a hole
    ((reason, message),) = refusals(tmp_path)
    assert (reason, message) == ("too-large", f"the file holds {2**40} bytes; at most {4 * 2**30} are read at once")
