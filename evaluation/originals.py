"""Published metrics that rest on somebody's trained model: what is on disk here, and what a number may be called.

The arithmetic of such a metric is ours and always there; its model is not. A number carries the metric's own name only
when its package and its weights were found and used. Otherwise it says whose annotations the arithmetic was done on.
Nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_PIECE = 1 << 20
_HASHED = 12  # hexadecimal digits shown


class OriginalMissingError(RuntimeError):
    """The package or the weights of a published metric are not here, or not as they should be."""


@dataclass(frozen=True)
class Original:
    """A published metric's own code and weights, found on disk and hashed. Made by `find_original`."""

    metric: str
    package: str
    version: str
    weights: str
    """First digits of the SHA-256 over the weight files."""

    def __str__(self) -> str:
        return f"{self.package} {self.version}, weights {self.weights}"


def metric_name(metric: str, by: str | Original, what: str) -> str:
    """What to print: the metric's name with its original's version, or "… arithmetic on <what> by <by>".

    metric: "CheXbert-F1". what: "labels", "graphs", … Raises: ValueError when nobody is named, or when the original of
    another metric is.
    """
    if isinstance(by, Original):
        if by.metric != metric:
            raise ValueError(f"the original found is of {by.metric}, expected that of {metric}")
        return f"{metric} ({by})"
    if not by.strip():
        raise ValueError(f"say who made the {what} that {metric} is computed on, found an empty name")
    return f"{metric} arithmetic on {what} by {by}"


def find_original(metric: str, package: str, weights: Path, files: tuple[str, ...], install: str) -> Original:
    """The original if its package is installed and all `files` lie in the folder `weights`.

    install: what brings the package. Raises: OriginalMissingError that names what is missing.
    """
    if package not in sys.modules and importlib.util.find_spec(package) is None:
        raise OriginalMissingError(f"{metric} needs the package {package}, which is not installed: {install}")
    missing = [name for name in files if not (weights / name).is_file()]
    if missing:
        raise OriginalMissingError(
            f"{metric} needs {', '.join(files)} in the folder of its weights; {', '.join(missing)} not found there. Get"
            " them from the authors and give their folder; nothing is downloaded"
        )
    return Original(metric, package, _version(package), digest([weights / name for name in files]))


def load_package(package: str) -> ModuleType:
    """Import a package that was found. Raises: OriginalMissingError when it does not import, and says why."""
    try:
        return importlib.import_module(package)
    except Exception as error:
        raise OriginalMissingError(f"the package {package} is installed and does not import: {error!r}") from error


@contextmanager
def offline() -> Iterator[None]:
    """While it lasts, the hub client that these packages use answers from its cache or fails; it never dials out.

    What they print goes to the standard error, so that a command's answer stays readable by programs.
    """
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    before = {name: os.environ.get(name) for name in names}
    constants = sys.modules.get("huggingface_hub.constants")
    was = getattr(constants, "HF_HUB_OFFLINE", None)
    os.environ.update(dict.fromkeys(names, "1"))
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if constants is not None:
            constants.HF_HUB_OFFLINE = was  # type: ignore[attr-defined]
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def digest(files: Sequence[Path]) -> str:
    """First digits of the SHA-256 over the names and bytes of files."""
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(file.name.encode())
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE):
                hashed.update(piece)
    return hashed.hexdigest()[:_HASHED]
