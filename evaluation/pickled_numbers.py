"""The numbers in a small pickle file, read without running it.

Some metrics ship their coefficients as a pickle, and unpickling runs whatever the file says. Here its instructions are
followed on paper: calls become a record of what would be called with what, and only NumPy arrays are rebuilt, from
their bytes. So a hostile file can name anything and start nothing.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_MAX_BYTES = 1 << 20  # coefficients of a linear model; anything larger is something else
_MAX_STEPS = 100_000


class PickleReadError(ValueError):
    """The file is no pickle, or holds what is not read here."""


@dataclass(frozen=True)
class Named:
    """A name that the file mentions: module and attribute. Never imported."""

    module: str
    name: str


@dataclass
class Built:
    """What the file would build: what it would call, with what, and the attributes it would set."""

    made_by: Any
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes that it would set, arrays rebuilt."""
        return {str(key): as_value(value) for key, value in self.state.items()} if isinstance(self.state, dict) else {}


_MARK = object()


def read_pickled(path: Path) -> Any:
    """What a pickle file holds: numbers, strings, lists, dicts, arrays, and `Built` for any other object.

    Raises: PickleReadError for a file that is too large, broken, or beyond what coefficients need.
    """
    data = path.read_bytes()
    if len(data) > _MAX_BYTES:
        raise PickleReadError(f"{path.name} has {len(data)} bytes, expected at most {_MAX_BYTES} for coefficients")
    try:
        return as_value(_Reader().run(data))
    except PickleReadError as error:
        raise PickleReadError(f"{path.name}: {error}") from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        raise PickleReadError(f"{path.name} is no pickle that can be read: {error!r}") from error


def as_value(given: Any, done: dict[int, Any] | None = None) -> Any:
    """Arrays, NumPy numbers and bytes for the records of them, also inside of lists, tuples and dicts."""
    done = {} if done is None else done  # what a file mentions a million times is built once
    if isinstance(given, list | tuple | dict):
        if id(given) not in done:
            if isinstance(given, dict):
                done[id(given)] = {key: as_value(value, done) for key, value in given.items()}
            else:
                done[id(given)] = type(given)([as_value(one, done) for one in given])
        return done[id(given)]
    if not isinstance(given, Built) or not isinstance(given.made_by, Named):
        return given
    module, name = given.made_by.module, given.made_by.name
    if (module, name) == ("_codecs", "encode"):  # how protocols below 3 write bytes
        return str(given.arguments[0]).encode("latin-1")
    if module.split(".")[0] != "numpy":
        return given
    if name == "_reconstruct" and isinstance(given.state, tuple):
        _, shape, kind, fortran, data = given.state
        return _array(data, kind, shape, "F" if fortran else "C")
    if name == "_frombuffer":
        data, kind, shape, order = given.arguments
        return _array(data, kind, shape, order)
    if name == "scalar":
        return _array(given.arguments[1], given.arguments[0], (1,), "C")[0]
    return given


def _array(data: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    values = np.frombuffer(as_value(data), _dtype(kind))
    if values.size != int(np.prod(shape)):
        raise PickleReadError(f"an array of shape {shape} comes with {values.size} numbers")
    return values.reshape(shape, order="F" if order == "F" else "C").copy()


def _dtype(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, Built):
        raise PickleReadError("an array comes without a type of numbers")
    code = str(kind.arguments[0])
    if code not in ("f4", "f8", "i4", "i8", "u4", "u8", "b1"):
        raise PickleReadError(f'an array holds "{code}", expected numbers')
    big_endian = isinstance(kind.state, tuple) and kind.state[1] == ">"
    return np.dtype((">" if big_endian else "<") + code)


class _Reader:
    """The stack and memory of a pickle machine whose calls are only written down."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if step > _MAX_STEPS:
                raise PickleReadError(f"more than {_MAX_STEPS} instructions, expected a few coefficients")
            if opcode.name == "STOP":
                return self.stack.pop()
            self.follow(opcode.name, argument)
        raise PickleReadError("the file ends before its last instruction")

    def follow(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _ARGUMENTS:
            self.stack.append(argument)
        elif name in _TUPLES:
            count = _TUPLES[name]
            self.stack[len(self.stack) - count :] = [tuple(self.stack[-count:])]
        elif (rule := getattr(self, f"_{name.lower()}", None)) is not None:
            rule(argument)
        elif name not in ("PROTO", "FRAME"):
            raise PickleReadError(f"it has an instruction {name}, which coefficients do not need")

    def since_mark(self) -> list[Any]:
        at = max(place for place, value in enumerate(self.stack) if value is _MARK)
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.since_mark()))

    def _list(self, _: Any) -> None:
        self.stack.append(self.since_mark())

    def _dict(self, _: Any) -> None:
        self.stack.append(_pairs(self.since_mark()))

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        self.stack[-1].append(value)

    def _appends(self, _: Any) -> None:
        values = self.since_mark()
        self.stack[-1].extend(values)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.keep({key: value})

    def _setitems(self, _: Any) -> None:
        self.keep(_pairs(self.since_mark()))

    def keep(self, found: dict[Any, Any]) -> None:
        top = self.stack[-1]
        (top.items if isinstance(top, Built) else top).update(found)

    def _global(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        self.stack.append(Named(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Named(str(module), str(name)))

    def _reduce(self, _: Any) -> None:
        arguments, made_by = self.stack.pop(), self.stack.pop()
        self.stack.append(Built(made_by, arguments))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        self.stack[-1].state = state

    def _memoize(self, _: Any) -> None:
        self.memory[len(self.memory)] = self.stack[-1]

    def _put(self, argument: int) -> None:
        self.memory[int(argument)] = self.stack[-1]

    _binput = _long_binput = _put

    def _get(self, argument: int) -> None:
        self.stack.append(self.memory[int(argument)])

    _binget = _long_binget = _get


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


_CONSTANTS: dict[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_ARGUMENTS = frozenset(
    [
        *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    ]
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
