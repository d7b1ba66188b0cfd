"""medvlm: from a hospital's imaging archive to a vision-language model, and from the model to drafts to be checked.

The names below are the whole Python API of the road; each is imported when it is first used, so `import medvlm` needs
neither torch nor the network.

    study = medvlm.read_study("archive/1.2.840…")
    model = medvlm.load_model("runs/demo")
    medvlm.diagnose(study, model, ["pleural effusion", "pneumothorax"])
    draft = medvlm.draft_report(study, model)
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medvlm.diagnose import diagnose as diagnose
    from medvlm.draft import draft_report as draft_report
    from medvlm.evaluate import evaluate as evaluate
    from medvlm.ground import ground as ground
    from medvlm.ingest import ingest as ingest
    from medvlm.model import load_model as load_model
    from medvlm.retrieve import search as search
    from medvlm.simulate import simulate as simulate
    from medvlm.train import train as train
    from reports.render import render as render
    from volumes.catalog import Catalog as Catalog
    from volumes.study import read_study as read_study

__version__ = "0.1.0"
__all__ = [
    "Catalog",
    "diagnose",
    "draft_report",
    "evaluate",
    "ground",
    "ingest",
    "load_model",
    "read_study",
    "render",
    "search",
    "simulate",
    "train",
]

_ROOMS = ("volumes", "reports", "experts", "evaluation")
_DOORS = {
    "Catalog": "volumes.catalog",
    "draft_report": "medvlm.draft",
    "load_model": "medvlm.model",
    "read_study": "volumes.study",
    "render": "reports.render",
    "search": "medvlm.retrieve",
}
_VERBS = ("diagnose", "evaluate", "ground", "ingest", "simulate", "train")
"""Modules whose one public function has their own name: `medvlm.train` is the module, and calling it calls `train`."""


class _Verb(ModuleType):
    """A module that can be called: `medvlm.train(…)` is `medvlm.train.train(…)`, whoever imported what before."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Facade(ModuleType):
    """The package itself. It sees each submodule as the import system binds it, and makes the verbs callable.

    Without this, `medvlm.train` would be a function or a module depending on the order of imports.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _VERBS and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    if name in _VERBS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _check_rooms(home: Path) -> None:
    """Make sure that `volumes`, `reports`, `experts` and `evaluation` are ours: their names are common words.

    `home` is the folder that holds our packages. Raises ImportError that says what would be imported instead.
    """
    for room in _ROOMS:
        spec = find_spec(room)
        if spec is None:
            raise ImportError(
                f"medvlm needs its own package `{room}` beside it in {home}, and it is not there."
                " Install again: pip install --force-reinstall medvlm-platform"
            )
        found = Path(spec.origin) if spec.origin else Path(next(iter(spec.submodule_search_locations or ["?"]))) / "?"
        if found.resolve().parent.parent != home:
            raise ImportError(
                f"`import {room}` finds {found.parent} ({_owner(room, found.parent)}), medvlm needs {home / room}."
                " Uninstall or rename the other one, or give medvlm an environment of its own:"
                " python -m venv .venv && .venv/bin/pip install medvlm-platform"
            )


def _owner(room: str, folder: Path) -> str:
    """Who put the other package there, in words."""
    from importlib.metadata import packages_distributions  # slow, and only needed for the message

    owners = sorted(set(packages_distributions().get(room, [])) - {"medvlm-platform"})
    if owners and folder.parent.name == "site-packages":
        return f"from the distribution {' and '.join(owners)}"
    return "a folder on the Python path, of no installed distribution"


sys.modules[__name__].__class__ = _Facade
_check_rooms(Path(__file__).resolve().parent.parent)
