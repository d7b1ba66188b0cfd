"""From a function's signature and docstring to the arguments of a command.

A parameter before the star is positional, one after it is an option, `*overrides` takes dotted changes to a recipe.
Types: Path, int, float, str, bool, Literal; `list[str]` (one word with commas); lists and tuples of others (words).
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

Command = Callable[..., None]
ExistingPath = Annotated[Path, "must exist"]
METAVARS = {Path: "PATH", int: "N", float: "X", str: "TEXT"}


class Parser(argparse.ArgumentParser):
    """argparse whose complaint is one line that ends with the way to help; it never guesses an abbreviated option."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See `{self.prog} --help`\n")


def build_parser(commands: dict[str, Command], title: str, version: str) -> Parser:
    """One parser for all commands; a name of two words makes a group ("experts list"), whose default is its `list`."""
    parser = Parser(prog="medvlm", description=title)
    parser.add_argument("--version", action="version", version=f"medvlm {version}")
    _add_debug(parser)
    top = parser.add_subparsers(metavar="COMMAND", title="commands")
    groups: dict[str, Any] = {}
    for name, command in commands.items():
        group, _, leaf = name.partition(" ")
        if leaf and group not in groups:
            default = commands.get(f"{group} list")
            parent = top.add_parser(group, help=summary(default or command), description=summary(default or command))
            if default is not None:
                _fill(parent, default)
            groups[group] = parent.add_subparsers(metavar="COMMAND", title="commands", required=default is None)
        place = groups[group] if leaf else top
        _fill(place.add_parser(leaf or group, help=summary(command), description=description(command)), command)
    return parser


def bind(command: Command, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Split parsed values into the positional and the named arguments of the call."""
    named = dict(values)
    return [named.pop(p.name) for p in _parameters(command) if p.kind is p.POSITIONAL_OR_KEYWORD], named


def read_overrides(words: Sequence[str], command: Command, parser: argparse.ArgumentParser) -> list[str]:
    """The words that argparse did not know: `--trainer.max_steps 20` becomes `trainer.max_steps=20`.

    Exits with code 2 where the command takes no `*overrides`, or where a word does not look like one.
    """
    known = {flag for action in parser._actions for flag in action.option_strings}
    kinds = {p.kind for p in inspect.signature(command).parameters.values()}
    if words and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parser.error(f"unrecognized argument: {words[0]}{_suggestion(words[0], known)}")
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        likely = "" if "." in word else _suggestion(word, known)
        if likely or not re.match(r"--\w+(\.\w+)*(=|$)", word):
            advice = likely or "; a change to the recipe looks like --trainer.max_steps 20"
            parser.error(f"unrecognized argument: {word}{advice}")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                parser.error(f"--{key} needs a value")
            value = rest.pop(0)
        found.append(f"{key}={value}")
    return found


def description(command: Command) -> str:
    """The docstring above its `Args:`."""
    return inspect.cleandoc(command.__doc__ or "").partition("\nArgs:")[0].strip()


def summary(command: Command) -> str:
    """The first line of the docstring."""
    return description(command).splitlines()[0]


def _fill(parser: argparse.ArgumentParser, command: Command) -> None:
    helps = _argument_helps(command)
    types = get_type_hints(command, include_extras=True)
    for parameter in _parameters(command):
        settings = _settings(types[parameter.name], parameter.default) | {"help": helps[parameter.name]}
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            settings["metavar"] = parameter.name.upper()
            if parameter.default is not parameter.empty:
                settings |= {"nargs": "?", "default": parameter.default}
                settings["help"] += f" (default: {parameter.default})"
            parser.add_argument(parameter.name, **settings)
            continue
        if parameter.default not in (parameter.empty, None, False):
            settings["help"] += f" (default: {parameter.default})"
        flag = "--" + parameter.name.replace("__", ".").replace("_", "-")
        required = parameter.default is parameter.empty
        # An option that is not given is left out of the call, so that the function's own default holds.
        parser.add_argument(flag, dest=parameter.name, required=required, default=argparse.SUPPRESS, **settings)
    _add_debug(parser)
    parser.set_defaults(command_=command, parser_=parser)


def _add_debug(parser: argparse.ArgumentParser) -> None:
    text = "print the traceback of an error, and the warnings of libraries"
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=text)


def _settings(annotation: Any, default: Any) -> dict[str, Any]:
    if get_origin(annotation) in (Union, UnionType):
        return _settings(next(kind for kind in get_args(annotation) if kind is not NoneType), default)
    if annotation == ExistingPath:
        return {"type": _existing_path, "metavar": "PATH"}
    if get_origin(annotation) is Literal:
        return {"choices": get_args(annotation)}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction if default else "store_true"}
    if annotation == list[str]:
        return {"type": _comma_separated, "metavar": "A,B"}
    if get_origin(annotation) in (list, tuple):
        return {"nargs": "+"} | _settings(get_args(annotation)[0], default)
    return {"type": annotation, "metavar": METAVARS[annotation]}


def _existing_path(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.exists():
        raise argparse.ArgumentTypeError(f"no such file or folder: {text}")
    return path


def _comma_separated(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; write names with single commas between them")
    return names


def _suggestion(word: str, options: set[str]) -> str:
    close = get_close_matches(word.partition("=")[0], sorted(options), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _parameters(command: Command) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_POSITIONAL]


def _argument_helps(command: Command) -> dict[str, str]:
    """Parameter name to its help, from the `Args:` block (`name: text`, continued lines indented further)."""
    block = inspect.cleandoc(command.__doc__ or "").partition("\nArgs:")[2]
    pairs = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", block, flags=re.MULTILINE)
    return {name: " ".join(text.split()).replace("%", "%%") for name, text in pairs}
