"""What `medvlm doctor` says, and when it says that something is wrong."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

import medvlm
from medvlm import doctor
from medvlm.cli import main


def test_it_names_versions_and_decoders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in answer["checks"]}
    assert answer["version"] == medvlm.__version__
    assert checks["pydicom"]["detail"] == metadata.version("pydicom")
    assert checks["Explicit VR Little Endian"]["state"] == "ok"
    assert "pyjpegls" in checks["JPEG-LS Lossless"]["detail"]
    assert checks["medvlm"]["section"] == "network"
    assert {"simulate", "ingest", "train", "draft"} <= set(checks)


def test_a_missing_package_fails_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = metadata.version

    def version(name: str) -> str:
        if name == "nibabel":
            raise metadata.PackageNotFoundError(name)
        return "2.0.0" if name == "pydicom" else found(name)

    monkeypatch.setattr(metadata, "version", version)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert "pip install 'nibabel>=" in printed.out
    assert "2.0.0, needed >=3.0.2" in printed.out
    assert "2 thing(s) that medvlm needs are missing or too old: pydicom, nibabel" in printed.err


def test_a_missing_extra_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "pylibjpeg-libjpeg":
            raise metadata.PackageNotFoundError(name)
        return "99"

    monkeypatch.setattr(metadata, "version", version)
    check = next(check for check in doctor.packages() if check.name == "pylibjpeg-libjpeg")
    assert check.state == "optional"
    assert check.detail == "pip install 'medvlm-platform[jpeg]'"


def test_gdcm_is_called_harmful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "3.2.6")
    harmful = {check.name: check.detail for check in doctor.packages() if check.state == "danger"}
    assert "aborts the whole process on damaged files" in harmful["python-gdcm"]
