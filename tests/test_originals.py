"""A metric's own name is printed only for its own model, found on disk; nothing dials out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from evaluation.originals import Original, OriginalMissingError, find_original, load_package, metric_name, offline

FOUND = Original("GREEN", "green_score", "1.0", "abc")


def test_names() -> None:
    assert metric_name("GREEN", FOUND, "answers") == "GREEN (green_score 1.0, weights abc)"
    assert metric_name("GREEN", "our rules", "answers") == "GREEN arithmetic on answers by our rules"
    with pytest.raises(ValueError, match="the original found is of GREEN, expected that of RadFact"):
        metric_name("RadFact", FOUND, "judgements")


def test_the_weights_are_hashed_by_name_and_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "somebody_s_metric", ModuleType("somebody_s_metric"))

    def found() -> Original:
        return find_original("M", "somebody_s_metric", tmp_path, ("a.bin", "b.bin"), "install it")

    (tmp_path / "a.bin").write_bytes(b"1")
    (tmp_path / "b.bin").write_bytes(b"2")
    first = found()
    (tmp_path / "b.bin").write_bytes(b"3")

    assert found().weights != first.weights
    assert len(first.weights) == 12
    (tmp_path / "a.bin").write_bytes(b"12")
    (tmp_path / "b.bin").write_bytes(b"")
    assert found().weights != first.weights  # the same bytes in other files
    (tmp_path / "a.bin").unlink()
    with pytest.raises(
        OriginalMissingError, match=r"M needs a\.bin, b\.bin in the folder of its weights; a\.bin"
    ) as caught:
        found()
    assert str(tmp_path) not in str(caught.value)  # folders may hold names
    with pytest.raises(
        OriginalMissingError, match="needs the package nobody_s_metric, which is not installed: install it"
    ):
        find_original("M", "nobody_s_metric", tmp_path, (), "install it")


def test_a_package_that_does_not_import_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_metric.py").write_text("import torchvision_that_is_not_here\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OriginalMissingError, match="broken_metric is installed and does not import"):
        load_package("broken_metric")


def test_offline_is_for_its_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = ModuleType("huggingface_hub.constants")
    constants.HF_HUB_OFFLINE = False  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")

    with offline():
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        assert constants.HF_HUB_OFFLINE is True  # type: ignore[attr-defined]

    assert "HF_HUB_OFFLINE" not in os.environ
    assert os.environ["TRANSFORMERS_OFFLINE"] == "0"
    assert constants.HF_HUB_OFFLINE is False  # type: ignore[attr-defined]
