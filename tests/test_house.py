"""The house: packages that are ours, imports that go one way, nothing loaded or dialed before it is needed."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import medvlm

ROOMS = ("volumes", "reports", "experts", "evaluation", "medvlm")
REPOSITORY = Path(__file__).resolve().parent.parent
MODULES = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for room in ROOMS
    for path in (REPOSITORY / room).glob("*.py")
)
NO_NETWORK = """
import socket
def refuse(*_, **__):
    raise AssertionError("a module opened a connection while it was imported")
socket.socket.connect = refuse
socket.create_connection = refuse
socket.getaddrinfo = refuse
"""


def run_python(code: str, *, cwd: Path = REPOSITORY, path: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that finds our packages in `path`."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_every_module_imports_and_none_opens_a_connection() -> None:
    code = NO_NETWORK + f"import importlib\nfor name in {MODULES}:\n    importlib.import_module(name)\nprint('all')"
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.strip().endswith("all")


def test_help_needs_neither_torch_nor_any_other_heavy_package() -> None:
    code = """
import contextlib, sys
from medvlm.cli import main
with contextlib.suppress(SystemExit):
    main(["--help"])
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "pydicom", "monai", "lightning"}))
"""
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr
    assert "Nothing is sent anywhere" in finished.stdout
    assert finished.stdout.strip().endswith("[]"), finished.stdout[-200:]


def test_imports_go_one_way() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    if not lint_imports.exists():
        pytest.skip("lint-imports is not installed: pip install 'medvlm-platform[dev]'")
    finished = subprocess.run([lint_imports], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stdout[-3000:]
    assert "0 broken" in finished.stdout


@pytest.mark.parametrize("room", ["volumes", "reports", "experts", "evaluation"])
def test_a_room_that_is_not_ours_is_refused_with_its_place(room: str, tmp_path: Path) -> None:
    (tmp_path / room).mkdir()
    (tmp_path / room / "__init__.py").touch()
    finished = run_python("import medvlm", cwd=tmp_path)
    assert finished.returncode == 1
    message = finished.stderr.strip().splitlines()[-1]
    assert message.startswith(f"ImportError: `import {room}` finds {tmp_path / room} (a folder on the Python path")
    assert f"medvlm needs {REPOSITORY / room}" in message
    assert "Uninstall or rename" in message


def test_a_room_from_another_distribution_is_refused_by_that_name(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    info = site / "evaluation_of_something-1.0.dist-info"
    (site / "evaluation").mkdir(parents=True)
    (site / "evaluation" / "__init__.py").touch()
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evaluation-of-something\nVersion: 1.0\n")
    (info / "RECORD").write_text("evaluation/__init__.py,,\n")
    finished = run_python(f"import sys; sys.path.insert(0, {str(site)!r}); import medvlm")
    assert "from the distribution evaluation-of-something" in finished.stderr


def test_a_folder_of_data_called_reports_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    finished = run_python("import medvlm, reports; print(reports.__file__)", cwd=tmp_path)
    assert finished.stdout.strip() == str(REPOSITORY / "reports" / "__init__.py"), finished.stderr


@pytest.mark.parametrize("name", medvlm.__all__)
def test_every_name_of_the_facade_can_be_called(name: str) -> None:
    assert callable(getattr(medvlm, name))
    assert name in dir(medvlm)


def test_a_verb_is_the_module_and_the_function_in_every_order_of_imports() -> None:
    before = medvlm.simulate
    module = importlib.import_module("medvlm.simulate")
    assert medvlm.simulate is before is module
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'out'"):
        medvlm.simulate()  # the call reaches the function


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="no attribute 'diagnoze'; it has Catalog, diagnose, draft_report"):
        _ = medvlm.diagnoze


@pytest.mark.parametrize("room", ["volumes", "reports", "experts", "evaluation"])
def test_a_room_has_no_second_door(room: str) -> None:
    source = (REPOSITORY / room / "__init__.py").read_text(encoding="utf-8")
    assert "import" not in re.sub(r'""".*?"""', "", source, flags=re.DOTALL), f"{room}/__init__.py re-exports something"


def files_in_map() -> Iterator[tuple[str, str]]:
    """(path, what it is) for each line of docs/map.md that names a module."""
    page = (REPOSITORY / "docs" / "map.md").read_text(encoding="utf-8")
    for block in re.findall(r"```\n(.*?)```", page, flags=re.DOTALL):
        for line in block.splitlines():
            path, _, what = line.strip().partition(" ")
            yield path, what.strip()


def test_the_map_names_every_module_and_nothing_else() -> None:
    named = dict(files_in_map())
    absent = [path for path in named if not (REPOSITORY / path).exists()]
    assert not absent, f"docs/map.md names files that do not exist: {absent}"
    modules = {f"{room}/{path.name}" for room in ROOMS for path in (REPOSITORY / room).glob("*.py")}
    unnamed = sorted(path for path in modules - set(named) if not path.endswith("__init__.py"))
    assert not unnamed, f"docs/map.md lacks {unnamed}: make docs"
    assert all(named.values()), "a line of the map says nothing about its file"


def test_data_files_are_part_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    packed = {path for room in ROOMS for pattern in patterns for path in (REPOSITORY / room).glob(pattern)}
    present = {path for room in ROOMS for path in (REPOSITORY / room).rglob("*") if path.is_file()}
    left_out = sorted(
        str(path.relative_to(REPOSITORY))
        for path in present - packed
        if path.suffix != ".py" and "__pycache__" not in path.parts
    )
    assert not left_out, f"package-data in pyproject.toml misses {left_out}"


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    wanted = {canonical(re.split(r"[\[<>=;]", text)[0]) for text in texts} - {"medvlm-platform"}
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonical(line.partition("==")[0]) for line in lines if "==" in line and not line.startswith("#")}
    assert wanted <= pinned, f"constraints.txt does not pin {sorted(wanted - pinned)}"


def canonical(name: str) -> str:
    """The name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
