"""Zips that lie about counts, sizes, names and places: each is refused with numbers before it costs anything."""

from __future__ import annotations

import io
import stat
import struct
import time
import warnings
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
import pytest
from written_dicom import film, write, write_ct

import volumes.zips as zips
from volumes.archive import crawl, locations, read_bytes
from volumes.instance import InstanceHeader, Refusal
from volumes.study import read_study
from volumes.volume import Volume, VolumeError

LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")


def packed(members: dict[str, bytes], method: int = ZIP_DEFLATED) -> bytes:
    """A zip as bytes."""
    stream = io.BytesIO()
    with ZipFile(stream, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return stream.getvalue()


def entry(name: bytes, offset: int, size: int, unpacked: int, method: int = 0) -> bytes:
    """One entry of the directory of a zip."""
    return CENTRAL.pack(b"PK\1\2", 20, 20, 0, method, 0, 0, 0, size, unpacked, len(name), 0, 0, 0, 0, 0, offset) + name


def with_directory(body: bytes, entries: bytes, announced: int) -> bytes:
    """A zip of some body and a directory that may say anything."""
    return body + entries + END.pack(b"PK\5\6", 0, 0, announced, announced, len(entries), len(body), 0)


def outcomes(path: Path) -> list[tuple[str, str]]:
    """(location below the folder, reason; nothing when it was read)."""
    found = crawl([path])
    where = (("", f.path) if isinstance(f, InstanceHeader) else (f.reason, f.where) for f in found)
    return [(place[len(str(path)) :], reason) for reason, place in where]


def messages(path: Path) -> list[str]:
    return [f.message for f in crawl([path]) if isinstance(f, Refusal)]


@pytest.mark.parametrize("methods", [(ZIP_STORED, ZIP_DEFLATED), (ZIP_DEFLATED, ZIP_STORED)])
def test_zips_in_zips_are_read_in_place(
    tmp_path: Path, methods: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CT whose slices lie at three depths, one of them too large for memory, is one volume as it would be on disk."""
    monkeypatch.setattr(zips, "_IN_MEMORY_BYTES", 3000)
    files = sorted(write_ct(tmp_path / "plain").iterdir())
    deep = packed({f.name: f.read_bytes() for f in files[:2]}, methods[0])
    middle = packed({"B/deep.ZIP": deep, files[2].name: files[2].read_bytes()}, methods[1])
    outer = {"a/middle.zip": middle, **{f.name: f.read_bytes() for f in files[3:]}}
    (tmp_path / "outer.zip").write_bytes(packed(outer))

    found = list(locations([tmp_path / "outer.zip"]))
    nested = read_study(tmp_path / "outer.zip").main_series().read()
    plain = read_study(tmp_path / "plain").main_series().read()

    root = f"{tmp_path}/outer.zip!/"
    assert found == sorted(
        [f"{root}a/middle.zip!/B/deep.ZIP!/{f.name}" for f in files[:2]]
        + [f"{root}a/middle.zip!/{files[2].name}"]
        + [f"{root}{f.name}" for f in files[3:]],
        key=lambda place: found.index(place),
    )
    assert len(set(found)) == 5
    assert isinstance(nested, Volume)
    assert isinstance(plain, Volume)
    assert np.array_equal(nested.voxels, plain.voxels)
    assert np.array_equal(nested.affine, plain.affine)
    with pytest.raises(VolumeError, match="holds no such member"):
        read_bytes(f"{root}a/middle.zip!/B/deep.ZIP!/absent.dcm")


def test_a_folder_whose_name_looks_like_a_zip_is_read(tmp_path: Path) -> None:
    data = write(tmp_path / "1.dcm", film()).read_bytes()
    (tmp_path / "a.zip").write_bytes(packed({"odd.zip!/1.dcm": data}))
    assert outcomes(tmp_path / "a.zip") == [("!/odd.zip!/1.dcm", "")]


def test_zips_nested_too_deep_are_not_opened(tmp_path: Path) -> None:
    data = packed({"x.dcm": b"x"})
    for _ in range(6):
        data = packed({"next.zip": data})
    (tmp_path / "a.zip").write_bytes(data)

    assert outcomes(tmp_path / "a.zip") == [("!/next.zip" * 4, "zip-bomb")]
    assert messages(tmp_path / "a.zip") == ["zips lie in zips more than 4 deep; the inner ones are not opened"]


def test_the_budget_is_shared_by_all_zips_in_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "MAX_ZIP_BYTES", 5000)
    inner = packed({"a.dcm": bytes(2000)})
    (tmp_path / "a.zip").write_bytes(packed({"1.zip": inner, "2.zip": inner, "3.zip": inner}))

    found = outcomes(tmp_path / "a.zip")

    assert [(place, reason) for place, reason in found if reason == "zip-bomb"] == [("!/3.zip", "zip-bomb")]
    assert "and 6" in messages(tmp_path / "a.zip")[-1]
    assert "bytes unpacked; at most" in messages(tmp_path / "a.zip")[-1]


def test_members_that_share_their_bytes_are_a_bomb(tmp_path: Path) -> None:
    """The bomb of Fifield (WOOT 2019): each of many entries points to one kernel of zeros."""
    name, kernel = b"0", packed({"0": bytes(2**20)})
    with ZipFile(io.BytesIO(kernel)) as made:
        size, start = made.infolist()[0].compress_size, made.start_dir
    entries = b"".join(entry(name + bytes([65 + n]), 0, size, 2**20, 8) for n in range(50))
    (tmp_path / "a.zip").write_bytes(with_directory(kernel[:start], entries, 50))

    assert outcomes(tmp_path / "a.zip") == [("", "zip-bomb")]
    assert "50 of the 50 members of the zip archive overlap the next one" in messages(tmp_path / "a.zip")[0]


@pytest.mark.parametrize("announced", [1, 0xFFFF])
def test_a_million_members_are_counted_before_they_are_made(tmp_path: Path, announced: int) -> None:
    entries = entry(b"a", 0, 0, 0) * 300_000
    (tmp_path / "a.zip").write_bytes(with_directory(b"", entries, announced))

    began = time.monotonic()
    (message,) = messages(tmp_path / "a.zip")

    assert time.monotonic() - began < 2
    assert "300000 members and a directory of 14100000 bytes; at most 200000 members" in message


def test_a_member_that_is_longer_or_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    honest = packed({"a.dcm": b"x" * 1000}, ZIP_DEFLATED)
    for wrong in (10, 100_000):
        lying = honest.replace(struct.pack("<L", 1000), struct.pack("<L", wrong))
        assert lying != honest
        (tmp_path / "a.zip").write_bytes(lying)
        with pytest.raises(VolumeError, match=r"the zip member (cannot be unpacked|unpacks to)") as caught:
            read_bytes(f"{tmp_path}/a.zip!/a.dcm")
        assert caught.value.reason in ("damaged-zip", "zip-bomb")


def test_names_that_lead_elsewhere_links_and_unknown_methods_are_refused(tmp_path: Path) -> None:
    link = ZipInfo("link.dcm")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(link, "/etc/passwd")
        for name in ("C:/evil.dcm", "c:evil.dcm", "..\\evil.dcm", "\\\\host\\evil.dcm", "a/../../evil.dcm"):
            made.writestr(name, b"x")
        made.writestr("method.dcm", b"abc")
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    at = raw.rindex(b"method.dcm") - 46
    assert raw[at : at + 4] == b"PK\1\2"
    raw[at + 10] = 97  # WavPack
    (tmp_path / "a.zip").write_bytes(raw)

    found = dict(outcomes(tmp_path / "a.zip"))

    assert found.pop("!/method.dcm") == "zip-method"
    assert set(found.values()) == {"path-traversal"}
    assert len(found) == 6
    with pytest.raises(VolumeError, match="packed with method 97; stored, deflated, bzip2 and LZMA are read"):
        read_bytes(f"{tmp_path}/a.zip!/method.dcm")


def test_of_two_members_with_one_name_the_hidden_one_is_named(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.writestr("1.dcm", b"first")
        made.write(write(tmp_path / "1.dcm", film()), "1.dcm")

    assert sorted(outcomes(tmp_path / "a.zip")) == [("!/1.dcm", ""), ("!/1.dcm", "same-name")]


@pytest.mark.parametrize("cut", [1, 10, 21, 40, 200])
def test_a_zip_that_was_cut_is_refused(tmp_path: Path, cut: int) -> None:
    whole = packed({"1.dcm": write(tmp_path / "1.dcm", film()).read_bytes()})
    (tmp_path / "a.zip").write_bytes(whole[:-cut])
    assert outcomes(tmp_path / "a.zip") == [("", "damaged-zip")]


def test_a_damaged_zip_in_a_zip_costs_itself_only(tmp_path: Path) -> None:
    good = write(tmp_path / "1.dcm", film()).read_bytes()
    inner = packed({"1.dcm": good})
    (tmp_path / "a.zip").write_bytes(packed({"bad.zip": inner[:-30], "good.zip": inner, "z.dcm": good}))
    assert outcomes(tmp_path / "a.zip") == [
        ("!/bad.zip", "damaged-zip"),
        ("!/good.zip!/1.dcm", ""),
        ("!/z.dcm", ""),
    ]


def test_messages_never_show_the_path(tmp_path: Path) -> None:
    """Folders may be named after a patient."""
    place = tmp_path / "Secret^Name.zip"
    place.write_bytes(b"PK\3\4 nothing")
    told = messages(place)
    with pytest.raises(VolumeError) as caught:
        read_bytes(f"{tmp_path}/Secret^Gone.zip!/a.dcm")
    assert told
    assert "Secret" not in " ".join(told) + str(caught.value)
