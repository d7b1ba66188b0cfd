"""Ingest of a de-identified copy: what the catalog then knows, and the two calls that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medvlm.cli import main
from volumes.catalog import Catalog


def test_the_catalog_knows_the_copy_and_not_the_archive(tiny_hospital: Any, tmp_path: Path) -> None:
    archive = tiny_hospital.archive
    studies = sorted(archive.iterdir())[:2]
    out, key = tmp_path / "clean.db", tmp_path / "site.key"
    call = ["ingest", *map(str, studies), "--out", str(out), "--deidentify", "--key", str(key), "--workers", "0"]
    assert main(call) == 0
    with Catalog.open(out) as catalog:
        found = {row.study_uid for row in catalog.studies()}
        paths = [path for uid in found for series in catalog.series(uid) for path in series.paths]
        first = catalog.content_digest()
    assert len(found) == 2
    assert found.isdisjoint({study.name for study in studies})
    assert paths
    assert all(Path(path).is_relative_to(tmp_path / "clean_deidentified") for path in paths)
    assert main(call) == 0  # the same key: the same pseudonyms
    with Catalog.open(out) as catalog:
        assert catalog.content_digest() == first


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], "--deidentify needs --key FILE, the secret that pseudonyms come from"),
        (["--key", "site.key", "--reports", "films.csv"], "1 table(s) of --reports name films by file"),
    ],
)
def test_a_call_that_would_leak_or_lose_is_refused(
    tiny_hospital: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    film = next(tiny_hospital.archive.rglob("*.dcm"))
    (tmp_path / "films.csv").write_text(f"path,report\n{film},Normal chest.\n", encoding="utf-8")
    out = tmp_path / "clean.db"
    assert main(["ingest", str(tiny_hospital.archive), "--out", str(out), "--deidentify", *more]) == 1
    assert told in capsys.readouterr().err
    assert not out.exists()
