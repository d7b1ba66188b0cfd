"""`medvlm doctor`: what is installed, which files could be read, on which machine, and which commands would work."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

import medvlm
from medvlm import commands

State = Literal["ok", "missing", "broken", "danger", "optional", "note"]
MARKS: dict[State, str] = {"ok": "ok", "missing": "NO", "broken": "NO", "danger": "!!", "optional": "--", "note": ".."}
DISTRIBUTION = "medvlm-platform"

DANGERS = {
    "python-gdcm": "aborts the whole process on damaged files, and pydicom prefers it; pip uninstall python-gdcm",
    "torchvision": "breaks lightning and transformers beside a CPU build of torch; medvlm does not need it",
}
TOOLS = {
    "dcm2niix": "second opinion on CT geometry in the tests",
    "dciodvfy": "checks the DICOM files we write, in the tests (Debian: dicom3tools)",
    "dcmdump": "reads the DICOM files we write, in the tests (Debian: dcmtk)",
}


class DoctorError(ValueError):
    """Something that medvlm cannot do without is missing or too old."""


@dataclass(frozen=True)
class Check:
    """One line of the answer: what was looked at, how it is, and what to do about it."""

    section: str
    name: str
    state: State
    detail: str = ""

    def text(self) -> str:
        return f"  {MARKS[self.state]}  {self.name:<34} {self.detail}".rstrip()


def doctor(as_json: bool = False) -> None:
    """Print every check. Raises DoctorError, after printing, where a required package is missing or too old."""
    checks = examine()
    if as_json:
        print(json.dumps({"version": medvlm.__version__, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        print(render(checks))
    wrong = [check.name for check in checks if check.state in ("missing", "broken")]
    if wrong:
        raise DoctorError(f"{len(wrong)} thing(s) that medvlm needs are missing or too old: {', '.join(wrong)}")


def examine() -> list[Check]:
    """All checks, in the order in which they are shown."""
    return [*machine(), *packages(), *decoders(), *network(), *tools(), *works()]


def render(checks: list[Check]) -> str:
    """The checks as lines under their sections, with a legend of the marks."""
    lines = [f"medvlm {medvlm.__version__}   (ok works, NO must be mended, !! harmful, -- optional and absent)"]
    section = ""
    for check in checks:
        if check.section != section:
            section = check.section
            lines += ["", section]
        lines.append(check.text())
    return "\n".join(lines)


def machine() -> Iterator[Check]:
    """Python, cores, memory and disk in GiB, and the accelerator that torch sees."""
    where = "machine"
    yield Check(where, "python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check(where, "cores", "note", str(cores))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield Check(
            where, "memory", "note", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
        )
    yield Check(where, "disk, free here", "note", f"{shutil.disk_usage('.').free / 2**30:.1f} GiB")
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check(where, "accelerator", "broken", f"torch does not load: {' '.join(str(error).split())}")
        return
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        detail = f"{torch.cuda.device_count()} x {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        yield Check(where, "accelerator", "ok", detail)
    else:
        detail = "none: training runs on the CPU; build of torch " + torch.__version__
        yield Check(where, "accelerator", "optional", detail)


def requirements() -> list[Requirement]:
    """What medvlm asks for, from its installed metadata, or from pyproject.toml when it is run from its sources."""
    try:
        return [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        source = Path(__file__).resolve().parent.parent / "pyproject.toml"
        project = tomllib.loads(source.read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"].items()
        optional = [f"{text}; extra == '{extra}'" for extra, texts in extras for text in texts]
        return [Requirement(text) for text in [*project["dependencies"], *optional]]


def packages() -> Iterator[Check]:
    """Required and optional packages with their versions, then those that do harm."""
    for requirement in requirements():
        if requirement.name == DISTRIBUTION:  # an extra that names other extras
            continue
        found = re.search(r"extra == ['\"](\w+)", str(requirement.marker or ""))
        extra = found.group(1) if found else None
        where = f"extra [{extra}]" if extra else "packages"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wanted = f"{DISTRIBUTION}[{extra}]" if extra else f"{requirement.name}{requirement.specifier}"
            yield Check(where, requirement.name, "optional" if extra else "missing", f"pip install '{wanted}'")
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        detail = version if fits else f"{version}, needed {requirement.specifier}"
        yield Check(where, requirement.name, "ok" if fits else "broken", detail)
    for name, why in DANGERS.items():
        if metadata_version(name):
            yield Check("harmful packages", name, "danger", f"{metadata_version(name)}: {why}")


def metadata_version(name: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def decoders() -> Iterator[Check]:
    """Each transfer syntax that `volumes.pixels` reads, and whether its decoder is there."""
    where = "DICOM transfer syntaxes"
    try:
        from volumes.transfer_syntaxes import CODECS, NATIVE, is_installed, name_of
    except ImportError as error:
        yield Check(where, "pydicom", "broken", str(error))
        return
    for text in sorted(NATIVE):
        yield Check(where, name_of(text), "ok", f"{text}  pydicom")
    for text, known in sorted(CODECS.items()):
        name = re.sub(r"(?i) image compression|, non-hierarchical|, first-order prediction", "", name_of(text))
        name = re.sub(r"\(Process 14 \[.*", "(Selection Value 1)", name).replace("High-Throughput JPEG 2000", "HTJ2K")
        decoder = next(filter(is_installed, known), None)
        if decoder is not None:
            yield Check(where, name, "ok", f"{text}  {decoder.name}")
        else:
            ways = " or ".join(f"pip install '{DISTRIBUTION}[{one.extra}]'" for one in known)
            yield Check(where, name, "optional", f"{text}  {ways}")


def network() -> Iterator[Check]:
    """What could leave the machine: nothing, unless a hub is asked for by name."""
    yield Check("network", "medvlm", "ok", "opens no connection by itself; no telemetry, no download at import")
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    detail = (
        "HF_HUB_OFFLINE is set: weights only from local paths"
        if offline
        else ("weights are fetched only when a recipe names a hub; HF_HUB_OFFLINE=1 forbids it")
    )
    yield Check("network", "model hub", "note", detail)


def tools() -> Iterator[Check]:
    """Programs outside Python; only tests use them."""
    for name, why in TOOLS.items():
        path = shutil.which(name)
        yield Check("external tools", name, "ok" if path else "optional", why)


def works() -> Iterator[Check]:
    """Each command, and whether the modules behind it can be found."""
    for name, modules in commands.NEEDS.items():
        absent = [module for module in modules if not can_import(module)]
        detail = f"needs {', '.join(absent)}" if absent else ""
        yield Check("commands", name, "missing" if absent else "ok", detail)


def can_import(module: str) -> bool:
    """Whether a module can be found, without running it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
