"""DICOMDIR: what it lists is compared with what is there, and nothing outside of its folder is ever opened."""

from __future__ import annotations

import io
import os
from pathlib import Path
from zipfile import ZipFile

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from written_dicom import film, write

from volumes.archive import crawl, locations
from volumes.instance import InstanceHeader, Refusal
from volumes.study import read_study

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")


def index(*files: tuple[str, ...] | str, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A DICOMDIR that lists files by their components."""
    dataset = Dataset()
    dataset.FileSetID = "PHANTOM"
    records = []
    for components in files:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = list(components) if isinstance(components, tuple) else components
        records.append(record)
    dataset.DirectoryRecordSequence = Sequence(records)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.9.7"
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def medium(folder: Path, *files: tuple[str, ...] | str) -> Path:
    """A folder with three images, of which the DICOMDIR lists what is asked for."""
    for name in ("IM1", "IM2", "sub/im3"):
        write(folder / name, film(InstanceNumber=int(name[-1])))
    (folder / "DICOMDIR").write_bytes(index(*files))
    return folder


def found(path: Path) -> list[tuple[str, str]]:
    """(reason or nothing, file name)."""
    return sorted(
        ("", Path(f.path).name) if isinstance(f, InstanceHeader) else (f.reason, Path(f.where).name)
        for f in crawl([path])
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_folder_is_read_whole_and_what_is_missing_is_named(tmp_path: Path, syntax: str) -> None:
    folder = medium(tmp_path)
    (folder / "DICOMDIR").write_bytes(index(("IM1",), ("SUB", "IM3"), ("IM9",), ("SUB", "GONE"), syntax=syntax))

    assert found(folder) == [
        ("", "IM1"),
        ("", "IM2"),  # not listed, and read
        ("", "im3"),  # listed in another case, and read once
        ("dicomdir", "DICOMDIR"),
        ("dicomdir-missing", "GONE"),
        ("dicomdir-missing", "IM9"),
    ]
    message = next(r.message for r in crawl([folder]) if isinstance(r, Refusal) and r.reason == "dicomdir-missing")
    assert message == "the DICOMDIR beside it lists this file, which is missing: the copy of the medium is incomplete"


def test_the_path_of_a_dicomdir_stands_for_what_it_lists(tmp_path: Path) -> None:
    folder = medium(tmp_path, ("SUB", "IM3"), ("IM1",), ("IM1",), ("IM9",))
    assert [Path(p).name for p in locations([folder / "DICOMDIR"]) if isinstance(p, str)] == ["im3", "IM1"]
    assert found(folder / "DICOMDIR") == [("", "IM1"), ("", "im3"), ("dicomdir-missing", "IM9")]
    assert len(read_study(folder / "DICOMDIR").films()) == 2


@pytest.mark.parametrize(
    "trick",
    [
        ("..", "secret"),
        ("sub", "..", "..", "secret"),
        ("/etc", "passwd"),
        ("", "etc", "passwd"),
        ("C:", "secret"),
        ("c:secret",),
        ("...", "secret"),
        (". .", "secret"),
        ("sub/../../secret",),
        ("IM1\x1b.png",),
        ("link",),
        ("linked", "secret"),
    ],
)
def test_tricks_with_paths_are_refused_and_never_opened(tmp_path: Path, trick: tuple[str, ...]) -> None:
    write(tmp_path / "secret", film())
    folder = medium(tmp_path / "medium", ("IM1",))
    os.symlink(tmp_path / "secret", folder / "link")
    os.symlink(tmp_path, folder / "linked")
    (folder / "DICOMDIR").write_bytes(index(("IM1",), trick))

    read = [p for p in locations([folder / "DICOMDIR"]) if isinstance(p, str)]

    assert [Path(p).name for p in read] == ["IM1"]
    assert ("path-traversal", "DICOMDIR") in found(folder / "DICOMDIR")
    (told,) = [f for f in crawl([folder / "DICOMDIR"]) if isinstance(f, Refusal) and f.reason == "path-traversal"]
    assert told.message.startswith("1 of the 2 files that the DICOMDIR lists lie outside its folder; none was opened")


def test_a_dicomdir_in_a_zip(tmp_path: Path) -> None:
    folder = medium(tmp_path / "medium", ("IM1",), ("SUB", "IM3"), ("IM9",), ("..", "IM1"))
    for inside in ("", "CD/"):
        path = tmp_path / f"{inside.strip('/')}a.zip"
        with ZipFile(path, "w") as made:
            for file in sorted(folder.rglob("*")):
                made.write(file, inside + str(file.relative_to(folder)))
        assert found(path) == [
            ("", "IM1"),
            ("", "IM2"),
            ("", "im3"),
            ("dicomdir", "DICOMDIR"),
            ("dicomdir-missing", "IM9"),
            ("path-traversal", "DICOMDIR"),
        ]


def test_a_damaged_dicomdir_hides_nothing(tmp_path: Path) -> None:
    folder = medium(tmp_path, ("IM1",))
    whole = (folder / "DICOMDIR").read_bytes()
    for cut in range(len(whole) - 1, 130, -7):
        (folder / "DICOMDIR").write_bytes(whole[:cut])
        assert [name for reason, name in found(folder) if not reason] == ["IM1", "IM2", "im3"]
    (folder / "DICOMDIR").write_bytes(b"")
    assert found(folder)[-1] == ("not-an-image", "DICOMDIR")
